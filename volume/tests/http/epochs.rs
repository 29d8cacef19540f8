//! What answers and refusals say of a volume's epoch.

use dulse_shared::wire::Epoch;
use reqwest::{Method, StatusCode};

use crate::harness::{Server, config};

const FID: &str = "/3,01637037d6";

#[tokio::test(flavor = "multi_thread")]
async fn every_needle_comes_with_the_epoch_and_the_next_one_is_named_at_once() {
    let server = Server::start().await;
    let put = server.put(FID, b"hello").await;
    assert_eq!((put.status, put.header("dulse-epoch")), (StatusCode::CREATED, "3:1"));
    let volume = server.store.volume("3".parse().unwrap()).unwrap();
    let mut next = config(&server.store, volume.id(), "");
    next.epoch = Epoch(2);
    volume.accept_config(next).unwrap();
    assert_eq!(server.get(FID).await.header("dulse-epoch"), "3:2");
    assert_eq!(server.head(FID).await.header("dulse-epoch"), "3:2");
    let deleted = server.send(server.request(Method::DELETE, FID)).await;
    assert_eq!((deleted.status, deleted.header("dulse-epoch")), (StatusCode::ACCEPTED, "3:2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_another_epoch_is_refused_and_changes_nothing() {
    let server = Server::start().await;
    server.put(FID, b"hello").await;
    for other in ["3:0", "3:2"] {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let request = server.request(method.clone(), FID).header("Dulse-Epoch", other);
            let refused = server.send(request.body("other")).await;
            assert_eq!(refused.status, StatusCode::MISDIRECTED_REQUEST, "{method} {other}");
            assert_eq!(refused.code(), "other_epoch");
            assert_eq!(refused.header("dulse-epoch"), "3:1");
            assert_eq!(refused.json()["locations"][0]["publicUrl"], "outside:80");
        }
    }
    assert_eq!(server.read_with(FID, "Dulse-Epoch", "3:1").await.text(), "hello");
    let bad = server.read_with(FID, "Dulse-Epoch", "three").await;
    assert_eq!((bad.status, bad.code()), (StatusCode::BAD_REQUEST, "bad_request".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_elsewhere_is_404_to_most_and_421_to_who_names_an_epoch() {
    let server = Server::start().await;
    let plain = server.get("/9,01637037d6").await;
    assert_eq!(
        (plain.status, plain.code()),
        (StatusCode::NOT_FOUND, "volume_not_found".to_owned())
    );
    let refused = server.read_with("/9,01637037d6", "Dulse-Epoch", "9:1").await;
    assert_eq!(refused.status, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(refused.json()["locations"], serde_json::json!([]));
}
