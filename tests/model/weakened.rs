//! Each rule is needed: without it the search finds a broken promise, in the smallest scenario.

use dulse_master::plan;
use dulse_volume::replica::{
    self,
    Kind::{Needle as Put, Tombstone as Delete},
};

use crate::{
    explore::{Found, explore, explore_for},
    scenario::{LeftOut, Scenario},
    world::Search,
};

/// Most states of such a scenario.
const LIMIT: usize = 2_000_000;

/// What clients see that no order of the writes explains.
const READ: &str = "a read cannot be explained";
/// Members that should be equal, or could only be by luck.
const DIFFER: &str = "members of a writable epoch differ";
/// A member whose epoch went back takes what it followed for what it missed.
const STALE: &str = "a copy that followed the volume is called stale";
/// What came back and cannot be taken in.
const NOT_ADOPTED: &str = "a copy that came back needs to be made again";

/// The promise that the rule is there to keep is broken without it, and none within the same bounds
/// with it.
fn is_needed(scenario: Scenario, left_out: LeftOut, kept_by_it: &'static str) {
    let name = scenario.name;
    let kept = explore(&mut Search::new(scenario.clone()), LIMIT);
    match &kept {
        Found::Nothing { states, depth } => {
            eprintln!("{name}, all rules kept: {states} states, depth {depth}");
        }
        Found::TooMany { .. } => panic!("{name}: too large: {kept:?}"),
        Found::Violation { promise, trace } => {
            panic!("{name}: with all rules {promise}:\n  {}", trace.join("\n  "));
        }
    }
    let mut weakened = Search::new(scenario.without(left_out));
    match explore_for(&mut weakened, LIMIT, Some(kept_by_it)) {
        Found::Violation { promise, trace } => {
            eprintln!("{name}: without {left_out:?}: {promise}:\n  {}", trace.join("\n  "));
        }
        other => panic!("{name}: without {left_out:?} it is not found: {other:?}"),
    }
}

fn replica(scenario: Scenario, rule: replica::Rule, kept: &'static str) {
    is_needed(scenario, LeftOut::OfReplica(rule), kept);
}

fn plan(scenario: Scenario, rule: plan::Rule, kept: &'static str) {
    is_needed(scenario, LeftOut::OfPlan(rule), kept);
}

fn puts(members: usize, count: usize) -> Scenario {
    Scenario::new("puts", members, &vec![Put; count])
}

fn sealed(members: usize, count: usize, seals: u8) -> Scenario {
    puts(members, count).with(|s| s.faults.seals = seals)
}

fn deleted() -> Scenario {
    Scenario::new("base, delete", 2, &[Delete]).with(|s| {
        s.base = true;
        s.faults.seals = 1;
        s.faults.vacuums = 1;
    })
}

fn rolled_back() -> Scenario {
    sealed(2, 1, 1).with(|s| {
        s.placement = "001";
        s.faults.rollbacks = 1;
    })
}

#[test]
fn readers_that_get_the_old_bytes_while_a_newer_version_is_pending_are_found() {
    replica(puts(2, 1), replica::Rule::PendingHidesOlder, READ);
}

#[test]
fn reads_without_a_lease_are_found() {
    replica(sealed(2, 1, 1), replica::Rule::ReadsNeedLease, READ);
}

#[test]
fn members_that_do_not_check_the_epoch_are_found() {
    replica(sealed(3, 1, 1), replica::Rule::EpochIsChecked, READ);
}

#[test]
fn a_reconcile_that_does_not_wait_for_leases_is_found() {
    plan(sealed(2, 1, 1), plan::Rule::LeasesAreWaitedFor, READ);
}

#[test]
fn a_reconcile_that_waits_for_the_last_excluded_server_only_is_found() {
    plan(sealed(3, 1, 2), plan::Rule::AllExcludedAreWaitedFor, READ);
}

#[test]
fn a_fence_that_is_lost_in_a_crash_is_found() {
    let reopened = sealed(2, 1, 2).with(|s| {
        s.placement = "001";
        s.faults.crashes = 1;
    });
    replica(reopened, replica::Rule::FenceIsDurable, STALE);
}

#[test]
fn a_reconcile_that_always_aborts_is_found() {
    plan(sealed(2, 1, 1), plan::Rule::StoredOnAllIsCommitted, READ);
}

#[test]
fn survivors_that_go_on_resolving_after_the_fence_are_found() {
    replica(sealed(2, 1, 1), replica::Rule::FenceStopsResolving, READ);
}

#[test]
fn aborted_bytes_that_count_as_stored_are_found() {
    replica(sealed(2, 2, 1), replica::Rule::AbortedIsMissing, READ);
}

#[test]
fn returned_servers_that_decide_too_are_found() {
    plan(rolled_back(), plan::Rule::ReturnedDoNotDecide, READ);
}

#[test]
fn adopting_by_record_is_found() {
    let deleted = deleted().with(|s| s.faults.crashes = 1);
    replica(deleted, replica::Rule::AdoptionIsByKey, NOT_ADOPTED);
}

#[test]
fn a_restarted_member_that_reads_before_it_adopted_is_found() {
    replica(puts(2, 1).with(|s| s.faults.crashes = 1), replica::Rule::RestartedDoNotRead, READ);
}

#[test]
fn a_restarted_member_that_decides_before_it_adopted_is_found() {
    plan(rolled_back(), plan::Rule::RestartedDoNotDecide, READ);
}

#[test]
fn calling_a_copy_stale_by_what_another_resolved_is_found() {
    plan(rolled_back(), plan::Rule::DigestTellsStale, DIFFER);
}

#[test]
fn a_vacuumed_tombstone_that_counts_as_missing_is_found() {
    plan(deleted(), plan::Rule::VacuumedTombstoneIsStored, READ);
}

#[test]
fn a_vacuum_without_a_floor_is_found() {
    let late = Scenario::new("put, delete, late put", 2, &[Put, Delete]).with(|s| {
        s.duplicates = true;
        s.faults.seals = 1;
        s.faults.vacuums = 1;
    });
    replica(late, replica::Rule::FloorIsKept, READ);
}

#[test]
fn sealing_with_anybody_after_a_decision_is_found() {
    plan(sealed(2, 1, 2), plan::Rule::DecisionIsFinal, READ);
}

#[test]
fn an_aborted_list_that_is_not_durable_when_the_resolved_length_passes_is_found() {
    let restarted = sealed(2, 2, 1).with(|s| s.faults.crashes = 1);
    replica(restarted, replica::Rule::AbortedListIsDurable, READ);
}

#[test]
fn acknowledging_what_a_majority_stored_is_found() {
    replica(sealed(3, 1, 1), replica::Rule::EveryMemberStores, READ);
}

#[test]
fn a_new_leader_that_forgets_the_old_ones_leases_is_found() {
    is_needed(sealed(2, 1, 1).with(|s| s.faults.leaders = 1), LeftOut::OldLeases, READ);
}

#[test]
fn a_lease_renewed_for_a_server_that_does_not_know_it_is_excluded_is_found() {
    is_needed(sealed(2, 1, 1), LeftOut::RenewalStops, READ);
}
