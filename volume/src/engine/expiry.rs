//! The end of a whole volume: its time is over, or the cluster has deleted it.
//!
//! A volume whose needles expire is over once nothing was written to it for their ttl and a grace.
//! The decision is taken under the write lock, so that every write either came before it and
//! counts, or is refused. It is never taken back: it is in the sidecar before it is reported, so
//! that neither a clock that goes back nor a restart makes the volume take writes while the masters
//! delete it. For the same reason it is decided by a clock that may be believed alone
//! ([`super::clock_trust`]). A damaged volume is left to people: when its last needle was written is
//! unknown. So is one of two files with one id: the other may be the newer.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use super::volume::Volume;

/// How far a volume's end has come. Nothing of it is ever taken back.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// Its time is over: nothing is written any more.
    is_over: AtomicBool,
    /// The sidecar says so.
    is_durable: AtomicBool,
    /// Its files are going to the trash.
    is_withdrawn: AtomicBool,
}

impl Ending {
    /// That of a volume whose sidecar says whether its time is over.
    pub(super) fn from_sidecar(has_expired: bool) -> Self {
        let flag = || AtomicBool::new(has_expired);
        Self { is_over: flag(), is_durable: flag(), is_withdrawn: AtomicBool::default() }
    }

    /// Whether its time is over, for all that this process does.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Whether others may be told so.
    pub(super) fn is_durable(&self) -> bool {
        self.is_durable.load(Ordering::Acquire)
    }

    /// Whether its files are no longer in their place.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.is_withdrawn.load(Ordering::Acquire)
    }
}

/// What a look at a volume's time gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// It lives on, or its end is known already.
    Unchanged,
    /// It is over from now on.
    Over,
}

impl Volume {
    /// Ends the volume if its time is over by the server's clock. If that cannot be made durable,
    /// nothing is written to the volume all the same, and the next look tries again.
    pub fn expire_if_due(&self) -> io::Result<Expiry> {
        if self.ending.is_durable() || !(self.ending.is_over() || self.is_due()) {
            return Ok(Expiry::Unchanged);
        }
        let mut state = self.lock_writes();
        // A write may have come in between.
        let was_over = self.ending.is_over();
        if self.ending.is_withdrawn() || !(was_over || self.is_due()) {
            return Ok(Expiry::Unchanged);
        }
        self.ending.is_over.store(true, Ordering::Release);
        if !was_over {
            tracing::info!(volume = %self.id(), "all needles have expired: it takes no more writes and will be deleted");
        }
        self.write_sidecar(&mut state, &self.config()).inspect_err(|error| {
            if !was_over {
                tracing::warn!(volume = %self.id(), "cannot write down that it has expired, will try again: {error}");
            }
        })?;
        self.ending.is_durable.store(true, Ordering::Release);
        Ok(Expiry::Over)
    }

    /// Whether everything in it has expired, and the grace is over. Nothing has in an empty one.
    fn is_due(&self) -> bool {
        let Some(lifetime) = self.ttl().volume_lifetime() else {
            return false;
        };
        let first = self.superblock.first_needle_offset().as_bytes();
        let is_empty = self.dat_len.load(Ordering::Acquire) <= first;
        let written_at = self.counters().modified_at_secs;
        let is_sound = self.damage.is_none() && !self.failure.is_set() && !self.duplicate.is_set();
        let over_at = written_at.saturating_add(lifetime.as_secs());
        let is_over = |now_secs| over_at <= now_secs;
        is_sound
            && !is_empty
            && written_at != 0
            && self.secs_to_delete_by(lifetime).is_some_and(is_over)
    }

    /// Takes the files of a volume that the cluster has deleted to the trash, durably; its writer
    /// was closed before. From here on nothing is written to them, nor beside where they were.
    /// Repeating it finishes what was begun. Readers that hold the file go on.
    pub fn withdraw(&self) -> io::Result<()> {
        let _state = self.lock_writes();
        self.ending.is_withdrawn.store(true, Ordering::Release);
        let now_ns = self.clock().wall_ns();
        self.dir.trash().take_volume(&self.name, now_ns)
    }

    /// Whether its files are going to the trash, or are there: whoever changes files under the
    /// write lock leaves them alone then.
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.ending.is_withdrawn()
    }
}
