//! What a history must not show. Each check is a function from a history to sentences, pure, and
//! proves itself on bad histories that were made up.

mod assigns;
mod needles;

#[cfg(test)]
mod made_up;

use std::time::Duration;

use crate::history::{History, Moment};

/// What is too long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time without a fid for anybody.
    pub gap: Duration,
    /// How long a master that was deposed or cut off may still hand out fids.
    pub deposed: Duration,
}

/// One fault has many witnesses, and there may be others besides.
const MAX_SHOWN: usize = 5;

/// What is wrong with a history, some sentences of each kind. `end` is when clients were stopped.
pub fn findings(history: &History, end: Moment, limits: Limits) -> Vec<String> {
    let all = [
        assigns::keys_twice(history),
        assigns::keys_of_deposed(history, limits.deposed),
        assigns::fids_of_isolated(history, limits.deposed),
        assigns::gaps(history, end, limits.gap),
        needles::wrong_reads(history),
        needles::not_read_back(history),
    ];
    all.into_iter().flat_map(first_ones).collect()
}

fn first_ones(mut found: Vec<String>) -> Vec<String> {
    let left_out = found.len().saturating_sub(MAX_SHOWN);
    found.truncate(MAX_SHOWN);
    if left_out > 0 {
        found.push(format!("(and {left_out} more of this kind)"));
    }
    found
}

pub use assigns::longest_gap;
