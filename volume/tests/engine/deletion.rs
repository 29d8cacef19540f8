//! Volumes that the cluster deleted, on their way to the trash, whatever stops them there.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use dulse_shared::{
    clock::Clock,
    id::{ClusterId, VolumeId},
    wire::{Epoch, LocalState, VolumeConfig},
};
use dulse_volume::{
    config::{DirConfig, DirLimits},
    disk::{
        Disk, open_data_dirs,
        simulated::{EIO, Fault, Operation, SimulatedDisk},
    },
    engine::write::Write,
    store::Store,
};

use crate::harness::{
    NOW_NS, SIMULATED_DIR, needle, open_dir, opener_at, read_of, volume_config, watch,
};

const CLUSTER: u128 = 1;
const LIFETIME: Duration = Duration::from_secs(3960);

fn id(id: u32) -> VolumeId {
    VolumeId::new(id).unwrap()
}

fn open(disk: &SimulatedDisk, clock: &Clock) -> Store {
    let dirs = [DirConfig::at(SIMULATED_DIR).with_limits(DirLimits::NONE)];
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let dirs = open_data_dirs(&disk, &dirs).unwrap();
    let store = Store::open(dirs, opener_at(clock.clone())).unwrap();
    store.join(ClusterId::from(CLUSTER)).unwrap();
    store
}

/// Volume 7 with a ttl of an hour and volume 8 without, a needle in each.
fn two_volumes(seed: u64) -> (SimulatedDisk, Clock, Store) {
    let (disk, clock) = (SimulatedDisk::new(seed), Clock::manual(NOW_NS));
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let config = volume_config(&open_dir(&shared, Path::new(SIMULATED_DIR)));
    let store = open(&disk, &clock);
    for (number, ttl) in [(7, "1h"), (8, "")] {
        let config = VolumeConfig { id: id(number), ttl: ttl.parse().unwrap(), ..config.clone() };
        let volume = store.create(ClusterId::from(CLUSTER), config).unwrap();
        volume.commit(vec![Write::Put(needle(1, b"of both"))]).remove(0).unwrap();
        volume.rest().unwrap();
    }
    (disk, clock, store)
}

fn discard(store: &Store, number: u32) {
    store.discard(ClusterId::from(CLUSTER), &[id(number)]);
}

/// Names in the directory that begin so.
fn in_dir(disk: &SimulatedDisk, dir: &str, start: &str) -> Vec<String> {
    let dir = Path::new(SIMULATED_DIR).join(dir);
    let is_there = |path: &&PathBuf| path.parent() == Some(dir.as_path());
    let paths = disk.paths();
    let names = paths.iter().filter(is_there).filter_map(|path| path.file_name()?.to_str());
    names.filter(|name| name.starts_with(start)).map(str::to_owned).collect()
}

fn assert_trashed_whole(disk: &SimulatedDisk, dat: &[u8], context: &str) {
    assert!(in_dir(disk, "", "7.").is_empty(), "{context}: {:?}", disk.paths());
    let kept = in_dir(disk, "trash", "7.");
    let ends: Vec<&str> = kept.iter().map(|name| name.rsplit_once('.').unwrap().1).collect();
    assert_eq!(ends, ["dat", "dulse", "idx", "vif"], "{context}");
    let times: Vec<&str> = kept.iter().map(|name| name.split('.').nth(1).unwrap()).collect();
    assert!(times.iter().all(|time| *time == times[0]), "{context}: {kept:?}");
    let path = Path::new(SIMULATED_DIR).join("trash").join(&kept[0]);
    assert_eq!(disk.contents(&path).unwrap(), dat, "{context}");
}

fn assert_lives(store: &Store, context: &str) {
    let volume = store.volume(id(8)).expect(context);
    assert_eq!(volume.report().local, LocalState::Ready, "{context}");
    assert_eq!(read_of(&volume, 1).expect(context).data, &b"of both"[..], "{context}");
}

#[test]
fn a_deleted_volume_goes_to_the_trash_and_readers_that_have_it_go_on() {
    let (disk, clock, store) = two_volumes(1);
    let dat = disk.contents(&Path::new(SIMULATED_DIR).join("7.dat")).unwrap();
    let held = store.volume(id(7)).unwrap();
    store.discard(ClusterId::from(2), &[id(7)]);
    assert!(store.volume(id(7)).is_some(), "another cluster's volume 7 is another");
    discard(&store, 7);
    discard(&store, 7);
    assert!(store.volume(id(7)).is_none());
    assert_eq!(read_of(&held, 1).unwrap().data, &b"of both"[..]);
    assert!(held.commit(vec![Write::Put(needle(2, b"late"))])[0].is_err());
    held.rest().unwrap();
    // Nothing writes a sidecar where its own was.
    held.accept_config(VolumeConfig { epoch: Epoch(9), ..(*held.config()).clone() }).unwrap();
    watch(&clock, store.clock_trust(), LIFETIME);
    held.expire_if_due().unwrap();
    assert_trashed_whole(&disk, &dat, "discarded");
    assert_lives(&store, "discarded");
    assert_eq!(store.dirs()[0].volumes, 1, "its slot is free");
}

#[test]
fn a_crash_at_any_step_leaves_the_volume_whole_or_finishes_its_way_to_the_trash() {
    let mut finished_by_the_start = 0;
    for stop in 0..60 {
        let mut is_through = true;
        for seed in 0..24 {
            let context = format!("stopped after {stop}, seed {seed}");
            let (disk, clock, store) = two_volumes(seed);
            let dat = disk.contents(&Path::new(SIMULATED_DIR).join("7.dat")).unwrap();
            disk.stop_after(stop);
            discard(&store, 7);
            let was_stopped = disk.is_stopped();
            is_through &= !was_stopped;
            disk.crash();
            drop(store);
            let store = open(&disk, &clock);
            assert!(store.foreign().is_empty(), "{context}: {:?}", store.foreign());
            assert_lives(&store, &context);
            match store.volume(id(7)) {
                // The master says it again.
                Some(volume) => {
                    assert_eq!(read_of(&volume, 1).unwrap().data, &b"of both"[..], "{context}");
                    discard(&store, 7);
                }
                None => finished_by_the_start += usize::from(was_stopped),
            }
            assert!(store.volume(id(7)).is_none(), "{context}");
            assert_trashed_whole(&disk, &dat, &context);
            drop(store);
            assert!(open(&disk, &clock).volume(id(7)).is_none(), "{context}");
        }
        if is_through {
            assert!(stop > 5 && finished_by_the_start > 20, "{stop}, {finished_by_the_start}");
            return;
        }
    }
    panic!("a move takes fewer operations");
}

#[test]
fn a_move_that_fails_is_finished_when_it_is_asked_for_again() {
    for (operation, nth) in [
        (Operation::Rename, 0),
        (Operation::Rename, 1),
        (Operation::Rename, 3),
        (Operation::SyncDir, 0),
        (Operation::SyncDir, 1),
        (Operation::SyncDir, 2),
    ] {
        let (disk, _clock, store) = two_volumes(1);
        let dat = disk.contents(&Path::new(SIMULATED_DIR).join("7.dat")).unwrap();
        disk.plan(operation, None, nth, Fault::Fails(EIO));
        discard(&store, 7);
        assert!(store.volume(id(7)).is_some(), "{operation:?} {nth}: it is reported again");
        discard(&store, 7);
        assert!(store.volume(id(7)).is_none());
        assert_trashed_whole(&disk, &dat, &format!("{operation:?} {nth}"));
    }
}

#[test]
fn a_volume_that_is_put_back_is_whole_and_goes_to_the_trash_beside_the_first() {
    let (disk, clock, store) = two_volumes(1);
    let path = |name: String| Path::new(SIMULATED_DIR).join(name);
    let paths: Vec<PathBuf> = in_dir(&disk, "", "7.").into_iter().map(path).collect();
    let files = paths.iter().map(|path| (path, disk.contents(path).unwrap()));
    let files: Vec<_> = files.collect();
    discard(&store, 7);
    drop(store);
    for (path, bytes) in &files {
        disk.put(path, bytes.clone());
    }
    let store = open(&disk, &clock);
    store.purge_trash();
    assert_eq!(read_of(&store.volume(id(7)).unwrap(), 1).unwrap().data, &b"of both"[..]);
    assert_eq!(in_dir(&disk, "", "7.").len(), files.len());
    discard(&store, 7);
    assert!(in_dir(&disk, "", "7.").is_empty());
    let kept = in_dir(&disk, "trash", "7.");
    let of_time = |time| kept.iter().filter(|name| name.split('.').nth(1) == Some(time)).count();
    let times: BTreeSet<&str> = kept.iter().filter_map(|name| name.split('.').nth(1)).collect();
    assert_eq!(times.into_iter().map(of_time).collect::<Vec<_>>(), [4, 4], "{kept:?}");
}

#[test]
fn a_store_ends_what_is_over_and_empties_the_trash_a_day_after_it_was_deleted() {
    let (disk, clock, store) = two_volumes(1);
    let local = |number| store.volume(id(number)).unwrap().report().local;
    store.expire_volumes();
    assert_eq!((local(7), local(8)), (LocalState::Ready, LocalState::Ready));
    watch(&clock, store.clock_trust(), LIFETIME);
    store.expire_volumes();
    assert_eq!((local(7), local(8)), (LocalState::Expired, LocalState::Ready));
    discard(&store, 7);
    clock.advance(Duration::from_secs(24 * 3600 - 1));
    store.purge_trash();
    assert_eq!(in_dir(&disk, "trash", "7.").len(), 4);
    clock.jump_ahead(Duration::from_secs(3600));
    store.purge_trash();
    assert_eq!(in_dir(&disk, "trash", "7.").len(), 4, "nobody believes a clock that jumped");
    watch(&clock, store.clock_trust(), Duration::from_secs(3600));
    store.purge_trash();
    assert!(in_dir(&disk, "trash", "").is_empty());
    assert_lives(&store, "purged");
}
