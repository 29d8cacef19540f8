//! The disks of the machine.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IoSlice, IoSliceMut},
    num::NonZeroU64,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::UNIX_EPOCH,
};

use dulse_shared::disk::{create_dir, fsync_dir};
use rustix::{
    fs::{Advice, FlockOperation, OFlags, StatVfsMountFlags, fadvise, flock, statvfs},
    io::{Errno, ReadWriteFlags, preadv2, pwritev},
};

use super::file::{DirEntry, Disk, Lock, OpenMode, Room, VolumeFile};

/// The disks of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VolumeFile>> {
        Ok(Arc::new(RealFile::open(path, mode)?))
    }

    fn spool(&self, dir: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        let unnamed = OFlags::TMPFILE.bits().cast_signed();
        let file = OpenOptions::new().read(true).write(true).custom_flags(unnamed).open(dir);
        let file = match file {
            Err(error) if lacks_unnamed_files(&error) => named_for_a_moment(dir)?,
            file => file?,
        };
        Ok(Arc::new(RealFile::from(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fsync_dir(dir)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if let Some(name) = entry.file_name().to_str() {
                entries.push(DirEntry { name: name.to_owned(), is_dir: entry.path().is_dir() });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let file = File::open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(RealLock(file)))
    }

    fn is_there(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn room(&self, dir: &Path) -> io::Result<Room> {
        let stat = statvfs(dir)?;
        Ok(Room {
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            device: fs::metadata(dir)?.dev(),
            is_read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
        })
    }

    fn modified_at_secs(&self, path: &Path) -> u64 {
        let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        since.map_or(0, |since| since.as_secs())
    }
}

/// File systems without such files say so in several ways.
fn lacks_unnamed_files(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT))
}

/// The same where the file system has no files without a name.
fn named_for_a_moment(dir: &Path) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!("{}-{number}.spool", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

#[derive(Debug)]
struct RealLock(#[expect(dead_code, reason = "an open file is the lock")] File);

impl Lock for RealLock {}

/// A file of the operating system.
#[derive(Debug)]
pub struct RealFile {
    file: File,
    /// Whether the file system refused the non-blocking read once: it is not asked again.
    lacks_nowait: AtomicBool,
}

impl RealFile {
    /// Opens a file.
    pub fn open(path: &Path, mode: OpenMode) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(mode != OpenMode::Read);
        match mode {
            OpenMode::Read | OpenMode::Write => {}
            OpenMode::WriteOrCreate => {
                options.create(true).truncate(false);
            }
            OpenMode::CreateNew => {
                options.create_new(true);
            }
        }
        options.open(path).map(Self::from)
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

    fn begin_reading(&self, range: Range<u64>) {
        let len = NonZeroU64::new(range.end.saturating_sub(range.start));
        if len.is_some() {
            let _ = fadvise(&self.file, range.start, len, Advice::WillNeed);
        }
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(pwritev(&self.file, slices, offset)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn begin_writeback(&self, range: Range<u64>) {
        // Linux starts to write what is dirty before it drops what is clean, and this was just
        // written: nothing is dropped. If it does nothing the sync does it all.
        let len = NonZeroU64::new(range.end.saturating_sub(range.start));
        if len.is_some() {
            let _ = fadvise(&self.file, range.start, len, Advice::DontNeed);
        }
    }

    fn forget_cached(&self, range: Range<u64>) -> io::Result<()> {
        match NonZeroU64::new(range.end.saturating_sub(range.start)) {
            // Without a length the kernel would forget all to the end of the file.
            None => Ok(()),
            len => Ok(fadvise(&self.file, range.start, len, Advice::DontNeed)?),
        }
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
    use crate::disk::{durable_replace, read_exact_at, staged_path, write_all_at};

    #[test]
    fn what_is_written_in_many_slices_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealFile::open(&dir.path().join("f"), OpenMode::CreateNew).unwrap();
        let pieces: Vec<Vec<u8>> = (0..3000_u32).map(|n| n.to_be_bytes()[1..].to_vec()).collect();
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|p| IoSlice::new(p)).collect();
        write_all_at(&file, &mut slices, 5).unwrap();
        let mut read = vec![0; 9000];
        read_exact_at(&file, &mut read, 5).unwrap();
        assert_eq!(read, pieces.concat());
        let beyond = read_exact_at(&file, &mut [0; 2], 9004).unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_replaced_file_is_whole_and_a_stray_from_a_crash_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        fs::write(staged_path(&path), "half of someth").unwrap();
        durable_replace(&RealDisk, &path, b"one").unwrap();
        durable_replace(&RealDisk, &path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(RealDisk.list(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn directories_are_made_with_those_above_and_making_them_again_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        RealDisk.create_dir(&deep).unwrap();
        RealDisk.create_dir(&deep).unwrap();
        assert!(deep.is_dir());
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(RealDisk.create_dir(&dir.path().join("file/x")).is_err());
    }

    #[test]
    fn a_lock_is_one_holders_at_a_time_and_needs_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert_eq!(RealDisk.lock(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&path, "").unwrap();
        let held = RealDisk.lock(&path).unwrap();
        assert_eq!(RealDisk.lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        RealDisk.lock(&path).unwrap();
    }

    #[test]
    fn a_spool_file_has_no_name_and_holds_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let named = Arc::new(RealFile::from(named_for_a_moment(dir.path()).unwrap()));
        for file in [RealDisk.spool(dir.path()).unwrap(), named] {
            write_all_at(&*file, &mut [IoSlice::new(b"spooled")], 3).unwrap();
            file.begin_writeback(0..10);
            let mut read = [0; 10];
            read_exact_at(&*file, &mut read, 0).unwrap();
            assert_eq!(&read, b"\0\0\0spooled");
            assert!(RealDisk.list(dir.path()).unwrap().is_empty());
        }
        assert!(RealDisk.spool(&dir.path().join("missing")).is_err());
    }
}
