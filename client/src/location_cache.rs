//! Where volumes were when a master was last asked.
//!
//! Pure: time is given. An entry is a hint; whoever finds it wrong forgets it. Every answer of a
//! volume server names the epoch of the volume: as long as it is the one that is known here, the
//! entry holds, and no master has to be asked. The number of entries is bounded, the oldest makes
//! room.

use std::{collections::HashMap, sync::Arc, time::Duration};

use dulse_shared::{
    clock::BootTime,
    id::VolumeId,
    wire::{Epoch, Location, VolumeEpoch},
};

/// What nobody has confirmed for this long is asked for again.
const LIFETIME: Duration = Duration::from_secs(5 * 60);
/// About a megabyte, and more volumes than most clusters have.
const MAX_VOLUMES: usize = 10_000;

/// Volume servers that hold a volume, in the order to try them.
pub(crate) type Locations = Arc<[Location]>;

/// Where a volume is, as it was learned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    /// The servers, never none.
    pub(crate) locations: Locations,
    /// The epoch in which they hold it, if the master said so.
    pub(crate) epoch: Option<Epoch>,
}

/// See above.
#[derive(Debug, Default)]
pub(crate) struct LocationCache {
    volumes: HashMap<VolumeId, Entry>,
}

#[derive(Debug)]
struct Entry {
    known: Known,
    /// Or confirmed.
    learned: BootTime,
}

impl LocationCache {
    /// What is known, unless it is too old.
    pub(crate) fn find(&self, volume: VolumeId, now: BootTime) -> Option<Known> {
        let entry = self.volumes.get(&volume)?;
        (now.since(entry.learned) < LIFETIME).then(|| entry.known.clone())
    }

    /// Keeps an answer.
    pub(crate) fn remember(&mut self, volume: VolumeId, known: Known, now: BootTime) {
        if self.volumes.len() >= MAX_VOLUMES && !self.volumes.contains_key(&volume) {
            self.forget_oldest();
        }
        let learned = now;
        self.volumes.insert(volume, Entry { known, learned });
    }

    /// A server said which epoch it serves: what is known of the volume holds on, or is wrong.
    pub(crate) fn hear(&mut self, served: VolumeEpoch, now: BootTime) {
        let Some(entry) = self.volumes.get_mut(&served.volume) else {
            return;
        };
        match entry.known.epoch {
            Some(known) if known == served.epoch => entry.learned = now,
            Some(_) => self.forget(served.volume),
            None => {}
        }
    }

    /// Drops what turned out wrong.
    pub(crate) fn forget(&mut self, volume: VolumeId) {
        self.volumes.remove(&volume);
    }

    fn forget_oldest(&mut self) {
        let oldest = self.volumes.iter().min_by_key(|(_, entry)| entry.learned);
        if let Some(volume) = oldest.map(|(volume, _)| *volume) {
            self.volumes.remove(&volume);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::default().plus(Duration::from_secs(seconds))
    }

    fn volume(id: usize) -> VolumeId {
        VolumeId::new(u32::try_from(id).unwrap()).unwrap()
    }

    fn somewhere() -> Known {
        let url = "a:1".to_owned();
        let public_url = url.clone();
        Known { locations: Arc::from([Location { url, public_url }]), epoch: Some(Epoch(4)) }
    }

    fn served(epoch: u64) -> VolumeEpoch {
        VolumeEpoch { volume: volume(1), epoch: Epoch(epoch) }
    }

    #[test]
    fn an_entry_lives_as_long_as_servers_confirm_it_and_ends_when_one_does_not() {
        let mut cache = LocationCache::default();
        cache.remember(volume(1), somewhere(), at(0));
        cache.hear(served(4), at(200));
        assert_eq!(cache.find(volume(1), at(499)), Some(somewhere()));
        assert_eq!(cache.find(volume(1), at(500)), None);
        for other in [3, 5] {
            cache.remember(volume(1), somewhere(), at(0));
            cache.hear(served(other), at(1));
            assert_eq!(cache.find(volume(1), at(1)), None, "{other}");
        }
        cache.remember(volume(1), Known { epoch: None, ..somewhere() }, at(0));
        cache.hear(served(9), at(1));
        assert!(cache.find(volume(1), at(1)).is_some(), "nothing was said of an epoch");
    }

    #[test]
    fn an_entry_is_found_until_it_is_old_or_forgotten() {
        let mut cache = LocationCache::default();
        cache.remember(volume(1), somewhere(), at(0));
        assert_eq!(cache.find(volume(1), at(299)), Some(somewhere()));
        assert_eq!(cache.find(volume(1), at(300)), None);
        cache.forget(volume(1));
        assert_eq!(cache.find(volume(1), at(0)), None);
    }

    #[test]
    fn the_oldest_entry_makes_room() {
        let mut cache = LocationCache::default();
        for id in 1..=MAX_VOLUMES {
            // Volume 2 is the oldest.
            let learned = if id == 2 { 0 } else { 1 };
            cache.remember(volume(id), somewhere(), at(learned));
        }
        cache.remember(volume(1), somewhere(), at(2));
        assert!(cache.find(volume(2), at(2)).is_some(), "replacing needs no room");
        cache.remember(volume(MAX_VOLUMES + 1), somewhere(), at(2));
        assert_eq!(cache.volumes.len(), MAX_VOLUMES);
        assert!(cache.find(volume(2), at(2)).is_none());
        assert!(cache.find(volume(3), at(2)).is_some());
    }
}
