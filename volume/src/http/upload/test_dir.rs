//! A data directory on a simulated disk, for the tests of what is received.

use std::sync::Arc;

use crate::{
    config::{DirConfig, DirLimits, MinFreeSpace},
    disk::{DataDir, Disk, open_data_dirs, simulated::SimulatedDisk},
};

pub(super) fn test_dir() -> (SimulatedDisk, DataDir) {
    let disk = SimulatedDisk::new(1);
    let files: Arc<dyn Disk> = Arc::new(disk.clone());
    let config = DirConfig::at("/data")
        .with_limits(DirLimits { max_volumes: None, min_free_space: MinFreeSpace::Bytes(4 << 20) });
    let mut dirs = open_data_dirs(&files, &[config]).unwrap();
    (disk, dirs.remove(0))
}
