//! The events of this master in order: the last thousand, with numbers and times.
//!
//! Each has a line in the log. Numbers begin at 1 with every run of the master; a cursor names the
//! run as well, so that whoever follows is told of everything anew after a restart instead of
//! missing as much as was told before.

use std::{
    collections::VecDeque,
    fmt,
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use dulse_shared::wire::{ClusterEvent, EventKind, EventList};
use tokio::sync::watch;

use crate::{
    cluster_state::ClusterState,
    events::{Happening, Observer},
    raft::Leadership,
    topology::Topology,
    volume_layout::Layouts,
};

/// Events that are remembered.
const MAX_EVENTS: usize = 1_000;

/// What happened, and who waits for more.
pub(crate) struct EventBoard {
    run: u64,
    observer: Mutex<Observer>,
    events: Mutex<VecDeque<ClusterEvent>>,
    last: watch::Sender<u64>,
}

/// How far somebody has followed the events: `RUN.NUMBER`, or `NUMBER` alone for this run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EventCursor {
    run: Option<u64>,
    number: u64,
}

/// A text that is no such cursor.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0:?} is no place in the events: pass a number, the cursor of the last answer, or nothing"
)]
pub(crate) struct ParseEventCursorError(String);

impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.run.map_or(Ok(()), |run| write!(f, "{run:x}."))?;
        self.number.fmt(f)
    }
}

impl FromStr for EventCursor {
    type Err = ParseEventCursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseEventCursorError(text.chars().take(100).collect());
        let (run, number) = match text.split_once('.') {
            Some((run, number)) => {
                (Some(u64::from_str_radix(run, 16).map_err(|_| error())?), number)
            }
            None => (None, text),
        };
        Ok(Self { run, number: number.parse().map_err(|_| error())? })
    }
}

impl EventBoard {
    /// Nothing has happened yet; `run` is a random number.
    pub(crate) fn new(run: u64) -> Self {
        Self {
            run,
            observer: Mutex::default(),
            events: Mutex::default(),
            last: watch::Sender::new(0),
        }
    }

    /// What happened to servers and volumes since the last look. The caller tells it, in order.
    pub(crate) fn look(
        &self,
        state: &ClusterState,
        topology: &Topology,
        layouts: &Layouts,
    ) -> Vec<Happening> {
        self.observer().look(state, topology, layouts)
    }

    /// The same of the leadership.
    pub(crate) fn look_at_leader(&self, leadership: &Leadership, version: u64) -> Vec<Happening> {
        self.observer().look_at_leader(leadership, version).into_iter().collect()
    }

    /// Takes note of what happened at a time, in milliseconds since 1970.
    pub(crate) fn tell(&self, happenings: Vec<Happening>, at_ms: u64) {
        if happenings.is_empty() {
            return;
        }
        let mut events = self.events();
        let mut number = *self.last.borrow();
        for happening in happenings {
            number += 1;
            let event = happening.at(number, at_ms);
            log(&event);
            if events.len() >= MAX_EVENTS {
                events.pop_front();
            }
            events.push_back(event);
        }
        self.last.send_replace(number);
    }

    /// The number of the last event, and word of every new one.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// Whether somebody who is at `since` has something to be told when the last event is `last`.
    pub(crate) fn is_behind(&self, since: EventCursor, last: u64) -> bool {
        since.run.is_some_and(|run| run != self.run) || since.number != last
    }

    /// What happened after `since`, oldest first. A number that this run has not come to is of
    /// another one.
    pub(crate) fn since(&self, since: Option<EventCursor>) -> EventList {
        let events = self.events();
        let last = *self.last.borrow();
        let is_known = |since: &EventCursor| {
            since.run.is_none_or(|run| run == self.run) && since.number <= last
        };
        let after = since.filter(is_known).map_or(0, |since| since.number);
        let told = events.iter().filter(|event| event.number > after).cloned().collect();
        let cursor = EventCursor { run: Some(self.run), number: last };
        EventList { cursor: cursor.to_string(), events: told }
    }

    /// The last `count`, newest first.
    pub(crate) fn newest(&self, count: usize) -> Vec<ClusterEvent> {
        self.events().iter().rev().take(count).cloned().collect()
    }

    fn observer(&self) -> MutexGuard<'_, Observer> {
        self.observer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn events(&self) -> MutexGuard<'_, VecDeque<ClusterEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(event: &ClusterEvent) {
    let ClusterEvent { number, kind, text, .. } = event;
    if *kind == EventKind::Left {
        tracing::warn!(event = number, "{text}");
    } else {
        tracing::info!(event = number, "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(list: &EventList) -> Vec<u64> {
        list.events.iter().map(|event| event.number).collect()
    }

    fn board(happenings: usize) -> EventBoard {
        let board = EventBoard::new(0xab);
        for term in 0..happenings {
            let leader = Some(format!("a:{}", term + 1).parse().unwrap());
            let leadership = Leadership { is_leader: false, term: 1, leader };
            board.tell(board.look_at_leader(&leadership, 0), 7);
        }
        board
    }

    #[test]
    fn the_last_thousand_are_told_in_order_from_where_somebody_is() {
        let board = board(MAX_EVENTS + 3);
        let all = board.since(None);
        assert_eq!(numbers(&all), (4..=1_003).collect::<Vec<u64>>());
        let since = |text: &str| board.since(Some(text.parse().unwrap()));
        assert_eq!(numbers(&since("1001")), [1_002, 1_003]);
        assert_eq!(numbers(&since("ab.1001")), [1_002, 1_003]);
        assert!(numbers(&since(&all.cursor)).is_empty());
        for other in ["ac.1001", "5000"] {
            assert_eq!(numbers(&since(other)).len(), MAX_EVENTS, "{other}");
        }
        assert_eq!(board.newest(2).iter().map(|e| e.number).collect::<Vec<_>>(), [1_003, 1_002]);
    }

    #[test]
    fn who_is_up_to_date_waits_and_who_comes_from_another_run_does_not() {
        let board = board(3);
        for (text, is_behind) in
            [("3", false), ("ab.3", false), ("2", true), ("9", true), ("ac.3", true)]
        {
            let cursor: EventCursor = text.parse().unwrap();
            assert_eq!(board.is_behind(cursor, 3), is_behind, "{text}");
        }
        for bad in ["", "x", "x.3", "ab.", "1.2.3"] {
            assert!(bad.parse::<EventCursor>().is_err(), "{bad}");
        }
    }
}
