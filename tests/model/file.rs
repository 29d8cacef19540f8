//! One replica's file: what a crash leaves of it, and what the next start makes of that.
//!
//! A second search, over a few records of two needles: appends, outcomes, checkpoints and
//! vacuums in any order, and a crash at any moment, in the middle of a swap as well. What was not
//! synced may be lost, and the sidecar is the old or the new one. Whoever starts from that must
//! find every record committed that was below the resolved length and not aborted, none that was
//! aborted, and no outcome for any other.

use std::{collections::BTreeMap, fmt};

use dulse_shared::{
    id::{Cookie, Digest, NeedleKey, ServerId, Ts},
    wire::{Epoch, Incarnation, Standing, VolumeConfig, WriteId},
};
use dulse_volume::{
    format::Offset,
    replica::{
        Action, Batch, Durable, Event, FileFacts, Files, Identity, Kind, Message, Placed, Record,
        Rule, Rules, State, Units, Versions, core::step, recover,
    },
};

use crate::{
    explore::{Found, Model, Next, explore},
    intern::Interner,
    scenario::Scenario,
    server::Table,
    tables::server_id,
};

/// Records that are appended, of two needles in turn.
const RECORDS: u8 = 5;

/// A replica and its disk, which another member of the volume writes to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Replica {
    core: State<Table>,
    file: Generation,
    /// A compacted file whose names are being changed: the old one is still there.
    old: Option<Generation>,
    sidecar: Durable,
    /// What became of each record by its stamp: `None` while it has no outcome.
    fates: BTreeMap<Ts, Option<bool>>,
    sent: u8,
    vacuums: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Generation {
    number: u16,
    records: Vec<Placed>,
}

#[derive(Clone, Copy, Debug)]
enum Label {
    Append,
    Outcome(Ts, bool),
    Checkpoint,
    PrepareSwap,
    Swap,
    Crash,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append => write!(f, "a record is appended and synced"),
            Self::Outcome(ts, true) => write!(f, "record {} is committed", ts.0 >> 8),
            Self::Outcome(ts, false) => write!(f, "record {} is aborted", ts.0 >> 8),
            Self::Checkpoint => write!(f, "the sidecar is written"),
            Self::PrepareSwap => write!(f, "a compacted file is complete"),
            Self::Swap => write!(f, "it takes the place of the old one"),
            Self::Crash => write!(f, "a crash, and a start"),
        }
    }
}

struct FileSearch {
    rules: Rules,
    replicas: Interner<Replica>,
}

fn config() -> VolumeConfig {
    crate::first_config::first_config(&Scenario::new("file", 2, &[]))
}

fn identity() -> Identity {
    Identity { server: server_id(0), incarnation: Incarnation(1) }
}

fn peer() -> ServerId {
    server_id(1)
}

fn record(number: u8) -> Record {
    Record {
        key: NeedleKey::new(u64::from(number % 2) + 1).unwrap(),
        ts: Ts(u64::from(number + 1) << 8),
        cookie: Cookie(7),
        kind: if number < 3 { Kind::Needle } else { Kind::Tombstone },
        len: Units(1),
        content: u128::from(number),
    }
}

fn batch(records: Vec<Record>, commit: Vec<WriteId>, abort: Vec<WriteId>) -> Event {
    let batch = Batch { epoch: Epoch(1), highest: Ts(0), commit, abort, records };
    Event::Received { from: peer(), message: Message::Batch(batch), has_room: true }
}

impl Replica {
    fn new(rules: Rules) -> Self {
        let file = FileFacts { generation: 0, resolved: Offset::ZERO, aborted: Vec::new() };
        let sidecar =
            Durable { fence: Epoch(0), is_stale: false, reconciled: Vec::new(), file, next: None };
        let mut before = config();
        before.epoch = Epoch(0);
        before.members.clear();
        let file = Generation { number: 0, records: Vec::new() };
        let core = open(rules, &sidecar, &before, &file);
        let fates = BTreeMap::new();
        let mut new = Self { core, file, old: None, sidecar, fates, sent: 0, vacuums: 1 };
        new.step(Event::Configured(Box::new(config())));
        new
    }

    fn step(&mut self, event: Event) {
        let mut actions = Vec::new();
        step(&mut self.core, event, &mut actions);
        for action in actions {
            match action {
                Action::Append(placed) => self.file.records.push(placed),
                Action::Sync => self.step(Event::Synced),
                Action::WriteSidecar(durable) => self.sidecar = durable,
                _ => {}
            }
        }
    }

    /// The next record, if its needle has none pending: the core would call itself busy.
    fn append(&mut self) -> bool {
        let len = self.file.records.len();
        self.step(batch(vec![record(self.sent)], Vec::new(), Vec::new()));
        let is_stored = self.file.records.len() > len;
        if is_stored {
            self.fates.insert(record(self.sent).ts, None);
            self.sent += 1;
        }
        is_stored
    }

    fn hear(&mut self, ts: Ts, is_commit: bool) {
        let id = record(u8::try_from(ts.0 >> 8).unwrap() - 1).id();
        let (commit, abort) = if is_commit { (vec![id], vec![]) } else { (vec![], vec![id]) };
        self.step(batch(Vec::new(), commit, abort));
        self.fates.insert(ts, Some(is_commit));
    }

    /// The compacted file is complete and the sidecar speaks of both.
    fn prepare_swap(&mut self) {
        let live = self.live();
        let mut at = Offset::ZERO;
        let mut records = Vec::new();
        for record in live {
            let placed = Placed { record, at };
            at = placed.end();
            records.push(placed);
        }
        let number = self.file.number + 1;
        self.step(Event::Swapping(FileFacts { generation: number, resolved: at, aborted: vec![] }));
        self.old = Some(std::mem::replace(&mut self.file, Generation { number, records }));
        self.vacuums -= 1;
    }

    fn live(&self) -> Vec<Record> {
        let keys = [1, 2].into_iter().filter_map(NeedleKey::new);
        keys.filter_map(|key| self.core.versions().newest(key)).collect()
    }

    fn swap(&mut self) {
        let resolved = self.file.records.last().map_or(Offset::ZERO, Placed::end);
        let file = FileFacts { generation: self.file.number, resolved, aborted: Vec::new() };
        self.old = None;
        self.step(Event::Swapped { file, dropped: Ts(0) });
    }

    /// Every pair of file and sidecar that a crash now can leave.
    fn remains(&self) -> Vec<(&Generation, Durable)> {
        let mut sidecars = vec![self.sidecar.clone()];
        if self.old.is_none() {
            sidecars.push(self.core.durable());
        }
        let files = std::iter::once(&self.file).chain(&self.old);
        files.flat_map(|file| sidecars.iter().map(move |sidecar| (file, sidecar.clone()))).collect()
    }

    /// What a start must find of each record that is in the file.
    fn is_right(&self, found: &State<Table>, file: &Generation, sidecar: &Durable) -> bool {
        let unresolved: Vec<WriteId> =
            found.sealed().unresolved.iter().map(|unresolved| unresolved.id).collect();
        let facts = [Some(&sidecar.file), sidecar.next.as_ref()].into_iter().flatten();
        let Some(facts) = facts.into_iter().find(|facts| facts.generation == file.number) else {
            return false;
        };
        let is_known = |placed: &Placed| {
            let has_outcome = !unresolved.contains(&placed.record.id());
            let is_resolved = placed.at < facts.resolved;
            let fate = self.fates.get(&placed.record.ts).copied().flatten();
            has_outcome == is_resolved && (!has_outcome || fate.is_some())
        };
        let newest = |key: NeedleKey| {
            let of_key = file.records.iter().filter(|placed| placed.record.key == key);
            let known = of_key.filter(|placed| !unresolved.contains(&placed.record.id()));
            let committed = known.filter(|placed| {
                self.fates.get(&placed.record.ts).copied().flatten() == Some(true)
            });
            committed.map(|placed| placed.record).max_by_key(|record| record.ts)
        };
        let keys = [1, 2].into_iter().filter_map(NeedleKey::new);
        file.records.iter().all(is_known)
            && keys.into_iter().all(|key| found.versions().newest(key) == newest(key))
    }
}

fn open(rules: Rules, sidecar: &Durable, config: &VolumeConfig, file: &Generation) -> State<Table> {
    let files = Files {
        durable: sidecar,
        config,
        generation: file.number,
        digest: Digest::EMPTY,
        highest: Ts(0),
    };
    recover(rules, identity(), files, file.records.iter().copied(), Table::default())
}

impl FileSearch {
    fn push(
        &mut self,
        found: &mut Vec<Next<u32, Label>>,
        step: Label,
        replica: Replica,
        breaks: Option<&'static str>,
    ) {
        found.push(Next { step, state: self.replicas.number(replica), breaks });
    }

    fn outcomes(&mut self, replica: &Replica, found: &mut Vec<Next<u32, Label>>) {
        let open = replica.fates.iter().filter(|(_, fate)| fate.is_none());
        for ts in open.map(|(ts, _)| *ts).collect::<Vec<_>>() {
            for is_commit in [true, false] {
                let mut next = replica.clone();
                next.hear(ts, is_commit);
                self.push(found, Label::Outcome(ts, is_commit), next, None);
            }
        }
    }

    /// Every start from what a crash leaves now.
    fn crashes(&mut self, replica: &Replica, found: &mut Vec<Next<u32, Label>>) {
        for (file, sidecar) in replica.remains() {
            let started = open(self.rules, &sidecar, &config(), file);
            if !replica.is_right(&started, file, &sidecar) {
                let breaks = Some("a start misjudges a record");
                self.push(found, Label::Crash, replica.clone(), breaks);
            }
            assert_eq!(started.standing(), Standing::Returned);
        }
    }
}

impl Model for FileSearch {
    type State = u32;
    type Step = Label;

    fn start(&mut self) -> u32 {
        self.replicas.number(Replica::new(self.rules))
    }

    fn fingerprint(&self, state: &u32) -> u64 {
        u64::from(*state)
    }

    fn steps(&mut self, state: &u32, found: &mut Vec<Next<u32, Label>>) {
        let replica = self.replicas.value(*state).clone();
        self.crashes(&replica, found);
        if replica.old.is_some() {
            let mut next = replica;
            next.swap();
            return self.push(found, Label::Swap, next, None);
        }
        let mut next = replica.clone();
        if replica.sent < RECORDS && next.append() {
            self.push(found, Label::Append, next, None);
        }
        self.outcomes(&replica, found);
        let mut next = replica.clone();
        next.step(Event::Checkpoint);
        self.push(found, Label::Checkpoint, next, None);
        if replica.vacuums > 0 && replica.core.can_swap() {
            let mut next = replica;
            next.prepare_swap();
            self.push(found, Label::PrepareSwap, next, None);
        }
    }
}

#[test]
fn a_start_finds_exactly_what_was_resolved() {
    let mut search = FileSearch { rules: Rules::all(), replicas: Interner::default() };
    match explore(&mut search, 1_000_000) {
        Found::Nothing { states, depth } => {
            assert!(states > 1000, "{states} states are too few to show anything");
            eprintln!("one file: {states} states, depth {depth}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_list_of_aborted_records_that_is_not_durable_is_found() {
    let rules = Rules::without(Rule::AbortedListIsDurable);
    let mut search = FileSearch { rules, replicas: Interner::default() };
    let found = explore(&mut search, 1_000_000);
    assert!(matches!(found, Found::Violation { .. }), "{found:?}");
}
