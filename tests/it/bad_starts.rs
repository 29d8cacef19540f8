//! Starts that cannot work: one line that names the thing and the remedy, the right exit code, and
//! what was stored is still there.

use std::{net::TcpListener, process::Output};

use crate::{
    harness::{Role, Server, ServerBuilder, free_port},
    needles::{Needles, stopped_server},
};

const FAILURE: i32 = 1;
const USAGE: i32 = 2;

/// Asserts the exit code and that stderr has one line of error, which contains all of `words`.
#[track_caller]
fn assert_refused(output: &Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    for word in words {
        assert!(errors[0].contains(word), "no {word:?} in {stderr}");
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(!stdout.lines().any(|line| line == "ready"), "{stdout}");
}

/// Asserts that the server starts again and has everything.
#[track_caller]
fn assert_unharmed(mut server: Server, needles: &Needles) {
    server.restart();
    needles.assert_kept(&server);
}

/// A server on the directory of another.
fn beside(server: &Server) -> ServerBuilder {
    Server::builder().dir(server.dir())
}

#[test]
fn an_unknown_flag_or_key_is_named_and_the_data_is_left_alone() {
    let (server, needles) = stopped_server();
    let output = beside(&server).flag("--no-such-flag").run_to_exit();
    assert_refused(&output, USAGE, &["--no-such-flag"]);
    let file = server.dir().join("dulse.toml");
    std::fs::write(&file, "volume-size-limmit = \"1GB\"\n").unwrap();
    let output = beside(&server).flag(format!("--config={}", file.display())).run_to_exit();
    assert_refused(&output, USAGE, &["volume-size-limmit", "dulse.toml", "volume-size-limit"]);
    assert_unharmed(server, &needles);
}

#[test]
fn a_taken_port_is_named_with_the_flag_that_changes_it() {
    let (server, needles) = stopped_server();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for flag in ["master-port", "master-cluster-port", "volume-port", "volume-cluster-port"] {
        let builder = ["master-port", "master-cluster-port", "volume-port", "volume-cluster-port"]
            .into_iter()
            .fold(beside(&server).default_ports(), |builder, name| {
                let port = if name == flag { port } else { free_port() };
                builder.flag(format!("--{name}={port}"))
            });
        let output = builder.run_to_exit();
        assert_refused(&output, FAILURE, &[&format!("port {port} is taken"), &format!("--{flag}")]);
    }
    assert_unharmed(server, &needles);
}

#[test]
fn a_directory_in_use_is_refused_and_its_server_goes_on() {
    let mut server = Server::builder().start();
    let mut needles = Needles::default();
    needles.put(&server, b"while another tries");
    let dir = server.dir().display().to_string();
    assert_refused(&beside(&server).run_to_exit(), FAILURE, &[&dir, "in use"]);
    let volume = server.volume_server().dir(server.dir());
    assert_refused(&volume.run_to_exit(), FAILURE, &[&dir, "in use"]);
    needles.put(&server, b"and after");
    needles.assert_kept(&server);
    assert!(server.terminate().success());
    assert_unharmed(server, &needles);
}

#[test]
fn a_directory_of_another_cluster_is_refused() {
    let (server, needles) = stopped_server();
    let stranger = Server::builder().start();
    let output = stranger.volume_server().dir(server.dir()).run_to_exit();
    assert_refused(&output, FAILURE, &["belong to cluster", "another data directory", "--master"]);
    assert_unharmed(server, &needles);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("a-file");
    std::fs::write(&file, "not a directory").unwrap();
    // Below a file nobody can make a directory, not even root.
    let dir = file.join("data");
    let output = Server::builder().dir(&dir).run_to_exit();
    assert_refused(&output, FAILURE, &[&dir.display().to_string()]);
    let server = Server::builder().start();
    let output = server.volume_server().dir(&dir).run_to_exit();
    assert_refused(&output, FAILURE, &[&dir.display().to_string()]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "not a directory");
}

#[test]
fn a_volume_size_limit_past_what_offsets_address_is_refused_at_once() {
    let (server, needles) = stopped_server();
    let flags = ["--volume-size-limit", "--large-volumes"];
    let output = beside(&server).flag("--volume-size-limit=32GB").run_to_exit();
    assert_refused(&output, USAGE, &flags);
    let mut large =
        beside(&server).flag("--volume-size-limit=32GB").flag("--large-volumes").start();
    needles.assert_kept(&large);
    assert!(large.terminate().success());
    assert_unharmed(server, &needles);
}

#[test]
fn a_volume_server_refuses_the_limit_as_soon_as_its_master_says_it() {
    let master = Server::builder().role(Role::Master).flag("--volume-size-limit=32GB").start();
    let output = master.volume_server().run_to_exit();
    assert_refused(&output, FAILURE, &["--volume-size-limit", "--large-volumes"]);
    let mut large = master.volume_server().flag("--large-volumes").start();
    assert!(large.terminate().success());
}
