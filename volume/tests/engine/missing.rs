//! What goes missing: directories, volume files, and what an interrupted creation leaves.

use std::{fs, path::Path, sync::Arc, time::Duration};

use dulse_shared::{
    clock::Clock,
    id::ClusterId,
    wire::{LocalState, VolumeConfig},
};
use dulse_volume::{
    config::{DirConfig, DirLimits},
    disk::{DataDir, DataDirError, Disk, IDENTITY_FILE, open_data_dirs, simulated::SimulatedDisk},
    engine::write::Write,
    store::{Store, StoreError},
    writer,
};

use crate::harness::{needle, open_dir, opener_at, real_disk, volume_config};

fn cluster() -> ClusterId {
    ClusterId::from(1)
}

fn try_open(disk: &Arc<dyn Disk>, paths: &[&Path]) -> Result<Vec<DataDir>, DataDirError> {
    let configs: Vec<_> = paths
        .iter()
        .map(|path| {
            DirConfig::at(path).with_limits(DirLimits { max_volumes: Some(3), ..DirLimits::NONE })
        })
        .collect();
    open_data_dirs(disk, &configs)
}

fn store(paths: &[&Path], clock: Clock) -> Store {
    let dirs = try_open(&real_disk(), paths).unwrap();
    let store = Store::open(dirs, opener_at(clock)).unwrap();
    store.join(cluster()).unwrap();
    store
}

fn config(store: &Store, n: u32) -> VolumeConfig {
    let temp = tempfile::tempdir().unwrap();
    let mut config = volume_config(&open_dir(&real_disk(), temp.path()));
    config.id = dulse_shared::id::VolumeId::new(n).unwrap();
    for member in &mut config.members {
        member.server = store.server();
    }
    config
}

#[test]
fn a_directory_that_was_known_is_neither_made_nor_written_to_when_it_is_missing() {
    let temp = tempfile::tempdir().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| temp.path().join(name));
    drop(store(&[&a, &b], Clock::System));
    let kept = temp.path().join("kept");
    fs::rename(&b, &kept).unwrap();

    // Gone with its mount point, and the mount point without its disk.
    for is_empty in [false, true] {
        if is_empty {
            fs::create_dir(&b).unwrap();
        }
        let store = store(&[&a, &b, &c], Clock::System);
        let dirs = store.dirs();
        assert!(dirs[0].trouble.is_none() && dirs[2].trouble.is_none(), "{dirs:?}");
        let trouble = dirs[1].trouble.as_deref().unwrap();
        assert!(trouble.contains("mounted?") && dirs[1].is_low, "{trouble}");
        assert!(c.join(IDENTITY_FILE).exists(), "a directory never seen is made");
        assert!(!b.exists() || fs::read_dir(&b).unwrap().count() == 0, "nothing is made there");
    }
    fs::remove_dir(&b).unwrap();
    fs::rename(&kept, &b).unwrap();
    let dirs = store(&[&a, &b, &c], Clock::System).dirs();
    assert!(dirs.iter().all(|dir| dir.trouble.is_none()), "it is back: {dirs:?}");
}

#[test]
fn a_start_without_a_missing_directory_forgets_it() {
    let temp = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| temp.path().join(name));
    drop(store(&[&a, &b], Clock::System));
    fs::remove_dir_all(&b).unwrap();
    assert!(store(&[&a, &b], Clock::System).dirs()[1].trouble.is_some());
    drop(store(&[&a], Clock::System));
    assert!(store(&[&a, &b], Clock::System).dirs()[1].trouble.is_none());
    assert!(b.join(IDENTITY_FILE).exists());
}

#[test]
fn a_directory_that_was_away_when_the_server_joined_belongs_to_it_all_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let [a, b, kept] = ["a", "b", "kept"].map(|name| temp.path().join(name));
    let server = try_open(&real_disk(), &[&a, &b]).unwrap()[0].identity().server;
    fs::rename(&b, &kept).unwrap();
    drop(store(&[&a, &b], Clock::System));
    fs::rename(&kept, &b).unwrap();
    let dirs = try_open(&real_disk(), &[&b, &a]).unwrap();
    for dir in dirs {
        assert_eq!((dir.identity().server, dir.identity().cluster), (server, Some(cluster())));
    }
}

#[test]
fn an_identity_without_the_list_of_directories_is_read() {
    let temp = tempfile::tempdir().unwrap();
    let text = r#"{"version":1,"server":"00000000000000000000000000000007","cluster":null}"#;
    fs::write(temp.path().join(IDENTITY_FILE), text).unwrap();
    let dirs = try_open(&real_disk(), &[temp.path()]).unwrap();
    assert_eq!(dirs[0].identity().server, dulse_shared::id::ServerId::from(7));
}

#[test]
fn a_directory_that_goes_away_takes_only_its_volumes_with_it() {
    let temp = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| temp.path().join(name));
    let clock = Clock::manual(1_795_305_600_000_000_000);
    let store = store(&[&a, &b], clock.clone());
    let volumes = [1, 2, 3, 4].map(|n| store.create(cluster(), config(&store, n)).unwrap());
    let lost: Vec<_> = volumes.iter().filter(|v| v.dir().path().ends_with("b")).collect();
    let kept: Vec<_> = volumes.iter().filter(|v| v.dir().path().ends_with("a")).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    assert!(!lost.is_empty() && !kept.is_empty(), "a directory takes three");
    fs::rename(&b, temp.path().join("away")).unwrap();
    store.measure();
    assert!(store.dirs()[1].trouble.is_none(), "one bad answer is none");
    clock.advance(Duration::from_secs(2));
    store.measure();
    let trouble = store.dirs()[1].trouble.clone().unwrap();
    assert!(trouble.contains("cannot be reached"), "{trouble}");
    for volume in lost {
        let report = volume.report();
        assert_eq!((report.local, report.trouble), (LocalState::Failed, Some(trouble.clone())));
        runtime.block_on(writer::put(volume, needle(1, b"x"), false)).unwrap_err();
    }
    for volume in kept {
        runtime.block_on(writer::put(volume, needle(1, b"x"), false)).unwrap();
    }
    let new = store.create(cluster(), config(&store, 9)).unwrap();
    assert!(new.dir().path().ends_with("a"), "nothing new is made where it failed");
}

#[test]
fn a_bad_answer_is_forgotten_once_a_good_one_came() {
    let temp = tempfile::tempdir().unwrap();
    let [a, b, away] = ["a", "b", "away"].map(|name| temp.path().join(name));
    let clock = Clock::manual(1_795_305_600_000_000_000);
    let store = store(&[&a, &b], clock.clone());
    for _ in 0..3 {
        fs::rename(&b, &away).unwrap();
        store.measure();
        fs::rename(&away, &b).unwrap();
        clock.advance(Duration::from_secs(2));
        store.measure();
    }
    assert!(store.dirs()[1].trouble.is_none());
    fs::remove_file(b.join(IDENTITY_FILE)).unwrap();
    store.measure();
    clock.advance(Duration::from_secs(2));
    store.measure();
    let trouble = store.dirs()[1].trouble.clone().unwrap();
    assert!(trouble.contains("dulse.json is gone"), "{trouble}");
}

#[test]
fn a_disk_that_is_unmounted_or_turns_read_only_takes_no_more_writes() {
    for (device, is_read_only, reason) in [(7, false, "unmounted"), (0, true, "read-only")] {
        let disk = SimulatedDisk::new(1);
        let files: Arc<dyn Disk> = Arc::new(disk.clone());
        let clock = Clock::manual(1_795_305_600_000_000_000);
        let dirs = try_open(&files, &[Path::new("/data")]).unwrap();
        let store = Store::open(dirs, opener_at(clock.clone())).unwrap();
        disk.mount(device, is_read_only);
        store.measure();
        clock.advance(Duration::from_secs(2));
        store.measure();
        let trouble = store.dirs()[0].trouble.clone().unwrap();
        assert!(trouble.contains(reason), "{trouble}");
        assert!(store.dirs()[0].is_low);
    }
}

#[test]
fn a_known_directory_that_cannot_be_read_is_left_alone_and_the_others_are_used() {
    let temp = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| temp.path().join(name));
    drop(store(&[&a, &b], Clock::System));
    fs::remove_dir_all(&b).unwrap();
    fs::write(&b, "not a directory").unwrap();
    let dirs = store(&[&a, &b], Clock::System).dirs();
    assert!(dirs[0].trouble.is_none());
    assert!(dirs[1].trouble.as_deref().unwrap().contains("--dir"), "{dirs:?}");
    assert_eq!(fs::read(&b).unwrap(), b"not a directory");
}

#[test]
fn what_other_programs_keep_without_a_volume_file_is_not_missing_one() {
    let temp = tempfile::tempdir().unwrap();
    for (name, len) in [("5.ecx", 32), ("5.vif", 9), ("5.idx", 32), ("6.vif", 9)] {
        fs::write(temp.path().join(name), vec![1; len]).unwrap();
    }
    let store = store(&[temp.path()], Clock::System);
    assert!(store.unserved().is_empty(), "{:?}", store.unserved());
    assert!(["5.ecx", "5.idx", "6.vif"].iter().all(|name| temp.path().join(name).exists()));
}

#[test]
fn a_volume_that_went_missing_before_its_first_checkpoint_is_not_tidied_away() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(&[temp.path()], Clock::System);
    let volume = store.create(cluster(), config(&store, 5)).unwrap();
    volume.commit(vec![Write::Put(needle(1, b"x"))]).remove(0).unwrap();
    drop((store, volume));
    fs::remove_file(temp.path().join("5.dat")).unwrap();
    let store = self::store(&[temp.path()], Clock::System);
    assert_eq!(store.unserved().len(), 1);
    assert!(temp.path().join("5.idx").exists() && temp.path().join("5.dulse").exists());
}

#[test]
fn a_volume_file_that_went_missing_is_reported_and_its_id_is_taken() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(&[temp.path()], Clock::System);
    let volume = store.create(cluster(), config(&store, 5)).unwrap();
    // Without the writer's thread, which would hold the volume for a moment more.
    volume.commit(vec![Write::Put(needle(1, b"x"))]).remove(0).unwrap();
    store.close();
    drop((store, volume));
    fs::remove_file(temp.path().join("5.dat")).unwrap();
    let store = self::store(&[temp.path()], Clock::System);
    let unserved = store.unserved();
    assert_eq!(unserved.len(), 1);
    assert!(unserved[0].reason.contains("5.dat is missing"), "{unserved:?}");
    assert!(temp.path().join("5.idx").exists() && temp.path().join("5.dulse").exists());
    let created = store.create(cluster(), config(&store, 5));
    assert!(matches!(created, Err(StoreError::Exists(_))), "{created:?}");
}

#[test]
fn a_file_that_cannot_be_looked_at_takes_only_its_own_volume() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(&[temp.path()], Clock::System);
    for n in [5, 6, 7] {
        store.create(cluster(), config(&store, n)).unwrap();
    }
    store.close();
    drop(store);
    // Links that lead round in a circle are an error that is not "there is none".
    for name in ["5.dat", "6.idx"] {
        fs::remove_file(temp.path().join(name)).unwrap();
        std::os::unix::fs::symlink(name, temp.path().join(name)).unwrap();
    }
    fs::remove_file(temp.path().join("6.dat")).unwrap();
    let store = self::store(&[temp.path()], Clock::System);
    let ids: Vec<u32> = store.unserved().iter().map(|volume| volume.id.as_u32()).collect();
    assert_eq!(ids, [6, 5], "{:?}", store.unserved());
    assert_eq!(store.reports().len(), 1, "the third is served");
}

#[test]
fn a_volume_that_cannot_be_opened_says_why() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(&[temp.path()], Clock::System);
    for n in [5, 6] {
        store.create(cluster(), config(&store, n)).unwrap();
    }
    store.close();
    drop(store);
    fs::write(temp.path().join("5.dat"), [9; 400]).unwrap();
    let store = self::store(&[temp.path()], Clock::System);
    assert_eq!(store.unserved().len(), 1);
    assert!(store.unserved()[0].reason.contains("5.dat"), "{:?}", store.unserved());
    assert_eq!(store.reports().len(), 1, "the other one is served");
}

/// Cuts a creation off after each of its operations on the disk, and the next start as well.
#[test]
fn a_creation_cut_off_anywhere_leaves_nothing_behind_or_a_whole_volume() {
    let mut removed = 0;
    for seed in 0..600 {
        let disk = SimulatedDisk::new(seed);
        let files: Arc<dyn Disk> = Arc::new(disk.clone());
        let path = Path::new("/data");
        let open = || {
            let dirs = try_open(&files, &[path]).unwrap();
            let store = Store::open(dirs, opener_at(Clock::System)).unwrap();
            store.join(cluster()).unwrap();
            store
        };
        let store = open();
        let config = config(&store, 7);
        disk.stop_after(seed % 24);
        let made = store.create(cluster(), config.clone());
        let was_made = made.is_ok();
        drop((made, store));
        disk.crash();
        // A start that is cut off while it tidies up.
        disk.stop_after(seed / 24 % 25);
        let dirs = try_open(&files, &[path]);
        drop(dirs.and_then(|dirs| Store::open(dirs, opener_at(Clock::System))));
        disk.crash();
        let found: Vec<String> = files.list(path).unwrap().into_iter().map(|e| e.name).collect();
        let store = open();
        assert!(store.unserved().is_empty(), "seed {seed}: {found:?}: {:?}", store.unserved());
        let is_there = store.volume(config.id).is_some();
        assert!(is_there || !was_made, "seed {seed}: it was made: {found:?}");
        let left: Vec<String> = files.list(path).unwrap().into_iter().map(|e| e.name).collect();
        let of_it = |name: &&String| name.starts_with("7.");
        if !is_there {
            assert_eq!(left.iter().filter(of_it).count(), 0, "seed {seed}: {found:?} {left:?}");
            removed += found.iter().filter(of_it).count();
            store.create(cluster(), config).unwrap();
        }
    }
    assert!(removed > 0, "no crash left anything");
}
