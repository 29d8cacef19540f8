//! Properties of records: what is written is read back, and damage is found.

use bytes::Bytes;
use dulse_shared::id::{Cookie, NeedleKey, Ts, Ttl};
use proptest::prelude::*;

use super::*;

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..=max).prop_map(Bytes::from)
}

fn meta() -> impl Strategy<Value = NeedleMeta> {
    let ttl = (1_u8.., 1_u8..=6).prop_map(|(count, unit)| Ttl::from_bytes([count, unit]).unwrap());
    (
        any::<bool>(),
        any::<bool>(),
        prop::option::of(bytes(MAX_NAME_LEN)),
        prop::option::of(bytes(40)),
        prop::option::of(0_u64..1 << 40),
        prop::option::of(ttl),
        bytes(300),
    )
        .prop_map(
            |(is_gzipped, is_chunk_manifest, name, mime, last_modified_secs, ttl, pairs)| {
                NeedleMeta {
                    is_gzipped,
                    is_chunk_manifest,
                    name,
                    mime,
                    last_modified_secs,
                    ttl: ttl.unwrap_or_default(),
                    pairs,
                }
            },
        )
}

fn new_needle() -> impl Strategy<Value = NewNeedle> {
    (1_u64.., any::<u32>(), bytes(600), meta()).prop_map(|(key, cookie, data, meta)| NewNeedle {
        key: NeedleKey::new(key).unwrap(),
        cookie: Cookie(cookie),
        checksum: crc32c::crc32c(&data),
        data,
        meta,
    })
}

fn whole(record: &Record) -> Vec<u8> {
    [&record.head[..], &record.data, &record.tail].concat()
}

proptest! {
    #[test]
    fn a_needle_is_read_back_as_written(needle in new_needle(), ts: u64) {
        let record = needle.encode(Ts(ts)).unwrap();
        let bytes = whole(&record);
        prop_assert_eq!(bytes.len() as u64, record.len());
        prop_assert_eq!(bytes.len() as u64, needle.record_len().unwrap());
        prop_assert!(needle.body_size().unwrap() > 0);
        let read = Needle::decode(bytes.into(), CURRENT_VERSION, true).unwrap();
        prop_assert_eq!(read.size, needle.body_size().unwrap());
        prop_assert_eq!(read.ts, Ts(ts));
        let NewNeedle { key, cookie, data, checksum, meta } = needle;
        prop_assert_eq!((read.key, read.cookie, read.data), (key, cookie, data));
        prop_assert_eq!((read.checksum, read.meta), (checksum, meta));
    }

    #[test]
    fn a_tombstone_is_read_back_as_written(key in 1_u64.., cookie: u32, ts: u64) {
        let key = NeedleKey::new(key).unwrap();
        let record = encode_tombstone(key, Cookie(cookie), Ts(ts));
        let bytes = Bytes::copy_from_slice(&record);
        let read = Needle::decode(bytes, CURRENT_VERSION, true).unwrap();
        prop_assert_eq!((read.key, read.cookie, read.ts), (key, Cookie(cookie), Ts(ts)));
        prop_assert_eq!((read.size, read.data.len()), (0, 0));
    }

    /// Every bit of the record. All are found with certainty but those of the data length, which
    /// move the border between data and metadata: they pass with a chance of 2⁻³² each.
    #[test]
    fn a_flipped_bit_is_found(needle in new_needle(), ts: u64) {
        let record = whole(&needle.encode(Ts(ts)).unwrap());
        for bit in 0..record.len() * 8 {
            let mut damaged = record.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let read = Needle::decode(damaged.into(), CURRENT_VERSION, true);
            prop_assert!(read.is_err(), "bit {} of {}", bit, record.len() * 8);
        }
    }

    #[test]
    fn a_flipped_bit_in_a_tombstone_is_found(key in 1_u64.., cookie: u32, ts: u64) {
        let key = NeedleKey::new(key).unwrap();
        let record = encode_tombstone(key, Cookie(cookie), Ts(ts));
        for bit in 0..record.len() * 8 {
            let mut damaged = record.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let read = Needle::decode(damaged.into(), CURRENT_VERSION, true);
            prop_assert!(read.is_err(), "bit {}", bit);
        }
    }

    #[test]
    fn any_bytes_decode_or_fail_in_every_version(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        version in 1_u8..=3,
        own: bool,
        size in prop::option::of(0_u32..180),
        data_len in prop::option::of(0_u32..180),
    ) {
        // Random lengths hardly ever fit: small ones lead further into the decoder.
        for (at, field) in [(12, size), (16, data_len)] {
            if let (Some(place), Some(value)) = (bytes.get_mut(at..at + 4), field) {
                place.copy_from_slice(&value.to_be_bytes());
            }
        }
        let version = Version::from_byte(version).unwrap();
        if let Some(head) = bytes.first_chunk::<HEAD_LEN>() {
            let fits = Head::parse(head, version).map_or(0, |head| head.record_len());
            bytes.truncate((fits as usize).max(HEAD_LEN));
        }
        let _ = Needle::decode(bytes.into(), version, own);
    }
}

fn small(name_len: usize) -> NewNeedle {
    NewNeedle {
        key: NeedleKey::new(1).unwrap(),
        cookie: Cookie(2),
        data: Bytes::from_static(b"x"),
        checksum: crc32c::crc32c(b"x"),
        meta: NeedleMeta { name: Some(vec![b'n'; name_len].into()), ..NeedleMeta::default() },
    }
}

#[test]
fn padding_of_every_length_is_written_and_verified() {
    let mut lens: Vec<_> = (0..8)
        .map(|name_len| {
            let record = small(name_len).encode(Ts(9)).unwrap();
            let bytes = whole(&record);
            assert_eq!(bytes.len() % 8, 0);
            let read = Needle::decode(bytes.into(), CURRENT_VERSION, true);
            assert!(read.is_ok(), "{read:?}");
            record.tail.len() - (1 + 1 + name_len + 12)
        })
        .collect();
    lens.sort_unstable();
    assert_eq!(lens, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn an_empty_needle_has_a_body() {
    let mut needle = small(0);
    needle.data = Bytes::new();
    needle.checksum = 0;
    needle.meta.name = None;
    assert_eq!(needle.body_size(), Ok(5));
}

#[test]
fn what_the_format_cannot_hold_is_refused() {
    let too_large = |change: fn(&mut NeedleMeta)| {
        let mut needle = small(1);
        change(&mut needle.meta);
        needle.encode(Ts(1)).map(|_| ()).map_err(|error| error.what)
    };
    assert_eq!(too_large(|meta| meta.name = Some(vec![b'x'; 255].into())), Ok(()));
    assert_eq!(too_large(|meta| meta.name = Some(vec![b'x'; 256].into())), Err(LimitKind::Name));
    assert_eq!(too_large(|meta| meta.mime = Some(vec![b'x'; 256].into())), Err(LimitKind::Mime));
    assert_eq!(too_large(|meta| meta.pairs = vec![b'x'; 65_536].into()), Err(LimitKind::Pairs));
    assert_eq!(
        too_large(|meta| meta.last_modified_secs = Some(1 << 40)),
        Err(LimitKind::LastModified)
    );
}

/// A record as older programs left it, of any version.
fn foreign(version: Version, size: u32, body: &[u8], checksum: u32) -> Vec<u8> {
    let header = NeedleHeader { cookie: Cookie(7), key: NeedleKey::new(9).unwrap(), size };
    let mut record = header.encode().to_vec();
    record.extend_from_slice(body);
    record.extend_from_slice(&checksum.to_be_bytes());
    record.resize(record_len(size, version) as usize, 0xee);
    record
}

#[test]
fn versions_1_and_2_and_legacy_checksums_are_read() {
    let crc = crc32c::crc32c(b"old");
    let rotated = crc.rotate_right(15).wrapping_add(0xa282_ead8);
    for checksum in [crc, rotated] {
        let raw = foreign(Version::V1, 3, b"old", checksum);
        let read = Needle::decode(raw.into(), Version::V1, false).unwrap();
        assert_eq!((&read.data[..], read.checksum), (&b"old"[..], crc));
        let body = b"\0\0\0\x03old\x02\x01n";
        let raw = foreign(Version::V2, 10, body, checksum);
        let read = Needle::decode(raw.into(), Version::V2, false).unwrap();
        assert_eq!(read.meta.name.as_deref(), Some(&b"n"[..]));
        assert_eq!((&read.data[..], read.ts), (&b"old"[..], Ts(0)));
    }
    let wrong = foreign(Version::V1, 3, b"old", crc ^ 1);
    let read = Needle::decode(wrong.into(), Version::V1, false);
    assert!(matches!(read, Err(DecodeError::Checksum { .. })));
}

#[test]
fn our_own_records_never_have_legacy_checksums() {
    let needle = small(1);
    let mut needle_with_legacy = needle.clone();
    let crc = needle.checksum;
    needle_with_legacy.checksum = crc.rotate_right(15).wrapping_add(0xa282_ead8);
    let bytes = Bytes::from(whole(&needle_with_legacy.encode(Ts(1)).unwrap()));
    assert!(Needle::decode(bytes.clone(), CURRENT_VERSION, false).is_ok());
    let own = Needle::decode(bytes, CURRENT_VERSION, true);
    assert!(matches!(own, Err(DecodeError::Checksum { .. })));
}
