//! Opening a volume of this cluster whose checkpoint covers all of it: the index is read, its
//! checksum verified, and the map made.
//!
//! The volume file is as long as the needles would make it, and sparse: nothing behind the
//! checkpoint is left to read.

use std::{
    error::Error,
    fs,
    io::{BufWriter, Write},
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
    config::{DirConfig, MinFreeSpace},
    disk::{DataDir, Disk, RealDisk, VolumeName, open_data_dirs},
    engine::{
        metrics::EngineMetrics,
        open::{Discovered, Opener},
        sidecar::{Checkpoint, Found, Sidecar},
        stamp::StampSource,
        volume::Shared,
    },
    format::{IndexRow, OffsetWidth},
};

use crate::{Figures, memory::resident_bytes, workload::Workload};

/// Seconds from the files to the open volume, and its memory.
pub fn measure(workload: &Workload, needles: u64) -> Result<Figures, Box<dyn Error>> {
    let temp = tempfile::tempdir()?;
    let config = DirConfig { path: temp.path().to_owned(), disk: DiskType::default() };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let dirs = open_data_dirs(&disk, &[config], MinFreeSpace::Bytes(0))?;
    let dir = dirs.into_iter().next().ok_or("no directory")?;
    let dir = Arc::new(dir);
    let opener = opener();
    let id = VolumeId::new(1).ok_or("0 is no volume")?;
    let name = VolumeName { collection: Collection::default(), id };
    write_volume(&opener, &dir, &name, workload, needles)?;
    let before = resident_bytes()?;
    let clock = Clock::System;
    let start = clock.boot();
    let Discovered::Own(volume) = opener.discover(&dir, &name)? else {
        return Err("the volume is not taken for ours".into());
    };
    let seconds = clock.since(start).as_secs_f64();
    let resident = resident_bytes()?.saturating_sub(before);
    let (keys, _) = volume.keys();
    if keys as u64 != needles {
        return Err(format!("{keys} keys were read, not {needles}").into());
    }
    Ok(vec![("opened", seconds), ("opened_bytes", resident as f64 / keys as f64)])
}

fn opener() -> Opener {
    let shared = Shared {
        stamps: StampSource::new(Clock::System),
        volume_size_limit_bytes: AtomicU64::new(0),
        max_needle_bytes: 256 << 20,
        metrics: EngineMetrics::register(&Metrics::default()),
    };
    Opener { shared: Arc::new(shared), default_width: OffsetWidth::Five }
}

fn write_volume(
    opener: &Opener,
    dir: &Arc<DataDir>,
    name: &VolumeName,
    workload: &Workload,
    needles: u64,
) -> Result<(), Box<dyn Error>> {
    let cluster = ClusterId::from(1);
    dir.join(cluster)?;
    opener.create(dir, cluster, config(dir, name))?;
    let (dat_len, idx_len, idx_crc32c) = write_index(&name.idx(dir.path()), workload, needles)?;
    fs::OpenOptions::new().write(true).open(name.dat(dir.path()))?.set_len(dat_len)?;
    let path = name.sidecar(dir.path());
    let Found::Sidecar(mut sidecar) = Sidecar::decode(&fs::read(&path)?) else {
        return Err("the new volume's sidecar cannot be read".into());
    };
    sidecar.checkpoint = Checkpoint { dat_len, idx_len, idx_crc32c, ..Checkpoint::default() };
    sidecar.write(&**dir.files(), &path)?;
    Ok(())
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

/// The length of the volume file, and length and checksum of its index.
fn write_index(
    path: &Path,
    workload: &Workload,
    needles: u64,
) -> Result<(u64, u64, u32), Box<dyn Error>> {
    let mut file = BufWriter::with_capacity(1 << 20, fs::File::create(path)?);
    let (mut dat_len, mut idx_len, mut crc, mut failed) = (8, 0, 0, None);
    let mut bytes = Vec::new();
    workload.rows(needles, &mut |key, entry| {
        bytes.clear();
        let row = IndexRow { key, offset: entry.offset, size: entry.size };
        row.write_to(&mut bytes, OffsetWidth::Five);
        failed = failed.take().or(file.write_all(&bytes).err());
        crc = crc32c::crc32c_append(crc, &bytes);
        idx_len += bytes.len() as u64;
        dat_len = dat_len.max(entry.offset.as_bytes() + 8);
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    file.flush()?;
    Ok((dat_len, idx_len, crc))
}
