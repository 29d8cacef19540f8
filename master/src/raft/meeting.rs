//! Meeting the other masters: a new master asks its peers until a cluster is founded or takes it
//! in; a member keeps in touch, so that one that moved is found again.
//!
//! What to do is decided in [`super::founding`]; here it is asked and done.

use std::{collections::BTreeSet, time::Duration};

use dulse_shared::{
    clock::{BootTime, Clock},
    net::{
        address::ServerAddress,
        peer::{PeerClient, PeerError},
    },
};
use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver;

use super::{
    bootstrap,
    format::Version,
    founding::{Answers, Obstacle, Step, next_step},
    hello::{HELLO, Introduction, JOIN, JoinRequest, Joined, Standing},
    node::Raft,
    type_config::{NodeId, Peer},
};

/// An answer that takes longer is none.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// Being taken in may need a snapshot.
const JOIN_LIMIT: Duration = Duration::from_secs(45);
/// A master that is taken in gets its vote within this time, or has to ask again.
const LEARNER_LIMIT: Duration = Duration::from_secs(40);
/// Between two rounds of a new master.
const NEW_PAUSE: Duration = Duration::from_millis(200);
/// Between two rounds of a member that knows no leader: one that moved may be what is missing.
const LOST_PAUSE: Duration = Duration::from_millis(500);
/// Between two rounds of a member otherwise.
const PAUSE: Duration = Duration::from_secs(5);
/// No cluster is founded before volume servers, which report each half second and try every tenth
/// of one when they cannot, had the time to say that they belong to one.
const LISTEN_FIRST: Duration = Duration::from_millis(1_500);
/// The log is told again what is missing after this long.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(30);

/// Asks whoever is at `address` who it is, telling it who asks.
pub(super) async fn ask(
    client: &PeerClient,
    address: &ServerAddress,
    me: &Introduction,
) -> Result<Introduction, PeerError> {
    client.post(&address.cluster(), HELLO, me, ANSWER_LIMIT).await
}

/// One master's side of it.
pub(super) struct Meeting {
    raft: Raft,
    clock: Clock,
    /// When all peers were there for the first time.
    complete_since: Option<BootTime>,
    told: Option<(String, BootTime)>,
    has_compared_peers: bool,
    learner_since: Option<BootTime>,
}

impl Meeting {
    /// Of a node that has just been opened.
    pub(super) fn new(raft: Raft) -> Self {
        let clock = Clock::default();
        Self {
            raft,
            clock,
            complete_since: None,
            told: None,
            has_compared_peers: false,
            learner_since: None,
        }
    }

    /// Meets the others for as long as the node runs; returns why it must not go on.
    pub(super) async fn run(mut self) -> String {
        loop {
            let Ok(me) = self.raft.introduction().await else {
                return "the Raft node has ended".to_owned();
            };
            let answers = self.ask_all(&me).await;
            if let Some(at) = twin(&me, &answers) {
                return format!(
                    "the master at {at} has the same node id as this one, {}: one of the two runs on \
                     a copy of the other's directory; give one of them an empty directory",
                    me.node
                );
            }
            let pause = match &me.standing {
                Standing::New { .. } => self.step(&me, &answers).await,
                Standing::Member { members, .. } => {
                    let members = members.keys().copied().collect();
                    self.keep_in_touch(&me, &members, &answers).await
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks the peers and the members, where they were last and where they should be.
    async fn ask_all(&self, me: &Introduction) -> Answers {
        let mut addresses: BTreeSet<String> = self.raft.peers().iter().map(to_text).collect();
        addresses.extend(self.raft.masters().into_iter().map(|master| master.address));
        addresses.extend(self.raft.address_book().all().iter().map(to_text));
        addresses.remove(&to_text(self.raft.address()));
        let asked = addresses.into_iter().map(|text| async move {
            let address: ServerAddress = text.parse().ok()?;
            let said = ask(self.raft.client(), &address, me).await.ok();
            Some((text, said))
        });
        let answers: Answers = join_all(asked).await.into_iter().flatten().collect();
        for said in answers.values().flatten() {
            self.raft.meet(said);
        }
        answers
    }

    async fn step(&mut self, me: &Introduction, answers: &Answers) -> Duration {
        match next_step(me, answers) {
            Step::Found(members) => {
                let now = self.clock.boot();
                let since = *self.complete_since.get_or_insert(now);
                if now.since(since) < LISTEN_FIRST {
                    return NEW_PAUSE;
                }
                self.raft.gathering().note_obstacle(None);
                tracing::info!("founding a cluster of {} masters", members.len());
                if let Err(error) = bootstrap::initialize(&self.raft, members).await {
                    tracing::warn!("the cluster was not founded: {error}");
                }
            }
            Step::Join { leader } => self.join(me, &leader).await,
            Step::Wait(obstacle) => self.tell(&obstacle),
        }
        NEW_PAUSE
    }

    async fn join(&mut self, me: &Introduction, leader: &ServerAddress) {
        let request = JoinRequest { version: Version, node: me.node, address: me.address.clone() };
        let joined = self.raft.client().post(&leader.cluster(), JOIN, &request, JOIN_LIMIT).await;
        let joined: Result<Joined, PeerError> = joined;
        match joined {
            Ok(_) => tracing::info!("taken in by the masters of the cluster"),
            Err(error) => {
                self.tell_text(format!("the leader {leader} did not take it in: {error}"))
            }
        }
    }

    /// Says what is missing: when that changes, and now and then.
    fn tell(&mut self, obstacle: &Obstacle) {
        self.raft.gathering().note_obstacle(Some(obstacle.to_string()));
        if !obstacle.is_passing() {
            self.tell_text(obstacle.to_string());
        }
    }

    fn tell_text(&mut self, text: String) {
        let now = self.clock.boot();
        let is_known = |(told, when): &(String, BootTime)| {
            *told == text && now.since(*when) < COMPLAINT_INTERVAL
        };
        if !self.told.as_ref().is_some_and(is_known) {
            tracing::warn!("{text}");
            self.told = Some((text, now));
        }
    }

    async fn keep_in_touch(
        &mut self,
        me: &Introduction,
        members: &BTreeSet<NodeId>,
        answers: &Answers,
    ) -> Duration {
        if matches!(me.standing, Standing::Member { cluster: Some(_), .. }) {
            self.raft.gathering().note_obstacle(None);
        }
        self.compare_peers();
        if is_expelled(me, answers) {
            self.tell_text(
                "this master was taken out of its cluster: stop it; to take it in again, give it \
                 an empty directory first"
                    .to_owned(),
            );
        }
        self.press_on(me).await;
        if self.raft.confirmed_term().is_some() {
            self.settle(members, answers).await;
            return PAUSE;
        }
        if self.raft.leadership().leader.is_some() { PAUSE } else { LOST_PAUSE }
    }

    /// A learner is one for as long as it takes to get the log. If it still is one later, whoever
    /// led then did not end what it began.
    async fn press_on(&mut self, me: &Introduction) {
        let now = self.clock.boot();
        if self.raft.is_voter(me.node) {
            self.learner_since = None;
            return;
        }
        let since = *self.learner_since.get_or_insert(now);
        if self.clock.since(since) >= LEARNER_LIMIT
            && let Some(leader) = self.raft.leadership().leader
        {
            self.join(me, &leader).await;
        }
    }

    /// `--peers` has no effect on a member: whoever changed it should hear that.
    fn compare_peers(&mut self) {
        let peers: BTreeSet<String> = self.raft.peers().iter().map(to_text).collect();
        if self.has_compared_peers || peers.is_empty() {
            return;
        }
        self.has_compared_peers = true;
        let masters = self.raft.masters().into_iter().map(|master| master.address);
        let masters: BTreeSet<String> = masters.collect();
        if peers != masters {
            let list = |of: BTreeSet<String>| of.into_iter().collect::<Vec<_>>().join(",");
            tracing::warn!(
                "--peers {} is not what the masters agreed on, {}: it only counts for a master \
                 with a new directory; `dulse cluster masters add` and `remove` change the masters",
                list(peers),
                list(masters)
            );
        }
    }

    /// The leader's part: has moves agreed on, and ends a change that was left half done.
    async fn settle(&self, members: &BTreeSet<NodeId>, answers: &Answers) {
        let others = answers.values().flatten().map(|said| (said.node, &said.address));
        let here = Peer { address: self.raft.address().clone() };
        let found = others.chain([(self.raft.id(), &here)]);
        for (node, peer) in found.filter(|(node, _)| members.contains(node)) {
            if !self.raft.is_member_at(node, &peer.address)
                && let Err(error) = self.raft.move_master(node, &peer.address).await
            {
                tracing::warn!("cannot have it agreed on that {node} moved: {error}");
            }
        }
        if self.raft.is_changing_masters()
            && let Err(error) = self.raft.finish_change().await
        {
            tracing::warn!("cannot end a change of the masters: {error}");
        }
    }
}

/// Where another process has the id of this node, which a copy of its directory has.
fn twin<'a>(me: &Introduction, answers: &'a Answers) -> Option<&'a String> {
    let same = |said: &Introduction| said.node == me.node && said.address != me.address;
    answers.iter().find(|(_, said)| said.as_ref().is_some_and(same)).map(|(at, _)| at)
}

/// Whether another master of the same cluster, which knows the leader, does not count this one in.
fn is_expelled(me: &Introduction, answers: &Answers) -> bool {
    let Standing::Member { cluster: Some(ours), .. } = &me.standing else {
        return false;
    };
    answers.values().flatten().any(|said| match &said.standing {
        Standing::Member { cluster, members, leader: Some(_) } => {
            *cluster == Some(*ours) && !members.contains_key(&me.node)
        }
        _ => false,
    })
}

fn to_text(address: &ServerAddress) -> String {
    address.to_string()
}

impl Raft {
    /// What this master says of itself.
    pub(super) async fn introduction(&self) -> Result<Introduction, ()> {
        let is_initialized = self.core().is_initialized().await.map_err(|_| ())?;
        // Before the metrics are looked at: whoever applies something may hold the state for long.
        let cluster = self.read(|state| state.cluster);
        let standing = if is_initialized {
            let metrics = self.metrics().borrow_watched();
            let members = metrics.membership_config.membership().nodes();
            Standing::Member {
                cluster,
                members: members.map(|(node, peer)| (*node, peer.clone())).collect(),
                leader: metrics.current_leader,
            }
        } else {
            Standing::New {
                heard: self.gathering().heard_clusters(),
                recovery: self.gathering().recovery(),
            }
        };
        let peers = self.peers_as_said();
        let address = Peer { address: self.address().clone() };
        Ok(Introduction { version: Version, node: self.id(), address, peers, standing })
    }

    /// The masters it was told to found a cluster with, sorted.
    pub(super) fn peers_as_said(&self) -> Vec<Peer> {
        let peers = self.peers().iter().map(|address| Peer { address: address.clone() });
        let mut peers: Vec<Peer> = peers.collect();
        peers.sort_by_key(|peer| peer.address.to_string());
        peers
    }

    /// Remembers where a master says it is, if it is one of this cluster, and what it was asked to
    /// recover.
    pub(super) fn meet(&self, other: &Introduction) {
        self.recover_with(other);
        let metrics = self.metrics().borrow_watched();
        let membership = metrics.membership_config.membership();
        if membership.get_node(&other.node).is_some() {
            self.address_book().learn(other.node, other.address.address.clone());
        }
    }

    fn is_member_at(&self, node: NodeId, address: &ServerAddress) -> bool {
        let metrics = self.metrics().borrow_watched();
        let peer = metrics.membership_config.membership().get_node(&node);
        peer.is_none_or(|peer| peer.address == *address)
    }

    fn is_changing_masters(&self) -> bool {
        let metrics = self.metrics().borrow_watched();
        metrics.membership_config.membership().get_joint_config().len() > 1
    }
}
