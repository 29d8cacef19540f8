//! Status, health, metrics, and the page for people.

use dulse_shared::clock::Clock;
use reqwest::{Method, StatusCode};

use crate::harness::{NOW_SECS, Server, open_store};

#[tokio::test(flavor = "multi_thread")]
async fn status_lists_disks_and_volumes_in_the_spelling_of_clients() {
    let server = Server::start().await;
    server.put("/3,01637037d6", b"hello").await;
    let status = server.get("/status").await.json();
    assert!(status["Version"].as_str().unwrap().starts_with("dulse "));
    assert!(status["DiskStatuses"][0]["all"].as_u64().unwrap() > 0);
    let volume = &status["Volumes"][0];
    assert_eq!((volume["Id"].as_u64(), volume["FileCount"].as_u64()), (Some(3), Some(1)));
    assert_eq!(volume["ReplicaPlacement"], serde_json::json!({}));
    assert_eq!(volume["Ttl"], serde_json::json!({ "Count": 0, "Unit": 0 }));
    assert_eq!((volume["ReadOnly"].as_bool(), volume["Version"].as_u64()), (Some(false), Some(3)));
    assert_eq!(status["Volumes"][1]["Ttl"], serde_json::json!({ "Count": 3, "Unit": 3 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_plain_html_with_a_style_of_its_own() {
    let server = Server::start().await;
    for path in ["/", "/ui", "/ui/index.html"] {
        let page = server.get(path).await;
        assert_eq!(page.status, StatusCode::OK);
        assert_eq!(page.header("content-security-policy"), "default-src 'self'");
        assert!(page.text().contains("Volume server") && page.text().contains("writable"));
    }
    let style = server.get("/ui/style.css").await;
    assert!(style.header("content-type").starts_with("text/css"));
    let json = server.get("/ui/status.json").await.json();
    assert_eq!(json["volumes"][0]["state"], "writable");
    assert_eq!(json["masters"][0], "127.0.0.1:9333");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics() {
    let server = Server::start().await;
    assert_eq!(server.get("/healthz").await.status, StatusCode::OK);
    assert_eq!(server.get("/readyz").await.status, StatusCode::OK);
    let metrics = server.get("/metrics").await;
    assert!(metrics.text().contains("dulse_volume_request_seconds"), "{}", metrics.text());
    let answer = server.send(server.request(Method::POST, "/status")).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "GET, HEAD"));
    let head = server.head("/").await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_no_master_answered_is_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(NOW_SECS * 1_000_000_000);
    let store = open_store(dir.path(), clock.clone());
    let server = Server::serve(dir, store, clock).await;
    let answer = server.get("/readyz").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "not_ready"));
    assert!(answer.text().contains("--master"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_is_on_the_page_in_the_status_and_among_the_metrics() {
    let server = Server::start().await;
    server.put("/3,01637037d6", b"hello").await;
    assert!(server.get("/").await.text().contains("<td>never</td>"));
    server.maintenance.start_scrub(None);
    let status = loop {
        let status = server.get("/status").await.json();
        let is_scrubbed = |volume: &serde_json::Value| volume["LastScrubAtSecond"] == NOW_SECS;
        if status["Volumes"].as_array().unwrap().iter().all(is_scrubbed) {
            break status;
        }
    };
    assert_eq!(status["Volumes"][0]["ScrubFindingCount"], 0);
    assert_eq!(status["Volumes"][0]["State"], "writable");
    assert!(status["Jobs"].is_array());
    assert!(server.get("/").await.text().contains("<td>0 min ago</td>"));
    let json = server.get("/ui/status.json").await.json();
    assert_eq!(json["volumes"][0]["last_scrub_secs"], NOW_SECS);
    let metrics = server.get("/metrics").await;
    for name in
        ["scrub_bytes_total", "scrub_corrupt_total 0", "scrub_last_complete_timestamp_seconds"]
    {
        assert!(metrics.text().contains(&format!("dulse_{name}")), "{}", metrics.text());
    }
}
