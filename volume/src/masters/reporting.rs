//! Begins and ends reporters as the roster says, and resolves the masters' names.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use dulse_shared::net::{address::ServerAddress, resolver::Resolver};
use tokio_util::sync::CancellationToken;

use super::{board::Board, roster::NameId};
use crate::heartbeat::{Reporter, Reports};

/// How often it is looked whether the server has to stop for want of its own masters.
const TICK: Duration = Duration::from_secs(1);

/// Has every master reported to.
#[derive(Debug)]
pub(crate) struct Reporting {
    reports: Reports,
    resolver: Resolver,
    /// What ends each reporter.
    running: HashMap<SocketAddr, CancellationToken>,
}

impl Reporting {
    /// To the masters on the board of `reports`.
    pub(crate) fn new(reports: Reports, resolver: Resolver) -> Self {
        Self { reports, resolver, running: HashMap::new() }
    }

    /// Until the process stops, which it has to if all masters are of another cluster.
    pub(crate) async fn run(mut self) {
        let (board, tasks) = (self.reports.board.clone(), self.reports.tasks.clone());
        for (id, name) in board.names() {
            let follow = follow(id, name, self.resolver.clone(), board.clone());
            let inner = tasks.clone();
            tasks.spawn("master's name", async move {
                tokio::select! {
                    () = inner.stopped() => {}
                    () = follow => {}
                }
            });
        }
        while !tasks.is_stopping() {
            self.adjust();
            if let Some(reason) = board.must_stop() {
                tasks.fail(reason);
            }
            tokio::select! {
                () = board.changed() => {}
                () = tokio::time::sleep(TICK) => {}
                () = tasks.stopped() => {}
            }
        }
    }

    fn adjust(&mut self) {
        let wanted = self.reports.board.wanted();
        self.running.retain(|at, dropped| {
            let is_wanted = wanted.iter().any(|master| master.cluster == *at);
            if !is_wanted {
                dropped.cancel();
            }
            is_wanted
        });
        for master in wanted {
            if self.running.contains_key(&master.cluster) {
                continue;
            }
            let dropped = CancellationToken::new();
            self.running.insert(master.cluster, dropped.clone());
            tracing::debug!("reporting to the master {master}");
            let reporter = Reporter::new(self.reports.clone(), master, dropped);
            self.reports.tasks.spawn("watch", reporter.watcher().run());
            self.reports.tasks.spawn("heartbeat", reporter.run());
        }
    }
}

/// Resolves a name again and again: soon when a master falls silent, for it may be elsewhere now.
async fn follow(id: NameId, name: ServerAddress, resolver: Resolver, board: Arc<Board>) {
    loop {
        let pause = board.resolved(id, &name, resolver.addresses(&name.host).await);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = board.fell_silent() => {}
        }
    }
}
