//! The world of the model: servers, messages on their way, the leader, the clients; and every step
//! that can come next.

use std::fmt;

use dulse_shared::{
    id::Ts,
    wire::{Standing, VolumeConfig, VolumeState, WriteId},
};
use dulse_volume::replica::{Answer, Batch, Kind, Message, Rule};

use crate::{
    explore::{Model, Next},
    intern::fold,
    monitor::{Monitor, Told},
    scenario::{Faults, LeftOut, Scenario},
    server::Server,
    tables::{
        Answers, Found, InFlight, Out, Phase, Plan, PlanKey, Planned, SERVERS, Stimulus, Tables,
        Weight, batch, server_id,
    },
};

/// Most messages on their way.
const NET: usize = 14;

/// All there is, by the numbers of [`Tables`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct World {
    servers: [u32; SERVERS],
    config: u32,
    answers: u32,
    monitor: u32,
    /// In falling order, by number + 1; 0 where there is none.
    net: [u16; NET],
    /// Writes that were sent.
    started: u8,
    /// Servers that hold a lease.
    leases: u8,
    /// Servers whose directory was put back.
    rolled_back: u8,
    /// Whom an older leader may still grant leases, while its time is not over: those that were
    /// members when another began.
    old_grants: u8,
    left: Faults,
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Label {
    Write(u8, usize),
    Deliver(u16, usize),
    Server(&'static str, usize),
    Crash(usize, usize),
    Rollback(usize, usize),
    Adopt(usize, usize),
    Copy(usize, usize),
    Seal(u8, bool),
    Leader(&'static str),
    Read(usize, Found),
}

/// A search with its tables.
pub(crate) struct Search {
    pub(crate) tables: Tables,
    start: Option<World>,
}

type Steps = Vec<Next<World, Label>>;

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(op, at) => write!(f, "a client sends write {op} to server {at}"),
            Self::Deliver(message, to) => write!(f, "message {message} reaches server {to}"),
            Self::Server(what, at) => write!(f, "server {at} {what}"),
            Self::Crash(at, how) => write!(f, "server {at} is restarted, way {how}"),
            Self::Rollback(at, how) => {
                write!(f, "server {at} is restarted with an older copy of its directory, way {how}")
            }
            Self::Adopt(at, from) => write!(f, "server {at} adopts from server {from}"),
            Self::Copy(at, from) => write!(f, "server {at} copies the file of server {from}"),
            Self::Seal(present, asked) => {
                write!(f, "the leader seals; present {present:#b}, asked: {asked}")
            }
            Self::Leader(what) => write!(f, "{what}"),
            Self::Read(at, None) => write!(f, "server {at} says that there is nothing"),
            Self::Read(at, Some(None)) => write!(f, "server {at} gives the first value"),
            Self::Read(at, Some(Some(op))) => {
                write!(f, "server {at} gives the value of write {op}")
            }
        }
    }
}

impl World {
    fn set_lease(&mut self, server: usize, holds: bool) {
        self.leases = if holds { self.leases | 1 << server } else { self.leases & !(1 << server) };
    }

    fn has_lease(&self, server: usize) -> bool {
        self.leases & 1 << server != 0
    }

    fn send(&mut self, message: u16) {
        if self.net.contains(&message) {
            return;
        }
        assert_eq!(self.net[NET - 1], 0, "more messages than there is room for");
        self.net[NET - 1] = message;
        self.net.sort_unstable_by(|a, b| b.cmp(a));
    }

    fn take(&mut self, message: u16) {
        for slot in &mut self.net {
            if *slot == message {
                *slot = 0;
            }
        }
        self.net.sort_unstable_by(|a, b| b.cmp(a));
    }
}

impl Search {
    pub(crate) fn new(scenario: Scenario) -> Self {
        Self { tables: Tables::new(scenario), start: None }
    }

    const fn scenario(&self) -> &Scenario {
        &self.tables.scenario
    }

    /// Lets something happen to a server, and everything that follows at once.
    fn act(&mut self, world: &World, at: usize, stimulus: Stimulus) -> Option<(World, bool)> {
        let done = self.tables.act(world.servers[at], stimulus)?;
        let mut next = *world;
        next.servers[at] = done.server;
        let (mut can_be, mut has_outcome) = (true, false);
        for out in done.outs.iter() {
            match out {
                Out::Send(message) => next.send(*message),
                Out::Confirm(message) => {
                    let to = usize::from(self.tables.message(*message).to);
                    if let Some((told, _)) = self.act(&next, to, Stimulus::Deliver(message - 1)) {
                        next = told;
                    }
                }
                Out::Answer(op, answer) => {
                    has_outcome = true;
                    let told =
                        if matches!(answer, Answer::Done(_)) { Told::Done } else { Told::Unknown };
                    match self.tables.hear(next.monitor, *op, Some(told)) {
                        Some(monitor) => next.monitor = monitor,
                        None => can_be = false,
                    }
                }
                Out::Fenced => self.note_answer(&mut next, at),
            }
        }
        if has_outcome && stimulus != Stimulus::Tell {
            let (told, _) = self.act(&next, at, Stimulus::Tell)?;
            next = told;
        }
        Some((next, can_be))
    }

    fn note_answer(&mut self, world: &mut World, at: usize) {
        let sealed = self.tables.servers.value(world.servers[at]).core.sealed();
        if sealed.epoch == self.tables.configs.value(world.config).epoch {
            let mut answers = self.tables.answers.value(world.answers).clone();
            answers[at] = Some(sealed);
            world.answers = self.tables.answers.number(answers);
        }
    }

    fn push(
        &mut self,
        found: &mut Steps,
        step: Label,
        mut state: World,
        breaks: Option<&'static str>,
    ) {
        self.tidy(&mut state);
        if self.is_last_epoch(&state) {
            state.left.crashes = 0;
            state.left.rollbacks = 0;
        }
        for at in 0..SERVERS {
            if !self.is_disk_read(&state, at) {
                state.servers[at] = self.tables.without_disk(state.servers[at]);
            }
        }
        found.push(Next { step, state, breaks });
    }

    /// Whether the volume is writable and never will be sealed again. One of several members that
    /// is restarted then does nothing any more, which is as if it were just not heard.
    fn is_last_epoch(&mut self, world: &World) -> bool {
        let (phase, members, _) = self.tables.phase(world.config);
        let had_seals = self.scenario().faults.seals > 0;
        phase == Phase::Writable && members.count_ones() > 1 && world.left.seals == 0 && had_seals
    }

    /// Whether what is on a server's disk can still matter.
    fn is_disk_read(&self, world: &World, at: usize) -> bool {
        let Faults { crashes, rollbacks, vacuums, floors, .. } = world.left;
        let is_put_back = rollbacks > 0 && at == self.scenario().put_back;
        // A replica that counts the bytes of aborted records reads its file.
        let reads_aborted = LeftOut::OfReplica(Rule::AbortedIsMissing);
        [crashes, vacuums, floors] != [0; 3]
            || self.scenario().spares > 0
            || self.scenario().left_out == reads_aborted
            || is_put_back
    }

    fn act_and_push(
        &mut self,
        found: &mut Steps,
        world: &World,
        step: Label,
        at: usize,
        stimulus: Stimulus,
    ) -> bool {
        let Some((next, can_be)) = self.act(world, at, stimulus) else {
            return false;
        };
        let is_new = next != *world;
        if is_new || !can_be {
            let is_wrongly_stale = self.scenario().faults.rollbacks == 0
                && self.tables.servers.value(next.servers[at]).is_wrongly_stale();
            let breaks = match (can_be, is_wrongly_stale) {
                (false, _) => Some("an acknowledged write cannot be explained"),
                (true, true) => Some("a copy that followed the volume is called stale"),
                (true, false) => None,
            };
            self.push(found, step, next, breaks);
        }
        is_new
    }

    /// Takes messages away that can never do anything any more.
    fn tidy(&mut self, world: &mut World) {
        if matches!(self.scenario().left_out, LeftOut::OfReplica(_)) {
            return;
        }
        for message in world.net {
            if message != 0 && self.is_void(world, message) {
                world.take(message);
                self.confirm(world, message);
            }
        }
    }

    /// Outcomes that do nothing are confirmed all the same.
    fn confirm(&mut self, world: &mut World, number: u16) {
        let to = usize::from(self.tables.message(number).to);
        let is_outcome = batch(&self.tables.message(number).message)
            .is_some_and(|batch| batch.records.is_empty());
        if is_outcome
            && let Some((confirmed, true)) = self.act(world, to, Stimulus::Deliver(number - 1))
        {
            *world = confirmed;
        }
    }

    fn is_void(&mut self, world: &World, number: u16) -> bool {
        let InFlight { from, to, .. } = *self.tables.message(number);
        let (from, to) = (usize::from(from), usize::from(to));
        match self.tables.weight(number, world.servers[to]) {
            Weight::Something => false,
            Weight::Nothing => true,
            Weight::NothingWithoutRecord => !self.is_record_coming(world, number),
            Weight::NothingUnlessWaited => {
                let records = batch(&self.tables.message(number).message).map(|b| &b.records);
                let mut records = records.into_iter().flatten();
                !records.any(|record| self.tables.holds(world.servers[from], record.id()))
            }
        }
    }

    /// Whether a record whose outcome the message carries is still on its way to the same server.
    fn is_record_coming(&self, world: &World, number: u16) -> bool {
        let told = self.tables.message(number);
        let Some(outcomes) = batch(&told.message) else { return false };
        let speaks_of = |id: &WriteId| outcomes.commit.contains(id) || outcomes.abort.contains(id);
        world.net.iter().filter(|other| **other != 0).any(|other| {
            let other = self.tables.message(*other);
            let records = batch(&other.message).map(|batch| &batch.records);
            let mut records = records.into_iter().flatten();
            other.to == told.to && records.any(|record| speaks_of(&record.id()))
        })
    }

    fn clients(&mut self, world: &World, found: &mut Steps) {
        for op in 0..self.scenario().writes.len() {
            let writes = &self.scenario().writes;
            let is_first_of_kind = (0..op)
                .all(|before| writes[before] != writes[op] || world.started & 1 << before != 0);
            if world.started & 1 << op != 0 || !is_first_of_kind {
                continue;
            }
            let number = u8::try_from(op).unwrap();
            let mut sent = *world;
            sent.started |= 1 << op;
            sent.monitor = self.tables.hear(world.monitor, number, None).unwrap();
            for at in 0..self.scenario().servers() {
                self.act_and_push(
                    found,
                    &sent,
                    Label::Write(number, at),
                    at,
                    Stimulus::Write(number),
                );
            }
        }
        for at in 0..self.scenario().servers() {
            self.read(world, at, found);
        }
    }

    fn read(&mut self, world: &World, at: usize, found: &mut Steps) {
        let Some(value) = self.tables.read(world.servers[at], world.has_lease(at)) else {
            return;
        };
        let label = Label::Read(at, value);
        match self.tables.hear_read(world.monitor, value) {
            Some(monitor) if monitor == world.monitor => {}
            Some(monitor) => self.push(found, label, World { monitor, ..*world }, None),
            None => self.push(found, label, *world, Some("a read cannot be explained")),
        }
    }

    fn network(&mut self, world: &World, found: &mut Steps) {
        for number in world.net.into_iter().filter(|number| *number != 0) {
            let in_flight = self.tables.message(number);
            let to = usize::from(in_flight.to);
            let stays = self.tables.scenario.duplicates
                && batch(&in_flight.message).is_some_and(|batch| !batch.records.is_empty());
            let mut without = *world;
            if !stays {
                without.take(number);
            }
            let stimulus = Stimulus::Deliver(number - 1);
            if !self.act_and_push(found, &without, Label::Deliver(number, to), to, stimulus)
                && !stays
            {
                self.push(found, Label::Deliver(number, to), without, None);
            }
        }
    }

    fn servers(&mut self, world: &World, found: &mut Steps) {
        for at in 0..self.scenario().servers() {
            for peer in 0..self.scenario().servers() {
                let by = u8::try_from(peer).unwrap();
                let label = Label::Server("gives up waiting", at);
                if self.act_and_push(found, world, label, at, Stimulus::Unanswered(by)) {
                    break;
                }
            }
            self.act_and_push(
                found,
                world,
                Label::Server("asks a busy member again", at),
                at,
                Stimulus::Retry,
            );
            if self.scenario().asks {
                self.act_and_push(
                    found,
                    world,
                    Label::Server("asks for an outcome", at),
                    at,
                    Stimulus::Ask,
                );
            }
            if self.tables.concerns(world.config, at) {
                let label = Label::Server("hears of the configuration", at);
                let stimulus = Stimulus::Configure(world.config);
                self.act_and_push(found, world, label, at, stimulus);
            }
        }
    }

    fn vacuums(&mut self, world: &World, found: &mut Steps) {
        for at in 0..self.scenario().servers() {
            let mut after = *world;
            if let Some(left) = world.left.vacuums.checked_sub(1) {
                after.left.vacuums = left;
                self.act_and_push(
                    found,
                    &after,
                    Label::Server("vacuums", at),
                    at,
                    Stimulus::Vacuum,
                );
            }
            let mut after = *world;
            if let Some(left) = world.left.floors.checked_sub(1) {
                after.left.floors = left;
                let above = self.highest(world);
                let label = Label::Server("vacuums another needle", at);
                self.act_and_push(found, &after, label, at, Stimulus::Floor(above));
            }
        }
    }

    /// The stamp of a tombstone of another needle, above all records.
    fn highest(&self, world: &World) -> Ts {
        let records = world
            .servers
            .iter()
            .flat_map(|server| &self.tables.servers.value(*server).disk.records);
        let highest = records.map(|placed| placed.record.ts.0 >> 8).max().unwrap_or(0);
        Ts((highest + 1) << 8)
    }

    fn restarts(&mut self, world: &World, found: &mut Steps) {
        for at in 0..self.scenario().servers() {
            if let Some(left) = world.left.crashes.checked_sub(1) {
                for (how, server) in self.tables.crash(world.servers[at]).iter().enumerate() {
                    let mut next = *world;
                    next.left.crashes = left;
                    next.servers[at] = *server;
                    self.push(found, Label::Crash(at, how), next, None);
                }
            }
            let Some(left) = world.left.rollbacks.checked_sub(1) else { continue };
            if self.is_alone(world, at) || at != self.scenario().put_back {
                continue;
            }
            for (how, server) in self.tables.rollback(world.servers[at]).iter().enumerate() {
                let mut next = *world;
                next.left.rollbacks = left;
                next.rolled_back |= 1 << at;
                next.servers[at] = *server;
                self.push(found, Label::Rollback(at, how), next, None);
            }
        }
    }

    /// Whether a server was the only member when the volume was writable last: whatever is put back
    /// there is all that is left.
    fn is_alone(&self, world: &World, at: usize) -> bool {
        let config = self.tables.configs.value(world.config);
        let mut last = config.last_writable.iter().flat_map(|last| &last.members);
        last.all(|(member, _)| *member == server_id(at))
    }

    fn adoptions(&mut self, world: &World, found: &mut Steps) {
        if self.tables.phase(world.config).0 != Phase::Decided {
            return;
        }
        for at in 0..self.scenario().servers() {
            for from in 0..self.scenario().servers() {
                let is_known = self.tables.concerns(world.config, at);
                if from == at || !is_known || !self.tables.is_member(world.config, from) {
                    continue;
                }
                let stimulus = Stimulus::Adopt(world.servers[from]);
                let Some((next, _)) = self.act(world, at, stimulus) else { continue };
                let is_equal = self.digest(&next, at) == self.digest(&next, from);
                let is_lost = !is_equal && self.scenario().faults.rollbacks == 0;
                let breaks = is_lost.then_some("a copy that came back needs to be made again");
                self.push(found, Label::Adopt(at, from), next, breaks);
            }
        }
    }

    fn digest(&self, world: &World, at: usize) -> dulse_shared::id::Digest {
        self.tables.servers.value(world.servers[at]).core.digest()
    }

    fn repairs(&mut self, world: &World, found: &mut Steps) {
        if self.scenario().faults.repairs == 0 {
            return;
        }
        let state = self.tables.configs.value(world.config).state;
        for at in 0..self.scenario().servers() {
            if let Some(left) = world.left.repairs.checked_sub(1) {
                let plan = Plan::Repair(u8::try_from(at).unwrap());
                if let Planned::Config(config) = self.plan(world, plan, 0) {
                    let mut next = self.with_config(world, config);
                    next.left.repairs = left;
                    self.push(found, Label::Server("is to be given a copy", at), next, None);
                }
            }
            if state != (VolumeState::Repairing { target: server_id(at) }) {
                continue;
            }
            for from in 0..self.scenario().servers() {
                let source = self.tables.servers.value(world.servers[from]);
                let epoch = self.tables.configs.value(world.config).epoch;
                let is_fit = source.core.fence() == epoch
                    && source.core.standing() == Standing::Running
                    && self.tables.is_member(world.config, from);
                if is_fit {
                    let stimulus = Stimulus::Copy(world.servers[from]);
                    self.act_and_push(found, world, Label::Copy(at, from), at, stimulus);
                }
            }
        }
    }

    fn plan(&mut self, world: &World, plan: Plan, present: u8) -> Planned {
        let mut leased = world.leases;
        if world.old_grants != 0 {
            leased = u8::MAX;
        }
        if self.scenario().left_out == LeftOut::OldLeases && world.left.leaders == 0 {
            leased = 0;
        }
        let (config, answers) = (world.config, world.answers);
        let runs = world.servers.map(|server| self.tables.run(server));
        let servers = if plan == Plan::Decide { world.servers } else { [0; SERVERS] };
        self.tables.plan(PlanKey { plan, config, answers, servers, runs, present, leased })
    }

    /// A new configuration: the leader forgets the answers to the one before, and grants leases to
    /// its members.
    fn with_config(&mut self, world: &World, config: u32) -> World {
        let mut next = *world;
        next.config = config;
        next.answers = self.tables.answers.number(Answers::default());
        for at in 0..self.scenario().servers() {
            if self.tables.is_member(config, at) {
                next.set_lease(at, true);
            }
        }
        next
    }

    fn leader(&mut self, world: &World, found: &mut Steps) {
        self.seals(world, found);
        match self.tables.phase(world.config).0 {
            Phase::Writable => {}
            Phase::Undecided => self.decide(world, found),
            Phase::Decided => self.open(world, found),
        }
    }

    fn decide(&mut self, world: &World, found: &mut Steps) {
        match self.plan(world, Plan::Decide, u8::MAX) {
            Planned::Config(config) => {
                let next = self.with_config(world, config);
                self.push(found, Label::Leader("the leader decides"), next, None);
            }
            Planned::Diverged => self.diverged(world, found),
            Planned::Refused | Planned::Nothing => {}
        }
    }

    fn open(&mut self, world: &World, found: &mut Steps) {
        // Whoever came back may be taken in, or not be there at the moment.
        for present in [u8::MAX, 0] {
            match self.plan(world, Plan::Open, present) {
                Planned::Config(config) => {
                    let next = self.with_config(world, config);
                    let is_equal = self.tables.are_equal(config, &next.servers);
                    let breaks = match (self.tables.are_distinct(config), is_equal) {
                        (false, _) => Some("one copy counts twice"),
                        (true, false) => Some("members of a writable epoch differ"),
                        (true, true) => None,
                    };
                    let label = Label::Leader("the leader makes the volume writable");
                    self.push(found, label, next, breaks);
                }
                Planned::Diverged => self.diverged(world, found),
                Planned::Refused => {
                    let label = Label::Leader("the leader makes the volume writable, in vain");
                    self.push(found, label, *world, Some("a plan is refused"));
                }
                Planned::Nothing => {}
            }
        }
    }

    fn diverged(&mut self, world: &World, found: &mut Steps) {
        if self.scenario().faults.rollbacks == 0 {
            let breaks = Some("survivors differ after a decision");
            self.push(found, Label::Leader("the leader compares digests"), *world, breaks);
        }
    }

    fn seals(&mut self, world: &World, found: &mut Steps) {
        let Some(left) = world.left.seals.checked_sub(1) else { return };
        let mut seen: Vec<u32> = Vec::new();
        for present in 1..1_u8 << self.scenario().servers() {
            for asked in [false, true] {
                let planned = self.plan(world, Plan::Seal(asked), present);
                let Planned::Config(config) = planned else { continue };
                if seen.contains(&config) || self.is_only_an_old_copy(world, config) {
                    continue;
                }
                seen.push(config);
                let mut next = self.with_config(world, config);
                next.left.seals = left;
                self.push(found, Label::Seal(present, asked), next, None);
            }
        }
    }

    /// What is not promised: the only copy left is one that was put back from an older state.
    fn is_only_an_old_copy(&mut self, world: &World, config: u32) -> bool {
        self.tables.phase(config).1 & !world.rolled_back == 0
    }

    fn leases(&mut self, world: &World, found: &mut Steps) {
        for at in 0..self.scenario().servers() {
            let is_excluded = !self.tables.is_member(world.config, at);
            let has_heard = self.has_heard(world, at);
            let mut next = *world;
            next.set_lease(at, !world.has_lease(at));
            let may_renew = world.old_grants & 1 << at != 0
                || (self.scenario().left_out == LeftOut::RenewalStops && !has_heard);
            if is_excluded && (world.has_lease(at) || may_renew) {
                let what =
                    if world.has_lease(at) { "loses its lease" } else { "is granted a lease" };
                self.push(found, Label::Server(what, at), next, None);
            }
        }
        if let Some(left) = world.left.leaders.checked_sub(1) {
            let mut next = *world;
            next.left.leaders = left;
            next.answers = self.tables.answers.number(Answers::default());
            next.old_grants = self.tables.phase(world.config).1;
            self.push(found, Label::Leader("another master leads"), next, None);
        }
        if world.old_grants != 0 {
            let next = World { old_grants: 0, ..*world };
            self.push(found, Label::Leader("the old leader's time is over"), next, None);
        }
    }

    fn has_heard(&self, world: &World, at: usize) -> bool {
        let fence = self.tables.servers.value(world.servers[at]).core.fence();
        fence >= self.tables.configs.value(world.config).epoch
    }

    fn first_config(&self) -> VolumeConfig {
        crate::first_config::first_config(self.scenario())
    }
}

impl Model for Search {
    type State = World;
    type Step = Label;

    fn start(&mut self) -> World {
        if let Some(start) = self.start {
            return start;
        }
        let config = self.first_config();
        let scenario = self.scenario().clone();
        let mut servers = [0; SERVERS];
        for (at, number) in servers.iter_mut().enumerate() {
            let base = scenario.base && at < scenario.members;
            let server = Server::new(
                scenario.replica_rules(),
                server_id(at),
                &config,
                base,
                scenario.faults.rollbacks > 0 && at == scenario.put_back,
            );
            *number = self.tables.servers.number(server);
        }
        let deletes = scenario.writes.iter().enumerate();
        let deletes = deletes.filter(|(_, kind)| **kind == Kind::Tombstone);
        let deletes = deletes.fold(0, |set, (op, _)| set | 1 << op);
        let world = World {
            servers,
            config: self.tables.configs.number(config),
            answers: self.tables.answers.number(Answers::default()),
            monitor: self.tables.monitors.number(Monitor::new(!scenario.base, deletes)),
            net: [0; NET],
            started: 0,
            leases: (1 << scenario.members) - 1,
            rolled_back: 0,
            old_grants: 0,
            left: scenario.faults,
        };
        self.start = Some(world);
        world
    }

    fn fingerprint(&self, world: &World) -> u64 {
        let Faults { crashes, rollbacks, seals, vacuums, floors, repairs, leaders } = world.left;
        let small = [
            1,
            world.started,
            world.leases,
            world.rolled_back,
            world.old_grants,
            crashes | rollbacks << 4,
            seals | vacuums << 4,
            floors | repairs << 2 | leaders << 4,
        ];
        let mut print = u64::from_le_bytes(small);
        for pair in world.servers.chunks(2) {
            print = fold(print, u64::from(pair[0]) << 32 | u64::from(pair[1]));
        }
        print = fold(print, u64::from(world.config) << 32 | u64::from(world.answers));
        print = fold(print, u64::from(world.monitor));
        for messages in world.net.chunks(4) {
            let word = messages.iter().fold(0, |word, message| word << 16 | u64::from(*message));
            print = fold(print, word);
        }
        fold(print, 1)
    }

    fn describe(&self, step: &Label) -> String {
        match step {
            Label::Deliver(number, to) => {
                let InFlight { from, message, .. } = self.tables.message(*number);
                format!("server {to} hears from server {from}: {}", in_words(message))
            }
            step => step.to_string(),
        }
    }

    fn steps(&mut self, world: &World, found: &mut Steps) {
        self.clients(world, found);
        self.network(world, found);
        self.servers(world, found);
        self.vacuums(world, found);
        self.restarts(world, found);
        self.adoptions(world, found);
        self.repairs(world, found);
        self.leader(world, found);
        self.leases(world, found);
    }
}

/// A message for a trace: stamps are counted, not nanoseconds.
fn in_words(message: &Message) -> String {
    let number = |ts: Ts| format!("{}.{}", ts.0 >> 8, ts.0 & 0xff);
    match message {
        Message::Batch(Batch { epoch, commit, abort, records, .. }) => {
            let records = records.iter().map(|record| format!("store {}", number(record.ts)));
            let commit = commit.iter().map(|id| format!("commit {}", number(id.ts)));
            let abort = abort.iter().map(|id| format!("abort {}", number(id.ts)));
            let all: Vec<String> = records.chain(commit).chain(abort).collect();
            format!("epoch {}: {}", epoch.0, all.join(", "))
        }
        Message::Answer(answer) if answer.is_refused => "all refused".to_owned(),
        Message::Answer(answer) => {
            let stored = answer.stored.iter();
            let all: Vec<String> =
                stored.map(|(id, stored)| format!("{} {stored:?}", number(id.ts))).collect();
            all.join(", ")
        }
        Message::Ask { id, .. } => format!("what became of {}?", number(id.ts)),
    }
}
