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
    net::{cluster_identity::ClusterIdentity, peer::PeerClient, resolver::Resolver},
    wire::{
        AssignResponse, Code, DeleteResponse, EPOCH_HEADER, Epoch, EventList, Location, StartScrub,
        StartVacuum, VolumeEpoch, VolumeScrub, VolumeVacuum,
    },
};
use reqwest::{RequestBuilder, Response, header::HeaderMap};
use serde::Deserialize;

use crate::{
    answer::{read_json, send},
    cluster_health::{self, ClusterHealth, ClusterMasters},
    cluster_status::{self, ClusterStatus},
    download::Download,
    error::ClientError,
    location_cache::{Known, LocationCache},
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
/// A master holds a request for events for half a minute.
const EVENTS_LIMIT: Duration = Duration::from_secs(40);
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

/// What a master says of a volume. One of another program's says no epoch.
#[derive(Deserialize)]
struct Lookup {
    locations: Vec<Location>,
    epoch: Option<Epoch>,
}

/// Where to send a request, and which epoch of the volume it is for.
struct Target {
    /// `host:port`.
    server: String,
    /// None if a master was asked just now: what it said is not old.
    epoch: Option<VolumeEpoch>,
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
    /// A client of the cluster with these masters, each `host:port`: all that are behind a name.
    /// Nothing is sent yet.
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
            masters: Masters::new(http.clone(), Resolver::system(), masters)?,
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
        let known = self.recall(volume);
        let known = if let Some(known) = known { known } else { self.ask(volume).await? };
        Ok(known.locations.to_vec())
    }

    fn recall(&self, volume: VolumeId) -> Option<Known> {
        let now = self.inner.clock.boot();
        self.cache(|cache| cache.find(volume, now))
    }

    async fn ask(&self, volume: VolumeId) -> Result<Known, ClientError> {
        let now = self.inner.clock.boot();
        let query = [("volumeId", volume.to_string()), ("verbose", "true".to_owned())];
        let answer: Lookup = self.inner.masters.fetch("/dir/lookup", &query, LOOKUP_LIMIT).await?;
        let known = Known { locations: answer.locations.into(), epoch: answer.epoch };
        if known.locations.is_empty() {
            return Err(ClientError::Unreadable {
                url: self.inner.masters.addresses().join(", "),
                reason: format!("no location of volume {volume} in it"),
            });
        }
        self.cache(|cache| cache.remember(volume, known.clone(), now));
        Ok(known)
    }

    /// Takes note of the epoch that a volume server names in its answer.
    pub(crate) fn hear(&self, answer: &HeaderMap) {
        let served = answer.get(EPOCH_HEADER).and_then(|value| value.to_str().ok());
        if let Some(served) = served.and_then(|text| text.parse().ok()) {
            let now = self.inner.clock.boot();
            self.cache(|cache| cache.hear(served, now));
        }
    }

    /// Sends a request for a needle to one of the volume's servers.
    async fn send_to(
        &self,
        target: &Target,
        url: &str,
        request: RequestBuilder,
    ) -> Result<Response, ClientError> {
        let request = match target.epoch {
            Some(epoch) => request.header(EPOCH_HEADER, epoch.to_string()),
            None => request,
        };
        let response = send(url, request, NEEDLE_LIMIT).await?;
        self.hear(response.headers());
        Ok(response)
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
        let opened = self.at_each_location(fid.volume, |target| async move {
            let url = format!("http://{}/{fid}", target.server);
            let request = self.http().get(&url).header("Accept-Encoding", "gzip");
            let response = self.send_to(&target, &url, request).await?;
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
        let deleted = self.at_each_location(fid.volume, |target| async move {
            let url = format!("http://{}/{fid}", target.server);
            let request = self.http().delete(&url);
            let answer = match self.send_to(&target, &url, request).await {
                Ok(response) => read_json::<DeleteResponse>(&url, response, NEEDLE_LIMIT).await,
                Err(error) => Err(error),
            };
            let outcome_is_unknown = matches!(answer, Err(ClientError::Unreachable { .. }));
            lost.fetch_or(outcome_is_unknown, std::sync::atomic::Ordering::Relaxed);
            answer.map(|answer| answer.size)
        });
        match deleted.await.map_err(|error| missing(fid, error)) {
            Err(ClientError::NotFound(_)) if answer_was_lost.into_inner() => Ok(0),
            outcome => outcome,
        }
    }

    /// Who the masters are, and how the cluster is as they see it.
    pub async fn health(&self) -> Result<ClusterMasters, ClientError> {
        cluster_health::fetch(self).await
    }

    /// How the cluster is as its leader sees it, or another master if none leads; masters that do not
    /// answer are not waited for once that is known.
    pub async fn leader_health(&self) -> Result<ClusterHealth, ClientError> {
        cluster_health::fetch_first(self).await
    }

    /// What a master saw happen after `since`, the cursor of its last answer: waits for the next
    /// event if nothing did, for half a minute at most. Without `since` all that it remembers.
    pub async fn events(&self, since: Option<&str>) -> Result<EventList, ClientError> {
        let query: Vec<_> = since.iter().map(|since| ("since", (*since).to_owned())).collect();
        self.inner.masters.fetch("/cluster/events", &query, EVENTS_LIMIT).await
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
    /// again, and tries those. That what was remembered is old costs no pause.
    async fn at_each_location<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        volume: VolumeId,
        attempt: impl Fn(Target) -> F,
    ) -> Result<T, ClientError> {
        if let Some(known) = self.recall(volume) {
            match try_each(volume, &known, known.epoch, &attempt).await {
                Err(error) if error.is_passing() => self.forget(volume),
                outcome => return outcome,
            }
        }
        let mut backoff = Backoff::default();
        loop {
            let known = self.ask(volume).await?;
            let last_error = match try_each(volume, &known, None, &attempt).await {
                Err(error) if error.is_passing() => Some(error),
                outcome => return outcome,
            };
            self.forget(volume);
            match (backoff.next_pause(rand::random()), last_error) {
                (None, Some(error)) => return Err(error),
                (pause, _) => tokio::time::sleep(pause.unwrap_or_default()).await,
            }
        }
    }
}

/// Tries one server after the other. One that serves another epoch ends it: where the others are
/// may have changed as well.
async fn try_each<T, F: Future<Output = Result<T, ClientError>>>(
    volume: VolumeId,
    known: &Known,
    epoch: Option<Epoch>,
    attempt: &impl Fn(Target) -> F,
) -> Result<T, ClientError> {
    let mut last_error = ClientError::Unreadable {
        url: "/dir/lookup".to_owned(),
        reason: format!("no location of volume {volume} in it"),
    };
    for location in known.locations.iter() {
        let epoch = epoch.map(|epoch| VolumeEpoch { volume, epoch });
        match attempt(Target { server: reachable_url(location), epoch }).await {
            Err(error) if error.code() == Some(Code::OtherEpoch) => return Err(error),
            Err(error) if error.is_passing() => last_error = error,
            outcome => return outcome,
        }
    }
    Err(last_error)
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
