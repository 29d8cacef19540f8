//! Why a volume takes no more writes: what failed, with which error, and when.
//!
//! Set once and kept until the server is started again, because only a start looks at what the disk
//! holds. The first failure is the one to know: what fails later mostly follows from it.

use std::{
    fmt,
    sync::OnceLock,
    time::{Duration, UNIX_EPOCH},
};

use dulse_shared::wire::bounded_sentence;

/// The last second that the date's format can say: the end of the year 9999.
const END_OF_DATES_SECS: u64 = 253_402_300_799;

/// The first thing that failed, if anything did.
#[derive(Debug, Default)]
pub(super) struct Failure(OnceLock<String>);

impl Failure {
    /// Takes note of it, unless something failed before.
    pub(super) fn set(&self, action: &str, error: &dyn fmt::Display, now_secs: u64) {
        self.0.get_or_init(|| {
            let now = UNIX_EPOCH + Duration::from_secs(now_secs.min(END_OF_DATES_SECS));
            let at = httpdate::fmt_http_date(now);
            bounded_sentence(&format!("{action} failed on {at}: {error}"))
        });
    }

    /// Whether something failed.
    pub(super) fn is_set(&self) -> bool {
        self.0.get().is_some()
    }

    /// What, when and why.
    pub(super) fn sentence(&self) -> Option<String> {
        self.0.get().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_stays_and_says_what_when_and_why() {
        let failure = Failure::default();
        assert!(!failure.is_set());
        failure.set("a sync of the volume file", &"Input/output error", 1_795_305_600);
        failure.set("a write", &"later", 0);
        assert_eq!(
            failure.sentence().unwrap(),
            "a sync of the volume file failed on Sun, 22 Nov 2026 00:00:00 GMT: Input/output error"
        );
    }

    #[test]
    fn a_long_error_is_cut() {
        let failure = Failure::default();
        failure.set("a write", &"é".repeat(9_000), u64::MAX);
        assert!(failure.sentence().unwrap().chars().count() < 500);
    }
}
