//! What lies in a directory of a volume that has no usable `.dat`.
//!
//! A creation writes the sidecar first and the volume file last, so one that was interrupted leaves
//! files in which no needle can have been: those are removed. Anything else without its `.dat` is a
//! volume that went missing, and is reported, never tidied away.

use std::{collections::BTreeSet, io, path::Path};

use super::{check::stray_names, open::read_sidecar, sidecar::Sidecar};
use crate::{
    disk::{Disk, OpenMode, VolumeFile, VolumeName},
    format::{SUPERBLOCK_LEN, Superblock},
};

/// What a volume has beside its `.dat`, in the order in which it is made.
const BESIDE: [&str; 3] = ["dulse", "vif", "idx"];
/// What an erasure-coded volume has instead of a `.dat`.
const ERASURE_CODED: &str = "ecx";

/// What became of a volume without a usable `.dat`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Remains {
    /// Its creation was interrupted: these files hold nothing.
    Unmade(Vec<String>),
    /// Its `.dat` went missing: these files speak of one.
    Lost(Vec<String>),
}

/// All of them among the `files` of a directory, in the order of their names. A volume whose files
/// cannot be looked at counts as lost if it has no `.dat`; otherwise opening it will say why. The
/// others of the directory are not concerned.
pub fn find(disk: &dyn Disk, dir: &Path, files: &BTreeSet<&str>) -> Vec<(VolumeName, Remains)> {
    let parse = |file: &&str| {
        let suffixes = ["dat", "dulse", "vif", "idx", "dulse.new", "vif.new", "idx.new"];
        suffixes.iter().find_map(|suffix| VolumeName::parse(file, suffix))
    };
    let mut names: Vec<VolumeName> = files.iter().filter_map(parse).collect();
    names.sort_by_key(|name| (name.id, name.stem()));
    names.dedup();
    let mut found = Vec::new();
    for name in names {
        match remains_of(disk, dir, files, &name) {
            Ok(Some(remains)) => found.push((name, remains)),
            Ok(None) => {}
            Err(_) if files.contains(name.with_suffix("dat").as_str()) => {}
            Err(error) => {
                tracing::warn!("volume {}: {error}", name.id);
                let beside = beside(files, &name);
                found.push((name, Remains::Lost(beside)));
            }
        }
    }
    found
}

/// What became of one volume; `None` if it has a `.dat`, or never had needles of its own here.
pub fn remains_of(
    disk: &dyn Disk,
    dir: &Path,
    files: &BTreeSet<&str>,
    name: &VolumeName,
) -> io::Result<Option<Remains>> {
    let has = |suffix: &str| files.contains(name.with_suffix(suffix).as_str());
    let has_dat = has("dat");
    let beside = beside(files, name);
    if has(ERASURE_CODED) || (has_dat && !is_without_superblock(disk, &name.dat(dir))?) {
        return Ok(None);
    }
    let staged = stray_names(name).filter(|stray| files.contains(stray.as_str()));
    let staged: Vec<String> = staged.collect();
    if !has_dat && beside.is_empty() {
        return Ok((!staged.is_empty()).then_some(Remains::Unmade(staged)));
    }
    let rows = rows_of(disk, dir, name)?;
    let sidecar = if has("dulse") { read_sidecar(disk, dir, name).ok().flatten() } else { None };
    if rows == 0 && sidecar.as_ref().is_some_and(covers_nothing) {
        let mut unmade = beside;
        unmade.extend(staged);
        if has_dat {
            unmade.push(name.with_suffix("dat"));
        }
        return Ok(Some(Remains::Unmade(unmade)));
    }
    // A `.vif` alone speaks of no needle; other programs leave such.
    let speaks_of_needles = rows > 0 || has("dulse");
    Ok((!has_dat && speaks_of_needles).then_some(Remains::Lost(beside)))
}

/// Whether a `.dat` is as its creation left it, whatever its sidecar says: it ends with its superblock,
/// was never compacted, and no row speaks of a needle.
pub fn holds_nothing(disk: &dyn Disk, dir: &Path, name: &VolumeName) -> io::Result<bool> {
    let dat = disk.open(&name.dat(dir), OpenMode::Read)?;
    let mut superblock = [0; SUPERBLOCK_LEN];
    if dat.len()? > SUPERBLOCK_LEN as u64 || rows_of(disk, dir, name)? > 0 {
        return Ok(false);
    }
    read_up_to(&*dat, &mut superblock)?;
    Ok(Superblock::parse(&superblock).is_ok_and(|superblock| superblock.compaction_revision == 0))
}

/// Bytes of a volume's index; 0 without one.
fn rows_of(disk: &dyn Disk, dir: &Path, name: &VolumeName) -> io::Result<u64> {
    match disk.open(&name.idx(dir), OpenMode::Read) {
        Ok(idx) => idx.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// What a volume has beside its `.dat`.
fn beside(files: &BTreeSet<&str>, name: &VolumeName) -> Vec<String> {
    let names = BESIDE.iter().map(|suffix| name.with_suffix(suffix));
    names.filter(|file| files.contains(file.as_str())).collect()
}

fn covers_nothing(sidecar: &Sidecar) -> bool {
    let first = SUPERBLOCK_LEN as u64;
    let checkpoint = &sidecar.checkpoint;
    let ends = [sidecar.own_from, checkpoint.dat_len, sidecar.resolved_len];
    ends.iter().all(|end| *end <= first) && checkpoint.idx_len == 0
}

/// Whether a `.dat` ends before its first needle, and its superblock was never written.
fn is_without_superblock(disk: &dyn Disk, dat: &Path) -> io::Result<bool> {
    let file = disk.open(dat, OpenMode::Read)?;
    if file.len()? > SUPERBLOCK_LEN as u64 {
        return Ok(false);
    }
    let mut superblock = [0; SUPERBLOCK_LEN];
    let read = read_up_to(&*file, &mut superblock)?;
    let is_blank = superblock.iter().all(|byte| *byte == 0);
    Ok(is_blank || read < SUPERBLOCK_LEN || Superblock::parse(&superblock).is_err())
}

fn read_up_to(file: &dyn VolumeFile, buffer: &mut [u8]) -> io::Result<usize> {
    file.read_at(buffer, 0)
}

/// Removes what an interrupted creation left, the sidecar last and once the rest is gone for good:
/// until then it says what this is.
pub fn remove(disk: &dyn Disk, dir: &Path, files: &[String]) -> io::Result<()> {
    let (sidecar, others): (Vec<&String>, Vec<&String>) =
        files.iter().partition(|file| file.ends_with(".dulse"));
    for group in [others, sidecar] {
        for file in group {
            match disk.remove(&dir.join(file)) {
                Ok(()) => {
                    tracing::info!("removed {file}, left by a creation that was interrupted");
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        disk.sync_dir(dir)?;
    }
    Ok(())
}
