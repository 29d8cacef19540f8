//! Replacing a file so that a crash leaves either the old or the new one, whole.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Makes creations, renames and removals in `dir` survive a crash.
pub fn fsync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Replaces `path` by `contents`: write beside it, sync, rename over it, sync the directory.
///
/// When it returns, the new contents survive power loss; when it fails or the machine stops, the
/// old file is whole. One caller a path at a time: the name of the new file is fixed, so that a
/// crash leaves at most one stray, which the next call overwrites.
pub fn durable_replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let staged = staged_path(path);
    let mut file = File::create(&staged)?;
    file.write_all(contents)?;
    file.sync_all()?;
    std::fs::rename(&staged, path)?;
    fsync_dir(parent(path))
}

/// The directory that `path` lies in.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn staged_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_whole_and_a_stray_from_a_crash_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        std::fs::write(staged_path(&path), "half of someth").unwrap();
        durable_replace(&path, b"one").unwrap();
        durable_replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
