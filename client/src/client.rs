//! The client: assign, look up, read, delete. Uploading has a file of its own.
//!
//! Masters are asked only where things are; needles go between the caller and volume servers.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dulse_shared::{
    clock::Clock,
    id::{Collection, Fid, NeedleKey, ReplicaPlacement, Ttl, VolumeId},
    net::{cluster_identity::ClusterIdentity, peer::PeerClient},
    wire::{
        AssignResponse, Code, DeleteResponse, Location, LookupResponse, StartScrub, StartVacuum,
        VolumeScrub, VolumeVacuum,
    },
};

use crate::{
    answer::{fetch_json, send},
    cluster_status::{self, ClusterStatus},
    download::Download,
    error::ClientError,
    location_cache::{LocationCache, Locations},
    masters::Masters,
    retry::Backoff,
    volume_work::Work,
};

/// Connecting takes no longer than this; each call's own limit covers the rest.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// A master that has to grow volumes first answers after up to 10 s.
const ASSIGN_LIMIT: Duration = Duration::from_secs(15);
/// A master answers from memory.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);
/// A volume server may have to wait for its disk before it answers.
const NEEDLE_LIMIT: Duration = Duration::from_secs(30);

/// A way to a cluster. Cheap to clone; clones share connections and what they know.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    /// For cluster ports.
    peers: PeerClient,
    masters: Masters,
    /// Held for single operations on the map, never across an await.
    locations: Mutex<LocationCache>,
    clock: Clock,
}

/// What an assign asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AssignOptions {
    /// How many fids, at least 1.
    pub count: u64,
    /// The collection; the default one is unnamed.
    pub collection: Collection,
    /// Copies to keep; the master's default if none.
    pub replication: Option<ReplicaPlacement>,
    /// After what time it expires.
    pub ttl: Ttl,
}

impl Default for AssignOptions {
    fn default() -> Self {
        Self { count: 1, collection: Collection::default(), replication: None, ttl: Ttl::NONE }
    }
}

/// Fids to write to, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assigned {
    /// The first of them.
    pub fid: Fid,
    /// How many there are: their keys follow each other, volume and cookie are the same.
    pub count: u64,
    /// `host:port` of a volume server, within the cluster.
    pub url: String,
    /// The same for clients outside.
    pub public_url: String,
}

impl Assigned {
    /// All fids, in order.
    pub fn fids(&self) -> impl Iterator<Item = Fid> {
        let (first, key) = (self.fid, self.fid.key.as_u64());
        let keys = (0..self.count).map_while(move |n| key.checked_add(n).and_then(NeedleKey::new));
        keys.map(move |key| Fid { key, ..first })
    }
}

impl Client {
    /// A client of the cluster with these masters, each `host:port`. Nothing is sent yet.
    pub fn new<T: AsRef<str>>(masters: &[T]) -> Result<Self, ClientError> {
        Self::with_identity(masters, None)
    }

    /// The same for one that may administer a cluster with a secret.
    pub fn with_identity<T: AsRef<str>>(
        masters: &[T],
        identity: Option<&ClusterIdentity>,
    ) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| ClientError::Setup(error.to_string()))?;
        let inner = Inner {
            masters: Masters::new(http.clone(), masters)?,
            http,
            peers: PeerClient::new(identity),
            locations: Mutex::new(LocationCache::default()),
            clock: Clock::System,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.inner.http
    }

    pub(crate) fn peers(&self) -> &PeerClient {
        &self.inner.peers
    }

    pub(crate) fn masters(&self) -> &Masters {
        &self.inner.masters
    }

    /// Reserves fids. What is never written to costs nothing.
    pub async fn assign(&self, options: &AssignOptions) -> Result<Assigned, ClientError> {
        let mut query = vec![("count", options.count.max(1).to_string())];
        if !options.collection.is_default() {
            query.push(("collection", options.collection.to_string()));
        }
        if let Some(replication) = options.replication {
            query.push(("replication", replication.to_string()));
        }
        if !options.ttl.is_none() {
            query.push(("ttl", options.ttl.to_string()));
        }
        let answer: AssignResponse =
            self.inner.masters.fetch("/dir/assign", &query, ASSIGN_LIMIT).await?;
        read_assigned(answer)
    }

    /// Which volume servers hold a volume, from memory or from a master; never empty.
    pub async fn lookup(&self, volume: VolumeId) -> Result<Vec<Location>, ClientError> {
        self.locations(volume).await.map(|known| known.to_vec())
    }

    async fn locations(&self, volume: VolumeId) -> Result<Locations, ClientError> {
        let now = self.inner.clock.boot();
        if let Some(known) = self.cache(|cache| cache.find(volume, now)) {
            return Ok(known);
        }
        let query = [("volumeId", volume.to_string())];
        let answer: LookupResponse =
            self.inner.masters.fetch("/dir/lookup", &query, LOOKUP_LIMIT).await?;
        let locations = Locations::from(answer.locations);
        if locations.is_empty() {
            return Err(ClientError::Unreadable {
                url: self.inner.masters.addresses().join(", "),
                reason: format!("no location of volume {volume} in it"),
            });
        }
        self.cache(|cache| cache.remember(volume, locations.clone(), now));
        Ok(locations)
    }

    /// Drops what is known about a volume.
    pub(crate) fn forget(&self, volume: VolumeId) {
        self.cache(|cache| cache.forget(volume));
    }

    fn cache<R>(&self, with: impl FnOnce(&mut LocationCache) -> R) -> R {
        let locked = self.inner.locations.lock();
        with(&mut locked.unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens a needle for reading, at the first server that has it.
    ///
    /// Errors: [`ClientError::NotFound`]; the last failure when every location was tried a few
    /// times.
    pub async fn read(&self, fid: Fid) -> Result<Download, ClientError> {
        let opened = self.at_each_location(fid.volume, |server| async move {
            let url = format!("http://{server}/{fid}");
            let request = self.http().get(&url).header("Accept-Encoding", "gzip");
            let response = send(&url, request, NEEDLE_LIMIT).await?;
            Ok(Download::new(fid, url, response))
        });
        opened.await.map_err(|error| missing(fid, error))
    }

    /// Deletes a needle; the bytes its record took, metadata included.
    ///
    /// An answer that gets lost is asked for again. If the needle is gone then, it was deleted:
    /// `Ok(0)`.
    pub async fn delete(&self, fid: Fid) -> Result<u64, ClientError> {
        let answer_was_lost = std::sync::atomic::AtomicBool::new(false);
        let lost = &answer_was_lost;
        let deleted = self.at_each_location(fid.volume, |server| async move {
            let url = format!("http://{server}/{fid}");
            let request = self.http().delete(&url);
            let answer = fetch_json::<DeleteResponse>(&url, request, NEEDLE_LIMIT).await;
            let outcome_is_unknown = matches!(answer, Err(ClientError::Unreachable { .. }));
            lost.fetch_or(outcome_is_unknown, std::sync::atomic::Ordering::Relaxed);
            answer.map(|answer| answer.size)
        });
        match deleted.await.map_err(|error| missing(fid, error)) {
            Err(ClientError::NotFound(_)) if answer_was_lost.into_inner() => Ok(0),
            outcome => outcome,
        }
    }

    /// What the cluster says about itself.
    pub async fn status(&self) -> Result<ClusterStatus, ClientError> {
        cluster_status::fetch(self).await
    }

    /// Has a volume, or all, read again from their disks, by every server that has them.
    pub async fn start_scrub(
        &self,
        volume: Option<VolumeId>,
    ) -> Result<Work<VolumeScrub>, ClientError> {
        Work::start(self, volume, &StartScrub { volume }).await
    }

    /// Has a volume, or all with enough garbage, compacted by every server that has them. Without a
    /// threshold (a part, 0 to 1) each server's own counts.
    pub async fn start_vacuum(
        &self,
        volume: Option<VolumeId>,
        garbage_threshold: Option<f64>,
    ) -> Result<Work<VolumeVacuum>, ClientError> {
        Work::start(self, volume, &StartVacuum { volume, garbage_threshold }).await
    }

    /// Tries the locations of a volume in turn; when none will do, forgets them, asks the masters
    /// again, and tries those.
    async fn at_each_location<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        volume: VolumeId,
        attempt: impl Fn(String) -> F,
    ) -> Result<T, ClientError> {
        let mut backoff = Backoff::default();
        loop {
            let locations = self.locations(volume).await?;
            let mut last_error = None;
            for location in locations.iter() {
                match attempt(reachable_url(location)).await {
                    Err(error) if error.is_passing() => last_error = Some(error),
                    outcome => return outcome,
                }
            }
            self.forget(volume);
            match (backoff.next_pause(rand::random()), last_error) {
                (None, Some(error)) => return Err(error),
                (pause, _) => tokio::time::sleep(pause.unwrap_or_default()).await,
            }
        }
    }
}

fn reachable_url(location: &Location) -> String {
    if location.public_url.is_empty() { location.url.clone() } else { location.public_url.clone() }
}

fn read_assigned(answer: AssignResponse) -> Result<Assigned, ClientError> {
    let fid = answer.fid.parse().map_err(|error| ClientError::Unreadable {
        url: "/dir/assign".to_owned(),
        reason: format!("{:?} is no fid: {error}", answer.fid),
    })?;
    Ok(Assigned {
        fid,
        count: answer.count,
        public_url: reachable_url(&Location {
            url: answer.url.clone(),
            public_url: answer.public_url,
        }),
        url: answer.url,
    })
}

/// A server that holds the volume says 404 of the needle only.
fn missing(fid: Fid, error: ClientError) -> ClientError {
    match error {
        ClientError::Refused { status: 404, code, .. } if code != Some(Code::VolumeNotFound) => {
            ClientError::NotFound(fid)
        }
        other => other,
    }
}
