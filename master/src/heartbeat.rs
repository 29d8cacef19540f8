//! Answering a volume server's heartbeat: take in its report, admit what it brought, tell it
//! what the masters agreed on.

use dulse_shared::{
    id::{ClusterId, ServerId, VolumeId},
    net::address::ServerAddress,
    wire::{
        Code, ForeignVolume, Heartbeat, HeartbeatAnswer, MAX_CONTRADICTIONS, Problem,
        RefusedVolume, VolumeConfig,
    },
};
use futures_util::future::join_all;

use crate::{
    cluster::Cluster,
    cluster_state::{ClusterState, Command, Outcome},
    contradiction::contradictions_of,
    plan::admission::{Admission, plan_admission},
    topology::{Received, Rejection, VolumeServer},
};

/// Volumes admitted on one heartbeat; the others on the following ones, twice a second.
const MAX_ADMISSIONS: usize = 64;
/// Configurations in one answer; the others go with the following ones.
const MAX_CONFIGS: usize = 4_096;
/// Deleted volumes named in one answer: a server takes a few at a time out of use.
const MAX_DELETED: usize = 64;

impl Cluster {
    /// Takes in a heartbeat and answers it.
    pub(crate) async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatAnswer, Problem> {
        let cluster = self.check_cluster(&heartbeat)?;
        let server = heartbeat.server;
        let received = self
            .update_topology(|topology, now| match topology.receive(heartbeat, now) {
                Ok(received) => (Ok(received), received.change),
                Err(rejection) => (Err(rejection), crate::topology::Change::None),
            })
            .map_err(rejected)?;
        let is_leader = self.log.leadership().is_leader;
        // One that waits to be recovered may have the number of a foreign one.
        let foreign = if is_leader && !self.log.is_recovering() {
            self.admit_foreign(server).await
        } else {
            Admitted::default()
        };
        Ok(self.answer(cluster, server, is_leader, received, foreign))
    }

    /// The cluster's id, unless the server belongs to another one.
    pub(crate) fn check_cluster(&self, heartbeat: &Heartbeat) -> Result<ClusterId, Problem> {
        let cluster = self.cluster_id().inspect_err(|_| {
            if let Some(theirs) = heartbeat.cluster {
                self.log.hear_cluster(&address_of(heartbeat), theirs);
            }
        })?;
        match heartbeat.cluster {
            Some(other) if other != cluster => {
                let is_empty = self.look(|state, _| state.volumes.is_empty());
                Err(other_cluster(heartbeat, other, cluster, is_empty))
            }
            _ => Ok(cluster),
        }
    }

    fn answer(
        &self,
        cluster: ClusterId,
        server: ServerId,
        is_leader: bool,
        received: Received,
        foreign: Admitted,
    ) -> HeartbeatAnswer {
        let (mut configs, mut deleted) = (foreign.configs, Vec::new());
        let mut contradicted = Vec::new();
        self.look(|state, topology| {
            if let Some(server) = topology.server(server) {
                configs.extend(newer_configs(state, server));
                deleted.extend(deleted_volumes(state, server));
                // A follower may only not have heard yet of what was agreed on.
                if is_leader {
                    contradicted = contradicted_volumes(state, server);
                }
            }
        });
        configs.truncate(MAX_CONFIGS);
        HeartbeatAnswer {
            cluster,
            is_leader,
            acknowledged: received.acknowledged,
            volume_size_limit_bytes: self.volume_size_limit_bytes,
            configs,
            refused: foreign.refused,
            deleted,
            contradicted,
            wall_ns: self.time().wall_ns,
            master: self.log.node(),
        }
    }

    /// Decides on all foreign volumes of a server and commits the admissions.
    async fn admit_foreign(&self, server: ServerId) -> Admitted {
        let mut admitted = Admitted::default();
        let commands = self.look(|state, topology| {
            let Some(server) = topology.server(server) else {
                return Vec::new();
            };
            let mut commands = Vec::new();
            for foreign in one_of_each_id(&server.foreign, &mut admitted.refused) {
                match plan_admission(state, topology, server, foreign) {
                    Admission::Admit(command) => commands.push(command),
                    Admission::Admitted(config) => admitted.configs.push(config),
                    Admission::Refused(refused) => admitted.refused.push(refused),
                }
            }
            commands.truncate(MAX_ADMISSIONS);
            commands
        });
        if commands.is_empty() {
            return admitted;
        }
        let configs = self.commit_admissions(commands).await;
        admitted.configs.extend(configs);
        self.refresh();
        admitted
    }

    /// A refusal here means that another server's copy came first: the next heartbeat is told so.
    async fn commit_admissions(&self, commands: Vec<Command>) -> Vec<VolumeConfig> {
        let outcomes = join_all(commands.into_iter().map(|command| self.log.propose(command)));
        let mut admitted = Vec::new();
        for outcome in outcomes.await {
            match outcome {
                Ok(Outcome::Volumes { configs }) => admitted.extend(configs),
                Ok(_) => {}
                Err(error) => tracing::warn!("cannot admit a volume now: {error}"),
            }
        }
        admitted
    }
}

/// The server's address as people write it: with its cluster port, where that is not the usual one.
fn address_of(heartbeat: &Heartbeat) -> String {
    let port = heartbeat.cluster_url.rsplit_once(':').map_or("", |(_, port)| port);
    let address = format!("{}.{port}", heartbeat.url).parse::<ServerAddress>();
    address.map_or_else(|_| heartbeat.url.clone(), |address| address.to_string())
}

/// A master that has no volumes at all may be one that lost its directory, and founded anew.
fn other_cluster(
    heartbeat: &Heartbeat,
    theirs: ClusterId,
    ours: ClusterId,
    is_empty: bool,
) -> Problem {
    let url = &heartbeat.url;
    let loss = if is_empty {
        "; this master has no volumes: if it is their own and lost its directory, run `dulse cluster \
         recover --from HOST:PORT` with every volume server while they run, or see \"When masters are \
         lost\" in the operations guide"
    } else {
        ""
    };
    let message = format!(
        "the data directories of volume server {url} belong to cluster {theirs}, this master to \
         cluster {ours}: give the server another data directory, or pass --master with the address \
         of its own cluster{loss}"
    );
    Problem::new(Code::OtherCluster, message)
}

/// What became of a server's foreign volumes.
#[derive(Default)]
struct Admitted {
    configs: Vec<VolumeConfig>,
    refused: Vec<RefusedVolume>,
}

/// Of two files of one server with the same id the first is considered.
fn one_of_each_id<'a>(
    foreign: &'a [ForeignVolume],
    refused: &mut Vec<RefusedVolume>,
) -> Vec<&'a ForeignVolume> {
    let mut chosen: Vec<&ForeignVolume> = Vec::new();
    let mut ids = std::collections::HashSet::new();
    for volume in foreign {
        if ids.insert(volume.id) {
            chosen.push(volume);
        } else {
            refused.push(RefusedVolume {
                id: volume.id,
                reason: format!(
                    "this server has two volume files with id {}, of which this one (collection \
                     {:?}) is left as it is: move one of them away",
                    volume.id, volume.collection
                ),
            });
        }
    }
    chosen
}

/// What a server serves in an older configuration than was agreed on.
pub(crate) fn newer_configs(state: &ClusterState, server: &VolumeServer) -> Vec<VolumeConfig> {
    let newer = server.volumes.values().filter_map(|report| {
        let config = state.volume(report.id)?;
        let is_member = config.members.iter().any(|m| m.server == server.id);
        (is_member && config.epoch > report.epoch).then(|| config.clone())
    });
    newer.collect()
}

/// Those of a server's volumes that were deleted, perhaps while it was away. What was deleted once
/// stays so: a master that is behind only names fewer.
pub(crate) fn deleted_volumes(state: &ClusterState, server: &VolumeServer) -> Vec<VolumeId> {
    let ids = server.volumes.keys().filter(|id| state.deleted.contains(**id));
    ids.take(MAX_DELETED).copied().collect()
}

fn contradicted_volumes(state: &ClusterState, server: &VolumeServer) -> Vec<RefusedVolume> {
    let told = contradictions_of(state, server).map(|contradiction| RefusedVolume {
        id: contradiction.volume,
        reason: contradiction.to_string(),
    });
    told.take(MAX_CONTRADICTIONS).collect()
}

fn rejected(rejection: Rejection) -> Problem {
    let code = match rejection {
        Rejection::Twin { .. } => Code::Conflict,
        Rejection::TooMany => Code::Overloaded,
    };
    Problem::new(code, rejection.to_string())
}
