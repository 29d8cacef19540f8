//! Records that somebody uploaded within the data of a needle whose own beginning was lost: they are
//! never served, and looking through them takes a bounded time.

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
};

use dulse_shared::wire::LocalState;
use dulse_volume::{
    engine::check::Finding,
    format::{HEAD_LEN, Head, Version},
    reader::ReadError,
};

use crate::{harness::Rig, recovery::forged_record, troubled_disk::TroubledDisk};

/// How many headers are planted, and what each claims at least.
const PLANTED: usize = 2000;
const CLAIMED: usize = 8 << 20;

/// A header of `record_len` bytes that a tail of zeros fits.
pub fn planted_head(key: u64, record_len: usize) -> [u8; HEAD_LEN] {
    let size = u32::try_from(record_len - 29).unwrap();
    let fits = |cookie: u32| {
        let mut head = [0; HEAD_LEN];
        head[..4].copy_from_slice(&cookie.to_be_bytes());
        head[4..12].copy_from_slice(&key.to_be_bytes());
        head[12..16].copy_from_slice(&size.to_be_bytes());
        head[16..].copy_from_slice(&(size - 5).to_be_bytes());
        let tail = Head::parse(&head, Version::V3).unwrap().parse_tail(vec![0; 14].into(), true);
        tail.is_ok().then_some(head)
    };
    (0..1 << 16).find_map(fits).unwrap()
}

/// Data full of headers, each of which claims all that follows, and none of which is a record's: each
/// costs a sum over megabytes. They name needle 2.
pub fn costly_data() -> Vec<u8> {
    let end = PLANTED * 24 + CLAIMED;
    let mut records = vec![0xff; end];
    for at in (0..PLANTED).map(|n| n * 24) {
        records[at..at + HEAD_LEN].copy_from_slice(&planted_head(2, end - at));
    }
    records[end - 14..].fill(0);
    records
}

/// Records begin at multiples of eight, data four bytes behind one.
pub fn as_data(records: &[u8]) -> Vec<u8> {
    [b"four", records].concat()
}

#[test]
fn headers_that_claim_much_are_not_summed_for_ever_and_nothing_is_cut() {
    let costly = costly_data();
    let whole = forged_record();
    for records in [costly.clone(), [whole, costly].concat()] {
        let slow = TroubledDisk::new();
        let mut rig = Rig::over(Arc::new(slow.clone()));
        for key in 1..=3 {
            rig.put(key, format!("data of needle {key}").as_bytes()).unwrap();
        }
        let torn_at = rig.volume.report().size_bytes as usize;
        rig.put(4, &as_data(&records)).unwrap();
        let mut dat = slow.disk.contents(&rig.dat()).unwrap();
        dat[torn_at..torn_at + HEAD_LEN].fill(0);
        slow.disk.put(&rig.dat(), dat.clone());
        slow.disk.put(&rig.idx(), Vec::new());
        let most = 20 * dat.len() as u64 + (64 << 20);
        assert!(((PLANTED * CLAIMED) as u64) > 50 * most, "without a bound it is far more");
        for _ in 0..2 {
            slow.asked.store(0, Ordering::Relaxed);
            rig.reopen(false);
            let asked = slow.asked.load(Ordering::Relaxed);
            assert!(asked < most, "{asked} bytes were read, {most} are the most");
            let report = rig.volume.report();
            assert_eq!(report.local, LocalState::Damaged);
            assert!(report.trouble.unwrap().contains(&format!("offset {torn_at}")));
            assert!(matches!(rig.read(2), Err(ReadError::Corrupt { .. })), "it may be replaced");
            assert_eq!(rig.data(3).unwrap(), b"data of needle 3");
            assert!(rig.put(5, b"more").is_err());
            assert!(slow.disk.contents(&rig.dat()).unwrap() == dat, "nothing is cut");
            assert!(rig.trash().is_empty());
        }
        slow.asked.store(0, Ordering::Relaxed);
        let findings = rig.volume.check().unwrap();
        assert!(slow.asked.load(Ordering::Relaxed) < most);
        let is_given_up = |finding: &&Finding| finding.to_string().contains("looks like records");
        assert_eq!(findings.as_slice().iter().filter(is_given_up).count(), 1, "{findings:?}");
    }
}

/// Six needles that a checkpoint covers, the fourth with these records in its data, two behind it, and
/// where each begins. The index is lost.
fn covered_with(records: &[u8]) -> (Rig, Vec<usize>) {
    let rig = Rig::new();
    let mut starts = Vec::new();
    for key in 1..=8 {
        starts.push(rig.volume.report().size_bytes as usize);
        let data = if key == 4 { as_data(records) } else { format!("data of {key}").into() };
        rig.put(key, &data).unwrap();
        if key == 6 {
            rig.volume.checkpoint().unwrap();
        }
    }
    fs::write(rig.idx(), "").unwrap();
    (rig, starts)
}

fn edit(rig: &Rig, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut dat = fs::read(rig.dat()).unwrap();
    change(&mut dat);
    fs::write(rig.dat(), &dat).unwrap();
    dat
}

/// What reads of the eight answer: whether a needle is there, and none where the answer is an error.
fn answers(rig: &Rig) -> [Option<bool>; 8] {
    [1, 2, 3, 4, 5, 6, 7, 8].map(|key| match rig.read(key) {
        Ok(needle) => {
            let is_right = needle.data == format!("data of {key}") || key == 4;
            assert!(is_right, "needle {key}: {:?}", needle.data);
            Some(true)
        }
        Err(ReadError::NotFound) => Some(false),
        Err(ReadError::Corrupt { .. }) => None,
        Err(error) => panic!("needle {key}: {error}"),
    })
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

#[test]
fn records_within_a_covered_needle_are_not_served_and_those_behind_it_are() {
    let forged = forged_record();
    for records in [forged.repeat(3), vec![1; 40]] {
        let (mut rig, starts) = covered_with(&records);
        let dat = edit(&rig, |dat| dat[starts[3]..starts[3] + HEAD_LEN].fill(0));
        rig.reopen(false);
        assert_eq!(rig.volume.report().local, LocalState::Damaged);
        assert_eq!(answers(&rig), [YES, YES, YES, NO, YES, YES, YES, YES]);
        let found = rig.volume.check().unwrap();
        let is_doubtful = |finding: &Finding| matches!(finding, Finding::Doubtful { .. });
        assert!(!found.as_slice().iter().any(is_doubtful), "{found:?}");
        assert_eq!(fs::read(rig.dat()).unwrap(), dat);
    }
}

/// Its end is the very end of the needle that it lies in, so that records go on behind it.
#[test]
fn a_record_that_ends_with_the_needle_around_it_is_one_too_many() {
    let forged = forged_record();
    let (mut rig, starts) = covered_with(&[1; 400]);
    edit(&rig, |dat| {
        dat[starts[3]..starts[3] + HEAD_LEN].fill(0);
        dat[starts[4] - forged.len()..starts[4]].copy_from_slice(&forged);
    });
    rig.reopen(false);
    assert_eq!(answers(&rig), [YES, YES, YES, NO, YES, YES, YES, YES]);
}

#[test]
fn the_last_covered_needle_may_be_the_one_that_is_lost() {
    let (mut rig, starts) = covered_with(&[1; 40]);
    edit(&rig, |dat| dat[starts[5]..starts[5] + HEAD_LEN].fill(0));
    rig.reopen(false);
    assert_eq!(answers(&rig), [YES, YES, YES, YES, YES, NO, YES, YES]);
}

/// Nobody knows then which of the bytes between were records.
#[test]
fn behind_two_lost_needles_of_a_covered_file_nothing_is_served() {
    let forged = forged_record();
    for others in [4, 2] {
        let (mut rig, starts) = covered_with(&forged.repeat(2));
        let dat = edit(&rig, |dat| {
            for lost in [3, others] {
                dat[starts[lost]..starts[lost] + HEAD_LEN].fill(0);
            }
        });
        rig.reopen(false);
        let answers = answers(&rig);
        assert_eq!(answers[0], None, "a forged record names it");
        assert_eq!(answers[5..], [None; 3]);
        assert!(answers[1] == YES && answers[3] == NO, "{answers:?}");
        assert_eq!(fs::read(rig.dat()).unwrap(), dat, "nothing is cut");
        assert!(rig.trash().is_empty());
        rig.reopen(true);
        assert_eq!(self::answers(&rig), answers);
    }
}
