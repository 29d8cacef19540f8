//! What the log was told of lately: one line a minute for each thing, however often it happens.
//!
//! Its memory is bounded: of ever new things only so many a minute are told.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::clock::BootTime;

/// One thing is told of so often.
const INTERVAL: Duration = Duration::from_secs(60);
/// Things that are remembered: more than a cluster has servers.
const MAX_REMEMBERED: usize = 1_024;

/// When each thing was told of. `K` is what tells two things apart.
#[derive(Debug)]
pub struct Complaints<K> {
    told: Mutex<HashMap<K, BootTime>>,
}

impl<K> Default for Complaints<K> {
    fn default() -> Self {
        Self { told: Mutex::default() }
    }
}

impl<K: Eq + Hash> Complaints<K> {
    /// Whether the log should hear of `what` at `now`.
    pub fn is_to_be_told(&self, what: K, now: BootTime) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |told: &BootTime| now.since(*told) < INTERVAL;
        if told.get(&what).is_some_and(is_recent) {
            return false;
        }
        if told.len() >= MAX_REMEMBERED {
            told.retain(|_, told| is_recent(told));
        }
        let has_room = told.len() < MAX_REMEMBERED;
        if has_room {
            told.insert(what, now);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> BootTime {
        BootTime::default().plus(Duration::from_secs(secs))
    }

    #[test]
    fn each_thing_is_told_of_once_a_minute() {
        let complaints = Complaints::default();
        let told = (0..=125).filter(|secs| complaints.is_to_be_told("one", at(*secs)));
        assert_eq!(told.collect::<Vec<u64>>(), [0, 60, 120]);
        assert!(complaints.is_to_be_told("other", at(125)));
    }

    #[test]
    fn ever_new_things_take_no_more_memory_and_are_forgotten_after_a_minute() {
        let complaints = Complaints::default();
        let told = (0..5 * MAX_REMEMBERED).filter(|n| complaints.is_to_be_told(*n, at(0)));
        assert_eq!(told.count(), MAX_REMEMBERED);
        assert_eq!(complaints.told.lock().unwrap().len(), MAX_REMEMBERED);
        assert!(complaints.is_to_be_told(5 * MAX_REMEMBERED, at(60)));
        assert_eq!(complaints.told.lock().unwrap().len(), 1);
    }
}
