//! One volume: what readers see of it, and what it says about itself.
//!
//! Readers take the map and the file together under a short lock and then read with no lock held.
//! What changes the files goes through [`super::append`], one thread at a time; a needle enters
//! the map only after its record is durable.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dulse_shared::{
    clock::Clock,
    id::{ClusterId, Collection, NeedleKey, Ts, Ttl, VolumeId},
    wire::{LocalState, ReadOnlyReason, VolumeConfig, VolumeReport, VolumeState},
};

use super::{
    checkpoint::WriteState,
    clock_trust::ClockTrust,
    counters::Counters,
    damage::Damage,
    doubt::Doubt,
    duplicate::Duplicate,
    expiry::Ending,
    failure::Failure,
    foreign_stamp::{self, ForeignStamps},
    metrics::EngineMetrics,
    needle_map::{Entry, NeedleMap},
    scrub::ScrubBook,
    served::Served,
    stamp::StampSource,
    verified::{Place, VerifiedLately},
};
use crate::{
    config::check_volume_size_limit,
    disk::{DataDir, VolumeFile, VolumeName},
    format::{OffsetWidth, RowSize, Superblock, Version},
    writer::Queue,
};

/// What all volumes of a server share.
#[derive(Debug)]
pub struct Shared {
    /// Stamps every write.
    pub stamps: StampSource,
    /// Says whether something may be deleted by the clock.
    pub clock_trust: ClockTrust,
    /// The size at which a volume is full; 0 until a master told it, when nothing is full.
    pub volume_size_limit_bytes: AtomicU64,
    /// The largest needle, in bytes of data: a volume is full once its offsets could not address
    /// one more.
    pub max_needle_bytes: u64,
    /// Histograms of the write path.
    pub metrics: EngineMetrics,
}

/// An open volume.
#[derive(Debug)]
pub struct Volume {
    pub(super) name: VolumeName,
    pub(super) dir: Arc<DataDir>,
    pub(super) cluster: ClusterId,
    /// What the file said of itself when it was opened; its compaction revision is that of then.
    pub(super) superblock: Superblock,
    pub(super) width: OffsetWidth,
    pub(super) shared: Arc<Shared>,
    pub(super) served: Served,
    pub(super) snapshot: RwLock<Snapshot>,
    pub(super) counters: Mutex<Counters>,
    pub(super) dat_len: AtomicU64,
    /// What of the file does not verify, or is missing.
    pub(super) damage: Option<Damage>,
    /// Needles of records that verify and that nothing vouches for.
    pub(super) doubt: Doubt,
    /// Whether the server has another file with its id.
    pub(super) duplicate: Duplicate,
    /// Whether its log says that stamps of another program are not believed.
    pub(super) foreign_stamps: ForeignStamps,
    /// Held by the one compaction at a time.
    pub(super) compaction: Mutex<()>,
    /// Whether its time is over, or it was deleted.
    pub(super) ending: Ending,
    /// Whether a write or sync failed, and which; nothing is written any more.
    pub(super) failure: Failure,
    /// Held by whoever changes the files.
    pub(super) write_state: Mutex<WriteState>,
    /// What waits to be written.
    pub(crate) queue: Queue,
    /// Large needles that were read whole lately.
    pub(crate) verified: VerifiedLately,
    /// What the last scrub found, and which needles are bad.
    pub(super) scrubbed: ScrubBook,
}

/// Map and file as one: compaction replaces both together.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Counts the compactions so far.
    pub(super) revision: u16,
    /// Records from here on were written by dulse: their padding is checked.
    pub(super) own_from: u64,
    pub(super) map: NeedleMap,
    pub(super) dat: Arc<dyn VolumeFile>,
}

/// Where a live needle's record is, and the file to read it from.
#[derive(Clone, Debug)]
pub struct Located {
    /// The volume file.
    pub dat: Arc<dyn VolumeFile>,
    /// Which one: offsets mean nothing in another.
    pub revision: u16,
    /// Byte position of the record.
    pub offset: u64,
    /// Body length by the index; 0 is an empty needle.
    pub size: u32,
    /// Whether the record's padding is checked.
    pub is_own: bool,
}

impl Located {
    /// What its record is known by, whichever files come and go.
    pub fn place(&self) -> Place {
        Place { revision: self.revision, offset: self.offset }
    }
}

/// Why a volume takes no needles at present.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The size limit is reached.
    #[error("volume {0} is full: ask the master for another fid")]
    Full(VolumeId),
    /// Its file is as long as its index can address: there is no place for a tombstone.
    #[error(
        "volume {0} takes not even deletes: its file is as long as its index can address; vacuum it \
         first (dulse volume vacuum --volume {0} --garbage-threshold 0)"
    )]
    AtItsEnd(VolumeId),
    /// Its disk is short of room.
    #[error(
        "the disk of volume {0} is short of room: free space or ask the master for another fid"
    )]
    NoRoom(VolumeId),
    /// It is read-only.
    #[error("volume {id} is read-only: {reason}")]
    ReadOnly {
        /// The volume.
        id: VolumeId,
        /// Why.
        reason: &'static str,
    },
}

impl Volume {
    /// Its number.
    pub fn id(&self) -> VolumeId {
        self.name.id
    }

    /// The cluster that it belongs to.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Its collection.
    pub fn collection(&self) -> &Collection {
        &self.name.collection
    }

    /// The ttl that its needles take unless they bring their own.
    pub fn ttl(&self) -> Ttl {
        self.superblock.ttl
    }

    /// The format of its records.
    pub fn version(&self) -> Version {
        self.superblock.version
    }

    /// How wide its index keeps offsets.
    pub fn offset_width(&self) -> OffsetWidth {
        self.width
    }

    /// The directory it lies in.
    pub fn dir(&self) -> &DataDir {
        &self.dir
    }

    /// The configuration that it serves.
    pub fn config(&self) -> Arc<VolumeConfig> {
        self.served.config()
    }

    /// `VOLUME:EPOCH` of that configuration.
    pub(crate) fn epoch_text(&self) -> Bytes {
        self.served.epoch_text()
    }

    /// Whether the stamp of a record here is one to rise above. The log hears of the first that is
    /// not.
    pub(super) fn believes(&self, ts: Ts, is_own: bool) -> bool {
        let counts = foreign_stamp::counts(ts, is_own, self.clock().wall_ns());
        self.foreign_stamps.ignored(self.id(), u64::from(!counts));
        counts
    }

    /// The clock that decides expiry.
    pub fn clock(&self) -> &Clock {
        self.shared.stamps.clock()
    }

    /// Seconds since 1970, if that may be believed for deleting what lives as long as `lifetime`.
    pub(super) fn secs_to_delete_by(&self, lifetime: Duration) -> Option<u64> {
        self.shared.clock_trust.secs_to_delete_by(lifetime)
    }

    /// The histograms that its writes go into.
    pub(crate) fn metrics(&self) -> &EngineMetrics {
        &self.shared.metrics
    }

    /// Where a live needle is; `None` if it is missing or deleted.
    pub fn locate(&self, key: NeedleKey) -> Option<Located> {
        let located = self.locate_record(key);
        located.and_then(|(record, size)| (size != RowSize::Tombstone).then_some(record))
    }

    /// Where the newest record of a needle is, be it a tombstone, and what the index says of its size.
    pub(super) fn locate_record(&self, key: NeedleKey) -> Option<(Located, RowSize)> {
        let snapshot = self.snapshot();
        let Entry { offset, size } = snapshot.map.lookup(key)?;
        let offset = offset.as_bytes();
        let body = match size {
            RowSize::Live(size) => size,
            RowSize::Tombstone => 0,
        };
        let is_own = offset >= snapshot.own_from;
        let (dat, revision) = (snapshot.dat.clone(), snapshot.revision);
        Some((Located { dat, revision, offset, size: body, is_own }, size))
    }

    /// Whether a record behind a damaged one may be a version of this needle, or data of another.
    pub fn is_doubtful(&self, key: NeedleKey) -> bool {
        self.doubt.covers(key)
    }

    /// What scrubs found out about it.
    pub fn scrubbed(&self) -> &ScrubBook {
        &self.scrubbed
    }

    /// Keys in the map and the highest of them.
    pub fn keys(&self) -> (usize, u64) {
        let snapshot = self.snapshot();
        (snapshot.map.len(), snapshot.map.max_key())
    }

    /// The highest key below `bound`; 0 if there is none.
    pub fn max_key_below(&self, bound: u64) -> u64 {
        self.snapshot().map.max_key_below(bound)
    }

    /// What the server says of it in heartbeats and on its pages.
    pub fn report(&self) -> VolumeReport {
        // Both change under the lock of the counters: read under it, they add up.
        let (counters, size_bytes) = {
            let counters = self.counters();
            (*counters, self.dat_len.load(Ordering::Acquire))
        };
        let framing = self.superblock.first_needle_offset().as_bytes();
        VolumeReport {
            id: self.id(),
            collection: self.collection().clone(),
            placement: self.superblock.placement,
            ttl: self.ttl(),
            disk: self.dir.disk().clone(),
            device: self.dir.device(),
            epoch: self.config().epoch,
            size_bytes,
            live_needles: counters.live_needles,
            live_bytes: counters.live_bytes,
            garbage_needles: counters.garbage_needles,
            garbage_bytes: size_bytes.saturating_sub(framing).saturating_sub(counters.live_bytes),
            compaction_revision: self.snapshot().revision,
            modified_at_secs: counters.modified_at_secs,
            local: self.local_state(),
            trouble: self.trouble(),
        }
    }

    /// What this server knows by itself about writing to it.
    pub fn local_state(&self) -> LocalState {
        if self.failure.is_set() || self.dir.failure().is_some() {
            LocalState::Failed
        } else if self.damage.is_some() {
            LocalState::Damaged
        } else if self.duplicate.is_set() {
            LocalState::Duplicate
        } else if self.ending.is_durable() {
            LocalState::Expired
        } else if self.version() != crate::format::CURRENT_VERSION {
            LocalState::OldFormat
        } else if self.scrubbed.has_bad_needles() {
            LocalState::Corrupt
        } else if self.is_full() {
            LocalState::Full
        } else if self.dir.is_low() {
            LocalState::LowSpace
        } else {
            LocalState::Ready
        }
    }

    /// Whether deletes are refused, and why.
    pub fn refuses_deletes(&self) -> Result<(), Refusal> {
        let read_only = |reason| Err(Refusal::ReadOnly { id: self.id(), reason });
        if self.is_withdrawn() {
            return read_only("it was deleted");
        }
        if self.ending.is_over() {
            return read_only("it has expired; ask the master for another fid");
        }
        match self.config().state {
            VolumeState::Writable => {}
            VolumeState::ReadOnly { reason: ReadOnlyReason::MissingCopies } => {
                return read_only("it has fewer copies than its replica placement asks for");
            }
            VolumeState::ReadOnly { reason: ReadOnlyReason::Resolving } => {
                return read_only("its last writes are being resolved");
            }
            VolumeState::Repairing { .. } => return read_only("a copy is being made"),
        }
        match self.local_state() {
            LocalState::Failed => {
                read_only("its disk failed; see /status for the reason, then restart the server")
            }
            LocalState::Damaged => read_only("a part of its file does not verify"),
            LocalState::Duplicate => {
                read_only("its server has another file with its id; see /status for both")
            }
            LocalState::OldFormat => read_only("its format is older than the one that is written"),
            LocalState::Expired => read_only("it has expired; ask the master for another fid"),
            LocalState::Corrupt | LocalState::Full | LocalState::LowSpace | LocalState::Ready => {
                Ok(())
            }
        }
    }

    /// Whether new needles and overwrites are refused, and why.
    pub fn refuses_puts(&self) -> Result<(), Refusal> {
        self.refuses_deletes()?;
        if self.is_full() {
            return Err(Refusal::Full(self.id()));
        }
        if self.dir.is_exhausted() {
            return Err(Refusal::NoRoom(self.id()));
        }
        Ok(())
    }

    /// What failed, is damaged or is there twice, if something is.
    fn trouble(&self) -> Option<String> {
        let failure = self.failure.sentence().or_else(|| self.dir.failure().map(str::to_owned));
        failure.or_else(|| {
            let damage = self.damage.as_ref().map(Damage::to_string);
            let found: Vec<String> = damage.into_iter().chain(self.duplicate.sentence()).collect();
            (!found.is_empty()).then(|| found.join("; "))
        })
    }

    /// Nothing is written to it any more, because `action` failed. The first reason stays.
    pub(crate) fn mark_failed(&self, action: &str, error: &dyn fmt::Display) {
        self.failure.set(action, error, self.clock().wall_secs());
    }

    fn is_full(&self) -> bool {
        let dat_len = self.dat_len.load(Ordering::Acquire);
        let limit = self.shared.volume_size_limit_bytes.load(Ordering::Relaxed);
        let is_past_limit = limit != 0 && dat_len >= limit;
        let needle = self.shared.max_needle_bytes;
        is_past_limit || check_volume_size_limit(dat_len, needle, self.is_large()).is_err()
    }

    fn is_large(&self) -> bool {
        self.width == OffsetWidth::Five
    }

    pub(super) fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn entry(&self, key: NeedleKey) -> Option<Entry> {
        self.snapshot().map.lookup(key)
    }

    pub(super) fn snapshot(&self) -> RwLockReadGuard<'_, Snapshot> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The volume file, for whoever holds the write state: nobody else replaces it.
    pub(super) fn dat(&self) -> Arc<dyn VolumeFile> {
        self.snapshot().dat.clone()
    }

    pub(super) fn lock_writes(&self) -> MutexGuard<'_, WriteState> {
        self.write_state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
