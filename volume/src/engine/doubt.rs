//! The needles that are not served because records that nothing vouches for speak of them.
//!
//! Such a record verifies, or at least begins like one, and lies behind a bad one: it is a version of
//! its needle, or data that somebody uploaded. A read of the needle answers an error, neither what the
//! record says nor what was before. Who uploads may name any needle, so there is nothing more to lose
//! when very many are named and all of the volume counts as doubtful.

use std::collections::HashSet;

use dulse_shared::id::NeedleKey;

/// Needles that are kept one by one: some tens of megabytes of memory.
const MAX_NEEDLES: usize = 1 << 20;

/// Which needles of a volume are doubtful.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Doubt {
    needles: HashSet<NeedleKey>,
    is_of_all: bool,
}

impl Doubt {
    /// All of them.
    pub(super) fn of_all() -> Self {
        Self { is_of_all: true, ..Self::default() }
    }

    /// A record names this needle.
    pub(super) fn add(&mut self, key: NeedleKey) {
        self.is_of_all |= self.needles.len() >= MAX_NEEDLES && !self.needles.contains(&key);
        if !self.is_of_all {
            self.needles.insert(key);
        }
    }

    /// Whether a needle must not be read.
    pub fn covers(&self, key: NeedleKey) -> bool {
        self.is_of_all || self.needles.contains(&key)
    }

    /// Which, in words.
    pub(super) fn in_words(&self) -> String {
        if self.is_of_all { "all".to_owned() } else { self.needles.len().to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: u64) -> NeedleKey {
        NeedleKey::new(key).unwrap()
    }

    #[test]
    fn what_is_named_is_doubtful_and_beyond_a_limit_everything() {
        let mut doubt = Doubt::default();
        for n in 1..=MAX_NEEDLES as u64 {
            doubt.add(key(n));
        }
        doubt.add(key(1));
        let unnamed = key(u64::MAX);
        assert!(doubt.covers(key(1)) && !doubt.covers(unnamed));
        assert_eq!(doubt.in_words(), "1048576");
        doubt.add(key(MAX_NEEDLES as u64 + 1));
        assert!(doubt.covers(key(1)) && doubt.covers(unnamed));
        assert_eq!(doubt.in_words(), "all");
    }
}
