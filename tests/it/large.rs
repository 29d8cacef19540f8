//! Needles of some megabytes, which a server spools before it stores them.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use reqwest::Method;

use crate::{
    harness::{Server, eventually},
    http::{self, send},
    needles::{Needles, assign, body},
};

/// Far more than is kept in memory.
const LEN: usize = 5_000_003;

fn form(data: &[u8]) -> Vec<u8> {
    let head = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n";
    [head.as_bytes(), data, b"\r\n--XX--\r\n"].concat()
}

/// Begins an upload that never ends; it is under way when the server has taken most of it.
fn begin_upload(url: &str, sent: &[u8]) -> TcpStream {
    let (address, fid) = url.trim_start_matches("http://").split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("PUT /{fid} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {LEN}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(sent).unwrap();
    stream
}

/// Files that the server has open and that have no name any more.
fn unnamed_files(server: &Server) -> usize {
    let dir = server.dir().canonicalize().unwrap();
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let targets = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let is_spool = |target: &std::path::PathBuf| {
        target.starts_with(&dir) && target.to_string_lossy().ends_with("(deleted)")
    };
    targets.filter(is_spool).count()
}

fn names(server: &Server) -> Vec<String> {
    let entries = std::fs::read_dir(server.dir()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn large_needles_that_were_answered_are_there_after_kill_9_and_broken_uploads_leave_nothing() {
    let mut server = Server::builder().start();
    let mut needles = Needles::default();
    needles.put(&server, &body(1, LEN));
    let target = assign(&server);
    let headers = [("content-type", "multipart/form-data; boundary=XX")];
    let answer = send(Method::POST, &target.url, &headers, form(&body(2, LEN)));
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!((&answer.json()["size"], &answer.json()["name"]), (&LEN.into(), &"a.bin".into()));
    needles.note(&target.fid, &body(2, LEN));
    let submit = format!("{}/submit", server.master_url());
    let answer = send(Method::POST, &submit, &headers, form(&body(3, LEN)));
    assert_eq!(answer.status, 201, "{}", answer.text());
    needles.note(answer.json()["fid"].as_str().unwrap(), &body(3, LEN));

    let broken = assign(&server);
    let upload = begin_upload(&broken.url, &body(4, LEN / 2));
    eventually("the upload is spooled", std::time::Duration::from_secs(20), || {
        (unnamed_files(&server) == 1).then_some(())
    });
    server.kill9();
    drop(upload);
    server.restart();
    needles.assert_kept(&server);
    assert_eq!(http::get(&broken.url).status, 404);
    assert!(!names(&server).iter().any(|name| name.contains("spool")), "{:?}", names(&server));
    needles.put(&server, &body(5, LEN));
    server.kill9();
    server.restart();
    needles.assert_kept(&server);
    assert!(server.terminate().success());
}

#[test]
fn a_client_that_goes_away_in_mid_upload_leaves_nothing_open() {
    let server = Server::builder().start();
    let target = assign(&server);
    let upload = begin_upload(&target.url, &body(1, LEN / 2));
    let limit = std::time::Duration::from_secs(20);
    eventually("it is spooled", limit, || (unnamed_files(&server) == 1).then_some(()));
    drop(upload);
    eventually("the file is closed", limit, || (unnamed_files(&server) == 0).then_some(()));
    assert_eq!(http::get(&target.url).status, 404);
    let mut upload = begin_upload(&target.url, &body(1, LEN));
    let mut status = [0; 12];
    upload.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 201");
    assert!(http::get(&target.url).body == body(1, LEN));
}
