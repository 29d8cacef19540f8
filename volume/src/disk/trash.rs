//! The trash of a data directory: what was cut off or set aside, so that nothing is thrown away
//! unseen.

use std::{
    io::{self, IoSlice, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::file::{Disk, OpenMode, write_all_at};

const TRASH: &str = "trash";
/// Bytes that are copied at once.
const COPY_BYTES: usize = 1 << 20;

/// A directory's trash, made when the first thing goes there.
#[derive(Clone, Debug)]
pub struct Trash {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Trash {
    /// The trash of the data directory `dir`.
    pub fn of(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, path: dir.join(TRASH) }
    }

    /// Whether an entry of a data directory is its trash.
    pub fn is_its_name(name: &str) -> bool {
        name == TRASH
    }

    /// Keeps a copy of `bytes` under `name`, durably; its path.
    pub fn keep(&self, name: &str, bytes: &mut dyn Read) -> io::Result<PathBuf> {
        self.disk.create_dir(&self.path)?;
        let (path, file) = self.unused(name)?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut position = 0;
        loop {
            let read = bytes.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            write_all_at(&*file, &mut [IoSlice::new(&buffer[..read])], position)?;
            position += read as u64;
        }
        file.sync_data()?;
        self.disk.sync_dir(&self.path)?;
        Ok(path)
    }

    /// Moves the file at `path` here, durably; its new path.
    pub fn take(&self, path: &Path) -> io::Result<PathBuf> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(io::ErrorKind::InvalidInput)?;
        self.disk.create_dir(&self.path)?;
        let (kept, _) = self.unused(name)?;
        self.disk.rename(path, &kept)?;
        self.disk.sync_dir(&self.path)?;
        self.disk.sync_dir(path.parent().unwrap_or(Path::new(".")))?;
        Ok(kept)
    }

    /// A name that nothing has yet, and the empty file that now has it.
    fn unused(&self, name: &str) -> io::Result<(PathBuf, Arc<dyn super::VolumeFile>)> {
        let mut path = self.path.join(name);
        for attempt in 1_u32.. {
            match self.disk.open(&path, OpenMode::CreateNew) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    path = self.path.join(format!("{name}.{attempt}"));
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}
