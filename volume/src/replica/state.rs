//! What a replica knows, and the few changes that all its roles share: a record gets its outcome,
//! the resolved part of the file grows.
//!
//! Invariant: everything before the first entry of `tail` has an outcome; the aborted records
//! there are exactly `aborted`. While the replica is running at most one record of a key is
//! pending, and it is in `pending` as well as in `tail`.

use std::collections::VecDeque;

use dulse_shared::{
    id::{Digest, NeedleKey, ServerId, Ts},
    wire::{Epoch, Incarnation, Standing, VolumeConfig, VolumeState, WriteId},
};

use super::{
    event::{Action, BatchAnswer, Client},
    record::{Placed, Record, Versions},
    rules::{Rule, Rules},
};
use crate::format::Offset;

/// One replica of one volume.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State<V> {
    pub(super) rules: Rules,
    pub(super) server: ServerId,
    pub(super) incarnation: Incarnation,
    pub(super) versions: V,
    pub(super) view: View,
    pub(super) standing: Standing,
    pub(super) has_adopted: bool,
    /// The highest stamp given or seen.
    pub(super) last_ts: Ts,
    /// The highest stamp of a tombstone that a vacuum dropped. In memory only, because every
    /// restart goes through a new epoch, whose fence keeps the late records of the old one out.
    pub(super) ts_floor: Ts,
    /// Where the next record goes.
    pub(super) end: Offset,
    /// The compaction revision of the file.
    pub(super) generation: u16,
    /// The records from the first pending one on.
    pub(super) tail: VecDeque<Entry>,
    /// By key; at most one a key.
    pub(super) pending: Vec<Pending>,
    /// Keys of records appended since the last sync.
    pub(super) unsynced: Vec<NeedleKey>,
    /// Own records that were not sent yet.
    pub(super) unsent: Vec<Record>,
    /// Answers that wait for the sync.
    pub(super) replies: Vec<(ServerId, BatchAnswer)>,
    /// Outcomes of own writes that some member has not confirmed.
    pub(super) untold: Vec<Untold>,
    /// Where the aborted records before `tail` lie, in order.
    pub(super) aborted: Vec<Offset>,
    /// What a decision resolved since the volume was last writable.
    pub(super) reconciled: Vec<WriteId>,
    pub(super) digest: Digest,
}

/// The accepted configuration, as far as it matters here.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct View {
    /// The fence.
    pub(super) epoch: Epoch,
    /// The last epoch that was writable.
    pub(super) last_writable: Epoch,
    pub(super) is_writable: bool,
    /// This replica's slot, if it is a member.
    pub(super) slot: Option<u8>,
    /// The other members.
    pub(super) peers: Vec<ServerId>,
}

impl View {
    pub(super) fn new(config: &VolumeConfig, server: ServerId) -> Self {
        let own = config.members.iter().find(|member| member.server == server);
        let others = config.members.iter().filter(|member| member.server != server);
        Self {
            epoch: config.epoch,
            last_writable: config.last_writable.as_ref().map_or(Epoch(0), |last| last.epoch),
            is_writable: config.state == VolumeState::Writable,
            slot: own.map(|member| member.slot),
            peers: others.map(|member| member.server).collect(),
        }
    }

    /// The set of all other members.
    pub(super) fn all_peers(&self) -> Peers {
        Peers(u32::MAX.checked_shr(32_u32.saturating_sub(self.peer_count())).unwrap_or(0))
    }

    pub(super) fn peer(&self, server: ServerId) -> Peers {
        let at = self.peers.iter().position(|peer| *peer == server);
        let bit = at.and_then(|at| u32::try_from(at).ok()).and_then(|at| 1_u32.checked_shl(at));
        Peers(bit.unwrap_or(0))
    }

    fn peer_count(&self) -> u32 {
        u32::try_from(self.peers.len()).unwrap_or(u32::MAX)
    }

    /// Whether all peers but those of `missing` are enough.
    pub(super) fn are_enough(&self, missing: Peers, rules: Rules) -> bool {
        let stored = self.peer_count().saturating_sub(missing.0.count_ones()).saturating_add(1);
        let is_majority = stored > self.peer_count().saturating_add(1) / 2;
        missing.is_empty() || (is_majority && !rules.keep(Rule::EveryMemberStores))
    }
}

/// A set of peers, by their place in [`View::peers`]: a volume has at most 28 copies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Peers(u32);

impl Peers {
    pub(super) const NONE: Self = Self(0);

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// A record and its outcome.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Entry {
    pub(super) placed: Placed,
    pub(super) fate: Fate,
}

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Fate {
    Pending,
    Committed,
    Aborted,
}

/// A record without outcome, of a replica that is running.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Pending {
    pub(super) placed: Placed,
    pub(super) origin: Origin,
}

/// Who can say what becomes of a pending record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Origin {
    /// This replica coordinates it.
    Own(Own),
    /// That member does.
    Peer(ServerId),
    /// Its epoch is over: a decision will.
    Sealed,
}

/// A write that this replica coordinates.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Own {
    pub(super) client: Client,
    pub(super) is_synced: bool,
    /// Members that have not stored it.
    pub(super) missing: Peers,
    /// Those of them that want to be asked again.
    pub(super) busy: Peers,
}

/// An outcome and who has not confirmed it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Untold {
    pub(super) id: WriteId,
    pub(super) is_commit: bool,
    pub(super) to: Peers,
}

/// What the sidecar says about the protocol. Its other fields are the shell's: the configuration
/// that came with the fence goes with it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Durable {
    /// The highest epoch accepted.
    pub fence: Epoch,
    /// Whether the copy was found stale.
    pub is_stale: bool,
    /// What a decision resolved since the volume was last writable.
    pub reconciled: Vec<WriteId>,
    /// About the file.
    pub file: FileFacts,
    /// About the compacted file that is taking its place, if one is: whichever of the two is found
    /// at the next start has its facts.
    pub next: Option<FileFacts>,
}

/// What a volume file does not say about its records.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FileFacts {
    /// Which file: its compaction revision.
    pub generation: u16,
    /// Every record below has an outcome.
    pub resolved: Offset,
    /// Those of them that were aborted, in order; the others were committed.
    pub aborted: Vec<Offset>,
}

impl<V: Versions> State<V> {
    /// The committed versions.
    pub const fn versions(&self) -> &V {
        &self.versions
    }

    /// The committed versions, for a shell that drops tombstones in a vacuum.
    pub const fn versions_mut(&mut self) -> &mut V {
        &mut self.versions
    }

    /// Whose it is.
    pub const fn server(&self) -> ServerId {
        self.server
    }

    /// Its standing.
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// The highest epoch accepted.
    pub const fn fence(&self) -> Epoch {
        self.view.epoch
    }

    /// Of the committed needles.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether it stores what members and clients send.
    pub(super) fn is_writable(&self) -> bool {
        self.standing == Standing::Running && self.view.is_writable && self.view.slot.is_some()
    }

    /// Whether a write of its own still waits for members, which makes the next batch wait.
    pub fn has_open_batch(&self) -> bool {
        self.pending.iter().any(|pending| matches!(pending.origin, Origin::Own(_)))
    }

    /// What the sidecar would say now.
    pub fn durable(&self) -> Durable {
        Durable {
            fence: self.view.epoch,
            is_stale: self.standing == Standing::Stale,
            reconciled: self.reconciled.clone(),
            file: FileFacts {
                generation: self.generation,
                resolved: self.resolved(),
                aborted: self.durable_aborted(),
            },
            next: None,
        }
    }

    fn durable_aborted(&self) -> Vec<Offset> {
        if self.rules.keep(Rule::AbortedListIsDurable) { self.aborted.clone() } else { Vec::new() }
    }

    /// Where the first record without outcome lies.
    pub(super) fn resolved(&self) -> Offset {
        self.tail.front().map_or(self.end, |entry| entry.placed.at)
    }

    pub(super) fn saw(&mut self, ts: Ts) {
        self.last_ts = self.last_ts.max(ts);
    }

    /// Puts a record at the end of the file.
    pub(super) fn append(&mut self, record: Record, actions: &mut Vec<Action>) -> Placed {
        let placed = Placed { record, at: self.end };
        self.end = placed.end();
        self.saw(record.ts);
        self.tail.push_back(Entry { placed, fate: Fate::Pending });
        actions.push(Action::Append(placed));
        placed
    }

    pub(super) fn pending_of(&self, key: NeedleKey) -> Option<&Pending> {
        let at = self.pending.binary_search_by_key(&key, |pending| pending.placed.record.key);
        at.ok().and_then(|at| self.pending.get(at))
    }

    pub(super) fn pending_mut(&mut self, key: NeedleKey) -> Option<&mut Pending> {
        let at = self.pending.binary_search_by_key(&key, |pending| pending.placed.record.key);
        at.ok().and_then(|at| self.pending.get_mut(at))
    }

    pub(super) fn pend(&mut self, placed: Placed, origin: Origin) {
        let key = placed.record.key;
        let at = self.pending.partition_point(|pending| pending.placed.record.key < key);
        self.pending.insert(at, Pending { placed, origin });
    }

    /// Gives a record of the tail its outcome: a committed one becomes visible if it is the newest.
    pub(super) fn resolve(&mut self, placed: &Placed, fate: Fate, actions: &mut Vec<Action>) {
        let at = self.tail.partition_point(|entry| entry.placed.at < placed.at);
        if let Some(entry) = self.tail.get_mut(at).filter(|entry| entry.placed.at == placed.at) {
            entry.fate = fate;
        }
        if fate == Fate::Committed {
            self.publish(placed);
        }
        self.pending.retain(|pending| pending.placed.at != placed.at);
        self.shorten_tail();
        actions.push(Action::Resolved(placed.record.key));
    }

    /// Makes a record the newest of its key, unless a newer one is.
    pub(super) fn publish(&mut self, placed: &Placed) {
        let newest = self.versions.newest(placed.record.key);
        if newest.is_some_and(|newest| newest.ts > placed.record.ts) {
            return;
        }
        let before = newest.map_or(Digest::EMPTY, |newest| newest.part());
        self.digest = self.digest.minus(before).plus(placed.record.part());
        self.versions.publish(placed);
    }

    fn shorten_tail(&mut self) {
        while let Some(entry) = self.tail.front().filter(|entry| entry.fate != Fate::Pending) {
            if entry.fate == Fate::Aborted {
                self.aborted.push(entry.placed.at);
            }
            self.tail.pop_front();
        }
    }
}
