//! Needles too large to hold: read whole and in ranges, and never with a wrong byte in them.

use std::ops::Range;

use dulse_volume::{
    disk::simulated::SimulatedDisk,
    large_needle::LargeNeedle,
    reader::{Found, ReadError, WHOLE_BODY_BYTES, read_needle},
};
use futures_util::TryStreamExt;
use proptest::prelude::*;

use crate::harness::{COOKIE, RUNTIME, Rig, key};

const LEN: usize = WHOLE_BODY_BYTES as usize + 700_001;

fn data(tag: u64) -> Vec<u8> {
    // No two stretches of eight bytes are alike.
    let words = (0..LEN as u64 / 8 + 1).flat_map(|n| (n ^ tag << 40).to_le_bytes());
    words.take(LEN).collect()
}

fn large(rig: &Rig, key: u64) -> Result<LargeNeedle, ReadError> {
    let read = read_needle(&rig.volume, self::key(key), COOKIE);
    match RUNTIME.with(|runtime| runtime.block_on(read))? {
        Found::Large(needle) => Ok(needle),
        Found::Whole(_) => panic!("it is large"),
    }
}

/// The bytes that arrived, and whether all did.
fn whole(rig: &Rig, key: u64) -> Result<(Vec<u8>, bool), ReadError> {
    let stream = large(rig, key)?.stream();
    let mut received = Vec::new();
    let outcome = RUNTIME.with(|runtime| {
        runtime.block_on(stream.try_for_each(|chunk| {
            received.extend_from_slice(&chunk);
            std::future::ready(Ok(()))
        }))
    });
    Ok((received, outcome.is_ok()))
}

fn range(rig: &Rig, key: u64, range: Range<u64>) -> Result<Vec<u8>, ReadError> {
    let needle = large(rig, key)?;
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let chunks: Vec<_> = needle.stream_range(range).await?.try_collect().await.unwrap();
            Ok(chunks.concat())
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]
    #[test]
    fn a_range_is_that_of_the_newest_version_or_an_error(
        from in 0..LEN as u64,
        len in 1_u64..200_000,
        is_reopened: bool,
        flipped in prop::option::of(any::<usize>()),
    ) {
        let disk = SimulatedDisk::new(from);
        let mut rig = Rig::on(&disk);
        rig.put(1, &data(1)).unwrap();
        let overwritten_to = rig.volume.report().size_bytes as usize;
        rig.put(1, &data(2)).unwrap();
        if is_reopened {
            rig.reopen(false);
        }
        let to = LEN as u64;
        if let Some(bit) = flipped {
            let bits = disk.contents(&rig.dat()).unwrap().len() * 8;
            disk.flip(&rig.dat(), overwritten_to * 8 + bit % (bits - overwritten_to * 8));
            let is_refused = matches!(range(&rig, 1, from..from + len), Err(ReadError::Corrupt { .. }));
            prop_assert!(is_refused);
            if let Ok((received, is_whole)) = whole(&rig, 1) {
                prop_assert!(!is_whole && received.len() < LEN);
            }
        } else {
            let expected = &data(2)[from as usize..(from + len).min(to) as usize];
            prop_assert_eq!(range(&rig, 1, from..from + len).unwrap(), expected);
            prop_assert_eq!(whole(&rig, 1).unwrap(), (data(2), true));
        }
    }
}
