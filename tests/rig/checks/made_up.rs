//! Histories that were made up, in milliseconds, to show that a check finds what it is for.

use std::time::Duration;

use dulse_shared::id::Fid;

use crate::history::{Content, Event, History, Moment, Operation, Outcome, Version};

/// How a made-up request ends.
#[derive(Clone, Copy)]
pub enum Ending {
    Ok,
    Failed,
    Unknown,
}

impl Ending {
    fn with<T>(self, value: T) -> Outcome<T> {
        match self {
            Self::Ok => Outcome::Ok(value),
            Self::Failed => Outcome::Failed("refused".to_owned()),
            Self::Unknown => Outcome::Unknown("no answer".to_owned()),
        }
    }
}

pub fn history(operations: impl IntoIterator<Item = Operation>) -> History {
    History { operations: operations.into_iter().collect(), isolations: Vec::new() }
}

pub fn millis(millis: u64) -> Moment {
    Moment(Duration::from_millis(millis))
}

fn operation(server: &str, start: u64, end: u64, event: Event) -> Operation {
    let (client, server) = ("client".to_owned(), server.to_owned());
    Operation { client, server, start: millis(start), end: millis(end), event }
}

pub fn assigned(server: &str, start: u64, end: u64, fid: &str) -> Operation {
    operation(server, start, end, Event::Assign(Outcome::Ok(fid.parse().unwrap())))
}

pub fn refused(server: &str, start: u64, end: u64) -> Operation {
    operation(server, start, end, Event::Assign(Outcome::Failed("no leader".to_owned())))
}

pub fn unknown(server: &str, start: u64, end: u64) -> Operation {
    operation(server, start, end, Event::Assign(Outcome::Unknown("no answer".to_owned())))
}

/// The needle that puts, deletes and gets are about.
fn needle() -> Fid {
    "3,01637037d6".parse().unwrap()
}

pub fn put(version: u32, start: u64, end: u64, ending: Ending) -> Operation {
    operation("v1", start, end, Event::Put(needle(), Version(version), ending.with(())))
}

pub fn delete(start: u64, end: u64, ending: Ending) -> Operation {
    operation("v1", start, end, Event::Delete(needle(), ending.with(())))
}

pub fn get(version: u32, start: u64, end: u64) -> Operation {
    got(start, end, Content::Version(Version(version)))
}

pub fn get_absent(start: u64, end: u64) -> Operation {
    got(start, end, Content::Absent)
}

pub fn get_wrong(start: u64, end: u64) -> Operation {
    got(start, end, Content::Wrong("of another needle".to_owned()))
}

fn got(start: u64, end: u64, content: Content) -> Operation {
    operation("v1", start, end, Event::Get(needle(), Outcome::Ok(content)))
}
