//! A volume file whose reads are watched: for a walk over all of it that may take minutes, so that
//! somebody sees how far it is and can end it between two reads.
//!
//! A read that may not go on is an error like one of the disk's, so whoever walks needs to know
//! nothing of it, and whoever watches has to remember that it was not the disk.

use std::{
    fmt,
    io::{self, IoSlice},
    ops::Range,
    sync::Arc,
};

use crate::disk::VolumeFile;

/// Hears how many bytes are about to be read; `false` ends the reading.
pub type ReadWatch = Arc<dyn Fn(u64) -> bool + Send + Sync>;

/// The file, and who watches.
pub(super) struct WatchedFile {
    file: Arc<dyn VolumeFile>,
    watch: ReadWatch,
}

impl WatchedFile {
    pub(super) fn new(file: Arc<dyn VolumeFile>, watch: ReadWatch) -> Self {
        Self { file, watch }
    }
}

impl fmt::Debug for WatchedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedFile").field("file", &self.file).finish_non_exhaustive()
    }
}

impl VolumeFile for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if (self.watch)(buffer.len() as u64) {
            self.file.read_at(buffer, offset)
        } else {
            // Not `Interrupted`, after which reads are tried again.
            Err(io::Error::other("the reading was ended"))
        }
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.file.read_cached_at(buffer, offset)
    }

    fn begin_reading(&self, range: Range<u64>) {
        self.file.begin_reading(range);
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.file.write_vectored_at(slices, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn begin_writeback(&self, range: Range<u64>) {
        self.file.begin_writeback(range);
    }

    fn forget_cached(&self, range: Range<u64>) -> io::Result<()> {
        self.file.forget_cached(range)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
