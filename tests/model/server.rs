//! One server of the model: the product's replica core over a disk of a few records.

use std::collections::BTreeMap;

use dulse_shared::{
    id::{Cookie, Digest, NeedleKey, ServerId, Ts},
    wire::{Epoch, Incarnation, Sealed, Standing, VolumeConfig},
};
use dulse_volume::{
    format::Offset,
    replica::{
        Action, Answer, Durable, Event, FileFacts, Files, Identity, Kind, Message, NewRecord,
        Placed, Record, Rules, State, Units, Versions, core::step, recover,
    },
};

/// Bytes do not matter to the protocol: every record takes one unit.
const LEN: Units = Units(1);
/// The content of the value that was there at first.
pub(crate) const BASE: u128 = 100;

/// The committed versions.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Table(BTreeMap<NeedleKey, Record>);

impl Versions for Table {
    fn newest(&self, key: NeedleKey) -> Option<Record> {
        self.0.get(&key).copied()
    }
    fn publish(&mut self, placed: &Placed) {
        self.0.insert(placed.record.key, placed.record);
    }
}

/// What survives a crash.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Disk {
    pub(crate) records: Vec<Placed>,
    pub(crate) durable: Durable,
    pub(crate) config: VolumeConfig,
    generation: u16,
}

/// A server: its replica and its disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Server {
    pub(crate) core: State<Table>,
    pub(crate) disk: Disk,
    /// The configuration that the core accepted; on the disk as of the last sidecar.
    accepted: VolumeConfig,
    pub(crate) incarnation: Incarnation,
    /// The fence it had when it was last restarted, whatever its disk says.
    fence_at_crash: Epoch,
    /// Every sidecar that was written, with the records in the file; kept where the directory may be
    /// put back as it was then.
    older: Vec<Disk>,
    keeps_older: bool,
}

/// What leaves a server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Output {
    Send(ServerId, Message),
    Answer(usize, Answer),
    Fenced(Sealed),
}

pub(crate) fn key() -> NeedleKey {
    NeedleKey::new(1).unwrap()
}

fn record(ts: Ts, content: u128, kind: Kind) -> Record {
    Record { key: key(), ts, cookie: Cookie(7), kind, len: LEN, content }
}

/// A write of client `op`.
pub(crate) fn new_record(op: usize, kind: Kind) -> NewRecord {
    NewRecord { key: key(), cookie: Cookie(7), kind, len: LEN, content: op as u128 }
}

impl Server {
    /// A replica that accepted the first configuration, with or without a first value.
    pub(crate) fn new(
        rules: Rules,
        server: ServerId,
        config: &VolumeConfig,
        base: bool,
        keeps_older: bool,
    ) -> Self {
        let first = Placed { record: record(Ts(1 << 8), BASE, Kind::Needle), at: Offset::ZERO };
        let records: Vec<Placed> = base.then_some(first).into_iter().collect();
        let resolved = records.last().map_or(Offset::ZERO, Placed::end);
        let file = FileFacts { generation: 0, resolved, aborted: Vec::new() };
        let durable =
            Durable { fence: Epoch(0), is_stale: false, reconciled: Vec::new(), file, next: None };
        let mut before = config.clone();
        before.epoch = Epoch(0);
        before.last_writable = None;
        before.members.clear();
        let disk = Disk { records, durable, config: before, generation: 0 };
        let mut new = Self::open(rules, server, Incarnation(1), disk);
        new.keeps_older = keeps_older;
        new.step(Event::Configured(Box::new(config.clone())));
        new
    }

    fn open(rules: Rules, server: ServerId, incarnation: Incarnation, disk: Disk) -> Self {
        let files = Files {
            durable: &disk.durable,
            config: &disk.config,
            generation: disk.generation,
            digest: Digest::EMPTY,
            highest: Ts(0),
        };
        let identity = Identity { server, incarnation };
        let records = disk.records.clone();
        let core = recover(rules, identity, files, records, Table::default());
        let accepted = disk.config.clone();
        let fence_at_crash = core.fence();
        Self {
            core,
            disk,
            accepted,
            incarnation,
            fence_at_crash,
            older: Vec::new(),
            keeps_older: false,
        }
    }

    /// The configuration that the core accepted.
    pub(crate) const fn accepted(&self) -> &VolumeConfig {
        &self.accepted
    }

    /// Steps the core, performs its actions, and gives what leaves the server. Syncs take no time:
    /// what a crash may do to what was not synced is offered by [`Self::crashes`].
    pub(crate) fn step(&mut self, event: Event) -> Vec<Output> {
        let mut outputs = Vec::new();
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            if let Event::Configured(config) = &event
                && config.epoch > self.core.fence()
            {
                self.accepted = (**config).clone();
            }
            let mut actions = Vec::new();
            step(&mut self.core, event, &mut actions);
            for action in actions {
                match action {
                    Action::Append(placed) => self.disk.records.push(placed),
                    Action::Sync => events.push(Event::Synced),
                    Action::WriteSidecar(durable) => self.write_sidecar(durable),
                    Action::Send { to, message } => outputs.push(Output::Send(to, message)),
                    Action::Answer { client, answer } => {
                        outputs.push(Output::Answer(client.0 as usize, answer));
                    }
                    Action::Fenced(sealed) => outputs.push(Output::Fenced(sealed)),
                    Action::Resolved(_) | Action::Report(_) => {}
                }
            }
        }
        outputs
    }

    /// Whether the copy is called stale although it followed the volume to its last writable
    /// epoch.
    pub(crate) fn is_wrongly_stale(&self) -> bool {
        let last = self.accepted.last_writable.as_ref().map(|last| last.epoch);
        let was_member = self.accepted.last_writable.iter().flat_map(|last| &last.members);
        self.core.standing() == Standing::Stale
            && last.is_some_and(|last| self.fence_at_crash.0 + 1 >= last.0)
            && was_member.into_iter().any(|(member, _)| *member == self.core.server())
    }

    fn write_sidecar(&mut self, durable: Durable) {
        self.disk.durable = durable;
        self.disk.config = self.accepted.clone();
        if self.keeps_older {
            self.older.push(self.disk.clone());
        }
    }

    /// Every state that the directory was in before, but for the present one.
    pub(crate) fn older_disks(&self) -> Vec<Disk> {
        let all = &self.disk.records;
        let ends = self.older.iter().skip(1).map(|next| next.records.len()).chain([all.len()]);
        let older = self.older.iter().zip(ends).flat_map(|(then, end)| {
            let lengths = then.records.len()..=end;
            lengths.map(|len| Disk { records: all[..len].to_vec(), ..then.clone() })
        });
        older.filter(|disk| *disk != self.disk).collect()
    }

    /// Forgets what is on the disk; the core goes on.
    pub(crate) fn forget_disk(&mut self) {
        if self.core.can_swap() {
            let at = Offset::ZERO;
            let file = FileFacts { generation: 0, resolved: at, aborted: Vec::new() };
            self.step(Event::Swapped { file, dropped: Ts(0) });
        }
        self.older.clear();
        self.keeps_older = false;
        self.disk.records.clear();
        self.disk.durable.reconciled.clear();
        self.disk.durable.file.resolved = Offset::ZERO;
        self.disk.durable.file.aborted.clear();
        self.disk.durable.fence = Epoch(0);
        self.disk.config = self.accepted.clone();
    }

    /// Every way in which the server can come back from a crash: with any sidecar that it may have
    /// written, and with or without a last record that may not have been synced.
    pub(crate) fn crashes(&self, rules: Rules) -> Vec<Self> {
        let mut disks = vec![self.disk.clone()];
        for durable in self.checkpoints() {
            disks.push(Disk { durable, config: self.accepted.clone(), ..self.disk.clone() });
        }
        let last = self.disk.records.len().saturating_sub(1);
        if self.is_last_unsynced() {
            let shorter: Vec<Disk> = disks
                .iter()
                .map(|disk| Disk { records: disk.records[..last].to_vec(), ..disk.clone() })
                .collect();
            disks.extend(shorter);
        }
        disks.into_iter().map(|disk| self.restarted(rules, disk)).collect()
    }

    /// Sidecars from the one on the disk to what the core would write now.
    fn checkpoints(&self) -> Vec<Durable> {
        let now = self.core.durable();
        let on_disk = self.disk.durable.file.resolved;
        let mut checkpoints = Vec::new();
        for end in self.disk.records.iter().map(Placed::end) {
            if end > on_disk && end <= now.file.resolved {
                let mut durable = now.clone();
                durable.file.resolved = end;
                durable.file.aborted.retain(|at| *at < end);
                checkpoints.push(durable);
            }
        }
        checkpoints
    }

    /// Whether the last record is the server's own, sent before its sync was sure to be over.
    fn is_last_unsynced(&self) -> bool {
        let last = self.disk.records.last().map(|placed| placed.record.id());
        self.core.has_open_batch() && self.core.sealed().unresolved.last().map(|u| u.id) == last
    }

    /// Starts again from a disk.
    pub(crate) fn restarted(&self, rules: Rules, disk: Disk) -> Self {
        let incarnation = Incarnation(self.incarnation.0 + 1);
        let mut restarted = Self::open(rules, self.core.server(), incarnation, disk);
        restarted.fence_at_crash = self.core.fence();
        restarted
    }

    /// A new copy of another server's resolved file.
    pub(crate) fn copied(&self, rules: Rules, from: &Self) -> Self {
        let mut disk = from.disk.clone();
        disk.durable = from.core.durable();
        disk.config = from.accepted.clone();
        let mut copy = Self::open(rules, self.core.server(), self.incarnation, disk);
        copy.step(Event::Adopt { epoch: copy.core.fence(), states: Vec::new() });
        copy
    }

    /// Compacts the file, if that can be now: tombstones go.
    pub(crate) fn vacuum(&mut self) -> bool {
        let newest = self.core.versions().newest(key());
        let is_due =
            self.disk.records.len() > usize::from(newest.is_some_and(|n| !n.is_tombstone()));
        if !self.core.can_swap() || !is_due {
            return false;
        }
        let live = newest.filter(|newest| !newest.is_tombstone());
        let dropped = newest.filter(Record::is_tombstone).map_or(Ts(0), |newest| newest.ts);
        if live.is_none() {
            self.core.versions_mut().0.clear();
        }
        let at = Offset::ZERO;
        self.disk.records = live.map(|record| Placed { record, at }).into_iter().collect();
        self.disk.generation += 1;
        let resolved = self.disk.records.last().map_or(at, Placed::end);
        let file = FileFacts { generation: self.disk.generation, resolved, aborted: Vec::new() };
        self.step(Event::Swapping(file.clone()));
        self.step(Event::Swapped { file, dropped });
        true
    }

    /// A vacuum that drops a tombstone of another needle, of a stamp above all that is known here.
    pub(crate) fn raise_floor(&mut self, dropped: Ts) -> bool {
        if !self.core.can_swap() {
            return false;
        }
        self.step(Event::Saw(dropped));
        let file = self.core.durable().file;
        self.step(Event::Swapped { file, dropped });
        true
    }
}
