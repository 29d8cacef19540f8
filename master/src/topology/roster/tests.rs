//! The roster under replays, gaps, restarts and silence: whatever order reports come in, it ends
//! up with what the servers have.

use std::{collections::BTreeMap, time::Duration};

use dulse_shared::{
    clock::BootTime,
    id::VolumeId,
    wire::{Heartbeat, Incarnation, LocalState, VolumeReport},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::*;
use crate::testing::{heartbeat, report, server, volume};

fn at(millis: u64) -> BootTime {
    BootTime::default().plus(Duration::from_millis(millis))
}

fn ids(topology: &Topology) -> Vec<u32> {
    let volumes = topology.servers().flat_map(|server| server.volumes.keys());
    volumes.map(|id| id.as_u32()).collect()
}

fn delta(seq: u64, since: u64, volumes: Vec<VolumeReport>, gone: Vec<VolumeId>) -> Heartbeat {
    Heartbeat { seq, since, gone, ..heartbeat(1, volumes) }
}

#[test]
fn a_replay_changes_nothing_and_a_gap_asks_for_everything() {
    let mut topology = Topology::default();
    let full = heartbeat(1, vec![report(1)]);
    let received = topology.receive(full.clone(), at(0)).unwrap();
    assert_eq!((received.acknowledged, received.change), (1, Change::Layout));
    let newer = delta(2, 1, vec![report(2)], vec![volume(1)]);
    topology.receive(newer.clone(), at(500)).unwrap();
    assert_eq!(ids(&topology), [2]);
    for replay in [full, newer] {
        let received = topology.receive(replay, at(600)).unwrap();
        assert_eq!((received.acknowledged, received.change), (2, Change::None));
    }
    let gap = delta(5, 4, vec![report(9)], vec![]);
    assert_eq!(topology.receive(gap, at(700)).unwrap().acknowledged, 0);
    assert_eq!(ids(&topology), [2]);
}

#[test]
fn only_sizes_is_less_than_a_new_state_of_a_volume() {
    let mut topology = Topology::default();
    topology.receive(heartbeat(1, vec![report(1)]), at(0)).unwrap();
    let bigger = VolumeReport { size_bytes: 999, ..report(1) };
    let received = topology.receive(delta(2, 1, vec![bigger.clone()], vec![]), at(1));
    assert_eq!(received.unwrap().change, Change::Sizes);
    let full = VolumeReport { local: LocalState::Full, ..bigger };
    let received = topology.receive(delta(3, 2, vec![full], vec![]), at(2));
    assert_eq!(received.unwrap().change, Change::Layout);
}

#[test]
fn a_silent_server_is_dead_until_it_speaks_again() {
    let mut topology = Topology::default();
    topology.receive(heartbeat(1, vec![report(1)]), at(0)).unwrap();
    assert!(topology.expire(at(1999)).is_empty());
    assert_eq!(topology.expire(at(2000)), [server(1)]);
    assert!(topology.expire(at(2001)).is_empty(), "it dies once");
    assert!(topology.live_report(server(1), volume(1)).is_none());
    let received = topology.receive(delta(2, 1, vec![], vec![]), at(3000));
    assert_eq!(received.unwrap().change, Change::Layout);
    assert!(topology.live_report(server(1), volume(1)).is_some());
    assert_eq!(topology.expire(at(9000)), [server(1)]);
    topology.expire(at(100_000_000));
    assert_eq!(topology.servers().count(), 0, "forgotten after a day");
}

#[test]
fn a_new_run_starts_from_nothing_and_an_old_one_is_turned_away_while_it_lives() {
    let mut topology = Topology::default();
    let with = |incarnation, since| Heartbeat {
        incarnation: Incarnation(incarnation),
        since,
        seq: since + 1,
        ..heartbeat(1, vec![report(1)])
    };
    topology.receive(with(5, 0), at(0)).unwrap();
    let received = topology.receive(with(6, 3), at(100)).unwrap();
    assert_eq!((received.acknowledged, received.change), (0, Change::Layout));
    assert_eq!(topology.alive().count(), 0, "not used before its full report");
    topology.receive(with(6, 0), at(200)).unwrap();
    let twin = topology.receive(with(5, 0), at(300)).unwrap_err();
    assert!(matches!(twin, Rejection::Twin { .. }));
    assert_eq!(topology.server(server(1)).unwrap().incarnation, Incarnation(6));
    assert!(topology.receive(with(5, 0), at(5000)).is_ok(), "its clock went back");
}

#[test]
fn a_created_volume_outlives_a_full_report_that_was_written_before_it() {
    let mut topology = Topology::default();
    topology.receive(heartbeat(1, vec![]), at(0)).unwrap();
    let change = topology.fold_creation(server(1), Incarnation(1), report(7), at(100));
    assert_eq!(change, Change::Layout);
    assert!(!topology.server(server(1)).unwrap().counts_in_slots(volume(7)));
    topology.receive(delta(2, 0, vec![], vec![]), at(200)).unwrap();
    assert_eq!(ids(&topology), [7]);
    topology.receive(delta(3, 0, vec![], vec![]), at(2200)).unwrap();
    assert!(ids(&topology).is_empty(), "a later full report is believed");
    topology.receive(delta(4, 3, vec![report(7)], vec![]), at(2300)).unwrap();
    assert!(topology.server(server(1)).unwrap().counts_in_slots(volume(7)));
    let stale = topology.fold_creation(server(1), Incarnation(0), report(8), at(2400));
    assert_eq!(stale, Change::None, "another run of the server answered");
}

/// A server whose volumes come and go, and the heartbeats it writes.
struct Sender {
    seq: u64,
    acknowledged: u64,
    now: BTreeMap<VolumeId, VolumeReport>,
    /// What was so at each report.
    then: BTreeMap<u64, BTreeMap<VolumeId, VolumeReport>>,
}

impl Sender {
    fn write(&mut self) -> Heartbeat {
        self.seq += 1;
        self.then.insert(self.seq, self.now.clone());
        let base = self.then.get(&self.acknowledged).cloned().unwrap_or_default();
        let changed = self.now.iter().filter(|(id, report)| base.get(*id) != Some(*report));
        let volumes = changed.map(|(_, report)| report.clone()).collect();
        let gone = base.keys().filter(|id| !self.now.contains_key(*id)).copied();
        delta(self.seq, self.acknowledged, volumes, gone.collect())
    }
}

#[test]
fn whatever_is_lost_repeated_or_late_the_topology_ends_up_with_what_the_server_has() {
    for seed in 0..500 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut topology = Topology::default();
        let mut sender =
            Sender { seq: 0, acknowledged: 0, now: BTreeMap::new(), then: BTreeMap::new() };
        let mut late: Vec<Heartbeat> = Vec::new();
        for step in 0..60 {
            let id = rng.random_range(1..6);
            if rng.random_bool(0.5) {
                let size_bytes = rng.random_range(8..99);
                let report = VolumeReport { size_bytes, ..report(id) };
                sender.now.insert(volume(id), report);
            } else {
                sender.now.remove(&volume(id));
            }
            let written = sender.write();
            if rng.random_bool(0.3) {
                late.push(written.clone());
            }
            if rng.random_bool(0.6) {
                let received = topology.receive(written, at(step * 10)).unwrap();
                if rng.random_bool(0.7) {
                    sender.acknowledged = received.acknowledged;
                }
            }
            if !late.is_empty() && rng.random_bool(0.4) {
                let index = rng.random_range(0..late.len());
                topology.receive(late[index].clone(), at(step * 10)).unwrap();
            }
        }
        while sender.acknowledged != sender.seq || sender.seq == 0 {
            let written = sender.write();
            sender.acknowledged = topology.receive(written, at(1000)).unwrap().acknowledged;
        }
        let known = &topology.server(server(1)).unwrap().volumes;
        assert_eq!(*known, sender.now, "seed {seed}");
    }
}

#[test]
fn a_volume_that_was_made_and_is_in_no_report_for_long_is_not_there() {
    let mut topology = Topology::default();
    topology.receive(heartbeat(1, vec![]), at(0)).unwrap();
    topology.fold_creation(server(1), Incarnation(1), report(1), at(100));
    topology.receive(delta(2, 1, vec![], vec![]), at(2000)).unwrap();
    assert_eq!(ids(&topology), [1], "the report may have been written before");
    let received = topology.receive(delta(3, 2, vec![], vec![]), at(2100)).unwrap();
    assert_eq!((ids(&topology), received.change), (Vec::new(), Change::Layout));
    let server = topology.server(server(1)).unwrap();
    assert!(server.ever_had(volume(1)), "no empty volume takes its place");
}

#[test]
fn a_run_that_was_found_dead_is_dead_until_it_is_heard_again() {
    let mut topology = Topology::default();
    topology.receive(heartbeat(1, Vec::new()), at(0)).unwrap();
    let run = Incarnation(1);
    assert_eq!(topology.declare_dead(server(1), Incarnation(0)), Change::None);
    assert_eq!(topology.declare_dead(server(2), run), Change::None);
    assert!(topology.server(server(1)).unwrap().is_alive);
    assert_eq!(topology.declare_dead(server(1), run), Change::Layout);
    let known = topology.server(server(1)).unwrap();
    assert_eq!((known.is_alive, known.loss), (false, Some(Loss::Died)));
    assert_eq!(topology.declare_dead(server(1), run), Change::None, "it is dead already");
    let next = Heartbeat { incarnation: Incarnation(2), ..heartbeat(1, Vec::new()) };
    topology.receive(next, at(1)).unwrap();
    let known = topology.server(server(1)).unwrap();
    assert_eq!((known.is_alive, known.loss), (true, None));
    assert_eq!(topology.declare_dead(server(1), run), Change::None, "an older run");
}
