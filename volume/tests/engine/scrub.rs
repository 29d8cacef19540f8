//! Scrubs: what the disk has is read although the page cache has better, a sound volume has no
//! findings whatever is written to it meanwhile, and a bad needle is told from bad garbage.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use dulse_shared::{
    id::Cookie,
    wire::{LocalState, ScrubFinding},
};
use dulse_volume::{
    disk::simulated::{EIO, Fault, Operation, SimulatedDisk},
    engine::{
        scrub::{ScrubEnd, ScrubFindings},
        write::{Write, WriteError},
    },
    reader::ReadError,
};
use proptest::prelude::*;

use crate::{
    complaints::Complaints,
    harness::{COOKIE, Rig, key, needle, read_of},
    troubled_disk::TroubledDisk,
};

fn scrub(rig: &Rig) -> ScrubFindings {
    match rig.volume.scrub(&|_| true) {
        ScrubEnd::Complete(findings) => findings,
        end => panic!("{end:?}"),
    }
}

/// The keys that are named, 0 for garbage.
fn keys(findings: &ScrubFindings) -> Vec<u64> {
    let key = |finding: &ScrubFinding| finding.key.map_or(0, |key| key.as_u64());
    findings.as_slice().iter().map(key).collect()
}

fn three_needles() -> (SimulatedDisk, Rig) {
    let disk = SimulatedDisk::new(1);
    let rig = Rig::on(&disk);
    for key in 1..=3 {
        rig.put(key, format!("data of needle {key}").as_bytes()).unwrap();
    }
    (disk, rig)
}

fn end(rig: &Rig) -> usize {
    usize::try_from(rig.volume.report().size_bytes).unwrap()
}

#[test]
fn every_flipped_bit_is_found_beneath_a_cache_that_has_good_bytes() {
    let (disk, rig) = three_needles();
    let record_bits = (end(&rig) - 8) / 3 * 8;
    assert!(scrub(&rig).is_empty());
    for bit in 64..end(&rig) * 8 {
        let bad = 1 + (bit - 64) as u64 / record_bits as u64;
        disk.flip_beneath_cache(&rig.dat(), bit);
        assert_eq!(rig.data(bad).unwrap(), format!("data of needle {bad}").as_bytes());
        assert_eq!(keys(&scrub(&rig)), [bad], "bit {bit}");
        assert_eq!(rig.volume.report().local, LocalState::Corrupt, "bit {bit}");
        // Good again in the cache alone: it is known that the disk has other bytes.
        disk.flip(&rig.dat(), bit);
        disk.flip_beneath_cache(&rig.dat(), bit);
        for key in 1..=3 {
            match rig.read(key) {
                Ok(_) => assert_ne!(key, bad, "bit {bit}"),
                Err(ReadError::Corrupt { .. }) => assert_eq!(key, bad, "bit {bit}"),
                Err(error) => panic!("bit {bit}: {error}"),
            }
        }
        disk.flip_beneath_cache(&rig.dat(), bit);
        assert!(scrub(&rig).is_empty(), "bit {bit}");
        assert_eq!(rig.volume.report().local, LocalState::Ready, "bit {bit}");
        assert!(rig.read(bad).is_ok(), "bit {bit}");
    }
}

#[test]
fn a_needle_is_named_by_its_fid_unless_its_header_is_what_is_bad() {
    let (disk, rig) = three_needles();
    let record = (end(&rig) - 8) / 3;
    let fid = |byte: usize| {
        disk.flip_beneath_cache(&rig.dat(), byte * 8);
        let finding = scrub(&rig).as_slice()[0].clone();
        disk.flip_beneath_cache(&rig.dat(), byte * 8);
        assert_eq!(finding.offset, 8 + record as u64);
        finding.fid
    };
    // Header: cookie, key, size; then the data's length, then the data.
    assert_eq!(fid(8 + record + 22), Some(format!("7,02{COOKIE}")));
    assert_eq!(fid(8 + record + 6), None);
}

/// A write that went to the wrong place leaves a record there that verifies.
#[test]
fn a_whole_record_of_another_needle_in_the_place_of_one_is_a_bad_needle() {
    let (disk, rig) = three_needles();
    let record = (end(&rig) - 8) / 3;
    let dat = disk.contents(&rig.dat()).unwrap();
    let (first, second) = (8..8 + record, 8 + record..8 + 2 * record);
    for bit in second.start * 8..second.end * 8 {
        let is_set = |byte: usize| dat[byte] >> (bit % 8) & 1;
        if is_set(bit / 8) != is_set(bit / 8 - second.start + first.start) {
            disk.flip_beneath_cache(&rig.dat(), bit);
        }
    }
    assert_eq!(keys(&scrub(&rig)), [2]);
    assert_eq!(rig.volume.report().local, LocalState::Corrupt);
    assert!(matches!(rig.read(2), Err(ReadError::Corrupt { .. })));
    assert!(rig.read(1).is_ok() && rig.read(3).is_ok());
}

#[test]
fn bad_garbage_is_told_and_concerns_no_needle() {
    let (disk, rig) = three_needles();
    rig.put(2, b"written over").unwrap();
    let record = (end(&rig) - 8) / 4;
    for bit in (8 + record) * 8..(8 + 2 * record) * 8 {
        disk.flip_beneath_cache(&rig.dat(), bit);
        let findings = scrub(&rig);
        assert_eq!(keys(&findings), [0], "bit {bit}");
        assert_eq!(findings.as_slice()[0].offset, 8 + record as u64);
        assert_eq!(rig.volume.report().local, LocalState::Ready);
        assert_eq!(rig.data(2).unwrap(), b"written over");
        disk.flip_beneath_cache(&rig.dat(), bit);
    }
}

#[test]
fn a_bad_needle_is_mended_by_an_overwrite_or_a_delete() {
    let (disk, rig) = three_needles();
    let record = (end(&rig) - 8) / 3;
    for byte in [22, record + 22] {
        disk.flip_beneath_cache(&rig.dat(), (8 + byte) * 8);
    }
    assert_eq!(keys(&scrub(&rig)), [1, 2]);
    rig.put(1, b"restored").unwrap();
    assert_eq!(rig.volume.report().local, LocalState::Corrupt);
    rig.delete(2).unwrap();
    assert_eq!(rig.volume.report().local, LocalState::Ready);
    assert_eq!(rig.data(1).unwrap(), b"restored");
    assert_eq!(keys(&scrub(&rig)), [0, 0]);
}

#[test]
fn a_needle_with_any_flipped_bit_can_be_put_back_or_given_up() {
    for bit in 0..8 * ((end(&three_needles().1) - 8) / 3) {
        let (disk, rig) = three_needles();
        disk.flip(&rig.dat(), 64 + bit);
        if bit % 2 == 0 {
            rig.put(1, b"put back").unwrap_or_else(|error| panic!("bit {bit}: {error}"));
            assert_eq!(rig.data(1).unwrap(), b"put back");
        } else {
            rig.delete(1).unwrap_or_else(|error| panic!("bit {bit}: {error}"));
            assert_eq!(rig.data(1), None);
        }
        assert!(rig.read(2).is_ok() && rig.read(3).is_ok());
    }
}

/// What is left of a damaged record still guards its needle.
#[test]
fn a_damaged_needle_keeps_strangers_out() {
    let (disk, rig) = three_needles();
    let record = (end(&rig) - 8) / 3;
    let stranger = Write::Delete { key: key(1), cookie: Cookie(1) };
    // All but the data and its sum, which are not looked at.
    for bit in (0..8 * 20).chain(8 * (record - 12)..8 * record) {
        disk.flip(&rig.dat(), 64 + bit);
        let answer = rig.commit(vec![stranger.clone()]).remove(0);
        assert!(matches!(answer, Err(WriteError::CookieMismatch)), "bit {bit}: {answer:?}");
        disk.flip(&rig.dat(), 64 + bit);
    }
}

#[test]
fn a_needle_that_the_disk_does_not_give_is_written_over_once_a_scrub_said_so() {
    let (disk, rig) = three_needles();
    let fails = || disk.plan(Operation::Read, Some("dat"), 0, Fault::Fails(EIO));
    fails();
    assert!(matches!(rig.put(1, b"again"), Err(WriteError::Unreadable(_))));
    (0..6).for_each(|_| fails());
    assert_eq!(keys(&scrub(&rig)), [1]);
    disk.forgive();
    fails();
    rig.put(1, b"again").unwrap();
    assert_eq!(rig.data(1).unwrap(), b"again");
    assert_eq!(rig.volume.report().local, LocalState::Ready);
}

#[test]
fn a_sector_that_the_disk_does_not_give_is_a_finding_and_not_the_end() {
    let (disk, rig) = three_needles();
    // Everything that is tried with the first needle, and with the second.
    for _ in 0..12 {
        disk.plan(Operation::Read, Some("dat"), 0, Fault::Fails(EIO));
    }
    let findings = scrub(&rig);
    assert!(disk.forgive());
    assert_eq!(keys(&findings), [1, 2], "and the third is good");
    assert!(findings.as_slice()[0].reason.contains("the disk does not give"), "{findings:?}");
    assert_eq!(rig.volume.report().local, LocalState::Corrupt);
    for key in 1..=3 {
        assert!(rig.read(key).is_ok(), "the disk gives it now, and it verifies");
    }
    assert!(scrub(&rig).is_empty());
    assert_eq!(rig.volume.report().local, LocalState::Ready);
}

/// A volume with so many needles of the same length.
fn many_needles(count: u64, len: usize) -> (TroubledDisk, Rig) {
    let disk = TroubledDisk::new();
    let rig = Rig::over(Arc::new(disk.clone()));
    for key in 1..=count {
        rig.put(key, &vec![7; len]).unwrap();
    }
    (disk, rig)
}

#[test]
fn a_disk_that_gives_nothing_any_more_is_not_asked_for_every_record() {
    let (disk, rig) = many_needles(400, 40 << 10);
    let record = (end(&rig) as u64 - 8) / 400;
    *disk.silent.lock().unwrap() = 0..u64::MAX;
    let findings = scrub(&rig);
    let first = &findings.as_slice()[0];
    assert!(first.key.is_none() && first.reason.contains("the scrub ended here"), "{findings:?}");
    let bad = keys(&findings)[1..].to_vec();
    assert_eq!(bad, (1..=bad.len() as u64).collect::<Vec<_>>(), "those that were tried");
    assert!((30..=100).contains(&bad.len()), "{}", bad.len());
    assert_eq!(first.offset, 8 + bad.len() as u64 * record, "where it ended");
    assert_eq!(rig.volume.scrubbed().summary().completed, 1, "else it would begin again at once");
    assert_eq!(rig.volume.report().local, LocalState::Corrupt);
    *disk.silent.lock().unwrap() = 0..0;
    assert!(scrub(&rig).is_empty());
}

#[test]
fn a_bad_end_of_a_file_is_no_dead_disk() {
    let (disk, rig) = many_needles(400, 40 << 10);
    let record = (end(&rig) as u64 - 8) / 400;
    *disk.silent.lock().unwrap() = 8 + 100 * record..u64::MAX;
    assert_eq!(keys(&scrub(&rig)), (101..=400).collect::<Vec<_>>());
}

#[test]
fn a_bad_stretch_is_no_dead_disk() {
    let (disk, rig) = many_needles(400, 100);
    let bad = 8..end(&rig) as u64;
    rig.put(401, &vec![7; 5 << 20]).unwrap();
    *disk.silent.lock().unwrap() = bad;
    let findings = scrub(&rig);
    assert_eq!(keys(&findings), (1..=400).collect::<Vec<_>>());
}

#[test]
fn hundreds_of_bad_needles_are_few_lines_in_the_log() {
    for (bad, lines) in [(3, 3), (20, 20), (21, 21), (400, 21)] {
        let (disk, rig) = many_needles(bad, 100);
        let silent = 8..end(&rig) as u64;
        rig.put(401, &vec![7; 5 << 20]).unwrap();
        *disk.silent.lock().unwrap() = silent;
        let complaints = Complaints::default();
        let findings = tracing::subscriber::with_default(complaints.clone(), || scrub(&rig));
        assert_eq!((findings.len(), complaints.count()), (bad, lines));
    }
}

#[test]
fn it_stops_when_told_and_hears_of_every_byte() {
    let disk = SimulatedDisk::new(1);
    let rig = Rig::on(&disk);
    for key in 1..=7 {
        rig.put(key, &[7; 900 << 10]).unwrap();
    }
    let done = AtomicU64::new(0);
    let count = |bytes| done.fetch_add(bytes, Ordering::Relaxed) + bytes;
    let stopped = rig.volume.scrub(&|bytes| count(bytes) <= 4 << 20);
    assert_eq!(stopped, ScrubEnd::Stopped);
    assert_eq!(done.swap(0, Ordering::Relaxed), 6 << 20, "it stopped before the third block");
    assert_eq!(rig.volume.scrubbed().summary().completed, 0);
    rig.volume.scrub(&|bytes| count(bytes) > 0);
    assert_eq!(done.load(Ordering::Relaxed), rig.volume.report().size_bytes);
    assert_eq!(rig.volume.scrubbed().summary().completed, 1);
}

/// What is done to the volume each time the scrub is about to read.
#[derive(Clone, Debug)]
enum Meanwhile {
    Put(u64, usize),
    Delete(u64),
    Checkpoint,
    Rest,
}

fn meanwhile() -> impl Strategy<Value = Meanwhile> {
    prop_oneof![
        6 => (1..24_u64, 0..500_000_usize).prop_map(|(key, len)| Meanwhile::Put(key, len)),
        2 => (1..24_u64).prop_map(Meanwhile::Delete),
        1 => Just(Meanwhile::Checkpoint),
        1 => Just(Meanwhile::Rest),
    ]
}

fn act(rig: &Rig, meanwhile: &Meanwhile) {
    match meanwhile {
        Meanwhile::Put(key, len) => drop(rig.put(*key, &vec![*len as u8; *len])),
        Meanwhile::Delete(key) => drop(rig.delete(*key)),
        Meanwhile::Checkpoint => rig.volume.checkpoint().unwrap(),
        Meanwhile::Rest => rig.volume.rest().unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn writes_meanwhile_never_make_a_finding_and_never_hide_one(
        before in prop::collection::vec((1..24_u64, 0..500_000_usize), 12..24),
        steps in prop::collection::vec(meanwhile(), 0..24),
        flipped in prop::option::of((0.0..1.0_f64, 0..8_usize)),
    ) {
        let disk = SimulatedDisk::new(1);
        let rig = Rig::on(&disk);
        for (key, len) in before {
            act(&rig, &Meanwhile::Put(key, len));
        }
        let end = end(&rig);
        if let Some((at, bit)) = flipped {
            let byte = 8 + ((end - 9) as f64 * at) as usize;
            disk.flip_beneath_cache(&rig.dat(), byte * 8 + bit);
        }
        let steps = Mutex::new(steps.into_iter());
        let scrubbed = rig.volume.scrub(&|_| {
            steps.lock().unwrap().by_ref().take(3).for_each(|step| act(&rig, &step));
            true
        });
        let ScrubEnd::Complete(findings) = scrubbed else { panic!("{scrubbed:?}") };
        let found = findings.len();
        prop_assert_eq!(found, u64::from(flipped.is_some()), "{:?}", findings);
        let bad: Vec<u64> = (1..24)
            .filter(|key| matches!(read_of(&rig.volume, *key), Err(ReadError::Corrupt { .. })))
            .collect();
        // The one that was found, unless it was overwritten or deleted since.
        for key in &bad {
            prop_assert_eq!(&keys(&findings), &[*key]);
        }
        let is_bad = rig.volume.scrubbed().has_bad_needles();
        prop_assert_eq!(is_bad, !bad.is_empty());
    }
}

#[test]
fn threads_that_write_all_the_time_make_no_finding_on_a_real_disk() {
    let rig = Rig::new();
    let scrubs = 30;
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..3_u64 {
            let (volume, is_over) = (&rig.volume, &is_over);
            scope.spawn(move || {
                let mut n = writer;
                while !is_over.load(Ordering::Relaxed) {
                    n += 3;
                    let data = vec![n as u8; (n * 977 % 60_000) as usize];
                    let delete = Write::Delete { key: key(1 + n * 7 % 200), cookie: COOKIE };
                    drop(volume.commit(vec![Write::Put(needle(1 + n % 200, &data)), delete]));
                }
            });
        }
        for _ in 0..scrubs {
            assert_eq!(scrub(&rig), ScrubFindings::default());
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(rig.volume.check().unwrap().is_empty());
}
