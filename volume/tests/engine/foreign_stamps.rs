//! Volumes of other programs with a stamp that lies far in the future: it is not passed on, and what
//! is written over its needle stands all the same.

use std::{ops::ControlFlow, time::Duration};

use dulse_shared::id::Ts;
use dulse_volume::{
    disk::simulated::SimulatedDisk,
    engine::{
        compaction::Pace,
        write::{Write, WriteError},
    },
    writer,
};

use crate::harness::{COOKIE, NOW_NS, Rig, key, name};

const HOUR_NS: u64 = 3600 * 1_000_000_000;
/// A bit that flipped, a clock in 2500, a stamp that is no time at all.
const JUNK: [Ts; 3] = [Ts(NOW_NS | 1 << 63), Ts(16_725_225_600_000_000_000), Ts(u64::MAX)];

struct AtOnce;

impl Pace for AtOnce {
    fn after(&mut self, _bytes: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// A volume of three needles that was another program's, the second of them with this stamp.
fn taken_in(disk: &SimulatedDisk, stamp: Ts, has_index: bool) -> Rig {
    let mut rig = Rig::on(disk);
    for key in 1..=3 {
        rig.put(key, b"of another program").unwrap();
    }
    let given = rig.read(2).unwrap().ts.0.to_be_bytes();
    writer::close(&rig.volume);
    let mut dat = disk.contents(&rig.dat()).unwrap();
    let at = dat.windows(8).position(|bytes| bytes == given).unwrap();
    dat[at..at + 8].copy_from_slice(&stamp.0.to_be_bytes());
    disk.put(&rig.dat(), dat);
    disk.erase(&name().sidecar(rig.dir.path()));
    let config = (*rig.volume.config()).clone();
    start(&mut rig, disk, has_index);
    rig.try_start(&config).unwrap();
    assert_eq!(rig.read(2).unwrap().ts, stamp, "it still tells the version");
    rig
}

/// A new process, whose stamps come from its clock and from what it finds.
fn start(rig: &mut Rig, disk: &SimulatedDisk, has_index: bool) {
    if !has_index {
        disk.erase(&rig.idx());
    }
    rig.restart();
}

fn restart(rig: &mut Rig, disk: &SimulatedDisk, has_index: bool) {
    start(rig, disk, has_index);
    rig.reopen(false);
}

/// The stamp of a write to another needle.
fn next_stamp(rig: &Rig) -> Ts {
    rig.put(9, b"another").unwrap();
    rig.read(9).unwrap().ts
}

fn is_of_our_time(stamp: Ts) -> bool {
    (NOW_NS..NOW_NS + 2 * HOUR_NS).contains(&stamp.0)
}

fn for_each(mut test: impl FnMut(&SimulatedDisk, Ts, bool)) {
    for stamp in JUNK {
        for has_index in [true, false] {
            test(&SimulatedDisk::new(1), stamp, has_index);
        }
    }
}

#[test]
fn a_stamp_of_another_program_far_ahead_is_not_passed_on() {
    for_each(|disk, junk, has_index| {
        let mut rig = taken_in(disk, junk, has_index);
        assert!(is_of_our_time(next_stamp(&rig)), "{junk:?} {has_index}");
        let modified_at = rig.volume.report().modified_at_secs;
        assert!(is_of_our_time(Ts(modified_at * 1_000_000_000)), "{junk:?}: {modified_at}");
        for has_index in [true, false] {
            restart(&mut rig, disk, has_index);
            assert!(is_of_our_time(next_stamp(&rig)), "{junk:?} {has_index}");
            rig.volume.compact(&mut AtOnce).unwrap();
            restart(&mut rig, disk, has_index);
            assert!(is_of_our_time(next_stamp(&rig)), "{junk:?} {has_index}, compacted");
            assert_eq!(rig.read(2).unwrap().ts, junk);
        }
    });
}

#[test]
fn what_is_written_over_such_a_needle_stands_also_without_an_index_and_compacted() {
    for_each(|disk, junk, has_index| {
        let mut rig = taken_in(disk, junk, has_index);
        rig.put(2, b"written over").unwrap();
        rig.delete(3).unwrap();
        for compacts in [false, true, true] {
            if compacts {
                rig.volume.compact(&mut AtOnce).unwrap();
            }
            for has_index in [true, false, true] {
                let needle = rig.read(2).unwrap();
                assert_eq!(&needle.data[..], b"written over", "{junk:?}");
                assert!(is_of_our_time(needle.ts), "{junk:?}: {:?}", needle.ts);
                assert_eq!(rig.data(3), None, "{junk:?}");
                let findings = rig.volume.check().unwrap();
                assert!(findings.is_empty(), "{junk:?}: {:?}", findings.as_slice());
                restart(&mut rig, disk, has_index);
            }
            rig.opener.shared.stamps.clock().advance(Duration::from_secs(601));
        }
    });
}

#[test]
fn such_a_needle_expires_by_its_own_stamp_and_what_is_written_over_it_does_not() {
    let expire = |rig: &Rig, written| {
        rig.commit(vec![Write::Expire { key: key(2), cookie: COOKIE, written }]).remove(0)
    };
    for_each(|disk, junk, has_index| {
        let mut rig = taken_in(disk, junk, has_index);
        assert!(matches!(expire(&rig, Ts(NOW_NS)), Err(WriteError::NotFound)), "{junk:?}");
        expire(&rig, junk).unwrap();
        for has_index in [true, false] {
            assert_eq!(rig.data(2), None, "{junk:?}");
            restart(&mut rig, disk, has_index);
        }
        assert!(is_of_our_time(next_stamp(&rig)), "{junk:?}");
        let rig = taken_in(&SimulatedDisk::new(2), junk, has_index);
        rig.put(2, b"written over").unwrap();
        assert!(matches!(expire(&rig, junk), Err(WriteError::NotFound)), "{junk:?}");
        assert_eq!(rig.data(2).unwrap(), b"written over");
    });
}

#[test]
fn a_stamp_within_the_hour_is_risen_above() {
    let soon = Ts(NOW_NS + HOUR_NS / 2);
    for has_index in [true, false] {
        let rig = taken_in(&SimulatedDisk::new(1), soon, has_index);
        rig.put(2, b"written over").unwrap();
        assert!(rig.read(2).unwrap().ts > soon, "with an index: {has_index}");
    }
}
