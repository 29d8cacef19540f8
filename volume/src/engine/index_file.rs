//! The `.idx` file: an append-only log of where needles are, a cache of what `.dat` says.
//!
//! Its rows are written after the records they speak of are durable, and are themselves synced
//! only at checkpoints. The running checksum lets a restart tell an intact prefix from a damaged
//! one without reading `.dat`.

use std::{
    io::{self, IoSlice},
    ops::Range,
    sync::Arc,
};

use crate::{
    disk::{VolumeFile, read_exact_at, write_all_at},
    format::{IndexRow, OffsetWidth},
};

/// Rows are loaded in pieces of this many, so that a large index needs no buffer of its size.
const ROWS_PER_READ: usize = 1 << 16;

/// An index file and its end.
#[derive(Debug)]
pub struct IndexFile {
    file: Arc<dyn VolumeFile>,
    width: OffsetWidth,
    len: u64,
    crc: u32,
}

impl IndexFile {
    /// The index in `file`, cut to its first `len` bytes, whose CRC-32C is `crc`.
    pub fn open_at(
        file: Arc<dyn VolumeFile>,
        width: OffsetWidth,
        len: u64,
        crc: u32,
    ) -> io::Result<Self> {
        if file.len()? != len {
            file.truncate(len)?;
        }
        Ok(Self { file, width, len, crc })
    }

    /// The index in `file` up to `len`, whose CRC-32C is `crc`; what lies behind is written over by
    /// what is appended, and goes with [`IndexFile::trim`].
    pub fn over(file: Arc<dyn VolumeFile>, width: OffsetWidth, len: u64, crc: u32) -> Self {
        Self { file, width, len, crc }
    }

    /// Cuts off what lies behind the last row.
    pub fn trim(&self) -> io::Result<()> {
        if self.file.len()? == self.len { Ok(()) } else { self.file.truncate(self.len) }
    }

    /// Appends rows.
    pub fn append<'a>(&mut self, rows: impl Iterator<Item = &'a IndexRow>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for row in rows {
            row.write_to(&mut bytes, self.width);
        }
        write_all_at(&*self.file, &mut [IoSlice::new(&bytes)], self.len)?;
        self.len += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        Ok(())
    }

    /// Makes the rows durable.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The file.
    pub fn file(&self) -> &dyn VolumeFile {
        &*self.file
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// CRC-32C of all rows.
    pub fn crc(&self) -> u32 {
        self.crc
    }
}

/// Reads the rows in the first `len` bytes of `file`, in order, until one cannot be
/// read. Returns the bytes read as rows and their CRC-32C.
pub fn load_rows(
    file: &dyn VolumeFile,
    width: OffsetWidth,
    len: u64,
    row: impl FnMut(IndexRow),
) -> io::Result<(u64, u32)> {
    load_rows_between(file, width, 0..len, row)
}

/// The same of the rows in `range`. Returns where the last of them ends and their CRC-32C.
pub fn load_rows_between(
    file: &dyn VolumeFile,
    width: OffsetWidth,
    range: Range<u64>,
    mut row: impl FnMut(IndexRow),
) -> io::Result<(u64, u32)> {
    let row_len = width.row_len();
    let bytes = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
    let mut buffer = vec![0; bytes.min(ROWS_PER_READ * row_len)];
    let (mut position, mut crc) = (range.start, 0);
    while position < range.end {
        let left = usize::try_from(range.end - position).unwrap_or(usize::MAX).min(buffer.len());
        let piece = &mut buffer[..left - left % row_len];
        if piece.is_empty() {
            break;
        }
        read_exact_at(file, piece, position)?;
        let parsed = piece.chunks_exact(row_len).map_while(|row| IndexRow::parse(row, width).ok());
        let rows_len = parsed.map(&mut row).count() * row_len;
        position += rows_len as u64;
        crc = crc32c::crc32c_append(crc, &piece[..rows_len]);
        if rows_len < piece.len() {
            break;
        }
    }
    Ok((position, crc))
}
