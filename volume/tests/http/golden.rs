//! Volumes that another program wrote, served as that program served them.

use std::{collections::HashMap, fs, path::Path};

use dulse_shared::{clock::Clock, id::ClusterId};
use dulse_volume::store::Store;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::harness::{NOW_SECS, Server, config, open_store};

fn opened(width: &str, half: &str) -> (tempfile::TempDir, Store, Clock) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(root.join(width).join(half)).unwrap() {
        let path = entry.unwrap().path();
        fs::write(dir.path().join(path.file_name().unwrap()), fs::read(&path).unwrap()).unwrap();
    }
    let clock = Clock::manual(NOW_SECS * 1_000_000_000);
    let store = open_store(dir.path(), clock.clone());
    (dir, store, clock)
}

async fn serve(width: &str, half: &str) -> Server {
    let (dir, store, clock) = opened(width, half);
    let cluster = ClusterId::from(1);
    store.join(cluster).unwrap();
    for foreign in store.foreign() {
        let foreign = &foreign.volume;
        let mut config = config(&store, foreign.id, "");
        config.collection = foreign.collection.clone();
        (config.placement, config.ttl, config.closed) = (foreign.placement, foreign.ttl, true);
        store.accept_config(cluster, config).unwrap();
    }
    while store.admit_next() {}
    Server::serve(dir, store, clock).await
}

/// What a GET of each fid answered at the end.
fn expected(width: &str) -> HashMap<String, Value> {
    let path = format!("{}/../tests/golden/{width}/expected.json", env!("CARGO_MANIFEST_DIR"));
    let requests: Vec<Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let reads = requests.iter().filter(|request| !request["read"].is_null());
    reads.map(|r| (r["fid"].as_str().unwrap().to_owned(), r["read"].clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_status_bytes_and_headers_that_it_had() {
    for width in ["offset4", "offset5"] {
        let servers = [serve(width, "a").await, serve(width, "b").await];
        let mut checked = 0;
        for (fid, expected) in expected(width) {
            let volume = fid.split_once(',').unwrap().0.parse().unwrap();
            for server in servers.iter().filter(|server| server.store.volume(volume).is_some()) {
                check(server, &fid, &expected).await;
                checked += 1;
            }
        }
        assert!(checked > 130, "{width}: {checked}");
    }
}

async fn check(server: &Server, fid: &str, expected: &Value) {
    let answer = server.get(&format!("/{fid}")).await;
    assert_eq!(u64::from(answer.status.as_u16()), expected["status"], "{fid}");
    if answer.status != 200 {
        return;
    }
    assert_eq!(answer.body.len() as u64, expected["len"], "{fid}");
    assert_eq!(format!("{:x}", Sha256::digest(&answer.body)), expected["sha256"], "{fid}");
    for (name, value) in expected["headers"].as_object().unwrap() {
        assert_eq!(answer.header(name), value, "{fid}: {name}");
    }
    let head = server.head(&format!("/{fid}")).await;
    assert_eq!(head.header("content-length"), answer.body.len().to_string(), "{fid}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_not_served_yet_is_listed_with_how_it_stands() {
    let (dir, store, clock) = opened("offset4", "a");
    let foreign: Vec<_> = store.foreign().iter().map(|foreign| foreign.volume.id).collect();
    store.refuse_foreign(foreign[0], "its id is taken");
    let server = Server::serve(dir, store, clock).await;
    let status = server.get("/status").await.json();
    let listed = status["Foreign"].as_array().unwrap();
    let ids: Vec<_> = listed.iter().map(|volume| volume["Id"].as_u64().unwrap()).collect();
    assert_eq!(ids, foreign.iter().map(|id| u64::from(id.as_u32())).collect::<Vec<_>>());
    assert_eq!(listed[0]["State"], "its id is taken");
    assert_eq!(listed[1]["State"], "no master has admitted it yet");
    assert!(server.get("/").await.text().contains("its id is taken"));
    let json = server.get("/ui/status.json").await.json();
    assert_eq!(json["foreign"][0]["state"], "its id is taken");
}
