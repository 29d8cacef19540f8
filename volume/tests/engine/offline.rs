//! Checking directories that no server has open, and mending what is safe.

use std::{fs, ops::ControlFlow, path::Path, sync::Arc};

use dulse_shared::clock::Clock;
use dulse_volume::{
    disk::{Disk, simulated::SimulatedDisk},
    engine::compaction::Pace,
    offline::{
        check::{CheckError, DirReport, Repairs, check_dir},
        directory::DirectoryError,
    },
    writer,
};

use crate::{
    harness::{Rig, SIMULATED_DIR, name, real_disk},
    store::copy_golden,
};

struct AtOnce;

impl Pace for AtOnce {
    fn after(&mut self, _bytes: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// A directory with a volume of three needles, one of them deleted, closed well.
fn closed(disk: &SimulatedDisk) -> Rig {
    let rig = Rig::on(disk);
    for key in 1..=3 {
        rig.put(key, format!("data of needle {key}").as_bytes()).unwrap();
    }
    rig.delete(2).unwrap();
    writer::close(&rig.volume);
    rig
}

/// A crash releases the lock.
fn check(disk: &SimulatedDisk, repairs: Repairs) -> DirReport {
    disk.crash();
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    check_dir(&disk, Path::new(SIMULATED_DIR), repairs, &Clock::manual(1), &mut |_| {}).unwrap()
}

fn codes(report: &DirReport) -> Vec<&'static str> {
    let volumes = report.volumes.iter().flat_map(|volume| volume.findings.as_slice());
    report.findings.iter().chain(volumes).map(|finding| finding.code()).collect()
}

type Harm = fn(&SimulatedDisk, &Rig);

/// What is done to a directory, what a check finds of it, and what is left after a repair.
const HARMS: [(Harm, &[&str], &[&str]); 11] = [
    (|_, _| {}, &[], &[]),
    (|disk, rig| disk.erase(&rig.idx()), &["no_index"], &[]),
    (
        |disk, rig| {
            let idx = disk.contents(&rig.idx()).unwrap();
            disk.put(&rig.idx(), idx[..20].to_vec());
        },
        &["index_row", "not_indexed", "not_indexed", "not_indexed", "checkpoint", "checkpoint"],
        &[],
    ),
    (
        |disk, rig| disk.flip(&rig.idx(), 11 * 8),
        &["row_without_record", "not_indexed", "index_order", "checkpoint"],
        &[],
    ),
    (
        |disk, rig| {
            // The row of the tombstone becomes that of an empty needle.
            let mut idx = disk.contents(&rig.idx()).unwrap();
            idx[60..64].fill(0);
            disk.put(&rig.idx(), idx);
        },
        &["row_without_record", "not_indexed", "index_order", "checkpoint"],
        &[],
    ),
    (
        |disk, rig| {
            let mut dat = disk.contents(&rig.dat()).unwrap();
            dat.extend([7; 40]);
            disk.put(&rig.dat(), dat);
        },
        &["torn_tail"],
        &[],
    ),
    (|disk, rig| disk.flip(&rig.dat(), 40 * 8), &["damaged_record"], &["damaged_record"]),
    (
        |disk, rig| {
            // Cut in the third record, so that its tombstone is missing as well.
            let dat = disk.contents(&rig.dat()).unwrap();
            disk.put(&rig.dat(), dat[..dat.len() - 60].to_vec());
        },
        &["damaged_record", "lost_record", "checkpoint", "sidecar"],
        &["damaged_record", "lost_record", "checkpoint", "sidecar"],
    ),
    (|disk, rig| disk.flip(&rig.dat(), 1), &["superblock"], &["superblock"]),
    (
        |disk, rig| {
            disk.put(&rig.idx().with_extension("dulse.new"), b"half".to_vec());
            disk.put(Path::new("/data/9.dulse"), b"nobody can read of what".to_vec());
        },
        &["stray", "no_volume_file"],
        &["no_volume_file"],
    ),
    (
        |disk, rig| {
            disk.put(&rig.idx().with_file_name("8.idx"), vec![1; 32]);
        },
        &["no_volume_file"],
        &["no_volume_file"],
    ),
];

#[test]
fn what_is_wrong_is_found_and_what_is_safe_is_mended() {
    for (index, (harm, found, left)) in HARMS.into_iter().enumerate() {
        let disk = SimulatedDisk::new(1);
        let rig = closed(&disk);
        let config = (*rig.volume.config()).clone();
        let sound = disk.contents(&rig.dat()).unwrap();
        harm(&disk, &rig);
        let before = disk.paths();
        let dat = disk.contents(&rig.dat()).unwrap();
        assert_eq!(codes(&check(&disk, Repairs::None)), found, "harm {index}");
        assert_eq!((disk.paths(), disk.contents(&rig.dat()).unwrap()), (before, dat.clone()));
        let repaired = check(&disk, Repairs::Safe);
        assert_eq!(codes(&repaired), left, "harm {index}: {repaired:?}");
        assert_eq!(codes(&check(&disk, Repairs::None)), left, "harm {index}, again");
        let after = disk.contents(&rig.dat()).unwrap();
        assert!(after == dat || after == sound, "harm {index}");
        if !left.is_empty() {
            continue;
        }
        let mut rig = rig;
        rig.restart();
        rig.try_start(&config).unwrap();
        assert_eq!(rig.data(1).unwrap(), b"data of needle 1");
        assert_eq!(rig.data(2), None);
        assert!(rig.volume.check().unwrap().is_empty(), "harm {index}");
    }
}

/// A directory whose power went while a volume was compacted, after so many operations.
fn interrupted_compaction(after: u64) -> (SimulatedDisk, Rig) {
    let disk = SimulatedDisk::new(after);
    let rig = Rig::on(&disk);
    for key in 1..=3 {
        rig.put(key, format!("data of needle {key}").as_bytes()).unwrap();
    }
    rig.delete(2).unwrap();
    disk.stop_after(after);
    // Whatever comes of it.
    drop(rig.volume.compact(&mut AtOnce));
    disk.crash();
    (disk, rig)
}

#[test]
fn a_repair_of_an_interrupted_compaction_leaves_a_whole_volume() {
    let mut finished = 0;
    for after in 0..60 {
        for loses_index in [false, true] {
            let (disk, mut rig) = interrupted_compaction(after);
            let is_pending = disk.contents(&name().swap_marker(rig.dir.path())).is_some();
            finished += u32::from(is_pending);
            if loses_index {
                disk.erase(&rig.idx());
            }
            let context = format!("after {after}, loses the index: {loses_index}");
            let repaired = check(&disk, Repairs::Safe);
            assert!(repaired.is_sound(), "{context}: {repaired:?}");
            assert!(!is_pending || !repaired.volumes[0].repaired.is_empty(), "{context}");
            assert!(check(&disk, Repairs::None).is_sound(), "{context}, again");
            rig.restart();
            rig.reopen(false);
            assert_eq!(rig.data(1).unwrap(), b"data of needle 1", "{context}");
            assert_eq!(rig.data(2), None, "{context}");
            assert_eq!(rig.data(3).unwrap(), b"data of needle 3", "{context}");
            assert!(rig.volume.check().unwrap().is_empty(), "{context}");
        }
    }
    assert!(finished > 4, "{finished} swaps were finished");
}

#[test]
fn what_a_repair_takes_away_lies_in_the_trash() {
    let disk = SimulatedDisk::new(1);
    let rig = closed(&disk);
    let mut dat = disk.contents(&rig.dat()).unwrap();
    dat.extend([7; 40]);
    disk.put(&rig.dat(), dat);
    disk.put(&rig.idx().with_extension("idx.new"), b"half".to_vec());
    let report = check(&disk, Repairs::Safe);
    assert!(report.is_sound());
    assert_eq!(report.repaired.len() + report.volumes[0].repaired.len(), 2);
    let mut trash = rig.trash();
    trash.sort();
    assert_eq!(trash, [vec![7; 40], b"half".to_vec()]);
}

#[test]
fn a_directory_that_is_in_use_is_refused() {
    let disk = SimulatedDisk::new(1);
    let _rig = closed(&disk);
    let disk: Arc<dyn Disk> = Arc::new(disk);
    for repairs in [Repairs::None, Repairs::Safe] {
        let refused =
            check_dir(&disk, Path::new(SIMULATED_DIR), repairs, &Clock::manual(1), &mut |_| {});
        assert!(matches!(refused, Err(CheckError::Dir(DirectoryError::InUse(_)))));
    }
}

#[test]
fn directories_of_another_program_are_sound_and_stay_as_they_are() {
    let mut volumes = 0;
    for width in ["offset4", "offset5"] {
        for server in ["a", "b"] {
            let temp = tempfile::tempdir().unwrap();
            copy_golden(width, server, temp.path());
            let list = || {
                let mut names: Vec<_> = fs::read_dir(temp.path())
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name())
                    .collect();
                names.sort();
                names
            };
            let before = list();
            let mut read = 0;
            let report =
                check_dir(&real_disk(), temp.path(), Repairs::None, &Clock::System, &mut |bytes| {
                    read += bytes
                })
                .unwrap();
            assert!(report.is_sound(), "{report:#?}");
            assert_eq!(list(), before);
            volumes += report.volumes.len();
            let bytes: u64 = report.volumes.iter().map(|volume| volume.bytes).sum();
            assert!(report.volumes.is_empty() || (read > 0 && read <= bytes));
        }
    }
    assert!(volumes > 10, "{volumes}");
}
