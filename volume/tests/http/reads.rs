//! GET and HEAD of needles over a real socket.

use reqwest::{Method, StatusCode};

use dulse_shared::id::Cookie;

use crate::harness::{NOW_SECS, Server, gzip, noise};

const FID: &str = "/3,01637037d6";

#[tokio::test(flavor = "multi_thread")]
async fn a_needle_comes_back_with_what_was_stored_beside_it() {
    let server = Server::start().await;
    let put = server.request(Method::PUT, FID).body("hello world");
    let put = put
        .header("content-type", "text/plain")
        .header("content-disposition", "inline; filename=\"a b.txt\"")
        .header("seaweed-color", "red");
    assert_eq!(server.send(put).await.status, StatusCode::CREATED);
    for path in [FID, "/3/01637037d6", "/3,01637037d6.png", "/3,1637037d6?cm=false"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "hello world"), "{path}");
        for (name, value) in [
            ("content-type", "text/plain"),
            ("content-length", "11"),
            ("content-disposition", "inline; filename=\"a b.txt\""),
            ("color", "red"),
            ("etag", "\"c9942aa4\""),
            ("last-modified", "Sun, 22 Nov 2026 00:00:00 GMT"),
            ("accept-ranges", "bytes"),
            ("x-content-type-options", "nosniff"),
        ] {
            let value = if name == "etag" {
                format!("\"{:08x}\"", crc32c::crc32c(b"hello world"))
            } else {
                value.to_owned()
            };
            assert_eq!(answer.header(name), value, "{path}: {name}");
        }
    }
    let named = server.get("/3/01637037d6/other.txt?dl=true").await;
    assert_eq!(named.header("content-disposition"), "attachment; filename=other.txt");
    let head = server.head(FID).await;
    assert_eq!((head.status, head.header("content-length")), (StatusCode::OK, "11"));
    assert!(head.body.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_change_is_not_sent_again() {
    let server = Server::start().await;
    let put = server.put(FID, b"hello").await;
    let etag = put.header("etag").to_owned();
    for (name, value, status) in [
        ("if-none-match", etag.as_str(), 304),
        ("if-none-match", "*", 304),
        ("if-none-match", "\"other\"", 200),
        ("if-modified-since", "Sun, 22 Nov 2026 00:00:00 GMT", 304),
        ("if-modified-since", "Sat, 21 Nov 2026 23:59:59 GMT", 200),
    ] {
        let answer = server.read_with(FID, name, value).await;
        assert_eq!(answer.status, status, "{name}: {value}");
        assert_eq!(answer.header("etag"), etag);
        if status == 304 {
            assert!(answer.body.is_empty() && !answer.headers.contains_key("content-length"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_a_small_needle() {
    let server = Server::start().await;
    let etag = server.put(FID, b"0123456789").await.header("etag").to_owned();
    let answer = server.read_with(FID, "range", "bytes=2-4").await;
    assert_eq!((answer.status, answer.text()), (StatusCode::PARTIAL_CONTENT, "234"));
    assert_eq!(answer.header("content-range"), "bytes 2-4/10");
    assert_eq!(answer.header("content-length"), "3");

    let answer = server.read_with(FID, "range", "bytes=20-").await;
    assert_eq!(answer.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(answer.header("content-range"), "bytes */10");
    assert_eq!(answer.code(), "range_not_satisfiable");

    let answer = server.read_with(FID, "range", "bytes=0-1,-2").await;
    assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT);
    assert!(answer.header("content-type").starts_with("multipart/byteranges; boundary="));
    assert!(answer.text().contains("Content-Range: bytes 8-9/10\r\n"));

    let again = server.read_with(FID, "range", "bytes=0-1,-2").await;
    assert_ne!(again.header("content-type"), answer.header("content-type"), "nobody foresees it");

    for ignored in ["bytes=0-8,1-9", "bytes=x", "lines=1-2"] {
        let answer = server.read_with(FID, "range", ignored).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "0123456789"), "{ignored}");
    }
    for (tag, status) in [(etag.as_str(), 206), ("\"other\"", 200)] {
        let request = server.request(Method::GET, FID).header("range", "bytes=0-0");
        assert_eq!(server.send(request.header("if-range", tag)).await.status, status, "{tag}");
    }
    let request = server.request(Method::HEAD, FID).header("range", "bytes=0-0");
    let head = server.send(request).await;
    assert_eq!((head.status, head.header("content-length")), (StatusCode::OK, "10"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_needle_is_streamed_whole_and_in_part() {
    let server = Server::start().await;
    let data = noise(3 << 20);
    assert_eq!(server.put(FID, &data).await.status, StatusCode::CREATED);
    let answer = server.get(FID).await;
    assert!(answer.body == data, "{} bytes came", answer.body.len());
    assert_eq!(answer.header("content-length"), data.len().to_string());
    assert_eq!(server.head(FID).await.header("content-length"), data.len().to_string());
    for _ in 0..2 {
        let answer = server.read_with(FID, "range", "bytes=1000000-2000000").await;
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(answer.header("content-range"), "bytes 1000000-2000000/3145728");
        assert!(answer.body == data[1_000_000..=2_000_000]);
    }
    let answer = server.read_with(FID, "range", "bytes=0-1,5-6").await;
    assert!(answer.status == StatusCode::OK && answer.body == data);
    let answer = server.read_with(FID, "range", "bytes=9999999-").await;
    assert_eq!(answer.header("content-range"), "bytes */3145728");
}

#[tokio::test(flavor = "multi_thread")]
async fn gzipped_needles_are_sent_as_they_lie_or_decompressed() {
    let server = Server::start().await;
    let small = b"compress me ".repeat(1000);
    // Stored in more than a megabyte, so that it is streamed.
    let large = noise(2 << 20);
    // Decompressed to more than is collected in memory.
    let long = vec![7; 9 << 20];
    for (path, plain) in
        [("/3,01637037d6", &small[..]), ("/3,02637037d6", &large), ("/3,03637037d6", &long)]
    {
        let zipped = gzip(plain);
        let put = server.request(Method::PUT, path).body(zipped.clone());
        let put = server.send(put.header("content-encoding", "gzip")).await;
        assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
        assert_eq!(put.json()["size"], plain.len());

        let answer = server.read_with(path, "accept-encoding", "gzip").await;
        assert_eq!(answer.header("content-encoding"), "gzip");
        assert!(answer.body == zipped, "{path}");
        let answer = server.get(path).await;
        assert_eq!(answer.header("content-encoding"), "");
        assert_eq!(answer.header("vary"), "Accept-Encoding");
        assert!(answer.body == plain, "{path}");
        for accepted in ["gzip", "identity"] {
            let request = server.request(Method::HEAD, path).header("accept-encoding", accepted);
            let head = server.send(request).await;
            assert_eq!(head.header("content-length"), plain.len().to_string(), "{path}");
        }
    }
    assert_eq!(server.get("/3,03637037d6").await.header("accept-ranges"), "none");
    let answer = server.read_with(FID, "range", "bytes=0-7").await;
    assert_eq!((answer.status, answer.text()), (StatusCode::PARTIAL_CONTENT, "compress"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_flagged_gzip_and_is_none_is_sent_as_it_lies() {
    let server = Server::start().await;
    for (key, data) in [(1, noise(1000)), (2, noise(2 << 20))] {
        server.put_flagged_gzip(key, Cookie(0x6370_37d6), &data).await;
        let path = format!("/3,0{key}637037d6");
        for accepted in ["gzip", "identity"] {
            let answer = server.read_with(&path, "accept-encoding", accepted).await;
            assert_eq!((answer.status, answer.header("content-encoding")), (StatusCode::OK, ""));
            assert!(answer.body == data, "{path}");
        }
        let head = server.head(&path).await;
        assert_eq!(
            (head.status, head.header("content-length")),
            (StatusCode::OK, &*data.len().to_string())
        );
        let part = server.read_with(&path, "range", "bytes=1-3").await;
        assert!(part.status == StatusCode::PARTIAL_CONTENT && part.body == data[1..=3], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_needle_with_a_ttl_is_gone_when_its_time_is_over() {
    let server = Server::start().await;
    let day = std::time::Duration::from_secs(24 * 3600);
    assert_eq!(server.put("/3,01637037d6?ttl=2d", b"own ttl").await.status, 201);
    assert_eq!(server.put("/4,02637037d6", b"ttl of the volume").await.status, 201);
    let ts = NOW_SECS - 24 * 3600;
    assert_eq!(server.put(&format!("/4,03637037d6?ts={ts}"), b"an old file").await.status, 201);
    for (days, statuses) in [(1, [200, 200, 200]), (2, [404, 200, 200]), (3, [404, 404, 404])] {
        server.clock.advance(day);
        for (fid, status) in
            ["/3,01637037d6", "/4,02637037d6", "/4,03637037d6"].iter().zip(statuses)
        {
            assert_eq!(server.get(fid).await.status, status, "{fid} after {days} days");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn active_content_is_sandboxed_and_headers_can_be_overridden() {
    let server = Server::start().await;
    server.put("/3/01637037d6/page.html", b"<script>alert(1)</script>").await;
    let answer = server.get(FID).await;
    assert_eq!(answer.header("content-type"), "text/html");
    assert_eq!(answer.header("content-security-policy"), "sandbox");
    let query = "?response-content-type=text%2Fplain&response-cache-control=no-store";
    let answer = server.get(&format!("{FID}{query}")).await;
    assert_eq!(answer.header("content-type"), "text/plain");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("content-security-policy"), "");
}
