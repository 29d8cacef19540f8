//! Calls to the other masters, as Raft asks for them.
//!
//! One connection a peer, kept by the shared HTTP client. A call takes at most the time Raft
//! allows it; what failed is told apart as Raft needs it: nobody there (it then waits before it
//! tries again), too slow, or broken. Nothing is retried here.

use std::{future::Future, sync::Arc, time::Duration};

use dulse_shared::{
    clock::Clock,
    net::{
        address::ServerAddress,
        complaints::Complaints,
        peer::{PeerClient, PeerError},
    },
};
use openraft::{
    OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2, alias,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    address_book::AddressBook,
    format::{SnapshotJson, Version},
    rpc::{
        self, Addressed, AppendAnswerJson, AppendJson, SnapshotAnswerJson, SnapshotRequestJson,
        TransferAnswerJson, TransferJson, VoteAnswerJson, VoteRequestJson,
    },
    type_config::{NodeId, Peer, TypeConfig, Vote},
};
use crate::cluster_state::ClusterState;

type RpcError = RPCError<TypeConfig>;
type Snapshot = alias::SnapshotOf<TypeConfig, ClusterState>;

/// Makes the connections of one node.
pub(super) struct Network {
    from: NodeId,
    client: PeerClient,
    address_book: AddressBook,
    complaints: Arc<Complaints<String>>,
}

impl Network {
    /// The network as `from` sees it.
    pub(super) fn new(from: NodeId, client: PeerClient, address_book: AddressBook) -> Self {
        Self { from, client, address_book, complaints: Arc::default() }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: NodeId, node: &Peer) -> Self::Network {
        Connection {
            from: self.from,
            to: target,
            agreed: node.address.clone(),
            client: self.client.clone(),
            address_book: self.address_book.clone(),
            complaints: self.complaints.clone(),
        }
    }
}

/// From this node to one other.
pub(super) struct Connection {
    from: NodeId,
    to: NodeId,
    /// Where the membership has it.
    agreed: ServerAddress,
    client: PeerClient,
    address_book: AddressBook,
    complaints: Arc<Complaints<String>>,
}

impl Connection {
    async fn call<Q, A>(
        &self,
        path: &str,
        kind: RPCTypes,
        request: Q,
        option: &RPCOption,
    ) -> Result<A, RpcError>
    where
        Q: Serialize + Sync,
        A: DeserializeOwned,
    {
        let limit = option.soft_ttl();
        let body = Addressed { version: Version, from: self.from, to: self.to, request };
        let address = self.address_book.address(self.to);
        let address = address.as_ref().unwrap_or(&self.agreed).cluster();
        self.client
            .post(&address, path, &body, limit)
            .await
            .map_err(|error| self.classify(error, kind, limit))
    }

    fn classify(&self, error: PeerError, action: RPCTypes, timeout: Duration) -> RpcError {
        let who = || self.to.to_string();
        let is_due = || self.complaints.is_to_be_told(who(), Clock::System.boot());
        // It does not pass by itself.
        if matches!(error, PeerError::Distrust { .. }) && is_due() {
            tracing::warn!("this master cannot agree with another one: {error}");
        }
        match &error {
            PeerError::Unreachable { source, .. } if source.is_timeout() => {
                RPCError::Timeout(Timeout { action, id: self.from, target: self.to, timeout })
            }
            PeerError::Unreachable { source, .. } if !source.is_connect() => {
                RPCError::Network(NetworkError::new(&error))
            }
            PeerError::Unreadable { .. } => RPCError::Network(NetworkError::new(&error)),
            // A peer that refuses is stopping, or is not the node it is taken for.
            _ => RPCError::Unreachable(Unreachable::new(&error)),
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Connection {
    type SnapshotData = ClusterState;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let request = AppendJson::from(&rpc);
        let kind = RPCTypes::AppendEntries;
        let answer: AppendAnswerJson = self.call(rpc::APPEND, kind, request, &option).await?;
        Ok(answer.into())
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let request = VoteRequestJson::from(&rpc);
        let kind = RPCTypes::Vote;
        let answer: VoteAnswerJson = self.call(rpc::VOTE, kind, request, &option).await?;
        Ok(answer.into())
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let request = VoteRequestJson::from(&rpc);
        let kind = RPCTypes::Vote;
        let answer: VoteAnswerJson = self.call(rpc::PRE_VOTE, kind, request, &option).await?;
        Ok(answer.into())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let request = SnapshotRequestJson {
            vote: (&vote).into(),
            snapshot: SnapshotJson::new(&snapshot.meta, snapshot.snapshot),
        };
        let kind = RPCTypes::InstallSnapshot;
        let sent = self.call::<_, SnapshotAnswerJson>(rpc::SNAPSHOT, kind, request, &option);
        tokio::select! {
            answer = sent => Ok(answer?.into()),
            closed = cancel => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let request = TransferJson::from(&req);
        let kind = RPCTypes::TransferLeader;
        let path = rpc::TRANSFER_LEADER;
        let answer: TransferAnswerJson = self.call(path, kind, request, &option).await?;
        Ok(answer.into())
    }
}
