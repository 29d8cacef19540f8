//! `dulse check` and `dulse export` on the directories of real servers.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    harness::{Server, dulse, run},
    needles::stopped_server,
};

fn with_extension(dir: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|has| has == extension)).collect()
}

#[test]
fn a_directory_is_checked_repaired_and_served_again() {
    let (mut server, needles) = stopped_server();
    let dir = server.dir().to_owned();
    let sound = run(dulse().arg("check").arg(&dir));
    let stdout = String::from_utf8_lossy(&sound.stdout).into_owned();
    assert_eq!(sound.status.code(), Some(0), "{stdout}");
    assert!(stdout.ends_with("3 live needles: sound\n"), "{stdout}");
    for idx in with_extension(&dir, "idx") {
        fs::remove_file(idx).unwrap();
    }
    let found = run(dulse().args(["check", "--json"]).arg(&dir));
    assert_eq!(found.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(report["sound"], false);
    let code = &report["directories"][0]["volumes"][0]["findings"][0]["code"];
    assert_eq!(code, "no_index");
    assert_eq!(with_extension(&dir, "idx").len(), 0, "nothing was written");
    let repaired = run(dulse().args(["check", "--repair"]).arg(&dir));
    assert_eq!(repaired.status.code(), Some(0), "{repaired:?}");
    assert_eq!(run(dulse().arg("check").arg(&dir)).status.code(), Some(0));
    server.restart();
    needles.assert_kept(&server);
}

#[test]
fn a_directory_in_use_or_missing_is_refused_and_none_is_wrong_usage() {
    let server = Server::builder().start();
    for command in ["check", "export"] {
        let out = server.dir().join("out");
        let mut refused = dulse();
        refused.arg(command).arg(server.dir());
        if command == "export" {
            refused.arg("--to").arg(&out);
        }
        let output = run(&mut refused);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("in use by another dulse process"), "{stderr}");
        assert!(stderr.contains("stop it first") && !stderr.contains("--dir"), "{stderr}");
        assert!(!out.exists());
    }
    assert_eq!(run(dulse().arg("check")).status.code(), Some(2));
    assert_eq!(run(dulse().args(["export", "somewhere"])).status.code(), Some(2));
}

#[test]
fn what_is_no_data_directory_is_not_sound_and_is_not_exported() {
    let scratch = tempfile::tempdir().unwrap();
    let (empty, file) = (scratch.path().join("empty"), scratch.path().join("file"));
    fs::create_dir(&empty).unwrap();
    fs::write(&file, "").unwrap();
    let out = scratch.path().join("out");
    for (path, said) in [
        (empty, "holds no volumes and no dulse.json: is the disk mounted"),
        (file, "is not a directory"),
        (scratch.path().join("nowhere"), "does not exist"),
    ] {
        for command in [
            dulse().arg("check").arg(&path),
            dulse().args(["check", "--repair"]).arg(&path),
            dulse().arg("export").arg(&path).arg("--to").arg(&out),
        ] {
            let output = run(command);
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{stderr}");
            let names_it = stderr.contains(&path.display().to_string());
            assert!(stderr.contains(said) && names_it, "{stderr}");
        }
    }
    assert!(!out.exists());
}

#[test]
fn what_was_stored_is_exported_and_damage_is_named() {
    let (server, needles) = stopped_server();
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    let exported = run(dulse().arg("export").arg(server.dir()).arg("--to").arg(&out));
    assert_eq!(exported.status.code(), Some(0), "{exported:?}");
    let files = |out: &Path| {
        let volumes = fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path());
        let mut contents: Vec<Vec<u8>> = volumes
            .flat_map(|volume| fs::read_dir(volume).unwrap())
            .map(|entry| fs::read(entry.unwrap().path()).unwrap())
            .collect();
        contents.sort();
        contents
    };
    assert_eq!(files(&out), [b"one".to_vec(), b"three".to_vec(), b"two".to_vec()]);
    let again = run(dulse().arg("export").arg(server.dir()).arg("--to").arg(&out));
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not empty"));
    let dat = with_extension(server.dir(), "dat")
        .into_iter()
        .find(|dat| fs::metadata(dat).unwrap().len() > 8)
        .unwrap();
    let mut bytes = fs::read(&dat).unwrap();
    bytes[8 + 16 + 4] ^= 1;
    fs::write(&dat, bytes).unwrap();
    let partial = scratch.path().join("partial");
    let damaged = run(dulse().arg("export").arg(server.dir()).arg("--to").arg(&partial));
    assert_eq!(damaged.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&damaged.stderr).contains("does not verify"));
    assert!(files(&partial).len() < 3);
    drop(needles);
}
