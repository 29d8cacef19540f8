//! The only place that touches files.

mod data_dir;
mod file;
mod names;
mod real;
pub mod simulated;
mod trash;

pub use data_dir::{
    DataDir, DataDirError, IDENTITY_FILE, Identity, lock_dir, lock_unused, open_data_dirs,
};
pub use file::{
    CACHED_AS_ONE_BYTES, DirEntry, Disk, FileRange, Lock, NoFile, OpenMode, Room, VolumeFile,
    durable_replace, read_exact_at, read_small_file, replace_file, staged_path, write_all_at,
};
pub use names::VolumeName;
pub use real::{RealDisk, RealFile};
pub use trash::Trash;
