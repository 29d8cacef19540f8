//! What a server's directories hold by their sidecars, for masters that have lost what they agreed
//! on.
//!
//! Read from the disks and not from the open volumes: one that cannot be opened was agreed on too,
//! and its id stays taken. Nothing is changed.

use std::collections::{BTreeMap, BTreeSet};

use dulse_shared::{
    id::VolumeId,
    wire::{GRANTED_BELOW, HeldVolumes, VolumeConfig},
};

use super::Store;
use crate::{
    disk::{DataDir, VolumeName},
    engine::{open::read_sidecar, sidecar::Sidecar},
};

/// By which files a volume is known.
const SUFFIXES: [&str; 4] = ["dat", "dulse", "idx", "vif"];
/// Sentences at most; more are of the same kind.
const MAX_LEFT_OUT: usize = 1_000;

/// What was found so far.
#[derive(Default)]
struct Found {
    configs: BTreeMap<VolumeId, VolumeConfig>,
    ids: BTreeSet<VolumeId>,
    left_out: Vec<String>,
}

impl Store {
    /// Reads all sidecars; `masters` are those that answer.
    pub fn held_volumes(&self, masters: Vec<String>) -> HeldVolumes {
        let mut found = Found::default();
        for dir in self.data_dirs() {
            self.look_for_sidecars(dir, &mut found);
        }
        let highest = found.ids.last();
        let max_volume_id = highest.map_or(0, |id| id.as_u32());
        let keys = self.volumes().into_iter().map(|volume| volume.max_key_below(GRANTED_BELOW));
        let unserved = self.unserved();
        let unread = unserved
            .iter()
            .map(|v| format!("volume {}: needle keys in it are not counted: {}", v.id, v.reason));
        let mut left_out: Vec<String> = found.left_out.into_iter().chain(unread).collect();
        left_out.truncate(MAX_LEFT_OUT);
        HeldVolumes {
            server: self.server(),
            cluster: self.cluster(),
            volumes: found.configs.into_values().collect(),
            max_volume_id,
            max_key: keys.max().unwrap_or(0),
            masters,
            left_out,
        }
    }

    fn look_for_sidecars(&self, dir: &DataDir, found: &mut Found) {
        let path = dir.path().display();
        if let Some(reason) = dir.failure() {
            found.left_out.push(format!("{path} cannot be used: {reason}"));
            return;
        }
        match dir.files().list(dir.path()) {
            Ok(entries) => {
                let parse =
                    |name: &str| SUFFIXES.iter().find_map(|end| VolumeName::parse(name, end));
                found.ids.extend(entries.iter().filter_map(|e| Some(parse(&e.name)?.id)));
                let sidecars =
                    entries.iter().filter_map(|entry| VolumeName::parse(&entry.name, "dulse"));
                sidecars.for_each(|name| self.look_at_sidecar(dir, &name, found));
            }
            Err(error) => found.left_out.push(format!("{path} cannot be listed: {error}")),
        }
        match dir.trash().deleted_volumes() {
            Ok(ids) => found.ids.extend(ids),
            Err(error) => found.left_out.push(format!("the trash of {path}: {error}")),
        }
    }

    fn look_at_sidecar(&self, dir: &DataDir, name: &VolumeName, found: &mut Found) {
        let path = name.sidecar(dir.path());
        let sidecar = match read_sidecar(&**dir.files(), dir.path(), name) {
            Ok(Some(sidecar)) => sidecar,
            Ok(None) => {
                found.left_out.push(format!("{} cannot be read", path.display()));
                return;
            }
            Err(error) => {
                found.left_out.push(error.to_string());
                return;
            }
        };
        if let Some(reason) = self.why_not_ours(&sidecar) {
            found.left_out.push(format!("{} {reason}", path.display()));
            return;
        }
        let config = sidecar.config;
        let newer = |known: &VolumeConfig| known.epoch >= config.epoch;
        if !found.configs.get(&config.id).is_some_and(newer) {
            found.configs.insert(config.id, config);
        }
    }

    fn why_not_ours(&self, sidecar: &Sidecar) -> Option<String> {
        if self.cluster() != Some(sidecar.cluster) {
            return Some(format!("is of the cluster {}", sidecar.cluster));
        }
        let is_named = sidecar.config.names(self.server());
        (!is_named).then(|| "names other servers: it was copied here".to_owned())
    }
}
