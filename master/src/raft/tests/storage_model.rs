//! What the masters' storage has to hold, and random changes such as Raft makes to it.

use std::collections::BTreeMap;

use dulse_shared::{id::ServerId, wire::Incarnation};
use openraft::entry::RaftEntry;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::grant;
use crate::{
    cluster_state::{ClusterState, Command},
    raft::{
        database::{Change, Contents},
        format::SnapshotJson,
        type_config::{
            Entry, LeaderId, LogId, Membership, NodeId, Payload, SnapshotMeta, StoredMembership,
            Vote,
        },
    },
};

/// What a database holds, or has to.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Kept {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) log: BTreeMap<u64, Entry>,
    pub(super) snapshot: Option<(Option<LogId>, ClusterState)>,
}

impl From<Contents> for Kept {
    fn from(contents: Contents) -> Self {
        Self {
            vote: contents.vote,
            committed: contents.committed,
            purged: contents.purged,
            log: contents.log,
            snapshot: contents.snapshot.map(|(meta, state)| (meta.last_log_id, state)),
        }
    }
}

impl Kept {
    fn last(&self) -> Option<LogId> {
        let last = self.log.last_key_value();
        last.map(|(_, entry)| entry.log_id).max(self.purged)
    }

    fn next_index(&self) -> u64 {
        self.last().map_or(0, |last| last.index + 1)
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Append(entries) => {
                let entries = entries.iter().map(|entry| (entry.log_id.index, entry.clone()));
                self.log.extend(entries);
            }
            Change::Truncate(last) => {
                self.log.retain(|index, _| last.is_some_and(|last| *index <= last));
            }
            Change::Purge(upto) => {
                self.log.retain(|index, _| *index > upto.index);
                self.purged = Some(*upto);
            }
            Change::Vote(vote) => self.vote = Some(*vote),
            Change::Committed(at) => self.committed = *at,
            Change::Snapshot(snapshot) => {
                let at = snapshot.last_applied.map(LogId::from);
                // An older one does not take the place of a newer one.
                if self.snapshot.as_ref().is_none_or(|(held, _)| *held <= at) {
                    self.snapshot = Some((at, snapshot.state.clone()));
                }
            }
        }
    }

    pub(super) fn has_hole(&self) -> bool {
        let first = self.purged.map_or(0, |purged| purged.index + 1);
        self.log.keys().zip(first..).any(|(index, expected)| *index != expected)
    }
}

/// Draws changes.
pub(super) struct Changes {
    random: SmallRng,
    term: u64,
}

impl Changes {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: SmallRng::seed_from_u64(seed), term: 1 }
    }

    /// Some changes to what is `there`, and what will be there then.
    pub(super) fn some(&mut self, there: &Kept) -> (Vec<Change>, Kept) {
        let mut after = there.clone();
        let mut changes = Vec::new();
        for _ in 0..self.random.random_range(1..5) {
            for change in self.some_change(&after) {
                after.apply(&change);
                changes.push(change);
            }
        }
        (changes, after)
    }

    /// Something that Raft does to what is `there`.
    fn some_change(&mut self, there: &Kept) -> Vec<Change> {
        match self.random.random_range(0..14) {
            0..6 => vec![Change::Append(self.entries(there))],
            6 => vec![self.truncation(there)],
            7 => self.some_entry(there).map(Change::Purge).into_iter().collect(),
            8 | 9 => vec![Change::Vote(self.vote())],
            10 | 11 => vec![Change::Committed(there.last())],
            12 => vec![self.snapshot(there.last())],
            _ => self.installation(there),
        }
    }

    fn entries(&mut self, there: &Kept) -> Vec<Entry> {
        self.term += u64::from(self.random.random_bool(0.2));
        let first = there.next_index();
        let count = self.random.random_range(1..6);
        (first..first + count).map(|index| self.entry(index)).collect()
    }

    fn entry(&mut self, index: u64) -> Entry {
        let payload = match self.random.random_range(0..8) {
            0 => Payload::Blank,
            1 => Payload::Normal(self.large_command()),
            2 => Payload::Membership(membership(self.random.random_range(1..4))),
            _ => Payload::Normal(grant(self.random.random())),
        };
        Entry::new(LogId::new_term_index(self.term, index), payload)
    }

    /// One whose entry takes a page, or many.
    fn large_command(&mut self) -> Command {
        let member = (ServerId::from(self.random.random::<u128>()), Incarnation(1));
        Command::CreateVolumes {
            collection: Default::default(),
            placement: Default::default(),
            ttl: Default::default(),
            disk: Default::default(),
            members: vec![vec![member]; self.random.random_range(50..1_000)],
        }
    }

    /// The position of an entry that is there.
    fn some_entry(&mut self, there: &Kept) -> Option<LogId> {
        let nth = self.random.random_range(0..there.log.len().max(1));
        there.log.values().nth(nth).map(|entry| entry.log_id)
    }

    fn truncation(&mut self, there: &Kept) -> Change {
        let last = self.some_entry(there).or(there.purged);
        Change::Truncate(last.map(|last| last.index))
    }

    pub(super) fn vote(&mut self) -> Vote {
        self.term += 1;
        let leader_id =
            LeaderId { term: self.term, voted_for: NodeId::from(self.random.random::<u64>()) };
        Vote { leader_id, committed: self.random.random_bool(0.5) }
    }

    fn snapshot(&mut self, at: Option<LogId>) -> Change {
        let mut state = ClusterState::default();
        state.apply(&grant(self.random.random_range(1..1_000)));
        if self.random.random_bool(0.3) {
            state.apply(&self.large_command());
        }
        let last_membership = StoredMembership::new(at, membership(3));
        let meta = SnapshotMeta { last_log_id: at, last_membership };
        Change::Snapshot(Box::new(SnapshotJson::new(&meta, state)))
    }

    /// A leader's snapshot, of entries that were never here.
    fn installation(&mut self, there: &Kept) -> Vec<Change> {
        let ahead = self.random.random_range(0..20);
        let at = LogId::new_term_index(self.term, there.next_index() + ahead);
        vec![self.snapshot(Some(at)), Change::Purge(at)]
    }
}

fn membership(voters: u64) -> Membership {
    let nodes = (0..voters).map(|n| (NodeId::from(n), Default::default()));
    let nodes: BTreeMap<NodeId, _> = nodes.collect();
    Membership::new(vec![nodes.keys().copied().collect()], nodes).unwrap()
}
