//! Whether a needle may be read here, and in which version. Nothing changes by it.

use dulse_shared::{
    id::{NeedleKey, ServerId},
    wire::{Epoch, Standing, WriteId},
};

use super::{
    event::{Action, Message},
    record::{Record, Versions},
    rules::Rule,
    state::{Origin, State},
};

/// What a reader is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// This version.
    Version(Record),
    /// There is none.
    Nothing,
    /// A newer version is pending: wait for its outcome, then ask again. Whoever coordinates it
    /// may be asked for it with [`State::question`]; nobody does when its epoch is over.
    Wait {
        /// The pending write.
        id: WriteId,
        /// Its coordinator.
        coordinator: Option<ServerId>,
    },
    /// Not here, not now: another member may answer.
    Unavailable,
}

impl<V: Versions> State<V> {
    /// The version to serve. `has_lease` is whether the server may answer reads at all.
    pub fn read(&self, key: NeedleKey, has_lease: bool) -> Read {
        let is_allowed = has_lease || !self.rules.keep(Rule::ReadsNeedLease);
        let is_fit = match self.standing {
            Standing::Running => true,
            Standing::Returned => !self.rules.keep(Rule::RestartedDoNotRead),
            Standing::Stale | Standing::Failed => false,
        };
        if !is_allowed || !is_fit || self.view.slot.is_none() {
            return Read::Unavailable;
        }
        match self.pending_of(key) {
            Some(pending) if self.rules.keep(Rule::PendingHidesOlder) => Read::Wait {
                id: pending.placed.record.id(),
                coordinator: match pending.origin {
                    Origin::Peer(peer) => Some(peer),
                    Origin::Own(_) | Origin::Sealed => None,
                },
            },
            _ => match self.versions.newest(key).filter(|newest| !newest.is_tombstone()) {
                Some(newest) => Read::Version(newest),
                None => Read::Nothing,
            },
        }
    }

    /// Asks the coordinator of a pending write what became of it.
    pub const fn question(&self, id: WriteId, coordinator: ServerId) -> Action {
        let epoch: Epoch = self.view.epoch;
        Action::Send { to: coordinator, message: Message::Ask { epoch, id } }
    }
}
