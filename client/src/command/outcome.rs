//! How a command ended that did not fail as a whole.

/// How a command ended that did not fail as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All of it was done.
    Done,
    /// Some of it failed, and was reported.
    Partial,
}

impl Outcome {
    pub(super) fn of(is_complete: bool) -> Self {
        if is_complete { Self::Done } else { Self::Partial }
    }
}
