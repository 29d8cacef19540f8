//! One scrub: every record of a volume file as it was when the scrub began.
//!
//! A live needle is bad when reading its record from the disk, as a read would, does not give a
//! record of its key and size that verifies. Everything else that does not verify is garbage: worth
//! telling, since it shows what the disk does, but nobody misses it. So whatever the walk from record
//! to record stumbles over, each needle is judged by its own record alone.
//!
//! Writes go on: they lie behind the end that was seen at the start. A compaction puts another file
//! in the place of this one; the scrub notices and ends.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use dulse_shared::{
    id::{Fid, NeedleKey},
    wire::ScrubFinding,
};

use super::{
    book::Badness,
    cold_file::{ColdFile, Pace},
    findings::ScrubFindings,
    live_entries::{LiveEntry, live_entries},
    record::Records,
    silent_disk::SilentDisk,
};
use crate::{
    disk::{VolumeFile, read_exact_at},
    engine::{
        file_order::InOrder,
        fill::end_of_data,
        needle_map::Entry,
        scan::{BadRecord, ScanError, Scanned},
        verified::Place,
        volume::Volume,
    },
    format::{DecodeError, Head, RowSize, record_len},
};

/// Findings of a scrub that are logged one by one. A dead disk has millions.
const MAX_LOGGED: u64 = 20;

/// How a scrub ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ScrubEnd {
    /// All was read; or the disk gives nothing any more, which is then the first finding.
    Complete(ScrubFindings),
    /// Its pace said so.
    Stopped,
    /// A compaction put another file in place: it has to begin again.
    Replaced,
}

/// Why a scrub does not go on.
enum Halt {
    Stopped,
    Replaced,
    /// The disk gives nothing from there on.
    Silent {
        from: u64,
    },
}

impl Volume {
    /// Reads all of the volume from its disk and says what does not verify. `pace` hears how many
    /// bytes are about to be read, and waits as long as it likes; `false` stops. Nothing is locked
    /// while the disk is read. Needles that are found to be bad answer reads with an error from then
    /// on, until they are replaced or verify again.
    pub fn scrub(&self, pace: &Pace<'_>) -> ScrubEnd {
        let subject = Subject::of(self);
        self.scrubbed.keep_revision(subject.revision);
        let dat = subject.dat.clone();
        let is_same_file = |bytes| subject.is_current(self) && pace(bytes);
        let cold = ColdFile::new(&*dat, subject.end, &is_same_file);
        let mut walk = Walk::new(self, &subject, &cold);
        match walk.run() {
            Ok(()) => {}
            Err(_) if !subject.is_current(self) => return ScrubEnd::Replaced,
            Err(Halt::Replaced) => return ScrubEnd::Replaced,
            Err(Halt::Stopped) => return ScrubEnd::Stopped,
            Err(Halt::Silent { from }) => walk.give_up(from),
        }
        let findings = walk.findings;
        self.scrubbed.complete(findings.clone(), self.clock().wall_secs());
        ScrubEnd::Complete(findings)
    }

    /// Reads the records of some needles from the disk, and takes note of those that are bad.
    pub fn scrub_needles(&self, keys: &[NeedleKey], pace: &Pace<'_>) {
        let subject = Subject::of(self);
        let dat = subject.dat.clone();
        let is_same_file = |bytes| subject.is_current(self) && pace(bytes);
        let cold = ColdFile::new(&*dat, subject.end, &is_same_file);
        let mut walk = Walk::new(self, &subject, &cold);
        for key in keys {
            if let Some(Entry { offset, size: RowSize::Live(size) }) = self.entry(*key)
                && walk.judge(LiveEntry { offset: offset.as_bytes(), key: *key, size }).is_err()
            {
                break;
            }
        }
        let count = walk.findings.len();
        if count > MAX_LOGGED {
            tracing::error!(volume = %self.id(), "{count} needles that a scrub found bad are bad still");
        }
    }
}

/// The file that is read.
struct Subject {
    dat: Arc<dyn VolumeFile>,
    revision: u16,
    own_from: u64,
    first: u64,
    end: u64,
}

impl Subject {
    fn of(volume: &Volume) -> Self {
        let snapshot = volume.snapshot();
        Self {
            dat: snapshot.dat.clone(),
            revision: snapshot.revision,
            own_from: snapshot.own_from,
            first: volume.superblock.first_needle_offset().as_bytes(),
            end: volume.dat_len.load(Ordering::Acquire),
        }
    }

    fn is_current(&self, volume: &Volume) -> bool {
        volume.snapshot().revision == self.revision
    }

    fn place(&self, offset: u64) -> Place {
        Place { revision: self.revision, offset }
    }
}

struct Walk<'a> {
    volume: &'a Volume,
    subject: &'a Subject,
    records: Records<'a>,
    findings: ScrubFindings,
    /// Where the next record starts; `None` if nobody knows: then it goes on at the next live one.
    position: Option<u64>,
    silent: SilentDisk,
}

impl<'a> Walk<'a> {
    fn new(volume: &'a Volume, subject: &'a Subject, cold: &'a ColdFile<'a>) -> Self {
        let records = Records { cold, version: volume.version(), own_from: subject.own_from };
        let (findings, position) = (ScrubFindings::default(), Some(subject.first));
        Self { volume, subject, records, findings, position, silent: SilentDisk::default() }
    }

    fn run(&mut self) -> Result<(), Halt> {
        let Subject { revision, first, end, .. } = *self.subject;
        let mut from = first;
        while from < end {
            let live = live_entries(self.volume, revision, from, end).ok_or(Halt::Replaced)?;
            self.stretch(&live)?;
            from = live.end;
        }
        Ok(())
    }

    /// Walks up to the end of a stretch, and over it with the last record.
    fn stretch(&mut self, live: &InOrder<LiveEntry>) -> Result<(), Halt> {
        let mut left = &live.entries[..];
        self.position = self.position.or_else(|| left.first().map(|entry| entry.offset));
        while let Some(position) = self.position.filter(|position| *position < live.end) {
            left = self.judge_before(position, left)?;
            left = match self.record_at(position, self.subject.end)? {
                Ok(record) => self.good(&record, left)?,
                Err(reason) => self.bad(position, &reason, left)?,
            };
        }
        left.iter().try_for_each(|entry| self.judge(*entry))
    }

    fn record_at(&self, offset: u64, end: u64) -> Result<Result<Scanned, BadRecord>, Halt> {
        let read = self.unless_halted(self.records.record_at(offset, end))?;
        if self.silent.attempted(&read) && self.is_silent()? {
            return Err(Halt::Silent { from: offset });
        }
        Ok(match read {
            Ok(found) => found.map_err(BadRecord::Bytes),
            Err(error) => Err(BadRecord::Disk(error)),
        })
    }

    /// Whether the disk gives nothing wherever one looks.
    fn is_silent(&self) -> Result<bool, Halt> {
        for place in SilentDisk::places(0..self.subject.end) {
            let read = read_exact_at(self.records.cold, &mut [0], place);
            if self.unless_halted(read)?.is_ok() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn give_up(&mut self, from: u64) {
        let reason = SilentDisk::in_words();
        tracing::error!(volume = %self.volume.id(), offset = from, "{reason}");
        self.findings.put_first(ScrubFinding { offset: from, key: None, fid: None, reason });
    }

    /// Tells an error of the disk from the word of the pace.
    fn unless_halted<T>(&self, read: io::Result<T>) -> Result<io::Result<T>, Halt> {
        if read.is_err() && self.records.cold.is_halted() { Err(Halt::Stopped) } else { Ok(read) }
    }

    /// A record that verifies.
    fn good<'e>(
        &mut self,
        record: &Scanned,
        mut left: &'e [LiveEntry],
    ) -> Result<&'e [LiveEntry], Halt> {
        while let [entry, rest @ ..] = left
            && entry.offset == record.offset
        {
            if (entry.key, entry.size) == (record.key, record.size) {
                self.volume.scrubbed.absolve(self.subject.place(entry.offset));
            } else {
                self.judge(*entry)?;
            }
            left = rest;
        }
        self.position = Some(record.offset + record.len);
        Ok(left)
    }

    /// Judges the needles that should lie before `offset`; those that are left.
    fn judge_before<'e>(
        &mut self,
        offset: u64,
        left: &'e [LiveEntry],
    ) -> Result<&'e [LiveEntry], Halt> {
        let (before, left) = left.split_at(left.partition_point(|entry| entry.offset < offset));
        before.iter().try_for_each(|entry| self.judge(*entry))?;
        Ok(left)
    }

    /// A record that does not verify: the walk goes on behind it, if its header still says where
    /// that is, or else at the next live record.
    fn bad<'e>(
        &mut self,
        position: u64,
        reason: &BadRecord,
        left: &'e [LiveEntry],
    ) -> Result<&'e [LiveEntry], Halt> {
        let is_live = left.first().is_some_and(|entry| entry.offset == position);
        let left = self.judge_before(position + 1, left)?;
        let next = left.first().map(|entry| entry.offset);
        self.position = self.end_of_bad(position, reason, next)?.or(next);
        // Zeros at the end of a damaged volume are what nobody wrote.
        let is_nothing = self.position.is_none() && self.is_zero_from(position)?;
        if !is_live && !is_nothing {
            self.garbage(position, reason.to_string());
        }
        Ok(left)
    }

    /// Where a bad record ends, if its header can be believed: it has its own sum, or what lies at
    /// the end that it names is a needle's record, or one that verifies.
    fn end_of_bad(
        &self,
        position: u64,
        reason: &BadRecord,
        next: Option<u64>,
    ) -> Result<Option<u64>, Halt> {
        let Some(head) = self.head(position)? else { return Ok(None) };
        let end = position.saturating_add(head.record_len());
        let limit = next.unwrap_or(self.subject.end);
        if end >= limit {
            return Ok(Some(end).filter(|end| *end == limit));
        }
        let is_data_alone =
            matches!(reason, BadRecord::Bytes(ScanError::Decode(DecodeError::Checksum { .. })));
        let is_sure = is_data_alone && self.records.is_own(position);
        let is_sure = is_sure || self.record_at(end, self.subject.end)?.is_ok();
        Ok(Some(end).filter(|_| is_sure))
    }

    fn head(&self, position: u64) -> Result<Option<Head>, Halt> {
        let head = self.unless_halted(self.records.head_at(position))?;
        Ok(head.ok().and_then(Result::ok))
    }

    fn is_zero_from(&self, position: u64) -> Result<bool, Halt> {
        let end = end_of_data(self.records.cold, position, self.subject.end);
        Ok(self.unless_halted(end)?.is_ok_and(|end| end == position))
    }

    fn garbage(&mut self, offset: u64, reason: String) {
        self.found(ScrubFinding { offset, key: None, fid: None, reason });
    }

    fn found(&mut self, finding: ScrubFinding) {
        let volume = self.volume.id();
        let ScrubFinding { offset, key, reason, .. } = &finding;
        match (self.findings.len(), key) {
            (MAX_LOGGED, _) => {
                tracing::error!(%volume, "a scrub finds more than {MAX_LOGGED} bad records: the others are only counted");
            }
            (MAX_LOGGED.., _) => {}
            (_, Some(key)) => {
                tracing::error!(%volume, %key, offset, "a scrub found a needle that cannot be read: {reason}; restore it");
            }
            (_, None) => {
                tracing::warn!(%volume, offset, "a scrub found garbage that does not verify: {reason}");
            }
        }
        self.findings.push(finding);
    }

    /// Reads the record of a live needle by itself, as a read would, and takes note of what it is.
    fn judge(&mut self, entry: LiveEntry) -> Result<(), Halt> {
        let Some(badness) = self.badness_of(entry)? else {
            self.volume.scrubbed.absolve(self.subject.place(entry.offset));
            return Ok(());
        };
        let reason = badness.to_string();
        if self.condemn(entry, badness) {
            let fid = self.fid(entry)?;
            let (offset, key) = (entry.offset, entry.key);
            self.found(ScrubFinding { offset, key: Some(key), fid, reason });
        } else {
            self.garbage(entry.offset, reason);
        }
        Ok(())
    }

    /// Whether the needle still lives there; it is then bad from now on.
    fn condemn(&self, entry: LiveEntry, badness: Badness) -> bool {
        let snapshot = self.volume.snapshot();
        let now = snapshot.map.lookup(entry.key);
        let lives = snapshot.revision == self.subject.revision
            && now.is_some_and(|now| now.offset.as_bytes() == entry.offset);
        if lives {
            self.volume.scrubbed.condemn(self.subject.place(entry.offset), badness);
        }
        lives
    }

    fn badness_of(&self, entry: LiveEntry) -> Result<Option<Badness>, Halt> {
        let LiveEntry { offset, key, size } = entry;
        let end = offset.saturating_add(record_len(size, self.volume.version()));
        let reason = match self.record_at(offset, end)? {
            Ok(record) if (record.key, record.size) == (key, size) => return Ok(None),
            Ok(record) => format!(
                "another record (needle {}, {} bytes) lies in its place",
                record.key, record.size
            ),
            Err(BadRecord::Bytes(ScanError::PastEnd)) => {
                "its record is longer than the index says".to_owned()
            }
            Err(BadRecord::Bytes(ScanError::Decode(error))) => error.to_string(),
            Err(BadRecord::Disk(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                "the volume file ends before its record does".to_owned()
            }
            Err(reason @ BadRecord::Disk(_)) => {
                return Ok(Some(Badness::Unreadable(reason.to_string())));
            }
        };
        Ok(Some(Badness::Corrupt(reason)))
    }

    /// The needle's fid, whose cookie only its record has.
    fn fid(&self, entry: LiveEntry) -> Result<Option<String>, Halt> {
        let head = self.head(entry.offset)?;
        let header = head.map(|head| *head.header()).filter(|header| header.key == entry.key);
        let volume = self.volume.id();
        let fid = |cookie| Fid { volume, key: entry.key, cookie }.to_string();
        Ok(header.map(|header| fid(header.cookie)))
    }
}
