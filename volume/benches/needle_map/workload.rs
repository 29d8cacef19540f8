//! The orders in which needles are written, and what they are like; the same at each run.

use dulse_shared::id::NeedleKey;
use dulse_volume::{
    engine::needle_map::Entry,
    format::{CURRENT_VERSION, Offset, RowSize, record_len},
};

pub struct Workload {
    pub name: &'static str,
    pub title: &'static str,
    keys: Keys,
    sizes: Sizes,
    order: Order,
    /// Where the first record is.
    start_bytes: u64,
    /// Of a hundred needles, how many are written or deleted again, anywhere in the volume.
    again_percent: u64,
    again: Again,
    /// Whether the goals are meant for it: not for keys that no master hands out, nor for
    /// everything that is hard at once.
    pub has_goals: bool,
}

#[derive(Clone, Copy)]
enum Keys {
    /// 1, 2, 3, …
    Sequence,
    /// Of ten keys in sequence one, as when the others go to other volumes.
    OneInTen,
    /// Rising by anything from 1 to 2³⁰, so that no block's keys are spread evenly.
    Uneven,
    /// Any 64 bits.
    Random,
}

#[derive(Clone, Copy)]
enum Sizes {
    Fixed(u64),
    UpTo(u64),
}

#[derive(Clone, Copy)]
enum Order {
    Rising,
    /// Each seventh key comes later, by up to a quarter of the volume.
    OneInSevenLate,
    /// Each seventh key comes up to 100 needles later.
    OneInSevenSoonAfter,
}

#[derive(Clone, Copy)]
enum Again {
    Deleted,
    Overwritten,
}

const PLAIN: Workload = Workload {
    name: "in-order",
    title: "in order, 1 KiB",
    keys: Keys::Sequence,
    sizes: Sizes::Fixed(1024),
    order: Order::Rising,
    start_bytes: 8,
    again_percent: 0,
    again: Again::Deleted,
    has_goals: true,
};
const MIB: u64 = 1 << 20;

pub static WORKLOADS: [Workload; 11] = [
    PLAIN,
    Workload {
        name: "soon-after",
        title: "1 in 7 up to 100 needles late",
        order: Order::OneInSevenSoonAfter,
        ..PLAIN
    },
    Workload {
        name: "out-of-order",
        title: "1 in 7 late by up to a quarter of the volume",
        order: Order::OneInSevenLate,
        ..PLAIN
    },
    Workload {
        name: "random-sizes",
        title: "sizes at random up to 1 MiB",
        sizes: Sizes::UpTo(MIB),
        ..PLAIN
    },
    Workload {
        name: "large-offsets",
        title: "the same from 1 TiB on",
        sizes: Sizes::UpTo(MIB),
        start_bytes: 1 << 40,
        ..PLAIN
    },
    Workload {
        name: "widest",
        title: "all that is hard: from 1 TiB on, up to 1 MiB, 1 in 7 late, 1 in 10 keys",
        sizes: Sizes::UpTo(MIB),
        start_bytes: 1 << 40,
        keys: Keys::OneInTen,
        order: Order::OneInSevenLate,
        has_goals: false,
        ..PLAIN
    },
    Workload { name: "deleted", title: "30 % deleted", again_percent: 30, ..PLAIN },
    Workload {
        name: "overwritten",
        title: "30 % overwritten, sizes at random up to 1 MiB",
        again_percent: 30,
        again: Again::Overwritten,
        sizes: Sizes::UpTo(MIB),
        ..PLAIN
    },
    Workload {
        name: "one-in-ten",
        title: "1 in 10 keys of a sequence",
        keys: Keys::OneInTen,
        ..PLAIN
    },
    Workload {
        name: "uneven-keys",
        title: "gaps of 1 to 2³⁰ between keys",
        keys: Keys::Uneven,
        has_goals: false,
        ..PLAIN
    },
    Workload { name: "random-keys", title: "keys of 64 random bits", keys: Keys::Random, ..PLAIN },
];

impl Workload {
    /// The key of the needle that is `n`-th in key order, or nearly (random keys are in none).
    pub fn key(&self, n: u64) -> Option<NeedleKey> {
        let key = match self.keys {
            Keys::Sequence => n + 1,
            Keys::OneInTen => n * 10 + mixed(n) % 10 + 1,
            // Of each 64 the first are close to each other and the last far apart.
            Keys::Uneven => ((n >> 6) << 30) + (1 << (n % 64 * 30 / 64)) + n % 64,
            Keys::Random => mixed(n) | 1 << 63,
        };
        NeedleKey::new(key)
    }

    /// Calls `row` for each row of the volume's index.
    pub fn rows(&self, needles: u64, row: &mut dyn FnMut(NeedleKey, Entry)) {
        let mut end_bytes = self.start_bytes;
        let mut numbers = Numbers::new(1);
        let mut append = |n: u64, is_deleted: bool, numbers: &mut Numbers| {
            let size = match self.sizes {
                _ if is_deleted => 0,
                Sizes::Fixed(size) => size,
                Sizes::UpTo(size) => numbers.below(size),
            } as u32;
            let offset = Offset::from_bytes(end_bytes).unwrap_or_default();
            let kind = if is_deleted { RowSize::Tombstone } else { RowSize::Live(size) };
            // None of the orders has a key 0.
            if let Some(key) = self.key(n) {
                row(key, Entry { offset, size: kind });
            }
            end_bytes += record_len(size, CURRENT_VERSION);
        };
        self.in_order_of_writes(needles, |n, numbers| append(n, false, numbers), &mut numbers);
        // So many draws hit that part of the needles at least once.
        let draws = -(1.0 - self.again_percent as f64 / 100.0).ln() * needles as f64;
        for _ in 0..draws as u64 {
            let n = numbers.below(needles);
            append(n, matches!(self.again, Again::Deleted), &mut numbers);
        }
    }

    fn in_order_of_writes(
        &self,
        needles: u64,
        mut write: impl FnMut(u64, &mut Numbers),
        numbers: &mut Numbers,
    ) {
        let kept_back = match self.order {
            Order::Rising => 0,
            Order::OneInSevenSoonAfter => 100 / 7,
            Order::OneInSevenLate => needles / 28,
        } as usize;
        let mut late = Vec::with_capacity(kept_back + 1);
        for n in 0..needles {
            if kept_back > 0 && n % 7 == 3 {
                late.push(n);
                if late.len() > kept_back {
                    let index = numbers.below(late.len() as u64) as usize;
                    write(late.swap_remove(index), numbers);
                }
            } else {
                write(n, numbers);
            }
        }
        while !late.is_empty() {
            let index = numbers.below(late.len() as u64) as usize;
            write(late.swap_remove(index), numbers);
        }
    }
}

/// Numbers that follow each other like random ones (splitmix64).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        ((u128::from(mixed(self.0)) * u128::from(end)) >> 64) as u64
    }
}

/// Distinct for distinct numbers.
fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
