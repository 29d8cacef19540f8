//! What is found by searching behind a bad record, or is not: no older version of a needle is served for
//! it, no deleted one comes back, and ordinary data that was torn is no damage.

use std::fs;

use dulse_shared::wire::LocalState;
use dulse_volume::{
    disk::simulated::SimulatedDisk,
    engine::write::Write,
    format::{HEAD_LEN, SUPERBLOCK_LEN},
    reader::ReadError,
    writer,
};

use crate::{
    harness::{COOKIE, Rig, key, name, needle},
    planted::{as_data, costly_data},
};

/// Bytes of a row of the index.
const ROW_LEN: usize = 16;
const SECTOR: usize = 512;

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

/// Big-endian numbers about `mean`: each two of them may be the lengths in a header.
fn counts(len: usize, mean: u64, spread: u64) -> Vec<u8> {
    let mut numbers = Numbers(12_345);
    let mut data = Vec::new();
    while data.len() < len {
        data.extend(u32::try_from(mean + numbers.below(spread)).unwrap().to_be_bytes());
    }
    data
}

/// The volume after a power cut that took a sector in the middle of its last needle, and its row.
fn torn(data: &[u8]) -> Rig {
    let mut rig = Rig::new();
    for n in 1..=3 {
        rig.put(n, b"small").unwrap();
    }
    rig.volume.checkpoint().unwrap();
    let at = rig.volume.report().size_bytes as usize;
    rig.put(4, data).unwrap();
    let mut dat = fs::read(rig.dat()).unwrap();
    let middle = at + data.len() / 2;
    dat[middle..middle + SECTOR].fill(0);
    fs::write(rig.dat(), dat).unwrap();
    let idx = fs::read(rig.idx()).unwrap();
    fs::write(rig.idx(), &idx[..3 * ROW_LEN]).unwrap();
    rig.reopen(false);
    rig
}

#[test]
fn numbers_that_look_like_headers_are_cut_off_when_they_were_torn() {
    let long = 5 << 20;
    let long_tails = [4096_u32.to_be_bytes(), (4096_u32 + 66_000).to_be_bytes()].concat();
    for data in [
        counts(long, 3_000_000, 4000),
        counts(long, 2_000_000, 60_000),
        counts(long, 200_000, 60_000),
        as_data(&long_tails.repeat(long / 8)),
        vec![0xff; long],
    ] {
        let rig = torn(&data);
        assert_eq!(rig.volume.report().local, LocalState::Ready, "{:?}", &data[..16]);
        assert_eq!(rig.data(1).unwrap(), b"small");
        assert!(matches!(rig.read(4), Err(ReadError::NotFound)));
        rig.put(4, b"again").unwrap();
    }
}

/// A volume on a simulated disk as if another program had written all that it holds so far.
fn made_elsewhere(rig: &mut Rig, disk: &SimulatedDisk) {
    writer::close(&rig.volume);
    disk.erase(&name().sidecar(rig.dir.path()));
    let config = (*rig.volume.config()).clone();
    rig.restart();
    rig.try_start(&config).unwrap();
}

/// The header of the record at `at` is lost, and so is the index.
fn lose(rig: &mut Rig, disk: &SimulatedDisk, headers: &[usize]) {
    let mut dat = disk.contents(&rig.dat()).unwrap();
    for at in headers {
        dat[*at..at + HEAD_LEN].fill(0);
    }
    disk.put(&rig.dat(), dat);
    disk.put(&rig.idx(), Vec::new());
    rig.restart();
    rig.reopen(false);
}

fn assert_unreadable(rig: &Rig, keys: &[u64]) {
    for key in keys {
        let read = rig.read(*key).map(|needle| needle.data);
        assert!(matches!(read, Err(ReadError::Corrupt { .. })), "needle {key}: {read:?}");
    }
}

#[test]
fn what_lies_before_the_first_record_that_a_search_proves_is_doubtful_too() {
    let disk = SimulatedDisk::new(1);
    let mut rig = Rig::on(&disk);
    rig.put(2, b"old").unwrap();
    rig.put(7, b"to be deleted").unwrap();
    let first = rig.volume.report().size_bytes as usize;
    let batch = vec![
        Write::Put(needle(3, b"lost")),
        Write::Put(needle(2, b"new")),
        Write::Delete { key: key(7), cookie: COOKIE },
    ];
    for answer in rig.commit(batch) {
        answer.unwrap();
    }
    let second = rig.volume.report().size_bytes as usize;
    rig.put(4, b"lost as well").unwrap();
    rig.put(5, b"proves that they were durable").unwrap();
    lose(&mut rig, &disk, &[first, second]);
    assert_unreadable(&rig, &[2, 5, 7]);
}

#[test]
fn a_search_that_is_given_up_in_another_programs_file_brings_nothing_old_back() {
    let disk = SimulatedDisk::new(1);
    let mut rig = Rig::on(&disk);
    rig.put(1, b"stays").unwrap();
    rig.put(2, b"old").unwrap();
    rig.put(3, b"to be deleted").unwrap();
    let at = rig.volume.report().size_bytes as usize;
    rig.put(4, &as_data(&costly_data())).unwrap();
    made_elsewhere(&mut rig, &disk);
    rig.put(2, b"new").unwrap();
    rig.delete(3).unwrap();
    rig.put(5, b"five").unwrap();
    rig.volume.checkpoint().unwrap();
    lose(&mut rig, &disk, &[at]);
    assert!(rig.volume.report().trouble.is_some());
    assert_unreadable(&rig, &[2, 3, 5]);
    assert_eq!(rig.data(1).unwrap(), b"stays");
}

/// Its index has a row for each needle, not for each record, so its rows count nothing.
#[test]
fn the_rows_of_an_index_that_was_made_elsewhere_prove_nothing() {
    let disk = SimulatedDisk::new(1);
    let mut rig = Rig::on(&disk);
    rig.put(1, b"first").unwrap();
    rig.put(1, b"second").unwrap();
    writer::close(&rig.volume);
    let idx = disk.contents(&rig.idx()).unwrap();
    disk.put(&rig.idx(), idx[ROW_LEN..].to_vec());
    made_elsewhere(&mut rig, &disk);
    rig.put(2, b"old").unwrap();
    let at = rig.volume.report().size_bytes as usize;
    rig.put(3, b"lost").unwrap();
    rig.put(2, b"new").unwrap();
    rig.put(4, b"four").unwrap();
    rig.volume.checkpoint().unwrap();
    rig.put(5, b"five").unwrap();
    lose(&mut rig, &disk, &[at]);
    assert_unreadable(&rig, &[2, 4, 5]);
    assert_eq!(rig.data(1).unwrap(), b"second");
}

/// A record of version 1: cookie, key, size, data, checksum, padding.
fn version_1(key: u64, data: &[u8]) -> Vec<u8> {
    let size = u32::try_from(data.len()).unwrap();
    let head = [&COOKIE.0.to_be_bytes()[..], &key.to_be_bytes(), &size.to_be_bytes()].concat();
    let mut record = [&head[..], data, &crc32c::crc32c(data).to_be_bytes()].concat();
    record.resize(record.len() + 8 - record.len() % 8, 0xaa);
    record
}

/// Any bytes may be a header there, so that a search comes to nothing.
#[test]
fn behind_a_lost_header_in_a_file_of_version_1_nothing_old_is_served() {
    let disk = SimulatedDisk::new(1);
    let mut rig = Rig::on(&disk);
    let mut numbers = Numbers(7);
    let mut random = |len: usize| -> Vec<u8> {
        (0..len).map(|_| u8::try_from(numbers.below(256)).unwrap()).collect()
    };
    let mut dat = vec![0; SUPERBLOCK_LEN];
    dat[0] = 1;
    dat.extend([version_1(2, b"old"), version_1(3, b"deleted")].concat());
    let at = dat.len();
    dat.extend(version_1(4, &random(1 << 20)));
    dat.extend([version_1(2, b"new"), version_1(3, b"")].concat());
    for n in 0..15 {
        dat.extend(version_1(100 + n, &random(1 << 20)));
    }
    dat[at + 4..at + 16].fill(0);
    writer::close(&rig.volume);
    disk.put(&rig.dat(), dat);
    disk.erase(&rig.idx());
    made_elsewhere(&mut rig, &disk);
    assert_unreadable(&rig, &[2, 3, 100]);
}
