//! What masters say to each other: the JSON bodies of `POST /raft/...` on the cluster port.
//!
//! Each request names the node it is from and the node it is for, because an address can be taken
//! over by a node that has forgotten everything its predecessor promised. Golden tests hold the
//! exact bytes.

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use super::{
    format::{EntryJson, FormatError, LogIdJson, SnapshotJson, Version, VoteJson},
    type_config::{Entry, LogId, NodeId, TypeConfig, Vote},
};

/// `POST` an [`AppendJson`], answered by an [`AppendAnswerJson`].
pub(super) const APPEND: &str = "/raft/append";
/// `POST` a [`VoteRequestJson`], answered by a [`VoteAnswerJson`].
pub(super) const VOTE: &str = "/raft/vote";
/// The same; asks how a vote would end, and changes nothing.
pub(super) const PRE_VOTE: &str = "/raft/pre-vote";
/// `POST` a [`SnapshotRequestJson`], answered by a [`SnapshotAnswerJson`].
pub(super) const SNAPSHOT: &str = "/raft/snapshot";
/// `POST` a [`TransferJson`], answered by a [`TransferAnswerJson`].
pub(super) const TRANSFER_LEADER: &str = "/raft/transfer-leader";

/// A request and the two nodes it is between.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Addressed<T> {
    pub(super) version: Version,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) request: T,
}

/// A leader's entries, or its heartbeat when there are none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct AppendJson {
    pub(super) vote: VoteJson,
    /// The entry before the first.
    pub(super) previous: Option<LogIdJson>,
    pub(super) entries: Vec<EntryJson>,
    pub(super) committed: Option<LogIdJson>,
}

/// A follower's answer to entries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AppendAnswerJson {
    /// They are durable.
    Stored,
    /// They are durable up to here.
    StoredUpTo(Option<LogIdJson>),
    /// The entry before the first is another one here.
    Conflict,
    /// This node has voted for somebody else since.
    HigherVote(VoteJson),
}

/// Asks for a vote.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct VoteRequestJson {
    pub(super) vote: VoteJson,
    pub(super) last: Option<LogIdJson>,
    /// The present leader asked for this election.
    pub(super) is_transfer: bool,
}

/// A vote, or none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct VoteAnswerJson {
    pub(super) vote: VoteJson,
    pub(super) granted: bool,
    pub(super) last: Option<LogIdJson>,
}

/// The whole state, for a node that lacks entries which are purged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct SnapshotRequestJson {
    pub(super) vote: VoteJson,
    pub(super) snapshot: SnapshotJson,
}

/// The receiver's vote; the snapshot is installed if that is not higher than the sender's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct SnapshotAnswerJson {
    pub(super) vote: VoteJson,
}

/// The leader asks the receiver to lead.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct TransferJson {
    pub(super) vote: VoteJson,
    /// Who is to lead; others learn by this that their leader is going.
    pub(super) leader: NodeId,
    pub(super) last: Option<LogIdJson>,
}

/// What the receiver does about it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TransferAnswerJson {
    /// It stands for election.
    Accepted,
    /// It knows another leader.
    VoteChanged { expected: VoteJson, actual: VoteJson },
    /// It lacks entries.
    Behind { expected: Option<LogIdJson>, actual: Option<LogIdJson> },
}

fn to_json(log_id: Option<&LogId>) -> Option<LogIdJson> {
    log_id.map(LogIdJson::from)
}

impl From<&AppendEntriesRequest<TypeConfig>> for AppendJson {
    fn from(rpc: &AppendEntriesRequest<TypeConfig>) -> Self {
        Self {
            vote: (&rpc.vote).into(),
            previous: to_json(rpc.prev_log_id.as_ref()),
            entries: rpc.entries.iter().map(EntryJson::from).collect(),
            committed: to_json(rpc.leader_commit.as_ref()),
        }
    }
}

impl AppendJson {
    /// The request.
    pub(super) fn into_request(self) -> Result<AppendEntriesRequest<TypeConfig>, FormatError> {
        let entries: Result<Vec<Entry>, FormatError> =
            self.entries.into_iter().map(EntryJson::into_entry).collect();
        Ok(AppendEntriesRequest {
            vote: self.vote.into(),
            prev_log_id: self.previous.map(LogId::from),
            entries: entries?,
            leader_commit: self.committed.map(LogId::from),
        })
    }
}

impl From<AppendEntriesResponse<TypeConfig>> for AppendAnswerJson {
    fn from(answer: AppendEntriesResponse<TypeConfig>) -> Self {
        match answer {
            AppendEntriesResponse::Success => Self::Stored,
            AppendEntriesResponse::PartialSuccess(log_id) => {
                Self::StoredUpTo(to_json(log_id.as_ref()))
            }
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Self::HigherVote((&vote).into()),
        }
    }
}

impl From<AppendAnswerJson> for AppendEntriesResponse<TypeConfig> {
    fn from(json: AppendAnswerJson) -> Self {
        match json {
            AppendAnswerJson::Stored => Self::Success,
            AppendAnswerJson::StoredUpTo(log_id) => Self::PartialSuccess(log_id.map(LogId::from)),
            AppendAnswerJson::Conflict => Self::Conflict,
            AppendAnswerJson::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<&VoteRequest<TypeConfig>> for VoteRequestJson {
    fn from(rpc: &VoteRequest<TypeConfig>) -> Self {
        Self {
            vote: (&rpc.vote).into(),
            last: to_json(rpc.last_log_id.as_ref()),
            is_transfer: rpc.leadership_transfer,
        }
    }
}

impl From<VoteRequestJson> for VoteRequest<TypeConfig> {
    fn from(json: VoteRequestJson) -> Self {
        Self {
            vote: json.vote.into(),
            last_log_id: json.last.map(LogId::from),
            leadership_transfer: json.is_transfer,
        }
    }
}

impl From<VoteResponse<TypeConfig>> for VoteAnswerJson {
    fn from(answer: VoteResponse<TypeConfig>) -> Self {
        Self {
            vote: (&answer.vote).into(),
            granted: answer.vote_granted,
            last: to_json(answer.last_log_id.as_ref()),
        }
    }
}

impl From<VoteAnswerJson> for VoteResponse<TypeConfig> {
    fn from(json: VoteAnswerJson) -> Self {
        let vote = Vote::from(json.vote);
        Self::new(vote, json.last.map(LogId::from), json.granted)
    }
}

impl From<SnapshotResponse<TypeConfig>> for SnapshotAnswerJson {
    fn from(answer: SnapshotResponse<TypeConfig>) -> Self {
        let vote = (&answer.vote).into();
        Self { vote }
    }
}

impl From<SnapshotAnswerJson> for SnapshotResponse<TypeConfig> {
    fn from(json: SnapshotAnswerJson) -> Self {
        Self::new(json.vote.into())
    }
}

impl From<&TransferLeaderRequest<TypeConfig>> for TransferJson {
    fn from(rpc: &TransferLeaderRequest<TypeConfig>) -> Self {
        Self {
            vote: rpc.from_leader().into(),
            leader: *rpc.to_node_id(),
            last: to_json(rpc.last_log_id()),
        }
    }
}

impl From<TransferJson> for TransferLeaderRequest<TypeConfig> {
    fn from(json: TransferJson) -> Self {
        Self::new(json.vote.into(), json.leader, json.last.map(LogId::from))
    }
}

impl From<TransferLeaderResponse<TypeConfig>> for TransferAnswerJson {
    fn from(answer: TransferLeaderResponse<TypeConfig>) -> Self {
        match answer {
            Ok(()) => Self::Accepted,
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                Self::VoteChanged { expected: (&expected).into(), actual: (&actual).into() }
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => Self::Behind {
                expected: to_json(expected.as_ref()),
                actual: to_json(actual.as_ref()),
            },
        }
    }
}

impl From<TransferAnswerJson> for TransferLeaderResponse<TypeConfig> {
    fn from(json: TransferAnswerJson) -> Self {
        match json {
            TransferAnswerJson::Accepted => Ok(()),
            TransferAnswerJson::VoteChanged { expected, actual } => {
                Err(TransferLeaderError::VoteChanged {
                    expected: expected.into(),
                    actual: actual.into(),
                })
            }
            TransferAnswerJson::Behind { expected, actual } => {
                Err(TransferLeaderError::LogNotFlushed {
                    expected: expected.map(LogId::from),
                    actual: actual.map(LogId::from),
                })
            }
        }
    }
}
