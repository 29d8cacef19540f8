//! A data directory as it lies there: its volumes, and what is left over in it.

use std::{collections::BTreeSet, io, path::Path};

use crate::{
    disk::{DirEntry, Disk, IDENTITY_FILE, VolumeName},
    engine::{
        check::{Finding, stray_names},
        remains::{Remains, remains_of},
    },
};

/// What a volume has beside its `.dat`.
const BESIDE: [&str; 3] = ["idx", "vif", "dulse"];
/// What an interrupted compaction leaves; the marker says that it was complete.
const COMPACTED: [&str; 2] = ["cpd", "cpx"];
const COMPACTION_MARKER: &str = "cpc";
/// What an erasure-coded volume has instead of a `.dat`.
const ERASURE_CODED: &str = "ecx";

/// What lies in a directory.
#[derive(Debug)]
pub struct Directory {
    /// Its volumes, in the order of their ids.
    pub volumes: Vec<VolumeName>,
    /// What belongs to none of them.
    pub findings: Vec<Finding>,
}

impl Directory {
    /// Looks at the directory `dir`.
    pub fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Self> {
        let entries = disk.list(dir)?;
        let files: BTreeSet<&str> = entries.iter().filter_map(file_name).collect();
        let mut volumes: Vec<_> =
            files.iter().filter_map(|name| VolumeName::parse_dat(name)).collect();
        volumes.sort_by(|a, b| (a.id, a.collection.as_str()).cmp(&(b.id, b.collection.as_str())));
        let mut findings = Vec::new();
        for file in &files {
            findings.extend(finding(disk, dir, &files, file)?);
        }
        Ok(Self { volumes, findings })
    }
}

fn file_name(entry: &DirEntry) -> Option<&str> {
    (!entry.is_dir).then_some(entry.name.as_str())
}

/// What is wrong with the presence of `file`. Names that mean nothing to us are nobody's business.
fn finding(
    disk: &dyn Disk,
    dir: &Path,
    files: &BTreeSet<&str>,
    file: &str,
) -> io::Result<Option<Finding>> {
    if is_leftover(files, file) {
        return Ok(Some(Finding::Stray(file.to_owned())));
    }
    let beside = BESIDE.iter().find_map(|suffix| VolumeName::parse(file, suffix));
    let Some(name) = beside.filter(|name| !has(files, name, "dat")) else {
        return Ok(None);
    };
    if has(files, &name, ERASURE_CODED) {
        return Ok(None);
    }
    if let Some(Remains::Unmade(_)) = remains_of(disk, dir, files, &name)? {
        return Ok(Some(Finding::Stray(file.to_owned())));
    }
    Ok(Some(Finding::NoVolumeFile(file.to_owned())))
}

fn is_leftover(files: &BTreeSet<&str>, file: &str) -> bool {
    let Some(stem) = file.rsplit_once('.').map(|(stem, _)| stem) else {
        return false;
    };
    if file.strip_suffix(".new") == Some(IDENTITY_FILE) {
        return true;
    }
    let compacted = COMPACTED.iter().find_map(|suffix| VolumeName::parse(file, suffix));
    if let Some(name) = compacted {
        return !has(files, &name, COMPACTION_MARKER);
    }
    let owner = BESIDE.iter().find_map(|suffix| VolumeName::parse(stem, suffix));
    owner.is_some_and(|name| stray_names(&name).any(|stray| stray == file))
}

fn has(files: &BTreeSet<&str>, name: &VolumeName, suffix: &str) -> bool {
    files.contains(name.with_suffix(suffix).as_str())
}
