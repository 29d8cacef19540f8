//! A data directory with one volume, without a server around it.

use std::{
    error::Error,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use dulse_shared::{
    clock::Clock,
    id::{ClusterId, Collection, ReplicaPlacement, Ttl, VolumeId},
    net::metrics::Metrics,
    wire::{DiskType, Epoch, Member, VolumeConfig, VolumeState},
};
use dulse_volume::{
    config::{DirConfig, DirLimits},
    disk::{DataDir, Disk, RealDisk, VolumeName, open_data_dirs},
    engine::{
        clock_trust::ClockTrust,
        metrics::EngineMetrics,
        open::Opener,
        stamp::StampSource,
        volume::{Shared, Volume},
    },
    format::OffsetWidth,
};

/// A new data directory.
pub fn open_dir(path: &Path) -> Result<Arc<DataDir>, Box<dyn Error>> {
    let config = DirConfig::at(path).with_limits(DirLimits::NONE);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let dirs = open_data_dirs(&disk, &[config])?;
    Ok(Arc::new(dirs.into_iter().next().ok_or("no directory")?))
}

/// The name of the volume.
pub fn name() -> Result<VolumeName, Box<dyn Error>> {
    let id = VolumeId::new(1).ok_or("0 is no volume")?;
    Ok(VolumeName { collection: Collection::default(), id })
}

/// The volume, empty.
pub fn create(
    opener: &Opener,
    dir: &Arc<DataDir>,
    name: &VolumeName,
) -> Result<Arc<Volume>, Box<dyn Error>> {
    let cluster = ClusterId::from(1);
    dir.join(cluster)?;
    Ok(opener.create(dir, cluster, config(dir, name))?)
}

/// Opens volumes that are never full.
pub fn opener() -> Opener {
    let shared = Shared {
        stamps: StampSource::new(Clock::System),
        clock_trust: ClockTrust::new(Clock::System),
        volume_size_limit_bytes: AtomicU64::new(0),
        max_needle_bytes: 256 << 20,
        metrics: EngineMetrics::register(&Metrics::default()),
    };
    Opener { shared: Arc::new(shared), default_width: OffsetWidth::Five }
}

fn config(dir: &DataDir, name: &VolumeName) -> VolumeConfig {
    VolumeConfig {
        id: name.id,
        collection: name.collection.clone(),
        placement: ReplicaPlacement::default(),
        ttl: Ttl::NONE,
        disk: DiskType::default(),
        closed: false,
        epoch: Epoch(1),
        members: vec![Member { server: dir.identity().server, slot: 0 }],
        state: VolumeState::Writable,
        last_writable: None,
        sealed_with: Vec::new(),
        decision: None,
        next_slot: 0,
    }
}
