//! Writing a new index beside the old one and putting it in its place.
//!
//! Until the last step the old index is as it was; a crash leaves at most a stray `.idx.new`, which
//! the next attempt overwrites.

use std::{io, path::Path};

use super::index_file::IndexFile;
use crate::{
    disk::{Disk, replace_file},
    format::IndexRow,
};

/// Rows that are written at once: few system calls, little memory.
const ROWS_PER_WRITE: usize = 1 << 14;

/// An index in the making.
#[derive(Debug)]
pub(super) struct IndexWriter {
    idx: IndexFile,
    rows: Vec<IndexRow>,
}

impl IndexWriter {
    /// A writer to an empty index.
    pub(super) fn new(idx: IndexFile) -> Self {
        Self { idx, rows: Vec::with_capacity(ROWS_PER_WRITE) }
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: IndexRow) -> io::Result<()> {
        self.rows.push(row);
        if self.rows.len() == ROWS_PER_WRITE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.idx.append(self.rows.iter())?;
        self.rows.clear();
        Ok(())
    }

    /// Puts the new index in the place of the old one.
    pub(super) fn finish(
        mut self,
        disk: &dyn Disk,
        new: &Path,
        old: &Path,
    ) -> io::Result<IndexFile> {
        self.flush()?;
        self.idx.sync()?;
        replace_file(disk, new, old)?;
        Ok(self.idx)
    }
}
