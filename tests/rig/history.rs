//! What clients asked and were answered, and what was done to the cluster meanwhile, on one clock.
//!
//! A history is data: clients write it, checks read it, and a test of a check makes one up. Every
//! answer is one of three: it was done, it was refused and has no effect, or nobody knows.

use std::{fmt, time::Duration};

use dulse_shared::{
    clock::{BootTime, Clock},
    id::Fid,
};

/// Time since the run began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Moment(pub Duration);

/// The clock of a run.
#[derive(Clone, Debug)]
pub struct Stopwatch {
    clock: Clock,
    begin: BootTime,
}

/// How a request ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome<T> {
    /// It was done, with this answer.
    Ok(T),
    /// It was refused, or never reached a server: it has no effect and will have none.
    Failed(String),
    /// It may or may not take effect, at any time from its start on.
    Unknown(String),
}

/// What a client may have written into a needle: every write has its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version(pub u32);

/// What a needle held when it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// All bytes of this version.
    Version(Version),
    /// No such needle.
    Absent,
    /// Bytes that nobody wrote.
    Wrong(String),
}

/// What was asked, and how it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A fid.
    Assign(Outcome<Fid>),
    /// To write a version.
    Put(Fid, Version, Outcome<()>),
    /// To delete.
    Delete(Fid, Outcome<()>),
    /// To read.
    Get(Fid, Outcome<Content>),
}

/// One request of one client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Who asked.
    pub client: String,
    /// Which server was asked.
    pub server: String,
    /// Before the request was sent.
    pub start: Moment,
    /// After the answer had come, or was no longer waited for.
    pub end: Moment,
    /// What, and how it ended.
    pub event: Event,
}

/// A server that the other servers did not hear, or that did not hear them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Isolation {
    /// Which.
    pub server: String,
    /// From when on no packet went that way.
    pub from: Moment,
    /// When packets may have gone again.
    pub until: Moment,
}

/// A whole run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    /// In no particular order.
    pub operations: Vec<Operation>,
    /// The masters that were cut off.
    pub isolations: Vec<Isolation>,
}

impl Stopwatch {
    /// One that begins now.
    pub fn start() -> Self {
        let clock = Clock::System;
        Self { begin: clock.boot(), clock }
    }

    /// Now.
    pub fn now(&self) -> Moment {
        Moment(self.clock.since(self.begin))
    }
}

impl Moment {
    /// This, `by` later.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0 + by)
    }

    /// Time from `earlier` to this; zero if that lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl History {
    /// All fids that were handed out, with the request.
    pub fn assigned(&self) -> impl Iterator<Item = (&Operation, Fid)> {
        self.operations.iter().filter_map(|operation| match operation.event {
            Event::Assign(Outcome::Ok(fid)) => Some((operation, fid)),
            _ => None,
        })
    }

    /// One line for each request, in order of their starts, and for each isolation.
    pub fn lines(&self) -> String {
        let mut sorted: Vec<&Operation> = self.operations.iter().collect();
        sorted.sort_by_key(|operation| operation.start);
        let isolations = self.isolations.iter().map(|isolation| {
            let Isolation { server, from, until } = isolation;
            format!("{from}..{until} {server} is cut off\n")
        });
        isolations.chain(sorted.iter().map(|operation| format!("{operation}\n"))).collect()
    }

    /// How many requests ended in which way, for people.
    pub fn summary(&self) -> String {
        let count = |name: &str| {
            let of_it = self.operations.iter().filter(|o| o.event.name() == name);
            let ways: Vec<&str> = of_it.map(|operation| operation.event.ending()).collect();
            let number = |way: &str| ways.iter().filter(|w| **w == way).count();
            format!("{} {name}s ({} unknown)", number("ok"), number("unknown"))
        };
        ["assign", "put", "get", "delete"].map(count).join(", ")
    }
}

impl Event {
    /// The needle that is concerned, unless a fid is asked for.
    pub fn fid(&self) -> Option<Fid> {
        match self {
            Self::Assign(_) => None,
            Self::Put(fid, ..) | Self::Delete(fid, _) | Self::Get(fid, _) => Some(*fid),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Assign(_) => "assign",
            Self::Put(..) => "put",
            Self::Delete(..) => "delete",
            Self::Get(..) => "get",
        }
    }

    fn ending(&self) -> &'static str {
        match self {
            Self::Assign(outcome) => outcome.name(),
            Self::Put(_, _, outcome) | Self::Delete(_, outcome) => outcome.name(),
            Self::Get(_, outcome) => outcome.name(),
        }
    }
}

impl<T> Outcome<T> {
    /// The same, about another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Ok(value) => Outcome::Ok(change(value)),
            Self::Failed(why) => Outcome::Failed(why),
            Self::Unknown(why) => Outcome::Unknown(why),
        }
    }

    /// An answer that cannot be read says nothing about what was done.
    pub fn and_then_known<U>(self, read: impl FnOnce(T) -> Option<U>) -> Outcome<U> {
        match self {
            Self::Ok(value) => read(value)
                .map_or_else(|| Outcome::Unknown("it cannot be read".to_owned()), Outcome::Ok),
            Self::Failed(why) => Outcome::Failed(why),
            Self::Unknown(why) => Outcome::Unknown(why),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Ok(_) => "ok",
            Self::Failed(_) => "failed",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4}", self.0.as_secs_f64())
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, server, start, end, event } = self;
        write!(f, "{start}..{end} {client} -> {server}: {event}")
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assign(Outcome::Ok(fid)) => write!(f, "assign: {fid}"),
            Self::Assign(other) => write!(f, "assign: {other:?}"),
            Self::Put(fid, version, outcome) => write!(f, "put {fid} {version:?}: {outcome:?}"),
            Self::Delete(fid, outcome) => write!(f, "delete {fid}: {outcome:?}"),
            Self::Get(fid, outcome) => write!(f, "get {fid}: {outcome:?}"),
        }
    }
}
