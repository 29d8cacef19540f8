//! What a large cluster costs: measured, printed, and held to limits that leave room for slow
//! machines. Run with `cargo test -p dulse-master --lib scale -- --ignored --nocapture`.

use std::{hint::black_box, time::Duration};

use dulse_shared::{
    clock::{BootTime, Clock},
    wire::{Heartbeat, VolumeReport},
};

use super::*;
use crate::{
    cluster_state::{ClusterState, Command},
    placement::LocationWish,
    testing::{dir, heartbeat, plain_layout, report_of, server},
    topology::Topology,
};

const LIMIT: u64 = 30 << 30;

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Volumes of one copy, `each` on every server, as a log entry and a snapshot would bring them.
fn agreed(servers: u128, each: usize) -> ClusterState {
    let mut state = ClusterState::default();
    let key = plain_layout();
    for n in 1..=servers {
        let command = Command::CreateVolumes {
            collection: key.collection.clone(),
            placement: key.placement,
            ttl: key.ttl,
            disk: key.disk.clone(),
            members: vec![vec![(server(n), dulse_shared::wire::Incarnation(1))]; each],
        };
        let json = serde_json::to_vec(&command).unwrap();
        state.apply(&serde_json::from_slice(&json).unwrap());
    }
    state
}

fn full_report(state: &ClusterState, n: u128) -> Heartbeat {
    let is_member = |config: &&VolumeConfig| config.members.iter().any(|m| m.server == server(n));
    let mine = state.configs().filter(is_member);
    let report = |config: &VolumeConfig| VolumeReport {
        size_bytes: u64::from(config.id.as_u32() % 100) << 28,
        live_needles: 1000,
        live_bytes: 10_000_000,
        ..report_of(config)
    };
    let mut heartbeat = heartbeat(n, mine.map(report).collect());
    heartbeat.dirs = vec![dir(200, u32::try_from(heartbeat.volumes.len()).unwrap())];
    let json = serde_json::to_vec(&heartbeat).unwrap();
    serde_json::from_slice(&json).unwrap()
}

fn reported(state: &ClusterState, servers: u128) -> Topology {
    let mut topology = Topology::default();
    for n in 1..=servers {
        topology.receive(full_report(state, n), BootTime::default()).unwrap();
    }
    topology
}

/// What one pick takes, and the counting that goes with it.
fn pick_nanos(layouts: &Layouts, clock: &Clock) -> u128 {
    let (key, wish) = (plain_layout(), LocationWish::default());
    let expected = ExpectedBytes::default();
    let picks = 200_000;
    let began = clock.boot();
    for _ in 0..picks {
        let now = clock.boot();
        let expected_bytes = |volume| expected.of(volume, now);
        let turn = Turn::at(now);
        let wanted = Wanted { avoid: &[], wish: &wish, turn, expected_bytes: &expected_bytes };
        let layout = &layouts.layouts[&key];
        black_box(layout.writable.stock(&wish));
        let (volume, place) = layouts.pick_writable(&key, &wanted, &mut rand::rng()).unwrap();
        expected.add(volume.id, layout.needle_bytes, now);
        black_box(place.clone());
    }
    clock.since(began).as_nanos() / picks
}

#[test]
#[ignore = "takes seconds, and measures"]
fn a_hundred_thousand_volumes_are_no_burden() {
    let clock = Clock::default();
    let before = resident_bytes();
    let state = agreed(1000, 100);
    let with_state = resident_bytes();
    let topology = reported(&state, 1000);
    let with_topology = resident_bytes();
    let mut layouts = Layouts::build(&state, &topology, LIMIT);
    let with_layouts = resident_bytes();
    let began = clock.boot();
    for _ in 0..10 {
        layouts = black_box(Layouts::build(&state, &topology, LIMIT));
    }
    let build = clock.since(began) / 10;
    let peak = resident_bytes();
    let few = agreed(3, 3);
    let few = Layouts::build(&few, &reported(&few, 3), LIMIT);
    let warm = pick_nanos(&few, &clock);
    let (small, large) = (pick_nanos(&few, &clock), pick_nanos(&layouts, &clock));
    let mb = |bytes: u64| bytes / 1_000_000;
    println!(
        "100,000 volumes on 1,000 servers: state {} MB, topology {} MB, layouts {} MB, {} MB in all \
         with a second picture; built in {build:?}; a pick takes {large} ns, {small} ns (first \
         {warm}) with 9 volumes on 3 servers",
        mb(with_state - before),
        mb(with_topology - with_state),
        mb(with_layouts - with_topology),
        mb(peak - before),
    );
    assert_eq!(layouts.count(|s| s == Standing::Writable), 100_000);
    assert!(peak - before < 150_000_000);
    assert!(build < Duration::from_millis(500));
}
