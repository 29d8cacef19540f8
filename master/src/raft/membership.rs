//! Who the masters are, and how the leader changes that: one change at a time, each agreed on by
//! the masters there were and those there will be.
//!
//! A master that comes in is a learner first, so that it has the log before its vote counts.

use std::{collections::BTreeSet, time::Duration};

use dulse_shared::{
    net::address::ServerAddress,
    wire::{MasterNode, MasterReport, MasterRole},
};
use openraft::{
    ChangeMembers, Instant,
    async_runtime::watch::WatchReceiver,
    errors::{ChangeMembershipError, ClientWriteError, RaftError},
};

use super::{
    error::{MembershipError, ProposeError},
    hello::Standing,
    meeting::ask,
    node::Raft,
    type_config::{NodeId, Peer, TypeConfig},
};

/// A master that comes in has the log within this time, or it does not come in: a snapshot of a
/// large cluster takes seconds.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(30);
/// A change that is not agreed on by then lacks a quorum.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);

impl Raft {
    /// All masters, as this one knows them; the leader knows how far each is.
    pub fn masters(&self) -> Vec<MasterReport> {
        let leader = self.leader_node();
        let metrics = self.metrics().borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let last = metrics.last_log_index.unwrap_or(0);
        let matched = |node: &NodeId| {
            let matched = metrics.replication.as_ref()?.get(node)?.as_ref();
            Some(matched.map_or(0, |log_id| log_id.index))
        };
        let heard =
            |node: &NodeId| Some(metrics.heartbeat.as_ref()?.get(node)?.as_ref()?.elapsed());
        let report = |(node, peer): (&NodeId, &Peer)| MasterReport {
            address: peer.address.to_string(),
            node: node.to_string(),
            is_this_one: *node == self.id(),
            role: match leader {
                Some(leader) if leader == *node => MasterRole::Leader,
                _ if voters.contains(node) => MasterRole::Follower,
                _ => MasterRole::Learner,
            },
            entries_behind: matched(node).map(|matched| last.saturating_sub(matched)),
            heard_ms: heard(node).and_then(|ago| u64::try_from(ago.as_millis()).ok()),
        };
        membership.nodes().map(report).collect()
    }

    /// This master, as volume servers are told.
    pub fn master_node(&self) -> MasterNode {
        self.id().into()
    }

    /// Takes in the new master at `address`.
    pub async fn add_master(&self, address: &ServerAddress) -> Result<(), MembershipError> {
        let _change = self.begin_change()?;
        if self.voter_at(address).is_some() {
            return Err(MembershipError::AlreadyMember { address: address.to_string() });
        }
        let node = self.new_master_at(address).await?;
        self.require_quorum(&[node], &[])?;
        self.teach(node, address).await?;
        let voters = ChangeMembers::AddVoterIds(BTreeSet::from([node]));
        self.change(voters).await?;
        tracing::info!("{address} is a master of this cluster now");
        Ok(())
    }

    /// Takes the master at `address` out. If that is this one, another one leads afterwards, which
    /// has to be asked.
    pub async fn remove_master(&self, address: &ServerAddress) -> Result<(), MembershipError> {
        let _change = self.begin_change()?;
        let Some(node) = self.voter_at(address).or_else(|| self.member_at(address)) else {
            return Err(self.not_a_member(address));
        };
        if node == self.id() {
            if !self.hand_over(None).await {
                return Err(MembershipError::LastMaster { address: address.to_string() });
            }
            return Err(ProposeError::NotLeader { leader: self.leadership().leader }.into());
        }
        self.require_quorum(&[], &[node])?;
        let nodes = BTreeSet::from([node]);
        self.change(if self.is_voter(node) {
            ChangeMembers::RemoveVoters(nodes)
        } else {
            ChangeMembers::RemoveNodes(nodes)
        })
        .await?;
        tracing::info!("{address} is no master of this cluster any more");
        Ok(())
    }

    /// Makes the master at `address` lead, or any other one.
    pub async fn transfer_to(
        &self,
        address: Option<&ServerAddress>,
    ) -> Result<(), MembershipError> {
        let _change = self.begin_change()?;
        let successor = match address {
            None => None,
            Some(address) => {
                let node = self.voter_at(address).ok_or_else(|| self.not_a_member(address))?;
                if node == self.id() {
                    return Ok(());
                }
                Some(node)
            }
        };
        if self.hand_over(successor).await {
            return Ok(());
        }
        let to = address.map_or_else(|| "another master".to_owned(), ToString::to_string);
        Err(MembershipError::NotTakenOver { to })
    }

    /// Puts the new master `node` into the place of the member that had its address, and lost its
    /// directory.
    pub(super) async fn replace_master(
        &self,
        node: NodeId,
        address: &ServerAddress,
    ) -> Result<(), MembershipError> {
        let _change = self.begin_change()?;
        let old = self.voter_at(address);
        if old == Some(node) {
            return Ok(());
        }
        // A learner alone is one whose addition nobody ended.
        if old.is_none() && !self.is_learner(node) {
            return Err(self.not_a_member(address));
        }
        let found = self.new_master_at(address).await?;
        if found != node {
            return Err(MembershipError::AnotherThere { address: address.to_string() });
        }
        let old: Vec<NodeId> = old.into_iter().collect();
        self.require_quorum(&[node], &old)?;
        self.teach(node, address).await?;
        let old_ids = old.iter().copied().collect();
        let change = ChangeMembers::Batch(vec![
            ChangeMembers::AddVoterIds(BTreeSet::from([node])),
            ChangeMembers::RemoveVoters(old_ids),
        ]);
        self.change(change).await?;
        let Some(old) = old.first() else {
            return Ok(());
        };
        tracing::warn!(
            "the master at {address} came back without its directory, as node {node}: it has the \
             place of node {old} now and everything that was agreed on"
        );
        Ok(())
    }

    /// Has it agreed on that a member moved.
    pub(super) async fn move_master(
        &self,
        node: NodeId,
        address: &ServerAddress,
    ) -> Result<(), MembershipError> {
        let _change = self.begin_change()?;
        let peer = Peer { address: address.clone() };
        self.change(ChangeMembers::SetNodes([(node, peer)].into())).await?;
        tracing::info!("the master {node} is at {address} now");
        Ok(())
    }

    /// Ends a change that a leader left half done.
    pub(super) async fn finish_change(&self) -> Result<(), MembershipError> {
        let _change = self.begin_change()?;
        self.change(ChangeMembers::AddVoterIds(BTreeSet::new())).await
    }

    /// Held while the masters change: a second change waits for its turn by being refused.
    fn begin_change(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, MembershipError> {
        let change = self.membership_change().try_lock().map_err(|_| MembershipError::Busy)?;
        if self.confirmed_term().is_none() {
            return Err(ProposeError::NotLeader { leader: self.leadership().leader }.into());
        }
        Ok(change)
    }

    fn member_at(&self, address: &ServerAddress) -> Option<NodeId> {
        let metrics = self.metrics().borrow_watched();
        let membership = metrics.membership_config.membership();
        let mut nodes = membership.nodes();
        nodes.find(|(_, peer)| peer.address == *address).map(|(node, _)| *node)
    }

    /// A learner may be at the address of the voter that it is to replace.
    fn voter_at(&self, address: &ServerAddress) -> Option<NodeId> {
        let metrics = self.metrics().borrow_watched();
        let membership = metrics.membership_config.membership();
        let mut voters = membership.voter_ids();
        voters.find(|id| membership.get_node(id).is_some_and(|peer| peer.address == *address))
    }

    pub(super) fn is_voter(&self, node: NodeId) -> bool {
        let metrics = self.metrics().borrow_watched();
        let mut voters = metrics.membership_config.membership().voter_ids();
        voters.any(|voter| voter == node)
    }

    fn not_a_member(&self, address: &ServerAddress) -> MembershipError {
        let members = self.masters().into_iter().map(|master| master.address);
        let members: Vec<String> = members.collect();
        MembershipError::NotAMember { address: address.to_string(), members: members.join(", ") }
    }

    fn is_learner(&self, node: NodeId) -> bool {
        let metrics = self.metrics().borrow_watched();
        let mut learners = metrics.membership_config.membership().learner_ids();
        learners.any(|learner| learner == node)
    }

    /// The node at `address`, if it is in no cluster, or was about to be taken into this one.
    async fn new_master_at(&self, address: &ServerAddress) -> Result<NodeId, MembershipError> {
        let at = || address.to_string();
        let me = self.introduction().await.map_err(|_| ProposeError::Stopped)?;
        let there = ask(self.client(), address, &me).await;
        let there = there.map_err(|source| MembershipError::Unreachable {
            address: at(),
            source: source.into(),
        })?;
        match there.standing {
            // One that was about to be taken in knows this cluster already.
            Standing::Member { cluster, .. }
                if self.is_voter(there.node)
                    || cluster.is_none()
                    || cluster != self.read(|state| state.cluster) =>
            {
                Err(MembershipError::NotNew { address: at() })
            }
            _ if there.address.address == *address => Ok(there.node),
            _ => Err(MembershipError::AnotherThere { address: at() }),
        }
    }

    /// Refuses a change after which those that answer would be no majority: nothing could be agreed
    /// on any more, not even another change. Who comes in answered a moment ago.
    fn require_quorum(&self, more: &[NodeId], fewer: &[NodeId]) -> Result<(), MembershipError> {
        let metrics = self.metrics().borrow_watched();
        let voters = metrics.membership_config.membership().voter_ids();
        let mut voters: BTreeSet<NodeId> = voters.filter(|id| !fewer.contains(id)).collect();
        voters.extend(more);
        let answers =
            |id: &&NodeId| **id == self.id() || more.contains(id) || self.was_heard(&metrics, **id);
        let (masters, heard) = (voters.len(), voters.iter().filter(answers).count());
        let needed = masters / 2 + 1;
        if heard < needed {
            return Err(MembershipError::TooFew { masters, needed, heard });
        }
        Ok(())
    }

    /// Waits until `node` has everything up to the entry `index`.
    async fn wait_for_log(&self, node: NodeId, index: u64) {
        let mut metrics = self.metrics().clone();
        loop {
            let has_it = {
                let metrics = metrics.borrow_watched();
                let matched =
                    metrics.replication.as_ref().and_then(|all| all.get(&node).copied()?);
                matched.is_some_and(|log_id| log_id.index >= index)
            };
            if has_it || metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// Makes `node` a learner and waits until it has the log; takes it out again if it does not.
    async fn teach(&self, node: NodeId, address: &ServerAddress) -> Result<(), MembershipError> {
        let peer = Peer { address: address.clone() };
        // What the library counts as caught up may be thousands of entries late.
        let taught = async {
            let added = self.core().add_learner(node, peer, false).await?;
            self.wait_for_log(node, added.log_id.index).await;
            Ok(())
        };
        let error = match tokio::time::timeout(CATCH_UP_LIMIT, taught).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => self.not_changed(error),
            Err(_) => MembershipError::NotCaughtUp { address: address.to_string() },
        };
        // Left in, it would only be sent a log that nobody needs there.
        let _ = self.change(ChangeMembers::RemoveNodes(BTreeSet::from([node]))).await;
        Err(error)
    }

    async fn change(&self, change: ChangeMembers<NodeId, Peer>) -> Result<(), MembershipError> {
        let changed = self.core().change_membership(change, false);
        match tokio::time::timeout(CHANGE_LIMIT, changed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.not_changed(error)),
            Err(_) => {
                let reason = format!("no quorum within {} s", CHANGE_LIMIT.as_secs());
                Err(ProposeError::Unknown { reason }.into())
            }
        }
    }

    fn not_changed(
        &self,
        error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>,
    ) -> MembershipError {
        match error {
            RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_),
            )) => MembershipError::Busy,
            RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
                MembershipError::Impossible { reason: error.to_string() }
            }
            other => self.not_written(other).into(),
        }
    }
}
