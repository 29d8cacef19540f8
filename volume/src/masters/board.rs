//! Where reporters say what they heard and are told how to go on, and names are said to resolve.

use std::{
    io,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dulse_shared::{
    clock::Clock,
    net::{address::ServerAddress, complaints::Complaints},
};
use tokio::sync::Notify;

use super::roster::{MasterAt, NameId, NameStanding, Roster, Word};

/// Between attempts while a master cannot be reached.
const RETRY: Duration = Duration::from_millis(100);
/// The same where none need be.
const UNEXPECTED_RETRY: Duration = Duration::from_secs(1);
/// Before a master of another cluster is asked again whether it still is.
const OTHER_CLUSTER_RETRY: Duration = Duration::from_secs(5);
/// Before a name is resolved again: while a master of it is away, and as seldom when all are, since a
/// thousand volume servers ask then;
const RESOLVE_ILL: Duration = Duration::from_secs(1);
/// and otherwise, since masters that were added make no other one fail.
const RESOLVE_WELL: Duration = Duration::from_secs(10);

/// How a reporter goes on after it was not heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Heard {
    /// Before it tries again.
    pub(crate) pause: Duration,
    /// Whether the log should hear that nobody answers.
    pub(crate) is_expected: bool,
}

/// The roster, shared by those who report and resolve.
#[derive(Debug)]
pub(crate) struct Board {
    roster: Mutex<Roster>,
    clock: Clock,
    /// Who is reported to may have changed.
    changed: Notify,
    /// A master fell silent: its name may lead elsewhere now.
    fell_silent: Notify,
    complaints: Complaints<NameId>,
}

impl Board {
    /// Of the masters that were configured.
    pub(crate) fn new(names: Vec<ServerAddress>, clock: Clock) -> Self {
        Self {
            roster: Mutex::new(Roster::new(names)),
            clock,
            changed: Notify::new(),
            fell_silent: Notify::new(),
            complaints: Complaints::default(),
        }
    }

    /// Takes note of what a report came to.
    pub(crate) fn heard(&self, master: &MasterAt, word: Word) -> Heard {
        let at = master.cluster;
        let is_silent = word == Word::Silent;
        let is_other = matches!(word, Word::Other(_));
        let (has_changed, is_expected) = {
            let mut roster = self.roster();
            let has_changed = roster.heard(at, word, self.clock.boot());
            (has_changed, roster.is_expected(at))
        };
        if has_changed {
            self.changed.notify_one();
        }
        if has_changed && is_silent {
            self.fell_silent.notify_waiters();
        }
        let pause = match (is_other, is_expected) {
            (true, _) => OTHER_CLUSTER_RETRY,
            (false, true) => RETRY,
            (false, false) => UNEXPECTED_RETRY,
        };
        Heard { pause, is_expected }
    }

    /// Takes note of what a name resolves to, or that it does not; how long to wait before it is
    /// resolved again.
    pub(super) fn resolved(
        &self,
        id: NameId,
        name: &ServerAddress,
        answer: io::Result<Vec<IpAddr>>,
    ) -> Duration {
        let left_out =
            match answer {
                Ok(ips) => self.roster().resolved(id, &ips),
                Err(error) => {
                    self.complain(id, &format!(
                    "the master's name {} does not resolve ({error}): mend it, or name other \
                     masters with --master; it is tried again",
                    name.host
                ));
                    0
                }
            };
        if left_out > 0 {
            self.complain(id, &format!(
                "{left_out} addresses of the name {} are left out: there are too many for masters",
                name.host
            ));
        }
        self.changed.notify_one();
        match self.roster().standing(id) {
            NameStanding::Lost | NameStanding::Partly => RESOLVE_ILL,
            NameStanding::Well => RESOLVE_WELL,
        }
    }

    fn complain(&self, of: NameId, text: &str) {
        if self.complaints.is_to_be_told(of, self.clock.boot()) {
            tracing::warn!("{text}");
        }
    }

    /// Where a master of this server's cluster answers.
    pub(crate) fn answering(&self) -> Vec<String> {
        self.roster().answering()
    }

    pub(super) fn names(&self) -> Vec<(NameId, ServerAddress)> {
        self.roster().names()
    }

    pub(super) fn wanted(&self) -> Vec<MasterAt> {
        self.roster().wanted()
    }

    pub(super) fn must_stop(&self) -> Option<String> {
        self.roster().must_stop(self.clock.boot()).map(str::to_owned)
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) async fn fell_silent(&self) {
        self.fell_silent.notified().await;
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
