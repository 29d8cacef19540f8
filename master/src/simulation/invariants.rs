//! What must hold after every step. Each is a function by name that says what is wrong.

use std::collections::{BTreeMap, BTreeSet};

use dulse_shared::{
    id::{ReplicaPlacement, ServerId, VolumeId},
    wire::{LocalState, VolumeConfig, VolumeReport, VolumeState},
};
use rand::{SeedableRng, rngs::SmallRng};

use super::volume_server::SimServer;
use crate::{
    cluster_state::ClusterState,
    contradiction::Disagreement,
    placement::{
        LocationWish, PlacementError, ServerRoom, place_volumes,
        tests::{is_exact, keeps_rules},
    },
    topology::{Topology, VolumeServer},
    volume_layout::Layouts,
};

/// What does not hold, and how.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) invariant: &'static str,
    pub(super) detail: String,
}

pub(super) type Checked = Result<(), Violation>;

fn holds(invariant: &'static str, is_so: bool, detail: impl FnOnce() -> String) -> Checked {
    if is_so { Ok(()) } else { Err(Violation { invariant, detail: detail() }) }
}

/// No server is a member of a volume twice, and no slot is used twice.
pub(super) fn copies_are_on_different_servers(state: &ClusterState) -> Checked {
    for config in state.volumes.values() {
        let servers: BTreeSet<ServerId> = config.members.iter().map(|m| m.server).collect();
        let slots: BTreeSet<u8> = config.members.iter().map(|m| m.slot).collect();
        let distinct = (servers.len(), slots.len());
        let expected = (config.members.len(), config.members.len());
        holds(
            "copies_are_on_different_servers",
            distinct == expected && !servers.is_empty(),
            || format!("volume {} has members {:?}", config.id, config.members),
        )?;
    }
    Ok(())
}

/// What was placed keeps the rules, the wish and the slots; what was not cannot be placed, and the
/// error says exactly why.
pub(super) fn placement_is_right(
    placement: ReplicaPlacement,
    wish: &LocationWish,
    rooms: &[ServerRoom],
    outcome: &Result<Vec<Vec<ServerId>>, PlacementError>,
) -> Checked {
    let name = "placement_is_right";
    let placed = match outcome {
        Ok(placed) => placed,
        Err(error) => {
            let mut rng = SmallRng::seed_from_u64(0);
            let found = place_volumes(placement, wish, rooms.to_vec(), 1, &mut rng);
            holds(name, found.is_err(), || format!("{error}, but {found:?} is possible"))?;
            let wrong = is_exact(error, rooms, wish).err();
            return holds(name, wrong.is_none(), || format!("{error} is not exact: {wrong:?}"));
        }
    };
    let mut left: BTreeMap<ServerId, u64> =
        rooms.iter().map(|r| (r.server, r.free_slots)).collect();
    for members in placed {
        let of = |server: &ServerId| rooms.iter().find(|room| room.server == *server);
        let there: Vec<&ServerRoom> = members.iter().filter_map(of).collect();
        let is_right = there.len() == members.len()
            && keeps_rules(placement, &there)
            && there.first().is_some_and(|main| main.fulfils(wish));
        holds(name, is_right, || format!("{placement} with {wish} was placed on {there:?}"))?;
        for member in members {
            let slots = left.get_mut(member).and_then(|slots| slots.checked_sub(1));
            holds(name, slots.is_some(), || format!("{member} has no slot left"))?;
            left.insert(*member, slots.unwrap_or(0));
        }
    }
    Ok(())
}

/// An id that was used once is never given to another volume.
pub(super) fn volume_ids_are_used_once(
    used: &mut BTreeSet<VolumeId>,
    created: &[VolumeConfig],
    state: &ClusterState,
) -> Checked {
    let name = "volume_ids_are_used_once";
    for config in created {
        let is_new = used.insert(config.id);
        holds(name, is_new, || format!("volume {} was there before", config.id))?;
    }
    let again = state.volumes.keys().find(|id| state.deleted.contains(**id));
    holds(name, again.is_none(), || format!("volume {again:?} was deleted and is there"))
}

/// Granted ranges of needle keys never overlap.
pub(super) fn keys_are_granted_once(granted: &mut Vec<(u64, u64)>, new: (u64, u64)) -> Checked {
    let overlaps = |range: &&(u64, u64)| range.0 < new.0 + new.1 && new.0 < range.0 + range.1;
    let other = granted.iter().find(overlaps).copied();
    holds("keys_are_granted_once", other.is_none(), || format!("{new:?} overlaps {other:?}"))?;
    granted.push(new);
    Ok(())
}

/// Whoever applies the same commands, through a snapshot or not, has the same state.
pub(super) fn machines_agree(machines: &[ClusterState]) -> Checked {
    let differs = machines.iter().position(|machine| *machine != machines[0]);
    holds("machines_agree", differs.is_none(), || format!("machine {differs:?} has another state"))
}

/// A topology that heard everything twice equals the one that heard it once.
pub(super) fn repeats_change_nothing(once: &Topology, twice: &Topology) -> Checked {
    holds("repeats_change_nothing", once == twice, || "a repeated report changed it".to_owned())
}

/// Once everybody was heard, every master has what the servers have, however it came.
pub(super) fn topologies_show_what_is(topology: &Topology, servers: &[SimServer]) -> Checked {
    let name = "topologies_show_what_is";
    for server in servers {
        let known = topology.server(server.id);
        let is_alive = known.is_some_and(|known| known.is_alive);
        holds(name, is_alive == server.is_up, || format!("{} alive: {is_alive}", server.id))?;
        let Some(known) = known.filter(|_| server.is_up) else {
            continue;
        };
        let volumes = server.view();
        holds(name, known.volumes == volumes, || {
            format!("{} has {volumes:?}, known are {:?}", server.id, known.volumes)
        })?;
        let place = (&known.data_center, &known.rack, known.stopping, known.incarnation);
        let is = (&server.data_center, &server.rack, server.is_stopping, server.incarnation);
        holds(name, place == is, || format!("{}: {place:?} for {is:?}", server.id))?;
    }
    Ok(())
}

/// Whether a member would take a write, read off the definition.
fn confirms(server: Option<&VolumeServer>, config: &VolumeConfig, limit_bytes: u64) -> bool {
    let is_ready = |report: &VolumeReport| {
        report.local == LocalState::Ready
            && report.epoch == config.epoch
            && report.size_bytes < limit_bytes
            && (&report.collection, report.placement, report.ttl)
                == (&config.collection, config.placement, config.ttl)
    };
    server.is_some_and(|server| {
        server.is_alive && !server.stopping && server.volumes.get(&config.id).is_some_and(is_ready)
    })
}

/// Exactly those volumes are writable that every member confirms at the agreed epoch.
pub(super) fn writable_is_confirmed(
    state: &ClusterState,
    topology: &Topology,
    layouts: &Layouts,
    limit_bytes: u64,
) -> Checked {
    let listed: BTreeSet<VolumeId> =
        layouts.layouts.values().flat_map(|layout| layout.writable.ids()).copied().collect();
    let takes_writes = |config: &&VolumeConfig| {
        !config.closed
            && config.state == VolumeState::Writable
            && config.members.len() == config.placement.copies()
            && config
                .members
                .iter()
                .all(|m| confirms(topology.server(m.server), config, limit_bytes))
    };
    let due: BTreeSet<VolumeId> =
        state.configs().filter(takes_writes).map(|config| config.id).collect();
    holds("writable_is_confirmed", listed == due, || format!("{listed:?} for {due:?}"))
}

/// What a report and the agreed state disagree on, read off the definition.
fn disagreement(
    state: &ClusterState,
    server: &VolumeServer,
    report: &VolumeReport,
) -> Option<Disagreement> {
    let Some(config) = state.volumes.get(&report.id) else {
        return (!state.deleted.contains(report.id)).then_some(Disagreement::UnknownVolume);
    };
    let kind = (&config.collection, config.placement, config.ttl);
    if !config.members.iter().any(|member| member.server == server.id) {
        Some(Disagreement::NotAMember)
    } else if report.epoch.0 > config.epoch.0 {
        let (reported, agreed) = (report.epoch, config.epoch);
        Some(Disagreement::EpochAhead { reported, agreed })
    } else {
        let is_same = kind == (&report.collection, report.placement, report.ttl);
        (!is_same).then_some(Disagreement::OtherKind)
    }
}

/// A report that contradicts the agreed state is shown, and nobody is sent there.
pub(super) fn contradictions_are_shown_and_not_believed(
    state: &ClusterState,
    topology: &Topology,
    layouts: &Layouts,
) -> Checked {
    let name = "contradictions_are_shown_and_not_believed";
    let mut due = BTreeSet::new();
    for server in topology.alive() {
        for report in server.volumes.values() {
            let Some(what) = disagreement(state, server, report) else {
                continue;
            };
            due.insert((server.id, report.id));
            let is_shown = layouts.contradictions.iter().any(|shown| {
                (shown.server, shown.volume, shown.what) == (server.id, report.id, what)
            });
            holds(name, is_shown, || format!("{what:?} of {} is hidden", report.id))?;
            let placed = layouts.volumes.get(&report.id);
            let is_holder =
                placed.is_some_and(|p| p.holders.iter().any(|place| place.server == server.id));
            let may_read = matches!(what, Disagreement::EpochAhead { .. });
            holds(name, may_read || !is_holder, || format!("{what:?} of {} is used", report.id))?;
        }
    }
    let shown: BTreeSet<_> = layouts.contradictions.iter().map(|c| (c.server, c.volume)).collect();
    holds(name, shown == due, || format!("{shown:?} for {due:?}"))
}

/// What is left adds up, and nothing is counted that does not take writes.
pub(super) fn capacity_adds_up(
    topology: &Topology,
    layouts: &Layouts,
    limit_bytes: u64,
) -> Checked {
    let (name, capacity) = ("capacity_adds_up", &layouts.capacity);
    let takes_writes = |server: &&VolumeServer| server.is_alive && !server.stopping;
    let dirs = topology.servers().filter(takes_writes).flat_map(|server| &server.dirs);
    let roomy = dirs.filter(|dir| !dir.is_low);
    let slots: u64 = roomy.map(|dir| u64::from(dir.max_volumes.saturating_sub(dir.volumes))).sum();
    holds(name, capacity.free_slots == slots, || format!("{capacity:?}, {slots} slots are free"))?;
    let listed: u64 =
        layouts.layouts.values().map(|layout| layout.writable.ids().len() as u64).sum();
    let is_possible = capacity.free_slots <= capacity.max_volumes
        && capacity.writable_volumes == listed
        && capacity.writable_bytes <= limit_bytes.saturating_mul(listed);
    holds(name, is_possible, || format!("{capacity:?} with {listed} writable volumes"))
}

/// After so many rounds of doing what is planned nothing is left to do.
pub(super) fn plans_reach_a_fixed_point(rounds: usize, left: &str) -> Checked {
    const MAX_ROUNDS: usize = 40;
    holds("plans_reach_a_fixed_point", rounds < MAX_ROUNDS, || format!("still planned: {left}"))
}
