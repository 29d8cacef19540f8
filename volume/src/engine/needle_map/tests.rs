//! The map against a tree: every answer, every replaced entry, at every width a column can have.

use std::collections::BTreeMap;

use dulse_shared::id::NeedleKey;
use proptest::{collection::vec, prelude::*};

use super::{
    Entry, Loader, NeedleMap,
    bits::{self, Packer},
    block::{BLOCK_LEN, Block},
    directory::LEAF_LEN,
    entry::{Row, TOMBSTONE},
};
use crate::format::{Offset, RowSize};

type Model = BTreeMap<u64, Entry>;
type Put = (u64, Entry);

fn key(key: u64) -> NeedleKey {
    NeedleKey::new(key).unwrap()
}

fn entry(units: u64, size: RowSize) -> Entry {
    Entry { offset: Offset::from_units(units), size }
}

/// Numbers that follow each other like random ones.
fn scattered(seed: u64) -> u64 {
    let mixed = (seed ^ seed >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

fn keys() -> impl Strategy<Value = u64> {
    let around_powers = (0_u32..64, 0_u64..3).prop_map(|(bit, by)| (1_u64 << bit) - 1 + by);
    prop_oneof![
        4 => 1_u64..2000,
        1 => around_powers.prop_map(|key| key.max(1)),
        1 => 1_u64..,
        1 => u64::MAX - 700..=u64::MAX,
    ]
}

/// Mostly one after the other; up to what leaves no room for a third key.
fn gaps() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(1_u64), 2 => 2_u64..1000, 1 => (0_u32..64).prop_map(|bit| 1_u64 << bit)]
}

fn units() -> impl Strategy<Value = u64> {
    let (edge, top) = (1_u64 << 32, (1_u64 << 40) - 1);
    prop_oneof![Just(0), Just(edge - 1), Just(edge), Just(top), 0..=top, 1_u64..5000]
}

fn sizes() -> impl Strategy<Value = RowSize> {
    prop_oneof![
        1 => Just(RowSize::Tombstone),
        1 => Just(RowSize::Live(0)),
        1 => Just(RowSize::Live(u32::MAX - 1)),
        1 => (0..u32::MAX).prop_map(RowSize::Live),
        4 => (900_u32..1100).prop_map(RowSize::Live),
    ]
}

/// Keys that rise by one gap, as far as keys go, each with its entry.
fn runs() -> impl Strategy<Value = Vec<Put>> {
    let len = prop_oneof![3 => 1_usize..8, 1 => 1_usize..900];
    (keys(), gaps(), len, units(), vec(sizes(), 1..6)).prop_map(
        |(first, gap, len, units, sizes)| {
            let keys = std::iter::successors(Some(first), |key| key.checked_add(gap)).take(len);
            let entries = (0_u64..).map(|n| (units + n * 7) & 0xff_ffff_ffff);
            let sizes = sizes.into_iter().cycle();
            keys.zip(entries.zip(sizes).map(|(units, size)| entry(units, size))).collect()
        },
    )
}

fn puts() -> impl Strategy<Value = Vec<Put>> {
    vec(runs(), 0..25).prop_map(|runs| runs.concat())
}

/// The map that inserts make of `puts`, each answer compared with a tree's.
fn inserted(puts: &[Put]) -> (NeedleMap, Model) {
    let (mut map, mut model) = (NeedleMap::default(), Model::new());
    for (k, entry) in puts {
        assert_eq!(map.insert(key(*k), *entry), model.insert(*k, *entry), "key {k}");
    }
    (map, model)
}

fn assert_same(map: &NeedleMap, model: &Model) {
    assert_eq!(map.check(), Ok(()));
    assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
    assert_eq!(map.max_key(), model.keys().last().copied().unwrap_or(0));
    let all: Vec<_> = map.iter().map(|(k, entry)| (k.as_u64(), entry)).collect();
    assert_eq!(all, model.iter().map(|(k, entry)| (*k, *entry)).collect::<Vec<_>>());
    for k in model.keys().flat_map(|k| [k.saturating_sub(1).max(1), *k, k.saturating_add(1)]) {
        assert_eq!(map.lookup(key(k)), model.get(&k).copied(), "key {k}");
    }
}

/// What the loader tells, and what a tree's answers are, in an order of its own.
type Moves = Vec<(Option<Entry>, Entry)>;

fn sorted(mut moves: Moves) -> Moves {
    let number = |entry: &Entry| (entry.offset, format!("{:?}", entry.size));
    moves.sort_by_key(|(before, after)| (before.as_ref().map(number), number(after)));
    moves
}

fn assert_loads_as_inserted(puts: &[Put]) {
    let (mut loader, mut told) = (Loader::default(), Moves::new());
    let (mut model, mut expected) = (Model::new(), Moves::new());
    for (k, entry) in puts {
        loader.enter(key(*k), *entry, |before, after| told.push((before, after)));
        expected.push((model.insert(*k, *entry), *entry));
    }
    let map = loader.finish(|before, after| told.push((before, after)));
    assert_same(&map, &model);
    assert_eq!(sorted(told), sorted(expected));
}

proptest! {
    #[test]
    fn a_map_answers_as_a_tree_does(puts in puts()) {
        let (map, model) = inserted(&puts);
        assert_same(&map, &model);
    }

    #[test]
    fn a_map_of_few_keys_written_again_and_again_answers_as_a_tree_does(
        puts in vec((1_u64..1500, units(), sizes()), 0..4000)
    ) {
        let puts: Vec<Put> =
            puts.into_iter().map(|(key, units, size)| (key, entry(units, size))).collect();
        let (map, model) = inserted(&puts);
        assert_same(&map, &model);
    }

    #[test]
    fn a_loaded_map_is_the_one_that_inserts_make(puts in puts()) {
        assert_loads_as_inserted(&puts);
    }

    #[test]
    fn a_block_gives_back_the_rows_that_were_packed(
        rows in vec((keys(), units(), sizes()), 1..=BLOCK_LEN),
        gap_to_next in proptest::option::of(gaps()),
    ) {
        let rows: BTreeMap<u64, Row> = rows
            .into_iter()
            .map(|(k, units, size)| (k, Row::new(key(k), entry(units, size))))
            .collect();
        let rows: Vec<Row> = rows.into_values().collect();
        let (block, first_key) = (Block::pack(&rows), rows[0].key);
        prop_assert_eq!(block.rows(first_key).collect::<Vec<_>>(), rows.clone());
        let last_key = rows[rows.len() - 1].key;
        let end_key = gap_to_next.and_then(|gap| last_key.checked_add(gap));
        for (index, row) in rows.iter().enumerate() {
            prop_assert_eq!(block.position(first_key, end_key, row.key), Ok(index));
            let next = rows.get(index + 1).map_or(0, |next| next.key);
            if row.key != u64::MAX && row.key + 1 != next {
                prop_assert_eq!(block.position(first_key, end_key, row.key + 1), Err(index + 1));
            }
        }
    }

    #[test]
    fn a_replaced_row_changes_no_other(
        rows in vec((units(), sizes()), 1..50),
        index: prop::sample::Index,
        replacement in (units(), sizes()),
    ) {
        let numbered = (1..).zip(rows);
        let mut rows: Vec<Row> = numbered
            .map(|(k, (units, size))| Row::new(key(k), entry(units, size)))
            .collect();
        let (mut block, first_key) = (Block::pack(&rows), rows[0].key);
        let index = index.index(rows.len());
        let row = Row::new(key(rows[index].key), entry(replacement.0, replacement.1));
        let fits = block.replace(first_key, index, row);
        if fits {
            rows[index] = row;
        }
        prop_assert_eq!(block.rows(first_key).collect::<Vec<_>>(), rows.clone());
        // A block with more than one offset and size takes back what it had.
        prop_assert!(fits || Block::pack(&rows).replace(first_key, index, rows[index]));
    }

    #[test]
    fn numbers_of_any_width_are_read_as_they_were_packed(
        numbers in vec((any::<u64>(), 0_u8..=64), 1..200),
        overwritten: prop::sample::Index,
        by: u64,
    ) {
        let mut packer = Packer::new(0);
        for (number, width) in &numbers {
            packer.push(number & bits::highest(*width), *width);
        }
        let mut words = packer.finish();
        let mut expected: Vec<u64> =
            numbers.iter().map(|(number, width)| number & bits::highest(*width)).collect();
        let read_all = |words: &[u64]| {
            let mut bit = 0;
            let numbers = numbers.iter().map(|(_, width)| {
                let number = bits::read(words, bit, *width);
                bit += usize::from(*width);
                number
            });
            numbers.collect::<Vec<u64>>()
        };
        prop_assert_eq!(read_all(&words), expected.clone());
        let index = overwritten.index(numbers.len());
        let bit = numbers[..index].iter().map(|(_, width)| usize::from(*width)).sum();
        let width = numbers[index].1;
        expected[index] = by & bits::highest(width);
        bits::overwrite(&mut words, bit, width, expected[index]);
        prop_assert_eq!(read_all(&words), expected);
    }
}

/// Enough keys in random order for leaves to split, a third of them written or deleted again.
fn many_scattered_puts() -> Vec<Put> {
    let keys = (0..120_000_u64).map(|n| scattered(n) >> 8 | 1);
    let again = (0..40_000_u64).map(|n| scattered(scattered(n) % 120_000) >> 8 | 1);
    let put = |(n, key): (usize, u64)| {
        let size = if n % 5 == 0 { RowSize::Tombstone } else { RowSize::Live((n % 4096) as u32) };
        (key, entry(n as u64 * 131, size))
    };
    keys.chain(again).enumerate().map(put).collect()
}

#[test]
fn many_scattered_keys_are_found() {
    let (map, model) = inserted(&many_scattered_puts());
    assert!(map.packed.leaves.len() > 2, "no leaf was split");
    assert_same(&map, &model);
}

#[test]
fn many_scattered_keys_load_as_inserted() {
    assert_loads_as_inserted(&many_scattered_puts());
}

#[test]
fn rising_and_falling_keys_are_found() {
    let at = |n: u64| (n, entry(n * 3, RowSize::Live(7)));
    let rising: Vec<Put> = (1..70_000).map(at).collect();
    let falling: Vec<Put> = (1..70_000).rev().map(at).collect();
    for puts in [rising, falling] {
        let (map, model) = inserted(&puts);
        assert!(map.packed.leaves.len() >= 70_000 / BLOCK_LEN / LEAF_LEN);
        assert_same(&map, &model);
        assert_loads_as_inserted(&puts);
    }
}

#[test]
fn a_deleted_needle_widens_no_column_of_sizes() {
    let row = |k, size| Row::new(key(k), entry(k, size));
    let live = [row(1, RowSize::Live(1000)), row(2, RowSize::Live(1006))];
    let mut block = Block::pack(&live);
    assert!(block.replace(1, 0, row(1, RowSize::Tombstone)));
    assert_eq!(block.row(1, 0).coded_size, TOMBSTONE);
    assert_eq!(block.row(1, 1), live[1]);
    assert_eq!(Block::pack(&[block.row(1, 0), block.row(1, 1)]).words_len(), 1);
}

/// What is allocated for the packed blocks, without the allocator's own share.
fn packed_bytes(map: &NeedleMap) -> usize {
    let leaves = &map.packed.leaves;
    let blocks = leaves.iter().flat_map(|leaf| &leaf.blocks);
    let words: usize = blocks.map(|block| block.words_len() * 8).sum();
    let listed: usize = leaves.iter().map(|leaf| leaf.blocks.capacity()).sum();
    words + listed * (size_of::<Block>() + size_of::<u64>())
}

#[test]
fn a_needle_takes_at_most_nine_bytes() {
    let (mut map, mut units) = (NeedleMap::default(), 1_u64 << 39);
    let count = 256 * 256 * 2;
    for n in 1..=count {
        let size = (scattered(n) % (1 << 20)) as u32;
        map.insert(key(n), entry(units, RowSize::Live(size)));
        units += u64::from(size) / 8 + 5;
    }
    let in_order = packed_bytes(&map) as f64 / count as f64;
    assert!(in_order < 7.5, "{in_order} bytes");
    for n in 0..count / 3 {
        map.insert(key(scattered(n) % count + 1), entry(units + n * 5, RowSize::Tombstone));
    }
    let deleted = packed_bytes(&map) as f64 / count as f64;
    assert!(deleted < 9.0, "{deleted} bytes");
}
