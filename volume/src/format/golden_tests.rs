//! The codec against volumes that other programs wrote, and the worked example of the format's
//! description against the codec.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use dulse_shared::id::{Cookie, NeedleKey, Ts};

use super::{needle::encode_without_body, *};

/// All files with this extension below the golden directory.
fn golden(extension: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let mut found = Vec::new();
    for variant in ["offset4/a", "offset4/b", "offset5/a", "offset5/b"] {
        let entries = fs::read_dir(root.join(variant)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|e| e == extension)));
    }
    assert!(found.len() > 40, "{} .{extension} files", found.len());
    found
}

fn width(path: &Path) -> OffsetWidth {
    if path.to_str().unwrap().contains("offset5") { OffsetWidth::Five } else { OffsetWidth::Four }
}

/// Superblock and records of a volume file, each record with its offset.
fn records(path: &Path) -> (Superblock, Vec<(Offset, Bytes)>) {
    let file = Bytes::from(fs::read(path).unwrap());
    let superblock = Superblock::parse(file.first_chunk().unwrap()).unwrap();
    assert_eq!(superblock.encode(), file[..SUPERBLOCK_LEN]);
    let mut at = superblock.first_needle_offset().as_bytes() as usize;
    let mut records = Vec::new();
    while at < file.len() {
        let head = Head::parse(file[at..].first_chunk().unwrap(), superblock.version).unwrap();
        let end = at + head.record_len() as usize;
        let offset = Offset::from_bytes(at as u64).unwrap();
        records.push((offset, file.slice(at..end)));
        at = end;
    }
    assert_eq!(at, file.len(), "{}", path.display());
    (superblock, records)
}

#[test]
fn every_record_decodes_and_is_encoded_the_same_but_for_padding() {
    let mut with_body = 0;
    let mut without_body = 0;
    for path in golden("dat") {
        let (superblock, records) = records(&path);
        for (offset, record) in records {
            let needle = Needle::decode(record.clone(), superblock.version, false)
                .unwrap_or_else(|error| panic!("{} at {offset}: {error}", path.display()));
            let again = if needle.size == 0 {
                without_body += 1;
                let stored = u32::from_be_bytes(*record[16..].first_chunk().unwrap());
                encode_without_body(needle.key, needle.cookie, stored, needle.ts).to_vec()
            } else {
                with_body += 1;
                encode_again(&needle)
            };
            assert_eq!(again.len(), record.len());
            let unpadded = 16 + needle.size as usize + 12;
            let is_same = again[..unpadded] == record[..unpadded];
            assert!(is_same, "{} at {offset}", path.display());
        }
    }
    assert!(with_body > 150 && without_body > 50, "{with_body} {without_body}");
}

fn encode_again(needle: &Needle) -> Vec<u8> {
    let record = NewNeedle {
        key: needle.key,
        cookie: needle.cookie,
        data: needle.data.clone(),
        checksum: needle.checksum,
        meta: needle.meta.clone(),
    };
    let record = record.encode(needle.ts).unwrap();
    [&record.head[..], &record.data, &record.tail].concat()
}

#[test]
fn the_two_ends_of_a_record_say_what_the_whole_says() {
    for path in golden("dat") {
        let (superblock, records) = records(&path);
        for (_, record) in records {
            let head = Head::parse(record.first_chunk().unwrap(), superblock.version).unwrap();
            let tail_start = head.tail_start() as usize;
            let tail = head.parse_tail(record.slice(tail_start..), false).unwrap();
            let needle = Needle::decode(record.clone(), superblock.version, false).unwrap();
            let data = &record[head.data_start() as usize..tail_start];
            assert_eq!((data, &tail.meta), (&needle.data[..], &needle.meta));
            assert_eq!(tail.ts, needle.ts);
            assert!(tail.checksum_matches(crc32c::crc32c(data)));
            assert_eq!(head.tail_len() as usize, record.len() - tail_start);
        }
    }
}

#[test]
fn every_index_row_points_at_its_record_and_is_encoded_the_same() {
    for path in golden("idx") {
        let (_, records) = records(&path.with_extension("dat"));
        let width = width(&path);
        let rows = fs::read(&path).unwrap();
        assert_eq!(rows.len() / width.row_len(), records.len());
        let mut again = Vec::new();
        for (row, (offset, record)) in rows.chunks(width.row_len()).zip(records) {
            let row = IndexRow::parse(row, width).unwrap();
            row.write_to(&mut again, width);
            let header = NeedleHeader::parse(record.first_chunk().unwrap()).unwrap();
            assert_eq!((row.offset, row.key), (offset, header.key));
            match row.size {
                RowSize::Live(size) => assert_eq!(size, header.size),
                RowSize::Tombstone => assert_eq!(header.size, 0),
            }
        }
        assert_eq!(again, rows, "{}", path.display());
    }
}

#[test]
fn every_volume_information_is_written_the_same() {
    for path in golden("vif") {
        let text = fs::read_to_string(&path).unwrap();
        let vif = Vif::parse(text.as_bytes()).unwrap();
        assert_eq!(vif.offset_width, Some(width(&path)));
        assert_eq!(vif.encode(), text, "{}", path.display());
    }
}

/// The hex digits of the description's example, and where each line starts.
fn example() -> Vec<u8> {
    let text = include_str!("../../FORMAT.md");
    let block = text.split("```text example\n").nth(1).unwrap();
    let block = block.split("```").next().unwrap();
    let mut bytes = Vec::new();
    for line in block.lines() {
        let (hex, _) = line.split_once('|').unwrap();
        bytes.extend(hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    bytes
}

#[test]
fn the_worked_example_is_what_the_codec_writes() {
    let key = NeedleKey::new(1).unwrap();
    let cookie = Cookie(0xf83e_45ff);
    let needle = NewNeedle {
        key,
        cookie,
        data: Bytes::from_static(b"hello"),
        checksum: crc32c::crc32c(b"hello"),
        meta: NeedleMeta {
            name: Some(Bytes::from_static(b"a.txt")),
            mime: Some(Bytes::from_static(b"text/plain")),
            last_modified_secs: Some(1_795_305_600),
            ..NeedleMeta::default()
        },
    };
    let superblock = Superblock {
        version: CURRENT_VERSION,
        placement: "000".parse().unwrap(),
        ttl: "".parse().unwrap(),
        compaction_revision: 0,
        extra_len: 0,
    };
    let record = needle.encode(Ts(0x18ea_3400_0000_0000)).unwrap();
    let tombstone = encode_tombstone(key, cookie, Ts(0x18ea_3400_0000_0100));
    let mut rows = Vec::new();
    for (units, size) in [(1, RowSize::Live(needle.body_size().unwrap())), (9, RowSize::Tombstone)]
    {
        let offset = Offset::from_units(units);
        IndexRow { key, offset, size }.write_to(&mut rows, OffsetWidth::Four);
    }
    let written =
        [&superblock.encode()[..], &record.head, &record.data, &record.tail, &tombstone, &rows];
    let written = written.concat();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x} ")).collect::<String>();
    assert_eq!(hex(&example()), hex(&written));
}
