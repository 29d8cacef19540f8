//! Mending what a check found, as far as nothing can be lost by it: an index is made anew from its
//! volume file, a torn tail cut and an interrupted compaction finished as opening the volume would,
//! a leftover moved to the trash.
//!
//! Damage within a volume file is never touched: what is there may be the only copy.

use std::{io, path::Path, sync::Arc};

use super::check::{DirReport, VolumeReport, check_volume};
use crate::{
    disk::{Disk, Trash, VolumeName},
    engine::{
        check::Finding,
        compaction::finish_swap,
        open::{contradiction, read_sidecar},
        sidecar::{Checkpoint, Sidecar},
        volume_files::{Files, OpenError},
    },
    format::OffsetWidth,
};

/// Mends what it can of a report, and reports what remains.
pub(super) fn repair(disk: &Arc<dyn Disk>, report: &mut DirReport, now_ns: u64) -> io::Result<()> {
    let dir = report.dir.clone();
    let trash = Trash::of(disk.clone(), &dir);
    for finding in std::mem::take(&mut report.findings) {
        match &finding {
            Finding::Stray(name) => {
                trash.take_stray(&dir.join(name), now_ns)?;
                report.repaired.push(finding.to_string());
            }
            _ => report.findings.push(finding),
        }
    }
    for volume in &mut report.volumes {
        // First of all: until then the sidecar, and each of the files, may speak of either one.
        match finish_swap(&**disk, &dir, &volume.name) {
            Ok(false) => {}
            Ok(true) => {
                let done = "the compacted files were ready to take the place of the old ones";
                *volume = remaining(disk, &dir, &volume.name, vec![done.to_owned()]);
            }
            Err(error) => {
                volume
                    .findings
                    .push(Finding::Unreadable(format!("it cannot be repaired: {error}")));
                continue;
            }
        }
        // The index is all that knows of them.
        let is_lost = |finding: &Finding| matches!(finding, Finding::LostRecord { .. });
        if volume.findings.as_slice().iter().any(is_lost) {
            continue;
        }
        let mendable = volume.findings.as_slice().iter().filter(|f| f.is_mended_by_a_new_index());
        let before: Vec<String> = mendable.map(Finding::to_string).collect();
        if before.is_empty() {
            continue;
        }
        if let Err(error) = renew_index(disk, &dir, &volume.name, &trash, now_ns) {
            volume.findings.push(Finding::Unreadable(format!("it cannot be repaired: {error}")));
            continue;
        }
        let swapped = std::mem::take(&mut volume.repaired);
        *volume = remaining(disk, &dir, &volume.name, [swapped, before].concat());
    }
    Ok(())
}

fn remaining(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    name: &VolumeName,
    before: Vec<String>,
) -> VolumeReport {
    let mut after = check_volume(disk, dir, name, &mut |_| {});
    let is_left = |text: &String| after.findings.as_slice().iter().any(|f| f.to_string() == *text);
    after.repaired = before.into_iter().filter(|text| !is_left(text)).collect();
    after
}

fn renew_index(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    name: &VolumeName,
    trash: &Trash,
    now_ns: u64,
) -> Result<(), OpenError> {
    let mut sidecar = read_sidecar(&**disk, dir, name)?;
    let files = Files::open(disk, dir, name, OffsetWidth::default())?;
    if let Some(sidecar) = &mut sidecar
        && let Some(what) = contradiction(&files.superblock, files.dat_len, sidecar)
    {
        return Err(OpenError::Contradiction { path: name.dat(dir), what });
    }
    let own_from = sidecar.as_ref().map(|sidecar| sidecar.own_from);
    let checkpoint = sidecar.as_ref().map_or_else(Checkpoint::default, |s| s.checkpoint);
    let loaded = files.load_anew(own_from, checkpoint, trash, now_ns)?;
    let Some(sidecar) = sidecar.filter(|_| loaded.damage.is_none()) else {
        return Ok(());
    };
    let first = loaded.superblock.first_needle_offset().as_bytes();
    let checkpoint = Checkpoint::covering(loaded.dat_len, first, &loaded.idx, &loaded.counters);
    let sidecar = Sidecar { checkpoint, resolved_len: loaded.dat_len, ..sidecar };
    let path = name.sidecar(dir);
    sidecar.write(&**disk, &path).map_err(|source| OpenError::Io { path, source })
}
