//! What happens to a replica and what it wants done.
//!
//! The shell performs the actions of a step in their order, before the next event. [`Action::Sync`]
//! is answered with [`Event::Synced`], and no event comes between the two.

use dulse_shared::{
    id::{Cookie, NeedleKey, ServerId, Ts},
    wire::{Epoch, Sealed, VolumeConfig, WriteId},
};

use super::{
    record::{Kind, Placed, Record, Units},
    state::{Durable, FileFacts},
};

/// Who waits for a write; chosen by the shell, opaque here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Client(pub u64);

/// A write as it comes from a client: a record without stamp.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NewRecord {
    /// Of which needle.
    pub key: NeedleKey,
    /// The cookie that the client knows.
    pub cookie: Cookie,
    /// What it does.
    pub kind: Kind,
    /// Its length.
    pub len: Units,
    /// See [`Record::content`].
    pub content: u128,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// A client writes here. The shell has checked size, access, room and lease: `has_lease` says
    /// whether a delete that finds nothing may say so.
    Write {
        /// Who.
        client: Client,
        /// What.
        write: NewRecord,
        /// The wall clock.
        now_ns: u64,
        /// Whether this server may answer reads.
        has_lease: bool,
    },
    /// The batch of writes is full, or nothing more waits.
    Flush,
    /// What was appended before [`Action::Sync`] is durable.
    Synced,
    /// The sync failed, or a write that could not be taken back: the replica is at its end.
    DiskFailed,
    /// A stamp came along with a heartbeat; our next one is above it.
    Saw(Ts),
    /// Another member sent something.
    Received {
        /// Who.
        from: ServerId,
        /// What.
        message: Message,
        /// Whether the disk has room for it.
        has_room: bool,
    },
    /// A member could not be reached, or did not answer in time.
    Unanswered {
        /// Which.
        by: ServerId,
    },
    /// A member was busy with an older write of a key: time to ask again.
    Retry(NeedleKey),
    /// Time to tell the members what became of our writes.
    Tell,
    /// A configuration arrived.
    Configured(Box<VolumeConfig>),
    /// The state of keys, from a replica that holds the decision.
    Adopt {
        /// The epoch of both.
        epoch: Epoch,
        /// For every key of [`super::State::unresolved_keys`] and of the decision.
        states: Vec<KeyState>,
    },
    /// A compacted file is complete and about to take the place of the old one.
    Swapping(FileFacts),
    /// It did.
    Swapped {
        /// The file that counts now.
        file: FileFacts,
        /// The highest stamp of the tombstones that were dropped.
        dropped: Ts,
    },
    /// Time for a checkpoint.
    Checkpoint,
}

/// A replica's present state of one key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct KeyState {
    /// The key.
    pub key: NeedleKey,
    /// Its newest committed version, if any.
    pub newest: Option<Record>,
}

/// What members say to each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// Records to store, and outcomes of earlier ones.
    Batch(Batch),
    /// The answer.
    Answer(BatchAnswer),
    /// What became of a write that you coordinated?
    Ask {
        /// The sender's fence.
        epoch: Epoch,
        /// The write.
        id: WriteId,
    },
}

/// Records to store, and outcomes of earlier ones.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Batch {
    /// The sender's fence.
    pub epoch: Epoch,
    /// The highest stamp that the sender knows.
    pub highest: Ts,
    /// Writes that took effect.
    pub commit: Vec<WriteId>,
    /// Writes that never will.
    pub abort: Vec<WriteId>,
    /// Records to store.
    pub records: Vec<Record>,
}

/// A member's answer to a batch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BatchAnswer {
    /// The epoch of the batch.
    pub epoch: Epoch,
    /// The highest stamp that the sender knows.
    pub highest: Ts,
    /// For each record what became of it; empty if the batch was refused as a whole.
    pub stored: Vec<(WriteId, Stored)>,
    /// Outcomes that were heard.
    pub told: Vec<WriteId>,
    /// Whether the batch was refused as a whole: another epoch, not writable, no room.
    pub is_refused: bool,
}

/// What a member did with one record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stored {
    /// It is on its disk.
    Synced,
    /// An older write of the key is pending: ask again.
    Busy,
    /// Never: it knows something newer. The stamp the record lost to.
    Refused(Ts),
}

/// What a client is told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// The write is on every member.
    Done(WriteId),
    /// Another write of the key is pending here: wait for [`Action::Resolved`], or say 409.
    /// Nothing was stored.
    Pending,
    /// The delete found nothing.
    NothingToDelete,
    /// The needle has another cookie. Nothing was stored.
    WrongCookie,
    /// Not writable here and now. Nothing was stored.
    ReadOnly,
    /// It takes effect at most once, perhaps later, or never.
    Unknown,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Append this record at that place.
    Append(Placed),
    /// Sync the file, then step [`Event::Synced`].
    Sync,
    /// Replace the sidecar, durably.
    WriteSidecar(Durable),
    /// Send to a member.
    Send {
        /// Which.
        to: ServerId,
        /// What.
        message: Message,
    },
    /// Answer a client.
    Answer {
        /// Which.
        client: Client,
        /// What.
        answer: Answer,
    },
    /// Nothing is pending for the key any more: whoever waits may try again.
    Resolved(NeedleKey),
    /// Tell the leader that a member did not store a write.
    Report(ServerId),
    /// Answer the configuration.
    Fenced(Sealed),
}
