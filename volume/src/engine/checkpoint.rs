//! Checkpoints: up to where a volume's files agree and are durable, so that a start reads only what
//! comes after.
//!
//! One is written by whoever holds the volume's write state, between two batches: the index is
//! synced, then the sidecar replaced. The configuration that a replica accepted is in the same file,
//! so a new one is made durable here as well.

use std::{io, sync::atomic::Ordering};

use dulse_shared::{clock::BootTime, wire::VolumeConfig};

use super::{
    fill::FillAhead,
    index_file::IndexFile,
    open::new_sidecar,
    sidecar::{Checkpoint, Generation, Sidecar},
    volume::Volume,
};

/// What only the writer touches.
#[derive(Debug)]
pub struct WriteState {
    pub(super) idx: IndexFile,
    /// Zeros behind the last record.
    pub(super) fill: FillAhead,
    /// Set once the index could not be written: it is then rebuilt at the next start.
    pub(super) idx_is_broken: bool,
    /// What the sidecar says.
    pub(super) checkpoint: Checkpoint,
    /// Set while the last attempt to replace the sidecar failed: it may be the old or the new one.
    pub(super) sidecar_is_unknown: bool,
    pub(super) checkpointed_at: BootTime,
    /// What will hold once a compaction's files have taken the place of these.
    pub(super) next: Option<Generation>,
}

impl Volume {
    /// Writes a checkpoint, so that a restart reads only what comes after.
    pub fn checkpoint(&self) -> io::Result<()> {
        let mut state = self.lock_writes();
        if self.next_checkpoint(&state) == state.checkpoint && !state.sidecar_is_unknown {
            return Ok(());
        }
        self.write_sidecar(&mut state, &self.config())
    }

    /// Brings the files to rest: cuts off the zeros behind the last record, so that other programs
    /// can read them, and writes a checkpoint.
    pub fn rest(&self) -> io::Result<()> {
        self.trim().and(self.checkpoint())
    }

    fn trim(&self) -> io::Result<()> {
        let mut state = self.lock_writes();
        let end = self.dat_len.load(Ordering::Acquire);
        if !state.fill.is_beyond(end) || self.failure.is_set() {
            return Ok(());
        }
        let dat = self.dat();
        dat.truncate(end)?;
        state.fill = FillAhead::at_rest(end);
        if let Err(error) = dat.sync_data() {
            self.fail("a sync of the volume file", &error);
        }
        Ok(())
    }

    /// Writes a checkpoint whether or not anything was appended.
    pub(super) fn write_checkpoint(&self) -> io::Result<()> {
        self.write_sidecar(&mut self.lock_writes(), &self.config())
    }

    /// How many bytes were appended since the last checkpoint, and when that was.
    pub fn uncheckpointed(&self) -> (u64, BootTime) {
        let state = self.lock_writes();
        let dat_len = self.dat_len.load(Ordering::Acquire);
        (dat_len.saturating_sub(state.checkpoint.dat_len), state.checkpointed_at)
    }

    /// Makes `config` the fence, durably, and then serves it. An older one changes nothing.
    pub fn accept_config(&self, config: VolumeConfig) -> io::Result<()> {
        let mut state = self.lock_writes();
        if config.epoch <= self.config().epoch {
            return Ok(());
        }
        self.write_sidecar(&mut state, &config)?;
        self.served.replace(config);
        Ok(())
    }

    /// Everything below `dat_len` is durable: commits sync before they count, and recovery syncs
    /// what it found. So only the index is left to sync. A deleted volume's sidecar is in the trash.
    pub(super) fn write_sidecar(
        &self,
        state: &mut WriteState,
        config: &VolumeConfig,
    ) -> io::Result<()> {
        if self.is_withdrawn() {
            return Ok(());
        }
        self.sync_index(state)?;
        let checkpoint = self.next_checkpoint(state);
        let (revision, own_from) = {
            let snapshot = self.snapshot();
            (snapshot.revision, snapshot.own_from)
        };
        let sidecar = Sidecar {
            has_expired: self.ending.is_over(),
            next: state.next,
            ..new_sidecar(self.cluster, config, own_from, revision, checkpoint)
        };
        state.sidecar_is_unknown = true;
        sidecar.write(&**self.dir.files(), &self.name.sidecar(self.dir.path()))?;
        state.sidecar_is_unknown = false;
        state.checkpoint = checkpoint;
        state.checkpointed_at = self.clock().boot();
        Ok(())
    }

    /// A sync that failed may have lost rows that the page cache still shows.
    fn sync_index(&self, state: &mut WriteState) -> io::Result<()> {
        if state.idx_is_broken {
            return Ok(());
        }
        state.idx.sync().inspect_err(|error| {
            tracing::error!(volume = %self.id(), "cannot sync the index file: {error}; it is rebuilt at the next start");
            state.idx_is_broken = true;
            self.mark_failed("a sync of the index file", error);
        })
    }

    /// Up to where the files agree: all of them, unless the volume is damaged, there twice, or its
    /// index could not be written. Then the last checkpoint stays, and the next start looks for itself.
    fn next_checkpoint(&self, state: &WriteState) -> Checkpoint {
        if self.damage.is_some() || self.duplicate.is_set() || state.idx_is_broken {
            return state.checkpoint;
        }
        let dat_len = self.dat_len.load(Ordering::Acquire);
        let first = self.superblock.first_needle_offset().as_bytes();
        Checkpoint::covering(dat_len, first, &state.idx, &self.counters())
    }
}
