//! Which of several files with one id is served, when a start finds more than one in the server's
//! directories.
//!
//! The newest is, and nothing is written to it: served and written by turns, as the directories come
//! and go, they would grow apart for good. The others are listed as not served and left as they are.
//! An empty one is what an interrupted creation left: it takes no part and goes to the trash. A file
//! that cannot be opened, has lost its volume file, or has a sidecar that cannot be read, may be the
//! newer one: the other is then served and not written as well. So is a volume that was admitted while
//! another foreign file of that id and collection is there: which of them is newer nobody has looked.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use dulse_shared::id::{Collection, VolumeId};

use super::{Store, lock};
use crate::{
    disk::{DataDir, VolumeName},
    engine::{
        duplicate::Newness, open::read_sidecar, remains, volume::Volume, volume_files::OpenError,
    },
};

/// The volumes of this cluster that a start found, by id, each in the order of the directories.
#[derive(Debug, Default)]
pub(super) struct Opened {
    volumes: BTreeMap<VolumeId, Vec<Arc<Volume>>>,
    others: Others,
}

/// Files that are not open, by id; nobody knows how new they are.
#[derive(Debug, Default)]
pub(super) struct Others(HashMap<VolumeId, Vec<Other>>);

/// One of them.
#[derive(Debug)]
struct Other {
    dat: PathBuf,
    collection: Collection,
    what: &'static str,
    whose: Whose,
}

/// Whose a file is that is not open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whose {
    /// It has a sidecar: this cluster's, as far as one can tell.
    Ours,
    /// Nothing says so.
    Unknown,
    /// It has never had a sidecar: it is another program's.
    Foreign,
}

impl Other {
    /// Whether it may be a newer version of `volume`. Another program's is one only of a volume that
    /// came from another program itself.
    fn concerns(&self, volume: &Volume) -> bool {
        let is_alike = self.collection == *volume.collection();
        let concerns = match self.whose {
            Whose::Ours => true,
            Whose::Unknown => is_alike,
            Whose::Foreign => is_alike && volume.config().closed,
        };
        concerns && self.dat != volume.dat_path()
    }

    fn in_words(&self) -> String {
        format!("{} ({})", self.dat.display(), self.what)
    }
}

impl Others {
    /// Those that may be a newer version of one of `volumes`, in words.
    fn that_concern(&self, volumes: &[Arc<Volume>]) -> Vec<String> {
        let ids = volumes.first().and_then(|volume| self.0.get(&volume.id()));
        let concern = |other: &&Other| volumes.iter().any(|volume| other.concerns(volume));
        ids.into_iter().flatten().filter(concern).map(Other::in_words).collect()
    }
}

impl Opened {
    /// Adds one.
    pub(super) fn add(&mut self, volume: Arc<Volume>) {
        self.volumes.entry(volume.id()).or_default().push(volume);
    }

    /// Adds one that cannot be opened, unless it is another cluster's. Without a sidecar it is another
    /// program's.
    pub(super) fn add_unopened(&mut self, dir: &DataDir, name: &VolumeName, error: &OpenError) {
        if !matches!(error, OpenError::OtherCluster { .. }) {
            let whose = if has_sidecar(dir, name) { Whose::Ours } else { Whose::Foreign };
            self.add_other(dir, name, "cannot be opened", whose);
        }
    }

    /// Adds one whose volume file went missing, unless it was another cluster's. An index alone does not
    /// say whose it was.
    pub(super) fn add_lost(&mut self, dir: &DataDir, name: &VolumeName) {
        let sidecar = read_sidecar(&**dir.files(), dir.path(), name).ok().flatten();
        if sidecar
            .is_none_or(|sidecar| dir.identity().cluster.is_none_or(|ours| ours == sidecar.cluster))
        {
            let whose = if has_sidecar(dir, name) { Whose::Ours } else { Whose::Unknown };
            self.add_other(dir, name, "missing", whose);
        }
    }

    /// Adds one that looks like another program's, perhaps because its sidecar cannot be read. One that
    /// holds nothing is not missed.
    pub(super) fn add_foreign(&mut self, dir: &DataDir, name: &VolumeName) {
        let holds_nothing = || remains::holds_nothing(&**dir.files(), dir.path(), name);
        if holds_nothing().unwrap_or(false) {
            return;
        }
        if has_sidecar(dir, name) {
            self.add_other(dir, name, "its sidecar cannot be read", Whose::Ours);
        } else {
            self.add_other(dir, name, "not admitted", Whose::Foreign);
        }
    }

    fn add_other(&mut self, dir: &DataDir, name: &VolumeName, what: &'static str, whose: Whose) {
        let (dat, collection) = (name.dat(dir.path()), name.collection.clone());
        let other = Other { dat, collection, what, whose };
        self.others.0.entry(name.id).or_default().push(other);
    }
}

/// Whether there is a sidecar, even one that cannot be read.
fn has_sidecar(dir: &DataDir, name: &VolumeName) -> bool {
    dir.files().is_there(&name.sidecar(dir.path())).unwrap_or(true)
}

/// What becomes of one of several files with one id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Served,
    Unserved,
    ToTrash,
}

/// What is known of one.
#[derive(Clone, Copy, Debug)]
struct Found {
    newness: Newness,
    is_empty: bool,
}

/// What becomes of each of `found`: an empty one is served only if there is nothing else, and stays
/// where it is while another file cannot be opened.
fn fates(found: &[Found], is_one_unopened: bool) -> Vec<Fate> {
    let is_all_empty = found.iter().all(|one| one.is_empty) && !is_one_unopened;
    let takes_part = |one: &Found| is_all_empty || !one.is_empty;
    let newest = found.iter().filter(|one| takes_part(one)).map(|one| one.newness).max();
    let is_newest = |one: &Found| takes_part(one) && Some(one.newness) == newest;
    let served = found.iter().position(is_newest);
    let fate = |(at, one): (usize, &Found)| match one.is_empty {
        _ if served == Some(at) => Fate::Served,
        true if !is_one_unopened => Fate::ToTrash,
        _ => Fate::Unserved,
    };
    found.iter().enumerate().map(fate).collect()
}

impl Store {
    /// Serves what a start opened, one file of each id.
    pub(super) fn serve(&self, opened: Opened) {
        let Opened { volumes, others } = opened;
        for files in volumes.into_values() {
            self.serve_one_of(&files, &others.that_concern(&files));
        }
        // Whatever is admitted later has to know of them; there is one start only.
        let _ = self.0.others.set(others);
    }

    /// Keeps a volume that was just admitted from being written, if there is another file that may be
    /// a newer version of it.
    pub(super) fn beware_of_twins(&self, admitted: &Arc<Volume>) {
        let others = self.0.others.get();
        let others = others.map(|others| others.that_concern(std::slice::from_ref(admitted)));
        if let Some(others) = others.filter(|others| !others.is_empty()) {
            only_read(admitted, &others);
        }
    }

    fn serve_one_of(&self, files: &[Arc<Volume>], unopened: &[String]) {
        let look = |volume: &Arc<Volume>| Found {
            newness: volume.newness(),
            is_empty: volume.was_never_written(),
        };
        let found: Vec<Found> = files.iter().map(look).collect();
        let (mut served, mut unserved) = (None, Vec::new());
        for (volume, fate) in files.iter().zip(fates(&found, !unopened.is_empty())) {
            match fate {
                Fate::Served => served = Some(volume),
                Fate::Unserved => unserved.push(volume),
                Fate::ToTrash => self.discard_empty(volume),
            }
        }
        let preferred = served.map(|volume| volume.dat_path().display().to_string());
        let preferred = preferred.as_ref().or(unopened.first());
        for (volume, preferred) in unserved.iter().zip(preferred.into_iter().cycle()) {
            let reason = why_unserved(&volume.dat_path(), preferred);
            lock(&self.0.unserved).note(&name_of(volume), &reason);
        }
        let Some(served) = served else { return };
        let path = |volume: &&Arc<Volume>| volume.dat_path().display().to_string();
        let mut others: Vec<String> = unserved.iter().map(path).collect();
        others.extend_from_slice(unopened);
        if !others.is_empty() {
            only_read(served, &others);
        }
        self.insert(served.clone());
    }

    /// Sends what an interrupted creation left to the trash.
    fn discard_empty(&self, volume: &Volume) {
        let (id, dat) = (volume.id(), volume.dat_path());
        match volume.withdraw() {
            Ok(()) => tracing::warn!(
                "moved {}, in which nothing was ever written, to the trash: volume {id} lies in \
                 another place",
                dat.display()
            ),
            Err(error) => {
                let reason = format!(
                    "its file {} is empty, beside another one, and cannot be moved to the trash: \
                     {error}",
                    dat.display()
                );
                lock(&self.0.unserved).note(&name_of(volume), &reason);
            }
        }
    }
}

fn only_read(volume: &Volume, others: &[String]) {
    let reason = why_read_only(&volume.dat_path(), others);
    tracing::error!("volume {} is read-only: {reason}", volume.id());
    volume.mark_duplicate(&reason);
}

fn name_of(volume: &Volume) -> VolumeName {
    VolumeName { collection: volume.collection().clone(), id: volume.id() }
}

fn why_unserved(dat: &Path, preferred: &str) -> String {
    format!(
        "{} is left alone, because {preferred} has the same id and counts as the newer: move one away \
         and start the server again",
        dat.display(),
    )
}

fn why_read_only(dat: &Path, others: &[String]) -> String {
    format!(
        "{} is read and not written, because its id is also that of {}: move one away and start the \
         server again",
        dat.display(),
        others.join(" and "),
    )
}

#[cfg(test)]
mod tests {
    use dulse_shared::id::Ts;

    use super::*;

    fn found(max_ts: u64, is_whole: bool, len: u64) -> Found {
        Found { newness: Newness { max_ts: Ts(max_ts), is_whole, len }, is_empty: false }
    }

    fn empty() -> Found {
        Found { is_empty: true, ..found(0, true, 8) }
    }

    #[test]
    fn the_newest_is_served_then_the_whole_then_the_longer_then_the_first() {
        for (files, served) in [
            ([found(1, true, 99), found(2, false, 10)], 1),
            ([found(2, true, 10), found(1, true, 99)], 0),
            ([found(2, false, 99), found(2, true, 10)], 1),
            ([found(2, true, 10), found(2, true, 99)], 1),
            ([found(2, true, 10), found(2, true, 10)], 0),
            ([found(0, true, 8), found(0, true, 8)], 0),
        ] {
            for is_one_unopened in [false, true] {
                let mut expected = [Fate::Unserved; 2];
                expected[served] = Fate::Served;
                assert_eq!(fates(&files, is_one_unopened), expected, "{files:?}");
            }
        }
    }

    #[test]
    fn an_empty_one_is_served_only_when_there_is_nothing_else() {
        use Fate::{Served, ToTrash, Unserved};
        assert_eq!(fates(&[empty()], false), [Served]);
        assert_eq!(fates(&[empty(), empty()], false), [Served, ToTrash]);
        // Whatever its stamps: an admitted volume has none that count.
        let three = [empty(), found(0, false, 8), empty()];
        assert_eq!(fates(&three, false), [ToTrash, Served, ToTrash]);
        assert_eq!(fates(&three, true), [Unserved, Served, Unserved]);
        assert_eq!(fates(&[empty()], true), [Unserved]);
    }
}
