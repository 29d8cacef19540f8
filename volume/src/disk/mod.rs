//! The only place that touches files.

mod data_dir;
mod dir_health;
mod file;
mod names;
mod open_dirs;
mod real;
mod room;
pub mod simulated;
mod trash;

pub use data_dir::{DataDir, DataDirError, IDENTITY_FILE, Identity, lock_dir, lock_unused};
pub use file::{
    CACHED_AS_ONE_BYTES, DirEntry, Disk, FileRange, Lock, NoFile, OpenMode, Room, VolumeFile,
    durable_replace, read_exact_at, read_small_file, replace_file, staged_path, write_all_at,
};
pub use names::VolumeName;
pub use open_dirs::{cluster_of, open_data_dirs};
pub use real::{RealDisk, RealFile};
pub use trash::Trash;
