//! What a scrub found, up to a limit.

use dulse_shared::wire::ScrubFinding;

/// Findings that are kept. A volume with more is no better understood by reading them.
const MAX_FINDINGS: usize = 1000;

/// What a scrub found, up to a limit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScrubFindings {
    kept: Vec<ScrubFinding>,
    more: u64,
}

impl ScrubFindings {
    /// What was kept of earlier findings.
    pub fn from_kept(mut kept: Vec<ScrubFinding>, more: u64) -> Self {
        kept.truncate(MAX_FINDINGS);
        Self { kept, more }
    }

    /// Those that were kept, in the order of the file; before them that a scrub gave up, if it did.
    pub fn as_slice(&self) -> &[ScrubFinding] {
        &self.kept
    }

    /// How many more there were.
    pub fn more(&self) -> u64 {
        self.more
    }

    /// How many there were.
    pub fn len(&self) -> u64 {
        self.more.saturating_add(self.kept.len() as u64)
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub(super) fn push(&mut self, finding: ScrubFinding) {
        if self.kept.len() < MAX_FINDINGS {
            self.kept.push(finding);
        } else {
            self.more += 1;
        }
    }
    /// Puts before all others why they are not all there are.
    pub(super) fn put_first(&mut self, finding: ScrubFinding) {
        if self.kept.len() == MAX_FINDINGS {
            self.kept.pop();
            self.more += 1;
        }
        self.kept.insert(0, finding);
    }
}
