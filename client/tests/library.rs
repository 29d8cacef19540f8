//! The library against a master and volume server in the same process that do as they are told:
//! refuse, disappear, damage what they send.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path as Segment, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use dulse_client::{
    AssignOptions, Client, ClientError, MAX_NEEDLE_BYTES, Source, UploadOptions,
    command::{self, GetRequest, Outcome, PutRequest},
};
use dulse_shared::{
    clock::Clock,
    id::Fid,
    net::{
        metrics::{Metrics, RequestMetrics},
        server::{bind, spawn_server},
        tasks::Tasks,
    },
    wire::{
        AssignResponse, Code, DeleteResponse, EPOCH_HEADER, Location, LookupResponse, Problem,
        UploadResponse,
    },
};
use serde_json::Value;

#[derive(Default)]
struct Script {
    own_address: String,
    next_key: u64,
    needles: HashMap<String, Needle>,
    /// What happened, as `verb path`.
    log: Vec<String>,
    /// Refusals of the next PUTs.
    refuse_puts: VecDeque<Code>,
    /// Refusals of the next assigns.
    refuse_assigns: VecDeque<Code>,
    /// What the next assigns give as server instead of this one.
    assign_to: VecDeque<String>,
    /// What the next lookups give instead of this server.
    lookups: VecDeque<Vec<String>>,
    /// The epoch of volume 7 that lookups tell, and the one that is served; 0 is none.
    told_epoch: u64,
    served_epoch: u64,
}

#[derive(Clone)]
struct Needle {
    body: Bytes,
    headers: HeaderMap,
}

#[derive(Clone)]
struct Cluster {
    script: Arc<Mutex<Script>>,
    tasks: Tasks,
}

impl Cluster {
    async fn start() -> Self {
        let cluster = Self { script: Arc::default(), tasks: Tasks::new() };
        let listener = bind("127.0.0.1", 0, "--port").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        cluster.script().own_address = address;
        let router = Router::new()
            .route("/dir/assign", get(assign))
            .route("/dir/lookup", get(lookup))
            .route("/{fid}", get(read).put(write).delete(remove))
            .layer(DefaultBodyLimit::disable())
            .with_state(cluster.clone());
        let metrics = RequestMetrics::register(&Metrics::default(), "fake");
        spawn_server("fake", listener, router, metrics, Clock::System, &cluster.tasks);
        cluster
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    fn client(&self) -> Client {
        Client::new(&[self.script().own_address.clone()]).unwrap()
    }

    fn count(&self, what: &str) -> usize {
        let script = self.script();
        script.log.iter().filter(|line| line.starts_with(what)).count()
    }

    /// Stores a needle behind the client's back, with these headers on every read.
    fn store(&self, fid: &str, body: &[u8], headers: &[(header::HeaderName, &str)]) -> Fid {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let needle = Needle { body: Bytes::copy_from_slice(body), headers: all };
        self.script().needles.insert(fid.to_owned(), needle);
        fid.parse().unwrap()
    }
}

async fn assign(State(cluster): State<Cluster>) -> Result<Json<AssignResponse>, Problem> {
    let mut script = cluster.script();
    script.log.push("assign".to_owned());
    if let Some(code) = script.refuse_assigns.pop_front() {
        return Err(Problem::new(code, "as scripted"));
    }
    script.next_key += 1;
    let own = script.own_address.clone();
    let url = script.assign_to.pop_front().unwrap_or(own);
    Ok(Json(AssignResponse {
        fid: format!("7,{:02x}0000abcd", script.next_key),
        public_url: url.clone(),
        url,
        count: 1,
    }))
}

/// With the epoch, as `verbose=true` asks for it.
async fn lookup(State(cluster): State<Cluster>) -> Json<Value> {
    let mut script = cluster.script();
    script.log.push("lookup".to_owned());
    let own = vec![script.own_address.clone()];
    let urls = script.lookups.pop_front().unwrap_or(own);
    let location = |url: String| Location { public_url: url.clone(), url };
    let answer = LookupResponse {
        volume_id: "7".to_owned(),
        locations: urls.into_iter().map(location).collect(),
    };
    let mut answer = serde_json::to_value(answer).unwrap();
    if script.told_epoch > 0 {
        answer["epoch"] = script.told_epoch.into();
    }
    Json(answer)
}

/// A server of an epoch names it, and refuses who asks for another one.
fn with_epoch(
    script: &Script,
    request: &HeaderMap,
    mut answer: Response,
) -> Result<Response, Problem> {
    if script.served_epoch == 0 {
        return Ok(answer);
    }
    let served = HeaderValue::from_str(&format!("7:{}", script.served_epoch)).unwrap();
    if request.get(EPOCH_HEADER).is_some_and(|asked| asked != served) {
        return Err(Problem::new(Code::OtherEpoch, "another epoch"));
    }
    answer.headers_mut().insert(EPOCH_HEADER, served);
    Ok(answer)
}

async fn write(
    State(cluster): State<Cluster>,
    Segment(fid): Segment<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let mut script = cluster.script();
    script.log.push(format!("PUT {fid}"));
    if let Some(code) = script.refuse_puts.pop_front() {
        return Err(Problem::new(code, "as scripted"));
    }
    let etag = format!("{:08x}", crc32c::crc32c(&body));
    let answer =
        UploadResponse { size: body.len() as u64, etag: etag.clone(), ..UploadResponse::default() };
    let mut kept = HeaderMap::new();
    if let Some(name) = headers.get(header::CONTENT_DISPOSITION) {
        kept.insert(header::CONTENT_DISPOSITION, name.clone());
    }
    let etag = HeaderValue::from_str(&format!("\"{etag}\"")).unwrap();
    kept.insert(header::ETAG, etag);
    let needle = Needle { body, headers: kept };
    script.needles.insert(fid, needle);
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

async fn read(
    State(cluster): State<Cluster>,
    Segment(fid): Segment<String>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let mut script = cluster.script();
    script.log.push(format!("GET {fid}"));
    let needle = script.needles.get(&fid).cloned();
    let needle = needle.ok_or_else(|| Problem::new(Code::NotFound, "no such needle"))?;
    with_epoch(&script, &request, (needle.headers, needle.body).into_response())
}

async fn remove(
    State(cluster): State<Cluster>,
    Segment(fid): Segment<String>,
) -> Result<Response, Problem> {
    let mut script = cluster.script();
    script.log.push(format!("DELETE {fid}"));
    let needle = script.needles.remove(&fid);
    let needle = needle.ok_or_else(|| Problem::new(Code::NotFound, "no such needle"))?;
    let size = needle.body.len() as u64 + 5;
    Ok((StatusCode::ACCEPTED, Json(DeleteResponse { size })).into_response())
}

/// An address that refuses connections.
async fn dead_address() -> String {
    let listener = bind("127.0.0.1", 0, "--port").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A server that answers every request with these bytes and hangs up.
async fn blunt_server(tasks: &Tasks, answer: &'static [u8]) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = bind("127.0.0.1", 0, "--port").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tasks.spawn_contained(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
        }
    });
    address
}

async fn upload(client: &Client, bytes: &'static str) -> Result<Fid, ClientError> {
    let (source, options) = (Source::from(bytes), UploadOptions::default());
    Ok(client.upload(&source, &options).await?.fid)
}

async fn read_all(client: &Client, fid: Fid) -> Result<Bytes, ClientError> {
    client.read(fid).await?.into_bytes(1 << 20).await
}

#[tokio::test]
async fn a_changed_epoch_is_learned_from_the_server_and_asked_for_once() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    (cluster.script().told_epoch, cluster.script().served_epoch) = (1, 1);
    let fid = cluster.store("7,010000abcd", b"hello", &[]);
    for _ in 0..3 {
        read_all(&client, fid).await.unwrap();
    }
    assert_eq!((cluster.count("lookup"), cluster.count("GET")), (1, 3), "nothing changes");
    (cluster.script().told_epoch, cluster.script().served_epoch) = (2, 2);
    for _ in 0..3 {
        read_all(&client, fid).await.unwrap();
    }
    assert_eq!((cluster.count("lookup"), cluster.count("GET")), (2, 7), "one was refused");
    // A server that is behind what the masters say is read from all the same.
    cluster.script().told_epoch = 3;
    client.delete("7,99000000ab".parse().unwrap()).await.unwrap_err();
    cluster.script().served_epoch = 1;
    read_all(&client, fid).await.unwrap();
}

#[tokio::test]
async fn what_is_uploaded_is_read_back_and_gone_after_a_delete() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let options =
        UploadOptions { name: Some("grüße.txt".to_owned()), ..UploadOptions::default() };
    let stored = client.upload(&Source::from("hello"), &options).await.unwrap();
    assert_eq!(stored.size, 5);
    let download = client.read(stored.fid).await.unwrap();
    assert_eq!(download.info().name.as_deref(), Some("grüße.txt"));
    assert_eq!(download.into_bytes(5).await.unwrap(), "hello");
    assert_eq!(client.delete(stored.fid).await.unwrap(), 10);
    let error = client.delete(stored.fid).await.unwrap_err();
    assert!(matches!(error, ClientError::NotFound(_)), "{error}");
    assert!(client.read(stored.fid).await.is_err());
}

#[tokio::test]
async fn a_volume_that_cannot_take_it_is_left_for_another_fid() {
    let cluster = Cluster::start().await;
    let refusals = [Code::VolumeFull, Code::VolumeReadOnly, Code::CookieMismatch];
    cluster.script().refuse_puts = refusals.into();
    let fid = upload(&cluster.client(), "x").await.unwrap();
    assert_eq!(fid.to_string(), "7,040000abcd");
    assert_eq!(cluster.count("PUT"), 4);
}

#[tokio::test]
async fn a_server_that_is_gone_is_left_for_another_fid() {
    let cluster = Cluster::start().await;
    let hangs_up = blunt_server(&cluster.tasks, b"").await;
    cluster.script().assign_to = [dead_address().await, hangs_up].into();
    let fid = upload(&cluster.client(), "x").await.unwrap();
    assert_eq!(fid.to_string(), "7,030000abcd");
}

#[tokio::test]
async fn attempts_are_bounded_and_a_clients_mistake_is_not_repeated() {
    let cluster = Cluster::start().await;
    cluster.script().refuse_puts = vec![Code::Overloaded; 100].into();
    let error = upload(&cluster.client(), "x").await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Overloaded));
    assert_eq!(cluster.count("PUT"), 5);
    cluster.script().refuse_puts = [Code::BadRequest].into();
    let error = upload(&cluster.client(), "x").await.unwrap_err();
    assert!(error.to_string().contains("as scripted"), "{error}");
    assert_eq!(cluster.count("PUT"), 6);
}

#[tokio::test]
async fn a_master_without_room_is_asked_once_and_one_without_leader_again() {
    let cluster = Cluster::start().await;
    cluster.script().refuse_assigns = [Code::NoWritableVolume].into();
    let error = upload(&cluster.client(), "x").await.unwrap_err();
    assert_eq!(error.code(), Some(Code::NoWritableVolume));
    assert_eq!(cluster.count("assign"), 1);
    cluster.script().refuse_assigns = [Code::NoLeader, Code::NoLeader].into();
    upload(&cluster.client(), "x").await.unwrap();
    assert_eq!(cluster.count("assign"), 4);
}

#[tokio::test]
async fn masters_are_tried_in_turn_and_the_one_that_answers_is_kept() {
    let cluster = Cluster::start().await;
    let live = cluster.script().own_address.clone();
    let client = Client::new(&[dead_address().await, live]).unwrap();
    upload(&client, "x").await.unwrap();
    let nobody = Client::new(&[dead_address().await]).unwrap();
    let error = upload(&nobody, "x").await.unwrap_err();
    assert!(matches!(error, ClientError::NoMasterAnswers { .. }), "{error}");
}

#[tokio::test]
async fn a_needle_is_read_from_the_location_that_is_there() {
    let cluster = Cluster::start().await;
    let fid = cluster.store("7,010000abcd", b"hello", &[]);
    let live = cluster.script().own_address.clone();
    cluster.script().lookups = [vec![dead_address().await, live]].into();
    let client = cluster.client();
    assert_eq!(read_all(&client, fid).await.unwrap(), "hello");
    assert_eq!(read_all(&client, fid).await.unwrap(), "hello");
    assert_eq!(cluster.count("lookup"), 1, "locations are remembered");
}

#[tokio::test]
async fn stale_locations_are_forgotten_and_asked_for_again() {
    let cluster = Cluster::start().await;
    let fid = cluster.store("7,010000abcd", b"hello", &[]);
    cluster.script().lookups = [vec![dead_address().await]].into();
    assert_eq!(read_all(&cluster.client(), fid).await.unwrap(), "hello");
    assert_eq!(cluster.count("lookup"), 2);
}

#[tokio::test]
async fn a_delete_whose_answer_was_lost_counts_as_done() {
    let cluster = Cluster::start().await;
    let fid: Fid = "7,010000abcd".parse().unwrap();
    let hangs_up = blunt_server(&cluster.tasks, b"").await;
    let live = cluster.script().own_address.clone();
    cluster.script().lookups = [vec![hangs_up, live]].into();
    assert_eq!(cluster.client().delete(fid).await.unwrap(), 0);
}

#[tokio::test]
async fn damage_on_the_way_is_noticed() {
    let cluster = Cluster::start().await;
    let wrong = [(header::ETAG, "\"00000001\"")];
    let fid = cluster.store("7,010000abcd", b"hello", &wrong);
    let error = read_all(&cluster.client(), fid).await.unwrap_err();
    assert!(matches!(error, ClientError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_compressed_needle_is_verified_packed_and_given_unpacked() {
    use std::io::Write;
    let cluster = Cluster::start().await;
    let text = "all the same ".repeat(50_000);
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(text.as_bytes()).unwrap();
    let packed = packer.finish().unwrap();
    let etag = format!("\"{:08x}\"", crc32c::crc32c(&packed));
    let headers = [(header::CONTENT_ENCODING, "gzip"), (header::ETAG, &etag)];
    let fid = cluster.store("7,010000abcd", &packed, &headers);
    assert_eq!(read_all(&cluster.client(), fid).await.unwrap(), text);

    let half = &packed[..packed.len() / 2];
    let etag = format!("\"{:08x}\"", crc32c::crc32c(half));
    let headers = [(header::CONTENT_ENCODING, "gzip"), (header::ETAG, &etag)];
    let fid = cluster.store("7,020000abcd", half, &headers);
    let error = read_all(&cluster.client(), fid).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreadable { .. }), "{error}");
}

#[tokio::test]
async fn more_than_was_asked_for_is_not_held_in_memory() {
    let cluster = Cluster::start().await;
    let fid = cluster.store("7,010000abcd", b"hello", &[]);
    let download = cluster.client().read(fid).await.unwrap();
    let error = download.into_bytes(4).await.unwrap_err();
    assert!(matches!(error, ClientError::OverLimit { .. }), "{error}");
}

#[tokio::test]
async fn what_no_needle_holds_is_refused_before_anything_is_sent() {
    let cluster = Cluster::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(MAX_NEEDLE_BYTES + 1).unwrap();
    let source = Source::open(file.path()).unwrap();
    let upload = cluster.client().upload(&source, &UploadOptions::default()).await;
    let error = upload.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { .. }), "{error}");
    assert!(cluster.script().log.is_empty());
}

#[tokio::test]
async fn calls_can_run_on_any_thread() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let source = Source::from("x");
    let options = UploadOptions::default();
    let fid = is_send(client.upload(&source, &options)).await.unwrap().fid;
    let download = is_send(client.read(fid)).await.unwrap();
    is_send(download.into_bytes(1)).await.unwrap();
    is_send(client.delete(fid)).await.unwrap();
}

fn request_into(fid: Fid, output: &Path) -> GetRequest {
    let output = output.to_owned();
    GetRequest { fid, output }
}

#[tokio::test]
async fn a_file_is_put_and_got_and_the_copy_is_an_ordinary_file() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let dir = tempfile::tempdir().unwrap();
    let (original, copy) = (dir.path().join("a"), dir.path().join("b"));
    let content: Vec<u8> = (0..700_000_u32).map(|n| (n % 253) as u8).collect();
    std::fs::write(&original, &content).unwrap();
    let request = PutRequest {
        files: vec![dir.path().join("missing"), original.clone()],
        name: None,
        assign: AssignOptions::default(),
        json: false,
    };
    assert_eq!(command::put(&client, &request).await, Outcome::Partial);
    let fid = "7,010000abcd".parse().unwrap();
    std::fs::write(&copy, "an older file").unwrap();
    command::get(&client, &request_into(fid, &copy)).await.unwrap();
    assert_eq!(std::fs::read(&copy).unwrap(), content);
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&copy), mode(&original));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn a_transfer_that_breaks_off_leaves_the_old_file_and_nothing_else() {
    let cluster = Cluster::start().await;
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let breaks_off = blunt_server(&cluster.tasks, half).await;
    cluster.script().lookups = vec![vec![breaks_off]; 100].into();
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    std::fs::write(&copy, "the old file").unwrap();
    let fid = "7,010000abcd".parse().unwrap();
    let got = command::get(&cluster.client(), &request_into(fid, &copy)).await;
    let error = got.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), "the old file");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
