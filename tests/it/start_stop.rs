//! Starting with good and bad settings, and stopping.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use dulse_shared::clock::Clock;
use rustix::process::Signal;

use crate::harness::{Role, Server, dulse, eventually, run};

/// The message of a program that gave up, and its exit code.
fn refusal(args: &[&str]) -> (Option<i32>, String) {
    let scratch = tempfile::tempdir().unwrap();
    let output = run(dulse().args(args).current_dir(&scratch).env("HOME", scratch.path()));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.stdout.is_empty(), "words belong on stderr");
    (output.status.code(), message)
}

#[test]
fn an_unknown_flag_is_named_and_is_wrong_usage() {
    let (code, message) = refusal(&["server", "--master-prot=1"]);
    assert_eq!(code, Some(2));
    assert!(message.contains("--master-prot") && message.contains("--master-port"), "{message}");
}

#[test]
fn an_unknown_key_is_named_with_the_file_and_the_nearest_key() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("dulse.toml");
    std::fs::write(&file, "master-prot = 1\n").unwrap();
    let (code, message) = refusal(&["server", "--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(2));
    for part in ["dulse.toml", "`master-prot`", "`master-port`"] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[test]
fn a_bad_value_in_the_file_is_blamed_on_the_file() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("dulse.toml");
    std::fs::write(&file, "[volume]\nsize_limit = \"much\"\n").unwrap();
    let (code, message) = refusal(&["server", "--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(2));
    for part in ["dulse.toml", "`volume.size_limit`", "much", "30GB"] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[test]
fn a_bad_value_of_a_list_in_the_file_is_blamed_on_the_file() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("dulse.toml");
    for list in ["\"7,many\"", "[7, \"many\"]"] {
        std::fs::write(&file, format!("max-volumes = {list}\n")).unwrap();
        let (code, message) = refusal(&["volume", "--config", file.to_str().unwrap()]);
        assert_eq!(code, Some(2));
        for part in ["dulse.toml", "`max-volumes`", "many", "auto"] {
            assert!(message.contains(part), "{part} in {message}");
        }
    }
}

#[test]
fn settings_that_cannot_work_are_refused_at_once() {
    for (args, remedies) in [
        (
            vec!["server", "--volume-size-limit=32GB"],
            vec!["--volume-size-limit", "--large-volumes"],
        ),
        (vec!["server", "--default-replication=001"], vec!["--default-replication", "000"]),
        (vec!["server", "--bind=0.0.0.0"], vec!["--advertise"]),
        (vec!["server", "--master-port=60000"], vec!["--master-cluster-port"]),
        (vec!["volume", "--master=nowhere:x"], vec!["--master", "host:port"]),
        (vec!["server", "--peers=a:1"], vec!["--peers"]),
        (vec!["-volumeSizeLimitMB=1", "server"], vec![]),
        (
            vec!["volume", "--dir=a", "--dir=b:ssd", "--max-volumes=7,8,9"],
            vec!["--max-volumes has 3 values for 2 directories", "one for each --dir"],
        ),
        (
            vec!["server", "--min-free-space=1%,2%"],
            vec!["--min-free-space has 2 values for 1 directory", "one value for all"],
        ),
        (vec!["volume", "--min-free-space=101%"], vec!["--min-free-space", "101%", "auto"]),
        (vec!["volume", "--max-volumes=0"], vec!["--max-volumes", "auto"]),
        (
            vec!["volume", "-dir=a,b", "-disk=hdd,ssd,tape"],
            vec!["-disk has 3 values for 2 directories"],
        ),
    ] {
        let (code, message) = refusal(&args);
        assert_eq!(code, Some(2), "{args:?}: {message}");
        for remedy in remedies {
            assert!(message.contains(remedy), "{args:?}: {message}");
        }
    }
}

#[test]
fn a_taken_port_is_named_with_a_flag_that_the_command_has() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (role, flag) in [
        (Role::Server, "master-port"),
        (Role::Server, "volume-port"),
        (Role::Server, "master-cluster-port"),
        (Role::Server, "volume-cluster-port"),
        (Role::Master, "port"),
        (Role::Volume, "port"),
    ] {
        let output = Server::builder().role(role).port(flag, port).run_to_exit();
        assert_eq!(output.status.code(), Some(1), "{role:?} {flag}");
        let message = String::from_utf8(output.stderr).unwrap();
        let last = message.lines().last().unwrap();
        assert!(last.contains(&port.to_string()), "{last}");
        let mut named = last.split(&[' ', ','][..]).filter(|word| word.starts_with("--"));
        let named = named.next().unwrap().to_owned();
        let help = run(dulse().args([role.name(), "--help"]));
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.contains(&named), "{role:?} has no {named}: {message}");
        assert!(named.ends_with(flag), "{role:?} {flag}: {message}");
    }
}

#[test]
fn the_directory_comes_from_flag_then_environment_then_file_then_default() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    std::fs::write(path("c.toml"), format!("dir = {:?}\n", path("file"))).unwrap();
    let config = format!("--config={}", path("c.toml").display());
    let env = path("env");
    let by_env = ("DULSE_DIR", env.to_str().unwrap());
    for (name, flags, with_env) in [
        ("flag", vec![config.clone(), format!("--dir={}", path("flag").display())], true),
        ("env", vec![config.clone()], true),
        ("file", vec![config], false),
        ("home/.local/share/dulse", vec![], false),
    ] {
        let mut server = Server::builder().no_dir();
        server = server.env("HOME", path("home").to_str().unwrap());
        server = server.env("XDG_DATA_HOME", "");
        for flag in flags {
            server = server.flag(flag);
        }
        if with_env {
            server = server.env(by_env.0, by_env.1);
        }
        let server = server.start();
        assert!(server.stdout().contains(path(name).to_str().unwrap()), "{}", server.stdout());
        assert!(path(name).join("master").is_dir(), "{name}");
    }
}

#[test]
fn flags_of_seaweedfs_are_understood() {
    let output = Server::builder().flag("-volumeSizeLimitMB=40000").run_to_exit();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("--large-volumes"), "{message}");
    let scratch = tempfile::tempdir().unwrap();
    let dir = format!("-dir={}", scratch.path().display());
    let server = Server::builder().no_dir().flag(dir).flag("-dataCenter=dc1").start();
    assert!(server.stdout().contains(scratch.path().to_str().unwrap()));
}

#[test]
fn an_idle_server_stops_within_a_second_and_says_nothing_on_stdout_after_ready() {
    let clock = Clock::System;
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::builder().start();
        let start = clock.boot();
        server.signal(signal);
        let status = server.wait_for_exit();
        assert_eq!(status.code(), Some(0), "{signal:?}");
        assert!(clock.since(start) < Duration::from_secs(1), "{signal:?}");
        assert!(server.stdout().ends_with("ready\n"));
    }
}

/// An upload whose last byte has not been sent yet.
/// An upload that the server has begun to receive, which it says by telling to go on.
fn begin_upload(server: &Server) -> TcpStream {
    let fid = assign(server);
    let address = server.volume_url();
    let address = address.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "PUT /{fid} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 5\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut goes_on = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut goes_on).unwrap();
    assert_eq!(&goes_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hell").unwrap();
    stream
}

fn assign(server: &Server) -> String {
    let url = format!("{}/dir/assign", server.master_url());
    let output = run(std::process::Command::new("curl").args(["-fsS", &url]));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["fid"].as_str().unwrap().to_owned()
}

/// Until the server refuses connections, which is how it begins to stop.
fn await_refusal(server: &Server) {
    let address = server.volume_url();
    let address = address.trim_start_matches("http://").to_owned();
    eventually("connections refused", Duration::from_secs(5), || {
        TcpStream::connect(&address).err().map(drop)
    });
}

#[test]
fn an_upload_under_way_is_finished_before_the_server_stops() {
    let mut server = Server::builder().start();
    let mut upload = begin_upload(&server);
    server.signal(Signal::TERM);
    await_refusal(&server);
    upload.write_all(b"o").unwrap();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut server = Server::builder().start();
        let upload = begin_upload(&server);
        server.signal(signal);
        await_refusal(&server);
        let clock = Clock::System;
        let start = clock.boot();
        server.signal(signal);
        assert_eq!(server.wait_for_exit().code(), Some(code));
        assert!(clock.since(start) < Duration::from_secs(1), "{signal:?}");
        drop(upload);
    }
}

#[test]
fn the_ready_text_names_ports_data_and_a_command() {
    let server = Server::builder().start();
    let stdout = server.stdout();
    for part in [
        format!("{}/submit", server.master_url()),
        server.volume_url(),
        server.master_cluster_address(),
        server.volume_cluster_address(),
        server.dir().display().to_string(),
        "curl -F file=@README.md".to_owned(),
        " free".to_owned(),
    ] {
        assert!(stdout.contains(&part), "{part} in\n{stdout}");
    }
}

#[test]
fn help_begins_with_examples() {
    for args in [vec!["--help"], vec!["server", "--help"], vec!["put", "--help"]] {
        let output = run(dulse().args(&args));
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.starts_with("Example"), "{args:?}:\n{help}");
        assert_eq!(output.status.code(), Some(0));
    }
}
