//! How a cluster is, as its masters see it.
//!
//! Every master is asked, those that were named and those that they name. One that does not answer
//! is part of the picture, not an error, as long as another one does.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::{answer::fetch_json, client::Client, error::ClientError};

/// A master answers from memory.
const LIMIT: Duration = Duration::from_secs(3);
/// Masters that are asked; a cluster has five at most.
const MAX_MASTERS: usize = 16;

/// The masters, and the cluster as the one sees it that leads, or the first that answers.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ClusterMasters {
    /// By address.
    pub masters: Vec<MasterRole>,
    /// The cluster.
    #[serde(flatten)]
    pub health: ClusterHealth,
}

/// A master.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MasterRole {
    /// `host:port`.
    pub address: String,
    /// Whether it leads, as it says itself.
    pub is_leader: bool,
    /// The term that it knows; 0 if it does not answer.
    pub term: u64,
    /// Why it could not be asked, if so.
    pub unreachable: Option<String>,
}

/// The cluster as one master sees it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ClusterHealth {
    /// `healthy`, `at_risk` or `unavailable`.
    pub verdict: String,
    /// What was found, gravest first; empty when all is well.
    pub findings: Vec<Finding>,
    /// `host:port` of the master that leads; empty if none does.
    pub leader: String,
    /// Whether the master that answered is it.
    pub is_leader: bool,
    /// Its term.
    pub term: u64,
    /// Volume servers that were heard.
    pub servers: Vec<HealthyServer>,
    /// How many volumes are in which state.
    pub volumes: BTreeMap<String, usize>,
}

/// One thing that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// How grave it is.
    pub verdict: String,
    /// A stable word for programs.
    pub code: String,
    /// What and what to do.
    pub sentence: String,
}

/// A volume server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HealthyServer {
    /// `host:port`, for the cluster.
    pub url: String,
    /// The same for clients outside.
    pub public_url: String,
    /// Its data center.
    pub data_center: String,
    /// Its rack.
    pub rack: String,
    /// `alive`, `stopping`, `stopped` or `gone`.
    pub state: String,
    /// Volumes that it has.
    pub volumes: usize,
    /// Volumes that it may have more.
    pub free_slots: u64,
    /// Volumes that it serves at an older epoch than was agreed on.
    pub volumes_behind: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Known {
    #[serde(default)]
    leader: String,
    #[serde(default)]
    peers: Vec<String>,
}

/// What one master said.
type Said = (String, Result<ClusterHealth, ClientError>);

impl ClusterHealth {
    /// Whether there is nothing to do.
    pub fn is_healthy(&self) -> bool {
        self.verdict == "healthy"
    }

    /// How many volume servers are there.
    pub fn alive(&self) -> usize {
        self.servers.iter().filter(|server| server.state == "alive").count()
    }
}

/// Asks all masters.
pub(crate) async fn fetch(client: &Client) -> Result<ClusterMasters, ClientError> {
    let named = client.masters().addresses().to_vec();
    let more = others(client, &named).await;
    let mut addresses: Vec<String> = named.into_iter().chain(more).collect();
    addresses.sort();
    addresses.dedup();
    addresses.truncate(MAX_MASTERS);
    let asked = addresses.into_iter().map(async |address: String| {
        let url = format!("http://{address}/cluster/health");
        let health = fetch_json(&url, client.http().get(&url), LIMIT).await;
        (address, health)
    });
    picture(join_all(asked).await, client)
}

/// Masters that those named know of.
async fn others(client: &Client, named: &[String]) -> Vec<String> {
    let asked = named.iter().map(async |address| {
        let url = format!("http://{address}/cluster/status");
        fetch_json::<Known>(&url, client.http().get(&url), LIMIT).await
    });
    let known = join_all(asked).await.into_iter().flatten();
    let addresses = known.flat_map(|known| known.peers.into_iter().chain([known.leader]));
    // SeaweedFS writes a port for gRPC behind a dot.
    let plain = addresses.map(|address| {
        let end = address.rfind(':').and_then(|colon| Some(colon + address[colon..].find('.')?));
        end.map_or_else(|| address.clone(), |end| address[..end].to_owned())
    });
    plain.filter(|address| !address.is_empty()).collect()
}

fn picture(said: Vec<Said>, client: &Client) -> Result<ClusterMasters, ClientError> {
    let masters = said.iter().map(|(address, said)| MasterRole {
        address: address.clone(),
        is_leader: said.as_ref().is_ok_and(|health| health.is_leader),
        term: said.as_ref().map_or(0, |health| health.term),
        unreachable: said.as_ref().err().map(ToString::to_string),
    });
    let masters = masters.collect();
    let (mut best, mut last_error) = (None::<ClusterHealth>, None);
    for (_, said) in said {
        match said {
            Ok(health) if best.as_ref().is_none_or(|best| rank(&health) > rank(best)) => {
                best = Some(health);
            }
            Ok(_) => {}
            Err(error) => last_error = Some(error),
        }
    }
    match (best, last_error) {
        (Some(health), _) => Ok(ClusterMasters { masters, health }),
        (None, Some(error)) => Err(client.masters().describe(error)),
        (None, None) => Err(ClientError::NoMasters),
    }
}

/// The leader knows best, of several that say so the one of the highest term; then who knows one.
fn rank(health: &ClusterHealth) -> (bool, u64, bool) {
    (health.is_leader, health.term, !health.leader.is_empty())
}
