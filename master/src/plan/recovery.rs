//! What a recovery takes over, from what volume servers say that they hold. Pure.
//!
//! The masters that are lost may have handed out more than anybody stored, so a cluster's ids go on
//! far above what was found. Of several configurations of a volume the highest epoch counts; two
//! that are different at one epoch cannot both have been agreed on, and that volume is left out.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use dulse_shared::{
    id::{ClusterId, ServerId, VolumeId},
    wire::{AbsentServer, HeldVolumes, RecoveredServer, RecoveryReport, VolumeConfig},
};

use crate::cluster_state::{ClusterState, Recovery};

/// Far above what a leader has in hand (a million keys), and what clients upload late.
const KEY_MARGIN: u64 = 1 << 32;
/// Far above what is created and lost in between.
const VOLUME_ID_MARGIN: u32 = 10_000;
/// Of so many places where ids may go on one is drawn: whoever recovers twice from the same servers,
/// because those that were written to meanwhile are lost, goes on elsewhere the second time.
const PLACES: u32 = 256;

/// What is taken over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RecoveryPlan {
    /// The cluster.
    pub(crate) recovery: Recovery,
    /// Volumes that the masters do not know of.
    pub(crate) volumes: Vec<Arc<VolumeConfig>>,
    servers: Vec<RecoveredServer>,
    known: u64,
    absent: Vec<AbsentServer>,
    left_out: Vec<String>,
}

/// Why nothing is taken over.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NoRecovery {
    /// Nobody was named.
    #[error("name the volume servers that hold the volumes: --from HOST:PORT,HOST:PORT")]
    NoServers,
    /// A volume server has never been in a cluster.
    #[error("volume server {address} has never been in a cluster: leave it out of --from")]
    NotOfACluster { address: String },
    /// The volume servers are of two clusters.
    #[error(
        "volume server {one} is of cluster {cluster_of_one}, {other} of {cluster_of_other}: name \
         those of one cluster"
    )]
    TwoClusters {
        one: String,
        cluster_of_one: ClusterId,
        other: String,
        cluster_of_other: ClusterId,
    },
    /// The cluster has masters.
    #[error(
        "nothing was changed: volume server {address} reports to the master {master}, which is of that \
         cluster: give --master with it, or stop it if its cluster is to be founded anew"
    )]
    MastersLive { address: String, master: String },
    /// The masters have a cluster of their own, with volumes.
    #[error(
        "nothing was changed: these masters are of cluster {ours}, which has volumes, and the \
         volume servers of {theirs}: give --master with masters that are new, or lost their \
         directories"
    )]
    OtherCluster { ours: ClusterId, theirs: ClusterId },
}

impl RecoveryPlan {
    /// What is told of it.
    pub(crate) fn report(&self) -> RecoveryReport {
        RecoveryReport {
            cluster: self.recovery.cluster,
            servers: self.servers.clone(),
            restored: self.volumes.len() as u64,
            known: self.known,
            next_key: self.recovery.next_key,
            next_volume_id: self.recovery.next_volume_id,
            absent: self.absent.clone(),
            left_out: self.left_out.clone(),
        }
    }
}

/// Plans a recovery of masters with this state from what the servers at these addresses hold.
/// Masters that have no such cluster yet are given ids from a place that `draw` picks, any number.
pub(crate) fn plan_recovery(
    state: &ClusterState,
    held: &[(String, HeldVolumes)],
    wall_ms: u64,
    draw: u32,
) -> Result<RecoveryPlan, NoRecovery> {
    let cluster = common_cluster(held)?;
    if state.cluster != Some(cluster) {
        refuse_beside_living_masters(held)?;
    }
    if let Some(ours) = state.cluster.filter(|ours| *ours != cluster && !state.is_unused()) {
        return Err(NoRecovery::OtherCluster { ours, theirs: cluster });
    }
    let servers = each_once(held);
    let mut left_out = Vec::new();
    let found = highest_epochs(&servers, &mut left_out);
    let absent = absent_members(&found, &servers);
    let (mut known, mut volumes) = (0, Vec::new());
    for config in found.into_values() {
        match standing_of(state, &config) {
            Standing::News => volumes.push(Arc::new(config)),
            Standing::Known => known += 1,
            Standing::LeftOut(why) => left_out.push(format!("volume {}: {why}", config.id)),
        }
    }
    Ok(RecoveryPlan {
        recovery: recovery(state, cluster, &servers, !volumes.is_empty(), wall_ms, draw),
        known,
        servers: servers.iter().map(|(address, held)| recovered(address, held)).collect(),
        volumes,
        absent,
        left_out,
    })
}

/// What masters with this state make of a volume that somebody holds.
enum Standing {
    News,
    Known,
    LeftOut(&'static str),
}

fn standing_of(state: &ClusterState, held: &VolumeConfig) -> Standing {
    let Some(known) = state.volumes.get(&held.id) else {
        let is_deleted = state.deleted.contains(held.id);
        return if is_deleted { Standing::LeftOut("it was deleted") } else { Standing::News };
    };
    let servers = |config: &VolumeConfig| -> BTreeSet<ServerId> {
        config.members.iter().map(|member| member.server).collect()
    };
    let kind = |config: &VolumeConfig| (config.collection.clone(), config.placement, config.ttl);
    if kind(known) != kind(held) || servers(known).is_disjoint(&servers(held)) {
        return Standing::LeftOut(
            "the masters know another volume of this number; this one is not used: `dulse export` \
             reads it",
        );
    }
    if held.epoch > known.epoch {
        return Standing::LeftOut("the masters know an older configuration of it, which stays");
    }
    Standing::Known
}

/// Where ids go on. Masters that are of the cluster already know better what they handed out; only keys
/// of volumes that are news to them may have been handed out by others.
fn recovery(
    state: &ClusterState,
    cluster: ClusterId,
    servers: &[(&str, &HeldVolumes)],
    has_news: bool,
    wall_ms: u64,
    draw: u32,
) -> Recovery {
    let max_key = servers.iter().map(|(_, held)| held.max_key).max().unwrap_or(0);
    let max_id = servers.iter().map(|(_, held)| held.max_volume_id).max().unwrap_or(0);
    let is_known = state.cluster == Some(cluster);
    let place = if is_known { 1 } else { 1 + draw % PLACES };
    let key = max_key.saturating_add(KEY_MARGIN * u64::from(place));
    let id = match max_id.checked_add(VOLUME_ID_MARGIN * place) {
        Some(above) => above,
        None => max_id.checked_add(1).unwrap_or(0),
    };
    let is_used = is_known && (state.next_volume_id == 0 || max_id < state.next_volume_id);
    Recovery {
        cluster,
        next_key: if is_known && !has_news { state.next_key } else { key.max(state.next_key) },
        next_volume_id: if is_used { state.next_volume_id } else { id },
        // Versions count changes, so time is above any of them.
        map_version: wall_ms,
    }
}

/// Masters that live go on handing out ids, whatever others do.
fn refuse_beside_living_masters(held: &[(String, HeldVolumes)]) -> Result<(), NoRecovery> {
    let living = held.iter().find_map(|(address, held)| Some((address, held.masters.first()?)));
    living.map_or(Ok(()), |(address, master)| {
        Err(NoRecovery::MastersLive { address: address.clone(), master: master.clone() })
    })
}

fn common_cluster(held: &[(String, HeldVolumes)]) -> Result<ClusterId, NoRecovery> {
    let mut common: Option<(&String, ClusterId)> = None;
    for (address, held) in held {
        let Some(cluster) = held.cluster else {
            return Err(NoRecovery::NotOfACluster { address: address.clone() });
        };
        match common {
            Some((one, cluster_of_one)) if cluster_of_one != cluster => {
                return Err(NoRecovery::TwoClusters {
                    one: one.clone(),
                    cluster_of_one,
                    other: address.clone(),
                    cluster_of_other: cluster,
                });
            }
            _ => common = Some((address, cluster)),
        }
    }
    common.map(|(_, cluster)| cluster).ok_or(NoRecovery::NoServers)
}

/// A server that was named by two addresses counts once.
fn each_once(held: &[(String, HeldVolumes)]) -> Vec<(&str, &HeldVolumes)> {
    let mut seen = BTreeSet::new();
    let first = held.iter().filter(|(_, held)| seen.insert(held.server));
    first.map(|(address, held)| (address.as_str(), held)).collect()
}

fn recovered(address: &str, held: &HeldVolumes) -> RecoveredServer {
    let volumes = held.volumes.len() as u64;
    RecoveredServer { address: address.to_owned(), server: held.server, volumes }
}

fn highest_epochs(
    servers: &[(&str, &HeldVolumes)],
    left_out: &mut Vec<String>,
) -> BTreeMap<VolumeId, VolumeConfig> {
    let mut found: BTreeMap<VolumeId, (&str, &VolumeConfig)> = BTreeMap::new();
    let mut disputed = BTreeMap::new();
    for (address, held) in servers {
        left_out.extend(held.left_out.iter().map(|what| format!("{address}: {what}")));
        for config in &held.volumes {
            match found.entry(config.id) {
                Entry::Vacant(entry) => {
                    entry.insert((address, config));
                }
                Entry::Occupied(mut entry) => {
                    let (other, known) = *entry.get();
                    if config.epoch > known.epoch {
                        disputed.remove(&config.id);
                        entry.insert((address, config));
                    } else if config.epoch == known.epoch && config != known {
                        disputed.insert(config.id, (other, *address));
                    }
                }
            }
        }
    }
    left_out.extend(disputed.iter().map(|(id, (one, other))| {
        format!(
            "volume {id}: {one} and {other} each have another volume of this number; move one of \
             them away, start its server again and repeat the recovery"
        )
    }));
    found.retain(|id, _| !disputed.contains_key(id));
    found.into_iter().map(|(id, (_, config))| (id, config.clone())).collect()
}

fn absent_members(
    found: &BTreeMap<VolumeId, VolumeConfig>,
    servers: &[(&str, &HeldVolumes)],
) -> Vec<AbsentServer> {
    let asked: BTreeSet<ServerId> = servers.iter().map(|(_, held)| held.server).collect();
    let members = found.values().flat_map(|config| &config.members).map(|member| member.server);
    let absent: BTreeSet<ServerId> = members.filter(|server| !asked.contains(server)).collect();
    absent.into_iter().map(|server| AbsentServer { server, url: None }).collect()
}

#[cfg(test)]
mod tests {
    use dulse_shared::wire::{Epoch, Incarnation};

    use super::*;
    use crate::{
        cluster_state::{Command, Deletion, Outcome},
        testing::{cluster, server, volume},
    };

    /// The configuration of a new volume on these servers.
    fn config(id: u32, servers: &[u128]) -> VolumeConfig {
        let mut state = ClusterState { next_volume_id: id, ..ClusterState::default() };
        let members = servers.iter().map(|n| (server(*n), Incarnation(1))).collect();
        let (collection, placement, ttl, disk) = Default::default();
        let members = vec![members];
        let created =
            state.apply(&Command::CreateVolumes { collection, placement, ttl, disk, members });
        match created {
            Outcome::Volumes { mut configs } => configs.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn holds(n: u128, volumes: Vec<VolumeConfig>) -> (String, HeldVolumes) {
        let max_volume_id = volumes.iter().map(|config| config.id.as_u32()).max().unwrap_or(0);
        let held = HeldVolumes {
            server: server(n),
            cluster: Some(cluster()),
            volumes,
            max_volume_id,
            max_key: 70,
            masters: Vec::new(),
            left_out: Vec::new(),
        };
        (format!("v{n}:8080"), held)
    }

    fn plan(held: &[(String, HeldVolumes)]) -> RecoveryPlan {
        plan_recovery(&ClusterState::default(), held, 1_000, 0).unwrap()
    }

    fn ids(plan: &RecoveryPlan) -> Vec<u32> {
        plan.volumes.iter().map(|config| config.id.as_u32()).collect()
    }

    #[test]
    fn all_that_is_held_is_taken_over_and_ids_go_on_far_above() {
        let held =
            [holds(1, vec![config(1, &[1]), config(9, &[1])]), holds(2, vec![config(2, &[2])])];
        let plan = plan(&held);
        assert_eq!(ids(&plan), [1, 2, 9]);
        assert_eq!(plan.recovery.next_key, 70 + (1 << 32));
        assert_eq!(plan.recovery.next_volume_id, 10_009);
        let report = plan.report();
        assert_eq!((report.restored, report.known, report.servers.len()), (3, 0, 2));
        assert_eq!((report.absent, report.left_out), (Vec::new(), Vec::new()));
    }

    #[test]
    fn masters_of_the_cluster_keep_their_ids_and_what_they_know() {
        let held = [holds(1, vec![config(1, &[1]), config(2, &[1]), config(3, &[1])])];
        let mut state = ClusterState::default();
        state.apply(&Command::RecoverCluster(plan(&held[..]).recovery));
        let first = vec![config(1, &[1]).into(), config(3, &[1]).into()];
        state.apply(&Command::RecoverVolumes { cluster: cluster(), volumes: first });
        let deletion = Deletion { id: volume(3), epoch: Epoch(1) };
        state.apply(&Command::DeleteVolumes { volumes: vec![deletion] });
        let again = plan_recovery(&state, &held, 2_000, 7).unwrap();
        assert_eq!((ids(&again), again.known), (vec![2], 1));
        assert_eq!(again.left_out, ["volume 3: it was deleted"]);
        assert_eq!(again.recovery.next_volume_id, state.next_volume_id);
        let last = config(2, &[1]);
        state.apply(&Command::RecoverVolumes { cluster: cluster(), volumes: vec![last.into()] });
        let nothing_new = plan_recovery(&state, &held, 2_000, 7).unwrap();
        assert_eq!(nothing_new.recovery.next_key, state.next_key);
        state.volumes.remove(&volume(2));
        state.next_key = 71;
        state.next_volume_id = 3;
        let above = plan_recovery(&state, &held, 2_000, 7).unwrap().recovery;
        assert_eq!((above.next_key, above.next_volume_id), (70 + (1 << 32), 10_003));
    }

    #[test]
    fn the_highest_epoch_counts_and_two_volumes_of_one_number_are_left_out() {
        let later = VolumeConfig { epoch: Epoch(4), ..config(1, &[1, 2]) };
        let older = config(1, &[1, 2]);
        for held in [
            [holds(1, vec![later.clone()]), holds(2, vec![older.clone()])],
            [holds(1, vec![older]), holds(2, vec![later.clone()])],
        ] {
            assert_eq!(*plan(&held).volumes[0], later);
        }
        let held =
            [holds(1, vec![config(1, &[1]), config(5, &[1])]), holds(2, vec![config(1, &[2])])];
        let plan = plan(&held);
        assert_eq!(ids(&plan), [5]);
        assert!(plan.left_out[0].contains("v1:8080 and v2:8080"), "{:?}", plan.left_out);
        assert_eq!(plan.recovery.next_volume_id, 10_005, "its number is taken");
    }

    #[test]
    fn another_volume_of_a_known_number_is_left_out_and_said() {
        let ours = vec![config(1, &[1]), config(2, &[1])];
        let mut state = ClusterState::default();
        state.apply(&Command::RecoverCluster(plan(&[holds(1, ours.clone())]).recovery));
        let volumes = ours.into_iter().map(Arc::new).collect();
        state.apply(&Command::RecoverVolumes { cluster: cluster(), volumes });
        let later = VolumeConfig { epoch: Epoch(9), ..config(2, &[1]) };
        let held = [holds(2, vec![config(1, &[2])]), holds(1, vec![later])];
        let plan = plan_recovery(&state, &held, 0, 0).unwrap();
        assert_eq!((ids(&plan), plan.known), (Vec::new(), 0));
        assert!(plan.left_out[0].contains("volume 1: the masters know another"));
        assert!(plan.left_out[1].contains("volume 2: the masters know an older"));
    }

    #[test]
    fn a_second_recovery_from_the_same_servers_goes_on_elsewhere() {
        let held = [holds(1, vec![config(1, &[1])])];
        let state = ClusterState::default();
        let at = |draw| plan_recovery(&state, &held, 0, draw).unwrap().recovery;
        assert_ne!(at(1).next_key, at(2).next_key);
        assert_ne!(at(1).next_volume_id, at(2).next_volume_id);
        assert!(at(u32::MAX).next_key < 1 << 41, "fids stay short");
    }

    #[test]
    fn nothing_is_planned_beside_masters_that_live() {
        let mut held = [holds(1, vec![config(1, &[1])])];
        held[0].1.masters.push("a:9333".to_owned());
        let mut state = ClusterState::default();
        let refused = plan_recovery(&state, &held, 0, 0).unwrap_err();
        assert!(matches!(refused, NoRecovery::MastersLive { .. }));
        state.cluster = Some(cluster());
        assert!(plan_recovery(&state, &held, 0, 0).is_ok(), "they are the ones that are asked");
    }

    #[test]
    fn who_was_not_asked_is_named_and_who_was_asked_twice_counts_once() {
        let mut twice = holds(1, vec![config(1, &[1, 3])]);
        twice.0 = "elsewhere:8080".to_owned();
        let plan = plan(&[holds(1, vec![config(1, &[1, 3])]), twice]);
        let report = plan.report();
        assert_eq!(report.servers.len(), 1);
        assert_eq!(report.absent, [AbsentServer { server: server(3), url: None }]);
    }

    #[test]
    fn nothing_is_planned_where_clusters_differ() {
        let state = ClusterState::default();
        let ours = holds(1, vec![config(1, &[1])]);
        let mut other = holds(2, Vec::new());
        other.1.cluster = Some(ClusterId::from(9));
        let mut homeless = holds(3, Vec::new());
        homeless.1.cluster = None;
        let refusal = |held: &[_]| plan_recovery(&state, held, 0, 0).unwrap_err();
        assert!(matches!(refusal(&[ours.clone(), other]), NoRecovery::TwoClusters { .. }));
        assert!(matches!(refusal(&[ours.clone(), homeless]), NoRecovery::NotOfACluster { .. }));
        assert_eq!(refusal(&[]), NoRecovery::NoServers);
        let mut used = ClusterState { cluster: Some(ClusterId::from(9)), ..state.clone() };
        assert!(
            plan_recovery(&used, std::slice::from_ref(&ours), 0, 0).is_ok(),
            "nothing was made in it"
        );
        used.next_volume_id = 2;
        let refused = plan_recovery(&used, &[ours], 0, 0).unwrap_err();
        assert!(matches!(refused, NoRecovery::OtherCluster { .. }));
    }
}
