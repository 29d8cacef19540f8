//! The masters themselves: who they are, and changes of that, on their cluster ports.
//!
//! Any master can be asked; it passes a change on to the leader. One that cannot be reached was not
//! asked, so the next one is. What was refused, the others would refuse too; where the connection
//! broke, the change may have been made.

use std::time::Duration;

use dulse_shared::{
    net::peer::PeerError,
    wire::{ChangeMasters, MasterReport, Masters},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{client::Client, error::ClientError};

/// Where masters take it.
const ROUTE: &str = "/admin/masters";
/// The list is in a master's memory.
const LIST_LIMIT: Duration = Duration::from_secs(5);
/// A master that is taken in is sent everything first.
const CHANGE_LIMIT: Duration = Duration::from_secs(90);

impl Client {
    /// All masters; those of one that leads know how far the others are.
    pub async fn list_masters(&self) -> Result<Vec<MasterReport>, ClientError> {
        let mut last = ClientError::NoMasters;
        for address in &self.masters().cluster_addresses().await {
            match self.peers().fetch::<Masters>(address, ROUTE, LIST_LIMIT).await {
                Ok(answer) => return Ok(answer.masters),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    /// Changes who the masters are, or which of them leads; how they are afterwards.
    pub async fn change_masters(
        &self,
        change: &ChangeMasters,
    ) -> Result<Vec<MasterReport>, ClientError> {
        let answer = self.post_to_a_master(ROUTE, change, CHANGE_LIMIT).await;
        answer.map(|Masters { masters }| masters)
    }

    /// What the first master says that can be reached.
    pub(crate) async fn post_to_a_master<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        route: &str,
        body: &Q,
        limit: Duration,
    ) -> Result<A, ClientError> {
        let mut last = ClientError::NoMasters;
        for address in &self.masters().cluster_addresses().await {
            match self.peers().post(address, route, body, limit).await {
                Ok(answer) => return Ok(answer),
                Err(error) if was_not_asked(&error) => last = error.into(),
                Err(error) => return Err(error.into()),
            }
        }
        Err(last)
    }
}

fn was_not_asked(error: &PeerError) -> bool {
    match error {
        PeerError::Unreachable { source, .. } => source.is_connect(),
        PeerError::Distrust { .. } => true,
        _ => false,
    }
}
