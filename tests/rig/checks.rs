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

/// All that is wrong with a history: a sentence each. `end` is when clients were stopped.
pub fn findings(history: &History, end: Moment, limits: Limits) -> Vec<String> {
    let all = [
        assigns::keys_twice(history),
        assigns::keys_of_deposed(history, limits.deposed),
        assigns::fids_of_isolated(history, limits.deposed),
        assigns::gaps(history, end, limits.gap),
        needles::wrong_reads(history),
        needles::not_read_back(history),
    ];
    all.concat()
}

pub use assigns::longest_gap;
