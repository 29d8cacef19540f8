//! Servers that belong together, and all the ways in which they do not.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::{
    clock::Clock,
    net::{
        cluster_port::ClusterPort,
        cluster_secret::ClusterSecret,
        metrics::{Metrics, RequestMetrics},
        route_table::RouteTable,
        tasks::Tasks,
    },
};

const LIMIT: Duration = Duration::from_secs(20);

fn member(secret: &ClusterSecret) -> ClusterIdentity {
    ClusterIdentity::new(secret).unwrap()
}

fn secret() -> ClusterSecret {
    ClusterSecret::generate().unwrap()
}

/// A cluster port that answers what it is sent.
async fn listen(identity: Option<&ClusterIdentity>, tasks: &Tasks) -> String {
    let port = ClusterPort::bind(identity, "127.0.0.1", 0, "--cluster-port").await.unwrap();
    let address = port.address();
    let routes = RouteTable::new()
        .get("/hello", async || axum::Json("hello"))
        .post("/echo", async |axum::Json(body): axum::Json<Value>| axum::Json(body));
    let metrics = RequestMetrics::register(&Metrics::default(), "test");
    port.serve("test port", routes, metrics, Clock::System, tasks);
    address.to_string()
}

async fn hello(identity: Option<&ClusterIdentity>, address: &str) -> Result<String, PeerError> {
    PeerClient::new(identity).fetch(address, "/hello", LIMIT).await
}

fn distrust(answer: Result<String, PeerError>) -> Option<Distrust> {
    match answer {
        Err(PeerError::Distrust { distrust, .. }) => Some(distrust),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn members_of_one_cluster_understand_each_other() {
    let (secret, tasks) = (secret(), Tasks::new());
    for (ours, theirs) in [(Some(member(&secret)), Some(member(&secret))), (None, None)] {
        let address = listen(theirs.as_ref(), &tasks).await;
        let client = PeerClient::new(ours.as_ref());
        let body = json!({"n": "x".repeat(1 << 20)});
        for _ in 0..3 {
            let answer: Value = client.post(&address, "/echo", &body, LIMIT).await.unwrap();
            assert_eq!(answer, body);
        }
        let error = client.fetch::<String>(&address, "/nowhere", LIMIT).await.unwrap_err();
        let PeerError::Refused { status: 404, code: Some(Code::NoRoute), .. } = error else {
            panic!("{error}");
        };
    }
}

#[tokio::test]
async fn a_peer_with_another_secret_or_none_is_told_as_such() {
    let (ours, theirs, tasks) = (member(&secret()), member(&secret()), Tasks::new());
    let address = listen(Some(&theirs), &tasks).await;
    assert_eq!(distrust(hello(Some(&ours), &address).await), Some(Distrust::OtherSecret));
    assert_eq!(distrust(hello(None, &address).await), Some(Distrust::NoSecretHere));
    let address = listen(None, &tasks).await;
    assert_eq!(distrust(hello(Some(&ours), &address).await), Some(Distrust::PeerHasNoSecret));
}

#[tokio::test]
async fn a_caller_whose_certificate_is_refused_late_learns_why() {
    let (theirs, tasks) = (secret(), Tasks::new());
    let address = listen(Some(&member(&theirs)), &tasks).await;
    // They know who is there, and prove nothing of themselves: TLS lets them send a request before
    // they hear of that.
    let foreign = ClusterIdentity::of_another_cluster(&theirs, &secret());
    let nobody = ClusterIdentity::without_certificate(&theirs);
    for caller in [foreign, nobody] {
        let client = PeerClient::new(Some(&caller));
        for length in (0..20).map(|n| n * 10_000) {
            let answer = client.post(&address, "/echo", &"x".repeat(length), LIMIT).await;
            assert_eq!(distrust(answer), Some(Distrust::OtherSecret), "{length}");
        }
    }
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_told_from_one_that_does_not_answer() {
    let identity = member(&secret());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for identity in [Some(&identity), None] {
        let client = PeerClient::new(identity);
        let limit = Duration::from_millis(50);
        let silent = client.fetch::<String>(&address, "/hello", limit).await.unwrap_err();
        let PeerError::Unreachable { source, .. } = silent else { panic!("{silent}") };
        assert!(source.is_timeout() && !source.is_connect(), "{source}");
    }
    drop(listener);
    for identity in [Some(&identity), None] {
        let gone = hello(identity, &address).await.unwrap_err();
        assert!(gone.to_string().contains("refused"), "{gone}");
        let PeerError::Unreachable { source, .. } = gone else { panic!("{gone}") };
        assert!(source.is_connect() && !source.is_timeout(), "{source}");
    }
    let nowhere = hello(None, "no address").await.unwrap_err();
    assert!(matches!(nowhere, PeerError::Unreachable { .. }), "{nowhere}");
}

#[tokio::test]
async fn a_stranger_that_says_nothing_keeps_nobody_out() {
    let (secret, tasks) = (secret(), Tasks::new());
    let identity = member(&secret);
    let address = listen(Some(&identity), &tasks).await;
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    assert_eq!(hello(Some(&identity), &address).await.unwrap(), "hello");
    // It loses its connection, and stopping does not wait for that.
    tasks.stop();
    assert!(tasks.drain(Duration::from_secs(2)).await);
    drop(silent);
}
