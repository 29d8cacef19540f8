//! Foreign volumes, and how they are admitted: one at a time, in the order in which masters said so.
//!
//! To admit a volume may mean to read all of its file, which takes minutes. So a configuration that
//! arrives is only put in a queue; heartbeats go on, and the masters repeat it until the volume is
//! reported. `Inner::changing` is held while a volume is put in the queue and while it goes over to
//! those that are served, never while its file is read: until then its id is taken because it is
//! foreign. What comes next is decided in [`queue`]. The lock of the queue may be taken while `changing`
//! is held, that of the foreign ones while either is.

mod queue;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use dulse_shared::{
    id::{ClusterId, VolumeId},
    net::tasks::Tasks,
    size::ByteSize,
    wire::{ForeignVolume, VolumeConfig},
};
use tokio::sync::Notify;

use self::queue::{Asked, Queue};
use super::{Store, StoreError, lock};
use crate::{
    disk::VolumeName,
    engine::{volume::Volume, watched_file::ReadWatch},
    reader::on_blocking_pool,
};

/// The log hears each time so much more of a volume file was read: every half minute or so.
const LOGGED_EVERY_BYTES: u64 = 4 << 30;

/// A volume file that waits to be admitted.
#[derive(Clone, Debug)]
pub struct Foreign {
    /// What is known of it.
    pub volume: ForeignVolume,
    /// How far it is.
    pub standing: Standing,
}

/// How far a foreign volume is on its way into the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// No master has said anything of it.
    Unclaimed,
    /// It was admitted by the masters, and others are read before it.
    Waiting,
    /// Its files are being read.
    UnderWay,
    /// It stays out, because a master said so or its files could not be read.
    Refused(String),
}

impl Standing {
    /// The same in words.
    pub fn in_words(&self) -> &str {
        match self {
            Self::Unclaimed => "no master has admitted it yet",
            Self::Waiting => "admitted, its files are read after others",
            Self::UnderWay => "admitted, its files are being read",
            Self::Refused(reason) => reason,
        }
    }
}

/// What is to be admitted.
#[derive(Debug, Default)]
pub(super) struct Admissions {
    queue: Mutex<Queue>,
    /// Wakes the task that admits.
    asked: Notify,
    /// Nothing is admitted any more.
    is_stopping: Arc<AtomicBool>,
}

impl Store {
    /// Volume files that nobody has claimed. Of two with one id in a directory only the first counts.
    pub fn foreign(&self) -> Vec<Foreign> {
        lock(&self.0.foreign).values().cloned().collect()
    }

    /// Takes over a configuration from the masters: at once if the volume is served here; a foreign
    /// one is thereby to be admitted, which [`Store::admit_next`] does.
    pub fn accept_config(
        &self,
        cluster: ClusterId,
        config: VolumeConfig,
    ) -> Result<(), StoreError> {
        self.check_cluster(cluster)?;
        let _changing = lock(&self.0.changing);
        let id = config.id;
        if let Some(volume) = self.volume(id) {
            let accepted = volume.accept_config(config);
            return accepted.map_err(|source| StoreError::Create { id, source });
        }
        let is_member = config.members.iter().any(|member| member.server == self.server());
        let at = self.foreign_at(&config).filter(|_| is_member);
        if let Some(dir_index) = at {
            self.ask_for(Asked { dir_index, cluster, config });
        }
        Ok(())
    }

    fn ask_for(&self, asked: Asked) {
        let mut queue = lock(&self.0.admissions.queue);
        let (dir_index, id) = (asked.dir_index, asked.config.id);
        if queue.ask(asked, self.clock().boot()) {
            self.stands(dir_index, id, Standing::Waiting);
            self.0.admissions.asked.notify_one();
        }
    }

    /// Takes note of why a foreign volume stays out, unless it is on its way in.
    pub fn refuse_foreign(&self, id: VolumeId, reason: &str) {
        let mut foreign = lock(&self.0.foreign);
        for ((dir_index, _), foreign) in foreign.iter_mut().filter(|((_, other), _)| *other == id) {
            let is_news = match &foreign.standing {
                Standing::Unclaimed => true,
                Standing::Refused(known) => known != reason,
                Standing::Waiting | Standing::UnderWay => false,
            };
            if is_news {
                let name = VolumeName { collection: foreign.volume.collection.clone(), id };
                let dat = name.dat(self.0.dirs[*dir_index].path());
                tracing::warn!("volume {id} in {} is not admitted: {reason}", dat.display());
                foreign.standing = Standing::Refused(reason.to_owned());
            }
        }
    }

    /// Admits the foreign volume that has waited longest; `false` if none waits. It takes as long as
    /// reading the volume's files does. One caller at a time.
    pub fn admit_next(&self) -> bool {
        let Some(asked) = self.take_asked() else { return false };
        let began = self.clock().boot();
        let (dir_index, id) = (asked.dir_index, asked.config.id);
        let dir = &self.0.dirs[dir_index];
        match self.0.opener.admit_watched(dir, asked.cluster, asked.config, self.watch(id)) {
            Ok(volume) => self.take_over(dir_index, volume),
            Err(_) if self.0.admissions.is_stopping() => {
                tracing::info!(
                    "volume {id} is not admitted yet: the server stops; it is read anew"
                );
                self.stands(dir_index, id, Standing::Waiting);
            }
            Err(error) => {
                let reason = format!("it was admitted, and its files cannot be opened: {error}");
                self.stays_out(reason, self.clock().since(began));
            }
        }
        true
    }

    fn take_asked(&self) -> Option<Asked> {
        if self.0.admissions.is_stopping() {
            return None;
        }
        let mut queue = lock(&self.0.admissions.queue);
        let asked = queue.take()?;
        self.stands(asked.dir_index, asked.config.id, Standing::UnderWay);
        Some(asked)
    }

    /// From now on the volume is served.
    fn take_over(&self, dir_index: usize, volume: Arc<Volume>) {
        let id = volume.id();
        let _changing = lock(&self.0.changing);
        self.beware_of_twins(&volume);
        self.insert(volume);
        lock(&self.0.foreign).remove(&(dir_index, id));
        lock(&self.0.admissions.queue).succeeded();
        tracing::info!("volume {id} was admitted");
        self.0.changed.send_replace(());
    }

    /// The volume under way cannot be served.
    fn stays_out(&self, reason: String, took: Duration) {
        let mut queue = lock(&self.0.admissions.queue);
        let Some((asked, is_news)) = queue.failed(&reason, self.clock().boot(), took) else {
            return;
        };
        let id = asked.config.id;
        if is_news {
            tracing::error!(
                "volume {id} is not served: {reason}; it is tried again in a minute or later"
            );
        }
        self.stands(asked.dir_index, id, Standing::Refused(reason));
    }

    /// Tells how far the volume file is read, and ends the reading when the server stops.
    fn watch(&self, id: VolumeId) -> ReadWatch {
        let is_stopping = self.0.admissions.is_stopping.clone();
        let read = AtomicU64::new(0);
        Arc::new(move |bytes| {
            let before = read.fetch_add(bytes, Ordering::Relaxed);
            let after = before + bytes;
            if before / LOGGED_EVERY_BYTES < after / LOGGED_EVERY_BYTES {
                tracing::info!("volume {id} is being admitted: {} were read", ByteSize(after));
            }
            !is_stopping.load(Ordering::Relaxed)
        })
    }

    /// The directory of the foreign volume that the configuration is for; of several the one that can
    /// be read.
    fn foreign_at(&self, config: &VolumeConfig) -> Option<usize> {
        let queue = lock(&self.0.admissions.queue);
        let foreign = lock(&self.0.foreign);
        let is_it = |volume: &ForeignVolume| {
            (volume.id, &volume.collection) == (config.id, &config.collection)
        };
        let those = foreign.iter().filter(|(_, one)| is_it(&one.volume)).map(|((at, _), _)| *at);
        queue.most_promising(config.id, those)
    }

    fn stands(&self, dir_index: usize, id: VolumeId, standing: Standing) {
        if let Some(foreign) = lock(&self.0.foreign).get_mut(&(dir_index, id)) {
            foreign.standing = standing;
        }
    }

    /// Admits nothing more, and breaks off what is being read.
    pub fn stop_admitting(&self) {
        self.0.admissions.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Admits what is to be admitted, until the process stops.
    pub async fn admit_until_stopped(self, tasks: Tasks) {
        loop {
            tokio::select! {
                () = self.0.admissions.asked.notified() => {}
                () = tasks.stopped() => return,
            }
            let store = self.clone();
            let work = on_blocking_pool(move || {
                while store.admit_next() {}
                Ok(())
            });
            let mut work = std::pin::pin!(work);
            let ended = tokio::select! {
                ended = &mut work => ended,
                () = tasks.stopped() => {
                    self.stop_admitting();
                    work.await
                }
            };
            if let Err(error) = ended {
                self.stays_out(format!("its admission went wrong: {error}"), Duration::ZERO);
                // Those behind it are not concerned.
                self.0.admissions.asked.notify_one();
            }
        }
    }
}

impl Admissions {
    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }
}
