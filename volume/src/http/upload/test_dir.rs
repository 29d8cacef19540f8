//! A data directory on a simulated disk, for the tests of what is received.

use std::sync::Arc;

use dulse_shared::wire::DiskType;

use crate::{
    config::{DirConfig, MinFreeSpace},
    disk::{DataDir, Disk, open_data_dirs, simulated::SimulatedDisk},
};

pub(super) fn test_dir() -> (SimulatedDisk, DataDir) {
    let disk = SimulatedDisk::new(1);
    let files: Arc<dyn Disk> = Arc::new(disk.clone());
    let config = DirConfig { path: "/data".into(), disk: DiskType::default() };
    let mut dirs = open_data_dirs(&files, &[config], MinFreeSpace::Bytes(4 << 20)).unwrap();
    (disk, dirs.remove(0))
}
