//! What the master needs of the agreed state, whoever keeps it.
//!
//! In a running master that is Raft; in a test a single state in memory. The trait is small so
//! that everything above it is tested without consensus.

use dulse_shared::{
    net::address::ServerAddress,
    wire::{Code, Problem},
};
use futures_util::future::BoxFuture;

use crate::cluster_state::{ClusterState, Command, Outcome};

/// The agreed state and the way to change it.
pub(crate) trait ClusterLog: Send + Sync {
    /// Commits and applies a command; what applying it gave. Only the leader can.
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, ProposeFailure>>;

    /// Shows the applied state, under a short lock: `look` must not block.
    fn show(&self, look: &mut dyn FnMut(&ClusterState));

    /// A number that grows with every change of the state.
    fn applied(&self) -> u64;

    /// Who leads.
    fn leadership(&self) -> Leadership;
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
}

/// Who leads the masters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Leadership {
    /// This master does, and a quorum confirmed it lately.
    pub(crate) is_leader: bool,
    /// The term of the present leader, or of the search for one.
    pub(crate) term: u64,
    /// The leader, if one is known.
    pub(crate) leader: Option<ServerAddress>,
}

/// Why a command was not committed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ProposeFailure {
    /// Another master leads, or none.
    #[error("{}", not_leader(.0.as_ref()))]
    NotLeader(Option<ServerAddress>),
    /// Whether it is committed is not known.
    #[error("the masters could not agree: {0}")]
    Failed(String),
}

fn not_leader(leader: Option<&ServerAddress>) -> String {
    match leader {
        Some(leader) => format!(
            "this master does not lead: ask {}, which does",
            leader.public()
        ),
        None => "no master leads at present: try again in a moment".to_owned(),
    }
}

impl From<ProposeFailure> for Problem {
    fn from(failure: ProposeFailure) -> Self {
        Self::new(Code::NoLeader, failure.to_string())
    }
}

impl Leadership {
    /// An error that names the leader, unless this master is it.
    pub(crate) fn require(&self) -> Result<(), ProposeFailure> {
        if self.is_leader {
            Ok(())
        } else {
            Err(ProposeFailure::NotLeader(self.leader.clone()))
        }
    }
}
