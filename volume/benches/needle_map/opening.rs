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
    sync::Arc,
};

use dulse_shared::clock::Clock;
use dulse_volume::{
    disk::{DataDir, VolumeName},
    engine::{
        open::{Discovered, Opener},
        sidecar::{Checkpoint, Found, Sidecar},
    },
    format::{IndexRow, OffsetWidth},
};

use crate::{Figures, memory::resident_bytes, rig, workload::Workload};

/// Seconds from the files to the open volume, and its memory.
pub fn measure(workload: &Workload, needles: u64) -> Result<Figures, Box<dyn Error>> {
    let temp = tempfile::tempdir()?;
    let (dir, opener, name) = (rig::open_dir(temp.path())?, rig::opener(), rig::name()?);
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

fn write_volume(
    opener: &Opener,
    dir: &Arc<DataDir>,
    name: &VolumeName,
    workload: &Workload,
    needles: u64,
) -> Result<(), Box<dyn Error>> {
    rig::create(opener, dir, name)?;
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
