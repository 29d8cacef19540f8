//! What the masters say of this server's reports that cannot be right: they agreed on something
//! else. Nothing is done about it here but to show it, and to log each once.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use dulse_shared::{
    id::VolumeId,
    wire::{MAX_CONTRADICTIONS, RefusedVolume, bounded_sentence},
};
use serde::Serialize;

use super::Store;

/// What each master said last. Followers say nothing, so it is one master's mostly.
#[derive(Debug, Default)]
pub(super) struct Contradictions(Mutex<BTreeMap<String, Vec<RefusedVolume>>>);

/// A report that a master contradicts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Contradiction {
    /// The volume.
    pub volume: VolumeId,
    /// The master, `host:port`.
    pub master: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl Contradictions {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<RefusedVolume>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Takes note of all that a master contradicts now.
    pub(crate) fn hear_contradictions(&self, master: &str, told: Vec<RefusedVolume>) {
        let mut known = self.0.contradictions.lock();
        if told.is_empty() {
            known.remove(master);
            return;
        }
        let short =
            |told: RefusedVolume| RefusedVolume { reason: bounded_sentence(&told.reason), ..told };
        let told: Vec<_> = told.into_iter().take(MAX_CONTRADICTIONS).map(short).collect();
        let is_news = |told: &&RefusedVolume| !known.values().flatten().any(|known| known == *told);
        for news in told.iter().filter(is_news) {
            tracing::error!("the master {master} contradicts: {}", news.reason);
        }
        known.insert(master.to_owned(), told);
    }

    /// What the masters contradict.
    pub fn contradictions(&self) -> Vec<Contradiction> {
        let known = self.0.contradictions.lock();
        let said = known.iter().flat_map(|(master, told)| told.iter().map(move |t| (master, t)));
        let contradiction = |(master, told): (&String, &RefusedVolume)| Contradiction {
            volume: told.id,
            master: master.clone(),
            reason: told.reason.clone(),
        };
        said.map(contradiction).collect()
    }
}
