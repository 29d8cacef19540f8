//! Three masters as processes: founding, losing the leader, losing a directory, stopping in turn.

use std::{collections::HashSet, time::Duration};

use dulse_shared::clock::Clock;
use reqwest::Method;
use serde_json::Value;

use crate::{
    harness::{Role, Server, dulse, eventually, free_port, run},
    http::{attempt, get, get_by_way_of, send},
};

/// Elections take under a second and a half; the rest is for a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Public and cluster port of three masters, and the list of them.
pub struct Addresses {
    ports: Vec<(u16, u16)>,
    pub peers: String,
}

impl Addresses {
    pub fn choose() -> Self {
        let ports: Vec<(u16, u16)> = (0..3).map(|_| (free_port(), free_port())).collect();
        let addresses: Vec<String> =
            ports.iter().map(|(port, cluster)| format!("127.0.0.1:{port}.{cluster}")).collect();
        Self { ports, peers: addresses.join(",") }
    }

    pub fn url(&self, n: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[n].0)
    }

    /// The n-th master, not waited for.
    pub fn master(&self, n: usize) -> Server {
        let (port, cluster_port) = self.ports[n];
        Server::builder()
            .role(Role::Master)
            .port("port", port)
            .port("cluster-port", cluster_port)
            .flag(format!("--peers={}", self.peers))
            .spawn()
    }

    /// The n-th of three processes that are both, not waited for.
    fn both(&self, n: usize) -> Server {
        let (port, cluster_port) = self.ports[n];
        Server::builder()
            .port("master-port", port)
            .port("master-cluster-port", cluster_port)
            .flag(format!("--peers={}", self.peers))
            .spawn()
    }

    pub fn volume_server(&self) -> Server {
        Server::builder().role(Role::Volume).flag(format!("--master={}", self.peers)).start()
    }

    fn leader(&self, among: &[usize]) -> usize {
        eventually("a leader", LIMIT, || {
            let leads = |n: &&usize| {
                let status =
                    attempt(Method::GET, &format!("{}/cluster/status", self.url(**n)), &[], vec![]);
                status.is_ok_and(|answer| answer.status == 200 && answer.json()["IsLeader"] == true)
            };
            among.iter().find(leads).copied()
        })
    }
}

pub fn ready(mut servers: Vec<Server>) -> Vec<Server> {
    for server in &mut servers {
        server.await_ready();
    }
    servers
}

/// The fid of a body stored by way of this master.
pub fn submit(master_url: &str, body: &str) -> String {
    try_submit(master_url, body).unwrap_or_else(|problem| panic!("{problem}"))
}

pub fn try_submit(master_url: &str, body: &str) -> Result<String, String> {
    let headers = [("content-type", "application/octet-stream")];
    let answer = send(Method::POST, &format!("{master_url}/submit"), &headers, body.into());
    if answer.status == 201 { Ok(text(&answer.json()["fid"])) } else { Err(answer.text()) }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Volume and key: what no two needles share, whatever their cookies.
pub fn id_of(fid: &str) -> String {
    fid[..fid.len() - 8].to_owned()
}

#[test]
fn any_master_assigns_and_finds_and_another_one_leads_when_the_leader_dies() {
    let addresses = Addresses::choose();
    let mut masters = ready((0..3).map(|n| addresses.master(n)).collect());
    let _volume = addresses.volume_server();
    let mut stored: Vec<(String, String)> = Vec::new();
    let store = |n: usize, stored: &mut Vec<(String, String)>| {
        let body = format!("body {}", stored.len());
        stored.push((submit(&addresses.url(n), &body), body));
    };
    for n in 0..9 {
        store(n % 3, &mut stored);
    }
    for n in 0..3 {
        let grown = get(&format!("{}/vol/grow?count=1&collection=c{n}", addresses.url(n)));
        assert_eq!((grown.status, grown.json()["count"].as_u64()), (200, Some(1)), "{n}");
    }
    for killed in 0..2 {
        let leader = addresses.leader(&[0, 1, 2]);
        let clock = Clock::System;
        let begin = clock.boot();
        masters[leader].kill9();
        let others: Vec<usize> = (0..3).filter(|n| *n != leader).collect();
        // A follower holds the request until somebody leads.
        let assigned = eventually("an assign", LIMIT, || {
            let answer = get(&format!("{}/dir/assign", addresses.url(others[0])));
            (answer.status == 200).then(|| text(&answer.json()["fid"]))
        });
        println!("{:?} from the kill to the next assign", clock.since(begin));
        stored.push((assigned, String::new()));
        for n in 0..4 {
            store(others[n % 2], &mut stored);
        }
        assert_ne!(addresses.leader(&others), leader, "after {killed} kills");
        masters[leader].restart();
        store(leader, &mut stored);
    }
    let ids: HashSet<String> = stored.iter().map(|(fid, _)| id_of(fid)).collect();
    assert_eq!(ids.len(), stored.len(), "{stored:?}");
    for n in 0..3 {
        for (fid, body) in stored.iter().filter(|(_, body)| !body.is_empty()) {
            assert_eq!(get_by_way_of(&addresses.url(n), fid).text(), *body);
        }
    }
}

#[test]
fn a_master_that_lost_its_directory_is_taken_in_again() {
    let addresses = Addresses::choose();
    let mut masters = ready((0..3).map(|n| addresses.master(n)).collect());
    let _volume = addresses.volume_server();
    let fid = submit(&addresses.url(0), "kept");
    masters[1].kill9();
    std::fs::remove_dir_all(masters[1].dir()).unwrap();
    masters[1].restart();
    assert_eq!(get_by_way_of(&addresses.url(1), &fid).text(), "kept");
    // Its vote makes the majority with one of the others.
    eventually("its vote", LIMIT, || {
        let page = get(&format!("{}/ui/status.json", addresses.url(1))).json();
        let masters = page["masters"].as_array().unwrap().clone();
        let votes = masters.iter().filter(|m| m["role"] != "learner").count();
        (masters.len() == 3 && votes == 3).then_some(())
    });
    masters[2].kill9();
    let again = eventually("an upload", LIMIT, || try_submit(&addresses.url(1), "kept").ok());
    assert_ne!(id_of(&again), id_of(&fid));
}

#[test]
fn masters_with_different_lists_say_both() {
    let addresses = Addresses::choose();
    let first = addresses.master(0);
    let (two, _) = addresses.peers.rsplit_once(',').unwrap();
    let other = Addresses { ports: addresses.ports.clone(), peers: two.to_owned() };
    let second = other.master(1);
    for server in [&first, &second] {
        eventually("both lists", LIMIT, || {
            let said = server.stderr();
            let is_told = |list: &str| {
                said.contains(&format!("--peers {list}, "))
                    || said.contains(&format!("--peers {list};"))
            };
            // They are told in order.
            let sorted = |peers: &str| {
                let mut list: Vec<&str> = peers.split(',').collect();
                list.sort_unstable();
                list.join(",")
            };
            (is_told(&sorted(two)) && is_told(&sorted(&addresses.peers))).then_some(())
        });
        assert!(!server.stdout().contains("ready"));
    }
}

#[test]
fn a_cluster_of_one_master_grows_to_three_while_it_serves() {
    let addresses = Addresses::choose();
    let one = addresses.peers.split(',').next().unwrap().to_owned();
    let alone = Addresses { ports: addresses.ports.clone(), peers: one.clone() };
    let first = ready(vec![alone.master(0)]);
    let _volume = addresses.volume_server();
    let fid = submit(&addresses.url(0), "kept");
    let run_masters = |words: &[&str], ask: &str| {
        let output = run(dulse().args(["cluster", "masters"]).args(words).args(["--master", ask]));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let mut others = Vec::new();
    for n in 1..3 {
        let mut other = addresses.master(n);
        let address = addresses.peers.split(',').nth(n).unwrap();
        eventually("a hint", LIMIT, || {
            other.stderr().contains(&format!("masters add {address}")).then_some(())
        });
        let (done, table, said) = run_masters(&["add", address], &one);
        assert!(done && table.contains(address), "{table}{said}");
        other.await_ready();
        let (done, table, said) = run_masters(&["add", address], &one);
        assert!(done && table.contains(address) && said.contains("already"), "{table}{said}");
        others.push(other);
    }
    let second = addresses.peers.split(',').nth(1).unwrap();
    let (done, table, said) = run_masters(&["transfer", "--to", second], &one);
    assert!(done, "{table}{said}");
    assert_eq!(addresses.leader(&[0, 1, 2]), 1);
    assert_eq!(get_by_way_of(&addresses.url(2), &fid).text(), "kept");
    // Asked of one that does not lead, about the one that does.
    let (done, table, said) = run_masters(&["remove", second], &one);
    assert!(done && !table.contains(second), "{table}{said}");
    assert!(said.contains("three or five"), "{said}");
    submit(&addresses.url(2), "after");
    let (done, _, said) = run_masters(&["remove", second], &one);
    assert!(!done && said.contains("no master of this cluster"), "{said}");
    drop(first);
}

#[test]
fn a_list_without_this_master_is_refused_with_what_it_is_called() {
    let output =
        Server::builder().role(Role::Master).flag("--peers=127.0.0.1:1,127.0.0.1:2").run_to_exit();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    for part in ["127.0.0.1:", "--peers 127.0.0.1:1,127.0.0.1:2", "--ip"] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn three_servers_that_are_both_go_on_without_any_one_of_them() {
    let addresses = Addresses::choose();
    let mut servers = ready((0..3).map(|n| addresses.both(n)).collect());
    let stored: Vec<(String, String)> = (0..30)
        .map(|n| (submit(&addresses.url(n % 3), &format!("body {n}")), format!("body {n}")))
        .collect();
    for (lost, server) in servers.iter_mut().enumerate() {
        let gone = server.volume_url();
        server.kill9();
        let left: Vec<usize> = (0..3).filter(|n| *n != lost).collect();
        eventually("an upload", LIMIT, || try_submit(&addresses.url(left[0]), "meanwhile").ok());
        let mut read = 0;
        for (fid, body) in &stored {
            let redirect = get(&format!("{}/{fid}", addresses.url(left[1])));
            let location = redirect.header("location").unwrap_or_default();
            if redirect.status == 307 && !location.starts_with(&gone) {
                assert_eq!(get(&location).text(), *body, "{fid}");
                read += 1;
            }
        }
        assert!(read > 0, "the two others hold something");
        server.restart();
    }
    for (fid, body) in &stored {
        eventually("every volume", LIMIT, || {
            let redirect = get(&format!("{}/{fid}", addresses.url(0)));
            (redirect.status == 307).then_some(())
        });
        assert_eq!(get_by_way_of(&addresses.url(0), fid).text(), *body);
    }
}

#[test]
fn masters_that_are_restarted_in_turn_are_not_missed() {
    let addresses = Addresses::choose();
    let mut masters = ready((0..3).map(|n| addresses.master(n)).collect());
    let _volume = addresses.volume_server();
    submit(&addresses.url(0), "first");
    let leader = addresses.leader(&[0, 1, 2]);
    for n in [leader, (leader + 1) % 3, (leader + 2) % 3] {
        assert!(masters[n].terminate().success());
        let clock = Clock::System;
        let begin = clock.boot();
        // Leadership was handed over before it stopped: nobody waits for an election.
        submit(&addresses.url((n + 1) % 3), "meanwhile");
        println!("{:?} for an upload after a master stopped", clock.since(begin));
        masters[n].restart();
    }
}
