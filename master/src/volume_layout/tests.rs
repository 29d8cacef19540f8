//! Whatever the cluster looks like, a picked volume takes writes.

use std::time::Duration;

use dulse_shared::{
    clock::BootTime,
    wire::{Heartbeat, Incarnation, LocalState, Member, VolumeReport, VolumeState},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::*;
use crate::{
    cluster_state::{ClusterState, Command, Outcome},
    placement::LocationWish,
    testing::{LIMIT, foreign, heartbeat, plain_layout, report, server, volume},
    topology::Topology,
};

fn created(state: &mut ClusterState, servers: &[u128]) -> Vec<VolumeConfig> {
    let key = plain_layout();
    let members = servers.iter().map(|n| vec![(server(*n), Incarnation(1))]);
    let outcome = state.apply(&Command::CreateVolumes {
        collection: key.collection,
        placement: key.placement,
        ttl: key.ttl,
        disk: key.disk,
        members: members.collect(),
    });
    match outcome {
        Outcome::Volumes { configs } => configs,
        other => panic!("{other:?}"),
    }
}

fn standing(state: &ClusterState, heartbeat: Option<Heartbeat>) -> Standing {
    let mut topology = Topology::default();
    if let Some(heartbeat) = heartbeat {
        topology.receive(heartbeat, BootTime::default()).unwrap();
    }
    let layouts = Layouts::build(state, &topology, LIMIT);
    layouts.volumes[&volume(1)].standing
}

#[test]
fn every_reason_not_to_write_is_told() {
    let mut state = ClusterState::default();
    created(&mut state, &[1]);
    let says = |change: fn(&mut VolumeReport)| {
        let mut report = report(1);
        change(&mut report);
        standing(&state, Some(heartbeat(1, vec![report])))
    };
    assert_eq!(says(|_| {}), Standing::Writable);
    assert_eq!(says(|r| r.size_bytes = LIMIT), Standing::Full);
    assert_eq!(says(|r| r.local = LocalState::Full), Standing::Full);
    assert_eq!(says(|r| r.local = LocalState::Expired), Standing::Expired);
    assert_eq!(says(|r| r.local = LocalState::LowSpace), Standing::LowSpace);
    assert_eq!(says(|r| r.local = LocalState::Corrupt), Standing::Corrupt);
    assert_eq!(says(|r| r.local = LocalState::Duplicate), Standing::Duplicate);
    assert_eq!(says(|r| r.local = LocalState::Damaged), Standing::Damaged);
    assert_eq!(says(|r| r.local = LocalState::Failed), Standing::Failed);
    assert_eq!(says(|r| r.epoch = Epoch(0)), Standing::Behind);
    assert_eq!(says(|r| r.collection = "pics".parse().unwrap()), Standing::OtherKind);
    assert_eq!(standing(&state, None), Standing::ServerGone);
    assert_eq!(standing(&state, Some(heartbeat(1, vec![]))), Standing::Creating);
    let restarted = Heartbeat { incarnation: Incarnation(2), ..heartbeat(1, vec![]) };
    assert_eq!(standing(&state, Some(restarted)), Standing::NotThere);
    let other = heartbeat(2, vec![report(1)]);
    assert_eq!(standing(&state, Some(other)), Standing::ServerGone, "not a member");
    let stopping = Heartbeat { stopping: true, ..heartbeat(1, vec![report(1)]) };
    assert_eq!(standing(&state, Some(stopping)), Standing::Stopping);
}

#[test]
fn admitted_volumes_are_closed_or_miss_copies_and_stay_readable() {
    for (placement, expected) in [("000", Standing::Closed), ("001", Standing::MissingCopies)] {
        let mut state = ClusterState::default();
        let foreign = foreign(1, placement);
        state.apply(&Command::AdmitVolume {
            id: foreign.id,
            collection: foreign.collection,
            placement: foreign.placement,
            ttl: foreign.ttl,
            disk: foreign.disk,
            server: server(1),
            incarnation: Incarnation(1),
        });
        let mut topology = Topology::default();
        let brought = VolumeReport { placement: foreign.placement, ..report(1) };
        topology.receive(heartbeat(1, vec![brought]), BootTime::default()).unwrap();
        let layouts = Layouts::build(&state, &topology, LIMIT);
        let placed = &layouts.volumes[&volume(1)];
        assert_eq!((placed.standing, placed.holders.len()), (expected, 1));
        assert!(layouts.layouts.values().all(|layout| layout.writable.ids().is_empty()));
    }
}

/// A volume server's state in a drawn cluster.
fn drawn_report(n: u32, rng: &mut SmallRng) -> VolumeReport {
    use LocalState::{Damaged, Duplicate, Expired, Failed, Full, LowSpace, Ready};
    let unwilling = [Full, Expired, LowSpace, Duplicate, Damaged, Failed];
    let locals = [[Ready; 9].as_slice(), &unwilling].concat();
    VolumeReport {
        local: locals[rng.random_range(0..locals.len())],
        size_bytes: rng.random_range(0..LIMIT * 5 / 4),
        epoch: Epoch(if rng.random_bool(0.9) { 1 } else { 2 }),
        ..report(n)
    }
}

fn drawn_state(rng: &mut SmallRng) -> ClusterState {
    let mut state = ClusterState::default();
    let servers: Vec<u128> = (0..12).map(|_| rng.random_range(1..5)).collect();
    created(&mut state, &servers);
    for config in state.volumes.values_mut().map(Arc::make_mut) {
        config.closed = rng.random_bool(0.2);
        config.epoch = Epoch(if rng.random_bool(0.9) { 1 } else { 2 });
        if rng.random_bool(0.2) {
            let reason = dulse_shared::wire::ReadOnlyReason::MissingCopies;
            config.state = VolumeState::ReadOnly { reason };
        }
        if rng.random_bool(0.2) {
            let server = server(rng.random_range(1..5));
            config.members.push(Member { server, slot: 1 });
        }
    }
    state
}

fn takes_writes(config: &VolumeConfig, topology: &Topology) -> bool {
    !config.closed
        && config.state == VolumeState::Writable
        && config.members.iter().all(|member| {
            let Some(server) = topology.server(member.server) else {
                return false;
            };
            let report = server.volumes.get(&config.id);
            server.is_alive
                && !server.stopping
                && report.is_some_and(|report| {
                    report.local == LocalState::Ready
                        && report.epoch == config.epoch
                        && report.size_bytes < LIMIT
                })
        })
}

#[test]
fn exactly_the_volumes_that_take_writes_are_picked() {
    let (mut picked_any, mut passed_over) = (0, 0);
    for seed in 0..300 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let state = drawn_state(&mut rng);
        let mut topology = Topology::default();
        for n in 1..5 {
            let has_it =
                |config: &&VolumeConfig| config.members.iter().any(|m| m.server == server(n));
            let mine: Vec<u32> = state.configs().filter(has_it).map(|c| c.id.as_u32()).collect();
            let mut reports: Vec<_> = mine.iter().map(|id| drawn_report(*id, &mut rng)).collect();
            reports.retain(|_| rng.random_bool(0.9));
            let heard = Duration::from_millis(rng.random_range(0..3000));
            let heartbeat = Heartbeat { stopping: rng.random_bool(0.1), ..heartbeat(n, reports) };
            topology.receive(heartbeat, BootTime::default().plus(heard)).unwrap();
        }
        topology.expire(BootTime::default().plus(Duration::from_millis(3000)));
        let layouts = Layouts::build(&state, &topology, LIMIT);
        let writable = layouts.layouts.get(&plain_layout()).map(|l| l.writable.ids().to_vec());
        let expected = state.volumes.values().filter(|c| takes_writes(c, &topology));
        let expected: Vec<VolumeId> = expected.map(|config| config.id).collect();
        assert_eq!(writable.unwrap_or_default(), expected, "seed {seed}");
        passed_over += state.volumes.len() - expected.len();
        for turn in 0..20 {
            let avoid: Vec<VolumeId> = expected.iter().take(2).copied().collect();
            let wish = LocationWish::default();
            let wanted =
                Wanted { avoid: &avoid, wish: &wish, turn: Turn(turn), expected_bytes: &|_| 0 };
            let picked = layouts.pick_writable(&plain_layout(), &wanted, &mut rng);
            assert_eq!(picked.is_some(), expected.len() > avoid.len(), "seed {seed}");
            if let Some((volume, place)) = picked {
                picked_any += 1;
                let id = volume.id;
                assert!(expected.contains(&id) && !avoid.contains(&id), "seed {seed}");
                assert!(layouts.volumes[&id].holders.contains(place), "seed {seed}");
            }
        }
    }
    assert!(picked_any > 1000 && passed_over > 1000, "the drawn clusters are varied");
}
