//! Volumes of the formats 1 and 2, made by hand: read, checked and exported, never written to.

use std::{fs, path::Path, sync::Arc};

use dulse_shared::{clock::Clock, id::ClusterId, wire::LocalState};
use dulse_volume::{
    disk::DataDir,
    engine::{
        open::Discovered,
        volume::Volume,
        write::{Write, WriteError},
    },
    format::Version,
    offline::{
        check::{DirReport, Repairs, check_dir},
        export::{ExportOptions, export_dir},
    },
    reader::ReadError,
};

use crate::harness::{
    COOKIE, key, name, needle, open_dir, opener_at, read_of, real_disk, volume_config,
};

/// A needle's data, and whether its checksum is in the old form.
const NEEDLES: [(u64, &[u8], bool); 3] = [
    (1, b"the first", false),
    (2, b"deleted later", false),
    (0x0102_0304_0506, b"an old sum", true),
];

/// A record: header, body, checksum, padding to a multiple of 8, never none.
fn record(key: u64, body: &[u8], checksum: u32) -> Vec<u8> {
    let mut record = COOKIE.0.to_be_bytes().to_vec();
    record.extend(key.to_be_bytes());
    record.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    record.extend(body);
    record.extend(checksum.to_be_bytes());
    let padding = 8 - record.len() % 8;
    record.extend(vec![0xaa; padding]);
    record
}

fn body(version: Version, data: &[u8]) -> Vec<u8> {
    match version {
        Version::V1 => data.to_vec(),
        Version::V2 | Version::V3 => {
            let mut body = u32::try_from(data.len()).unwrap().to_be_bytes().to_vec();
            body.extend(data);
            // Flags: a name and a time of modification.
            body.extend(b"\x0a\x05a.txt\x00\x00\x00\x00\x01");
            body
        }
    }
}

/// `.dat` and `.idx` of three needles, the second of which was deleted, and no `.vif`: these formats
/// are older than it.
fn files(version: Version) -> (Vec<u8>, Vec<u8>) {
    let mut dat = vec![version.as_byte(), 0, 0, 0, 0, 0, 0, 0];
    let mut idx = Vec::new();
    let mut row = |key: u64, offset: usize, size: u32| {
        idx.extend(key.to_be_bytes());
        idx.extend(u32::try_from(offset / 8).unwrap().to_be_bytes());
        idx.extend(size.to_be_bytes());
    };
    for (key, data, has_old_sum) in NEEDLES {
        let crc = crc32c::crc32c(data);
        let sum = if has_old_sum { crc.rotate_right(15).wrapping_add(0xa282_ead8) } else { crc };
        let body = body(version, data);
        row(key, dat.len(), u32::try_from(body.len()).unwrap());
        dat.extend(record(key, &body, sum));
    }
    row(2, dat.len(), u32::MAX);
    dat.extend(record(2, b"", 0));
    (dat, idx)
}

fn write_files(dir: &Path, version: Version) {
    let (dat, idx) = files(version);
    fs::write(name().dat(dir), dat).unwrap();
    fs::write(name().idx(dir), idx).unwrap();
}

/// Opens the volume. As long as it is nobody's, only its index speaks of its needles.
fn take_in(dir: &Arc<DataDir>, indexed: u64) -> Arc<Volume> {
    let opener = opener_at(Clock::System);
    match opener.discover(dir, &name()).unwrap() {
        Discovered::Own(volume) => volume,
        Discovered::Foreign(foreign) => {
            assert_eq!(foreign.live_needles, indexed);
            opener.admit(dir, ClusterId::from(1), volume_config(dir)).unwrap()
        }
    }
}

fn check(dir: &Path) -> DirReport {
    check_dir(&real_disk(), dir, Repairs::None, &Clock::System, &mut |_| {}).unwrap()
}

#[test]
fn volumes_of_both_old_formats_are_read_with_and_without_their_index() {
    for version in [Version::V1, Version::V2] {
        for has_index in [true, false] {
            let temp = tempfile::tempdir().unwrap();
            write_files(temp.path(), version);
            if !has_index {
                fs::remove_file(name().idx(temp.path())).unwrap();
            }
            let before = fs::read(name().dat(temp.path())).unwrap();
            let dir = open_dir(&real_disk(), temp.path());
            dir.join(ClusterId::from(1)).unwrap();
            // Twice: taken in, and opened again.
            for _ in 0..2 {
                let volume = take_in(&dir, if has_index { 2 } else { 0 });
                assert_eq!(volume.version(), version);
                assert_eq!(read_of(&volume, 1).unwrap().data, NEEDLES[0].1);
                assert!(matches!(read_of(&volume, 2), Err(ReadError::NotFound)));
                assert_eq!(read_of(&volume, NEEDLES[2].0).unwrap().data, NEEDLES[2].1);
                assert_eq!(volume.report().local, LocalState::OldFormat);
                assert!(volume.check().unwrap().is_empty());
                let writes = vec![
                    Write::Put(needle(9, b"new")),
                    Write::Delete { key: key(1), cookie: COOKIE },
                ];
                for answer in volume.commit(writes) {
                    assert!(matches!(answer, Err(WriteError::Refused(_))), "{answer:?}");
                }
            }
            assert_eq!(fs::read(name().dat(temp.path())).unwrap(), before);
            let idx = fs::read(name().idx(temp.path())).unwrap();
            assert_eq!(idx, files(version).1);
        }
    }
}

#[test]
fn old_formats_are_checked_and_any_flipped_bit_of_their_data_is_found() {
    for version in [Version::V1, Version::V2] {
        let temp = tempfile::tempdir().unwrap();
        write_files(temp.path(), version);
        let report = check(temp.path());
        assert!(report.is_sound(), "{report:?}");
        assert_eq!((report.volumes[0].records, report.volumes[0].live_needles), (4, 2));
        let (dat, _) = files(version);
        let data_at = 8 + 16 + if version == Version::V1 { 0 } else { 4 };
        for bit in data_at * 8..(data_at + NEEDLES[0].1.len()) * 8 {
            let mut flipped = dat.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(name().dat(temp.path()), flipped).unwrap();
            assert!(!check(temp.path()).is_sound(), "{version:?}, bit {bit}");
        }
    }
}

#[test]
fn old_formats_are_exported() {
    for (version, names) in [
        (Version::V1, ["01c00c1e00", "010203040506c00c1e00"]),
        (Version::V2, ["a.txt", "a-010203040506c00c1e00.txt"]),
    ] {
        let (temp, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write_files(temp.path(), version);
        let options = ExportOptions::default();
        let report = export_dir(
            &real_disk(),
            temp.path(),
            out.path(),
            &options,
            &Clock::System,
            &mut |_| {},
        );
        let report = report.unwrap();
        assert_eq!((report.files, report.problems.len()), (2, 0));
        for (name, data) in names.into_iter().zip([NEEDLES[0].1, NEEDLES[2].1]) {
            assert_eq!(fs::read(out.path().join("7").join(name)).unwrap(), data, "{version:?}");
        }
    }
}
