//! Records that were acknowledged and that the end of the volume file no longer has.

use std::{fs, ops::ControlFlow, path::Path, time::Duration};

use dulse_shared::{clock::Clock, wire::LocalState};
use dulse_volume::{
    disk::simulated::SimulatedDisk,
    engine::{check::Finding, compaction::Pace},
    offline::check::{Repairs, check_dir},
    reader::ReadError,
};

use crate::harness::{Rig, name, real_disk};

const ROW_LEN: usize = 16;

/// Four needles, a checkpoint behind the first, and where each ends.
fn four_needles() -> (Rig, Vec<u64>) {
    let rig = Rig::new();
    let mut ends = vec![8];
    for key in 1..=4 {
        rig.put(key, format!("data of needle {key}").as_bytes()).unwrap();
        ends.push(rig.volume.report().size_bytes);
        if key == 1 {
            rig.volume.checkpoint().unwrap();
        }
    }
    (rig, ends)
}

fn cut(path: &Path, len: u64) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..len as usize]).unwrap();
}

fn is_lost(finding: &Finding) -> bool {
    matches!(finding, Finding::LostRecord { .. } | Finding::Record { .. })
}

#[test]
fn an_end_that_was_acknowledged_and_is_gone_is_damage_wherever_it_was_cut() {
    let (rig, ends) = four_needles();
    drop(rig);
    for len in ends[1]..ends[4] {
        let (mut rig, _) = four_needles();
        cut(&rig.dat(), len);
        let dat = fs::read(rig.dat()).unwrap();
        for is_clean in [false, false, true, false] {
            rig.reopen(is_clean);
            let report = rig.volume.report();
            assert_eq!(report.local, LocalState::Damaged, "cut at {len}");
            assert!(report.trouble.is_some(), "cut at {len}: no reason is given");
            for key in 1..=4 {
                let read = rig.read(key);
                let is_there = ends[key as usize] <= len;
                assert_eq!(read.is_ok(), is_there, "needle {key} cut at {len}: {read:?}");
                let is_error = matches!(read, Ok(_) | Err(ReadError::Corrupt { .. }));
                assert!(is_error, "needle {key} cut at {len}: {read:?}");
            }
            let missing = ends[1..].iter().filter(|end| **end > len).count();
            let findings = rig.volume.check().unwrap();
            let lost = findings.as_slice().iter().filter(|finding| is_lost(finding)).count();
            assert_eq!(lost, missing, "cut at {len}: {:?}", findings.as_slice());
        }
        assert!(rig.put(5, b"more").is_err());
        assert!(rig.trash().is_empty());
        assert_eq!(fs::read(rig.dat()).unwrap(), dat, "nothing is cut");
    }
}

#[test]
fn a_repair_does_not_throw_away_the_only_trace_of_lost_records() {
    for behind in [0, 9] {
        let (rig, ends) = four_needles();
        cut(&rig.dat(), ends[3] + behind);
        let copy = tempfile::tempdir().unwrap();
        for file in ["7.dat", "7.idx", "7.dulse", "7.vif"] {
            fs::copy(rig.dir.path().join(file), copy.path().join(file)).unwrap();
        }
        // A row that a repair would otherwise mend, by an index made anew.
        let mut idx = fs::read(rig.idx()).unwrap();
        idx[ROW_LEN] ^= 1;
        fs::write(name().idx(copy.path()), &idx).unwrap();
        for repairs in [Repairs::None, Repairs::Safe, Repairs::None] {
            let report = check_dir(&real_disk(), copy.path(), repairs, &Clock::System, &mut |_| {});
            let findings = report.unwrap().volumes.remove(0).findings;
            let lost = findings.as_slice().iter().filter(|finding| is_lost(finding)).count();
            assert_eq!(lost, 1, "{findings:?}");
        }
        let is_kept = fs::read(name().idx(copy.path())).unwrap() == idx;
        assert_eq!(is_kept, behind == 0, "what is left of a record speaks for itself");
    }
}

/// That the records before it are counted by the index is doubtful then, and the row is believed all
/// the same: what is left of its record is no torn end.
#[test]
fn a_torn_record_with_a_row_is_damage_although_an_earlier_row_has_a_flipped_bit() {
    let (mut rig, ends) = four_needles();
    let mut idx = fs::read(rig.idx()).unwrap();
    // The only row that the checkpoint covers.
    idx[7] ^= 0x10;
    fs::write(rig.idx(), idx).unwrap();
    let mut dat = fs::read(rig.dat()).unwrap();
    dat[ends[3] as usize..ends[3] as usize + 20].fill(0);
    fs::write(rig.dat(), &dat).unwrap();
    for is_clean in [false, true, false] {
        rig.reopen(is_clean);
        assert_eq!(rig.volume.report().local, LocalState::Damaged);
        assert!(matches!(rig.read(4), Err(ReadError::Corrupt { .. })), "{:?}", rig.read(4));
        assert!((1..=3).all(|key| rig.data(key).is_some()));
    }
    assert!(rig.trash().is_empty());
    assert_eq!(fs::read(rig.dat()).unwrap(), dat, "nothing is cut");
}

/// The row may then point to where no record is, but it is that of a record which is there.
#[test]
fn a_row_whose_offset_lost_a_bit_is_no_lost_record() {
    for bit in (ROW_LEN * 8..4 * ROW_LEN * 8).filter(|bit| (64..96).contains(&(bit % 128))) {
        let (mut rig, ends) = four_needles();
        let mut idx = fs::read(rig.idx()).unwrap();
        idx[bit / 8] ^= 1 << (bit % 8);
        fs::write(rig.idx(), idx).unwrap();
        // Zeros behind the last record could be those of a lost one.
        cut(&rig.dat(), ends[4]);
        rig.reopen(false);
        assert_eq!(rig.volume.report().local, LocalState::Ready, "bit {bit}");
        assert_eq!(rig.volume.report().size_bytes, ends[4]);
        assert!((1..=4).all(|key| rig.data(key).is_some()), "bit {bit}");
    }
}

#[test]
fn rows_that_a_crash_tore_or_never_wrote_are_no_lost_records() {
    for len in ROW_LEN..=5 * ROW_LEN {
        let (mut rig, _) = four_needles();
        let mut idx = fs::read(rig.idx()).unwrap();
        let whole = idx.len();
        // A file system may lengthen a file before it has its bytes.
        idx.resize(whole + ROW_LEN, 0);
        idx[len.min(whole)..].fill(0);
        fs::write(rig.idx(), idx).unwrap();
        rig.reopen(false);
        assert_eq!(rig.volume.report().local, LocalState::Ready, "{len} bytes");
        assert!((1..=4).all(|key| rig.data(key).is_some()), "{len} bytes");
    }
}

/// Bytes that were on the disk before may come with the file's new length.
#[test]
fn a_row_of_garbage_behind_the_others_is_no_lost_record() {
    let (rig, ends) = four_needles();
    drop(rig);
    for offset in [ends[4] - 8, ends[4] + 8, 1 << 30] {
        let (mut rig, _) = four_needles();
        let mut idx = fs::read(rig.idx()).unwrap();
        idx.extend(9_u64.to_be_bytes());
        idx.extend(u32::try_from(offset / 8).unwrap().to_be_bytes());
        idx.extend(17_u32.to_be_bytes());
        fs::write(rig.idx(), idx).unwrap();
        cut(&rig.dat(), ends[4]);
        rig.reopen(false);
        assert_eq!(rig.volume.report().local, LocalState::Ready, "row at {offset}");
        assert_eq!(rig.data(9), None);
    }
}

struct AtOnce;

impl Pace for AtOnce {
    fn after(&mut self, _bytes: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// All records are equally long, so that rows of the old file point at ends in the new one.
#[test]
fn rows_of_the_file_before_a_compaction_are_no_lost_records() {
    let disk = SimulatedDisk::new(1);
    let mut rig = Rig::on(&disk);
    for round in 0..4 {
        for key in 1..=4 {
            rig.put((key + u64::from(round)) % 4 + 1, &[round; 20]).unwrap();
        }
    }
    let old = disk.contents(&rig.idx()).unwrap();
    rig.opener.shared.stamps.clock().advance(Duration::from_secs(1));
    rig.volume.compact(&mut AtOnce).unwrap();
    disk.put(&rig.idx(), old);
    rig.reopen(false);
    assert_eq!(rig.volume.report().local, LocalState::Ready);
    assert!((1..=4).all(|key| rig.data(key) == Some(vec![3; 20])));
    assert!(rig.volume.check().unwrap().is_empty());
}
