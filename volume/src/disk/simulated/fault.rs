//! What can be made to go wrong on the simulated disk, and when.

use std::{io, path::Path};

/// What is done with a disk. All but reads change something and are counted for a stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Bytes are read.
    Read,
    /// Bytes are written.
    Write,
    /// A file is synced.
    Sync,
    /// A file is cut.
    Truncate,
    /// A file is made.
    Create,
    /// A file is renamed.
    Rename,
    /// A file is removed.
    Remove,
    /// A directory is synced.
    SyncDir,
}

/// How an operation goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It does nothing and fails with this error number.
    Fails(i32),
    /// A write writes a part and says so.
    WritesShort,
    /// A write writes a part and fails for want of room.
    Tears,
    /// A write goes somewhere else in its file and succeeds.
    Misdirects,
    /// A sync fails, some pages are lost, and every later sync succeeds without them.
    LosesPages {
        /// Reads go on to see what was lost, until it leaves the cache.
        keeps_cache: bool,
    },
}

/// The error number of a failing disk.
pub const EIO: i32 = 5;
/// The error number of a full disk.
pub const ENOSPC: i32 = 28;

/// A fault that waits for its operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Planned {
    pub(super) operation: Operation,
    /// Only on files with this extension.
    pub(super) extension: Option<String>,
    /// How many more times it goes well.
    pub(super) countdown: u64,
    pub(super) fault: Fault,
}

impl Planned {
    pub(super) fn concerns(&self, operation: Operation, path: &Path) -> bool {
        let has = path.extension().and_then(|extension| extension.to_str());
        self.operation == operation
            && (self.extension.is_none() || self.extension.as_deref() == has)
    }
}

pub(super) fn failure(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}
