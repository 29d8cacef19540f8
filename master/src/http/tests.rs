//! The public and the cluster port in-process, over agreed state in memory and a volume server
//! that keeps bodies in memory.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, AtomicUsize, Ordering},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, Request, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{any, post},
};
use dulse_shared::{
    clock::Clock,
    net::{metrics::Metrics, peer::PeerClient, tasks::Tasks},
    wire::{
        AssignResponse, Code, CreateVolume, Heartbeat, HeartbeatAnswer, JobPhase, Problem,
        StartVacuum, SubmitResponse, UploadResponse, VacuumReport, VolumeReport, VolumeVacuum,
    },
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{HttpSettings, HttpState, Relay, cluster_routes, public_router};
use crate::{
    assign::Assigner,
    cluster::Cluster,
    executor::Executor,
    testing::{
        CountedKeys, LIMIT, LoneLog, cluster, dir, foreign, heartbeat, report, report_of, server,
    },
};

/// A needle may have this many bytes in these tests.
const MAX_NEEDLE_BYTES: u64 = 4 << 20;

/// A request that reached the fake volume server.
struct Arrived {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

/// A volume server that makes volumes and takes uploads.
#[derive(Default)]
struct FakeVolumeServer {
    created: Mutex<Vec<VolumeReport>>,
    arrived: Mutex<Vec<Arrived>>,
    /// So many uploads are refused as read-only first.
    refusals: AtomicUsize,
    /// So many creations fail first.
    failing_creations: AtomicU32,
    /// So many creations find it still joining.
    joining: AtomicU32,
    /// Vacuums that were asked for.
    vacuums: Mutex<Vec<StartVacuum>>,
    /// Looks until a vacuum is done.
    looks: AtomicU32,
    /// So many looks fail first.
    failing_looks: AtomicU32,
}

async fn start_vacuum(
    State(fake): State<Arc<FakeVolumeServer>>,
    Json(body): Json<StartVacuum>,
) -> Json<VacuumReport> {
    fake.vacuums.lock().unwrap().push(body);
    vacuum_of(JobPhase::Waiting, 4)
}

async fn vacuum_report(State(fake): State<Arc<FakeVolumeServer>>) -> Response {
    let fails = |left: u32| left.checked_sub(1);
    if fake.failing_looks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails).is_ok() {
        return (StatusCode::SERVICE_UNAVAILABLE, "not now").into_response();
    }
    let report = match fake.looks.fetch_sub(1, Ordering::SeqCst) {
        1 => vacuum_of(JobPhase::Idle, 5),
        _ => vacuum_of(JobPhase::Running, 4),
    };
    report.into_response()
}

fn vacuum_of(phase: JobPhase, completed: u64) -> Json<VacuumReport> {
    let volume = dulse_shared::id::VolumeId::new(1).unwrap();
    let (collection, done_bytes, total_bytes) = (dulse_shared::id::Collection::default(), 0, 8);
    let last = None;
    let vacuum =
        VolumeVacuum { volume, collection, phase, done_bytes, total_bytes, completed, last };
    Json(VacuumReport { volumes: vec![vacuum] })
}

async fn create(
    State(fake): State<Arc<FakeVolumeServer>>,
    Json(body): Json<CreateVolume>,
) -> Response {
    assert_eq!(body.cluster, cluster());
    let fails = |left: u32| left.checked_sub(1);
    if fake.joining.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails).is_ok() {
        let body = json!({"error": "not joined yet", "code": "not_ready"});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    }
    let failing = &fake.failing_creations;
    if failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails).is_ok() {
        return (StatusCode::INTERNAL_SERVER_ERROR, "no").into_response();
    }
    let report = report_of(&body.config);
    fake.created.lock().unwrap().push(report.clone());
    Json(report).into_response()
}

async fn upload(State(fake): State<Arc<FakeVolumeServer>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let body = body.to_bytes();
    let size = body.len() as u64;
    fake.arrived.lock().unwrap().push(Arrived {
        method: head.method,
        uri: head.uri,
        headers: head.headers,
        body,
    });
    let left = |left: usize| left.checked_sub(1);
    if fake.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok() {
        let body = json!({"error": "volume is read-only", "code": "volume_read_only"});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    }
    let answer = UploadResponse {
        name: "a.txt".to_owned(),
        size,
        etag: "deadbeef".to_owned(),
        ..UploadResponse::default()
    };
    (StatusCode::CREATED, Json(answer)).into_response()
}

/// A master and one volume server that may have reported.
struct Rig {
    public: Router,
    cluster_port: Router,
    cluster: Arc<Cluster>,
    executor: Arc<Executor>,
    fake: Arc<FakeVolumeServer>,
    address: String,
    clock: Clock,
}

impl Rig {
    async fn new() -> Self {
        Self::with_leadership(true).await
    }

    async fn with_leadership(is_leader: bool) -> Self {
        let fake = Arc::new(FakeVolumeServer::default());
        let routes = Router::new()
            .route("/admin/volume/create", post(create))
            .route("/admin/vacuum", post(start_vacuum).get(vacuum_report))
            .route("/{fid}", any(upload))
            .with_state(fake.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let tasks = Tasks::new();
        tasks.spawn_contained(async move { axum::serve(listener, routes).await.unwrap() });
        let clock = Clock::manual(1_000_000_000_000);
        let log = Arc::new(LoneLog::founded(is_leader));
        let cluster = Arc::new(Cluster::new(log, LIMIT, clock.clone()));
        let peers = PeerClient::new(None);
        let executor = Executor::new(cluster.clone(), peers.clone(), tasks.clone());
        let executor = Arc::new(executor);
        let keys = Arc::new(CountedKeys::default());
        let assigner = Arc::new(Assigner::new(cluster.clone(), executor.clone(), keys));
        let settings = HttpSettings {
            default_replication: "000".parse().unwrap(),
            max_needle_bytes: MAX_NEEDLE_BYTES,
            dir: "/master".into(),
        };
        let relay = Relay::new().unwrap();
        let metrics = Metrics::default();
        let state =
            HttpState::new(cluster.clone(), assigner, relay, peers, settings, metrics, tasks);
        // Past the time in which a started master waits for servers to join.
        clock.advance(std::time::Duration::from_secs(10));
        Self {
            public: public_router(state.clone()),
            cluster_port: cluster_routes(state).into_router(),
            cluster,
            executor,
            fake,
            address,
            clock,
        }
    }

    fn heartbeat(&self, seq: u64, slots: u32) -> Heartbeat {
        let volumes = self.fake.created.lock().unwrap().clone();
        Heartbeat {
            seq,
            url: self.address.clone(),
            public_url: "files.example:80".to_owned(),
            cluster_url: self.address.clone(),
            dirs: vec![dir(slots, u32::try_from(volumes.len()).unwrap())],
            ..heartbeat(1, volumes)
        }
    }

    async fn join(&self, slots: u32) {
        self.beat(&self.heartbeat(1, slots)).await.unwrap();
    }

    async fn beat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatAnswer, Problem> {
        let request = Request::post("/heartbeat")
            .header("content-type", "application/json")
            .body(Body::from(serde_json::to_vec(heartbeat).unwrap()));
        let answered = self.cluster_port.clone().oneshot(request.unwrap());
        let (_, _, body) = read(answered.await.unwrap()).await?;
        Ok(serde_json::from_slice(&body).unwrap())
    }

    async fn ask(&self, request: Request<Body>) -> Result<(StatusCode, HeaderMap, Bytes), Problem> {
        read(self.public.clone().oneshot(request).await.unwrap()).await
    }

    async fn fetch(&self, path: &str) -> Result<Value, Problem> {
        let (_, headers, body) = self.ask(Request::get(path).body(Body::empty()).unwrap()).await?;
        assert_eq!(headers["content-type"], "application/json", "{path}");
        Ok(serde_json::from_slice(&body).unwrap())
    }

    async fn assign(&self, query: &str) -> Result<AssignResponse, Problem> {
        let answer = self.fetch(&format!("/dir/assign{query}")).await?;
        Ok(serde_json::from_value(answer).unwrap())
    }

    async fn submit(&self, body: impl Into<Body>) -> Result<SubmitResponse, Problem> {
        self.submit_with("/submit", &[("content-type", "text/plain")], body).await
    }

    async fn submit_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Result<SubmitResponse, Problem> {
        let mut request = Request::post(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (status, _, body) = self.ask(request.body(body.into()).unwrap()).await?;
        assert_eq!(status, StatusCode::CREATED);
        Ok(serde_json::from_slice(&body).unwrap())
    }

    /// Waits until the growth that an assign began has made `count` volumes.
    async fn grown(&self, count: usize) {
        for _ in 0..500 {
            if self.fake.created.lock().unwrap().len() >= count {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the layout did not grow to {count} volumes");
    }
}

async fn read(mut response: Response) -> Result<(StatusCode, HeaderMap, Bytes), Problem> {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        assert_eq!(response.status().as_u16(), problem.code.status());
        return Err(problem);
    }
    let (head, body) = response.into_parts();
    Ok((head.status, head.headers, body.collect().await.unwrap().to_bytes()))
}

#[tokio::test]
async fn the_first_assign_grows_and_answers_and_the_rest_follows() {
    let rig = Rig::new().await;
    rig.join(20).await;
    let assigned = rig.assign("?count=3").await.unwrap();
    assert_eq!(assigned.count, 3);
    assert_eq!(assigned.url, rig.address);
    assert_eq!(assigned.public_url, "files.example:80");
    let first: dulse_shared::id::Fid = assigned.fid.parse().unwrap();
    let next = rig.assign("").await.unwrap();
    assert_eq!(next.count, 1);
    let next: dulse_shared::id::Fid = next.fid.parse().unwrap();
    assert_eq!(next.key.as_u64(), first.key.as_u64() + 3, "three keys were taken");
    rig.grown(7).await;
}

#[tokio::test]
async fn a_server_that_is_still_joining_is_waited_for() {
    let rig = Rig::new().await;
    rig.join(20).await;
    rig.fake.joining.store(5, Ordering::SeqCst);
    let first: dulse_shared::id::Fid = rig.assign("").await.unwrap().fid.parse().unwrap();
    assert_eq!(first.volume.as_u32(), 1, "the first volume, not the next one");
}

#[tokio::test]
async fn everybody_who_asks_while_the_first_volumes_grow_gets_a_fid_of_one_growth() {
    let rig = Rig::new().await;
    rig.join(20).await;
    rig.fake.failing_creations.store(2, Ordering::SeqCst);
    let asked = futures_util::future::join_all((0..50).map(|_| rig.assign("")));
    let fids: std::collections::HashSet<String> =
        asked.await.into_iter().map(|assigned| assigned.unwrap().fid).collect();
    assert_eq!(fids.len(), 50);
    rig.grown(5).await;
    let ids = rig.cluster.log.read(|state| state.volumes.len());
    assert_eq!(ids, 7, "one growth for all");
    // What failed is made when its time has come, without anybody asking.
    rig.clock.advance(std::time::Duration::from_secs(6));
    rig.beat(&rig.heartbeat(2, 20)).await.unwrap();
    for _ in 0..500 {
        rig.executor.complete_creations().await;
        if rig.fake.created.lock().unwrap().len() == 7 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("interrupted creations were not completed");
}

#[tokio::test]
async fn without_room_the_error_says_what_to_do_and_a_new_server_is_all_it_takes() {
    let rig = Rig::new().await;
    let problem = rig.assign("").await.unwrap_err();
    assert_eq!(problem.code, Code::NoWritableVolume);
    assert!(problem.message.starts_with("no volume server is connected"), "{problem}");
    rig.join(0).await;
    let problem = rig.assign("").await.unwrap_err();
    assert_eq!(problem.code, Code::NoWritableVolume);
    assert_eq!(
        problem.message,
        "no writable volumes: every volume server is full; add one or free space"
    );
    let problem = rig.assign("?disk=ssd").await.unwrap_err();
    assert!(problem.message.contains("no volume server has a disk of type \"ssd\""), "{problem}");
    let another = Heartbeat { server: server(2), ..rig.heartbeat(1, 1) };
    rig.beat(&another).await.unwrap();
    rig.assign("").await.unwrap();
    rig.grown(1).await;
}

#[tokio::test]
async fn what_is_not_built_yet_and_what_cannot_be_read_is_refused_plainly() {
    let rig = Rig::new().await;
    rig.join(20).await;
    for (query, code) in [
        ("?replication=001", Code::NotSupported),
        ("?replication=abc", Code::BadRequest),
        ("?ttl=3x", Code::BadRequest),
        ("?collection=..", Code::BadRequest),
        ("?count=99999999999", Code::BadRequest),
    ] {
        assert_eq!(rig.assign(query).await.unwrap_err().code, code, "{query}");
    }
    assert!(rig.fake.created.lock().unwrap().is_empty(), "nothing grew");
    let body = "collection=pics&count=2";
    let request = Request::post("/dir/assign?replication=000&dataCenter=&x=y")
        .header("content-type", "application/x-www-form-urlencoded");
    let (_, _, body) = rig.ask(request.body(Body::from(body)).unwrap()).await.unwrap();
    let assigned: AssignResponse = serde_json::from_slice(&body).unwrap();
    assert_eq!(assigned.count, 2);
    let collection = rig.fake.created.lock().unwrap()[0].collection.clone();
    assert_eq!(collection.as_str(), "pics");
}

/// A volume server that stands somewhere else and makes volumes all the same.
fn elsewhere(rig: &Rig, n: u128, (data_center, rack): (&str, &str), slots: u32) -> Heartbeat {
    Heartbeat {
        cluster_url: rig.address.clone(),
        data_center: data_center.to_owned(),
        rack: rack.to_owned(),
        dirs: vec![dir(slots, 0)],
        ..heartbeat(n, vec![])
    }
}

#[tokio::test]
async fn a_place_that_is_wished_for_gets_the_volumes_and_the_fids() {
    let rig = Rig::new().await;
    assert_eq!(rig.assign("?rack=r1").await.unwrap_err().code, Code::NoWritableVolume);
    rig.beat(&elsewhere(&rig, 2, ("dc1", "r1"), 20)).await.unwrap();
    rig.beat(&elsewhere(&rig, 3, ("dc1", "r2"), 20)).await.unwrap();
    rig.beat(&elsewhere(&rig, 4, ("dc2", "r1"), 0)).await.unwrap();
    for (query, url) in [
        ("?rack=r2", "127.0.0.1:8083"),
        ("?dataCenter=dc1&rack=r1", "127.0.0.1:8082"),
        ("?dataNode=127.0.0.1:8083", "127.0.0.1:8083"),
    ] {
        for _ in 0..20 {
            assert_eq!(rig.assign(query).await.unwrap().url, url, "{query}");
        }
    }
    let full = rig.assign("?dataCenter=dc2").await.unwrap_err();
    assert_eq!(full.code, Code::NoWritableVolume);
    assert!(full.message.contains("no volume server with dataCenter=dc2 has room"), "{full}");
    for unknown in ["?dataCenter=dc3", "?rack=r3", "?rack=r2&dataNode=127.0.0.1:8082"] {
        let problem = rig.assign(unknown).await.unwrap_err();
        assert_eq!(problem.code, Code::BadRequest, "{unknown}");
        assert!(problem.message.starts_with("no volume server has "), "{problem}");
        let request = Request::post(format!("/submit{unknown}")).body(Body::from("x")).unwrap();
        assert_eq!(rig.ask(request).await.unwrap_err().code, Code::BadRequest, "{unknown}");
    }
    assert!(rig.fake.arrived.lock().unwrap().is_empty(), "nothing was stored");
}

#[tokio::test]
async fn a_layout_grows_by_as_many_volumes_as_somebody_says() {
    let rig = Rig::new().await;
    rig.join(20).await;
    rig.assign("?writableVolumeCount=3").await.unwrap();
    rig.grown(3).await;
    let volumes = || rig.cluster.log.read(|state| state.volumes.len());
    assert_eq!(volumes(), 3);
    let grown = rig.fetch("/vol/grow?count=5&collection=pics").await.unwrap();
    assert_eq!(grown, json!({"count": 5}));
    assert_eq!((volumes(), rig.fake.created.lock().unwrap().len()), (8, 8));
    let problem = rig.fetch("/vol/grow?count=100").await.unwrap_err();
    assert_eq!(problem.code, Code::NoWritableVolume);
    assert!(problem.message.contains("room for 12 volumes of the 100"), "{problem}");
    for (query, code) in [
        ("", Code::BadRequest),
        ("?count=0", Code::BadRequest),
        ("?count=x", Code::BadRequest),
        ("?count=1&rack=nowhere", Code::BadRequest),
        ("?count=1&replication=001", Code::NotSupported),
    ] {
        let problem = rig.fetch(&format!("/vol/grow{query}")).await.unwrap_err();
        assert_eq!(problem.code, code, "{query}");
    }
    assert_eq!(volumes(), 8, "nothing was made of what was refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assigns_that_nobody_uses_neither_run_out_nor_use_up_the_slots() {
    let rig = Rig::new().await;
    rig.join(1000).await;
    for n in 0..30_000 {
        if n % 500 == 0 {
            // Another volume's turn.
            rig.clock.advance(std::time::Duration::from_millis(20));
        }
        rig.assign("").await.unwrap_or_else(|problem| panic!("assign {n}: {problem}"));
    }
    let volumes = || rig.cluster.log.read(|state| state.volumes.len());
    let grown = volumes();
    assert!((14..=21).contains(&grown), "{grown} volumes");
    for _ in 0..10 {
        rig.clock.advance(std::time::Duration::from_secs(1));
        rig.beat(&Heartbeat { since: 0, ..rig.heartbeat(2, 1000) }).await.unwrap();
        for _ in 0..1000 {
            rig.assign("").await.unwrap();
        }
    }
    assert_eq!(volumes(), grown, "they were forgotten");
}

#[tokio::test]
async fn nobody_waits_when_all_volumes_become_nearly_full_at_once() {
    let rig = Rig::new().await;
    rig.join(40).await;
    rig.assign("").await.unwrap();
    rig.grown(7).await;
    for report in rig.fake.created.lock().unwrap().iter_mut() {
        report.size_bytes = LIMIT / 100 * 95;
    }
    rig.beat(&rig.heartbeat(2, 40)).await.unwrap();
    rig.cluster.tick();
    // No creation succeeds at first: whoever waited for one would wait for long.
    rig.fake.failing_creations.store(7, Ordering::SeqCst);
    let assigned = rig.assign("").await.unwrap();
    let fid: dulse_shared::id::Fid = assigned.fid.parse().unwrap();
    assert!(fid.volume.as_u32() <= 7, "one of those that are there");
    let asked = || rig.cluster.log.read(|state| state.volumes.len());
    for _ in 0..500 {
        if asked() == 14 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the layout did not grow ahead of need");
}

#[tokio::test]
async fn growth_ahead_of_need_that_found_no_room_uses_what_a_heartbeat_brings() {
    let rig = Rig::new().await;
    rig.join(1).await;
    rig.assign("").await.unwrap();
    rig.grown(1).await;
    rig.beat(&rig.heartbeat(2, 1)).await.unwrap();
    let volumes = || rig.cluster.log.read(|state| state.volumes.len());
    for _ in 0..5 {
        rig.assign("").await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(volumes(), 1, "there is no room to grow ahead");
    // Time stands still: the pause after a failure is not over.
    rig.beat(&elsewhere(&rig, 2, ("dc1", "r1"), 8)).await.unwrap();
    rig.assign("").await.unwrap();
    rig.grown(2).await;
}

#[tokio::test]
async fn parameters_in_a_multipart_form_are_refused_and_not_overlooked() {
    let rig = Rig::new().await;
    rig.join(20).await;
    let form = "--b\r\nContent-Disposition: form-data; name=\"count\"\r\n\r\n5\r\n--b--\r\n";
    let request =
        Request::post("/dir/assign").header("content-type", "multipart/form-data; boundary=b");
    let problem = rig.ask(request.body(Body::from(form)).unwrap()).await.unwrap_err();
    assert_eq!(problem.code, Code::BadRequest);
    assert!(problem.message.contains("multipart"), "{problem}");
}

#[tokio::test]
async fn only_the_leader_assigns() {
    let rig = Rig::with_leadership(false).await;
    rig.join(20).await;
    assert_eq!(rig.assign("").await.unwrap_err().code, Code::NoLeader);
    assert_eq!(rig.submit("x").await.unwrap_err().code, Code::NoLeader);
    assert!(!rig.beat(&rig.heartbeat(2, 20)).await.unwrap().is_leader);
}

#[tokio::test]
async fn lookup_says_exactly_what_strict_clients_accept() {
    let rig = Rig::new().await;
    rig.join(20).await;
    let fid = rig.assign("").await.unwrap().fid;
    let id = fid.split(',').next().unwrap();
    let location = json!({"url": rig.address, "publicUrl": "files.example:80"});
    let expected = json!({"volumeId": id, "locations": [location]});
    for query in [format!("volumeId={id}"), format!("volumeId={fid}"), format!("fileId={fid}")] {
        let answer = rig.fetch(&format!("/dir/lookup?{query}")).await.unwrap();
        assert_eq!(answer, expected, "{query}");
    }
    let verbose = rig.fetch(&format!("/dir/lookup?volumeId={id}&verbose=true")).await.unwrap();
    assert_eq!(verbose["locations"][0]["dataCenter"], "DefaultDataCenter");
    assert_eq!(verbose["epoch"], 1);
    for (query, code) in [
        ("volumeId=999", Code::VolumeNotFound),
        ("volumeId=abc", Code::VolumeNotFound),
        ("", Code::BadRequest),
    ] {
        let problem = rig.fetch(&format!("/dir/lookup?{query}")).await.unwrap_err();
        assert_eq!(problem.code, code, "{query}");
    }
    rig.clock.advance(std::time::Duration::from_secs(3));
    rig.cluster.tick();
    let problem = rig.fetch(&format!("/dir/lookup?volumeId={id}")).await.unwrap_err();
    assert_eq!(problem.code, Code::VolumeUnavailable, "its server is silent");
    assert!(problem.message.contains("no server that holds it"), "{}", problem.message);
}

#[tokio::test]
async fn a_fid_is_redirected_whatever_the_method_and_the_query_is_kept() {
    let rig = Rig::new().await;
    rig.join(20).await;
    let fid = rig.assign("").await.unwrap().fid;
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
        let request = Request::builder().method(method).uri(format!("/{fid}.jpg?dl=1&width=3"));
        let (status, headers, _) = rig.ask(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(status, StatusCode::TEMPORARY_REDIRECT);
        let expected = format!("http://files.example:80/{fid}.jpg?dl=1&width=3");
        assert_eq!(headers["location"], expected);
    }
    for (path, code) in [
        ("/3,zz", Code::BadFid),
        ("/999,01637037d6", Code::VolumeNotFound),
        ("/favicon.ico", Code::NoRoute),
        ("/no/such/route", Code::NoRoute),
    ] {
        assert_eq!(rig.fetch(path).await.unwrap_err().code, code, "{path}");
    }
}

#[tokio::test]
async fn submit_passes_the_body_on_as_it_is_and_answers_where_it_went() {
    let rig = Rig::new().await;
    rig.join(20).await;
    let body = "--b\r\nContent-Disposition: form-data; name=\"x\"; filename=\"a\"\r\n\r\nhello\r\n--b--\r\n";
    let headers = [
        ("content-type", "multipart/form-data; boundary=b"),
        ("content-length", &body.len().to_string()),
        ("seaweed-owner", "me"),
        ("authorization", "secret"),
    ];
    let submitted = rig.submit_with("/submit?ts=77&collection=c", &headers, body).await.unwrap();
    assert_eq!(submitted.file_url, format!("files.example:80/{}", submitted.fid));
    assert_eq!((submitted.etag.as_str(), submitted.size), ("deadbeef", body.len() as u64));
    let arrived = rig.fake.arrived.lock().unwrap();
    let [arrived] = arrived.as_slice() else { panic!("one upload") };
    assert_eq!(arrived.body, body);
    assert_eq!(arrived.method, Method::POST);
    assert_eq!(arrived.uri.to_string(), format!("/{}?ts=77", submitted.fid));
    assert_eq!(arrived.headers["content-type"], "multipart/form-data; boundary=b");
    assert_eq!(arrived.headers["seaweed-owner"], "me");
    assert!(!arrived.headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_small_body_is_offered_to_another_volume_when_the_first_refuses() {
    let rig = Rig::new().await;
    rig.join(20).await;
    rig.assign("").await.unwrap();
    rig.grown(7).await;
    rig.fake.refusals.store(2, Ordering::SeqCst);
    let small = [("content-length", "5")];
    let submitted = rig.submit_with("/submit", &small, "hello").await.unwrap();
    let arrived = rig.fake.arrived.lock().unwrap();
    let volumes: std::collections::HashSet<_> =
        arrived.iter().map(|a| a.uri.path().split(',').next().unwrap().to_owned()).collect();
    assert_eq!((arrived.len(), volumes.len()), (3, 3), "each another volume");
    assert!(arrived.iter().all(|arrived| arrived.body == "hello"));
    assert_eq!(arrived[2].uri.path(), format!("/{}", submitted.fid));
}

#[tokio::test]
async fn a_refused_stream_is_reported_and_not_repeated() {
    let rig = Rig::new().await;
    rig.join(20).await;
    rig.fake.refusals.store(1, Ordering::SeqCst);
    let chunks = futures_util::stream::iter((0..5).map(|n| Ok::<_, std::io::Error>(vec![n; 9])));
    let problem = rig.submit(Body::from_stream(chunks)).await.unwrap_err();
    assert_eq!(problem.code, Code::VolumeReadOnly);
    assert_eq!(rig.fake.arrived.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_at_once_or_in_the_middle() {
    let rig = Rig::new().await;
    rig.join(20).await;
    let told = [("content-length", "99999999")];
    let problem = rig.submit_with("/submit", &told, "x").await.unwrap_err();
    assert_eq!(problem.code, Code::TooLarge);
    let chunk = || Ok::<_, std::io::Error>(vec![7; 1 << 20]);
    let read = Arc::new(AtomicUsize::new(0));
    let counted = read.clone();
    let long = futures_util::stream::iter((0..40).map(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        chunk()
    }));
    let problem = rig.submit(Body::from_stream(long)).await.unwrap_err();
    assert_eq!(problem.code, Code::TooLarge);
    assert_eq!(read.swap(0, Ordering::SeqCst), 40, "read on, so that the client sees the answer");
    assert!(rig.fake.arrived.lock().unwrap().is_empty(), "nothing arrived whole");
    let counted = read.clone();
    let refused = futures_util::stream::iter((0..40).map(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        chunk()
    }));
    let problem = rig.submit_with("/submit?ttl=x", &[], Body::from_stream(refused)).await;
    assert_eq!(problem.unwrap_err().code, Code::BadRequest);
    assert_eq!(read.load(Ordering::SeqCst), 40);
    let fits = futures_util::stream::iter((0..4).map(move |_| chunk()));
    let submitted = rig.submit(Body::from_stream(fits)).await.unwrap();
    assert_eq!(submitted.size, MAX_NEEDLE_BYTES);
}

#[tokio::test]
async fn a_volume_server_of_another_cluster_is_refused_with_both_names() {
    let rig = Rig::new().await;
    let stranger = Heartbeat {
        cluster: Some(dulse_shared::id::ClusterId::from(0xabc)),
        ..rig.heartbeat(1, 8)
    };
    let problem = rig.beat(&stranger).await.unwrap_err();
    assert_eq!(problem.code, Code::OtherCluster);
    for part in [cluster().to_string(), "0abc".to_owned(), "--master".to_owned()] {
        assert!(problem.message.contains(&part), "{part} in {problem}");
    }
    let ours = Heartbeat { cluster: Some(cluster()), ..rig.heartbeat(1, 8) };
    let answer = rig.beat(&ours).await.unwrap();
    assert_eq!((answer.cluster, answer.acknowledged), (cluster(), 1));
    assert_eq!(answer.volume_size_limit_bytes, LIMIT);
}

#[tokio::test]
async fn foreign_volumes_are_admitted_if_their_id_is_free_and_a_second_copy_waits() {
    let rig = Rig::new().await;
    let with_foreign = |n, foreign| Heartbeat { foreign, ..heartbeat(n, vec![]) };
    let both = || vec![foreign(3, "001"), foreign(5, "000")];
    let answer = rig.beat(&with_foreign(1, both())).await.unwrap();
    let ids: Vec<u32> = answer.configs.iter().map(|config| config.id.as_u32()).collect();
    assert_eq!(ids, [3, 5]);
    assert!(answer.configs.iter().all(|config| config.closed) && answer.refused.is_empty());
    let again = Heartbeat { seq: 2, since: 1, ..with_foreign(1, both()) };
    let again = rig.beat(&again).await.unwrap();
    assert_eq!(again.configs, answer.configs, "told again until it reports them");
    let mut other_kind = foreign(5, "000");
    other_kind.collection = "pics".parse().unwrap();
    let second = vec![foreign(3, "001"), other_kind];
    let answer = rig.beat(&with_foreign(2, second)).await.unwrap();
    assert!(answer.configs.is_empty());
    let [copy, clash] = answer.refused.as_slice() else { panic!("{answer:?}") };
    assert!(copy.reason.contains("until repair can compare"), "{}", copy.reason);
    for part in ["volume id 5 is taken", "127.0.0.1:8081", "127.0.0.1:8082", "pics"] {
        assert!(clash.reason.contains(part), "{part} in {}", clash.reason);
    }
    let page = rig.fetch("/ui/status.json").await.unwrap();
    assert_eq!(page["refused"].as_array().unwrap().len(), 2);
    // The server that was told to take it in has yet another one.
    let served = Heartbeat { foreign: vec![foreign(5, "000")], ..heartbeat(1, vec![report(5)]) };
    let answer = rig.beat(&Heartbeat { seq: 3, ..served }).await.unwrap();
    let [twin] = answer.refused.as_slice() else { panic!("{answer:?}") };
    assert!(twin.reason.contains("serves another file with the id 5"), "{}", twin.reason);
    let ids = rig.cluster.log.read(|state| state.next_volume_id);
    assert_eq!(ids, 6, "new volumes go on above the admitted ones");
}

#[tokio::test]
async fn a_newer_configuration_is_told_until_it_is_reported() {
    let rig = Rig::new().await;
    rig.join(20).await;
    rig.assign("").await.unwrap();
    rig.grown(7).await;
    let mut behind = rig.heartbeat(2, 20);
    behind.volumes[0].epoch = dulse_shared::wire::Epoch(0);
    let id = behind.volumes[0].id;
    let answer = rig.beat(&behind).await.unwrap();
    let told: Vec<_> = answer.configs.iter().map(|config| config.id).collect();
    assert_eq!(told, [id]);
    let answer = rig.beat(&rig.heartbeat(3, 20)).await.unwrap();
    assert!(answer.configs.is_empty());
}

#[tokio::test]
async fn a_report_that_contradicts_what_was_agreed_on_is_shown() {
    let rig = Rig::new().await;
    let unknown = heartbeat(1, vec![crate::testing::report(44)]);
    rig.beat(&unknown).await.unwrap();
    let status = rig.fetch("/dir/status").await.unwrap();
    let sentence = status["contradictions"][0].as_str().unwrap();
    assert!(sentence.contains("volume 44"), "{sentence}");
    let page = rig.fetch("/ui/status.json").await.unwrap();
    assert_eq!(page["health"]["verdict"], "at_risk");
}

#[tokio::test]
async fn status_documents_have_integers_and_lists_and_never_null() {
    let rig = Rig::new().await;
    let empty = rig.fetch("/dir/status").await.unwrap();
    assert_eq!(empty["Topology"]["DataCenters"], json!([]));
    assert_eq!((&empty["Topology"]["Layouts"], &empty["Topology"]["Max"]), (&json!([]), &json!(0)));
    rig.join(14).await;
    rig.assign("").await.unwrap();
    rig.grown(7).await;
    rig.beat(&rig.heartbeat(2, 14)).await.unwrap();
    let status = rig.fetch("/dir/status").await.unwrap();
    let topology = &status["Topology"];
    let center = &topology["DataCenters"][0];
    let rack = &center["Racks"][0];
    let node = &rack["DataNodes"][0];
    for level in [topology, center, rack, node] {
        assert_eq!((&level["Max"], &level["Free"]), (&json!(14), &json!(7)), "{level}");
    }
    assert_eq!(node["VolumeIds"], " 1-7");
    assert_eq!(node["Url"], rig.address);
    assert_eq!(topology["Layouts"], topology["layouts"]);
    assert_eq!(topology["Layouts"][0]["writables"], json!([1, 2, 3, 4, 5, 6, 7]));
    rig.cluster.tick();
    let view = rig.fetch("/ui/status.json").await.unwrap();
    let room = view["capacity"]["writable_bytes"].as_u64().unwrap();
    assert_eq!((room, &view["layouts"][0]["writable_bytes"]), (7 * (LIMIT - 8), &json!(room)));
    assert_eq!(
        (&view["capacity"]["free_slots"], &view["layouts"][0]["writable_volumes"]),
        (&json!(7), &json!(7))
    );
    assert_eq!(view["capacity"]["free_disk_bytes"], json!(49_u64 << 30));
    let cluster = rig.fetch("/cluster/status").await.unwrap();
    let expected =
        json!({"IsLeader": true, "Leader": "127.0.0.1:9333", "Peers": [], "MaxVolumeId": 7});
    assert_eq!(cluster, expected);
}

#[tokio::test]
async fn a_vacuum_is_asked_of_every_server_and_waited_for() {
    let rig = Rig::new().await;
    rig.join(20).await;
    rig.fake.looks.store(3, Ordering::SeqCst);
    let status = rig.fetch("/vol/vacuum?garbageThreshold=0.25").await.unwrap();
    assert!(status["Topology"].is_object());
    assert_eq!(rig.fake.looks.load(Ordering::SeqCst), 0);
    let asked = StartVacuum { volume: None, garbage_threshold: Some(0.25) };
    assert_eq!(*rig.fake.vacuums.lock().unwrap(), [asked]);
    for bad in ["x", "1.5", "-1", "NaN"] {
        let path = format!("/vol/vacuum?garbageThreshold={bad}");
        assert_eq!(rig.fetch(&path).await.unwrap_err().code, Code::BadRequest, "{bad}");
    }
}

#[tokio::test]
async fn a_vacuum_outlives_three_looks_that_fail_and_after_that_nothing_is_claimed() {
    let rig = Rig::new().await;
    rig.join(20).await;
    rig.fake.looks.store(1, Ordering::SeqCst);
    rig.fake.failing_looks.store(3, Ordering::SeqCst);
    assert!(rig.fetch("/vol/vacuum").await.unwrap()["Topology"].is_object());

    rig.fake.failing_looks.store(4, Ordering::SeqCst);
    let problem = rig.fetch("/vol/vacuum").await.unwrap_err();
    assert_eq!(problem.code, Code::VolumeUnavailable);
    let page = format!("http://{}/status", rig.address);
    assert!(problem.message.contains("may still be"), "{}", problem.message);
    assert!(problem.message.contains(&page), "{}", problem.message);
}

#[tokio::test]
async fn pretty_indents_and_methods_that_do_not_exist_are_405() {
    let rig = Rig::new().await;
    let request = |method: &str, path: &str| {
        Request::builder().method(method).uri(path).body(Body::empty()).unwrap()
    };
    let (_, _, body) = rig.ask(request("GET", "/cluster/status?pretty=y")).await.unwrap();
    assert!(body.starts_with(b"{\n  \"IsLeader\": true"));
    for (method, path) in [("GET", "/submit"), ("POST", "/cluster/status"), ("PUT", "/healthz")] {
        let problem = rig.ask(request(method, path)).await.unwrap_err();
        assert_eq!(problem.code, Code::MethodNotAllowed, "{method} {path}");
        assert_eq!(path == "/submit", problem.message.contains("curl -F file=@FILE"));
    }
    for path in ["/vol/status", "/col/delete", "/collection/info"] {
        let problem = rig.ask(request("GET", path)).await.unwrap_err();
        assert_eq!(problem.code, Code::NoRoute, "{path}");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        let (status, ..) = rig.ask(request("GET", path)).await.unwrap();
        assert_eq!(status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn the_page_escapes_what_servers_say_and_loads_nothing_from_elsewhere() {
    let rig = Rig::new().await;
    rig.join(20).await;
    rig.assign("").await.unwrap();
    let nasty =
        Heartbeat { data_center: "<script>alert(1)</script>".to_owned(), ..heartbeat(9, vec![]) };
    rig.beat(&nasty).await.unwrap();
    for path in ["/", "/ui", "/ui/index.html"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let (_, headers, body) = rig.ask(request).await.unwrap();
        assert_eq!(headers["content-security-policy"], "default-src 'self'");
        let html = String::from_utf8(body.to_vec()).unwrap();
        assert!(!html.contains("<script>") && html.contains("&#60;script&#62;"), "{html}");
        assert!(!html.contains("style=") && html.contains("healthy"), "{html}");
    }
    let request = Request::get("/ui/style.css").body(Body::empty()).unwrap();
    let (_, headers, _) = rig.ask(request).await.unwrap();
    assert_eq!(headers["content-type"], "text/css; charset=utf-8");
}

#[tokio::test]
async fn the_map_is_waited_for_and_tells_what_changed_since() {
    let rig = Rig::new().await;
    let empty = rig.fetch("/cluster/map").await.unwrap();
    assert_eq!((&empty["is_full"], &empty["version"]), (&json!(true), &json!(0)));
    let waiting = format!("/cluster/map?since={}&wait=20", empty["cursor"].as_str().unwrap());
    let joined = async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        rig.join(20).await;
    };
    let (heard, ()) = tokio::join!(rig.fetch(&waiting), joined);
    let heard = heard.unwrap();
    assert_eq!(heard["servers"][0]["public_url"], "files.example:80");
    assert_eq!((&heard["is_full"], &heard["volumes"]), (&json!(false), &json!([])));
    let since = heard["cursor"].as_str().unwrap();
    let waiting = format!("/cluster/map?since={since}");
    let (grown, assigned) = tokio::join!(rig.fetch(&waiting), rig.assign(""));
    assigned.unwrap();
    let grown = grown.unwrap();
    assert_eq!(grown["volumes"].as_array().unwrap().len(), 7, "{grown}");
    assert_eq!(grown["volumes"][0]["state"], "writable");
    assert_eq!(grown["servers"][0]["id"], grown["volumes"][0]["members"][0]);
    let idle = format!("/cluster/map?wait=0.01&since={}", grown["cursor"].as_str().unwrap());
    let idle = rig.fetch(&idle).await.unwrap();
    assert_eq!((&idle["volumes"], &idle["cursor"]), (&json!([]), &grown["cursor"]));
    for bad in ["since=x", "since=1&wait=40"] {
        let refused = rig.fetch(&format!("/cluster/map?{bad}")).await.unwrap_err();
        assert_eq!(refused.code, Code::BadRequest, "{bad}");
    }
}

#[tokio::test]
async fn a_server_is_told_by_the_leader_what_of_its_report_cannot_be_right() {
    let strange = Heartbeat { volumes: vec![report(5)], ..heartbeat(1, vec![]) };
    let leader = Rig::new().await;
    let answer = leader.beat(&strange).await.unwrap();
    assert_eq!(answer.contradicted[0].id.as_u32(), 5);
    assert!(answer.contradicted[0].reason.contains("does not have"), "{answer:?}");
    assert!(leader.fetch("/dir/lookup?volumeId=5").await.is_err(), "it is not believed");
    let follower = Rig::with_leadership(false).await;
    assert_eq!(follower.beat(&strange).await.unwrap().contradicted, []);
}

#[tokio::test]
async fn health_says_in_one_answer_who_leads_who_is_there_and_what_is_wrong() {
    let rig = Rig::new().await;
    let health = rig.fetch("/cluster/health").await.unwrap();
    assert_eq!(health["verdict"], "unavailable");
    assert_eq!(health["findings"][0]["code"], "NO_VOLUME_SERVER");
    rig.join(20).await;
    rig.assign("").await.unwrap();
    rig.grown(7).await;
    let health = rig.fetch("/cluster/health").await.unwrap();
    assert_eq!((&health["verdict"], &health["is_leader"]), (&json!("healthy"), &json!(true)));
    assert_eq!(health["servers"][0]["state"], "alive");
    let volumes: u64 =
        health["volumes"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(volumes, 7);
    let events = rig.fetch("/cluster/events?since=1").await.unwrap();
    let kinds: Vec<&str> =
        events["events"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds[..3], ["joined", "grown", "volume_created"], "after leader_changed");
    let cursor = events["cursor"].as_str().unwrap();
    let quiet = rig.fetch(&format!("/cluster/events?wait=0.01&since={cursor}")).await.unwrap();
    assert_eq!(quiet["events"], json!([]));
    let page = rig.fetch("/ui/status.json").await.unwrap();
    assert_eq!(page["events"][0]["kind"], "volume_created");
}
