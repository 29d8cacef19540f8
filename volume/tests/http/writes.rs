//! PUT, POST and DELETE, and what is refused.

use reqwest::{Method, StatusCode};

use crate::harness::{Answer, MAX_NEEDLE_BYTES, NOW_SECS, Server, gzip, noise};

const FID: &str = "/3,01637037d6";
const MD5_OF_HELLO: &str = "XUFAKrxLKna5cZ2REBfFkg==";

async fn post_form(server: &Server, path: &str, part_headers: &str, data: &str) -> Answer {
    let body = format!(
        "--XX\r\nContent-Disposition: form-data; name=\"whatever\"; filename=\"dir/a.txt\"\r\n\
         {part_headers}\r\n{data}\r\n--XX--\r\n"
    );
    let request = server.request(Method::POST, path).body(body);
    server.send(request.header("content-type", "multipart/form-data; boundary=XX")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_is_answered_with_what_was_stored() {
    let server = Server::start().await;
    let answer = server.put(FID, b"hello").await;
    let etag = format!("{:08x}", crc32c::crc32c(b"hello"));
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("etag"), format!("\"{etag}\""));
    let expected = serde_json::json!({ "name": "3,01637037d6", "size": 5, "eTag": etag });
    assert_eq!(answer.json(), expected);

    let empty = server.put("/3,02637037d6", b"").await;
    assert_eq!((empty.status, empty.json()["size"].as_u64()), (StatusCode::CREATED, Some(0)));
    let read = server.get("/3,02637037d6").await;
    assert_eq!((read.status, read.body.len()), (StatusCode::OK, 0));
    assert_eq!(read.header("etag"), "\"00000000\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_again_is_not_stored_again_but_anything_else_is() {
    let server = Server::start().await;
    assert_eq!(server.put(FID, b"hello").await.status, StatusCode::CREATED);
    server.clock.advance(std::time::Duration::from_secs(5));
    let again = server.put(FID, b"hello").await;
    assert_eq!((again.status, again.body.len()), (StatusCode::NO_CONTENT, 0));
    assert_eq!(again.header("etag"), format!("\"{:08x}\"", crc32c::crc32c(b"hello")));
    assert_eq!(server.put(FID, b"hello!").await.status, StatusCode::CREATED);
    assert_eq!(server.get(FID).await.text(), "hello!");
    let timed = server.put(&format!("{FID}?ts={}", NOW_SECS - 7), b"hello!").await;
    assert_eq!(timed.status, StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_again_with_a_ttl_lives_as_long_again() {
    let server = Server::start().await;
    let fid = format!("{FID}?ttl=1h");
    assert_eq!(server.put(&fid, b"hello").await.status, StatusCode::CREATED);
    server.clock.advance(std::time::Duration::from_secs(3000));
    assert_eq!(server.put(&fid, b"hello").await.status, StatusCode::CREATED);
    server.clock.advance(std::time::Duration::from_secs(3000));
    assert_eq!(server.get(FID).await.text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_brings_name_type_md5_and_compression() {
    let server = Server::start().await;
    let headers = format!("Content-Type: text/x-note\r\nContent-MD5: {MD5_OF_HELLO}\r\n");
    let answer = post_form(&server, FID, &headers, "hello").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    assert_eq!(answer.json()["name"], "a.txt");
    assert_eq!(answer.json()["mime"], "text/x-note");
    assert_eq!(answer.json()["contentMd5"], MD5_OF_HELLO);
    assert_eq!(answer.header("content-md5"), MD5_OF_HELLO);
    let read = server.get(FID).await;
    assert_eq!((read.text(), read.header("content-type")), ("hello", "text/x-note"));
    assert_eq!(read.header("content-disposition"), "inline; filename=a.txt");

    let zipped = gzip(b"hello");
    let mut body = b"--XX\r\nContent-Disposition: form-data; name=f; filename=z.txt\r\n\
        Content-Encoding: gzip\r\n\r\n"
        .to_vec();
    body.extend_from_slice(&zipped);
    body.extend_from_slice(b"\r\n--XX--\r\n");
    let request = server.request(Method::POST, "/3,02637037d6").body(body);
    let request = request.header("content-type", "multipart/form-data; boundary=XX");
    assert_eq!(server.send(request).await.json()["size"], 5);
    assert_eq!(server.get("/3,02637037d6").await.text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_post_of_any_type_is_the_file() {
    let server = Server::start().await;
    let form = "application/x-www-form-urlencoded";
    let request = server.request(Method::POST, FID).header("content-type", form).body("a=b&c=d");
    assert_eq!(server.send(request).await.status, StatusCode::CREATED);
    let read = server.get(FID).await;
    assert_eq!((read.text(), read.header("content-type")), ("a=b&c=d", form));
    let untyped = server.request(Method::POST, "/3,02637037d6").body("x");
    let answer = server.send(untyped).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "bad_multipart"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_is_gone_and_deleting_it_again_finds_nothing() {
    let server = Server::start().await;
    server.put(FID, b"").await;
    let answer = server.delete(FID).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    assert!(answer.json()["size"].as_u64().unwrap() > 0, "{}", answer.text());
    assert_eq!(server.get(FID).await.code(), "not_found");
    for path in [FID, "/99,01637037d6"] {
        let answer = server.delete(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.json()["size"], 0);
        assert!(answer.json()["error"].as_str().is_some_and(|error| !error.is_empty()));
        assert!(answer.json()["request_id"].as_str().is_some_and(|id| id.len() == 16));
    }
    assert_eq!(server.put(FID, b"back").await.status, StatusCode::CREATED);
    assert_eq!(server.get(FID).await.text(), "back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_cookie_reads_nothing_writes_nothing_and_deletes_nothing() {
    let server = Server::start().await;
    server.put(FID, b"mine").await;
    let wrong = "/3,01637037d7";
    let missing = server.get("/3,05637037d7").await.json();
    let hidden = server.get(wrong).await;
    assert_eq!((hidden.status.as_u16(), hidden.code()), (404, "not_found".to_owned()));
    let without_ids = |body: &serde_json::Value| {
        body["error"].as_str().unwrap().replace("3,01637037d7", "F").replace("3,05637037d7", "F")
    };
    assert_eq!(without_ids(&hidden.json()), without_ids(&missing), "indistinguishable");
    let put = server.put(wrong, b"theirs").await;
    assert_eq!((put.status.as_u16(), put.code()), (403, "cookie_mismatch".to_owned()));
    let delete = server.delete(wrong).await;
    assert_eq!((delete.status.as_u16(), delete.code()), (400, "cookie_mismatch".to_owned()));
    assert_eq!(server.get(FID).await.text(), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_uploads_store_nothing() {
    let server = Server::start().await;
    let put = |headers: &'static [(&'static str, &'static str)], body: Vec<u8>| {
        let request = server.request(Method::PUT, FID).body(body);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    let too_large = noise(usize::try_from(MAX_NEEDLE_BYTES).unwrap() + 1);
    for (request, status, code) in [
        (put(&[("content-md5", "AAAA")], b"hello".to_vec()), 400, "md5_mismatch"),
        (put(&[("content-encoding", "gzip")], b"hello".to_vec()), 400, "bad_request"),
        (put(&[], too_large), 413, "too_large"),
        (server.request(Method::PUT, "/3,01637037d6?ttl=5x").body("x"), 400, "bad_request"),
        (server.request(Method::PUT, "/3,01637037d6?ts=soon").body("x"), 400, "bad_request"),
        (server.request(Method::PUT, "/3,01637037d6?type=replicate").body("x"), 400, "bad_request"),
        (server.request(Method::PUT, "/99,01637037d6").body("x"), 404, "volume_not_found"),
        (server.request(Method::PUT, "/3,nothex").body("x"), 400, "bad_fid"),
        (server.request(Method::PATCH, FID).body("x"), 400, "bad_request"),
    ] {
        let answer = server.send(request).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code));
        assert!(!answer.header("x-request-id").is_empty());
    }
    let broken = server.request(Method::POST, FID).body("--XX\r\nContent-Disposition: form-data");
    let broken = broken.header("content-type", "multipart/form-data; boundary=XX");
    assert_eq!(server.send(broken).await.code(), "bad_multipart");
    assert_eq!(server.get(FID).await.code(), "not_found");
}

/// Without reading on, a client that is still sending would see a reset instead.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_read_by_a_client_that_is_still_sending() {
    let server = Server::start().await;
    let zeros = || {
        let pieces = (0..32).map(|_| Ok::<_, std::io::Error>(vec![0; 1 << 20]));
        reqwest::Body::wrap_stream(futures_util::stream::iter(pieces))
    };
    let form = |kind: &'static str| {
        server.request(Method::POST, FID).header("content-type", kind).body(zeros())
    };
    for (request, code) in [
        (server.request(Method::PUT, FID).body(zeros()), "too_large"),
        (server.request(Method::PUT, "/99,01637037d6").body(zeros()), "volume_not_found"),
        (server.request(Method::PUT, "/3,01637037d6%ff%fe").body(zeros()), "bad_fid"),
        (form("multipart/form-data"), "bad_multipart"),
        (form("multipart/form-data; boundary=XX"), "bad_multipart"),
    ] {
        let answer = server.send(request).await;
        assert_eq!(answer.code(), code, "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_needle_is_stored() {
    let server = Server::start().await;
    let data = noise(usize::try_from(MAX_NEEDLE_BYTES).unwrap());
    assert_eq!(server.put(FID, &data).await.status, StatusCode::CREATED);
    assert!(server.get(FID).await.body == data);
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_of_other_origins_are_told_what_they_may_do() {
    let server = Server::start().await;
    let options = server.request(Method::OPTIONS, FID).header("origin", "http://a.example");
    let answer = server.send(options).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("access-control-allow-methods"), "PUT, POST, GET, DELETE, OPTIONS");
    assert_eq!(answer.header("access-control-allow-headers"), "*");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    let answer = server.read_with(FID, "origin", "http://a.example").await;
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    assert_eq!(server.get(FID).await.header("access-control-allow-origin"), "");
}

/// More than is kept in memory, and not one piece of what is written at once.
const LARGE: usize = (1 << 20) + 700_003;

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_is_the_same_needle_by_every_way() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use md5::{Digest, Md5};

    let server = Server::start().await;
    let data = noise(LARGE);
    let md5 = STANDARD.encode(Md5::digest(&data));
    let put = server.request(Method::PUT, FID).header("content-md5", &md5).body(data.clone());
    let answer = server.send(put).await;
    let etag = format!("{:08x}", crc32c::crc32c(&data));
    assert_eq!(
        (answer.status, answer.json()["eTag"].as_str()),
        (StatusCode::CREATED, Some(&*etag))
    );
    assert_eq!(answer.json()["size"], LARGE);
    assert!(server.get(FID).await.body == data);

    let again = server.put(FID, &data).await;
    assert_eq!(again.status, StatusCode::NO_CONTENT, "it is there already");
    let mut other = data.clone();
    other[LARGE / 2] ^= 1;
    assert_eq!(server.put(FID, &other).await.status, StatusCode::CREATED);
    assert!(server.get(FID).await.body == other);

    let bad = server.request(Method::PUT, FID).header("content-md5", &md5).body(other.clone());
    assert_eq!(server.send(bad).await.code(), "md5_mismatch");
    let no_gzip = server.request(Method::PUT, FID).header("content-encoding", "gzip").body(data);
    assert_eq!(server.send(no_gzip).await.code(), "bad_request");
    assert!(server.get(FID).await.body == other);

    let zipped = gzip(&other);
    assert!(zipped.len() > 1 << 20);
    let mut form = b"--XX\r\nContent-Disposition: form-data; name=f; filename=z.bin\r\n\
        Content-Encoding: gzip\r\n\r\n"
        .to_vec();
    form.extend_from_slice(&zipped);
    form.extend_from_slice(b"\r\n--XX--\r\n");
    let request = server.request(Method::POST, "/3,02637037d6").body(form);
    let request = request.header("content-type", "multipart/form-data; boundary=XX");
    let answer = server.send(request).await;
    assert_eq!((answer.status, &answer.json()["size"]), (StatusCode::CREATED, &LARGE.into()));
    assert!(server.get("/3,02637037d6").await.body == other);
}
