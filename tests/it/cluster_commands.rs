//! `dulse cluster` against real servers that come and go.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::harness::{Role, Server, dulse, eventually, run};

fn cluster(master: &Server, args: &[&str]) -> Command {
    let mut command = dulse();
    command.arg("cluster").args(args).env("DULSE_MASTER", master.master_address());
    command
}

/// Exit code, stdout, stderr.
fn ended(command: &mut Command) -> (Option<i32>, String, String) {
    let output = run(command);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn waiting_ends_when_the_servers_are_there_and_fails_with_what_is_missing() {
    let master = Server::builder().role(Role::Master).start();
    let (code, _, words) =
        ended(&mut cluster(&master, &["wait", "--servers", "2", "--timeout", "1s"]));
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("0 of 2 volume servers are there"), "{words}");
    let mut waiting =
        cluster(&master, &["wait", "--healthy", "--servers", "2", "--timeout", "30s"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
    let _first = Server::builder().role(Role::Volume).master_of(&master).start();
    assert!(waiting.try_wait().unwrap().is_none(), "one is not enough");
    let _second = Server::builder().role(Role::Volume).master_of(&master).start();
    let status =
        eventually("the wait is over", Duration::from_secs(30), || waiting.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn status_and_events_tell_of_a_server_that_dies_and_returns() {
    let master = Server::builder().role(Role::Master).start();
    let mut volume = Server::builder().role(Role::Volume).master_of(&master).start();
    let scratch = tempfile::tempdir().unwrap();
    let followed = scratch.path().join("followed");
    let mut following = cluster(&master, &["events", "--follow", "--json"])
        .stdout(std::fs::File::create(&followed).unwrap())
        .spawn()
        .unwrap();
    let kinds = || -> Vec<String> {
        let text = std::fs::read_to_string(&followed).unwrap();
        // The last line may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let kind = |line: &str| serde_json::from_str::<Value>(line).unwrap()["kind"].clone();
        whole.lines().map(|line| kind(line).as_str().unwrap().to_owned()).collect()
    };
    let follow_until = |wanted: &[&str]| {
        eventually("they are followed", Duration::from_secs(30), || {
            (kinds() == wanted).then_some(())
        });
    };
    follow_until(&["leader_changed", "joined"]);
    volume.kill9();
    follow_until(&["leader_changed", "joined", "left"]);
    let (_, status, _) = ended(&mut cluster(&master, &["status"]));
    assert!(status.contains("SERVER_GONE") && status.contains("leader  "), "{status}");
    volume.restart();
    follow_until(&["leader_changed", "joined", "left", "returned"]);
    following.kill().unwrap();
    following.wait().unwrap();
    let (code, events, _) = ended(&mut cluster(&master, &["events"]));
    assert_eq!((code, events.lines().count()), (Some(0), 4), "{events}");
    assert!(events.contains("its process is gone"), "{events}");
    let (_, status, _) = ended(&mut cluster(&master, &["status", "--json"]));
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["masters"][0]["is_leader"], true);
    assert_eq!(
        (&status["verdict"], &status["servers"][0]["state"]),
        (&"healthy".into(), &"alive".into())
    );
    let logged = master.stderr();
    let lines = logged.lines().filter(|line| line.contains("its process is gone")).count();
    assert_eq!(lines, 1, "{logged}");
}
