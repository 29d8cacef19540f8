//! The only place where anything in the trash is removed for good.
//!
//! A deleted volume stays a day, in case it was a mistake, and what is evidence of something that went
//! wrong stays a month. While the disk is short of room deleted volumes go before their time, the
//! oldest first, and when all are gone evidence of more than a day, the oldest first. What has another
//! name than we give is somebody else's and stays.

use std::{io, time::Duration};

use super::{KeptName, Trash, deleted_volume};

/// Kept of a deleted volume at least this long, while there is room.
const KEEP_VOLUME: Duration = Duration::from_secs(24 * 3600);
/// Torn ends and leftovers: somebody may ask weeks later what happened.
const KEEP_EVIDENCE: Duration = Duration::from_secs(30 * 24 * 3600);
/// The same, at least, on a disk that is short of room: it may be what lies there.
const KEEP_EVIDENCE_WITHOUT_ROOM: Duration = Duration::from_secs(24 * 3600);

impl Trash {
    /// Removes what has been here long enough at `now_ns`, and while `is_low` says that the disk is
    /// short of room the oldest of what may go before; the names of what was removed.
    pub fn purge(&self, now_ns: u64, is_low: &mut dyn FnMut() -> bool) -> io::Result<Vec<String>> {
        let names = self.names()?;
        let mut entries: Vec<(KeptName<'_>, &String)> =
            names.iter().filter_map(|name| Some((KeptName::parse(name)?, name))).collect();
        entries.sort_unstable_by_key(|(kept, name)| (!is_of_volume(*kept), *kept, *name));
        let mut removed = Vec::new();
        // The files of one deletion are neighbours, and go together.
        for together in entries.chunk_by(|(a, _), (b, _)| is_one_deletion(*a, *b)) {
            let [(first, _), ..] = together else { continue };
            let may_go = is_old(*first, now_ns) || may_make_room(*first, now_ns) && is_low();
            if !may_go {
                continue;
            }
            for (_, name) in together {
                self.disk.remove(&self.path.join(name))?;
                removed.push((*name).clone());
            }
        }
        if !removed.is_empty() {
            self.disk.sync_dir(&self.path)?;
        }
        Ok(removed)
    }
}

fn is_one_deletion(a: KeptName<'_>, b: KeptName<'_>) -> bool {
    (a.since_ns, a.what) == (b.since_ns, b.what) && is_of_volume(a) && is_of_volume(b)
}

fn is_of_volume(kept: KeptName<'_>) -> bool {
    deleted_volume::is_file_of_one(kept.kind)
}

/// What came at a time that is still to come is new: the clock was wrong then or is now.
fn is_old(kept: KeptName<'_>, now_ns: u64) -> bool {
    age(kept, now_ns) >= if is_of_volume(kept) { KEEP_VOLUME } else { KEEP_EVIDENCE }
}

/// Whether it goes before its time if the disk needs the room.
fn may_make_room(kept: KeptName<'_>, now_ns: u64) -> bool {
    is_of_volume(kept) || age(kept, now_ns) >= KEEP_EVIDENCE_WITHOUT_ROOM
}

fn age(kept: KeptName<'_>, now_ns: u64) -> Duration {
    Duration::from_nanos(now_ns.saturating_sub(kept.since_ns))
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use super::*;
    use crate::disk::{Disk, simulated::SimulatedDisk};

    const HOUR_NS: u64 = 3600 * 1_000_000_000;
    const NOW_NS: u64 = 1000 * HOUR_NS;
    const DIR: &str = "/data";

    fn trash(names: &[String]) -> (SimulatedDisk, Trash) {
        let disk = SimulatedDisk::new(1);
        disk.create_dir(&Path::new(DIR).join("trash")).unwrap();
        for name in names {
            disk.put(&Path::new(DIR).join("trash").join(name), vec![1; 100]);
        }
        let trash = Trash::of(Arc::new(disk.clone()), Path::new(DIR));
        (disk, trash)
    }

    fn left(trash: &Trash) -> Vec<String> {
        trash.names().unwrap()
    }

    fn kept(what: &str, hours_ago: u64, kind: &str) -> String {
        super::super::kept_name(what, NOW_NS - hours_ago * HOUR_NS, kind)
    }

    #[test]
    fn deleted_volumes_stay_a_day_and_evidence_a_month() {
        let stay = [
            kept("7", 23, "dat"),
            kept("7", 23, "dulse"),
            kept("8", 25, "torn"),
            kept("8.idx.new", 719, "stray"),
            "7.dat".to_owned(),
            "notes.txt".to_owned(),
        ];
        let go = [
            kept("3", 24, "dat"),
            kept("3", 24, "idx"),
            kept("3", 24, "torn"),
            kept("8", 720, "torn"),
            kept("8.idx.new", 900, "stray"),
        ];
        let (_, trash) = trash(&[stay.as_slice(), &go].concat());
        let mut removed = trash.purge(NOW_NS, &mut || false).unwrap();
        let (mut go, mut stay) = (go.to_vec(), stay.to_vec());
        // A torn end of the same volume and moment is evidence all the same.
        let torn = go.remove(2);
        stay.push(torn);
        go.sort();
        removed.sort();
        stay.sort();
        assert_eq!((removed, left(&trash)), (go, stay));
        assert!(trash.purge(NOW_NS, &mut || false).unwrap().is_empty());
    }

    #[test]
    fn a_disk_short_of_room_gets_back_the_oldest_volumes_and_no_more_than_it_needs() {
        let names = [
            kept("12", 3, "dat"),
            kept("12", 3, "idx"),
            kept("7", 2, "dat"),
            kept("9", 5, "torn"),
            kept("30", 1, "dat"),
        ];
        let (disk, trash) = trash(&names);
        disk.limit_free_bytes(50);
        let mut is_low = || disk.room(Path::new(DIR)).unwrap().free_bytes < 250;
        let removed = trash.purge(NOW_NS, &mut is_low).unwrap();
        assert_eq!(removed, names[..2], "both files of the oldest");
        disk.limit_free_bytes(0);
        let removed = trash.purge(NOW_NS, &mut || true).unwrap();
        assert_eq!(removed, [names[2].clone(), names[4].clone()]);
        assert_eq!(left(&trash), [names[3].clone()], "young evidence stays");
    }

    #[test]
    fn a_disk_short_of_room_gets_back_evidence_of_a_day_once_no_deleted_volume_is_left() {
        let names = [
            kept("12", 2, "dat"),
            kept("9", 500, "torn"),
            kept("9.idx.new", 26, "stray"),
            kept("7", 25, "torn"),
            kept("7", 23, "torn"),
        ];
        let (disk, trash) = trash(&names);
        disk.limit_free_bytes(0);
        let mut is_low = || disk.room(Path::new(DIR)).unwrap().free_bytes < 250;
        let removed = trash.purge(NOW_NS, &mut is_low).unwrap();
        assert_eq!(removed, names[..3], "the volume, then the oldest, and no more than it needs");
        let removed = trash.purge(NOW_NS, &mut || true).unwrap();
        assert_eq!(removed, [names[3].clone()]);
        assert_eq!(left(&trash), [names[4].clone()], "a day it stays in any case");
    }

    #[test]
    fn what_came_in_the_future_is_not_old() {
        let (_, trash) = trash(&[super::super::kept_name("7", NOW_NS + HOUR_NS, "dat")]);
        assert!(trash.purge(NOW_NS, &mut || false).unwrap().is_empty());
    }
}
