//! Whether a data directory can be used, and if not, why.
//!
//! A disk that answers errors, was unmounted or went read-only takes the directory's volumes with
//! it and nothing else. One bad answer is none: the trouble has to last. After that the directory
//! counts as failed until the server is started again, since only a start looks at what the disk
//! holds.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use dulse_shared::{
    clock::{BootTime, Clock},
    wire::bounded_sentence,
};

/// How long a directory may answer errors before it counts as failed.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What is known of a directory's disk.
#[derive(Debug, Default)]
pub(super) struct DirHealth {
    troubled_since: Mutex<Option<BootTime>>,
    failure: OnceLock<String>,
}

impl DirHealth {
    /// Of a directory that could not be used from the start.
    pub(super) fn failed(reason: &str) -> Self {
        let health = Self::default();
        health.fail(reason);
        health
    }

    /// Takes note of a look at the disk; `true` if the directory has just failed by it.
    pub(super) fn looked(&self, found: Result<(), &str>, clock: &Clock) -> bool {
        let mut since = self.troubled_since.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(reason) = found else {
            *since = None;
            return false;
        };
        let now = clock.boot();
        let began = *since.get_or_insert(now);
        let has_failed_now = now.since(began) >= PATIENCE && self.failure.get().is_none();
        if has_failed_now {
            self.fail(reason);
        }
        has_failed_now
    }

    /// The directory is not used any more.
    pub(super) fn fail(&self, reason: &str) {
        self.failure.get_or_init(|| bounded_sentence(reason));
    }

    /// Why it is not used, if so.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }
}
