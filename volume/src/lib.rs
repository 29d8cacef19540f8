//! The volume server: keeps needles in append-only volume files and answers for them.

pub mod format;
