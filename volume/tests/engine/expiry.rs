//! The end of a volume whose needles expire, and the delete of one version of a needle.

use std::{ops::ControlFlow, time::Duration};

use dulse_shared::{clock::Clock, id::Cookie, id::Ts, wire::LocalState};
use dulse_volume::{
    disk::simulated::{EIO, Fault, Operation, SimulatedDisk},
    engine::{
        compaction::Pace,
        expiry::Expiry,
        volume::Refusal,
        write::{Write, WriteError, Written},
    },
};

use crate::harness::{COOKIE, NOW_NS, Rig, key, needle, opener_at};

struct AtOnce;

impl Pace for AtOnce {
    fn after(&mut self, _bytes: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

const HOUR: Duration = Duration::from_secs(3600);
/// An hour and a tenth of it: what a volume with a ttl of an hour lives after its last write.
const LIFETIME: Duration = Duration::from_secs(3960);

fn expire(written: Ts) -> Write {
    Write::Expire { key: key(1), cookie: COOKIE, written }
}

fn is_read_only<T>(result: &Result<T, WriteError>) -> bool {
    matches!(result, Err(WriteError::Refused(Refusal::ReadOnly { .. })))
}

#[test]
fn an_expired_version_is_deleted_like_any_needle() {
    let mut rig = Rig::on(&SimulatedDisk::new(1));
    rig.put(1, b"brief").unwrap();
    let written = rig.read(1).unwrap();
    let deleted = rig.commit(vec![expire(written.ts)]).remove(0).unwrap();
    assert_eq!(deleted, Written::Deleted { body_bytes: u64::from(written.size) });
    assert_eq!(rig.data(1), None);
    assert!(matches!(rig.commit(vec![expire(written.ts)])[0], Err(WriteError::NotFound)));
    rig.reopen(false);
    assert_eq!(rig.data(1), None);
}

#[test]
fn a_needle_that_was_written_again_is_not_deleted_for_the_age_of_its_old_version() {
    let rig = Rig::on(&SimulatedDisk::new(1));
    rig.put(1, b"old").unwrap();
    let written = rig.read(1).unwrap().ts;
    // In the very batch, and before it.
    let together = rig.commit(vec![Write::Put(needle(1, b"new")), expire(written)]);
    assert!(together[0].is_ok() && matches!(together[1], Err(WriteError::NotFound)));
    assert!(matches!(rig.commit(vec![expire(written)])[0], Err(WriteError::NotFound)));
    let now = rig.read(1).unwrap().ts;
    for other in [Ts(now.0 - 1), Ts(now.0 + 1), Ts(0)] {
        assert!(matches!(rig.commit(vec![expire(other)])[0], Err(WriteError::NotFound)));
    }
    assert_eq!(rig.data(1).unwrap(), b"new");
    let another = Write::Expire { key: key(1), cookie: Cookie(1), written: now };
    assert!(matches!(rig.commit(vec![another])[0], Err(WriteError::CookieMismatch)));
    assert_eq!(rig.data(1).unwrap(), b"new");
}

#[test]
fn a_volume_is_over_once_its_last_write_is_a_ttl_and_a_grace_ago() {
    let rig = Rig::with_ttl(&SimulatedDisk::new(1), "1h");
    rig.put(1, b"first").unwrap();
    rig.watch(HOUR);
    // The last write counts, a delete too.
    rig.delete(1).unwrap();
    rig.watch(LIFETIME - Duration::from_secs(1));
    assert_eq!(rig.volume.expire_if_due().unwrap(), Expiry::Unchanged);
    assert_eq!(rig.volume.report().local, LocalState::Ready);
    rig.put(2, b"keeps it alive").unwrap();
    rig.watch(LIFETIME - Duration::from_secs(1));
    assert_eq!(rig.volume.expire_if_due().unwrap(), Expiry::Unchanged);
    rig.watch(Duration::from_secs(1));
    assert_eq!(rig.volume.expire_if_due().unwrap(), Expiry::Over);
    assert_eq!(rig.volume.report().local, LocalState::Expired);
    assert!(is_read_only(&rig.put(3, b"late")) && is_read_only(&rig.delete(2)));
    let written = rig.read(2).unwrap().ts;
    assert!(is_read_only(&rig.commit(vec![expire(written)])[0]));
    assert_eq!(rig.volume.expire_if_due().unwrap(), Expiry::Unchanged, "once is enough");
}

#[test]
fn a_volume_is_not_over_by_a_clock_that_is_not_believed() {
    let rig = Rig::with_ttl(&SimulatedDisk::new(1), "1h");
    let mut hourly = needle(1, b"hidden for a while");
    hourly.meta.ttl = rig.volume.ttl();
    rig.commit(vec![Write::Put(hourly)]).remove(0).unwrap();
    let look = || (rig.volume.expire_if_due().unwrap(), rig.data(1).is_some());
    rig.clock().jump_ahead(LIFETIME);
    assert_eq!(look(), (Expiry::Unchanged, false));
    rig.watch(HOUR - Duration::from_secs(1));
    assert_eq!(look(), (Expiry::Unchanged, false), "not for an hour yet");
    rig.clock().jump_back(LIFETIME);
    assert_eq!(look(), (Expiry::Unchanged, true));
    rig.put(2, b"it takes writes").unwrap();
    rig.watch(LIFETIME);
    let trust = &rig.opener.shared.clock_trust;
    let hear = |wall_ns| trust.heard("the master", wall_ns, rig.clock().boot());
    hear(rig.clock().wall_ns() - 61_000_000_000);
    assert_eq!(look(), (Expiry::Unchanged, false));
    hear(rig.clock().wall_ns());
    assert_eq!(look(), (Expiry::Over, false));
}

#[test]
fn what_is_empty_damaged_or_without_a_ttl_is_never_over() {
    let ages = Duration::from_secs(400 * 24 * 3600);
    let empty = Rig::with_ttl(&SimulatedDisk::new(1), "1h");
    let lasting = Rig::on(&SimulatedDisk::new(1));
    lasting.put(1, b"lasting").unwrap();
    let disk = SimulatedDisk::new(1);
    let mut damaged = Rig::with_ttl(&disk, "1h");
    damaged.put(1, b"damaged").unwrap();
    damaged.put(2, b"whole").unwrap();
    damaged.volume.checkpoint().unwrap();
    disk.flip(&damaged.dat(), (8 + 20) * 8);
    disk.erase(&damaged.idx());
    damaged.reopen(false);
    assert_eq!(damaged.volume.report().local, LocalState::Damaged);
    let emptied = Rig::with_ttl(&SimulatedDisk::new(1), "1h");
    emptied.put(1, b"deleted").unwrap();
    emptied.delete(1).unwrap();
    emptied.watch(HOUR);
    emptied.volume.compact(&mut AtOnce).unwrap();
    for rig in [empty, emptied, lasting, damaged] {
        rig.watch(ages);
        assert_eq!(rig.volume.expire_if_due().unwrap(), Expiry::Unchanged);
        assert_ne!(rig.volume.report().local, LocalState::Expired);
    }
}

#[test]
fn a_volume_that_is_over_stays_so_after_a_restart_with_a_clock_that_went_back() {
    for is_clean in [true, false] {
        let disk = SimulatedDisk::new(1);
        let mut rig = Rig::with_ttl(&disk, "1h");
        rig.put(1, b"brief").unwrap();
        rig.watch(LIFETIME);
        rig.volume.expire_if_due().unwrap();
        rig.opener = opener_at(Clock::manual(NOW_NS));
        rig.reopen(is_clean);
        assert_eq!(rig.volume.report().local, LocalState::Expired);
        assert!(is_read_only(&rig.put(2, b"as if nothing had been")));
    }
}

#[test]
fn an_end_that_cannot_be_written_down_is_kept_but_told_to_nobody() {
    let disk = SimulatedDisk::new(1);
    let rig = Rig::with_ttl(&disk, "1h");
    rig.put(1, b"brief").unwrap();
    rig.watch(LIFETIME);
    disk.plan(Operation::Rename, None, 0, Fault::Fails(EIO));
    assert!(rig.volume.expire_if_due().is_err());
    assert_ne!(rig.volume.report().local, LocalState::Expired);
    assert!(is_read_only(&rig.put(2, b"late")), "the sidecar may say it all the same");
    assert_eq!(rig.volume.expire_if_due().unwrap(), Expiry::Over);
    assert_eq!(rig.volume.report().local, LocalState::Expired);
}
