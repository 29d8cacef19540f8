//! What a server says of itself to whoever watches it.

use reqwest::Method;
use serde_json::Value;

use crate::{
    harness::Server,
    http::{get, send},
    needles::Needles,
};

/// The value of a metric without labels.
#[track_caller]
fn metric(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

fn sum(volumes: &[Value], field: &str) -> u64 {
    volumes.iter().map(|volume| volume[field].as_u64().unwrap()).sum()
}

#[test]
fn live_garbage_and_overhead_add_up_to_the_volume_files() {
    // One volume: others would grow while they are looked at.
    let server = Server::builder().flag("--max-volumes=1").start();
    let mut needles = Needles::default();
    let first = needles.put(&server, b"first");
    assert_eq!(send(Method::PUT, &first.url, &[], b"second".to_vec()).status, 201);
    assert_eq!(send(Method::DELETE, &needles.put(&server, b"gone").url, &[], vec![]).status, 202);

    let metrics = get(&format!("{}/metrics", server.volume_url())).text();
    let volumes = get(&format!("{}/status", server.volume_url())).json()["Volumes"].clone();
    let volumes = volumes.as_array().unwrap();
    for (name, field) in [
        ("dulse_live_bytes", "LiveByteCount"),
        ("dulse_garbage_bytes", "DeletedByteCount"),
        ("dulse_overhead_bytes", "OverheadByteCount"),
    ] {
        assert!(metric(&metrics, name) > 0, "{name}");
        assert_eq!(metric(&metrics, name), sum(volumes, field), "{name}");
    }
    let bytes: u64 = ["dulse_live_bytes", "dulse_garbage_bytes", "dulse_overhead_bytes"]
        .iter()
        .map(|name| metric(&metrics, name))
        .sum();
    assert_eq!(bytes, sum(volumes, "Size"));
    assert_eq!(metric(&metrics, "dulse_overhead_bytes"), 8 * volumes.len() as u64);
}

#[test]
fn every_write_is_counted_with_the_time_that_it_waited() {
    let server = Server::builder().start();
    let mut needles = Needles::default();
    for body in [&b"one"[..], b"two", b"three"] {
        needles.put(&server, body);
    }
    let metrics = get(&format!("{}/metrics", server.volume_url())).text();
    assert_eq!(metric(&metrics, "dulse_queue_wait_seconds_count"), 3);
}

#[test]
fn a_master_tells_its_time_with_every_heartbeat_and_the_difference_is_a_metric() {
    let server = Server::builder().start();
    let metrics = get(&format!("{}/metrics", server.volume_url())).text();
    let master = server.master_url().replace("http://", "");
    let name = format!("dulse_clock_difference_seconds{{master=\"{master}");
    let lines: Vec<_> = metrics.lines().filter(|line| line.starts_with(&name)).collect();
    assert_eq!(lines.len(), 1, "{metrics}");
    let seconds: f64 = lines[0].rsplit(' ').next().unwrap().parse().unwrap();
    assert!(seconds.abs() < 10.0, "one clock differs from itself: {}", lines[0]);
}
