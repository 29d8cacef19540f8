//! The request that is held open at each master: answered when a configuration changed that
//! concerns this server. That it breaks off tells the master that this process died.

use std::{sync::Arc, time::Duration};

use dulse_shared::{
    net::{address::ServerAddress, peer::PeerClient, tasks::Tasks},
    wire::{Watch, WatchAnswer},
};
use tokio::sync::Notify;

/// A master holds it for half a minute.
const LIMIT: Duration = Duration::from_secs(40);
/// Between attempts while a master cannot be reached; its heartbeats say so in the log.
const RETRY: Duration = Duration::from_millis(250);

/// Watches one master.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// What is asked for; the version is added.
    pub(crate) watch: Watch,
    /// The master.
    pub(crate) master: ServerAddress,
    /// How it is reached.
    pub(crate) peers: PeerClient,
    /// Tells when to stop.
    pub(crate) tasks: Tasks,
    /// Has a heartbeat sent, whose answer says what changed.
    pub(crate) news: Arc<Notify>,
}

impl Watcher {
    /// Watches until the process stops.
    pub(crate) async fn run(mut self) {
        while !self.tasks.is_stopping() {
            let answer = tokio::select! {
                answer = self.ask() => answer,
                () = self.tasks.stopped() => return,
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
                    // A master that comes back is asked anew.
                    self.watch.since = None;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn ask(&self) -> Option<WatchAnswer> {
        let Watch { server, incarnation, since } = &self.watch;
        let since = since.map_or_else(String::new, |since| format!("&since={since}"));
        let path = format!("/watch?server={server}&incarnation={}{since}", incarnation.0);
        self.peers.fetch(&self.master.cluster(), &path, LIMIT).await.ok()
    }
}
