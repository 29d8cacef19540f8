//! Which foreign volume is admitted next, pure.
//!
//! An id is in the queue once at most, or under way, so that the queue is never longer than the list
//! of foreign volumes, whatever masters repeat. One that could not be admitted rests, unless its
//! configuration changes: reading a whole file in vain is nothing to do all the time.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use dulse_shared::{
    clock::BootTime,
    id::{ClusterId, VolumeId},
    wire::VolumeConfig,
};

/// How long a volume rests at least that could not be admitted.
const MIN_REST: Duration = Duration::from_secs(60);
/// It rests so many times as long as the attempt took: a disk that is slow to fail is spared.
const RESTS_PER_ATTEMPT: u32 = 10;

/// A foreign volume that masters have admitted.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Asked {
    /// The directory where it lies.
    pub(super) dir_index: usize,
    /// Whose it becomes.
    pub(super) cluster: ClusterId,
    /// Its configuration.
    pub(super) config: VolumeConfig,
}

/// What waits, what is under way, and what rests.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Asked>,
    under_way: Option<Asked>,
    failed: HashMap<(usize, VolumeId), Failed>,
}

/// The last attempt, which was in vain.
#[derive(Debug)]
struct Failed {
    config: VolumeConfig,
    reason: String,
    rests_until: BootTime,
}

impl Queue {
    /// Puts a volume at the end, unless it is there, under way, or rests; whether it was put there.
    /// One that waits gets the newer of both configurations.
    pub(super) fn ask(&mut self, asked: Asked, now: BootTime) -> bool {
        let id = asked.config.id;
        if self.under_way.as_ref().is_some_and(|asked| asked.config.id == id) {
            return false;
        }
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.config.id == id) {
            if asked.config.epoch > waiting.config.epoch {
                *waiting = asked;
            }
            return false;
        }
        let rests = |failed: &Failed| failed.config == asked.config && now < failed.rests_until;
        if self.failed.get(&(asked.dir_index, id)).is_some_and(rests) {
            return false;
        }
        self.waiting.push_back(asked);
        true
    }

    /// In which of these directories the volume with this id should be tried: the first where that was
    /// never in vain, else where it rests no longer than in the others.
    pub(super) fn most_promising(
        &self,
        id: VolumeId,
        dirs: impl Iterator<Item = usize>,
    ) -> Option<usize> {
        dirs.min_by_key(|dir| self.failed.get(&(*dir, id)).map(|failed| failed.rests_until))
    }

    /// The one that has waited longest is under way from now on.
    pub(super) fn take(&mut self) -> Option<Asked> {
        self.under_way = self.waiting.pop_front();
        self.under_way.clone()
    }

    /// The one under way is foreign no more.
    pub(super) fn succeeded(&mut self) {
        if let Some(asked) = self.under_way.take() {
            self.failed.retain(|(_, id), _| *id != asked.config.id);
        }
    }

    /// The attempt at the one under way took so long and failed. Which one it was, and whether the
    /// reason is a new one.
    pub(super) fn failed(
        &mut self,
        reason: &str,
        now: BootTime,
        took: Duration,
    ) -> Option<(Asked, bool)> {
        let asked = self.under_way.take()?;
        let (config, reason) = (asked.config.clone(), reason.to_owned());
        let rests_until = now.plus(took.saturating_mul(RESTS_PER_ATTEMPT).max(MIN_REST));
        let is_same = |failed: &Failed| failed.reason == reason;
        let at = (asked.dir_index, config.id);
        let is_news = !self.failed.get(&at).is_some_and(is_same);
        self.failed.insert(at, Failed { config, reason, rests_until });
        Some((asked, is_news))
    }
}

#[cfg(test)]
mod tests {
    use dulse_shared::{
        id::ServerId,
        wire::{DiskType, Epoch, Member, VolumeState},
    };

    use super::*;

    fn asked(id: u32, epoch: u64) -> Asked {
        let config = VolumeConfig {
            id: VolumeId::new(id).unwrap(),
            collection: "".parse().unwrap(),
            placement: "000".parse().unwrap(),
            ttl: "".parse().unwrap(),
            disk: DiskType::default(),
            closed: true,
            epoch: Epoch(epoch),
            members: vec![Member { server: ServerId::from(1), slot: 0 }],
            state: VolumeState::Writable,
            last_writable: None,
            sealed_with: Vec::new(),
            decision: None,
            next_slot: 0,
        };
        Asked { dir_index: 0, cluster: ClusterId::from(1), config }
    }

    #[test]
    fn of_several_with_one_id_one_that_did_not_fail_is_tried_and_else_the_one_that_failed_first() {
        let mut queue = Queue::default();
        let id = VolumeId::new(1).unwrap();
        let mut tried = Vec::new();
        for at in [0, 1, 2, 59, 60, 61, 62] {
            let dir_index = queue.most_promising(id, [2, 5].into_iter()).unwrap();
            if queue.ask(Asked { dir_index, ..asked(1, 1) }, NOW(at)) {
                queue.take();
                queue.failed("why", NOW(at), Duration::ZERO);
                tried.push((dir_index, at));
            }
        }
        assert_eq!(tried, [(2, 0), (5, 1), (2, 60), (5, 61)]);
        assert_eq!(queue.most_promising(id, [].into_iter()), None);
    }

    const NOW: fn(u64) -> BootTime = |secs| BootTime::default().plus(Duration::from_secs(secs));

    #[test]
    fn what_is_repeated_is_in_the_queue_once_with_its_newest_configuration() {
        let mut queue = Queue::default();
        for _ in 0..3 {
            for (id, epoch) in [(1, 1), (2, 1), (1, 2), (1, 1)] {
                queue.ask(asked(id, epoch), NOW(0));
            }
        }
        assert_eq!(queue.take(), Some(asked(1, 2)));
        assert!(!queue.ask(asked(1, 3), NOW(0)), "it is under way");
        queue.succeeded();
        assert_eq!(queue.take(), Some(asked(2, 1)));
        queue.succeeded();
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn what_failed_rests_unless_its_configuration_changes_and_is_news_once() {
        let mut queue = Queue::default();
        let mut fails = |asked: Asked, at: u64, took: u64| {
            let is_tried = queue.ask(asked.clone(), NOW(at)) && queue.take().is_some();
            let took = Duration::from_secs(took);
            is_tried.then(|| queue.failed("why", NOW(at), took).is_some_and(|(_, is_news)| is_news))
        };
        assert_eq!(fails(asked(1, 1), 0, 1), Some(true));
        assert_eq!(fails(asked(1, 1), 59, 1), None, "it rests");
        assert_eq!(fails(asked(2, 1), 59, 1), Some(true), "another one does not");
        assert_eq!(fails(asked(1, 1), 60, 30), Some(false), "nothing new");
        assert_eq!(fails(asked(1, 1), 359, 1), None, "it took long");
        assert_eq!(fails(asked(1, 2), 359, 1), Some(false), "it changed");
        assert_eq!(fails(asked(1, 2), 419, 1), Some(false));
    }
}
