//! Handing out fids: a needle key from the granted range, a random cookie, a writable volume whose
//! turn it is. No round trip to the other masters, no disk, no lock that is held for long; only
//! when nothing is writable does a caller wait, for the layout to grow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dulse_shared::{
    clock::BootTime,
    id::{Cookie, Fid, NeedleKey, VolumeId},
    wire::{Code, Problem},
};
use futures_util::{FutureExt, future::BoxFuture};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    cluster::Cluster,
    executor::{Executor, Progress},
    key_range::{DrawError, KeyRange},
    placement::LocationWish,
    plan::growth::{Need, expected_need_of, need_of},
    volume_layout::{ExpectedBytes, LayoutKey, Place, RoomyVolume, Turn, VolumeLayout, Wanted},
};

/// Who asks while the first volumes of a layout are made waits no longer than this.
const GROWTH_LIMIT: Duration = Duration::from_secs(10);
/// How often somebody who waits for volume servers to join looks again.
const JOIN_PAUSE: Duration = Duration::from_millis(100);

/// Where needle keys come from: ranges granted to this master alone.
pub(crate) trait KeySource: Send + Sync {
    /// The first of `count` keys in sequence, if the range in hand has as many.
    fn take(&self, count: u64) -> Option<u64>;

    /// The same, after another range was granted if need be.
    fn draw(&self, count: u64) -> BoxFuture<'_, Result<u64, DrawError>>;

    /// A volume server has a needle with this key: assign stays above it. `false` if it is too
    /// far above the granted ones to be followed.
    fn keep_above(&self, key: u64) -> bool;
}

impl KeySource for KeyRange {
    fn take(&self, count: u64) -> Option<u64> {
        Self::take(self, count)
    }

    fn draw(&self, count: u64) -> BoxFuture<'_, Result<u64, DrawError>> {
        Self::draw(self, count).boxed()
    }

    fn keep_above(&self, key: u64) -> bool {
        Self::keep_above(self, key)
    }
}

impl From<DrawError> for Problem {
    fn from(error: DrawError) -> Self {
        match error {
            DrawError::Propose(error) => error.into(),
            DrawError::Refused(refusal) => Self::new(Code::NoWritableVolume, refusal.to_string()),
            DrawError::TooMany { .. } => Self::new(Code::BadRequest, error.to_string()),
        }
    }
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct AssignRequest {
    /// How many fids, 1 to [`crate::key_range::MAX_GRANT`].
    pub(crate) count: u64,
    /// In which layout.
    pub(crate) key: LayoutKey,
    /// Where in the cluster.
    pub(crate) wish: LocationWish,
    /// How many volumes the layout gets if it has to grow; the layout knows best if nobody says.
    pub(crate) volumes_to_grow: Option<usize>,
}

/// What was handed out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    /// The first fid.
    pub(crate) fid: Fid,
    /// How many.
    pub(crate) count: u64,
    /// A live member of the volume.
    #[serde(with = "as_value")]
    pub(crate) place: Arc<Place>,
}

/// An assignment goes from master to master as a whole.
mod as_value {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::volume_layout::Place;

    pub(super) fn serialize<S: Serializer>(
        place: &Arc<Place>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Place::serialize(place, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<Place>, D::Error> {
        Place::deserialize(deserializer).map(Arc::new)
    }
}

/// Hands out fids.
pub(crate) struct Assigner {
    cluster: Arc<Cluster>,
    executor: Arc<Executor>,
    keys: Arc<dyn KeySource>,
    /// What was assigned lately.
    expected: ExpectedBytes,
    /// The highest key that was too far away, so that it is logged once.
    far_key: AtomicU64,
}

impl Assigner {
    /// Hands out keys of `keys` in volumes of `cluster`, which `executor` grows.
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        executor: Arc<Executor>,
        keys: Arc<dyn KeySource>,
    ) -> Self {
        let (expected, far_key) = (ExpectedBytes::default(), AtomicU64::new(0));
        Self { cluster, executor, keys, expected, far_key }
    }

    /// Hands out fids in a volume other than those in `avoid`, which just refused a write.
    pub(crate) async fn assign(
        &self,
        request: &AssignRequest,
        avoid: &[VolumeId],
    ) -> Result<Assignment, Problem> {
        self.cluster.log.require_leadership()?;
        let (volume, place) = match self.pick(request, avoid) {
            Pick::Writable(volume, place) => (volume, place),
            Pick::Avoided => return Err(all_refuse()),
            Pick::Nothing => self.wait_for_writable(request, avoid).await?,
        };
        let first = self.take_keys(request.count).await?;
        let fid = Fid { volume, key: first, cookie: Cookie::random() };
        Ok(Assignment { fid, count: request.count, place })
    }

    /// Who makes new volumes.
    pub(crate) fn executor(&self) -> &Executor {
        &self.executor
    }

    /// A volume server has a needle with this key: assign stays above it.
    pub(crate) fn keep_above(&self, key: u64, url: &str) {
        if self.keys.keep_above(key) {
            return;
        }
        let highest = self.far_key.fetch_max(key, Ordering::Relaxed);
        if key > highest {
            tracing::warn!(
                "volume server {url} has a needle with key {key:x}, far above all that were \
                 assigned: assign does not go on above it, so that keys stay small"
            );
        }
    }

    fn pick(&self, request: &AssignRequest, avoid: &[VolumeId]) -> Pick {
        let AssignRequest { key, wish, .. } = request;
        let layouts = self.cluster.layouts();
        let now = self.cluster.clock.boot();
        let Some(layout) = layouts.layouts.get(key) else {
            return Pick::Nothing;
        };
        let stock = layout.writable.stock(wish);
        if need_of(stock) == Need::Soon {
            self.grow_ahead(request);
        }
        let expected_bytes = |volume| self.expected.of(volume, now);
        let wanted = Wanted { avoid, wish, turn: Turn::at(now), expected_bytes: &expected_bytes };
        match layouts.pick_writable(key, &wanted, &mut rand::rng()) {
            Some((volume, place)) => {
                self.expect(request, layout, volume, now);
                Pick::Writable(volume.id, place.clone())
            }
            None if stock.volumes > 0 => Pick::Avoided,
            None => Pick::Nothing,
        }
    }

    /// Counts what will be written to a volume that was picked. If that makes it nearly full, and
    /// others as well, the layout grows.
    fn expect(
        &self,
        request: &AssignRequest,
        layout: &VolumeLayout,
        volume: RoomyVolume,
        now: BootTime,
    ) {
        let bytes = layout.needle_bytes.saturating_mul(request.count);
        self.expected.add(volume.id, bytes, now);
        let expected_bytes = |volume| self.expected.of(volume, now);
        if expected_bytes(volume.id) < volume.until_crowded_bytes {
            return;
        }
        let stock = layout.writable.stock(&request.wish);
        if expected_need_of(&layout.writable, stock, &expected_bytes) == Need::Soon {
            self.grow_ahead(request);
        }
    }

    fn grow_ahead(&self, request: &AssignRequest) {
        self.executor.grow_ahead(&request.key, &request.wish, request.volumes_to_grow);
    }

    async fn wait_for_writable(
        &self,
        request: &AssignRequest,
        avoid: &[VolumeId],
    ) -> Result<(VolumeId, Arc<Place>), Problem> {
        let grown = tokio::time::timeout(GROWTH_LIMIT, self.grow_until_writable(request, avoid));
        grown.await.unwrap_or_else(|_| {
            let message = format!(
                "no writable volumes: new ones were not ready within {GROWTH_LIMIT:?}; try again, \
                 and see the log of the volume servers if it persists"
            );
            Err(Problem::new(Code::NoWritableVolume, message))
        })
    }

    async fn grow_until_writable(
        &self,
        request: &AssignRequest,
        avoid: &[VolumeId],
    ) -> Result<(VolumeId, Arc<Place>), Problem> {
        let AssignRequest { key, wish, volumes_to_grow, .. } = request;
        let mut layouts = self.cluster.watch_layouts();
        let mut has_grown = false;
        loop {
            let current = layouts.borrow_and_update().clone();
            if let Pick::Writable(volume, place) = self.pick(request, avoid) {
                return Ok((volume, place));
            }
            if self.cluster.awaits_servers(&current, key) {
                // Either a server joins, or the time to wait for it passes.
                let _ = tokio::time::timeout(JOIN_PAUSE, layouts.changed()).await;
                continue;
            }
            if has_grown {
                return Err(all_refuse());
            }
            let mut progress = self.executor.grow(key, wish, *volumes_to_grow);
            tokio::select! {
                _ = layouts.changed() => {}
                ended = end_of(&mut progress) => {
                    ended?;
                    self.cluster.catch_up();
                    has_grown = true;
                }
            }
        }
    }

    async fn take_keys(&self, count: u64) -> Result<NeedleKey, Problem> {
        let first = match self.keys.take(count) {
            Some(first) => first,
            None => self.keys.draw(count).await?,
        };
        NeedleKey::new(first).ok_or_else(|| {
            Problem::new(Code::Internal, "needle key 0 was granted, which no needle may have")
        })
    }
}

enum Pick {
    Writable(VolumeId, Arc<Place>),
    /// Only volumes that were to be avoided.
    Avoided,
    Nothing,
}

/// The end of a growth; one whose task is gone was stopped with the process.
async fn end_of(progress: &mut watch::Receiver<Progress>) -> Result<(), Problem> {
    let is_over = |progress: &Progress| *progress != Progress::Running;
    match progress.wait_for(is_over).await.as_deref() {
        Ok(Progress::Ended(result)) => result.clone(),
        Ok(Progress::Running) | Err(_) => {
            let message = "the master is stopping: ask another one, or try again in a moment";
            Err(Problem::new(Code::NotReady, message))
        }
    }
}

fn all_refuse() -> Problem {
    let message = "no writable volumes: those that should be refuse writes; the master's page \
                   says why";
    Problem::new(Code::NoWritableVolume, message)
}
