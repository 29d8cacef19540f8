//! The roster by itself: names, addresses and what was heard go in, who is reported to comes out.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use dulse_shared::{clock::BootTime, wire::MasterNode};

use super::roster::{NameId, NameStanding, Roster, Word};

fn roster(names: &[&str]) -> (Roster, Vec<NameId>) {
    let roster = Roster::new(names.iter().map(|name| name.parse().unwrap()).collect());
    let names = roster.names().into_iter().map(|(id, _)| id).collect();
    (roster, names)
}

fn ips<const N: usize>(texts: [&str; N]) -> [IpAddr; N] {
    texts.map(|text| text.parse().unwrap())
}

/// The cluster port that goes with 9333.
fn at(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), 19333)
}

fn own(node: u64) -> Word {
    Word::Own(Some(MasterNode(node)))
}

fn other() -> Word {
    Word::Other("of another cluster".to_owned())
}

fn secs(secs: u64) -> BootTime {
    BootTime::default().plus(Duration::from_secs(secs))
}

fn hear(roster: &mut Roster, ip: &str, word: Word) {
    roster.heard(at(ip), word, secs(0));
}

fn wanted(roster: &Roster) -> Vec<String> {
    roster.wanted().iter().map(ToString::to_string).collect()
}

#[test]
fn every_address_of_a_name_is_reported_to_and_an_address_at_once() {
    let (mut roster, names) = roster(&["10.0.0.9:9333", "masters:9333"]);
    assert_eq!(wanted(&roster), ["10.0.0.9:9333"]);
    roster.resolved(names[0], &ips(["10.0.0.1", "10.0.0.2", "10.0.0.9"]));
    let all = ["10.0.0.1:9333 (masters)", "10.0.0.2:9333 (masters)", "10.0.0.9:9333"];
    assert_eq!(wanted(&roster), all);
}

#[test]
fn a_master_at_two_addresses_has_one_reporter_and_the_other_address_when_that_falls_silent() {
    let (mut roster, names) = roster(&["localhost:9333"]);
    roster.resolved(names[0], &ips(["::1", "127.0.0.1"]));
    hear(&mut roster, "127.0.0.1", own(1));
    assert_eq!(roster.wanted().len(), 2, "nothing was heard at the other yet");
    hear(&mut roster, "::1", own(1));
    assert_eq!(wanted(&roster), ["127.0.0.1:9333 (localhost)"]);
    assert_eq!(roster.standing(names[0]), NameStanding::Well);
    hear(&mut roster, "127.0.0.1", Word::Silent);
    assert_eq!(roster.wanted().len(), 2);
    hear(&mut roster, "::1", own(1));
    hear(&mut roster, "127.0.0.1", own(1));
    assert_eq!(wanted(&roster), ["[::1]:9333 (localhost)"]);
    // Another master is behind the address now.
    hear(&mut roster, "::1", own(2));
    assert_eq!(roster.wanted().len(), 2);
}

#[test]
fn masters_that_do_not_say_who_they_are_are_all_reported_to() {
    let (mut roster, names) = roster(&["masters:9333"]);
    roster.resolved(names[0], &ips(["10.0.0.1", "10.0.0.2"]));
    for ip in ["10.0.0.1", "10.0.0.2"] {
        hear(&mut roster, ip, Word::Own(None));
    }
    assert_eq!(roster.wanted().len(), 2);
}

#[test]
fn a_master_that_its_name_lost_is_dropped_once_it_is_silent() {
    let (mut roster, names) = roster(&["masters:9333"]);
    roster.resolved(names[0], &ips(["10.0.0.1", "10.0.0.2"]));
    hear(&mut roster, "10.0.0.1", own(1));
    hear(&mut roster, "10.0.0.2", Word::Silent);
    roster.resolved(names[0], &ips(["10.0.0.3"]));
    assert_eq!(wanted(&roster), ["10.0.0.1:9333 (masters)", "10.0.0.3:9333 (masters)"]);
    hear(&mut roster, "10.0.0.1", Word::Silent);
    assert_eq!(wanted(&roster), ["10.0.0.3:9333 (masters)"]);
    assert!(!roster.heard(at("10.0.0.1"), own(1), secs(0)), "a late word changes nothing");
}

#[test]
fn names_that_resolve_to_ever_new_addresses_do_not_grow_without_end() {
    let (mut roster, names) = roster(&["masters:9333"]);
    let mut left_out = 0;
    for n in 0..=255 {
        left_out += roster.resolved(names[0], &[IpAddr::from([10, 0, 0, n])]);
        roster.heard(SocketAddr::from(([10, 0, 0, n], 19333)), own(n.into()), secs(0));
    }
    assert_eq!((roster.wanted().len(), left_out), (64, 192));
}

#[test]
fn nobody_need_be_at_an_address_of_the_kind_at_which_the_name_was_never_heard() {
    let (mut roster, names) = roster(&["localhost:9333", "10.0.0.1:9333"]);
    roster.resolved(names[0], &ips(["::1", "127.0.0.1"]));
    hear(&mut roster, "::1", Word::Silent);
    assert!(roster.is_expected(at("::1")), "nobody was heard at all");
    hear(&mut roster, "127.0.0.1", own(1));
    assert!(!roster.is_expected(at("::1")));
    assert_eq!(roster.standing(names[0]), NameStanding::Well);
    hear(&mut roster, "10.0.0.1", Word::Silent);
    assert!(roster.is_expected(at("10.0.0.1")), "it was named itself");
    roster.resolved(names[0], &ips(["::1", "127.0.0.1", "127.0.0.2"]));
    hear(&mut roster, "127.0.0.2", Word::Silent);
    assert!(roster.is_expected(at("127.0.0.2")), "a master of three is away");
    assert_eq!(roster.standing(names[0]), NameStanding::Partly);
    hear(&mut roster, "127.0.0.1", Word::Silent);
    assert_eq!(roster.standing(names[0]), NameStanding::Lost);
}

#[test]
fn a_server_stops_when_all_masters_are_of_another_cluster_and_it_never_found_its_own() {
    let (mut alone, _) = roster(&["10.0.0.1:9333"]);
    assert_eq!(alone.must_stop(secs(0)), None);
    hear(&mut alone, "10.0.0.1", other());
    assert_eq!(alone.must_stop(secs(0)), Some("of another cluster"));

    let (mut two, _) = roster(&["10.0.0.1:9333", "10.0.0.2:9333"]);
    hear(&mut two, "10.0.0.1", other());
    assert_eq!(two.must_stop(secs(0)), None, "the other may be its own");
    hear(&mut two, "10.0.0.2", own(2));
    assert_eq!(two.must_stop(secs(100)), None);
    hear(&mut two, "10.0.0.2", Word::Silent);
    assert_eq!(two.must_stop(secs(1000)), None, "what it has can be read");
    hear(&mut two, "10.0.0.2", other());
    assert_eq!(two.must_stop(secs(1000)), None, "its masters lost their directories");
}

#[test]
fn a_server_waits_for_its_own_master_but_not_for_ever() {
    let (mut roster, names) = roster(&["10.0.0.1:9333", "masters:9333"]);
    roster.heard(at("10.0.0.1"), other(), secs(5));
    assert_eq!(roster.must_stop(secs(34)), None, "the name does not resolve yet");
    assert!(roster.must_stop(secs(35)).is_some());
    roster.resolved(names[0], &ips(["10.0.0.2"]));
    assert_eq!(roster.must_stop(secs(34)), None);
    hear(&mut roster, "10.0.0.2", Word::Refused);
    assert_eq!(roster.must_stop(secs(34)), None, "it may not be founded yet");
    assert!(roster.must_stop(secs(35)).is_some());
    hear(&mut roster, "10.0.0.2", own(1));
    assert_eq!(roster.must_stop(secs(1000)), None);
}
