//! The routes under `/raft/` on the cluster port, by which the other masters reach this node.
//!
//! A handler decodes, checks that the caller means this very node, and asks the core; it decides
//! nothing. Bodies are bounded before they are read.

use axum::{Json, body::Bytes, extract::State};
use dulse_shared::{
    net::route_table::RouteTable,
    wire::{Code, Problem},
};
use openraft::{
    alias,
    errors::{Fatal, RaftError},
    raft::AppendEntriesResponse,
};
use serde::de::DeserializeOwned;

use super::{
    format::{FormatError, Version, decode},
    hello::{HELLO, Introduction, JOIN, JoinRequest, Joined},
    node::Raft,
    rpc::{
        self, Addressed, AppendAnswerJson, AppendJson, SnapshotAnswerJson, SnapshotRequestJson,
        TransferAnswerJson, TransferJson, VoteAnswerJson, VoteRequestJson,
    },
    type_config::{Core, NodeId, TypeConfig, Vote},
};
use crate::cluster_state::ClusterState;

/// Votes and the like: a few hundred bytes.
const MAX_SMALL_BYTES: usize = 64 << 10;
/// Entries: as many as are sent at once, each as large as it may be, and what JSON adds.
const MAX_APPEND_BYTES: usize = 48 << 20;
/// A snapshot: about half a million volumes. It is decoded in memory.
const MAX_SNAPSHOT_BYTES: usize = 256 << 20;

#[derive(Clone)]
struct Node {
    id: NodeId,
    core: Core,
    raft: Raft,
}

/// The routes of a node.
pub(super) fn routes(raft: Raft) -> RouteTable {
    let node = Node { id: raft.id(), core: raft.core().clone(), raft };
    let small = RouteTable::new()
        .post(rpc::VOTE, vote)
        .post(rpc::PRE_VOTE, pre_vote)
        .post(rpc::TRANSFER_LEADER, transfer_leader)
        .post(HELLO, hello)
        .post(JOIN, join)
        .limit_bodies(MAX_SMALL_BYTES);
    let append_route = RouteTable::new().post(rpc::APPEND, append).limit_bodies(MAX_APPEND_BYTES);
    let snapshot_route =
        RouteTable::new().post(rpc::SNAPSHOT, snapshot).limit_bodies(MAX_SNAPSHOT_BYTES);
    small.merge(append_route).merge(snapshot_route).with_state(node)
}

impl Node {
    /// The request in `body`, if it is for this node.
    fn request<T: DeserializeOwned>(&self, body: &Bytes) -> Result<T, Problem> {
        let addressed: Addressed<T> = decode("the request", body).map_err(unreadable)?;
        if addressed.to == self.id {
            return Ok(addressed.request);
        }
        let message = format!(
            "this master is node {}, not {} as {} believes: a master that lost its directory \
             comes back as another node",
            self.id, addressed.to, addressed.from
        );
        Err(Problem::new(Code::OtherCluster, message))
    }
}

async fn append(State(node): State<Node>, body: Bytes) -> Result<Json<AppendAnswerJson>, Problem> {
    let request: AppendJson = node.request(&body)?;
    let rpc = request.into_request().map_err(unreadable)?;
    let answer = node.core.append_entries(rpc).await.map_err(stopped)?;
    if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
        node.raft.hear_leader();
    }
    Ok(Json(answer.into()))
}

async fn vote(State(node): State<Node>, body: Bytes) -> Result<Json<VoteAnswerJson>, Problem> {
    let request: VoteRequestJson = node.request(&body)?;
    let answer = node.core.vote(request.into()).await.map_err(stopped)?;
    Ok(Json(answer.into()))
}

async fn pre_vote(State(node): State<Node>, body: Bytes) -> Result<Json<VoteAnswerJson>, Problem> {
    let request: VoteRequestJson = node.request(&body)?;
    let answer = node.core.pre_vote(request.into()).await.map_err(stopped)?;
    Ok(Json(answer.into()))
}

async fn snapshot(
    State(node): State<Node>,
    body: Bytes,
) -> Result<Json<SnapshotAnswerJson>, Problem> {
    let request: SnapshotRequestJson = node.request(&body)?;
    let vote = Vote::from(request.vote);
    let (meta, snapshot) = request.snapshot.into_parts().map_err(unreadable)?;
    let snapshot = alias::SnapshotOf::<TypeConfig, ClusterState> { meta, snapshot };
    let installed = node.core.install_full_snapshot(vote, snapshot).await;
    Ok(Json(installed.map_err(fatal)?.into()))
}

async fn transfer_leader(
    State(node): State<Node>,
    body: Bytes,
) -> Result<Json<TransferAnswerJson>, Problem> {
    let request: TransferJson = node.request(&body)?;
    let answer = node.core.handle_transfer_leader(request.into()).await;
    Ok(Json(answer.map_err(fatal)?.into()))
}

/// For whoever is here: that is what is asked.
async fn hello(State(node): State<Node>, body: Bytes) -> Result<Json<Introduction>, Problem> {
    let other: Introduction = decode("an introduction", &body).map_err(unreadable)?;
    node.raft.meet(&other);
    let stopping = |()| Problem::new(Code::NotReady, "this master is stopping");
    node.raft.introduction().await.map(Json).map_err(stopping)
}

async fn join(State(node): State<Node>, body: Bytes) -> Result<Json<Joined>, Problem> {
    let request: JoinRequest = decode("a request to join", &body).map_err(unreadable)?;
    node.raft.replace_master(request.node, &request.address.address).await?;
    Ok(Json(Joined { version: Version }))
}

fn unreadable(error: FormatError) -> Problem {
    Problem::new(Code::BadRequest, error.to_string())
}

fn stopped(error: RaftError<TypeConfig>) -> Problem {
    fatal(error.unwrap_fatal())
}

fn fatal(error: Fatal<TypeConfig>) -> Problem {
    let message = format!("this master is stopping: {error}");
    Problem::new(Code::NotReady, message)
}
