//! The values that worlds point to, and the product's code applied to them, each application once.

use std::{collections::BTreeSet, rc::Rc};

use dulse_master::{
    cluster_state::{ClusterState, Command, Outcome},
    plan::{
        reconcile::{Step, plan_decision, plan_opening},
        seal::{Cause, ServerView, VolumeView, plan_seal},
    },
};
use dulse_shared::{
    id::{ServerId, Ts},
    wire::{Incarnation, Sealed, Standing, VolumeConfig, VolumeState, WriteId},
};
use dulse_volume::replica::{Answer, Batch, Client, Event, Message, Read};

use crate::{
    intern::{FastMap, Interner},
    monitor::{Monitor, Told},
    scenario::Scenario,
    server::{BASE, Output, Server, key, new_record},
};

/// Most servers in a world.
pub(crate) const SERVERS: usize = 4;

/// A message on its way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct InFlight {
    pub(crate) from: u8,
    pub(crate) to: u8,
    pub(crate) message: Message,
}

/// What the leader keeps in memory: the answers to the present configuration.
pub(crate) type Answers = [Option<Sealed>; SERVERS];

/// What happens to a server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Stimulus {
    Write(u8),
    Deliver(u16),
    Unanswered(u8),
    Retry,
    Tell,
    Ask,
    Configure(u32),
    /// From the server with this number.
    Adopt(u32),
    Copy(u32),
    Vacuum,
    Floor(Ts),
}

/// What leaves a server, by numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Out {
    Send(u16),
    Confirm(u16),
    Answer(u8, Answer),
    Fenced,
}

/// Whether a message to a server can still do anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Weight {
    Something,
    Nothing,
    /// Nothing, unless the record that its outcomes speak of still comes.
    NothingWithoutRecord,
    /// Nothing, unless its sender waits for the refusal.
    NothingUnlessWaited,
}

/// What a stimulus did; nothing if it could not be.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) server: u32,
    pub(crate) outs: Rc<[Out]>,
}

/// A plan's part of a world.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct PlanKey {
    pub(crate) plan: Plan,
    pub(crate) config: u32,
    pub(crate) answers: u32,
    /// The servers, where the plan asks them what they hold; the others are told by their run.
    pub(crate) servers: [u32; SERVERS],
    pub(crate) runs: [u8; SERVERS],
    /// Who can be reached, and who may hold a lease.
    pub(crate) present: u8,
    pub(crate) leased: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Plan {
    Seal(bool),
    Decide,
    Open,
    Repair(u8),
}

/// Where a volume is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Writable,
    Undecided,
    Decided,
}

/// What a plan gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Planned {
    Nothing,
    Diverged,
    /// A command that the cluster state refuses.
    Refused,
    Config(u32),
}

/// All tables of one search.
pub(crate) struct Tables {
    pub(crate) scenario: Scenario,
    pub(crate) servers: Interner<Server>,
    pub(crate) configs: Interner<VolumeConfig>,
    phases: Vec<(Phase, u8, u8)>,
    pub(crate) answers: Interner<Answers>,
    pub(crate) messages: Interner<InFlight>,
    pub(crate) monitors: Interner<Monitor>,
    done: FastMap<(u32, Stimulus), Option<Done>>,
    crashes: FastMap<u32, Rc<[u32]>>,
    rollbacks: FastMap<u32, Rc<[u32]>>,
    reads: FastMap<(u32, bool), Option<Found>>,
    plans: FastMap<PlanKey, Planned>,
    runs: Vec<u8>,
    weights: FastMap<(u16, u32), Weight>,
    diskless: FastMap<u32, u32>,
    heard: FastMap<(u32, u8), Option<u32>>,
    read_by: FastMap<(u32, Found), Option<u32>>,
}

/// What a read found: see [`Monitor::read`].
pub(crate) type Found = Option<Option<usize>>;

pub(crate) fn server_id(index: usize) -> ServerId {
    ServerId::from(index as u128 + 1)
}

fn index_of(server: ServerId) -> u8 {
    u8::try_from(server.as_u128() - 1).unwrap()
}

impl Tables {
    pub(crate) fn new(scenario: Scenario) -> Self {
        Self {
            scenario,
            servers: Interner::default(),
            configs: Interner::default(),
            phases: Vec::new(),
            answers: Interner::default(),
            messages: Interner::default(),
            monitors: Interner::default(),
            done: FastMap::default(),
            crashes: FastMap::default(),
            rollbacks: FastMap::default(),
            reads: FastMap::default(),
            plans: FastMap::default(),
            runs: Vec::new(),
            weights: FastMap::default(),
            diskless: FastMap::default(),
            heard: FastMap::default(),
            read_by: FastMap::default(),
        }
    }

    /// Steps a server.
    pub(crate) fn act(&mut self, server: u32, stimulus: Stimulus) -> Option<Done> {
        if let Some(done) = self.done.get(&(server, stimulus)) {
            return done.clone();
        }
        let mut changed = self.servers.value(server).clone();
        let done = self.perform(&mut changed, stimulus).map(|outputs| {
            let from = index_of(changed.core.server());
            let outs = outputs.into_iter().filter_map(|output| self.out(from, output)).collect();
            Done { server: self.servers.number(changed), outs }
        });
        self.done.insert((server, stimulus), done.clone());
        done
    }

    fn perform(&self, server: &mut Server, stimulus: Stimulus) -> Option<Vec<Output>> {
        let rules = self.scenario.replica_rules();
        let event = match stimulus {
            Stimulus::Write(op) => return self.write(server, op),
            Stimulus::Deliver(number) => {
                let InFlight { from, message, .. } = self.messages.value(u32::from(number)).clone();
                Event::Received { from: server_id(from.into()), message, has_room: true }
            }
            Stimulus::Unanswered(by) => Event::Unanswered { by: server_id(by.into()) },
            Stimulus::Retry => Event::Retry(key()),
            Stimulus::Tell => Event::Tell,
            Stimulus::Ask => return ask(server),
            Stimulus::Configure(config) => {
                Event::Configured(Box::new(self.configs.value(config).clone()))
            }
            Stimulus::Adopt(from) => adoption(server, self.servers.value(from))?,
            Stimulus::Copy(from) => {
                *server = server.copied(rules, self.servers.value(from));
                return Some(vec![Output::Fenced(server.core.sealed())]);
            }
            Stimulus::Vacuum => return server.vacuum().then(Vec::new),
            Stimulus::Floor(ts) => return server.raise_floor(ts).then(Vec::new),
        };
        Some(server.step(event))
    }

    /// A write that is turned away leaves no trace: the client may come again.
    fn write(&self, server: &mut Server, op: u8) -> Option<Vec<Output>> {
        let before = server.disk.clone();
        let event = Event::Write {
            client: Client(op.into()),
            write: new_record(op.into(), self.scenario.writes[usize::from(op)]),
            now_ns: 0,
            has_lease: true,
        };
        let mut outputs = server.step(event);
        outputs.extend(server.step(Event::Flush));
        let is_refused = outputs.iter().any(|output| {
            !matches!(
                output,
                Output::Answer(_, Answer::Done(_) | Answer::Unknown) | Output::Send(..)
            )
        });
        assert!(!is_refused || server.disk == before, "a refused write left a trace");
        (!is_refused).then_some(outputs)
    }

    fn out(&mut self, from: u8, output: Output) -> Option<Out> {
        match output {
            // A confirmation of outcomes only stops the repeating of them: it arrives at once.
            Output::Send(to, Message::Answer(answer))
                if answer.stored.is_empty() && !answer.is_refused =>
            {
                let message = Message::Answer(answer);
                let in_flight = InFlight { from, to: index_of(to), message };
                Some(Out::Confirm(u16::try_from(self.messages.number(in_flight) + 1).unwrap()))
            }
            Output::Send(to, message) => {
                let in_flight = InFlight { from, to: index_of(to), message };
                Some(Out::Send(u16::try_from(self.messages.number(in_flight) + 1).unwrap()))
            }
            Output::Answer(op, answer) => Some(Out::Answer(u8::try_from(op).unwrap(), answer)),
            Output::Fenced(_) => Some(Out::Fenced),
        }
    }

    /// A server that nothing will read the disk of any more: what is on it no longer matters.
    pub(crate) fn without_disk(&mut self, server: u32) -> u32 {
        if let Some(without) = self.diskless.get(&server) {
            return *without;
        }
        let mut changed = self.servers.value(server).clone();
        changed.forget_disk();
        let without = self.servers.number(changed);
        self.diskless.insert(server, without);
        self.diskless.insert(without, without);
        without
    }

    /// What a message, by number + 1, can still do at a server.
    pub(crate) fn weight(&mut self, number: u16, server: u32) -> Weight {
        if let Some(weight) = self.weights.get(&(number, server)) {
            return *weight;
        }
        let message = self.message(number).message.clone();
        let fence = self.servers.value(server).core.fence();
        let is_idle = self
            .act(server, Stimulus::Deliver(number - 1))
            .is_some_and(|done| done.server == server);
        let weight = match &message {
            Message::Ask { epoch, .. } if *epoch < fence => Weight::Nothing,
            Message::Ask { .. } => Weight::Something,
            Message::Batch(batch) if batch.epoch < fence => Weight::Nothing,
            Message::Answer(answer) if answer.epoch < fence || is_idle => Weight::Nothing,
            Message::Answer(answer) => {
                let is_waited = answer.stored.iter().any(|(id, _)| self.holds(server, *id));
                if is_waited || answer.is_refused { Weight::Something } else { Weight::Nothing }
            }
            Message::Batch(batch) if batch.records.is_empty() => {
                let mut outcomes = batch.commit.iter().chain(&batch.abort);
                let is_held = outcomes.any(|id| self.holds(server, *id));
                if is_held { Weight::Something } else { Weight::NothingWithoutRecord }
            }
            Message::Batch(_) if is_idle => Weight::NothingUnlessWaited,
            Message::Batch(_) => Weight::Something,
        };
        self.weights.insert((number, server), weight);
        weight
    }

    /// A message by number + 1.
    pub(crate) fn message(&self, number: u16) -> &InFlight {
        self.messages.value(u32::from(number) - 1)
    }

    /// Whether a server holds a write without outcome.
    pub(crate) fn holds(&self, server: u32, id: WriteId) -> bool {
        let unresolved = self.servers.value(server).core.sealed().unresolved;
        unresolved.iter().any(|unresolved| unresolved.id == id)
    }

    /// The servers that a crash can leave.
    pub(crate) fn crash(&mut self, server: u32) -> Rc<[u32]> {
        if let Some(left) = self.crashes.get(&server) {
            return left.clone();
        }
        let left = self.servers.value(server).crashes(self.scenario.replica_rules());
        let left: Rc<[u32]> = left.into_iter().map(|server| self.servers.number(server)).collect();
        self.crashes.insert(server, left.clone());
        left
    }

    /// The servers that putting back an older directory can leave.
    pub(crate) fn rollback(&mut self, server: u32) -> Rc<[u32]> {
        if let Some(left) = self.rollbacks.get(&server) {
            return left.clone();
        }
        let rules = self.scenario.replica_rules();
        let now = self.servers.value(server).clone();
        let older = now.older_disks().into_iter().map(|disk| now.restarted(rules, disk));
        let left: Rc<[u32]> = older.map(|server| self.servers.number(server)).collect();
        self.rollbacks.insert(server, left.clone());
        left
    }

    /// What a reader at a server finds; nothing if it gets no answer.
    pub(crate) fn read(&mut self, server: u32, has_lease: bool) -> Option<Found> {
        let servers = &self.servers;
        *self.reads.entry((server, has_lease)).or_insert_with(|| {
            match servers.value(server).core.read(key(), has_lease) {
                Read::Version(record) if record.content == BASE => Some(Some(None)),
                Read::Version(record) => Some(Some(Some(record.content as usize))),
                Read::Nothing => Some(None),
                Read::Wait { .. } | Read::Unavailable => None,
            }
        })
    }

    /// The monitor after an invocation (`told` none) or an answer; none if it cannot be.
    pub(crate) fn hear(&mut self, monitor: u32, op: u8, told: Option<Told>) -> Option<u32> {
        let what = op * 4 + told.map_or(0, |told| if told == Told::Done { 1 } else { 2 });
        if let Some(heard) = self.heard.get(&(monitor, what)) {
            return *heard;
        }
        let mut changed = *self.monitors.value(monitor);
        let can_be = match told {
            None => {
                changed.invoke(op.into());
                true
            }
            Some(told) => changed.answer(op.into(), told),
        };
        let heard = can_be.then(|| self.monitors.number(changed));
        self.heard.insert((monitor, what), heard);
        heard
    }

    /// The monitor after a read; none if it cannot be.
    pub(crate) fn hear_read(&mut self, monitor: u32, found: Found) -> Option<u32> {
        if let Some(heard) = self.read_by.get(&(monitor, found)) {
            return *heard;
        }
        let mut changed = *self.monitors.value(monitor);
        let heard = changed.read(found).then(|| self.monitors.number(changed));
        self.read_by.insert((monitor, found), heard);
        heard
    }

    /// Which run of its server a server is in.
    pub(crate) fn run(&mut self, server: u32) -> u8 {
        while self.runs.len() < self.servers.len() {
            let server = self.servers.value(u32::try_from(self.runs.len()).unwrap());
            self.runs.push(u8::try_from(server.incarnation.0).unwrap());
        }
        self.runs[server as usize]
    }

    /// What the leader does about the volume.
    pub(crate) fn plan(&mut self, key: PlanKey) -> Planned {
        if let Some(planned) = self.plans.get(&key) {
            return *planned;
        }
        let command = self.command(key);
        let planned = match command {
            Ok(Some(command)) => self.apply(key.config, &command),
            Ok(None) => Planned::Nothing,
            Err(()) => Planned::Diverged,
        };
        self.plans.insert(key, planned);
        planned
    }

    fn command(&self, key: PlanKey) -> Result<Option<Command>, ()> {
        let rules = self.scenario.plan_rules();
        let mut view = self.view(&key);
        let (id, epoch) = (view.config.id, view.config.epoch);
        let step = match key.plan {
            Plan::Seal(is_asked) => {
                let cause = if is_asked { Cause::Asked } else { Cause::Lost };
                let seal = plan_seal(&view, cause, rules);
                return Ok(seal.map(|seal| Command::SealVolumes { volumes: vec![seal] }));
            }
            Plan::Repair(target) => {
                let target = server_id(target.into());
                return Ok(Some(Command::RepairVolume { id, epoch, target }));
            }
            Plan::Decide => match plan_decision(&view, rules) {
                Step::Ask(ids) => {
                    self.ask_holdings(&mut view, &key, &ids);
                    plan_decision(&view, rules)
                }
                step => step,
            },
            Plan::Open => plan_opening(&view, rules),
        };
        match step {
            Step::Propose(command) => Ok(Some(command)),
            Step::Diverged => Err(()),
            Step::Wait(_) | Step::Ask(_) => Ok(None),
        }
    }

    fn view(&self, key: &PlanKey) -> VolumeView {
        let config = self.configs.value(key.config).clone();
        let answers = self.answers.value(key.answers);
        let server = |at: usize| {
            let view = ServerView {
                incarnation: Incarnation(key.runs[at].into()),
                is_present: key.present & (1 << at) != 0,
                may_have_lease: key.leased & (1 << at) != 0,
                sealed: answers[at].clone(),
                holdings: Vec::new(),
            };
            (server_id(at), view)
        };
        VolumeView { config, servers: (0..self.scenario.servers()).map(server).collect() }
    }

    /// Asks those that still run as they answered.
    fn ask_holdings(&self, view: &mut VolumeView, key: &PlanKey, ids: &[WriteId]) {
        let epoch = view.config.epoch;
        for (at, known) in view.servers.values_mut().enumerate() {
            let server = self.servers.value(key.servers[at]);
            if known.answer(epoch).is_some() && server.core.fence() == epoch {
                known.holdings = server.core.holding(ids);
            }
        }
    }

    fn apply(&mut self, config: u32, command: &Command) -> Planned {
        let config = self.configs.value(config).clone();
        let mut state = ClusterState::default();
        state.volumes.insert(config.id, config.into());
        match state.apply(command) {
            Outcome::Volumes { configs } => match configs.into_iter().next() {
                Some(config) => Planned::Config(self.configs.number(config)),
                None => Planned::Nothing,
            },
            _ => Planned::Refused,
        }
    }

    /// Whether no server is a member twice.
    pub(crate) fn are_distinct(&self, config: u32) -> bool {
        let members = &self.configs.value(config).members;
        let servers: BTreeSet<ServerId> = members.iter().map(|member| member.server).collect();
        servers.len() == members.len()
    }

    /// Where a volume is in its life, its members, and who has a reason to hear of it.
    pub(crate) fn phase(&mut self, config: u32) -> (Phase, u8, u8) {
        while self.phases.len() < self.configs.len() {
            let config = self.configs.value(u32::try_from(self.phases.len()).unwrap());
            let set = |servers: &mut dyn Iterator<Item = ServerId>| {
                servers.fold(0, |set, server| set | 1 << index_of(server))
            };
            let members = set(&mut config.members.iter().map(|member| member.server));
            let last = config.last_writable.iter().flat_map(|last| &last.members);
            let concerned = members | set(&mut last.map(|(server, _)| *server));
            let phase = match (&config.state, &config.decision) {
                (VolumeState::Writable, _) => Phase::Writable,
                (_, None) => Phase::Undecided,
                (_, Some(_)) => Phase::Decided,
            };
            self.phases.push((phase, members, concerned));
        }
        self.phases[config as usize]
    }

    pub(crate) fn is_member(&mut self, config: u32, server: usize) -> bool {
        self.phase(config).1 & 1 << server != 0
    }

    /// Whether a server has a reason to hear of a configuration.
    pub(crate) fn concerns(&mut self, config: u32, server: usize) -> bool {
        self.phase(config).2 & 1 << server != 0
    }

    /// Whether all members have the same live version.
    pub(crate) fn are_equal(&self, config: u32, servers: &[u32; SERVERS]) -> bool {
        let config = self.configs.value(config);
        let digest = |member: ServerId| {
            let server = servers[usize::from(index_of(member))];
            self.servers.value(server).core.digest()
        };
        let mut digests = config.members.iter().map(|member| digest(member.server));
        let first = digests.next();
        digests.all(|digest| Some(digest) == first)
    }
}

/// Asks the coordinator of what is pending.
fn ask(server: &Server) -> Option<Vec<Output>> {
    let Read::Wait { id, coordinator: Some(coordinator) } = server.core.read(key(), true) else {
        return None;
    };
    let dulse_volume::replica::Action::Send { to, message } = server.core.question(id, coordinator)
    else {
        return None;
    };
    Some(vec![Output::Send(to, message)])
}

/// What a server that comes back takes over from another.
fn adoption(server: &Server, from: &Server) -> Option<Event> {
    let epoch = server.core.fence();
    let is_due = server.core.standing() == Standing::Returned && from.core.fence() == epoch;
    let is_decided = from.accepted().decision.is_some();
    let states = from.core.key_states(&server.core.unresolved_keys())?;
    let is_first = !server.core.sealed().has_adopted;
    (is_due && is_decided && is_first).then_some(Event::Adopt { epoch, states })
}

/// The records and outcomes in a message, for the tidying of the network.
pub(crate) fn batch(message: &Message) -> Option<&Batch> {
    match message {
        Message::Batch(batch) => Some(batch),
        Message::Answer(_) | Message::Ask { .. } => None,
    }
}
