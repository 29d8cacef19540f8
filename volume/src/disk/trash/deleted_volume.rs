//! The files of a deleted volume on their way to the trash.
//!
//! The volume file goes first, durably, and only then what lies beside it: a crash leaves either
//! the whole volume, sidecar included, or files without a volume file, which the next start sends
//! after it. A volume file without its sidecar, which would be taken for another program's, is never
//! left. All files of one deletion carry the same time.

use std::io;

use dulse_shared::id::VolumeId;

use super::{KeptName, Trash, kept_name};
use crate::disk::VolumeName;

const VOLUME_FILE: &str = "dat";
/// What may lie beside a volume file, leftovers of a compaction included: none of them may be taken
/// for a volume that is still wanted.
const BESIDE: [&str; 6] = ["dulse", "idx", "vif", "cpc", "cpd", "cpx"];

/// Whether files of a deleted volume end so.
pub(super) fn is_file_of_one(kind: &str) -> bool {
    kind == VOLUME_FILE || BESIDE.contains(&kind)
}

impl Trash {
    /// Moves a volume's files here, durably, or what an earlier attempt left of them.
    pub fn take_volume(&self, name: &VolumeName, now_ns: u64) -> io::Result<()> {
        self.disk.create_dir(&self.path)?;
        let files = self.names_beside()?;
        let dat = name.with_suffix(VOLUME_FILE);
        if files.contains(&dat) {
            let kept = self.names()?;
            let is_taken =
                |at_ns: &u64| kept.contains(&kept_name(&name.stem(), *at_ns, VOLUME_FILE));
            let at_ns = (now_ns..).find(|at_ns| !is_taken(at_ns)).unwrap_or(now_ns);
            let to = self.path.join(kept_name(&name.stem(), at_ns, VOLUME_FILE));
            self.disk.rename(&self.dir.join(&dat), &to)?;
        }
        self.take_what_lay_beside(name)
    }

    /// Finishes the moves that a crash or an error interrupted; the volumes.
    pub fn finish_moves(&self) -> io::Result<Vec<VolumeName>> {
        let kept = self.names()?;
        if kept.is_empty() {
            return Ok(Vec::new());
        }
        let files = self.names_beside()?;
        let is_moved = |name: &VolumeName| {
            !files.contains(&name.with_suffix(VOLUME_FILE)) && time_of(&kept, name).is_some()
        };
        let beside = |file: &String| BESIDE.iter().find_map(|end| VolumeName::parse(file, end));
        let mut moved: Vec<VolumeName> = files.iter().filter_map(beside).filter(is_moved).collect();
        moved.dedup();
        for name in &moved {
            self.take_what_lay_beside(name)?;
        }
        Ok(moved)
    }

    /// The ids of the volumes here.
    pub fn deleted_volumes(&self) -> io::Result<Vec<VolumeId>> {
        let kept = self.names()?;
        let parsed = kept.iter().filter_map(|kept| KeptName::parse(kept));
        let of_volumes = parsed.filter(|kept| kept.kind == VOLUME_FILE);
        let names = of_volumes
            .filter_map(|kept| VolumeName::parse_dat(&format!("{}.{VOLUME_FILE}", kept.what)));
        Ok(names.map(|name| name.id).collect())
    }

    /// Sends the other files after the volume file, once its move is durable.
    fn take_what_lay_beside(&self, name: &VolumeName) -> io::Result<()> {
        self.sync_move()?;
        let Some(at_ns) = time_of(&self.names()?, name) else {
            return Ok(());
        };
        let files = self.names_beside()?;
        for end in BESIDE {
            let file = name.with_suffix(end);
            if files.contains(&file) {
                let to = self.path.join(kept_name(&name.stem(), at_ns, end));
                self.disk.rename(&self.dir.join(&file), &to)?;
            }
        }
        self.sync_move()
    }

    fn sync_move(&self) -> io::Result<()> {
        self.disk.sync_dir(&self.path)?;
        self.disk.sync_dir(&self.dir)
    }

    fn names_beside(&self) -> io::Result<Vec<String>> {
        Ok(self.disk.list(&self.dir)?.into_iter().map(|entry| entry.name).collect())
    }
}

/// When the volume file came here last.
fn time_of(kept: &[String], name: &VolumeName) -> Option<u64> {
    let stem = name.stem();
    let parsed = kept.iter().filter_map(|kept| KeptName::parse(kept));
    let of_it = parsed.filter(|kept| kept.what == stem && kept.kind == VOLUME_FILE);
    of_it.map(|kept| kept.since_ns).max()
}
