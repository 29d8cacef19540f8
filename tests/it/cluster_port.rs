//! Every route of the cluster ports of a cluster with a secret, whoever asks: only a member gets as
//! far as its handler, and on a public port it is no route.
//!
//! The routes are those that the ports were built from, so a new one is tried here by itself.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use dulse_master::{Master, MasterConfig};
use dulse_shared::{
    clock::Clock,
    id::ReplicaPlacement,
    net::{
        cluster_identity::ClusterIdentity,
        cluster_secret::ClusterSecret,
        metrics::Metrics,
        peer::{Distrust, PeerClient, PeerError},
        route_table::Route,
        tasks::Tasks,
    },
};
use dulse_volume::{config::VolumeServerConfig, server::VolumeServer};
use reqwest::Method;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde_json::{Value, json};

use crate::{
    golden_expiring::volume_config,
    http::{runtime, send},
};

const HOST: &str = "127.0.0.1";
const LIMIT: Duration = Duration::from_secs(20);

/// The ports of one server.
struct Ports {
    public: SocketAddr,
    cluster: SocketAddr,
    routes: Vec<Route>,
}

/// A master and a volume server of one cluster, in this process.
struct Store {
    master: Master,
    volume: VolumeServer,
    tasks: Tasks,
}

impl Store {
    async fn start(dir: &Path, identity: &ClusterIdentity) -> Self {
        let (clock, metrics, tasks) = (Clock::System, Metrics::default(), Tasks::new());
        let config = MasterConfig {
            peers: Vec::new(),
            beside: None,
            dir: dir.join("master"),
            bind: HOST.to_owned(),
            port: 0,
            cluster_port: 0,
            identity: Some(identity.clone()),
            advertise: HOST.to_owned(),
            volume_size_limit_bytes: 30 << 30,
            default_replication: ReplicaPlacement::default(),
            max_needle_bytes: 1 << 20,
        };
        let master = Master::start(config, clock.clone(), metrics.clone(), &tasks).await.unwrap();
        let config = volume_config(&dir.join("volumes"), &master);
        let config = VolumeServerConfig { identity: Some(identity.clone()), ..config };
        let volume = VolumeServer::start(config, clock, metrics, &tasks).await.unwrap();
        volume.ready().await;
        Self { master, volume, tasks }
    }

    fn ports(&self) -> [Ports; 2] {
        let master = Ports {
            public: self.master.public_address(),
            cluster: self.master.cluster_address(),
            routes: self.master.cluster_routes().to_vec(),
        };
        let volume = Ports {
            public: self.volume.public_address(),
            cluster: self.volume.cluster_address(),
            routes: self.volume.cluster_routes().to_vec(),
        };
        [master, volume]
    }

    async fn stop(self) {
        self.tasks.stop();
        assert!(self.tasks.drain(LIMIT).await);
        self.volume.stop().await;
        self.master.stop().await;
    }
}

/// A client as `curl -k`: it takes every certificate, and has none.
#[derive(Debug)]
struct TakesAnything;

impl ServerCertVerifier for TakesAnything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn request(route: &Route) -> Vec<u8> {
    let Route { method, path } = route;
    let head = "Host: a\r\nContent-Type: application/json\r\nConnection: close";
    format!("{method} {path} HTTP/1.1\r\n{head}\r\nContent-Length: 2\r\n\r\n{{}}").into_bytes()
}

/// What comes back on a connection, up to its end, however it ends.
fn exchange(mut stream: impl Read + Write, route: &Route) -> String {
    let mut answer = Vec::new();
    // A refusal may come before all is sent.
    let _ = stream.write_all(&request(route)).and_then(|()| stream.flush());
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

fn without_certificate(address: SocketAddr, route: &Route) -> String {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().dangerous();
    let config = builder.with_custom_certificate_verifier(Arc::new(TakesAnything));
    let config = Arc::new(config.with_no_client_auth());
    let name = ServerName::try_from("member.dulse.internal").unwrap();
    let tls = ClientConnection::new(config, name).unwrap();
    exchange(StreamOwned::new(tls, connect(address)), route)
}

fn ask(identity: &ClusterIdentity, port: SocketAddr, route: &Route) -> Result<Value, PeerError> {
    let (client, address) = (PeerClient::new(Some(identity)), port.to_string());
    runtime().block_on(async {
        match route.method {
            Method::GET => client.fetch(&address, route.path, LIMIT).await,
            Method::POST => client.post(&address, route.path, &json!({}), LIMIT).await,
            ref other => panic!("no test knows how to ask for {other}"),
        }
    })
}

#[test]
fn every_route_of_a_cluster_port_is_for_members_only() {
    let dir = tempfile::tempdir().unwrap();
    let identity = || ClusterIdentity::new(&ClusterSecret::generate().unwrap()).unwrap();
    let (ours, other) = (identity(), identity());
    let store = runtime().block_on(Store::start(dir.path(), &ours));
    for Ports { public, cluster, routes } in store.ports() {
        assert!(routes.len() >= 5, "{routes:?}");
        for route in &routes {
            let what = format!("{} {}", route.method, route.path);
            let plain = exchange(connect(cluster), route);
            assert!(!plain.contains("HTTP/"), "{what}: {plain}");
            let nobody = without_certificate(cluster, route);
            assert_eq!(nobody, "", "{what}");
            match ask(&other, cluster, route) {
                Err(PeerError::Distrust { distrust: Distrust::OtherSecret, .. }) => {}
                answer => panic!("{what}: {answer:?}"),
            }
            // It is a route, for members.
            match ask(&ours, cluster, route) {
                Ok(_) => {}
                Err(PeerError::Refused { status, .. }) if ![404, 405].contains(&status) => {}
                answer => panic!("{what}: {answer:?}"),
            }
            let url = format!("http://{public}{}", route.path);
            let answer = send(route.method.clone(), &url, &[], b"{}".to_vec());
            let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
            let is_none = matches!((answer.status, &*code), (404, "no_route") | (400, "bad_fid"));
            assert!(is_none, "{what}: {} {}", answer.status, answer.text());
        }
    }
    runtime().block_on(store.stop());
}
