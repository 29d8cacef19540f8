//! Checking every invariant of a volume, open or not. Nothing is changed.

mod finding;
mod own_files;
mod survey;
mod volume;

pub use finding::{Finding, Findings};
pub use own_files::{check_sidecar, stray_names};
pub use survey::{Subject, Survey, survey};
