//! Volumes fill up: the full ones leave the writable list, new ones grow, and where there is no
//! room left the answer says so until another server brings some.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::{
    harness::{Server, eventually},
    http::{Answer, get, send},
    needles::{Assigned, Needles, body, try_assign},
};

const NO_ROOM: &str = "no writable volumes: every volume server is full; add one or free space";
/// Several heartbeats on a busy machine.
const SOON: Duration = Duration::from_secs(20);
const NEEDLE_BYTES: usize = 300_000;
/// Four needles fill a volume of one megabyte.
const LIMIT: &str = "--volume-size-limit=1MB";

/// The ids of the volumes that may be assigned.
fn writables(server: &Server) -> Vec<u64> {
    let status = get(&format!("{}/dir/status", server.master_url())).json();
    let layouts = status["Topology"]["Layouts"].as_array().unwrap().clone();
    let ids = |layout: &Value| layout["writables"].as_array().unwrap().clone();
    layouts.iter().flat_map(ids).map(|id| id.as_u64().unwrap()).collect()
}

/// The volumes of a server, as `/status` lists them.
fn volumes(server: &Server) -> Vec<Value> {
    let status = get(&format!("{}/status", server.volume_url())).json();
    status["Volumes"].as_array().unwrap().clone()
}

/// Stores one needle if there is room; what refused it otherwise.
fn try_put(server: &Server, needles: &mut Needles, seed: u64) -> Result<Assigned, Box<Answer>> {
    let assigned = try_assign(server, "")?;
    let bytes = body(seed, NEEDLE_BYTES);
    let answer = send(Method::PUT, &assigned.url, &[], bytes.clone());
    match answer.status {
        201 => needles.note(&assigned.fid, &bytes),
        // It filled up since it was assigned.
        507 => return Err(Box::new(answer)),
        other => panic!("{other}: {}", answer.text()),
    }
    Ok(assigned)
}

/// Puts needles until assign has no room.
fn fill(server: &Server, needles: &mut Needles) -> Box<Answer> {
    let mut seed = 0;
    eventually("there is no room left", SOON, || {
        seed += 1;
        try_put(server, needles, seed).err().filter(|answer| answer.status == 503)
    })
}

#[test]
fn a_full_volume_is_shown_read_only_and_new_ones_grow() {
    let server = Server::builder().flag(LIMIT).start();
    let mut needles = Needles::default();
    let first =
        try_put(&server, &mut needles, 0).unwrap_or_else(|answer| panic!("{}", answer.text()));
    let (volume, _) = first.fid.split_once(',').unwrap();
    let volume: u64 = volume.parse().unwrap();
    let before = writables(&server);
    assert!(before.contains(&volume), "{volume} in {before:?}");
    let is_full = || {
        let all = volumes(&server);
        all.into_iter().find(|other| other["Id"] == volume && other["ReadOnly"] == true)
    };
    let mut seed = 1;
    let full = eventually("the first volume is full", SOON, || {
        seed += 1;
        let _ = try_put(&server, &mut needles, seed);
        is_full()
    });
    assert!(full.to_string().contains("full"), "no reason in {full}");
    eventually("the full volume leaves the writable list", SOON, || {
        (!writables(&server).contains(&volume)).then_some(())
    });
    let more = eventually("new volumes grow", SOON, || {
        seed += 1;
        let _ = try_put(&server, &mut needles, seed);
        let now = writables(&server);
        now.iter().any(|id| !before.contains(id)).then_some(now)
    });
    assert!(!more.contains(&volume), "{volume} in {more:?}");
    needles.assert_kept(&server);
}

#[test]
fn without_room_assign_says_so_until_another_server_brings_some() {
    let mut server = Server::builder().flag(LIMIT).flag("--max-volumes=1").start();
    let mut needles = Needles::default();
    let refused = fill(&server, &mut needles);
    assert_eq!(refused.error(503, "no_writable_volume"), NO_ROOM);
    assert!(refused.header("retry-after").is_some());
    assert!(needles.len() >= 3, "{} needles fit", needles.len());
    let submit = format!("{}/submit", server.master_url());
    let answer = send(Method::POST, &submit, &[("content-type", "text/plain")], b"words".to_vec());
    assert_eq!(answer.error(503, "no_writable_volume"), NO_ROOM);
    needles.assert_kept(&server);

    // Being full is no accident that a restart forgets.
    assert!(server.terminate().success());
    server.restart();
    let refused = eventually("assign answers", SOON, || try_assign(&server, "").err());
    assert_eq!(refused.error(503, "no_writable_volume"), NO_ROOM);

    let second = server.volume_server().start();
    let stored = eventually("the new server takes a write", SOON, || {
        try_put(&server, &mut needles, 9000).ok()
    });
    assert!(stored.url.starts_with(&second.volume_url()), "{}", stored.url);
    needles.assert_kept(&server);
}

#[test]
fn a_full_volume_still_deletes() {
    let server = Server::builder().flag(LIMIT).flag("--max-volumes=1").start();
    let mut needles = Needles::default();
    let stored =
        try_put(&server, &mut needles, 7).unwrap_or_else(|answer| panic!("{}", answer.text()));
    fill(&server, &mut needles);
    let fresh = format!("{}/{}_4000", server.volume_url(), stored.fid);
    let refused = send(Method::PUT, &fresh, &[], body(8, NEEDLE_BYTES));
    refused.error(507, "volume_full");
    // The same bytes again need no room.
    assert_eq!(send(Method::PUT, &stored.url, &[], body(7, NEEDLE_BYTES)).status, 204);
    assert_eq!(send(Method::DELETE, &stored.url, &[], Vec::new()).status, 202);
    needles.note_deleted(&stored.fid);
    needles.assert_kept(&server);
}
