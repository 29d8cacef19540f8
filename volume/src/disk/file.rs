//! A file as the engine uses it: positional reads and writes, a sync, a length.
//!
//! The engine sees only the trait, so that a test can put a file beneath it that fails, tears and
//! forgets.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IoSlice, IoSliceMut, Read},
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::UNIX_EPOCH,
};

use dulse_shared::disk::{fsync_dir, parent};
use rustix::{
    fs::{Advice, fadvise},
    io::{Errno, ReadWriteFlags, preadv2, pwritev},
};

/// A file that is read and written at offsets its users own.
pub trait VolumeFile: Send + Sync + std::fmt::Debug {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// The same if it needs no wait for the disk, else `None`.
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>>;

    /// Writes some of `slices` at `offset`, in one call; how many bytes.
    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Returns once everything written is durable, the length included.
    fn sync_data(&self) -> io::Result<()>;

    /// Lets the page cache forget what is durable from `offset` on, so that the next reads come from
    /// the disk. After a failed sync the cache may hold what the disk does not.
    fn forget_cached(&self, offset: u64) -> io::Result<()>;

    /// Cuts the file to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether there is nothing in it.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Where the engine gets its files from.
pub trait Disk: Send + Sync + std::fmt::Debug {
    /// Opens an existing file to read and write.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>>;

    /// Opens a file to read and write; makes it if it is missing.
    fn open_or_create(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>>;
}

/// The disks of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        Ok(Arc::new(RealFile::open(path)?))
    }

    fn open_or_create(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        Ok(Arc::new(RealFile::open_or_create(path)?))
    }
}

/// Slices that one system call takes (`UIO_MAXIOV` on Linux).
const MAX_SLICES: usize = 1024;

/// Reads exactly `buffer.len()` bytes; an end of file before that is `UnexpectedEof`.
pub fn read_exact_at(file: &dyn VolumeFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `slices` one after the other from `offset` on.
pub fn write_all_at(
    file: &dyn VolumeFile,
    mut slices: &mut [IoSlice<'_>],
    mut offset: u64,
) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let some = &slices[..slices.len().min(MAX_SLICES)];
        match file.write_vectored_at(some, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut slices, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A stretch of a file as a stream.
#[derive(Debug)]
pub struct FileRange<'a> {
    file: &'a dyn VolumeFile,
    from: u64,
    to: u64,
}

impl<'a> FileRange<'a> {
    /// The bytes of `file` in `range`.
    pub fn new(file: &'a dyn VolumeFile, range: Range<u64>) -> Self {
        Self { file, from: range.start, to: range.end }
    }
}

impl Read for FileRange<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.to - self.from).unwrap_or(usize::MAX);
        let len = left.min(buffer.len());
        let read = self.file.read_at(&mut buffer[..len], self.from)?;
        self.from += read as u64;
        Ok(read)
    }
}

/// The bytes of a small file; `None` if there is none.
pub fn read_small_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts the synced file `new` in the place of `old`, durably.
pub fn replace_file(new: &Path, old: &Path) -> io::Result<()> {
    fs::rename(new, old)?;
    fsync_dir(parent(old))
}

/// When a file was last written, in seconds since 1970; 0 if that cannot be told.
pub fn modified_at_secs(path: &Path) -> u64 {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs())
}

/// A file of the operating system.
#[derive(Debug)]
pub struct RealFile {
    file: File,
    /// Whether the file system refused the non-blocking read once: it is not asked again.
    lacks_nowait: AtomicBool,
}

impl RealFile {
    /// Opens an existing file to read and write.
    pub fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open(path).map(Self::from)
    }

    /// Opens a file to read and write; makes it if it is missing.
    pub fn open_or_create(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).open(path).map(Self::from)
    }
}

impl From<File> for RealFile {
    fn from(file: File) -> Self {
        Self { file, lacks_nowait: AtomicBool::new(false) }
    }
}

impl VolumeFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        if self.lacks_nowait.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut slices = [IoSliceMut::new(buffer)];
        match preadv2(&self.file, &mut slices, offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => Ok(Some(read)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.lacks_nowait.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(pwritev(&self.file, slices, offset)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn forget_cached(&self, offset: u64) -> io::Result<()> {
        Ok(fadvise(&self.file, offset, None, Advice::DontNeed)?)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_many_slices_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealFile::open_or_create(&dir.path().join("f")).unwrap();
        let pieces: Vec<Vec<u8>> = (0..3000_u32).map(|n| n.to_be_bytes()[1..].to_vec()).collect();
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|p| IoSlice::new(p)).collect();
        write_all_at(&file, &mut slices, 5).unwrap();
        let mut read = vec![0; 9000];
        read_exact_at(&file, &mut read, 5).unwrap();
        assert_eq!(read, pieces.concat());
        let beyond = read_exact_at(&file, &mut [0; 2], 9004).unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
    }
}
