//! Masters that lost their directories take over what the volume servers hold.

use std::{collections::HashSet, ops::Range, process::Output, time::Duration};

use reqwest::Method;

use crate::{
    harness::{Role, Server, dulse, eventually, free_port, run},
    http::{attempt, get, get_by_way_of},
    masters::{Addresses, ready, submit, try_submit},
    needles::Needles,
};

const LIMIT: Duration = Duration::from_secs(20);
/// Longer than a cluster takes to be founded when nothing is in the way.
const FOUNDING: Duration = Duration::from_secs(4);

/// A volume server as `--from` takes it.
fn address_of(server: &Server) -> String {
    let (public, cluster) = (server.volume_url(), server.volume_cluster_address());
    let port = cluster.rsplit(':').next().unwrap();
    format!("{}.{port}", public.trim_start_matches("http://"))
}

/// A fid that nobody stores under.
fn assign(url: &str) -> String {
    eventually("an assign", LIMIT, || {
        let answer = get(url);
        (answer.status == 200).then(|| answer.json()["fid"].as_str().unwrap().to_owned())
    })
}

/// So many keys that nobody stores under: more than a leader has in hand at first.
fn assign_many(master_url: &str, count: u64) -> Range<u64> {
    let fid = assign(&format!("{master_url}/dir/assign?count={count}"));
    let first = u64::from_str_radix(key_of(&fid), 16).unwrap();
    first..first + count
}

/// The needle key of a fid, which is the cluster's only one, whatever the volume.
fn key_of(fid: &str) -> &str {
    let (_, key) = fid.split_once(',').unwrap();
    &key[..key.len() - 8]
}

fn recover(masters: &str, from: &[&Server], flags: &[&str]) -> Output {
    let from: Vec<String> = from.iter().map(|server| address_of(server)).collect();
    let from = format!("--from={}", from.join(","));
    run(dulse().args(["cluster", "recover", &from, "--master", masters]).args(flags))
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// Stops the masters at once, and their directories are lost.
fn lose(masters: &mut [Server]) {
    masters.iter_mut().for_each(|master| master.kill9());
    for master in masters.iter_mut() {
        std::fs::remove_dir_all(master.dir()).unwrap();
        master.spawn();
    }
}

/// Fids and bodies of so many needles, by way of each master in turn.
fn store(addresses: &Addresses, count: usize, word: &str) -> Vec<(String, String)> {
    let body = |n| format!("{word} {n}");
    (0..count).map(|n| (submit(&addresses.url(n % 3), &body(n)), body(n))).collect()
}

fn assert_all_read(addresses: &Addresses, stored: &[(String, String)]) {
    for (n, (fid, body)) in stored.iter().enumerate() {
        let url = addresses.url(n % 3);
        eventually(&format!("{fid} by way of {url}"), LIMIT, || {
            let found = attempt(Method::GET, &format!("{url}/{fid}"), &[], vec![]);
            found.is_ok_and(|answer| answer.status == 307).then_some(())
        });
        assert_eq!(get_by_way_of(&url, fid).text(), *body, "{fid}");
    }
}

#[test]
fn masters_that_all_lost_their_directories_recover_every_volume_and_repeat_no_id() {
    let addresses = Addresses::choose();
    let mut masters = ready((0..3).map(|n| addresses.master(n)).collect());
    let volumes = [addresses.volume_server(), addresses.volume_server()];
    let mut stored = store(&addresses, 40, "before");
    // Handed out, and not stored by the time the masters are lost.
    let mut assigned: Vec<String> =
        (0..300).map(|n| assign(&format!("{}/dir/assign", addresses.url(n % 3)))).collect();
    let bulk = assign_many(&addresses.url(0), 50_000);
    let holds = |server: &Server| {
        stored.iter().any(|(fid, _)| get(&format!("{}/{fid}", server.volume_url())).status == 200)
    };
    assert!(volumes.iter().all(holds), "both volume servers hold something");

    lose(&mut masters);
    std::thread::sleep(FOUNDING);
    let asked = get(&format!("{}/dir/assign", addresses.url(0)));
    assert_eq!(asked.status, 503);
    assert!(asked.text().contains("dulse cluster recover --from"), "{}", asked.text());
    let health = get(&format!("{}/cluster/health", addresses.url(1))).text();
    assert!(health.contains("NO_LEADER") && health.contains("dulse cluster recover"), "{health}");

    let planned = recover(&addresses.peers, &[&volumes[0]], &["--dry-run"]);
    assert!(planned.status.success() && said(&planned).contains("would take over"));
    assert_eq!(get(&format!("{}/dir/assign", addresses.url(0))).status, 503, "only said");

    let first = recover(&addresses.peers, &[&volumes[0]], &[]);
    assert_eq!(first.status.code(), Some(1), "one volume server was not asked: {}", said(&first));
    assert!(said(&first).contains(&volumes[1].volume_url()["http://".len()..]), "{}", said(&first));
    masters.iter_mut().for_each(|master| master.await_ready());
    stored.extend(store(&addresses, 20, "between"));
    let second = recover(&addresses.peers, &[&volumes[0], &volumes[1]], &[]);
    assert!(second.status.success(), "{}", said(&second));
    stored.extend(store(&addresses, 40, "after"));
    assert_all_read(&addresses, &stored);

    assigned.extend((0..300).map(|n| assign(&format!("{}/dir/assign", addresses.url(n % 3)))));
    let fids = || stored.iter().map(|(fid, _)| fid).chain(&assigned);
    let keys: HashSet<&str> = fids().map(|fid| key_of(fid)).collect();
    assert_eq!(keys.len(), fids().count(), "no key was handed out twice");
    let in_bulk = |fid: &&String| bulk.contains(&u64::from_str_radix(key_of(fid), 16).unwrap());
    assert_eq!(fids().find(in_bulk), None, "nor one of many that were handed out at once");
    let again = recover(&addresses.peers, &[&volumes[0], &volumes[1]], &[]);
    assert!(said(&again).contains("took over 0 volumes"), "{}", said(&again));

    masters.iter_mut().for_each(|master| master.kill9());
    masters.iter_mut().for_each(|master| master.spawn());
    masters.iter_mut().for_each(|master| master.await_ready());
    assert_all_read(&addresses, &stored);
}

#[test]
fn masters_with_volumes_of_their_own_take_over_nobody_elses() {
    let (ours, theirs) = (Server::builder().start(), Server::builder().start());
    let fid = submit(&ours.master_url(), "ours");
    submit(&theirs.master_url(), "theirs");
    let refused = recover(&ours.master_address(), &[&theirs], &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("nothing was changed"), "{}", said(&refused));
    let refused = recover(&ours.master_address(), &[&ours, &theirs], &[]);
    assert!(said(&refused).contains("of one cluster"), "{}", said(&refused));
    assert_eq!(get_by_way_of(&ours.master_url(), &fid).text(), "ours");
    assert!(try_submit(&ours.master_url(), "more").is_ok());
    let nobody = run(dulse()
        .args(["cluster", "recover", "--from=127.0.0.1:1.2", "--master"])
        .arg(ours.master_address()));
    assert!(said(&nobody).contains("volume server 127.0.0.1:1.2 did not say"), "{}", said(&nobody));
}

#[test]
fn a_server_that_is_both_recovers_from_its_own_volumes() {
    let (master, volume) = ((free_port(), free_port()), (free_port(), free_port()));
    let mut server = Server::builder()
        .port("master-port", master.0)
        .port("master-cluster-port", master.1)
        .port("volume-port", volume.0)
        .port("volume-cluster-port", volume.1)
        .start();
    let mut needles = Needles::default();
    needles.put(&server, b"kept");
    server.kill9();
    std::fs::remove_dir_all(server.dir().join("master")).unwrap();
    server.spawn();
    let command = format!("dulse cluster recover --from 127.0.0.1:{}.{}", volume.0, volume.1);
    eventually("the command that helps", LIMIT, || {
        server.stderr().contains(&command).then_some(())
    });
    let master = format!("127.0.0.1:{}.{}", master.0, master.1);
    let from = format!("--from=127.0.0.1:{}.{}", volume.0, volume.1);
    let recovered = eventually("a recovery", LIMIT, || {
        let output = run(dulse().args(["cluster", "recover", &from, "--master", &master]));
        output.status.success().then_some(output)
    });
    assert!(said(&recovered).contains("took over"), "{}", said(&recovered));
    server.await_ready();
    needles.assert_kept(&server);
    needles.put(&server, b"and more");
    server.kill9();
    server.restart();
    needles.assert_kept(&server);
}

#[test]
fn a_lone_master_that_founded_anew_takes_its_old_cluster_back() {
    let mut master = Server::builder().role(Role::Master).start();
    let volume = master.volume_server().start();
    let mut keys = HashSet::new();
    let mut stored = Vec::new();
    for n in 0..10 {
        let fid = submit(&master.master_url(), &format!("body {n}"));
        assert!(keys.insert(key_of(&fid).to_owned()));
        stored.push(fid);
    }
    // Handed out, and not stored by the time the master is lost.
    let assign_url = format!("{}/dir/assign", master.master_url());
    keys.extend((0..300).map(|_| key_of(&assign(&assign_url)).to_owned()));
    lose(std::slice::from_mut(&mut master));
    master.await_ready();
    // It cannot know; the volume server does, and what it has is read on.
    eventually("a complaint", LIMIT, || {
        volume.stderr().contains("dulse cluster recover").then_some(())
    });
    let direct = get(&format!("{}/{}", volume.volume_url(), stored[0]));
    assert_eq!(direct.text(), "body 0");
    let recovered = recover(&master.master_address(), &[&volume], &[]);
    assert!(recovered.status.success(), "{}", said(&recovered));
    for n in 10..20 {
        let fid = eventually("an upload", LIMIT, || {
            try_submit(&master.master_url(), &format!("body {n}")).ok()
        });
        assert!(keys.insert(key_of(&fid).to_owned()), "{fid} was handed out twice");
        stored.push(fid);
    }
    for (n, fid) in stored.iter().enumerate() {
        assert_eq!(get_by_way_of(&master.master_url(), fid).text(), format!("body {n}"));
    }
}

#[test]
fn nobody_is_recovered_beside_masters_that_live() {
    let first = Server::builder().role(Role::Master).start();
    let volume = first.volume_server().start();
    submit(&first.master_url(), "kept");
    let other = Server::builder().role(Role::Master).start();
    let refused = recover(&other.master_address(), &[&volume], &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains(&first.master_address()), "{}", said(&refused));
    assert!(try_submit(&first.master_url(), "more").is_ok());
}

/// Each volume server is started before its masters, so that these know in time.
#[test]
fn a_foreign_volume_does_not_take_the_number_of_one_that_is_recovered() {
    let addresses = Addresses::choose();
    let mut masters = ready((0..3).map(|n| addresses.master(n)).collect());
    let volume = addresses.volume_server();
    let stored = store(&addresses, 20, "ours");
    let id = stored[0].0.split_once(',').unwrap().0;
    // Another program's volume of the same number, as an empty one looks.
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join(format!("{id}.dat")), [3, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    std::fs::write(other.path().join(format!("{id}.idx")), []).unwrap();
    let foreign = Server::builder()
        .role(Role::Volume)
        .flag(format!("--master={}", addresses.peers))
        .dir(other.path())
        .start();
    lose(&mut masters);
    std::thread::sleep(FOUNDING);
    let recovered = recover(&addresses.peers, &[&volume], &[]);
    assert!(said(&recovered).contains("took over"), "{}", said(&recovered));
    assert_all_read(&addresses, &stored);
    drop(foreign);
}
