//! A volume file read past the page cache, block by block, at its reader's pace.
//!
//! A block is dropped from the cache before it is read, so that its bytes come from the disk. One
//! that was not in the cache before is dropped again afterwards: a scrub neither evicts for long what
//! others read nor fills the cache with what nobody does. Blocks lie at multiples of the largest piece that a
//! file system caches as one, which would otherwise stay. A page that is being written just then
//! stays in the cache and is read from there; it is the next scrub's.

use std::{
    io,
    io::IoSlice,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::disk::{CACHED_AS_ONE_BYTES, VolumeFile};

/// Bytes that are read at once.
const BLOCK_BYTES: u64 = CACHED_AS_ONE_BYTES;

/// Hears how many bytes are about to be read, and waits as long as it likes; `false` stops.
pub type Pace<'a> = dyn Fn(u64) -> bool + Sync + 'a;

/// The file as the disk has it, up to some end.
pub(super) struct ColdFile<'a> {
    file: &'a dyn VolumeFile,
    end: u64,
    pace: &'a Pace<'a>,
    block: Mutex<Block>,
    is_halted: AtomicBool,
}

impl std::fmt::Debug for ColdFile<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColdFile").field("end", &self.end).finish_non_exhaustive()
    }
}

/// Bytes read last.
#[derive(Default)]
struct Block {
    start: u64,
    bytes: Vec<u8>,
    /// The disk gave no more of the block than these.
    is_cut: bool,
    /// The block behind this one, and whether it was in the page cache before this one was read:
    /// reading ahead puts a part of it there.
    next: Option<(u64, bool)>,
}

impl<'a> ColdFile<'a> {
    /// The first `end` bytes of `file`.
    pub(super) fn new(file: &'a dyn VolumeFile, end: u64, pace: &'a Pace<'a>) -> Self {
        let (block, is_halted) = (Mutex::default(), AtomicBool::new(false));
        Self { file, end, pace, block, is_halted }
    }

    /// Whether an error was none of the disk's, but the pace's.
    pub(super) fn is_halted(&self) -> bool {
        self.is_halted.load(Ordering::Relaxed)
    }

    fn load(&self, block: &mut Block, start: u64) -> io::Result<()> {
        let range = start..self.end.min(start + BLOCK_BYTES);
        let len = range.end - range.start;
        (block.is_cut, block.start) = (false, start);
        block.bytes.clear();
        if !(self.pace)(len) {
            self.is_halted.store(true, Ordering::Relaxed);
            return Err(io::Error::other("stopped"));
        }
        let known = block.next.take().filter(|(next, _)| *next == start);
        let was_cached = known.map_or_else(|| self.is_cached(start), |(_, was_cached)| was_cached);
        block.next = Some((range.end, self.is_cached(range.end)));
        // All of the block: the kernel would keep the page in which a shorter range ends.
        let whole = start..start + BLOCK_BYTES;
        self.file.forget_cached(whole.clone())?;
        block.bytes.resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        self.fill(block);
        if was_cached { Ok(()) } else { self.file.forget_cached(whole) }
    }

    /// Whether a block is in the page cache, by one byte of it. A miss makes the kernel read that
    /// page, so that asking more often would cost a hard disk its time. The byte lies in the middle,
    /// where nothing that was read before makes the kernel read ahead.
    fn is_cached(&self, start: u64) -> bool {
        let middle = start + (self.end.saturating_sub(start)).min(BLOCK_BYTES) / 2;
        middle < self.end && matches!(self.file.read_cached_at(&mut [0], middle), Ok(Some(1)))
    }

    fn fill(&self, block: &mut Block) {
        let mut filled = 0;
        while filled < block.bytes.len() {
            match self.file.read_at(&mut block.bytes[filled..], block.start + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    block.is_cut = true;
                    break;
                }
            }
        }
        block.bytes.truncate(filled);
    }
}

impl VolumeFile for ColdFile<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.end {
            return Ok(0);
        }
        let mut block = self.block.lock().unwrap_or_else(PoisonError::into_inner);
        let start = offset / BLOCK_BYTES * BLOCK_BYTES;
        let is_loaded = block.start == start && (block.is_cut || !block.bytes.is_empty());
        if !is_loaded {
            self.load(&mut block, start)?;
        }
        let from = usize::try_from(offset - start).map_err(io::Error::other)?;
        if let Some(held) = block.bytes.get(from..).filter(|held| !held.is_empty()) {
            let len = held.len().min(buffer.len());
            buffer[..len].copy_from_slice(&held[..len]);
            return Ok(len);
        }
        if !block.is_cut {
            return Ok(0);
        }
        // Only what was asked for, so that one bad sector spoils no neighbouring record.
        let left = self.end.min(start + BLOCK_BYTES) - offset;
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        self.file.read_at(&mut buffer[..len], offset)
    }

    fn read_cached_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<Option<usize>> {
        Ok(None)
    }

    fn write_vectored_at(&self, _slices: &[IoSlice<'_>], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn begin_writeback(&self, _range: Range<u64>) {}

    fn forget_cached(&self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.end)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::disk::read_exact_at;

    /// A file of zeros, in the page cache or not, that counts how often some of it is dropped.
    #[derive(Debug)]
    struct Counting {
        is_cached: bool,
        dropped: AtomicUsize,
    }

    impl VolumeFile for Counting {
        fn read_at(&self, buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
            buffer.fill(0);
            Ok(buffer.len())
        }

        fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
            if self.is_cached { self.read_at(buffer, offset).map(Some) } else { Ok(None) }
        }

        fn write_vectored_at(&self, _slices: &[IoSlice<'_>], _offset: u64) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }

        fn begin_writeback(&self, _range: Range<u64>) {}

        fn forget_cached(&self, _range: Range<u64>) -> io::Result<()> {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }

        fn truncate(&self, _len: u64) -> io::Result<()> {
            Ok(())
        }

        fn len(&self) -> io::Result<u64> {
            Ok(3 * BLOCK_BYTES)
        }
    }

    #[test]
    fn what_was_not_in_the_cache_before_is_not_left_there() {
        for (is_cached, expected) in [(false, 2), (true, 1)] {
            let file = Counting { is_cached, dropped: AtomicUsize::new(0) };
            let cold = ColdFile::new(&file, 3 * BLOCK_BYTES, &|_| true);
            for block in 1..=3 {
                read_exact_at(&cold, &mut [1; 100], (block - 1) * BLOCK_BYTES).unwrap();
                let dropped = file.dropped.load(Ordering::Relaxed) as u64;
                assert_eq!(dropped, expected * block, "cached: {is_cached}");
            }
        }
    }
}
