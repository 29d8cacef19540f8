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

/// A search that is exhausted in every run.
const SMALL: usize = 5_000_000;

#[test]
fn three_puts_on_two_members_with_a_crash_and_a_seal() {
    let scenario = Scenario::new("2 members, put put put", 2, &put(3)).with(|s| {
        s.placement = "001";
        s.faults.crashes = 1;
        s.faults.seals = 1;
    });
    holds(scenario, SMALL);
}

#[test]
fn base_delete_put_and_vacuum_on_two_members() {
    let scenario = Scenario::new("2 members, base, delete, put, vacuum", 2, &[Delete, Put]);
    let scenario = scenario.with(|s| {
        s.placement = "001";
        s.base = true;
        s.faults.crashes = 1;
        s.faults.seals = 1;
        s.faults.vacuums = 1;
    });
    holds(scenario, SMALL);
}

#[test]
fn three_puts_on_two_members_one_of_which_is_put_back() {
    let scenario = Scenario::new("2 members, put put put, rollback", 2, &put(3)).with(|s| {
        s.placement = "001";
        s.faults.rollbacks = 1;
        s.faults.seals = 1;
    });
    holds(scenario, SMALL);
}

#[test]
fn a_member_that_was_alone_is_put_back_after_a_repair() {
    let scenario = Scenario::new("1 member and a repair, rollback", 1, &put(1)).with(|s| {
        s.spares = 1;
        s.placement = "001";
        s.faults.rollbacks = 1;
        s.faults.seals = 2;
        s.faults.repairs = 1;
    });
    holds(scenario, SMALL);
}

#[test]
fn a_repair_with_a_crash() {
    let scenario = Scenario::new("2 members, put, repair, crash", 2, &put(1)).with(|s| {
        s.spares = 1;
        s.placement = "001";
        s.faults.crashes = 1;
        s.faults.seals = 1;
        s.faults.repairs = 1;
    });
    holds(scenario, SMALL);
}

#[test]
fn a_new_leader() {
    let scenario = Scenario::new("2 members, put put, new leader", 2, &put(2)).with(|s| {
        s.placement = "001";
        s.faults.leaders = 1;
        s.faults.seals = 1;
        s.asks = true;
    });
    holds(scenario, SMALL);
}

#[test]
fn duplicates_and_floors() {
    let scenario = Scenario::new("2 members, put, delete, late", 2, &[Put, Delete]).with(|s| {
        s.placement = "001";
        s.duplicates = true;
        s.faults.floors = 1;
        s.faults.vacuums = 1;
        s.faults.seals = 1;
    });
    holds(scenario, SMALL);
}

#[test]
fn two_crashes_and_two_seals() {
    let scenario = Scenario::new("2 members, put, two of each", 2, &put(1)).with(|s| {
        s.placement = "001";
        s.faults.crashes = 2;
        s.faults.seals = 2;
    });
    holds(scenario, SMALL);
}

#[test]
fn three_members() {
    let scenario = Scenario::new("3 members, put", 3, &put(1)).with(|s| {
        s.faults.crashes = 1;
        s.faults.seals = 1;
    });
    holds(scenario, SMALL);
}
