//! The only place that touches files.

mod data_dir;
mod file;
mod names;

pub use data_dir::{DataDir, DataDirError, Identity, open_data_dirs};
pub use file::{
    Disk, FileRange, RealDisk, RealFile, VolumeFile, modified_at_secs, read_exact_at,
    read_small_file, replace_file, write_all_at,
};
pub use names::VolumeName;
