//! What the master needs of the agreed state, whoever keeps it.
//!
//! In a running master that is Raft; in a test a single state in memory. The trait is small so
//! that everything above it is tested without consensus.

use dulse_shared::{
    id::ClusterId,
    net::address::{ParseServerAddressError, ServerAddress},
    wire::{ChangeMasters, Code, MasterNode, MasterReport, Problem},
};
use futures_util::{FutureExt, future::BoxFuture};

use crate::{
    cluster_state::{ClusterState, Command, Outcome, Recovery},
    raft::{Leadership, MembershipError, ProposeError, Raft},
};

/// A change of the masters, as asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum MastersChange {
    /// Take the new one at this address in.
    Add(ServerAddress),
    /// Take the one at this address out.
    Remove(ServerAddress),
    /// Have the one at this address lead, or any other than the present leader.
    Transfer(Option<ServerAddress>),
}

impl TryFrom<ChangeMasters> for MastersChange {
    type Error = Problem;

    fn try_from(asked: ChangeMasters) -> Result<Self, Problem> {
        let parsed = |text: String| {
            let wrong =
                |error: ParseServerAddressError| Problem::new(Code::BadRequest, error.to_string());
            text.parse::<ServerAddress>().map_err(wrong)
        };
        Ok(match asked {
            ChangeMasters::Add(address) => Self::Add(parsed(address)?),
            ChangeMasters::Remove(address) => Self::Remove(parsed(address)?),
            ChangeMasters::Transfer(address) => Self::Transfer(address.map(parsed).transpose()?),
        })
    }
}

/// The agreed state and the way to change it.
pub(crate) trait ClusterLog: Send + Sync {
    /// Commits and applies a command; what applying it gave. Only the leader can.
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, ProposeError>>;

    /// Shows the applied state, under a short lock: `look` must not block.
    fn show(&self, look: &mut dyn FnMut(&ClusterState));

    /// A number that grows with every change of the state.
    fn applied(&self) -> u64;

    /// Who leads.
    fn leadership(&self) -> Leadership;

    /// Whether this master does.
    fn leads(&self) -> bool {
        self.leadership().is_leader
    }

    /// This master's node, if it has one.
    fn node(&self) -> Option<MasterNode> {
        None
    }

    /// All masters; none where there is but this one.
    fn masters(&self) -> Vec<MasterReport> {
        Vec::new()
    }

    /// Changes who the masters are. Only the leader can.
    fn change_masters(&self, change: MastersChange) -> BoxFuture<'_, Result<(), MembershipError>>;

    /// Has the masters, which are in no cluster, found this one anew once they have come together.
    fn recover(&self, _recovery: Recovery) {}

    /// Whether volumes are being recovered.
    fn is_recovering(&self) -> bool {
        false
    }

    /// All volumes are recovered that could be.
    fn end_recovery(&self) {}

    /// What keeps the masters from coming together, as far as this one knows.
    fn obstacle(&self) -> Option<String> {
        None
    }

    /// A volume server of `cluster` reported while this master is in no cluster.
    fn hear_cluster(&self, _server: &str, _cluster: ClusterId) {}
}

impl ClusterLog for Raft {
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, ProposeError>> {
        Self::propose(self, command).boxed()
    }

    fn show(&self, look: &mut dyn FnMut(&ClusterState)) {
        self.read(look);
    }

    fn applied(&self) -> u64 {
        Self::applied(self)
    }

    fn leadership(&self) -> Leadership {
        Self::leadership(self)
    }

    fn leads(&self) -> bool {
        self.confirmed_term().is_some()
    }

    fn node(&self) -> Option<MasterNode> {
        Some(self.master_node())
    }

    fn masters(&self) -> Vec<MasterReport> {
        Self::masters(self)
    }

    fn change_masters(&self, change: MastersChange) -> BoxFuture<'_, Result<(), MembershipError>> {
        async move {
            match change {
                MastersChange::Add(address) => self.add_master(&address).await,
                MastersChange::Remove(address) => self.remove_master(&address).await,
                MastersChange::Transfer(address) => self.transfer_to(address.as_ref()).await,
            }
        }
        .boxed()
    }

    fn recover(&self, recovery: Recovery) {
        Self::recover(self, recovery);
    }

    fn is_recovering(&self) -> bool {
        Self::is_recovering(self)
    }

    fn end_recovery(&self) {
        Self::end_recovery(self);
    }

    fn obstacle(&self) -> Option<String> {
        Self::obstacle(self)
    }

    fn hear_cluster(&self, server: &str, cluster: ClusterId) {
        Self::hear_cluster(self, server, cluster);
    }
}

impl dyn ClusterLog {
    /// Computes something from the applied state, under a short lock.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&ClusterState) -> R) -> R {
        let mut read = Some(read);
        let mut result = None;
        self.show(&mut |state| result = read.take().map(|read| read(state)));
        #[expect(clippy::expect_used, reason = "show calls its argument exactly once")]
        result.expect("the state was shown")
    }

    /// An error that names the leader, unless this master is it.
    pub(crate) fn require_leadership(&self) -> Result<(), Problem> {
        if self.leads() {
            return Ok(());
        }
        Err(self.not_leading(self.leadership().leader))
    }

    /// Why no master leads, if none is known to: a sentence.
    pub(crate) fn why_leaderless(&self) -> Option<String> {
        let leadership = self.leadership();
        if leadership.is_leader || leadership.leader.is_some() {
            return None;
        }
        let why = self.obstacle();
        let why = why
            .unwrap_or_else(|| "nothing can be assigned; are enough masters running?".to_owned());
        Some(format!("no master leads: {why}"))
    }

    /// Says that this master does not lead but, perhaps, `leader`; or why nobody does.
    pub(crate) fn not_leading(&self, leader: Option<ServerAddress>) -> Problem {
        match self.obstacle() {
            Some(why) if leader.is_none() => {
                Problem::new(Code::NoLeader, format!("no master leads: {why}"))
            }
            _ => ProposeError::NotLeader { leader }.into(),
        }
    }
}

impl From<MembershipError> for Problem {
    fn from(error: MembershipError) -> Self {
        let code = match error {
            MembershipError::Propose(error) => return error.into(),
            MembershipError::Busy => Code::Overloaded,
            MembershipError::NotAMember { .. } => Code::NotFound,
            MembershipError::AlreadyMember { .. }
            | MembershipError::LastMaster { .. }
            | MembershipError::NotNew { .. }
            | MembershipError::AnotherThere { .. }
            | MembershipError::Impossible { .. } => Code::Conflict,
            MembershipError::TooFew { .. }
            | MembershipError::Unreachable { .. }
            | MembershipError::NotCaughtUp { .. }
            | MembershipError::NotTakenOver { .. } => Code::NotReady,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ProposeError> for Problem {
    fn from(error: ProposeError) -> Self {
        let code = match error {
            ProposeError::NotLeader { .. } | ProposeError::Unknown { .. } => Code::NoLeader,
            ProposeError::Overloaded => Code::Overloaded,
            ProposeError::TooLarge { .. } => Code::Internal,
            ProposeError::Stopped => Code::NotReady,
        };
        Self::new(code, error.to_string())
    }
}
