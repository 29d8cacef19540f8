//! The volumes that have files on this server and are not served, and why.
//!
//! They are told to the masters and shown on every page: a volume that could not be opened, or whose
//! volume file went missing, is data that somebody may be missing. Their ids are taken.

use std::{collections::BTreeSet, io};

use dulse_shared::{
    id::VolumeId,
    wire::{MAX_UNSERVED, UnservedVolume, bounded_sentence},
};

use crate::{
    disk::{DataDir, VolumeName},
    engine::remains::{self, Remains},
};

/// The list, in the order in which they were found.
#[derive(Debug, Default)]
pub(crate) struct Unserved(Vec<UnservedVolume>);

impl Unserved {
    /// Notes a volume and says so in the log.
    pub(crate) fn note(&mut self, name: &VolumeName, reason: &str) {
        tracing::error!("volume {} is not served: {reason}", name.id);
        let (id, collection) = (name.id, name.collection.clone());
        self.0.push(UnservedVolume { id, collection, reason: bounded_sentence(reason) });
    }

    /// Removes what interrupted creations left in a directory, and notes the volumes whose `.dat`
    /// went missing; which those are.
    pub(crate) fn look_for_remains(&mut self, dir: &DataDir) -> io::Result<Vec<VolumeName>> {
        let mut lost = Vec::new();
        let disk = &**dir.files();
        let entries = disk.list(dir.path())?;
        let files: BTreeSet<&str> =
            entries.iter().filter(|entry| !entry.is_dir).map(|entry| entry.name.as_str()).collect();
        for (name, remains) in remains::find(disk, dir.path(), &files) {
            match remains {
                Remains::Unmade(files) => remains::remove(disk, dir.path(), &files)?,
                Remains::Lost(beside) => {
                    let reason = format!(
                        "{} is missing although {} is there: restore it from a backup, or move the \
                         rest away if it was removed on purpose",
                        name.dat(dir.path()).display(),
                        beside.join(", "),
                    );
                    self.note(&name, &reason);
                    lost.push(name);
                }
            }
        }
        Ok(lost)
    }

    /// Whether a volume's id is taken by one of them.
    pub(crate) fn has(&self, id: VolumeId) -> bool {
        self.0.iter().any(|volume| volume.id == id)
    }

    /// Why the volume with this id is not served, if it is one of them.
    pub(crate) fn reason_of(&self, id: VolumeId) -> Option<&str> {
        let volume = self.0.iter().find(|volume| volume.id == id)?;
        Some(&volume.reason)
    }

    /// What masters hear.
    pub(crate) fn reports(&self) -> Vec<UnservedVolume> {
        self.0.iter().take(MAX_UNSERVED).cloned().collect()
    }
}
