//! A whole master on ports of its own, asked over HTTP.

use dulse_shared::wire::{
    Code, ForeignVolume, Heartbeat, HeartbeatAnswer, LocalState, ProblemBody, VolumeReport,
};
use serde_json::Value;

use super::*;
use crate::testing::{foreign, heartbeat, report};

struct Running {
    master: Master,
    tasks: Tasks,
    clock: Clock,
    peers: PeerClient,
}

fn config(dir: &std::path::Path) -> MasterConfig {
    MasterConfig {
        dir: dir.to_owned(),
        bind: "127.0.0.1".to_owned(),
        port: 0,
        cluster_port: 0,
        identity: None,
        advertise: "127.0.0.1".to_owned(),
        peers: Vec::new(),
        beside: None,
        volume_size_limit_bytes: 1 << 20,
        default_replication: "000".parse().unwrap(),
        max_needle_bytes: 1 << 20,
    }
}

impl Running {
    async fn start(dir: &std::path::Path) -> Self {
        let (tasks, clock) = (Tasks::new(), Clock::manual(1));
        let metrics = Metrics::default();
        let master = Master::start(config(dir), clock.clone(), metrics, &tasks).await.unwrap();
        Self { master, tasks, clock, peers: PeerClient::new(None) }
    }

    async fn stop(self) {
        self.tasks.stop();
        assert!(self.tasks.drain(Duration::from_secs(10)).await, "a task did not end");
        self.master.stop().await;
        assert_eq!(self.tasks.failure(), None);
    }

    async fn fetch(&self, path: &str) -> Value {
        let address = self.master.public_address().to_string();
        self.peers.fetch(&address, path, Duration::from_secs(5)).await.unwrap()
    }

    /// Lets time pass. Each heartbeat has the master look at its clock.
    async fn watch(&self, minutes: u64) {
        for seq in 1..=minutes {
            self.clock.advance(Duration::from_secs(60));
            self.beat(&Heartbeat { seq, ..heartbeat(2, vec![]) }).await;
        }
    }

    async fn beat(&self, heartbeat: &Heartbeat) -> HeartbeatAnswer {
        let address = self.master.cluster_address().to_string();
        let limit = Duration::from_secs(5);
        self.peers.post(&address, "/heartbeat", heartbeat, limit).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_founds_a_cluster_takes_heartbeats_and_remembers_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    assert_eq!(running.fetch("/readyz").await["status"], "ready");
    let status = running.fetch("/cluster/status").await;
    assert_eq!(status["IsLeader"], true);
    assert_eq!(status["Leader"], running.master.public_address().to_string());
    let mut brought = heartbeat(1, vec![]);
    brought.foreign = vec![foreign(7, "000")];
    let answer = running.beat(&brought).await;
    assert!(answer.is_leader && answer.configs.len() == 1);
    let (cluster, config) = (answer.cluster, answer.configs[0].clone());
    running.stop().await;

    let running = Running::start(dir.path()).await;
    assert_eq!(running.fetch("/dir/status").await["TopologyId"], cluster.to_string());
    let back = Heartbeat { cluster: Some(cluster), ..heartbeat(1, vec![report(7)]) };
    running.beat(&back).await;
    let lookup = running.fetch("/dir/lookup?volumeId=7").await;
    assert_eq!(lookup["locations"][0]["url"], back.url, "{config:?}");
    let page = running.fetch("/ui/status.json").await;
    assert_eq!(page["volumes"][0]["state"], "closed");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_volume_is_deleted_and_whoever_has_its_files_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    running.clock.advance(Duration::from_secs(1_000_000));
    let mut brought = heartbeat(1, vec![]);
    let foreign = ForeignVolume { ttl: "1h".parse().unwrap(), ..foreign(7, "000") };
    brought.foreign = vec![foreign.clone()];
    running.beat(&brought).await;
    let expired = VolumeReport {
        ttl: foreign.ttl,
        local: LocalState::Expired,
        modified_at_secs: 1_000_000 - 3600,
        ..report(7)
    };
    let again = |seq| Heartbeat { seq, ..heartbeat(1, vec![expired.clone()]) };
    assert!(running.beat(&again(2)).await.deleted.is_empty(), "its grace is not over");
    running.clock.advance(Duration::from_secs(360));
    running.watch(50).await;
    tokio::time::sleep(2 * COMPLETION_PAUSE).await;
    let mut answer = running.beat(&again(3)).await;
    assert!(answer.deleted.is_empty(), "its clock was not steady for an hour yet");
    assert_eq!(answer.wall_ns, running.clock.wall_ns());
    running.watch(10).await;
    for seq in 4..200 {
        if !answer.deleted.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        answer = running.beat(&again(seq)).await;
    }
    assert_eq!(answer.deleted, [expired.id]);
    let page = running.fetch("/ui/status.json").await;
    assert_eq!(page["volumes"], serde_json::json!([]));
    assert_eq!(page["contradictions"], serde_json::json!([]), "the server is only behind");
    // Without its sidecar nobody knows whose it is.
    let nameless = Heartbeat { seq: 200, foreign: vec![foreign], ..heartbeat(1, vec![]) };
    let answer = running.beat(&nameless).await;
    assert!(answer.deleted.is_empty() && answer.configs.is_empty());
    assert!(answer.refused[0].reason.contains("was deleted"), "{:?}", answer.refused);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_noticed_and_told_by_the_gauges() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    running.beat(&heartbeat(1, vec![])).await;
    let url = format!("http://{}/metrics", running.master.public_address());
    let says = |line: &'static str| {
        let url = url.clone();
        async move {
            for _ in 0..100 {
                let text = reqwest::get(&url).await.unwrap().text().await.unwrap();
                if text.lines().any(|l| l == line) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            panic!("the metrics never said {line}");
        }
    };
    says("dulse_volume_servers_live 1").await;
    says("dulse_volume_slots_free 8").await;
    says("dulse_raft_is_leader 1").await;
    running.clock.advance(Duration::from_secs(3));
    says("dulse_volume_servers_live 0").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_port_is_not_on_the_public_one_and_errors_are_json() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    assert!(running.master.cluster_address().ip().is_loopback());
    let base = format!("http://{}", running.master.public_address());
    let http = reqwest::Client::new();
    let answer = http.post(format!("{base}/raft/append")).body("{}").send().await.unwrap();
    assert_eq!(answer.status(), 404);
    let answer = http.get(format!("{base}/dir/lookup?volumeId=3")).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.headers()["content-type"], "application/json");
    let problem: ProblemBody = answer.json().await.unwrap();
    assert_eq!(problem.code, Code::VolumeNotFound);
    running.clock.advance(Duration::from_secs(10));
    let answer = http.get(format!("{base}/dir/assign")).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()),
        (503, "1")
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_or_port_in_use_is_named_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let start = |config| async {
        let tasks = Tasks::new();
        let started = Master::start(config, Clock::manual(1), Metrics::default(), &tasks);
        match started.await {
            Ok(_) => panic!("it started"),
            Err(error) => error.to_string(),
        }
    };
    let error = start(config(dir.path())).await;
    assert!(error.contains("in use by another dulse process"), "{error}");
    let other = tempfile::tempdir().unwrap();
    let port = running.master.public_address().port();
    let error = start(MasterConfig { port, ..config(other.path()) }).await;
    assert!(
        error.contains(&format!("port {port} is taken")) && error.contains("--port"),
        "{error}"
    );
    let error = start(MasterConfig { advertise: String::new(), ..config(other.path()) }).await;
    assert!(error.contains("--advertise"), "{error}");
    running.stop().await;
}
