//! What can happen in one search: how many servers, which writes, how many faults of each kind.

use dulse_master::plan;
use dulse_volume::replica::{self, Kind};

use crate::monitor::MAX_WRITES;

/// The bounds of a search. Everything that is not bounded here may happen at any time.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) members: usize,
    /// Servers that a repair may use.
    pub(crate) spares: usize,
    /// The replica placement: how many copies make a volume writable again.
    pub(crate) placement: &'static str,
    /// Whether the register holds a value at first.
    pub(crate) base: bool,
    /// What clients write, each once, at any server; equal ones in this order.
    pub(crate) writes: Vec<Kind>,
    /// How often each of these can happen.
    pub(crate) faults: Faults,
    /// The server whose directory is put back.
    pub(crate) put_back: usize,
    /// Whether a batch may arrive twice.
    pub(crate) duplicates: bool,
    /// Whether members ask coordinators for outcomes.
    pub(crate) asks: bool,
    pub(crate) left_out: LeftOut,
}

/// How often faults can happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Faults {
    /// A server ends and starts again.
    pub(crate) crashes: u8,
    /// The same, with an older copy of its directory.
    pub(crate) rollbacks: u8,
    /// The leader takes servers for lost, rightly or not.
    pub(crate) seals: u8,
    pub(crate) vacuums: u8,
    /// Vacuums that drop a tombstone of another needle.
    pub(crate) floors: u8,
    pub(crate) repairs: u8,
    /// Changes of the leader.
    pub(crate) leaders: u8,
}

/// The rule that is left out, to show that it is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LeftOut {
    Nothing,
    OfReplica(replica::Rule),
    OfPlan(plan::Rule),
    /// A new leader takes it that nobody holds a lease which it did not grant.
    OldLeases,
    /// The leader renews the lease of a server that has not heard that it is excluded.
    RenewalStops,
}

impl Scenario {
    /// Members and writes; no faults.
    pub(crate) fn new(name: &'static str, members: usize, writes: &[Kind]) -> Self {
        assert!(writes.len() <= MAX_WRITES);
        Self {
            name,
            members,
            spares: 0,
            placement: "000",
            base: false,
            writes: writes.to_vec(),
            faults: Faults::default(),
            put_back: 0,
            duplicates: false,
            asks: false,
            left_out: LeftOut::Nothing,
        }
    }

    pub(crate) fn without(mut self, left_out: LeftOut) -> Self {
        self.left_out = left_out;
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(crate) fn servers(&self) -> usize {
        self.members + self.spares
    }

    pub(crate) fn replica_rules(&self) -> replica::Rules {
        match self.left_out {
            LeftOut::OfReplica(rule) => replica::Rules::without(rule),
            _ => replica::Rules::all(),
        }
    }

    pub(crate) fn plan_rules(&self) -> plan::Rules {
        match self.left_out {
            LeftOut::OfPlan(rule) => plan::Rules::without(rule),
            _ => plan::Rules::all(),
        }
    }
}
