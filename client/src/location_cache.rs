//! Where volumes were when a master was last asked.
//!
//! Pure: time is given. An entry is a hint; whoever finds it wrong forgets it. The number of
//! entries is bounded, the oldest makes room.

use std::{collections::HashMap, sync::Arc, time::Duration};

use dulse_shared::{clock::BootTime, id::VolumeId, wire::Location};

/// Volumes move rarely and a stale entry is noticed at once; this only keeps a client from going
/// on with one of several copies for ever.
const LIFETIME: Duration = Duration::from_secs(5 * 60);
/// About a megabyte, and more volumes than most clusters have.
const MAX_VOLUMES: usize = 10_000;

/// Volume servers that hold a volume, in the order to try them.
pub(crate) type Locations = Arc<[Location]>;

/// See above.
#[derive(Debug, Default)]
pub(crate) struct LocationCache {
    volumes: HashMap<VolumeId, Entry>,
}

#[derive(Debug)]
struct Entry {
    locations: Locations,
    learned: BootTime,
}

impl LocationCache {
    /// What is known, unless it is too old.
    pub(crate) fn find(&self, volume: VolumeId, now: BootTime) -> Option<Locations> {
        let entry = self.volumes.get(&volume)?;
        (now.since(entry.learned) < LIFETIME).then(|| entry.locations.clone())
    }

    /// Keeps an answer.
    pub(crate) fn remember(&mut self, volume: VolumeId, locations: Locations, now: BootTime) {
        if self.volumes.len() >= MAX_VOLUMES && !self.volumes.contains_key(&volume) {
            self.forget_oldest();
        }
        let learned = now;
        self.volumes.insert(volume, Entry { locations, learned });
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

    fn somewhere() -> Locations {
        let url = "a:1".to_owned();
        let public_url = url.clone();
        Arc::from([Location { url, public_url }])
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
