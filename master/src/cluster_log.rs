//! What the master needs of the agreed state, whoever keeps it.
//!
//! In a running master that is Raft; in a test a single state in memory. The trait is small so
//! that everything above it is tested without consensus.

use dulse_shared::wire::{Code, Problem};
use futures_util::{FutureExt, future::BoxFuture};

use crate::{
    cluster_state::{ClusterState, Command, Outcome},
    raft::{Leadership, ProposeError, Raft},
};

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
        let Leadership { is_leader, leader, .. } = self.leadership();
        if is_leader { Ok(()) } else { Err(ProposeError::NotLeader { leader }.into()) }
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
