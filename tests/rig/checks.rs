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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checks::made_up::{Ending, assigned, get, history, millis, put},
        history::Isolation,
    };

    #[test]
    fn every_check_is_made_and_many_findings_of_one_kind_do_not_hide_the_others() {
        let many = (0..9).map(|n| assigned("m1", 10 + n, 20 + n, "3,02000000aa"));
        let deposed = assigned("m1", 5000, 5001, "3,01000000aa");
        let lost = [put(1, 10, 20, Ending::Ok), get(2, 12, 19)];
        let mut bad = history(many.chain([deposed]).chain(lost));
        let (from, until) = (millis(2000), millis(6000));
        bad.isolations.push(Isolation { server: "m1".to_owned(), from, until });
        let second = Duration::from_secs(1);
        let found = findings(&bad, millis(6000), Limits { gap: second, deposed: second });
        for part in [
            "one key handed out twice",
            "(and 3 more of this kind)",
            "a deposed leader handed out",
            "m1 was cut off at 2.0000 and still",
            "nobody got a fid for",
            "is what nobody had written",
            "never read after",
        ] {
            let with_it = found.iter().filter(|sentence| sentence.contains(part)).count();
            assert!(with_it > 0, "{part} in {found:#?}");
        }
    }
}
