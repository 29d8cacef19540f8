//! The trash of a data directory: what was cut off, set aside or deleted, so that nothing is thrown
//! away unseen.
//!
//! An entry's name says what it was and when it came, `7.1795305600000000000.torn`: a rename keeps
//! the time of modification, so that cannot tell its age. Only what has such a name is ever removed,
//! in [`Trash::purge`] and nowhere else, but for a copy that could not be finished.

mod deleted_volume;
mod purge;

use std::{
    io::{self, IoSlice, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::file::{Disk, OpenMode, VolumeFile, write_all_at};

const TRASH: &str = "trash";
/// Bytes that are copied at once.
const COPY_BYTES: usize = 1 << 20;
/// The end of a volume file that no write was answered for.
const TORN: &str = "torn";
/// A file that was left over from something interrupted.
const STRAY: &str = "stray";

/// A directory's trash, made when the first thing goes there.
#[derive(Clone, Debug)]
pub struct Trash {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    path: PathBuf,
}

impl Trash {
    /// The trash of the data directory `dir`.
    pub fn of(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, dir: dir.to_owned(), path: dir.join(TRASH) }
    }

    /// Whether an entry of a data directory is its trash.
    pub fn is_its_name(name: &str) -> bool {
        name == TRASH
    }

    /// Keeps a copy of `bytes`, the torn end of the volume file with this stem, durably; its path.
    /// Nothing of it is left where that fails.
    pub fn keep_torn(&self, stem: &str, now_ns: u64, bytes: &mut dyn Read) -> io::Result<PathBuf> {
        self.disk.create_dir(&self.path)?;
        let (path, file) = self.unused(&kept_name(stem, now_ns, TORN))?;
        let kept = self.copy_in(&*file, bytes);
        if kept.is_err() {
            // The original is still where it was; what stays here is purged like a whole one.
            drop(self.disk.remove(&path));
        }
        kept.map(|()| path)
    }

    fn copy_in(&self, file: &dyn VolumeFile, bytes: &mut dyn Read) -> io::Result<()> {
        let mut buffer = vec![0; COPY_BYTES];
        let mut position = 0;
        loop {
            let read = bytes.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            write_all_at(file, &mut [IoSlice::new(&buffer[..read])], position)?;
            position += read as u64;
        }
        file.sync_data()?;
        self.disk.sync_dir(&self.path)
    }

    /// Moves the leftover at `path` here, durably; its new path.
    pub fn take_stray(&self, path: &Path, now_ns: u64) -> io::Result<PathBuf> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(io::ErrorKind::InvalidInput)?;
        self.disk.create_dir(&self.path)?;
        let (kept, _) = self.unused(&kept_name(name, now_ns, STRAY))?;
        self.disk.rename(path, &kept)?;
        self.disk.sync_dir(&self.path)?;
        self.disk.sync_dir(path.parent().unwrap_or(Path::new(".")))?;
        Ok(kept)
    }

    /// A name that nothing has yet, and the empty file that now has it.
    fn unused(&self, name: &str) -> io::Result<(PathBuf, Arc<dyn VolumeFile>)> {
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

    /// The names of the files here; none if there is no trash yet.
    fn names(&self) -> io::Result<Vec<String>> {
        match self.disk.list(&self.path) {
            Ok(entries) => {
                Ok(entries.into_iter().filter(|entry| !entry.is_dir).map(|e| e.name).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

fn kept_name(what: &str, now_ns: u64, kind: &str) -> String {
    format!("{what}.{now_ns}.{kind}")
}

/// What the name of an entry says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct KeptName<'a> {
    /// When it came here, in nanoseconds since 1970.
    since_ns: u64,
    /// What it was called, or the stem of the volume it is from.
    what: &'a str,
    /// What it is.
    kind: &'a str,
}

impl<'a> KeptName<'a> {
    /// `None` for a name that is not one of ours.
    fn parse(name: &'a str) -> Option<Self> {
        let (rest, last) = name.rsplit_once('.')?;
        // Of several with one name the later ones are counted.
        let is_count = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
        let (rest, kind) = if is_count { rest.rsplit_once('.')? } else { (rest, last) };
        let (what, since_ns) = rest.rsplit_once('.')?;
        let is_known = matches!(kind, TORN | STRAY) || deleted_volume::is_file_of_one(kind);
        let is_time = since_ns.bytes().all(|byte| byte.is_ascii_digit());
        let since_ns = since_ns.parse().ok()?;
        (is_known && is_time && !what.is_empty()).then_some(Self { since_ns, what, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_was_and_since_when_it_is_there() {
        let parsed = |since_ns, what, kind| Some(KeptName { since_ns, what, kind });
        for (name, expected) in [
            ("7.1795305600000000000.torn", parsed(1_795_305_600_000_000_000, "7", "torn")),
            ("my_pics_7.12.dat", parsed(12, "my_pics_7", "dat")),
            ("7.dulse.new.12.stray", parsed(12, "7.dulse.new", "stray")),
            ("7.12.torn.3", parsed(12, "7", "torn")),
            ("7.dat", None),
            ("7.12.txt", None),
            ("7.+12.torn", None),
            ("7.99999999999999999999999.torn", None),
            (".12.torn", None),
            ("7.12.", None),
            ("notes", None),
        ] {
            assert_eq!(KeptName::parse(name), expected, "{name}");
        }
    }
}
