//! The steps of a sequence, and how they are drawn.

use dulse_volume::disk::simulated::{EIO, ENOSPC, Fault, Operation};
use proptest::prelude::*;

/// Keys in use: few, so that writes meet.
pub const KEYS: std::ops::Range<u64> = 1..6;

/// One step.
#[derive(Clone, Debug)]
pub struct Step {
    pub action: Action,
    pub trouble: Trouble,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// Writes that are committed together.
    Batch(Vec<Change>),
    Checkpoint,
    /// A compaction, and what is committed while it copies.
    Compact {
        meanwhile: Vec<Change>,
    },
    /// The process ends, well or not, and starts again.
    Reopen {
        is_clean: bool,
    },
    /// The machine loses power.
    Crash,
    /// While the server is down its index goes.
    LoseIndex,
    /// While the server is down an old copy of the index takes the place of the new one.
    StaleIndex,
    /// While the server is down the sidecar goes, so that the volume is nobody's.
    LoseSidecar,
    /// A bit of a file flips, while the server is down or under it.
    Flip {
        file: File,
        bit: usize,
        is_open: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum File {
    Dat,
    Idx,
    Sidecar,
}

/// What goes wrong during a step.
#[derive(Clone, Debug)]
pub enum Trouble {
    None,
    /// The `nth` operation of its kind goes wrong.
    Fault {
        operation: Operation,
        extension: Option<&'static str>,
        nth: u64,
        fault: Fault,
    },
    /// There is only this much room.
    Full {
        free_bytes: u64,
    },
    /// The machine stops after so many operations, and starts again.
    Stop {
        after: u64,
    },
}

#[derive(Clone, Debug)]
pub enum Change {
    /// A needle of some length; no two have the same data.
    Put(u64, usize),
    /// The same, its data in a spool file.
    PutSpooled(u64, usize),
    Delete(u64),
}

fn change() -> impl Strategy<Value = Change> {
    let len = prop_oneof![4 => 0_usize..60, 2 => 400_usize..600, 1 => 0_usize..3000];
    prop_oneof![
        3 => (KEYS, len.clone()).prop_map(|(key, len)| Change::Put(key, len)),
        1 => (KEYS, len).prop_map(|(key, len)| Change::PutSpooled(key, len)),
        1 => KEYS.prop_map(Change::Delete),
    ]
}

fn batch() -> impl Strategy<Value = Action> {
    prop::collection::vec(change(), 1..5).prop_map(Action::Batch)
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        24 => batch(),
        4 => Just(Action::Checkpoint),
        4 => prop::collection::vec(change(), 0..4)
            .prop_map(|meanwhile| Action::Compact { meanwhile }),
        4 => any::<bool>().prop_map(|is_clean| Action::Reopen { is_clean }),
        3 => Just(Action::Crash),
        1 => Just(Action::LoseIndex),
        1 => Just(Action::StaleIndex),
        1 => Just(Action::LoseSidecar),
    ]
}

fn flip() -> impl Strategy<Value = Action> {
    let file = prop_oneof![3 => Just(File::Dat), 1 => Just(File::Idx), 1 => Just(File::Sidecar)];
    (file, any::<usize>(), any::<bool>()).prop_map(|(file, bit, is_open)| Action::Flip {
        file,
        bit,
        is_open,
    })
}

fn fault() -> impl Strategy<Value = Trouble> {
    let fails = |operation| {
        prop_oneof![Just(EIO), Just(ENOSPC)].prop_map(move |errno| (operation, Fault::Fails(errno)))
    };
    let operation = prop_oneof![
        2 => fails(Operation::Write),
        2 => Just((Operation::Write, Fault::Tears)),
        2 => Just((Operation::Write, Fault::WritesShort)),
        1 => fails(Operation::Sync),
        3 => any::<bool>()
            .prop_map(|keeps_cache| (Operation::Sync, Fault::LosesPages { keeps_cache })),
        1 => fails(Operation::Truncate),
        1 => fails(Operation::Create),
        1 => fails(Operation::Rename),
        1 => fails(Operation::SyncDir),
        1 => fails(Operation::Read),
    ];
    let extension = prop_oneof![2 => Just(Some("dat")), 1 => Just(Some("idx")), 1 => Just(None)];
    (operation, extension, 0_u64..3).prop_map(|((operation, fault), extension, nth)| {
        Trouble::Fault { operation, extension, nth, fault }
    })
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        16 => Just(Trouble::None),
        4 => fault(),
        1 => (0_u64..2000).prop_map(|free_bytes| Trouble::Full { free_bytes }),
        3 => (0_u64..12).prop_map(|after| Trouble::Stop { after }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let misdirected = Trouble::Fault {
        operation: Operation::Write,
        extension: Some("dat"),
        nth: 0,
        fault: Fault::Misdirects,
    };
    let step = |(action, trouble)| Step { action, trouble };
    prop_oneof![
        60 => (action(), trouble()).prop_map(step),
        1 => (flip(), Just(Trouble::None)).prop_map(step),
        1 => (batch(), Just(misdirected)).prop_map(step),
    ]
}

/// A sequence.
pub fn sequence() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..16)
}

/// A sequence whose only trouble is what a test adds.
pub fn calm_sequence() -> impl Strategy<Value = Vec<Step>> {
    let step = action().prop_map(|action| Step { action, trouble: Trouble::None });
    prop::collection::vec(step, 1..12)
}
