//! Two volume files with one id in the directories of a server: one is read, none is written, until
//! people have moved one away. An empty one, which a creation left, does no harm.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use dulse_shared::{
    clock::Clock,
    id::ClusterId,
    wire::{LocalState, VolumeConfig},
};
use dulse_volume::{
    config::{DirConfig, DirLimits},
    disk::{
        Disk, open_data_dirs,
        simulated::{EIO, Fault, Operation, SimulatedDisk},
    },
    engine::{
        compaction::{CompactionError, Pace},
        sidecar::{Found, Sidecar},
        volume::Volume,
        write::{Write, WriteError},
    },
    store::{Standing, Store},
    writer,
};

use crate::harness::{COOKIE, NOW_NS, key, name, needle, opener_at, read_of, volume_config, watch};

const A: &str = "/a";
const B: &str = "/b";

struct AtOnce;

impl Pace for AtOnce {
    fn after(&mut self, _bytes: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Two directories of one server on one disk.
struct Site {
    disk: SimulatedDisk,
    clock: Clock,
}

impl Site {
    fn new() -> Self {
        let site = Self { disk: SimulatedDisk::new(1), clock: Clock::manual(NOW_NS) };
        drop(site.open(&[A, B]));
        site
    }

    fn open(&self, dirs: &[&str]) -> Store {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let configs: Vec<_> = dirs
            .iter()
            .map(|dir| DirConfig::at(Path::new(dir)).with_limits(DirLimits::NONE))
            .collect();
        let dirs = open_data_dirs(&disk, &configs).unwrap();
        let store = Store::open(dirs, opener_at(self.clock.clone())).unwrap();
        store.join(ClusterId::from(1)).unwrap();
        store
    }

    /// Makes volume 7 in a directory.
    fn create(&self, dir: &str, ttl: &str) {
        let store = self.open(&[dir]);
        let mut config = volume_config(&store.data_dirs()[0]);
        config.ttl = ttl.parse().unwrap();
        store.create(ClusterId::from(1), config).unwrap();
        store.close();
    }

    /// Writes a needle to the volume in a directory.
    fn put(&self, dir: &str, k: u64, data: &[u8]) {
        let store = self.open(&[dir]);
        put(&served(&store), k, data).unwrap();
        store.close();
    }

    /// The files of volume 7 in a directory.
    fn files(&self, dir: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let is_of_it = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            path.parent() == Some(Path::new(dir)) && name.starts_with("7.")
        };
        let paths = self.disk.paths().into_iter().filter(is_of_it);
        paths.map(|path| (path.clone(), self.disk.contents(&path).unwrap())).collect()
    }

    fn copy(&self, from: &str, to: &str) {
        for (path, bytes) in self.files(from) {
            self.disk.put(&Path::new(to).join(path.file_name().unwrap()), bytes);
        }
    }

    fn erase(&self, dir: &str) {
        self.files(dir).keys().for_each(|path| self.disk.erase(path));
    }

    fn trash(&self, dir: &str) -> Vec<PathBuf> {
        let trash = Path::new(dir).join("trash");
        self.disk.paths().into_iter().filter(|path| path.parent() == Some(&trash)).collect()
    }
}

fn served(store: &Store) -> Arc<Volume> {
    store.volume(name().id).unwrap()
}

fn put(volume: &Arc<Volume>, k: u64, data: &[u8]) -> Result<(), WriteError> {
    volume.commit(vec![Write::Put(needle(k, data))]).remove(0).map(drop)
}

fn data(volume: &Arc<Volume>, k: u64) -> Vec<u8> {
    read_of(volume, k).unwrap().data.to_vec()
}

/// The one in `dir` is served, none is written, and both are named.
#[track_caller]
fn assert_only_read(store: &Store, dir: &str) {
    let volume = served(store);
    assert_eq!(volume.dir().path(), Path::new(dir));
    let report = volume.report();
    let trouble = report.trouble.unwrap();
    assert_eq!(report.local, LocalState::Duplicate, "{trouble}");
    let unserved = store.unserved();
    assert_eq!(unserved.len(), 1, "{unserved:?}");
    for reason in [&trouble, &unserved[0].reason] {
        for part in ["/a/7.dat", "/b/7.dat", "move one away and start the server again"] {
            assert!(reason.contains(part), "{part} in {reason}");
        }
    }
    assert!(trouble.starts_with(dir) && !unserved[0].reason.starts_with(dir), "{unserved:?}");
    assert!(matches!(put(&volume, 9, b"more"), Err(WriteError::Refused(_))));
    let delete = Write::Delete { key: key(1), cookie: COOKIE };
    assert!(matches!(volume.commit(vec![delete]).remove(0), Err(WriteError::Refused(_))));
    let compacted = volume.compact(&mut AtOnce);
    assert!(matches!(compacted, Err(CompactionError::Refused(_))), "{compacted:?}");
}

#[track_caller]
fn assert_written(store: &Store, dir: &str) {
    let volume = served(store);
    assert_eq!(volume.dir().path(), Path::new(dir));
    let report = volume.report();
    assert_eq!((report.local, report.trouble), (LocalState::Ready, None));
    put(&volume, 9, b"more").unwrap();
}

#[test]
fn of_two_files_with_one_id_the_newer_is_read_and_none_is_written() {
    let site = Site::new();
    site.create(A, "");
    site.put(A, 1, b"old and rather long");
    site.copy(A, B);
    site.put(A, 1, b"new");
    // As short as the other, but newer all the same.
    site.put(B, 5, b"an older write to the other one, which makes it the longer of the two");
    site.put(A, 1, b"newest");
    let before = (site.files(A), site.files(B));
    for dirs in [[A, B], [B, A]] {
        let store = site.open(&dirs);
        assert_only_read(&store, A);
        assert_eq!(data(&served(&store), 1), b"newest");
        served(&store).checkpoint().unwrap();
        store.close();
        drop(store);
        assert!((site.files(A), site.files(B)) == before, "neither is touched");
    }
    site.erase(B);
    assert_written(&site.open(&[B, A]), A);
}

/// What a kill leaves has no checkpoint over its last writes; nor does a start among twins write one.
#[test]
fn the_sidecars_of_two_files_with_one_id_stay_as_they_are() {
    let site = Site::new();
    site.create(A, "");
    put(&served(&site.open(&[A])), 1, b"before a kill").unwrap();
    site.copy(A, B);
    let sidecars =
        || [A, B].map(|dir| site.disk.contents(&Path::new(dir).join("7.dulse")).unwrap());
    let before = sidecars();
    let store = site.open(&[A, B]);
    assert_only_read(&store, A);
    served(&store).checkpoint().unwrap();
    store.close();
    drop(store);
    assert!(sidecars() == before, "no checkpoint was written");
    site.erase(B);
    let store = site.open(&[A, B]);
    assert_eq!(data(&served(&store), 1), b"before a kill");
    assert_written(&store, A);
}

#[test]
fn of_two_files_that_know_the_same_the_longer_and_then_the_first_is_read() {
    let site = Site::new();
    site.create(A, "");
    site.put(A, 1, b"the same");
    site.copy(A, B);
    for dirs in [[A, B], [B, A]] {
        assert_only_read(&site.open(&dirs), dirs[0]);
    }
    // Cut below its checkpoint, which knows of the last stamp.
    let dat = Path::new(A).join("7.dat");
    let bytes = site.disk.contents(&dat).unwrap();
    site.disk.put(&dat, bytes[..bytes.len() - 8].to_vec());
    for dirs in [[A, B], [B, A]] {
        let store = site.open(&dirs);
        assert_only_read(&store, B);
        assert_eq!(data(&served(&store), 1), b"the same");
    }
}

#[test]
fn a_file_that_cannot_be_opened_may_be_the_newer_and_so_keeps_the_other_from_being_written() {
    let site = Site::new();
    site.create(A, "");
    site.put(A, 1, b"one");
    site.copy(A, B);
    let dat = Path::new(B).join("7.dat");
    let mut bytes = site.disk.contents(&dat).unwrap();
    bytes[0] = 0x7f;
    site.disk.put(&dat, bytes);
    let store = site.open(&[B, A]);
    let report = served(&store).report();
    assert_eq!((report.local, store.unserved().len()), (LocalState::Duplicate, 1));
    assert!(report.trouble.unwrap().contains("/b/7.dat"));
    drop(store);
    // Another program's file is no twin, whatever is wrong with it.
    site.disk.erase(&Path::new(B).join("7.dulse"));
    assert_written(&site.open(&[B, A]), A);
}

/// Its needles are all there.
#[test]
fn a_file_with_a_torn_end_that_cannot_be_kept_is_as_whole_as_the_other() {
    let site = Site::new();
    site.create(A, "");
    site.put(A, 1, b"the same");
    site.copy(A, B);
    let dat = Path::new(A).join("7.dat");
    let torn = [site.disk.contents(&dat).unwrap(), vec![7; 40]].concat();
    site.disk.put(&dat, torn.clone());
    for (dirs, state) in [([A, B], LocalState::Damaged), ([B, A], LocalState::Duplicate)] {
        site.disk.plan(Operation::Write, Some("torn"), 0, Fault::Fails(EIO));
        let store = site.open(&dirs);
        let volume = served(&store);
        assert_eq!((volume.dir().path(), volume.report().local), (Path::new(dirs[0]), state));
        assert_eq!(data(&volume, 1), b"the same");
        assert!(put(&volume, 9, b"more").is_err());
        assert!(site.disk.contents(&dat).unwrap() == torn);
    }
}

/// The one in /b is read only, because of what there is in /a and what is said of it.
#[track_caller]
fn assert_read_because_of(site: &Site, what: &str) {
    let before = (site.files(A), site.files(B));
    for dirs in [[A, B], [B, A]] {
        let store = site.open(&dirs);
        let volume = served(&store);
        assert_eq!(data(&volume, 1), b"one");
        let report = volume.report();
        let trouble = report.trouble.unwrap();
        assert_eq!(report.local, LocalState::Duplicate, "{trouble}");
        assert!(trouble.starts_with("/b/7.dat is read and not written, "), "{trouble}");
        assert!(trouble.contains(&format!("/a/7.dat ({what})")), "{trouble}");
        assert!(matches!(put(&volume, 9, b"more"), Err(WriteError::Refused(_))));
        store.close();
        drop((store, volume));
        assert!((site.files(A), site.files(B)) == before, "neither is touched");
    }
}

/// Writes a sidecar in /a anew.
fn edit_sidecar(site: &Site, change: impl FnOnce(&mut Vec<u8>)) {
    let path = Path::new(A).join("7.dulse");
    let mut bytes = site.disk.contents(&path).unwrap();
    change(&mut bytes);
    site.disk.put(&path, bytes);
}

fn copied() -> Site {
    let site = Site::new();
    site.create(A, "");
    site.put(A, 1, b"one");
    site.copy(A, B);
    site.put(A, 2, b"which the copy does not have");
    site
}

#[test]
fn a_file_that_went_missing_may_be_the_newer_and_so_keeps_the_other_from_being_written() {
    let site = copied();
    site.disk.erase(Path::new("/a/7.dat"));
    assert_read_because_of(&site, "missing");
    assert_eq!(site.open(&[A, B]).unserved().len(), 1);
    // Even rows alone, without a word of whose they are.
    site.disk.erase(Path::new("/a/7.dulse"));
    assert_read_because_of(&site, "missing");
    // Those of another collection are another volume's.
    let idx = site.disk.contents(Path::new("/a/7.idx")).unwrap();
    site.disk.put(Path::new("/a/pics_7.idx"), idx);
    site.disk.erase(Path::new("/a/7.idx"));
    assert_written(&site.open(&[A, B]), B);
    site.disk.erase(Path::new("/a/pics_7.idx"));
    site.erase(A);
    assert_written(&site.open(&[A, B]), B);
}

#[test]
fn what_another_cluster_has_lost_is_no_twin() {
    let site = copied();
    site.disk.erase(Path::new("/a/7.dat"));
    edit_sidecar(&site, |bytes| {
        let Found::Sidecar(sidecar) = Sidecar::decode(bytes) else { panic!("it is whole") };
        *bytes = Sidecar { cluster: ClusterId::from(2), ..*sidecar }.encode().unwrap();
    });
    assert_written(&site.open(&[A, B]), B);
}

#[test]
fn a_file_whose_sidecar_cannot_be_read_keeps_the_other_from_being_written() {
    for can_be_opened in [true, false] {
        let site = copied();
        edit_sidecar(&site, |bytes| bytes[20] ^= 1);
        if !can_be_opened {
            let dat = Path::new("/a/7.dat");
            let mut bytes = site.disk.contents(dat).unwrap();
            bytes[0] = 0x7f;
            site.disk.put(dat, bytes);
        }
        let what = if can_be_opened { "its sidecar cannot be read" } else { "cannot be opened" };
        assert_read_because_of(&site, what);
        let store = site.open(&[A, B]);
        let named = (store.foreign().len(), store.unserved().len());
        assert_eq!(named, if can_be_opened { (1, 0) } else { (0, 1) });
    }
}

#[test]
fn what_is_left_of_a_file_in_which_nothing_ever_was_keeps_no_other_from_being_written() {
    for is_without_dat in [true, false] {
        let site = Site::new();
        site.create(A, "");
        site.create(B, "");
        site.put(B, 1, b"one");
        if is_without_dat {
            site.disk.erase(Path::new("/a/7.dat"));
        } else {
            edit_sidecar(&site, |bytes| bytes[20] ^= 1);
        }
        assert_written(&site.open(&[A, B]), B);
    }
}

#[test]
fn of_two_files_with_one_id_neither_expires() {
    let site = Site::new();
    site.create(A, "1h");
    site.put(A, 1, b"brief");
    site.copy(A, B);
    let before = (site.files(A), site.files(B));
    let store = site.open(&[A, B]);
    let two_hours = Duration::from_secs(7200);
    watch(&site.clock, store.clock_trust(), two_hours);
    store.expire_volumes();
    assert_only_read(&store, A);
    store.close();
    drop(store);
    assert!((site.files(A), site.files(B)) == before);
    // Nor is one reported that had expired before it was copied.
    site.erase(B);
    let store = site.open(&[A, B]);
    watch(&site.clock, store.clock_trust(), two_hours);
    store.expire_volumes();
    assert_eq!(served(&store).report().local, LocalState::Expired);
    drop(store);
    site.copy(A, B);
    assert_only_read(&site.open(&[A, B]), A);
}

#[test]
fn an_empty_twin_goes_to_the_trash_and_the_other_is_written() {
    for dirs in [[A, B], [B, A]] {
        let site = Site::new();
        site.create(A, "");
        site.put(A, 1, b"one");
        site.create(B, "");
        let store = site.open(&dirs);
        assert!(store.unserved().is_empty(), "{:?}", store.unserved());
        assert_written(&store, A);
        assert_eq!(data(&served(&store), 1), b"one");
        assert!(site.files(B).is_empty());
        let kept = site.trash(B);
        assert!(kept.iter().any(|path| path.extension().unwrap() == "dat"), "{kept:?}");
        store.close();
        drop(store);
        assert_written(&site.open(&dirs), A);
    }
}

#[test]
fn of_two_empty_twins_the_first_stays() {
    for dirs in [[A, B], [B, A]] {
        let site = Site::new();
        site.create(A, "");
        site.create(B, "");
        let store = site.open(&dirs);
        assert_written(&store, dirs[0]);
        assert!(site.files(dirs[1]).is_empty() && store.unserved().is_empty());
    }
}

#[test]
fn an_empty_twin_that_cannot_be_moved_is_named_and_the_other_is_written() {
    let site = Site::new();
    site.create(A, "");
    site.put(A, 1, b"one");
    site.create(B, "");
    site.disk.plan(Operation::Rename, Some("dat"), 0, Fault::Fails(EIO));
    let store = site.open(&[B, A]);
    assert_written(&store, A);
    let unserved = store.unserved();
    assert!(unserved.len() == 1 && unserved[0].reason.contains("/b/7.dat"), "{unserved:?}");
}

/// A volume that was emptied is not one in which nothing ever was: an older copy of it has needles
/// that were deleted.
#[test]
fn a_volume_whose_last_needle_was_compacted_away_is_no_empty_twin() {
    let site = Site::new();
    site.create(A, "");
    site.put(A, 1, b"one");
    site.copy(A, B);
    let store = site.open(&[A]);
    let volume = served(&store);
    volume.commit(vec![Write::Delete { key: key(1), cookie: COOKIE }]).remove(0).unwrap();
    site.clock.advance(Duration::from_secs(365 * 24 * 3600));
    volume.compact(&mut AtOnce).unwrap();
    assert_eq!(volume.report().size_bytes, 8);
    store.close();
    drop((store, volume));
    let store = site.open(&[B, A]);
    assert_only_read(&store, A);
    assert!(read_of(&served(&store), 1).is_err(), "what was deleted stays so");
}

/// Fails each operation of a creation in turn, with and without a disk that lets go of what was made.
#[test]
fn a_creation_that_fails_anywhere_leaves_nothing_that_stands_in_the_way_of_another_place() {
    use Operation::{Create, Rename, Sync, SyncDir, Truncate, Write};
    let mut failed = 0;
    for operation in [Create, Write, Sync, Truncate, Rename, SyncDir] {
        for (nth, is_stuck) in (0..9).flat_map(|nth| [(nth, false), (nth, true)]) {
            let site = Site::new();
            let store = site.open(&[A, B]);
            let opener = opener_at(site.clock.clone());
            let [a, b] = [0, 1].map(|at| store.data_dirs()[at].clone());
            let config = volume_config(&a);
            site.disk.plan(operation, None, nth, Fault::Fails(EIO));
            if is_stuck {
                for _ in 0..9 {
                    site.disk.plan(Operation::Remove, None, 0, Fault::Fails(EIO));
                }
            }
            let made = opener.create(&a, ClusterId::from(1), config.clone());
            site.disk.forgive();
            if made.is_ok() {
                continue;
            }
            failed += 1;
            let at = format!("{operation:?} {nth}, stuck: {is_stuck}");
            let left = site.files(A);
            assert!(is_stuck || left.is_empty(), "{at}: {left:?}");
            let elsewhere = opener.create(&b, ClusterId::from(1), config).unwrap();
            put(&elsewhere, 1, b"one").unwrap();
            writer::close(&elsewhere);
            drop((elsewhere, store, a, b));
            let store = site.open(&[A, B]);
            assert!(store.unserved().is_empty(), "{at}: {:?}", store.unserved());
            assert!(store.foreign().is_empty(), "{at}: {left:?}");
            assert_written(&store, B);
            assert!(site.files(A).is_empty(), "{at}: {left:?}");
        }
    }
    assert!(failed > 20, "{failed} creations failed");
}

#[test]
fn a_creation_leaves_an_index_with_rows_alone() {
    let site = Site::new();
    let store = site.open(&[A]);
    let idx = Path::new(A).join("7.idx");
    site.disk.put(&idx, vec![1; 32]);
    let dir = &store.data_dirs()[0];
    let made = opener_at(site.clock.clone()).create(dir, ClusterId::from(1), volume_config(dir));
    assert_eq!(made.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(site.disk.contents(&idx).unwrap(), [1; 32]);
}

/// Two files of other programs with one id: in two directories, and in two collections of one.
#[test]
fn of_two_foreign_files_with_one_id_one_is_admitted_and_the_other_is_named() {
    let site = Site::new();
    site.create(A, "");
    site.put(A, 1, b"one");
    site.copy(A, B);
    for (path, bytes) in site.files(B) {
        let pics = path.file_name().unwrap().to_str().unwrap().replace("7.", "pics_7.");
        site.disk.put(&Path::new(B).join(pics), bytes);
    }
    for path in ["/a/7.dulse", "/b/7.dulse", "/b/pics_7.dulse"] {
        site.disk.erase(Path::new(path));
    }
    let store = site.open(&[A, B]);
    let waiting = store.foreign();
    assert_eq!(waiting.len(), 2, "{waiting:?}");
    let unserved = store.unserved();
    assert_eq!(unserved.len(), 1, "{unserved:?}");
    for part in ["/b/7.dat", "/b/pics_7.dat", "move one away"] {
        assert!(unserved[0].reason.contains(part), "{unserved:?}");
    }
    let config = volume_config(&store.data_dirs()[0]);
    store.accept_config(ClusterId::from(1), config).unwrap();
    assert!(store.admit_next());
    assert_eq!(data(&served(&store), 1), b"one");
    assert_eq!(served(&store).dir().path(), Path::new(A));
    let waiting = store.foreign();
    assert_eq!(waiting.len(), 1, "the second one waits on");
    store.refuse_foreign(name().id, "there is another");
    assert_eq!(store.foreign()[0].standing, Standing::Refused("there is another".to_owned()));
}

#[test]
fn of_two_foreign_files_with_one_id_the_one_that_can_be_read_is_admitted() {
    for broken in [A, B] {
        let site = Site::new();
        site.create(A, "");
        site.put(A, 1, b"one");
        site.copy(A, B);
        for dir in [A, B] {
            site.disk.erase(&Path::new(dir).join("7.dulse"));
        }
        let store = site.open(&[A, B]);
        // Whatever was wrong with it when it was found, it is now.
        let mut bytes = site.disk.contents(&Path::new(broken).join("7.dat")).unwrap();
        bytes[0] = 0x7f;
        site.disk.put(&Path::new(broken).join("7.dat"), bytes);
        let config = volume_config(&store.data_dirs()[0]);
        for _ in 0..2 {
            store.accept_config(ClusterId::from(1), config.clone()).unwrap();
            store.admit_next();
        }
        let other = if broken == A { B } else { A };
        assert_eq!(served(&store).dir().path(), Path::new(other));
        assert_eq!(data(&served(&store), 1), b"one");
        assert_eq!(store.foreign().len(), 1);
    }
}

/// Which of two files of another program is newer nobody looks: the one that is admitted is read only,
/// whether the other can be read then or not, also after a restart.
#[test]
fn of_two_foreign_files_with_one_id_the_admitted_one_is_not_written_until_the_other_is_moved_away()
{
    for (is_unreadable, at_start) in [(false, false), (true, false), (true, true)] {
        let site = copied();
        for dir in [A, B] {
            site.disk.erase(&Path::new(dir).join("7.dulse"));
        }
        let newer = site.disk.contents(Path::new("/a/7.dat")).unwrap();
        let break_newer = || {
            let mut bytes = newer.clone();
            bytes[0] = 0x7f;
            site.disk.put(Path::new("/a/7.dat"), bytes);
        };
        if at_start {
            break_newer();
        }
        let store = site.open(&[A, B]);
        if is_unreadable {
            break_newer();
        }
        let config = VolumeConfig { closed: true, ..volume_config(&store.data_dirs()[0]) };
        for _ in 0..2 {
            store.accept_config(ClusterId::from(1), config.clone()).unwrap();
            store.admit_next();
        }
        let admitted = if is_unreadable { B } else { A };
        let assert_only_read = |store: &Store| {
            let volume = served(store);
            assert_eq!(volume.dir().path(), Path::new(admitted));
            let report = volume.report();
            let trouble = report.trouble.unwrap();
            assert_eq!(report.local, LocalState::Duplicate, "{trouble}");
            assert!(trouble.contains("/a/7.dat") && trouble.contains("/b/7.dat"), "{trouble}");
            assert!(matches!(put(&volume, 9, b"more"), Err(WriteError::Refused(_))));
            assert_eq!(data(&volume, 1), b"one");
        };
        assert_only_read(&store);
        store.close();
        drop(store);
        site.disk.put(Path::new("/a/7.dat"), newer.clone());
        assert_only_read(&site.open(&[A, B]));
        site.erase(if is_unreadable { A } else { B });
        assert_written(&site.open(&[A, B]), admitted);
    }
}
