//! The request that is held open at each master: answered when a configuration changed that
//! concerns this server. That it breaks off tells the master that this process died.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dulse_shared::{
    net::peer::PeerClient,
    wire::{Watch, WatchAnswer},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A master holds it for half a minute.
const LIMIT: Duration = Duration::from_secs(40);
/// Between attempts while a master cannot be reached; its heartbeats say so in the log.
const RETRY: Duration = Duration::from_millis(250);
/// The same where none need be.
const IDLE_RETRY: Duration = Duration::from_secs(2);

/// Watches one master.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// What is asked for; the version is added.
    pub(crate) watch: Watch,
    /// The master's cluster port.
    pub(crate) master: SocketAddr,
    /// How it is reached.
    pub(crate) peers: PeerClient,
    /// Cancelled when the master was told that this server stops.
    pub(crate) ended: CancellationToken,
    /// Has a heartbeat sent: its answer says what changed, or that the master is away, which then is
    /// tried in quick succession.
    pub(crate) news: Arc<Notify>,
    /// Nobody need be there, or somebody of another cluster is.
    pub(crate) is_idle: Arc<AtomicBool>,
}

impl Watcher {
    /// Watches until the process stops.
    pub(crate) async fn run(mut self) {
        loop {
            let answer = tokio::select! {
                answer = self.ask() => answer,
                () = self.ended.cancelled() => return,
            };
            match answer {
                Some(WatchAnswer { version }) => {
                    let is_news = self.watch.since.is_some_and(|since| since != version);
                    self.watch.since = Some(version);
                    if is_news {
                        self.news.notify_one();
                    }
                }
                None => {
                    // A master that was restarted knows nobody: it should hear of this server as
                    // soon as it is back, not with the next regular heartbeat.
                    self.news.notify_one();
                    // It is asked anew.
                    self.watch.since = None;
                    let is_idle = self.is_idle.load(Ordering::Relaxed);
                    let pause = if is_idle { IDLE_RETRY } else { RETRY };
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.ended.cancelled() => return,
                    }
                }
            }
        }
    }

    async fn ask(&self) -> Option<WatchAnswer> {
        let Watch { server, incarnation, since } = &self.watch;
        let since = since.map_or_else(String::new, |since| format!("&since={since}"));
        let path = format!("/watch?server={server}&incarnation={}{since}", incarnation.0);
        self.peers.fetch(&self.master.to_string(), &path, LIMIT).await.ok()
    }
}
