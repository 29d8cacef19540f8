//! Files and directories as the engine uses them: positional reads and writes, a sync, entries
//! that are made, renamed and removed.
//!
//! The engine sees only these traits, so that a test can put a disk beneath it that fails, tears
//! and forgets. What is written is durable after a sync of its file, what is made or renamed after
//! a sync of its directory, and neither before.

use std::{
    fmt::Debug,
    io::{self, IoSlice, Read},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use dulse_shared::disk::parent;

/// No larger piece of a file is cached as one; pieces lie at multiples of their length.
pub const CACHED_AS_ONE_BYTES: u64 = 2 << 20;

/// A file that is read and written at offsets its users own.
pub trait VolumeFile: Send + Sync + Debug {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// The same if it needs no wait for the disk, else `None`.
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>>;

    /// Has the disk begin to read `range` into the page cache, where the next reads find it. It
    /// promises nothing and waits for nothing.
    fn begin_reading(&self, _range: Range<u64>) {}

    /// Writes some of `slices` at `offset`, in one call; how many bytes.
    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Returns once everything written is durable, the length included.
    fn sync_data(&self) -> io::Result<()>;

    /// Has the disk begin with what was written in `range`, so that the next sync finds less to do.
    /// It promises nothing and waits for nothing.
    fn begin_writeback(&self, range: Range<u64>);

    /// Lets the page cache forget what is durable of `range`, so that the next reads come from the
    /// disk. After a failed sync the cache may hold what the disk does not. What is written or read
    /// by another just then stays, and so do pieces (see [`CACHED_AS_ONE_BYTES`]) that the range has
    /// a part of only.
    fn forget_cached(&self, range: Range<u64>) -> io::Result<()>;

    /// Cuts the file to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether there is nothing in it.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A file that is not there, read as an empty one.
#[derive(Clone, Copy, Debug)]
pub struct NoFile;

impl VolumeFile for NoFile {
    fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn read_cached_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<Option<usize>> {
        Ok(Some(0))
    }

    fn write_vectored_at(&self, _slices: &[IoSlice<'_>], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn begin_writeback(&self, _range: Range<u64>) {}

    fn forget_cached(&self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// One that is there, only to read.
    Read,
    /// One that is there, to read and write.
    Write,
    /// To read and write; made if it is missing.
    WriteOrCreate,
    /// To read and write; it must not be there yet.
    CreateNew,
}

/// An entry of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// Its name; one that is no UTF-8 is nobody's we know and is left out.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// The room of a file system, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Room {
    /// Its size.
    pub total_bytes: u64,
    /// What is free for us.
    pub free_bytes: u64,
    /// Which file system it is: another one once a disk was unmounted.
    pub device: u64,
    /// Nothing can be written to it.
    pub is_read_only: bool,
}

/// A lock, held until it is dropped or its process ends.
pub trait Lock: Send + Sync + Debug {}

/// Where the engine gets its files from.
pub trait Disk: Send + Sync + Debug {
    /// Opens a file. A file that is made is durable after a sync of its directory.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VolumeFile>>;

    /// A file without a name, on the file system of `dir`: it is gone when nobody has it open any
    /// more, a crash included.
    fn spool(&self, dir: &Path) -> io::Result<Arc<dyn VolumeFile>>;

    /// Renames a file over whatever is there. Atomic at once, durable after a sync of the directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after a sync of its directory.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes files made, renamed and removed in `dir` survive a crash.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes a directory and those above it that are missing, durably.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// What lies in a directory, by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// The absolute path, without symbolic links.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf>;

    /// Locks a file that is there; `WouldBlock` if another process has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;

    /// Whether there is a file, without opening it.
    fn is_there(&self, path: &Path) -> io::Result<bool>;

    /// How much room there is, and of which file system.
    fn room(&self, dir: &Path) -> io::Result<Room>;

    /// When a file was last written, in seconds since 1970; 0 if that cannot be told.
    fn modified_at_secs(&self, path: &Path) -> u64;
}

/// Slices that one system call takes (`UIO_MAXIOV` on Linux).
const MAX_SLICES: usize = 1024;
/// The longest file that is read as a whole. Ours have some hundred bytes.
const MAX_SMALL_FILE_BYTES: u64 = 16 << 20;

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
pub fn read_small_file(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = file.len()?;
    if len > MAX_SMALL_FILE_BYTES {
        return Err(io::Error::other(format!("{len} bytes are more than such a file can have")));
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    read_exact_at(&*file, &mut bytes, 0)?;
    Ok(Some(bytes))
}

/// Puts the synced file `new` in the place of `old`, durably.
pub fn replace_file(disk: &dyn Disk, new: &Path, old: &Path) -> io::Result<()> {
    disk.rename(new, old)?;
    disk.sync_dir(parent(old))
}

/// Replaces `path` by `contents`: write beside it, sync, rename over it, sync the directory.
///
/// When it returns, the new contents survive power loss; when it fails or the machine stops, the
/// old file or the new one is there, whole. One caller a path at a time: the name of the new file
/// is fixed, so that a crash leaves at most one stray, which the next call overwrites.
pub fn durable_replace(disk: &dyn Disk, path: &Path, contents: &[u8]) -> io::Result<()> {
    let staged = staged_path(path);
    let renamed = write_staged(disk, &staged, contents).and_then(|()| disk.rename(&staged, path));
    if renamed.is_err() {
        // A stray is harmless; that it could not be removed was the lesser of the two failures.
        drop(disk.remove(&staged));
    }
    renamed?;
    disk.sync_dir(parent(path))
}

fn write_staged(disk: &dyn Disk, staged: &Path, contents: &[u8]) -> io::Result<()> {
    let file = disk.open(staged, OpenMode::WriteOrCreate)?;
    file.truncate(0)?;
    write_all_at(&*file, &mut [IoSlice::new(contents)], 0)?;
    file.sync_data()
}

/// Where the next contents of `path` are written.
pub fn staged_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}
