//! The client commands against a real server: what they print, what they leave, how they exit.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::harness::{Server, dulse, run};

/// A server and a directory to work in.
struct Desk {
    server: Server,
    scratch: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { server: Server::builder().start(), scratch: tempfile::tempdir().unwrap() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = dulse();
        command.args(args).current_dir(&self.scratch);
        command.env("DULSE_MASTER", self.server.master_address());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        run(&mut self.command(args))
    }

    /// Runs what must succeed in silence, and gives its output.
    fn stdout_of(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), words.as_str()), (Some(0), ""), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs what must fail with one line that has these parts, and gives its stdout.
    fn refusal_of(&self, args: &[&str], code: i32, parts: &[&str]) -> String {
        let output = self.run(args);
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {words}");
        for part in parts {
            assert!(words.contains(part), "{args:?}: no {part} in {words}");
        }
        String::from_utf8(output.stdout).unwrap()
    }

    fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.scratch.path().join(name), content).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.scratch.path().join(name)).unwrap()
    }

    fn put(&self, name: &str, content: &[u8]) -> String {
        self.write(name, content);
        let line = self.stdout_of(&["put", name]);
        line.split('\t').next().unwrap().to_owned()
    }
}

/// Bytes that no run of equal ones shortens.
fn noise(len: u32) -> Vec<u8> {
    (0..len).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn what_is_put_is_got_and_gone_after_a_delete() {
    let desk = Desk::new();
    for (name, content) in
        [("empty", vec![]), ("größe.txt", b"hello\n".to_vec()), ("big.bin", noise(3_000_000))]
    {
        let fid = desk.put(name, &content);
        desk.stdout_of(&["get", &fid, "-o", "copy"]);
        assert_eq!(desk.read("copy"), content, "{name}");
        assert_eq!(desk.run(&["get", &fid]).stdout, content, "{name}");
        assert_eq!(desk.stdout_of(&["delete", &fid]).trim(), fid);
        desk.refusal_of(&["get", &fid, "-o", "other"], 1, &[&fid, "deleted"]);
        assert!(!desk.scratch.path().join("other").exists());
        desk.refusal_of(&["delete", &fid], 1, &[&fid]);
    }
}

#[test]
fn put_prints_a_line_for_each_file_that_works_and_names_those_that_do_not() {
    let desk = Desk::new();
    desk.write("a", b"first");
    desk.write("b", b"second");
    let parts = ["missing", "No such file"];
    let lines = desk.refusal_of(&["put", "a", "missing", "b", "--json"], 1, &parts);
    let stored: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((stored.len(), &stored[0]["size"], &stored[1]["size"]), (2, &5.into(), &6.into()));
    assert_eq!(stored[1]["name"], "b");
    let second = stored[1]["fid"].as_str().unwrap();
    assert_eq!(desk.stdout_of(&["get", second]), "second");
    assert_eq!(stored[1]["url"], format!("{}/{second}", desk.server.volume_url()));
}

#[test]
fn standard_input_is_stored_under_the_given_name() {
    let desk = Desk::new();
    desk.write("input", b"from a pipe");
    let mut command = desk.command(&["put", "-", "--name", "note.txt", "--json"]);
    let input = std::fs::File::open(desk.scratch.path().join("input")).unwrap();
    let output = command.stdin(input).output().unwrap();
    let stored: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(stored["name"], "note.txt");
    assert_eq!(desk.stdout_of(&["get", stored["fid"].as_str().unwrap()]), "from a pipe");
}

#[test]
fn a_file_that_no_needle_holds_is_refused_with_the_limit() {
    let desk = Desk::new();
    let file = std::fs::File::create(desk.scratch.path().join("huge")).unwrap();
    file.set_len((256 << 20) + 1).unwrap();
    desk.refusal_of(&["put", "huge"], 1, &["huge", "256MB"]);
}

#[test]
fn collections_have_volumes_of_their_own_and_other_replications_are_refused() {
    let desk = Desk::new();
    let plain = desk.put("a", b"x");
    let line = desk.stdout_of(&["put", "a", "--collection", "pictures", "--ttl", "3d"]);
    let volume = |fid: &str| fid.split(',').next().unwrap().to_owned();
    assert_ne!(volume(&line), volume(&plain));
    desk.refusal_of(&["put", "a", "--replication", "001"], 1, &["001"]);
    desk.refusal_of(&["put", "a", "--collection", "../x"], 2, &["--collection"]);
}

#[test]
fn lookup_names_the_servers_of_a_volume() {
    let desk = Desk::new();
    let fid = desk.put("a", b"x");
    let volume = fid.split(',').next().unwrap();
    let url = desk.server.volume_url();
    assert_eq!(desk.stdout_of(&["lookup", volume]).trim(), url);
    assert_eq!(desk.stdout_of(&["lookup", &fid]).trim(), format!("{url}/{fid}"));
    let json: Value = serde_json::from_str(&desk.stdout_of(&["lookup", volume, "--json"])).unwrap();
    assert_eq!(json["volumeId"], volume);
    assert_eq!(format!("http://{}", json["locations"][0]["url"].as_str().unwrap()), url);
    desk.refusal_of(&["lookup", "4000000000"], 1, &["4000000000"]);
    desk.refusal_of(&["lookup", "x"], 2, &["whole number"]);
}

#[test]
fn status_shows_leader_servers_and_volumes() {
    let desk = Desk::new();
    desk.put("a", b"x");
    let address = |url: String| url.trim_start_matches("http://").to_owned();
    let status: Value = serde_json::from_str(&desk.stdout_of(&["status", "--json"])).unwrap();
    assert_eq!(status["leader"], address(desk.server.master_url()));
    let server = &status["servers"][0];
    assert_eq!(server["url"], address(desk.server.volume_url()));
    assert_eq!(server["disks"][0]["dir"], desk.server.dir().to_str().unwrap());
    let volumes = server["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|volume| volume["needles"] == 1), "{status}");
    assert!(volumes.iter().all(|volume| volume["state"] == "writable"), "{status}");
    let text = desk.stdout_of(&["status"]);
    assert!(text.contains(&address(desk.server.master_url())), "{text}");
    assert!(text.contains("writable"), "{text}");
}

#[test]
fn a_full_volume_is_told_from_a_read_only_one() {
    let desk = Desk {
        server: Server::builder().flag("--volume-size-limit=1MB").start(),
        scratch: tempfile::tempdir().unwrap(),
    };
    desk.put("a", &noise(1_100_000));
    crate::harness::eventually("a full volume", std::time::Duration::from_secs(10), || {
        let status: Value = serde_json::from_str(&desk.stdout_of(&["status", "--json"])).unwrap();
        let volumes = status["servers"][0]["volumes"].as_array().unwrap();
        let mut states = volumes.iter().map(|volume| &volume["state"]);
        states.any(|state| state == "full").then_some(())
    });
}

#[test]
fn without_a_master_the_error_says_what_to_start() {
    let scratch = tempfile::tempdir().unwrap();
    let nobody = format!("127.0.0.1:{}", crate::harness::free_port());
    let output = run(dulse().args(["status", "--master", &nobody]).current_dir(&scratch));
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(words.lines().count(), 1, "{words}");
    for part in [nobody.as_str(), "refused", "--master"] {
        assert!(words.contains(part), "{words}");
    }
}

#[test]
fn wrong_usage_is_told_before_anything_is_sent() {
    let desk = Desk::new();
    desk.refusal_of(&["get", "3"], 2, &["comma"]);
    desk.refusal_of(&["put"], 2, &["FILE"]);
    desk.refusal_of(&["put", "a", "b", "--name", "c"], 2, &["--name"]);
    desk.refusal_of(&["get", "1,01f83e45ff", "-o", "."], 1, &["directory"]);
    desk.refusal_of(&["status", "--master", "nowhere:x"], 2, &["host:port"]);
    assert_eq!(std::fs::read_dir(Path::new(desk.scratch.path())).unwrap().count(), 0);
}
