//! A replica from what lies on its disk.
//!
//! Below the resolved length everything that is not listed as aborted is committed, and of a key
//! the highest stamp counts, wherever it lies; above it nothing has an outcome. Such a replica is
//! neither read nor written until a configuration or an adoption says so, because its directory
//! may be an older copy. The only member of a volume that was writable goes on at the same epoch,
//! all its complete records committed, because nobody can have written without it. But it too
//! waits until the leader has confirmed that this is the present epoch: an older copy of the
//! directory may be from before another member joined.

use std::collections::VecDeque;

use dulse_shared::{
    id::{Digest, ServerId, Ts},
    wire::{Incarnation, Standing, VolumeConfig},
};

use super::{
    record::{Placed, Versions},
    rules::Rules,
    state::{Durable, Entry, Fate, FileFacts, State, View},
};
use crate::format::Offset;

/// Who a replica belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// The server.
    pub server: ServerId,
    /// This run of it.
    pub incarnation: Incarnation,
}

/// What a start finds: the sidecar, the configuration in it and the file it speaks of.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The protocol's part of the sidecar.
    pub durable: &'a Durable,
    /// The configuration that was accepted last.
    pub config: &'a VolumeConfig,
    /// The compaction revision of the file.
    pub generation: u16,
    /// The digest of what `versions` holds already.
    pub digest: Digest,
    /// The highest stamp among the records that are not gone through again.
    pub highest: Ts,
}

/// The replica that these files hold. `versions` is what a checkpoint gave, perhaps nothing;
/// `records` are the complete ones of the file behind that, in order.
pub fn recover<V: Versions>(
    rules: Rules,
    identity: Identity,
    files: Files<'_>,
    records: impl IntoIterator<Item = Placed>,
    versions: V,
) -> State<V> {
    let view = View::new(files.config, identity.server);
    let facts = facts_of(files.durable, files.generation);
    let is_only_member = view.is_writable && view.slot.is_some() && view.peers.is_empty();
    let mut state = State {
        rules,
        server: identity.server,
        incarnation: identity.incarnation,
        versions,
        view,
        standing: if files.durable.is_stale { Standing::Stale } else { Standing::Returned },
        has_adopted: false,
        last_ts: files.highest,
        ts_floor: Ts(0),
        end: Offset::ZERO,
        generation: files.generation,
        tail: VecDeque::new(),
        pending: Vec::new(),
        unsynced: Vec::new(),
        unsent: Vec::new(),
        replies: Vec::new(),
        untold: Vec::new(),
        aborted: facts.aborted.clone(),
        reconciled: files.durable.reconciled.clone(),
        digest: files.digest,
    };
    for placed in records {
        let is_resolved = placed.at < facts.resolved || is_only_member;
        state.found(&placed, is_resolved);
    }
    state.end = state.end.max(facts.resolved);
    state
}

/// What the sidecar says about the file that is there: during a swap it speaks of two.
fn facts_of(durable: &Durable, generation: u16) -> &FileFacts {
    let next = durable.next.as_ref().filter(|next| next.generation == generation);
    next.unwrap_or(&durable.file)
}

impl<V: Versions> State<V> {
    fn found(&mut self, placed: &Placed, is_resolved: bool) {
        self.end = placed.end();
        self.saw(placed.record.ts);
        if self.aborted.binary_search(&placed.at).is_ok() {
            return;
        }
        if is_resolved {
            self.publish(placed);
        } else {
            self.tail.push_back(Entry { placed: *placed, fate: Fate::Pending });
        }
    }
}
