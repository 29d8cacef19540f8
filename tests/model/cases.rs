//! What no order of events breaks.

use dulse_volume::replica::Kind::{self, Needle as Put, Tombstone as Delete};

use crate::{
    explore::{Found, explore},
    scenario::Scenario,
    world::Search,
};

/// Searches all of a scenario; fails with the shortest trace.
fn holds(scenario: Scenario, limit: usize) {
    let started = std::time::Instant::now();
    let name = scenario.name;
    let mut search = Search::new(scenario);
    match explore(&mut search, limit) {
        Found::Nothing { states, depth } => {
            eprintln!(
                "{name}: {states} states, depth {depth}, {:?}, servers {}",
                started.elapsed(),
                search.tables.servers.len()
            );
        }
        Found::TooMany { states, depth } => {
            panic!("{name}: more than {states} states, depth {depth}, {:?}", started.elapsed());
        }
        Found::Violation { promise, trace } => {
            panic!("{name}: {promise}:\n{}", trace.join("\n"));
        }
    }
}

fn put(count: usize) -> Vec<Kind> {
    vec![Put; count]
}

#[test]
fn a_put_on_two_members_with_a_crash_and_a_seal() {
    holds(
        Scenario::new("2 members, put", 2, &put(1)).with(|s| {
            s.faults.crashes = 1;
            s.faults.seals = 1;
        }),
        5_000_000,
    );
}

#[test]
fn two_puts_on_two_members_with_a_crash_and_a_seal() {
    holds(
        Scenario::new("2 members, put put", 2, &put(2)).with(|s| {
            s.faults.crashes = 1;
            s.faults.seals = 1;
        }),
        5_000_000,
    );
}

#[test]
fn three_puts_on_two_members_with_a_crash_and_a_seal() {
    holds(
        Scenario::new("2 members, put put put", 2, &put(3)).with(|s| {
            s.faults.crashes = 1;
            s.faults.seals = 1;
        }),
        5_000_000,
    );
}

#[test]
fn base_delete_put_and_vacuum_on_two_members() {
    holds(
        Scenario::new("2 members, base, delete, put, vacuum", 2, &[Delete, Put]).with(|s| {
            s.base = true;
            s.faults.crashes = 1;
            s.faults.seals = 1;
            s.faults.vacuums = 1;
        }),
        5_000_000,
    );
}
