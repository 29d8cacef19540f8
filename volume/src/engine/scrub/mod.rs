//! Reading a volume again from its disk, while it is served and written to.

mod book;
mod cold_file;
mod findings;
mod live_entries;
mod record;
mod silent_disk;
mod walk;

pub use book::{ScrubBook, ScrubSummary};
pub use cold_file::Pace;
pub use findings::ScrubFindings;
pub use walk::ScrubEnd;
