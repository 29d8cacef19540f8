//! The runs: many small clusters, some larger ones, and each invariant broken once.
//!
//! `DULSE_SIMULATION_SEEDS` says how many small clusters, `DULSE_SIMULATION_FIRST` from which seed
//! on. The largest cluster runs with `-- --ignored simulation`.

use super::{
    flaw::Flaw,
    invariants::{Checked, Violation},
    world::{Size, World},
};

/// Steps between two times at which faults cease and everybody is heard.
const STEPS_BETWEEN_SETTLING: usize = 12;

fn run(seed: u64, size: Size, flaw: Option<Flaw>) -> Checked {
    let mut world = World::new(seed, size, flaw);
    world.settle();
    for step in 1..=size.steps {
        world.step()?;
        if step % STEPS_BETWEEN_SETTLING == 0 || step == size.steps {
            world.settle();
            world.check_settled()?;
            world.reach_fixed_point()?;
            world.settle();
            world.check_settled()?;
        }
    }
    Ok(())
}

fn small(seed: u64) -> Size {
    let servers = 2 + u128::from(seed % 7);
    Size { servers, slots: 4 + u32::try_from(seed % 5).unwrap(), steps: 96 }
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn assert_holds(seed: u64, size: Size) {
    if let Err(Violation { invariant, detail }) = run(seed, size, None) {
        panic!(
            "{invariant} does not hold with seed {seed}: {detail}; run again with \
             DULSE_SIMULATION_FIRST={seed} DULSE_SIMULATION_SEEDS=1"
        );
    }
}

#[test]
fn whatever_happens_in_small_clusters_the_invariants_hold() {
    let first = from_environment("DULSE_SIMULATION_FIRST", 0);
    let seeds = from_environment("DULSE_SIMULATION_SEEDS", 500);
    for seed in first..first + seeds {
        assert_holds(seed, small(seed));
    }
}

#[test]
fn they_hold_in_a_cluster_of_a_hundred_servers() {
    assert_holds(1, Size { servers: 100, slots: 40, steps: 24 });
}

#[test]
#[ignore = "takes minutes"]
fn they_hold_in_a_cluster_of_a_thousand_servers_and_a_hundred_thousand_volumes() {
    let size = Size { servers: 1_000, slots: 400, steps: 12 };
    let mut world = World::new(1, size, None);
    world.settle();
    world.fill(100_000).unwrap_or_else(|violation| panic!("{violation:?}"));
    assert!(world.state().volumes.len() >= 100_000);
    for _ in 0..size.steps {
        world.step().unwrap_or_else(|violation| panic!("{violation:?}"));
    }
    world.settle();
    world.check_settled().unwrap_or_else(|violation| panic!("{violation:?}"));
    world.reach_fixed_point().unwrap_or_else(|violation| panic!("{violation:?}"));
}

/// Breaks a rule in one cluster after another until an invariant notices: it has to be this one.
fn assert_noticed(flaw: Flaw, expected: &str) {
    for seed in 0..100 {
        if let Err(Violation { invariant, detail }) = run(seed, small(seed), Some(flaw)) {
            assert_eq!(invariant, expected, "seed {seed}: {detail}");
            return;
        }
    }
    panic!("{flaw:?} was not noticed in 100 clusters");
}

#[test]
fn each_invariant_notices_when_its_rule_is_broken() {
    for (flaw, invariant) in [
        (Flaw::TwoCopiesOnOneServer, "copies_are_on_different_servers"),
        (Flaw::AnyServerWillDo, "placement_is_right"),
        (Flaw::GivesUpPlacing, "placement_is_right"),
        (Flaw::VolumeIdsAgain, "volume_ids_are_used_once"),
        (Flaw::KeysAgain, "keys_are_granted_once"),
        (Flaw::GapsAreIgnored, "topologies_show_what_is"),
        (Flaw::RepeatsCount, "repeats_change_nothing"),
        (Flaw::MissedCommand, "machines_agree"),
        (Flaw::SnapshotForgetsDeleted, "machines_agree"),
        (Flaw::StaleLayouts, "writable_is_confirmed"),
        (Flaw::ContradictionsHidden, "contradictions_are_shown_and_not_believed"),
        (Flaw::ContradictionsBelieved, "contradictions_are_shown_and_not_believed"),
        (Flaw::NothingIsDone, "plans_reach_a_fixed_point"),
        (Flaw::CapacityCountedTwice, "capacity_adds_up"),
    ] {
        assert_noticed(flaw, invariant);
    }
}
