//! How volumes end: those whose time is over, those that the cluster has deleted, and what is left
//! of them in the trash.
//!
//! A volume leaves the store only once its files have left their place, so that a move that fails
//! is asked for again by the next answer to a heartbeat.

use std::sync::Arc;

use dulse_shared::{
    id::{ClusterId, VolumeId},
    steady_clock::LONGEST_PERIOD,
};

use super::{Store, lock};
use crate::{
    disk::DataDir,
    engine::{expiry::Expiry, volume::Volume},
    writer,
};

/// Volumes that end, and volumes that go to the trash, at one heartbeat: each takes some syncs, and
/// the next heartbeat must not be late.
const MAX_AT_ONCE: usize = 4;

impl Store {
    /// Ends the volumes whose time is over, a few at a time.
    pub fn expire_volumes(&self) {
        let mut ended = 0;
        for volume in self.volumes() {
            // Failures are logged where they occur, once.
            ended += usize::from(matches!(volume.expire_if_due(), Ok(Expiry::Over)));
            if ended == MAX_AT_ONCE {
                return;
            }
        }
    }

    /// Takes volumes out of use that the cluster has deleted, and their files to the trash, a few
    /// at a time. Only a volume of that very cluster: another's ids are others.
    pub fn discard(&self, cluster: ClusterId, ids: &[VolumeId]) {
        if self.check_cluster(cluster).is_err() {
            return;
        }
        let ours = |id: &VolumeId| self.volume(*id).filter(|volume| volume.cluster() == cluster);
        for volume in ids.iter().filter_map(ours).take(MAX_AT_ONCE) {
            let _changing = lock(&self.0.changing);
            self.discard_one(&volume);
        }
    }

    fn discard_one(&self, volume: &Arc<Volume>) {
        let id = volume.id();
        let is_first_attempt = !volume.is_withdrawn();
        writer::close(volume);
        match volume.withdraw() {
            Ok(()) => {
                self.remove(volume);
                tracing::info!(
                    "volume {id} was deleted by the cluster: its files are in the trash"
                );
            }
            Err(error) if is_first_attempt => {
                tracing::error!(
                    "cannot move the deleted volume {id} to the trash, will try again: {error}"
                );
            }
            Err(_) => {}
        }
    }

    fn remove(&self, volume: &Arc<Volume>) {
        let mut volumes = self.0.volumes.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        volumes.remove(&volume.id());
        drop(volumes);
        self.0.changed.send_replace(());
    }

    /// Removes what has been in the trash long enough, by a clock that may be believed, or what its
    /// disk cannot do without.
    pub fn purge_trash(&self) {
        let clock = self.0.opener.shared.stamps.clock();
        let believed = self.clock_trust().secs_to_delete_by(LONGEST_PERIOD);
        // At the beginning of time nothing is old.
        let now_ns = believed.map_or(0, |secs| secs.saturating_mul(1_000_000_000));
        for dir in self.0.dirs.iter().filter(|dir| dir.failure().is_none()) {
            finish_moves(dir);
            let mut is_low = || {
                dir.measure(clock);
                dir.failure().is_none() && dir.is_low()
            };
            match dir.trash().purge(now_ns, &mut is_low) {
                Ok(removed) if removed.is_empty() => {}
                Ok(removed) => {
                    let path = dir.path().display();
                    tracing::info!(
                        "removed for good from the trash of {path}: {}",
                        removed.join(", ")
                    );
                }
                Err(error) => {
                    tracing::warn!("cannot empty the trash of {}: {error}", dir.path().display());
                }
            }
        }
    }
}

/// Finishes moves to the trash that were interrupted. At a start this comes before anything is
/// opened.
pub(super) fn finish_moves(dir: &DataDir) {
    match dir.trash().finish_moves() {
        Ok(volumes) => {
            for name in volumes {
                tracing::info!("sent what was left of the deleted volume {} to the trash", name.id);
            }
        }
        Err(error) => {
            let path = dir.path().display();
            tracing::warn!("{path}: cannot finish moving a deleted volume to the trash: {error}");
        }
    }
}
