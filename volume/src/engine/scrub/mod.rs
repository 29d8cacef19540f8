//! Reading a volume again from its disk, while it is served and written to.

mod book;
mod cold_file;
mod live_entries;
mod record;
mod walk;

pub use book::{ScrubBook, ScrubSummary};
pub use cold_file::Pace;
pub use walk::{ScrubEnd, ScrubFindings};
