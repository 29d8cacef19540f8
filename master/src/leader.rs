//! What only the leader can do, asked of any master: followers ask the leader on its cluster port.
//!
//! While no master leads, a request waits for the next leader, which comes within a second unless
//! too few masters are left. A leader that does not answer is given up as soon as another one is
//! known. Asking twice is harmless: keys that nobody hears of are never handed out again.

use std::{pin::Pin, time::Duration};

use dulse_shared::{
    id::VolumeId,
    net::{
        address::ServerAddress,
        peer::{PeerClient, PeerError},
    },
    wire::{ChangeMasters, Code, Masters, Problem},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::Sleep;

use crate::{
    assign::{AssignRequest, Assigner, Assignment},
    cluster::Cluster,
    placement::LocationWish,
    raft::{Leadership, MembershipError},
    volume_layout::LayoutKey,
};

/// `POST` an [`AssignCall`] to the leader's cluster port, answered by an [`Assignment`].
pub(crate) const ASSIGN: &str = "/leader/assign";
/// `POST` a [`ChangeMasters`] to the leader's cluster port, answered by [`Masters`].
pub(crate) const MASTERS: &str = "/leader/masters";

/// `POST` a [`GrowCall`] to the leader's cluster port, answered by [`Grown`].
pub(crate) const GROW: &str = "/leader/grow";

/// A request waits this long for somebody to lead: an election and the first grant of keys take
/// less. A client with other masters to ask should not be kept from them for longer.
const LEADER_WAIT: Duration = Duration::from_millis(1_500);
/// Between two looks at who leads.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// An assign that makes a layout grow takes up to ten seconds.
const ASSIGN_LIMIT: Duration = Duration::from_secs(12);
/// A thousand volumes are made, a few at a time.
const GROW_LIMIT: Duration = Duration::from_secs(120);
/// A master that is taken in is sent everything first.
const CHANGE_LIMIT: Duration = Duration::from_secs(60);

/// An assign that another master was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct AssignCall {
    pub(crate) request: AssignRequest,
    /// Volumes that just refused a write.
    pub(crate) avoid: Vec<VolumeId>,
}

/// Volumes that another master was asked to make.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct GrowCall {
    pub(crate) key: LayoutKey,
    pub(crate) wish: LocationWish,
    /// How many.
    pub(crate) volumes: usize,
}

/// Volumes that were made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Grown {
    /// Copies, of all volumes.
    pub(crate) count: usize,
}

/// Makes volumes, by way of the leader. If that dies before it answers, its successor makes as many
/// once more.
pub(crate) async fn grow_anywhere(
    cluster: &Cluster,
    assigner: &Assigner,
    peers: &PeerClient,
    call: &GrowCall,
) -> Result<Grown, Problem> {
    at_leader(cluster, peers, GROW, || call.clone(), GROW_LIMIT, || grow(assigner, call)).await
}

/// Makes volumes, if this master leads.
pub(crate) async fn grow(assigner: &Assigner, call: &GrowCall) -> Result<Grown, Problem> {
    let GrowCall { key, wish, volumes } = call;
    let count = assigner.executor().grow_by(key, wish, *volumes).await?;
    Ok(Grown { count })
}

/// Assigns here if this master leads, else where the leader is.
pub(crate) async fn assign_anywhere(
    cluster: &Cluster,
    assigner: &Assigner,
    peers: &PeerClient,
    request: &AssignRequest,
    avoid: &[VolumeId],
) -> Result<Assignment, Problem> {
    let call = || AssignCall { request: request.clone(), avoid: avoid.to_vec() };
    let here = || assigner.assign(request, avoid);
    at_leader(cluster, peers, ASSIGN, call, ASSIGN_LIMIT, here).await
}

/// Does `here` what is asked if this master leads; else asks the leader, at `path`, with `body`.
pub(crate) async fn at_leader<Q, A, F>(
    cluster: &Cluster,
    peers: &PeerClient,
    path: &str,
    body: impl Fn() -> Q,
    limit: Duration,
    here: impl Fn() -> F,
) -> Result<A, Problem>
where
    Q: Serialize + Sync,
    A: DeserializeOwned,
    F: Future<Output = Result<A, Problem>>,
{
    let mut patience = Patience::default();
    loop {
        let done = if cluster.log.leads() {
            here().await
        } else {
            ask_leader(cluster, peers, path, &body, limit).await
        };
        if !patience.outlasts(&done).await {
            return done;
        }
    }
}

/// Changes who the masters are, here if this master leads, else where the leader is; how they are
/// afterwards.
pub(crate) async fn change_masters_anywhere(
    cluster: &Cluster,
    peers: &PeerClient,
    asked: &ChangeMasters,
) -> Result<Masters, Problem> {
    let mut patience = Patience::default();
    let before = cluster.log.leadership().leader;
    let was_member = is_to_be_removed_and_there(cluster, asked);
    loop {
        // Any other leader was asked for, and is there: whoever led did not live to say so.
        let leader = cluster.log.leadership().leader;
        if *asked == ChangeMasters::Transfer(None) && leader.is_some() && leader != before {
            return Ok(Masters { masters: cluster.log.masters() });
        }
        let changed = if cluster.log.leads() {
            change_masters(cluster, asked.clone()).await
        } else {
            ask_leader(cluster, peers, MASTERS, || asked.clone(), CHANGE_LIMIT).await
        };
        // It went when it was asked for the first time, and the answer was lost.
        if was_member && is_not_found(&changed) {
            return Ok(Masters { masters: cluster.log.masters() });
        }
        if !patience.outlasts(&changed).await {
            return changed;
        }
    }
}

fn is_to_be_removed_and_there(cluster: &Cluster, asked: &ChangeMasters) -> bool {
    let ChangeMasters::Remove(address) = asked else { return false };
    cluster.log.masters().iter().any(|master| master.address == *address)
}

fn is_not_found(changed: &Result<Masters, Problem>) -> bool {
    changed.as_ref().is_err_and(|problem| problem.code == Code::NotFound)
}

/// How long somebody still waits for a leader; it begins when there is none.
#[derive(Default)]
struct Patience {
    left: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// Whether to try again, after a pause: nobody leads, and that may pass in time.
    async fn outlasts<T>(&mut self, outcome: &Result<T, Problem>) -> bool {
        if !matches!(outcome, Err(problem) if problem.code == Code::NoLeader) {
            return false;
        }
        let left = self.left.get_or_insert_with(|| Box::pin(tokio::time::sleep(LEADER_WAIT)));
        tokio::select! {
            () = left => false,
            () = tokio::time::sleep(LOOK_PAUSE) => true,
        }
    }
}

/// Changes who the masters are, if this one leads. What was asked for once more, because the answer
/// was lost, has come about: that a master is to be taken in which is one.
pub(crate) async fn change_masters(
    cluster: &Cluster,
    asked: ChangeMasters,
) -> Result<Masters, Problem> {
    match cluster.log.change_masters(asked.try_into()?).await {
        Ok(()) | Err(MembershipError::AlreadyMember { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(Masters { masters: cluster.log.masters() })
}

/// The leader's answer; [`Code::NoLeader`] if there is none, or it is gone.
async fn ask_leader<Q: Serialize + Sync, A: DeserializeOwned>(
    cluster: &Cluster,
    peers: &PeerClient,
    path: &str,
    body: impl FnOnce() -> Q,
    limit: Duration,
) -> Result<A, Problem> {
    let Leadership { leader, is_leader, .. } = cluster.log.leadership();
    let leader = leader.filter(|_| !is_leader).ok_or_else(|| cluster.log.not_leading(None))?;
    let (address, body) = (leader.cluster(), body());
    tokio::select! {
        answer = peers.post(&address, path, &body, limit) => {
            answer.map_err(|error| not_answered(&leader, error))
        }
        () = is_deposed(cluster, &leader) => Err(cluster.log.not_leading(None)),
    }
}

/// Resolves when `leader` is not known to lead any more.
async fn is_deposed(cluster: &Cluster, leader: &ServerAddress) {
    while cluster.log.leadership().leader.as_ref() == Some(leader) {
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

fn not_answered(leader: &ServerAddress, error: PeerError) -> Problem {
    match error {
        // It stops, or found out that it leads no more.
        PeerError::Refused { code: Some(Code::NotReady), message, .. } => {
            Problem::new(Code::NoLeader, message)
        }
        PeerError::Refused { code: Some(code), message, .. } => Problem::new(code, message),
        error => {
            let message = format!("the leader {} does not answer: {error}", leader.public());
            Problem::new(Code::NoLeader, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dulse_shared::{
        clock::Clock,
        wire::{MasterReport, MasterRole},
    };
    use futures_util::{FutureExt, future::BoxFuture};

    use super::*;
    use crate::{
        cluster_log::{ClusterLog, MastersChange},
        cluster_state::{ClusterState, Command, Outcome},
        raft::ProposeError,
        testing::{LIMIT, LoneLog},
    };

    /// A leader that refuses every change so, and knew the master at `a:1` when it was asked.
    struct Refusing(LoneLog, fn() -> MembershipError);

    impl ClusterLog for Refusing {
        fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, ProposeError>> {
            self.0.propose(command)
        }

        fn show(&self, look: &mut dyn FnMut(&ClusterState)) {
            self.0.show(look);
        }

        fn applied(&self) -> u64 {
            self.0.applied()
        }

        fn leadership(&self) -> Leadership {
            self.0.leadership()
        }

        fn masters(&self) -> Vec<MasterReport> {
            vec![MasterReport {
                address: "a:1".to_owned(),
                node: String::new(),
                role: MasterRole::Follower,
                is_this_one: false,
                entries_behind: None,
                heard_ms: None,
            }]
        }

        fn change_masters(&self, _: MastersChange) -> BoxFuture<'_, Result<(), MembershipError>> {
            std::future::ready(Err((self.1)())).boxed()
        }
    }

    async fn change(
        asked: ChangeMasters,
        refusal: fn() -> MembershipError,
    ) -> Result<Masters, Problem> {
        let log = Arc::new(Refusing(LoneLog::founded(true), refusal));
        let cluster = Cluster::new(log, LIMIT, Clock::System);
        change_masters_anywhere(&cluster, &PeerClient::new(None), &asked).await
    }

    #[tokio::test]
    async fn a_change_of_the_masters_that_came_about_before_is_not_refused_the_second_time() {
        let member = || MembershipError::AlreadyMember { address: "a:1".to_owned() };
        change(ChangeMasters::Add("a:1".to_owned()), member).await.unwrap();
        let none =
            || MembershipError::NotAMember { address: "a:1".to_owned(), members: String::new() };
        change(ChangeMasters::Remove("a:1".to_owned()), none).await.unwrap();
        let refused = change(ChangeMasters::Remove("b:1".to_owned()), none).await.unwrap_err();
        assert_eq!(refused.code, Code::NotFound, "it never was one");
        let busy = change(ChangeMasters::Add("a:1".to_owned()), || MembershipError::Busy).await;
        assert!(busy.is_err());
    }
}
