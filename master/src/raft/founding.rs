//! What a new master that was given peers does next: found a cluster with them, take the place of
//! the member that it was before it lost its directory, or wait. Pure.
//!
//! A cluster is founded only when *all* peers answer that they are new and name the same peers. A
//! majority is not enough: two of three masters that lost their directories would found a second
//! cluster beside the one that the third remembers, and hand out its ids again. Nor is one founded
//! while a volume server reports that belongs to a cluster: then every master has lost its
//! directory, and that cluster is founded anew once somebody asked for it and all masters know.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use dulse_shared::{id::ClusterId, net::address::ServerAddress};

use super::{
    hello::{HeardCluster, Introduction, Standing},
    type_config::{NodeId, Peer},
};

/// What the others said, by the address they were asked at; none of one that did not answer.
pub(super) type Answers = BTreeMap<String, Option<Introduction>>;

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Found a cluster of these.
    Found(BTreeMap<NodeId, ServerAddress>),
    /// Ask this leader for the place of the member that has this master's address.
    Join {
        /// The leader.
        leader: ServerAddress,
    },
    /// Ask again in a moment.
    Wait(Obstacle),
}

/// Why nothing can be done yet; its text says what would help.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Obstacle {
    /// Some peers do not answer.
    Absent(Vec<String>),
    /// A peer was given another list.
    OtherPeers { at: String, theirs: String, ours: String },
    /// Who answers at an address says that it is elsewhere.
    Elsewhere { at: String, says: String },
    /// Two addresses lead to one master.
    SameMaster { one: String, other: String },
    /// Volume servers are of a cluster that none of the masters remembers.
    StateLost { servers: Vec<String>, cluster: ClusterId },
    /// Not all have heard yet which cluster is to be recovered.
    Agreeing,
    /// Two clusters are to be recovered.
    TwoRecoveries { one: ClusterId, other: ClusterId },
    /// The master with the lowest address founds it.
    FoundedBy(String),
    /// The masters that answer are of different clusters.
    TwoClusters { one: String, other: String },
    /// The cluster has no master at this one's address.
    NotAMember { here: String, ask: String },
    /// The masters that still are in a cluster are too few to take this one in.
    NoLeader { left: Vec<String>, masters: usize },
    /// It is being taken in.
    Joining,
}

impl Obstacle {
    /// Whether it goes away by itself, in a moment.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::FoundedBy(_) | Self::Joining | Self::Agreeing)
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(addresses) => write!(
                f,
                "waiting for {}: a new cluster is founded once all of --peers answer; start them, \
                 or mend --peers",
                addresses.join(" and ")
            ),
            Self::OtherPeers { at, theirs, ours } => write!(
                f,
                "no cluster is founded: {at} was started with --peers {theirs}, this master with \
                 --peers {ours}; start all masters with the same list"
            ),
            Self::Elsewhere { at, says } => write!(
                f,
                "no cluster is founded: the master at {at} says that it is {says}; start it with \
                 --advertise, --ip or ports as in --peers"
            ),
            Self::SameMaster { one, other } => write!(
                f,
                "no cluster is founded: {one} and {other} of --peers are the same master; name \
                 each once, and if one's directory is a copy of the other's, empty it"
            ),
            Self::StateLost { servers, cluster } => {
                let servers = servers.join(",");
                write!(
                    f,
                    "no cluster is founded: the volume servers {servers} belong to cluster {cluster}, \
                     and none of these masters does. If that is another cluster, mend their --master. \
                     If the masters lost their directories for good, run `dulse cluster recover --from \
                     {servers}`, with all volume servers in --from; see \"When masters are lost\" in \
                     the operations guide"
                )
            }
            Self::Agreeing => write!(f, "agreeing on which cluster is recovered"),
            Self::TwoRecoveries { one, other } => write!(
                f,
                "no cluster is founded: the masters were asked to recover two, {one} and {other}; \
                 stop all of them, start them again and ask for one"
            ),
            Self::FoundedBy(address) => write!(f, "waiting for {address} to found the cluster"),
            Self::TwoClusters { one, other } => write!(
                f,
                "{one} and {other} of --peers are masters of different clusters: name those of one"
            ),
            Self::NotAMember { here, ask } => write!(
                f,
                "the cluster of {ask} has no master at {here}: to add this one, run `dulse cluster \
                 masters add {here} --master {ask}`"
            ),
            Self::NoLeader { left, masters } => write!(
                f,
                "no cluster is founded: {} of its {masters} masters still has a cluster's state \
                 ({}), and it takes {} to let this one in; start those that have it. If the other \
                 directories are lost for good, see \"When masters are lost\" in the operations \
                 guide",
                left.len(),
                left.join(", "),
                masters / 2 + 1
            ),
            Self::Joining => write!(f, "being taken in by the other masters"),
        }
    }
}

/// The next step of a new master that says `me`, after its peers said `answers`.
pub(super) fn next_step(me: &Introduction, answers: &Answers) -> Step {
    let said: Vec<(&String, &Introduction)> =
        answers.iter().filter_map(|(at, said)| Some((at, said.as_ref()?))).collect();
    if said.iter().any(|(_, said)| matches!(said.standing, Standing::Member { .. })) {
        return step_of_a_newcomer(me, &said);
    }
    match obstacle_to_founding(me, answers, &said) {
        Some(obstacle) => Step::Wait(obstacle),
        None => {
            let others = said.iter().map(|(_, said)| *said);
            Step::Found(others.chain([me]).map(|m| (m.node, m.address.address.clone())).collect())
        }
    }
}

fn obstacle_to_founding(
    me: &Introduction,
    answers: &Answers,
    said: &[(&String, &Introduction)],
) -> Option<Obstacle> {
    if let Some((at, other)) = said.iter().find(|(_, said)| said.peers != me.peers) {
        let (theirs, ours) = (list(&other.peers), list(&me.peers));
        return Some(Obstacle::OtherPeers { at: (*at).clone(), theirs, ours });
    }
    let absent: Vec<String> =
        answers.iter().filter(|(_, said)| said.is_none()).map(|(at, _)| at.clone()).collect();
    if !absent.is_empty() {
        return Some(Obstacle::Absent(absent));
    }
    let is_elsewhere =
        |(at, said): &&(&String, &Introduction)| said.address.address.to_string() != **at;
    if let Some((at, said)) = said.iter().find(is_elsewhere) {
        let (at, says) = ((*at).clone(), said.address.address.to_string());
        return Some(Obstacle::Elsewhere { at, says });
    }
    if let Some(same) = same_master(me, said) {
        return Some(same);
    }
    let all: Vec<&Introduction> = said.iter().map(|(_, said)| *said).chain([me]).collect();
    if let Some(obstacle) = obstacle_of_a_lost_cluster(&all) {
        return Some(obstacle);
    }
    let lowest = me.peers.first()?;
    (*lowest != me.address).then(|| Obstacle::FoundedBy(lowest.address.to_string()))
}

/// What is left of a cluster keeps another from being founded, until all masters know that they are to
/// recover it.
fn obstacle_of_a_lost_cluster(all: &[&Introduction]) -> Option<Obstacle> {
    let (mut heard, mut recoveries) = (Vec::new(), Vec::new());
    for master in all {
        if let Standing::New { heard: theirs, recovery } = &master.standing {
            heard.extend(theirs);
            recoveries.push(*recovery);
        }
    }
    let asked = recoveries.iter().flatten().next();
    let is_other =
        |heard: &&&HeardCluster| asked.is_none_or(|asked| asked.cluster != heard.cluster);
    if let Some(HeardCluster { cluster, .. }) = heard.iter().find(is_other) {
        let of_it = heard.iter().filter(|heard| heard.cluster == *cluster);
        let servers: BTreeSet<String> = of_it.map(|heard| heard.server.clone()).collect();
        let servers = servers.into_iter().collect();
        return Some(Obstacle::StateLost { servers, cluster: *cluster });
    }
    let asked = asked?;
    if let Some(other) = recoveries.iter().flatten().find(|r| r.cluster != asked.cluster) {
        return Some(Obstacle::TwoRecoveries { one: asked.cluster, other: other.cluster });
    }
    let do_all_know = recoveries.iter().all(|recovery| recovery.as_ref() == Some(asked));
    (!do_all_know).then_some(Obstacle::Agreeing)
}

fn same_master(me: &Introduction, said: &[(&String, &Introduction)]) -> Option<Obstacle> {
    let here = me.address.address.to_string();
    let mut seen = BTreeMap::from([(me.node, here)]);
    for (at, other) in said {
        if let Some(one) = seen.insert(other.node, (*at).clone()) {
            return Some(Obstacle::SameMaster { one, other: (*at).clone() });
        }
    }
    None
}

/// Some of the peers are in a cluster.
fn step_of_a_newcomer(me: &Introduction, said: &[(&String, &Introduction)]) -> Step {
    let mut clusters = BTreeMap::new();
    let mut left = BTreeSet::new();
    let mut known: Option<(&String, &BTreeMap<NodeId, Peer>)> = None;
    let mut leader = None;
    for (at, other) in said {
        let Standing::Member { cluster, members, leader: theirs } = &other.standing else {
            continue;
        };
        left.insert((*at).clone());
        if let Some(cluster) = cluster {
            clusters.insert(*cluster, (*at).clone());
        }
        leader = leader.or(theirs.and_then(|node| members.get(&node)));
        if known.is_none() || *theirs == Some(other.node) {
            known = Some((at, members));
        }
    }
    if let [(_, one), (_, other), ..] = clusters.iter().collect::<Vec<_>>().as_slice() {
        let (one, other) = ((*one).clone(), (*other).clone());
        return Step::Wait(Obstacle::TwoClusters { one, other });
    }
    let Some((ask, members)) = known else {
        return Step::Wait(Obstacle::Joining);
    };
    if members.contains_key(&me.node) {
        return Step::Wait(Obstacle::Joining);
    }
    if members.values().all(|peer| *peer != me.address) {
        let here = me.address.address.to_string();
        return Step::Wait(Obstacle::NotAMember { here, ask: ask.clone() });
    }
    match leader {
        Some(leader) => Step::Join { leader: leader.address.clone() },
        // They are electing one.
        None if left.len() > members.len() / 2 => Step::Wait(Obstacle::Joining),
        None => {
            let left = left.into_iter().collect();
            Step::Wait(Obstacle::NoLeader { left, masters: members.len() })
        }
    }
}

fn list(peers: &[Peer]) -> String {
    let addresses: Vec<String> = peers.iter().map(|peer| peer.address.to_string()).collect();
    addresses.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster_state::Recovery, raft::format::Version};

    fn peer(name: &str) -> Peer {
        Peer { address: format!("{name}:9333").parse().unwrap() }
    }

    fn introduction(node: u64, name: &str, standing: Standing) -> Introduction {
        Introduction {
            version: Version,
            node: node.into(),
            address: peer(name),
            peers: ["a", "b", "c"].map(peer).to_vec(),
            standing,
        }
    }

    fn new(node: u64, name: &str) -> Introduction {
        introduction(node, name, Standing::New { heard: Vec::new(), recovery: None })
    }

    /// A member of the cluster of a, b and c, which are the nodes 1 to 3.
    fn member(node: u64, name: &str, leader: Option<u64>) -> Introduction {
        let members = [(1, "a"), (2, "b"), (3, "c")].map(|(n, name)| (n.into(), peer(name)));
        let standing = Standing::Member {
            cluster: Some(ClusterId::from(7)),
            members: members.into(),
            leader: leader.map(NodeId::from),
        };
        introduction(node, name, standing)
    }

    fn answers<const N: usize>(said: [(&str, Option<Introduction>); N]) -> Answers {
        said.into_iter().map(|(name, said)| (format!("{name}:9333"), said)).collect()
    }

    fn obstacle(me: &Introduction, answers: &Answers) -> String {
        match next_step(me, answers) {
            Step::Wait(obstacle) => obstacle.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_lowest_founds_a_cluster_of_all_once_all_are_new_and_agree() {
        let all = answers([("b", Some(new(2, "b"))), ("c", Some(new(3, "c")))]);
        let members = [(1, "a"), (2, "b"), (3, "c")];
        let members = members.map(|(node, name)| (node.into(), peer(name).address));
        assert_eq!(next_step(&new(1, "a"), &all), Step::Found(members.into()));
        let others = answers([("a", Some(new(1, "a"))), ("c", Some(new(3, "c")))]);
        assert!(obstacle(&new(2, "b"), &others).contains("a:9333 to found"));
    }

    #[test]
    fn a_majority_founds_nothing() {
        let two = answers([("b", Some(new(2, "b"))), ("c", None)]);
        assert!(obstacle(&new(1, "a"), &two).starts_with("waiting for c:9333"));
    }

    #[test]
    fn different_lists_are_both_named_whoever_is_absent() {
        let mut other = new(2, "b");
        other.peers.pop();
        let text = obstacle(&new(1, "a"), &answers([("b", Some(other)), ("c", None)]));
        for part in ["b:9333 was", "--peers a:9333,b:9333,", "--peers a:9333,b:9333,c:9333;"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn one_master_is_not_counted_as_two() {
        let elsewhere = answers([("b", Some(new(2, "b"))), ("c", Some(new(2, "b")))]);
        assert!(obstacle(&new(1, "a"), &elsewhere).contains("at c:9333 says that it is b:9333"));
        let twice = answers([("b", Some(new(2, "b"))), ("c", Some(new(2, "c")))]);
        assert!(obstacle(&new(1, "a"), &twice).contains("b:9333 and c:9333"));
        let itself = answers([("b", Some(new(1, "b"))), ("c", Some(new(3, "c")))]);
        assert!(obstacle(&new(1, "a"), &itself).contains("a:9333 and b:9333"));
    }

    #[test]
    fn masters_that_all_lost_their_directories_found_nothing_beside_old_volumes() {
        let heard = vec![HeardCluster { server: "v:8080".to_owned(), cluster: ClusterId::from(7) }];
        let told = introduction(3, "c", Standing::New { heard, recovery: None });
        let all = answers([("b", Some(new(2, "b"))), ("c", Some(told.clone()))]);
        assert!(obstacle(&new(1, "a"), &all).contains("v:8080 belong to cluster"));
        let others = answers([("a", Some(new(1, "a"))), ("b", Some(new(2, "b")))]);
        assert!(obstacle(&told, &others).contains("v:8080"), "its own volume server counts too");
    }

    #[test]
    fn a_lost_cluster_is_founded_anew_once_all_know_that_it_is_to_be_recovered() {
        let recovery = |n| Recovery {
            cluster: ClusterId::from(n),
            next_key: 9,
            next_volume_id: 5,
            map_version: 3,
        };
        let told = |node, name, recovery| {
            let heard =
                vec![HeardCluster { server: "v:8080".to_owned(), cluster: ClusterId::from(7) }];
            introduction(node, name, Standing::New { heard, recovery })
        };
        let others = |b, c| answers([("b", Some(told(2, "b", b))), ("c", Some(told(3, "c", c)))]);
        let (ours, other) = (Some(recovery(7)), Some(recovery(8)));
        let a = told(1, "a", ours);
        assert!(matches!(next_step(&a, &others(ours, ours)), Step::Found(_)));
        assert_eq!(next_step(&a, &others(ours, None)), Step::Wait(Obstacle::Agreeing));
        let text = obstacle(&told(1, "a", other), &others(other, other));
        assert!(text.contains("v:8080 belong to cluster"), "another one is asked for: {text}");
        let a = introduction(1, "a", Standing::New { heard: Vec::new(), recovery: ours });
        let b = introduction(2, "b", Standing::New { heard: Vec::new(), recovery: other });
        let text = obstacle(&a, &answers([("b", Some(b)), ("c", Some(new(3, "c")))]));
        assert!(text.contains("recover two"), "{text}");
    }

    #[test]
    fn a_master_that_lost_its_directory_takes_its_old_place() {
        let others =
            answers([("a", Some(member(1, "a", Some(2)))), ("b", Some(member(2, "b", Some(2))))]);
        let leader = peer("b").address;
        assert_eq!(next_step(&new(9, "c"), &others), Step::Join { leader });
        let stranger = new(9, "d");
        assert!(obstacle(&stranger, &others).contains("masters add d:9333 --master b:9333"));
        assert_eq!(next_step(&new(3, "c"), &others), Step::Wait(Obstacle::Joining));
    }

    #[test]
    fn two_that_lost_their_directories_wait_while_the_third_lives() {
        for other in [None, Some(new(8, "b"))] {
            let left = answers([("a", Some(member(1, "a", None))), ("b", other)]);
            let text = obstacle(&new(9, "c"), &left);
            assert!(text.contains("1 of its 3 masters") && text.contains("it takes 2"), "{text}");
        }
    }

    #[test]
    fn masters_of_different_clusters_are_told_apart() {
        let mut other = member(2, "b", None);
        let Standing::Member { cluster, .. } = &mut other.standing else { panic!() };
        *cluster = Some(ClusterId::from(8));
        let both = answers([("a", Some(member(1, "a", Some(1)))), ("b", Some(other))]);
        assert!(obstacle(&new(9, "c"), &both).contains("different clusters"));
    }
}
