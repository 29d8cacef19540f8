//! What no order of events breaks.

use dulse_volume::replica::Kind::{self, Needle as Put, Tombstone as Delete};

use crate::{
    explore::{Found, explore},
    scenario::Scenario,
    world::Search,
};

/// Searches all of a scenario; fails with the shortest trace.
fn holds(scenario: Scenario, limit: usize) {
    let name = scenario.name;
    let mut search = Search::new(scenario);
    match explore(&mut search, limit) {
        Found::Nothing { states, depth } => eprintln!("{name}: {states} states, depth {depth}"),
        Found::TooMany { states, depth } => {
            panic!("{name}: more than {states} states, depth {depth}");
        }
        Found::Violation { promise, trace } => {
            panic!("{name}: {promise}:\n{}", trace.join("\n"));
        }
    }
}

fn put(count: usize) -> Vec<Kind> {
    vec![Put; count]
}

/// Most states of a search that is part of every run.
const SMALL: usize = 5_000_000;
/// Most states of one that takes minutes and gigabytes.
const DEEP: usize = 120_000_000;

fn crash_and_seal(name: &'static str, members: usize, writes: &[Kind]) -> Scenario {
    Scenario::new(name, members, writes).with(|s| {
        s.faults.crashes = 1;
        s.faults.seals = 1;
    })
}

fn rollback_and_seal(name: &'static str, members: usize, count: usize) -> Scenario {
    Scenario::new(name, members, &put(count)).with(|s| {
        s.faults.rollbacks = 1;
        s.faults.seals = 1;
    })
}

fn two_copies(scenario: Scenario) -> Scenario {
    scenario.with(|s| s.placement = "001")
}

fn deleted(scenario: Scenario) -> Scenario {
    scenario.with(|s| {
        s.base = true;
        s.faults.vacuums = 1;
    })
}

#[test]
fn three_puts_on_two_members_with_a_crash_and_a_seal() {
    holds(crash_and_seal("2 members, put put put", 2, &put(3)), SMALL);
}

#[test]
fn three_puts_on_two_members_that_both_come_back() {
    holds(two_copies(crash_and_seal("2 members, put put put, both back", 2, &put(3))), SMALL);
}

#[test]
fn base_delete_put_and_vacuum_on_two_members() {
    let name = "2 members, base, delete, put, vacuum";
    holds(deleted(two_copies(crash_and_seal(name, 2, &[Delete, Put]))), SMALL);
}

#[test]
fn three_puts_on_two_members_the_first_of_which_is_put_back() {
    let name = "2 members, put put put, rollback of the first";
    holds(two_copies(rollback_and_seal(name, 2, 3)), SMALL);
}

#[test]
fn three_puts_on_two_members_the_second_of_which_is_put_back() {
    let scenario = rollback_and_seal("2 members, put put put, rollback of the second", 2, 3);
    holds(two_copies(scenario).with(|s| s.put_back = 1), SMALL);
}

#[test]
fn a_member_that_was_alone_is_put_back_after_a_repair() {
    let scenario = two_copies(rollback_and_seal("1 member, put, repair, rollback", 1, 1));
    let scenario = scenario.with(|s| {
        s.spares = 1;
        s.faults.seals = 2;
        s.faults.repairs = 1;
    });
    holds(scenario, SMALL);
}

#[test]
fn a_put_and_a_repair_on_two_members_with_a_crash() {
    let scenario = two_copies(crash_and_seal("2 members, put, repair, crash", 2, &put(1)));
    let scenario = scenario.with(|s| {
        s.spares = 1;
        s.faults.repairs = 1;
    });
    holds(scenario, SMALL);
}

#[test]
fn a_repair_on_three_members_one_of_which_comes_back() {
    let scenario = Scenario::new("3 members, put, repair", 3, &put(1)).with(|s| {
        s.placement = "002";
        s.faults.seals = 1;
        s.faults.repairs = 1;
    });
    holds(scenario, SMALL);
}

#[test]
fn two_puts_on_two_members_with_a_new_leader() {
    let scenario = two_copies(Scenario::new("2 members, put put, new leader", 2, &put(2)));
    let scenario = scenario.with(|s| {
        s.faults.leaders = 1;
        s.faults.seals = 1;
        s.asks = true;
    });
    holds(scenario, SMALL);
}

#[test]
fn late_and_repeated_batches_after_vacuums() {
    let scenario = two_copies(Scenario::new("2 members, put, delete, late", 2, &[Put, Delete]));
    let scenario = scenario.with(|s| {
        s.duplicates = true;
        s.faults.floors = 1;
        s.faults.vacuums = 1;
        s.faults.seals = 1;
    });
    holds(scenario, SMALL);
}

#[test]
fn a_put_on_two_members_with_two_crashes_and_two_seals() {
    let scenario = two_copies(Scenario::new("2 members, put, two of each", 2, &put(1)));
    let scenario = scenario.with(|s| {
        s.faults.crashes = 2;
        s.faults.seals = 2;
    });
    holds(scenario, SMALL);
}

#[test]
fn a_put_on_three_members_with_a_crash_and_a_seal() {
    holds(crash_and_seal("3 members, put", 3, &put(1)), SMALL);
}

#[test]
#[ignore = "minutes: run by scripts/model-deep.sh"]
fn deep_two_puts_on_three_members() {
    holds(crash_and_seal("3 members, put put", 3, &put(2)).with(|s| s.placement = "001"), DEEP);
}

#[test]
#[ignore = "minutes: run by scripts/model-deep.sh"]
fn deep_a_put_a_repair_and_a_new_leader_on_three_members() {
    let scenario = Scenario::new("3 members, put, repair, new leader", 3, &put(1)).with(|s| {
        s.placement = "002";
        s.spares = 1;
        s.faults.seals = 1;
        s.faults.repairs = 1;
        s.faults.leaders = 1;
    });
    holds(scenario, DEEP);
}

#[test]
#[ignore = "minutes: run by scripts/model-deep.sh"]
fn deep_two_puts_on_three_members_one_of_which_is_put_back() {
    let scenario = rollback_and_seal("3 members, put put, rollback", 3, 2);
    holds(scenario.with(|s| s.placement = "002"), DEEP);
}

#[test]
#[ignore = "minutes: run by scripts/model-deep.sh"]
fn deep_base_delete_and_vacuum_on_three_members() {
    let name = "3 members, base, delete, vacuum";
    holds(deleted(crash_and_seal(name, 3, &[Delete])).with(|s| s.placement = "002"), DEEP);
}
