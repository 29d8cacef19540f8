//! The port on which the servers of a cluster speak to each other.
//!
//! With a cluster secret it listens where the public port does and speaks mutual TLS only; without
//! one nothing protects it, so it is there for this machine alone. It takes its routes as a
//! [`RouteTable`] and in no other form.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::{
    cluster_identity::ClusterIdentity,
    metrics::RequestMetrics,
    route_table::RouteTable,
    secure_transport::SecureTransport,
    server::{BindError, Plain, bind, spawn_on},
    tasks::Tasks,
};
use crate::clock::Clock;

/// Where a cluster port without a secret listens.
const LOOPBACK: &str = "127.0.0.1";

/// A cluster port that listens and is not served yet.
#[derive(Debug)]
pub struct ClusterPort {
    listener: TcpListener,
    address: SocketAddr,
    identity: Option<ClusterIdentity>,
}

impl ClusterPort {
    /// Listens on `port`, of `host` if there is an identity to show; `flag` is what the user would
    /// pass to choose another port.
    pub async fn bind(
        identity: Option<&ClusterIdentity>,
        host: &str,
        port: u16,
        flag: &'static str,
    ) -> Result<Self, BindError> {
        let host = if identity.is_some() { host } else { LOOPBACK };
        let listener = bind(host, port, flag).await?;
        let other = |source| BindError::Other { address: format!("{host}:{port}"), flag, source };
        let address = listener.local_addr().map_err(other)?;
        Ok(Self { listener, address, identity: identity.cloned() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `host:port` by which others reach it, if they reach this server as `advertised`.
    pub fn reached_at(&self, advertised: &str) -> String {
        match self.identity {
            Some(_) => format!("{advertised}:{}", self.address.port()),
            None => self.address.to_string(),
        }
    }

    /// Answers what comes until `tasks` stop, then lets requests under way finish.
    pub fn serve(
        self,
        name: &'static str,
        routes: RouteTable,
        metrics: RequestMetrics,
        clock: Clock,
        tasks: &Tasks,
    ) {
        let (listener, router) = (self.listener, routes.into_router());
        match self.identity {
            None => spawn_on(name, listener, Plain, router, metrics, clock, tasks),
            Some(identity) => {
                let transport = SecureTransport::new(&identity, clock.clone());
                spawn_on(name, listener, transport, router, metrics, clock, tasks);
            }
        }
    }
}
