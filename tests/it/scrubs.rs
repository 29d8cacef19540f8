//! `dulse volume scrub` against a running server whose disk changes a byte beneath it.

use std::{
    collections::HashSet, os::unix::fs::FileExt, path::PathBuf, process::Output, time::Duration,
};

use reqwest::Method;
use serde_json::Value;

use crate::{
    harness::{Server, dulse, eventually, run},
    http::{get, send},
    needles::{Needles, body},
};

fn scrub(server: &Server, args: &[&str]) -> Output {
    let mut command = dulse();
    command.args(["volume", "scrub"]).args(args);
    // The environment of a server must not be in the way.
    command.env("DULSE_MASTER", server.master_address()).env("DULSE_DIR", server.dir());
    run(&mut command)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Flips a bit in the middle of a needle's data.
fn damage(server: &Server, data: &[u8]) -> PathBuf {
    let entries = std::fs::read_dir(server.dir()).unwrap().map(|entry| entry.unwrap().path());
    for path in entries.filter(|path| path.extension().is_some_and(|has| has == "dat")) {
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(data.len()).position(|window| window == data);
        if let Some(at) = found {
            let at = at + data.len() / 2;
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
            file.sync_all().unwrap();
            return path;
        }
    }
    panic!("the needle is in no volume file")
}

fn volume_files(server: &Server) -> usize {
    let entries = std::fs::read_dir(server.dir()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|has| has == "dat")).count()
}

fn volume_of(fid: &str) -> &str {
    fid.split(',').next().unwrap()
}

fn status_of(server: &Server, volume: &str) -> Value {
    let status = get(&format!("{}/status", server.volume_url())).json();
    let volumes = status["Volumes"].as_array().unwrap();
    let id: u32 = volume.parse().unwrap();
    volumes.iter().find(|found| found["Id"] == id).unwrap().clone()
}

#[test]
fn a_flipped_byte_is_found_named_and_kept_from_readers() {
    let server = Server::builder().start();
    let (mut others, mut one) = (Needles::default(), Needles::default());
    for seed in 0..20 {
        others.put(&server, &body(seed, 3000));
    }
    let sound = scrub(&server, &[]);
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    assert!(stdout(&sound).contains("sound"), "{sound:?}");

    let data = body(100, 5000);
    let bad = one.put(&server, &data);
    damage(&server, &data);
    let volume = volume_of(&bad.fid);
    let found = scrub(&server, &["--volume", volume]);
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    let lines = stdout(&found);
    assert!(lines.contains(&bad.fid) && lines.contains("checksum"), "{lines}");
    assert!(lines.contains("1 volume,") && lines.contains("1 bad record"), "{lines}");
    let json: Value = serde_json::from_slice(&scrub(&server, &["--json"]).stdout).unwrap();
    assert_eq!(json["sound"], false);
    let volumes = json["servers"][0]["volumes"].as_array().unwrap();
    let findings: Vec<&Value> =
        volumes.iter().flat_map(|volume| volume["findings"].as_array().unwrap()).collect();
    assert_eq!((findings.len(), findings[0]["fid"].as_str()), (1, Some(bad.fid.as_str())));

    get(&bad.url).error(500, "corrupt");
    others.assert_kept(&server);
    let status = status_of(&server, volume);
    assert_eq!((&status["ScrubFindingCount"], &status["ReadOnly"]), (&1.into(), &false.into()));
    assert_eq!(status["State"], "closed: needles in it do not verify");
    let page = get(&format!("{}/", server.volume_url())).text();
    assert!(page.contains("needles in it do not verify") && page.contains("1 bad"), "{page}");
    let metrics = get(&format!("{}/metrics", server.volume_url())).text();
    assert!(metrics.contains("dulse_scrub_corrupt_total 2"), "found twice: {metrics}");
    let id: u32 = volume.parse().unwrap();
    eventually("the volume gets no new needles", Duration::from_secs(10), || {
        let view = get(&format!("{}/ui/status.json", server.master_url())).json();
        let volumes = view["volumes"].as_array().unwrap().clone();
        let found = volumes.iter().find(|found| found["id"] == id)?;
        (found["state"] == "corrupt").then_some(())
    });
    // The volumes take turns: until each of the others had its own.
    let others_count = volume_files(&server) - 1;
    let mut met = HashSet::new();
    eventually("every other volume gets some", Duration::from_secs(20), || {
        let fid = crate::needles::assign(&server).fid;
        assert_ne!(volume_of(&fid), volume);
        met.insert(volume_of(&fid).to_owned());
        (met.len() == others_count).then_some(())
    });

    // Written again under its fid it is whole again.
    let answer = send(Method::PUT, &bad.url, &[], data);
    assert_eq!(answer.status, 201, "{}", answer.text());
    one.assert_kept(&server);
    assert_eq!(status_of(&server, volume)["State"], "writable");
}

#[test]
fn what_a_scrub_found_is_known_after_a_restart() {
    let mut server = Server::builder().start();
    let mut needles = Needles::default();
    let data = body(1, 5000);
    let bad = needles.put(&server, &data);
    let volume = volume_of(&bad.fid).to_owned();
    // At rest, so that the start believes the index and looks at no record.
    assert!(server.terminate().success());
    server.restart();
    damage(&server, &data);
    assert_eq!(scrub(&server, &[]).status.code(), Some(1));
    assert!(server.terminate().success());
    server.restart();
    eventually("the needle is looked at again", Duration::from_secs(10), || {
        let status = status_of(&server, &volume);
        let is_known = status["LastScrubAtSecond"] != 0 && status["ScrubFindingCount"] == 1;
        (is_known && status["State"] == "closed: needles in it do not verify").then_some(())
    });
    get(&bad.url).error(500, "corrupt");
}

#[test]
fn wrong_usage_and_missing_volumes_are_told_apart() {
    let server = Server::builder().start();
    for (args, code, part) in [
        (&["--volume", "x"][..], 2, "--volume"),
        (&["--dir", "y"], 2, "--dir"),
        (&["--volume", "4000000000"], 1, "4000000000"),
    ] {
        let output = scrub(&server, args);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {words}");
        assert!(words.contains(part), "{args:?}: {words}");
    }
    let both = run(dulse().args(["volume", "--port", "0", "scrub"]));
    assert_eq!(both.status.code(), Some(2), "{both:?}");
    for (flag, part) in [("--scrub-rate=0", "--scrub-interval"), ("--scrub-interval=3", "length")] {
        let output = run(dulse().args(["volume", flag]));
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(words.contains(part), "{words}");
    }
}

#[test]
fn a_configuration_file_holds_the_settings_of_the_command_that_is_run() {
    let server = Server::builder().start();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("dulse.toml");
    std::fs::write(&file, format!("master = \"{}\"\n", server.master_address())).unwrap();
    let mut command = dulse();
    let output = run(command.args(["volume", "scrub", "--config"]).arg(&file));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    std::fs::write(&file, "port = 1\n").unwrap();
    let output = run(dulse().args(["volume", "scrub", "--config"]).arg(&file));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("`dulse volume scrub`"), "{words}");
}
