//! Requests that are wrong: each has one clear error, stores nothing and loses nothing.

use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};
use reqwest::Method;

use crate::{
    harness::Server,
    http::{get, raw, send},
    needles::{Needles, assign, body},
};

/// The largest needle, 256 MiB.
const MAX_NEEDLE_BYTES: usize = 256 << 20;
const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=edge");

/// A server with one needle that has to be there at the end.
fn server_with_needle() -> (Server, Needles) {
    let server = Server::builder().start();
    let mut needles = Needles::default();
    needles.put(&server, b"stored before anything went wrong");
    (server, needles)
}

#[test]
fn a_malformed_fid_is_a_400_that_says_so_for_every_verb() {
    let (server, needles) = server_with_needle();
    let url = server.volume_url();
    for path in [
        "3,",
        "3,zz637037d6",
        "3,1637037",
        "3,+01637037d6",
        "3,0x01637037d6",
        "x,01637037d6",
        "-3,01637037d6",
        "4294967296,01637037d6",
        "3,0123456789abcdef0123456789",
        "3,01637037d6_x",
        "3,0000000000000000637037d6",
    ] {
        for verb in [Method::GET, Method::PUT, Method::DELETE] {
            let answer = send(verb.clone(), &format!("{url}/{path}"), &[], b"body".to_vec());
            assert_eq!(answer.status, 400, "{verb} {path}: {}", answer.text());
            answer.error(400, "bad_fid");
        }
        assert_eq!(send(Method::HEAD, &format!("{url}/{path}"), &[], Vec::new()).status, 400);
    }
    needles.assert_kept(&server);
}

#[test]
fn a_volume_that_does_not_exist_is_a_404_that_names_it() {
    let (server, needles) = server_with_needle();
    for verb in [Method::GET, Method::PUT, Method::DELETE] {
        let url = format!("{}/4711,01637037d6", server.volume_url());
        let answer = send(verb, &url, &[], b"body".to_vec());
        assert!(answer.error(404, "volume_not_found").contains("4711"), "{}", answer.text());
    }
    for path in ["dir/lookup?volumeId=4711", "4711,01637037d6"] {
        let answer = get(&format!("{}/{path}", server.master_url()));
        assert!(answer.error(404, "volume_not_found").contains("4711"), "{}", answer.text());
    }
    needles.assert_kept(&server);
}

#[test]
fn a_wrong_cookie_is_404_on_read_403_on_write_400_on_delete() {
    let (server, mut needles) = server_with_needle();
    let stored = needles.put(&server, b"behind its cookie");
    let wrong = |fid: &str| {
        let digit = if fid.ends_with('0') { "1" } else { "0" };
        format!("{}{digit}", &fid[..fid.len() - 1])
    };
    let url = format!("{}/{}", server.volume_url(), wrong(&stored.fid));
    let guessed = get(&url);
    guessed.error(404, "not_found");
    // Nobody learns from it that the key exists.
    let missing = assign(&server);
    let absent = get(&missing.url);
    let sentence = |answer: &crate::http::Answer, fid: &str| {
        answer.json()["error"].as_str().unwrap().replace(fid, "FID")
    };
    let volume = |fid: &str| fid.split(',').next().unwrap().to_owned();
    assert_eq!(
        sentence(&guessed, &wrong(&stored.fid)).replace(&volume(&stored.fid), "V"),
        sentence(&absent, &missing.fid).replace(&volume(&missing.fid), "V"),
    );
    send(Method::PUT, &url, &[], b"mine now".to_vec()).error(403, "cookie_mismatch");
    let refused = send(Method::DELETE, &url, &[], Vec::new());
    assert_eq!((refused.status, &refused.json()["code"]), (400, &"cookie_mismatch".into()));
    needles.assert_kept(&server);
}

#[test]
fn a_body_larger_than_a_needle_is_a_413_before_it_is_sent() {
    let (server, needles) = server_with_needle();
    let target = assign(&server);
    let head = |verb: &str, path: &str, kind: &str| {
        format!(
            "{verb} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            2 * MAX_NEEDLE_BYTES
        )
    };
    let path = format!("/{}", target.fid);
    for (url, verb, path, kind) in [
        (server.volume_url(), "PUT", path.as_str(), "application/octet-stream"),
        (server.volume_url(), "POST", path.as_str(), FORM.1),
        (server.master_url(), "POST", "/submit", FORM.1),
        (server.master_url(), "POST", "/submit", "application/octet-stream"),
    ] {
        let answer = raw(&url, [head(verb, path, kind).into_bytes()]);
        assert!(answer.starts_with("HTTP/1.1 413 "), "{verb} {url}{path}: {answer}");
        assert!(answer.contains("\"code\":\"too_large\""), "{answer}");
    }
    assert_eq!(get(&target.url).status, 404);
    needles.assert_kept(&server);
}

#[test]
fn a_body_of_unknown_length_is_cut_off_at_the_largest_needle() {
    let (server, needles) = server_with_needle();
    let target = assign(&server);
    let head = format!(
        "PUT /{} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        target.fid
    );
    let mut chunk = format!("{:x}\r\n", 1 << 20).into_bytes();
    chunk.extend(vec![7; 1 << 20]);
    chunk.extend(b"\r\n");
    let chunks = std::iter::repeat_n(chunk, (MAX_NEEDLE_BYTES >> 20) + 1);
    let pieces = [head.into_bytes()].into_iter().chain(chunks).chain([b"0\r\n\r\n".to_vec()]);
    let answer = raw(&server.volume_url(), pieces);
    // The answer may be lost when the server resets a connection that is still being written to.
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(get(&target.url).status, 404);
    needles.assert_kept(&server);
}

#[test]
fn a_broken_form_is_a_400_and_stores_nothing() {
    let (server, needles) = server_with_needle();
    let part = "content-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nwords";
    let broken: [(&str, String); 5] = [
        ("multipart/form-data", format!("--edge\r\n{part}\r\n--edge--\r\n")),
        (FORM.1, format!("--edge\r\n{part}")),
        (FORM.1, format!("--other\r\n{part}\r\n--other--\r\n")),
        (FORM.1, "--edge--\r\n".to_owned()),
        (FORM.1, String::new()),
    ];
    for (kind, form) in broken {
        let target = assign(&server);
        let submit = format!("{}/submit", server.master_url());
        for url in [&target.url, &submit] {
            let answer =
                send(Method::POST, url, &[("content-type", kind)], form.clone().into_bytes());
            assert_eq!(answer.status, 400, "{kind} {form:?} to {url}: {}", answer.text());
            answer.error(400, "bad_multipart");
        }
        assert_eq!(get(&target.url).status, 404, "{kind} {form:?} was stored");
    }
    needles.assert_kept(&server);
}

#[test]
fn an_upload_that_breaks_off_stores_nothing() {
    let (server, mut needles) = server_with_needle();
    let stored = needles.put(&server, b"the first version");
    let fresh = assign(&server);
    for fid in [&stored.fid, &fresh.fid] {
        let head = format!("PUT /{fid} HTTP/1.1\r\nhost: x\r\ncontent-length: 5000000\r\n\r\n");
        let url = server.volume_url();
        let mut stream = std::net::TcpStream::connect(url.trim_start_matches("http://")).unwrap();
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        std::io::Write::write_all(&mut stream, &body(1, 3_000_000)).unwrap();
        drop(stream);
    }
    // Whatever the server does with what it got, it has done it once a later write is answered.
    needles.put(&server, b"a later write");
    assert_eq!(get(&fresh.url).status, 404);
    needles.assert_kept(&server);
}

#[test]
fn a_body_that_is_not_what_its_md5_says_is_refused() {
    let (server, mut needles) = server_with_needle();
    let stored = needles.put(&server, b"the first version");
    let fresh = assign(&server);
    let md5 = |bytes: &[u8]| STANDARD.encode(Md5::digest(bytes));
    for url in [&fresh.url, &stored.url] {
        let headers = [("content-md5", md5(b"what was meant"))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let answer = send(Method::PUT, url, &headers, b"what arrived".to_vec());
        answer.error(400, "md5_mismatch");
    }
    assert_eq!(get(&fresh.url).status, 404);
    let right = md5(b"what was meant");
    let answer =
        send(Method::PUT, &fresh.url, &[("content-md5", &right)], b"what was meant".to_vec());
    assert_eq!((answer.status, answer.header("content-md5")), (201, Some(right)));
    needles.note(&fresh.fid, b"what was meant");
    needles.assert_kept(&server);
}
