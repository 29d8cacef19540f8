//! What was answered is there after `kill -9`, and stays as it was answered.

use std::{path::PathBuf, thread};

use reqwest::Method;

use crate::{
    harness::Server,
    http::send,
    needles::{Needles, body},
};

const CLIENTS: u64 = 8;
const NEEDLES_EACH: u64 = 60;

/// Each client puts, overwrites every fifth and deletes every seventh of its needles.
fn write_much(server: &Server) -> Needles {
    let client = |number: u64| {
        let mut needles = Needles::default();
        for n in 0..NEEDLES_EACH {
            let seed = number * 1000 + n;
            let length = usize::try_from(seed * 37 % 9000).unwrap();
            let stored = needles.put(server, &body(seed, length));
            if n % 5 == 0 {
                let newer = body(seed + 500, length / 2 + 1);
                let answer = send(Method::PUT, &stored.url, &[], newer.clone());
                assert_eq!(answer.status, 201, "{}", answer.text());
                needles.note(&stored.fid, &newer);
            }
            if n % 7 == 0 {
                let answer = send(Method::DELETE, &stored.url, &[], Vec::new());
                assert_eq!(answer.status, 202, "{}", answer.text());
                assert_ne!(answer.json()["size"], 0);
                needles.note_deleted(&stored.fid);
            }
        }
        needles
    };
    thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        let mut all = Needles::default();
        clients.into_iter().for_each(|client| all.extend(client.join().unwrap()));
        all
    })
}

/// The server's files whose names end so.
fn files(server: &Server, end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(server.dir()).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<PathBuf> =
        entries.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    assert!(!found.is_empty(), "no {end} in {}", server.dir().display());
    found
}

#[test]
fn everything_that_was_answered_is_there_after_kill_9() {
    let mut server = Server::builder().start();
    let mut needles = write_much(&server);
    for round in 0..3 {
        server.kill9();
        server.restart();
        needles.assert_kept(&server);
        needles.put(&server, &body(90_000 + round, 4321));
    }
    assert!(server.terminate().success());
    server.restart();
    needles.assert_kept(&server);
}

#[test]
fn a_torn_tail_is_cut_off_and_nothing_else() {
    let mut server = Server::builder().start();
    let needles = write_much(&server);
    server.kill9();
    for dat in files(&server, ".dat") {
        let mut bytes = std::fs::read(&dat).unwrap();
        bytes.extend(body(3, 777));
        std::fs::write(&dat, bytes).unwrap();
    }
    server.restart();
    needles.assert_kept(&server);
}

#[test]
fn the_index_is_rebuilt_when_it_is_lost() {
    let mut server = Server::builder().start();
    let needles = write_much(&server);
    server.kill9();
    for idx in files(&server, ".idx") {
        std::fs::remove_file(idx).unwrap();
    }
    server.restart();
    needles.assert_kept(&server);
    assert!(server.terminate().success());
    server.restart();
    needles.assert_kept(&server);
}

#[test]
fn fids_are_never_handed_out_twice_over_kills() {
    let mut server = Server::builder().start();
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..4 {
        for _ in 0..50 {
            let fid = crate::needles::assign(&server).fid;
            let (_, rest) = fid.split_once(',').unwrap();
            assert!(keys.insert(rest[..rest.len() - 8].to_owned()), "{fid} again");
        }
        server.kill9();
        server.restart();
    }
}
