//! The volumes of a server, those of another program among them.

use std::{collections::HashMap, fs, ops::ControlFlow, path::Path, sync::Arc};

use dulse_shared::{
    clock::Clock,
    id::{ClusterId, Fid, VolumeId},
    wire::{DiskType, Epoch, ForeignVolume, Member, ReadOnlyReason, VolumeConfig, VolumeState},
};
use dulse_volume::{
    config::{DirConfig, DirLimits},
    disk::open_data_dirs,
    engine::{
        compaction::Pace,
        open::Opener,
        scrub::{ScrubEnd, ScrubFindings},
        volume::Volume,
    },
    reader::{Found, ReadError, read_needle},
    store::{Store, StoreError},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::harness::{open_dir, opener_at, real_disk};

const CLUSTER: u128 = 1;
/// 2026-11-22 00:00 UTC, a day after the golden volumes were written.
const NEXT_DAY_NS: u64 = 1_795_305_600_000_000_000;

fn open(path: &Path, opener: Opener) -> Store {
    let dirs = [DirConfig::at(path).with_limits(DirLimits::NONE)];
    let dirs = open_data_dirs(&real_disk(), &dirs).unwrap();
    let store = Store::open(dirs, opener).unwrap();
    store.join(ClusterId::from(CLUSTER)).unwrap();
    store
}

fn config(store: &Store, foreign: &ForeignVolume) -> VolumeConfig {
    let is_whole = foreign.placement.copies() == 1;
    let reason = ReadOnlyReason::MissingCopies;
    VolumeConfig {
        id: foreign.id,
        collection: foreign.collection.clone(),
        placement: foreign.placement,
        ttl: foreign.ttl,
        disk: foreign.disk.clone(),
        closed: true,
        epoch: Epoch(1),
        members: vec![Member { server: store.server(), slot: 0 }],
        state: if is_whole { VolumeState::Writable } else { VolumeState::ReadOnly { reason } },
        last_writable: None,
        sealed_with: Vec::new(),
        decision: None,
        next_slot: 0,
    }
}

pub fn copy_golden(width: &str, server: &str, to: &Path) {
    let from = format!("{}/../tests/golden/{width}/{server}", env!("CARGO_MANIFEST_DIR"));
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        fs::copy(&path, &copy).unwrap();
    }
}

/// A server with the golden volumes of one width and directory, all admitted.
fn golden(width: &str, server: &str, clock: Clock) -> (tempfile::TempDir, Store) {
    let temp = tempfile::tempdir().unwrap();
    copy_golden(width, server, temp.path());
    let store = open(temp.path(), opener_at(clock));
    admit_all(&store);
    (temp, store)
}

fn admit_all(store: &Store) {
    for foreign in store.foreign() {
        let config = config(store, &foreign.volume);
        store.accept_config(ClusterId::from(CLUSTER), config).unwrap();
    }
    while store.admit_next() {}
}

#[test]
fn another_programs_volumes_are_scrubbed_and_have_no_findings() {
    for (width, server) in [("offset4", "a"), ("offset4", "b"), ("offset5", "a"), ("offset5", "b")]
    {
        let (_temp, store) = golden(width, server, Clock::manual(NEXT_DAY_NS));
        let volumes = store.volumes();
        assert!(!volumes.is_empty());
        for volume in volumes {
            let scrubbed = volume.scrub(&|_| true);
            let nothing = ScrubEnd::Complete(ScrubFindings::default());
            assert_eq!(scrubbed, nothing, "{width}/{server}/{}", volume.id());
        }
    }
}

/// The last state of each fid: status, length and SHA-256.
fn expected(width: &str) -> HashMap<Fid, Value> {
    let path = format!("{}/../tests/golden/{width}/expected.json", env!("CARGO_MANIFEST_DIR"));
    let requests: Vec<Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut last = HashMap::new();
    for request in requests {
        let fid: Fid = request["fid"].as_str().unwrap().parse().unwrap();
        if !request["read"].is_null() {
            last.insert(fid, request["read"].clone());
        }
    }
    last
}

async fn check_reads(width: &str, store: &Store, is_expected: impl Fn(&str) -> bool) -> usize {
    let mut checked = 0;
    for (fid, read) in expected(width) {
        let Some(volume) = store.volume(fid.volume) else { continue };
        let found = read_needle(&volume, fid.key, fid.cookie).await;
        let is_live = read["status"] == 200 && is_expected(volume.collection().as_str());
        match found {
            Ok(Found::Whole(needle)) => {
                // An empty needle without a body has no ttl of its own: its volume expires whole.
                let is_bare = needle.size == 0;
                assert!(is_live || is_bare, "{fid} should not be found");
                // What was stored gzipped is expected as what it holds.
                if !needle.meta.is_gzipped {
                    assert_eq!(needle.data.len() as u64, read["len"].as_u64().unwrap(), "{fid}");
                    let sum = format!("{:x}", Sha256::digest(&needle.data));
                    assert_eq!(sum, read["sha256"].as_str().unwrap(), "{fid}");
                }
            }
            Err(ReadError::NotFound) => assert!(!is_live, "{fid} should be found"),
            other => panic!("{fid}: {other:?}"),
        }
        checked += 1;
    }
    checked
}

#[tokio::test]
async fn golden_volumes_of_both_widths_are_read_and_expire_by_the_clock() {
    for width in ["offset4", "offset5"] {
        let mut checked = 0;
        for server in ["a", "b"] {
            let clock = Clock::manual(NEXT_DAY_NS);
            let (_temp, store) = golden(width, server, clock.clone());
            assert!(store.foreign().is_empty());
            checked += check_reads(width, &store, |_| true).await;
            clock.advance(std::time::Duration::from_secs(3 * 24 * 3600));
            check_reads(width, &store, |collection| collection != "brief").await;
        }
        assert!(checked >= 100, "{width}: {checked}");
    }
}

#[tokio::test]
async fn an_admitted_volume_stays_ours_and_its_files_stay_the_same() {
    let (temp, store) = golden("offset5", "a", Clock::manual(NEXT_DAY_NS));
    let fresh = tempfile::tempdir().unwrap();
    copy_golden("offset5", "a", fresh.path());
    let ids: Vec<VolumeId> = store.volumes().iter().map(|volume| volume.id()).collect();
    store.close();
    drop(store);
    for entry in fs::read_dir(fresh.path()).unwrap() {
        let name = entry.unwrap().file_name();
        let (before, after) = (fresh.path().join(&name), temp.path().join(&name));
        assert_eq!(fs::read(before).unwrap(), fs::read(after).unwrap(), "{name:?}");
    }
    let store = open(temp.path(), opener_at(Clock::manual(NEXT_DAY_NS)));
    assert!(store.foreign().is_empty());
    assert_eq!(store.volumes().iter().map(|volume| volume.id()).collect::<Vec<_>>(), ids);
    check_reads("offset5", &store, |_| true).await;
}

struct AtOnce;

impl Pace for AtOnce {
    fn after(&mut self, _bytes: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

#[tokio::test]
async fn a_golden_volume_is_compacted_with_all_its_needles() {
    for (width, server) in [("offset4", "a"), ("offset5", "a"), ("offset4", "b"), ("offset5", "b")]
    {
        let (temp, store) = golden(width, server, Clock::manual(NEXT_DAY_NS));
        let is_writable = |volume: &Arc<Volume>| volume.config().state == VolumeState::Writable;
        for volume in store.volumes().into_iter().filter(is_writable) {
            let needles = volume.report().live_needles;
            let compacted = volume.compact(&mut AtOnce).unwrap();
            assert!(compacted.after_bytes <= compacted.before_bytes);
            let report = volume.report();
            assert_eq!((report.live_needles, report.garbage_needles), (needles, 0));
            let findings = volume.check().unwrap();
            assert!(findings.is_empty(), "{width} {server}: {:?}", findings.as_slice());
        }
        let checked = check_reads(width, &store, |_| true).await;
        assert!(checked > 10);
        store.close();
        drop(store);
        let store = open(temp.path(), opener_at(Clock::manual(NEXT_DAY_NS)));
        assert_eq!(check_reads(width, &store, |_| true).await, checked);
    }
}

#[test]
fn a_foreign_volume_without_its_index_is_read_from_the_volume_file() {
    let temp = tempfile::tempdir().unwrap();
    copy_golden("offset4", "a", temp.path());
    for entry in fs::read_dir(temp.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "idx") {
            fs::remove_file(path).unwrap();
        }
    }
    let store = open(temp.path(), opener_at(Clock::manual(NEXT_DAY_NS)));
    admit_all(&store);
    let live: u64 = store.reports().iter().map(|report| report.live_needles).sum();
    let (_temp, whole) = golden("offset4", "a", Clock::manual(NEXT_DAY_NS));
    let live_with_index: u64 = whole.reports().iter().map(|report| report.live_needles).sum();
    // Without the index an empty file of another program's making reads as a delete.
    assert!(live > 0 && live <= live_with_index, "{live} of {live_with_index}");
}

#[test]
fn a_volume_of_another_cluster_is_left_alone() {
    let (temp, store) = golden("offset4", "a", Clock::manual(NEXT_DAY_NS));
    let volumes = store.volumes().len();
    drop(store);
    let other = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(temp.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_owned();
        if path.is_file() && name != "dulse.json" {
            fs::copy(&path, other.path().join(name)).unwrap();
        }
    }
    open_dir(&real_disk(), other.path()).join(ClusterId::from(2)).unwrap();
    let dirs = [DirConfig::at(other.path()).with_limits(DirLimits::NONE)];
    let dirs = open_data_dirs(&real_disk(), &dirs).unwrap();
    let opener = opener_at(Clock::manual(NEXT_DAY_NS));
    let store = Store::open(dirs, opener).unwrap();
    assert!(volumes > 0 && store.volumes().is_empty() && store.foreign().is_empty());
}

#[test]
fn creating_is_repeatable_and_bounded_by_the_slots() {
    let temp = tempfile::tempdir().unwrap();
    let dirs = [DirConfig::at(temp.path())
        .with_limits(DirLimits { max_volumes: Some(1), ..DirLimits::NONE })];
    let dirs = open_data_dirs(&real_disk(), &dirs).unwrap();
    let store = Store::open(dirs, opener_at(Clock::System)).unwrap();
    let foreign = |id| ForeignVolume {
        id: VolumeId::new(id).unwrap(),
        collection: "pics".parse().unwrap(),
        placement: "000".parse().unwrap(),
        ttl: "".parse().unwrap(),
        disk: DiskType::default(),
        live_needles: 0,
    };
    let cluster = ClusterId::from(CLUSTER);
    let first = config(&store, &foreign(1));
    assert!(matches!(store.create(cluster, first.clone()), Err(StoreError::NoCluster)));
    store.join(cluster).unwrap();
    let volume = store.create(cluster, first.clone()).unwrap();
    assert!(Arc::ptr_eq(&volume, &store.create(cluster, first.clone()).unwrap()));
    let second = config(&store, &foreign(2));
    assert!(matches!(store.create(cluster, second), Err(StoreError::NoRoom(_))));
    let other = store.create(ClusterId::from(2), first);
    assert!(matches!(other, Err(StoreError::OtherCluster { .. })));
}
