//! How a cluster is, as its masters see it.
//!
//! Every master is asked, those that were named and those that they name, and listed once, whatever
//! it was called. One that does not answer is part of the picture, not an error, as long as another
//! one does.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{answer::fetch_json, client::Client, error::ClientError, masters::Place};

/// A master answers from memory.
const LIMIT: Duration = Duration::from_secs(3);
/// How long others may take to say that they lead, once one has answered that does not.
const PATIENCE: Duration = Duration::from_millis(300);
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
    /// `host:port` of the master that answered, as the masters know it; empty if it does not say.
    #[serde(default, rename = "address", skip_serializing)]
    pub answered_by: String,
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

/// What one master said, and where.
type Said = (Place, Result<ClusterHealth, ClientError>);

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
    let mut places = client.masters().everywhere().await;
    for address in others(client, &places).await {
        if places.iter().all(|place| place.address() != address) {
            places.push(Place { named: address, at: None });
        }
    }
    places.truncate(MAX_MASTERS);
    picture(join_all(places.into_iter().map(|place| ask(client, place))).await, client)
}

/// The cluster as the leader sees it, if a master that was named leads or knows who does; else as
/// another one does. Nobody is waited for once it is known.
pub(crate) async fn fetch_first(client: &Client) -> Result<ClusterHealth, ClientError> {
    let places = client.masters().everywhere().await.into_iter().take(MAX_MASTERS);
    let mut asked: FuturesUnordered<_> = places.map(|place| ask(client, place)).collect();
    let (mut best, mut last_error) = (None::<ClusterHealth>, ClientError::NoMasters);
    let mut until = None;
    loop {
        let next = match until {
            None => asked.next().await,
            Some(until) => tokio::time::timeout_at(until, asked.next()).await.unwrap_or(None),
        };
        match next {
            Some((_, Ok(health))) if health.is_leader => return Ok(health),
            Some((_, Ok(health))) => {
                until.get_or_insert_with(|| Instant::now() + PATIENCE);
                if best.as_ref().is_none_or(|best| rank(&health) > rank(best)) {
                    best = Some(health);
                }
            }
            Some((_, Err(error))) => last_error = error,
            None => break,
        }
    }
    let Some(best) = best else {
        return Err(client.masters().describe(last_error));
    };
    if best.leader.is_empty() {
        return Ok(best);
    }
    let leader = Place { named: best.leader.clone(), at: None };
    Ok(ask(client, leader).await.1.ok().filter(|health| health.is_leader).unwrap_or(best))
}

async fn ask(client: &Client, place: Place) -> Said {
    let url = format!("http://{}/cluster/health", place.address());
    let health = fetch_json(&url, place.get(client.http(), &url), LIMIT).await;
    (place, health)
}

/// Masters that those named know of.
async fn others(client: &Client, named: &[Place]) -> Vec<String> {
    let asked = named.iter().map(async |place| {
        let url = format!("http://{}/cluster/status", place.address());
        fetch_json::<Known>(&url, place.get(client.http(), &url), LIMIT).await
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
    let masters = roles(&said);
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

/// Each master once, by its own word for itself. Of a name with several addresses those where nobody
/// answers are left out if somebody does at another: the masters name each other.
fn roles(said: &[Said]) -> Vec<MasterRole> {
    let answers = |named: &str| said.iter().any(|(at, said)| at.named == named && said.is_ok());
    let mut masters = BTreeMap::new();
    for (place, said) in said {
        let role = |address: &str, health: Option<&ClusterHealth>| MasterRole {
            address: address.to_owned(),
            is_leader: health.is_some_and(|health| health.is_leader),
            term: health.map_or(0, |health| health.term),
            unreachable: None,
        };
        match said {
            Ok(health) => {
                let own = Some(health.answered_by.as_str()).filter(|own| !own.is_empty());
                let address = own.unwrap_or(place.address());
                masters.insert(address.to_owned(), role(address, Some(health)));
            }
            Err(_) if place.at.is_some() && answers(&place.named) => {}
            Err(error) => {
                let unreachable = Some(error.to_string());
                let role = MasterRole { unreachable, ..role(place.address(), None) };
                masters.entry(role.address.clone()).or_insert(role);
            }
        }
    }
    masters.into_values().collect()
}

/// The leader knows best, of several that say so the one of the highest term; then who knows one.
fn rank(health: &ClusterHealth) -> (bool, u64, bool) {
    (health.is_leader, health.term, !health.leader.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(named: &str, at: Option<&str>) -> Place {
        Place { named: named.to_owned(), at: at.map(str::to_owned) }
    }

    fn health(own: &str, is_leader: bool) -> ClusterHealth {
        ClusterHealth {
            verdict: "healthy".to_owned(),
            findings: Vec::new(),
            leader: String::new(),
            is_leader,
            term: 3,
            servers: Vec::new(),
            volumes: BTreeMap::new(),
            answered_by: own.to_owned(),
        }
    }

    fn away() -> Result<ClusterHealth, ClientError> {
        Err(ClientError::Setup("away".to_owned()))
    }

    #[test]
    fn a_master_is_listed_once_whatever_it_is_called() {
        let said = [
            (place("localhost:1", Some("127.0.0.1:1")), Ok(health("10.0.0.1:1", true))),
            (place("localhost:1", Some("[::1]:1")), away()),
            (place("m1:1", None), Ok(health("10.0.0.1:1", true))),
            (place("10.0.0.1:1", None), Ok(health("10.0.0.1:1", true))),
            (place("old:1", None), Ok(health("", false))),
            (place("10.0.0.3:1", None), away()),
            (place("off:1", Some("10.0.0.4:1")), away()),
        ];
        let listed = roles(&said);
        let listed: Vec<_> =
            listed.iter().map(|m| (m.address.as_str(), m.is_leader, m.term)).collect();
        let all = [
            ("10.0.0.1:1", true, 3),
            ("10.0.0.3:1", false, 0),
            ("10.0.0.4:1", false, 0),
            ("old:1", false, 3),
        ];
        assert_eq!(listed, all);
    }
}
