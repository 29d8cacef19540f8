//! Walking a volume file record by record, verifying each.
//!
//! What is found is exactly what a read would accept: structure, checksum of the data and, for our
//! own records, the sums in the padding. Memory is bounded whatever the sizes on disk say.

use std::io;

use bytes::Bytes;
use dulse_shared::id::{Cookie, NeedleKey, Ts, Ttl};

use crate::{
    disk::{CACHED_AS_ONE_BYTES, VolumeFile, read_exact_at},
    format::{DecodeError, HEAD_LEN, Head, NeedleHeader, Tail, Version},
    reader::expires_at_secs,
};

/// Bytes that are read at once: with those asked for ahead, enough for a disk to stream.
const WINDOW_BYTES: usize = 2 << 20;

/// Windows that the disk reads while one is verified.
const WINDOWS_AHEAD: u64 = 4;

/// The same for a walk in small steps: a fraction of a millisecond.
const SMALL_WINDOW_BYTES: usize = 256 << 10;

/// The work of reading one byte that lies far away: a system call.
const PROBE_WORK: u64 = 16;

/// The work that a byte of a tail is: it is copied, and summed twice, once byte by byte.
const TAIL_WORK: u64 = 4;

/// A record that verifies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scanned {
    /// Where it starts.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// The needle's key.
    pub key: NeedleKey,
    /// The needle's cookie.
    pub cookie: Cookie,
    /// Length of its body; 0 is a tombstone (or an empty needle of another program's making).
    pub size: u32,
    /// Its stamp.
    pub ts: Ts,
    /// When it is gone, in seconds since 1970.
    pub expires_at_secs: Option<u64>,
    /// How long it lives.
    pub ttl: Ttl,
    /// CRC-32C of all its bytes, those of the data by their own CRC-32C: two records with the same
    /// are the same.
    pub sum: u32,
}

impl Scanned {
    /// The record at `offset` with these ends, verified; `tail_bytes` is what `tail` was read from.
    pub(super) fn new(
        offset: u64,
        head: &Head,
        tail_bytes: &[u8],
        tail: &Tail,
        data_crc: u32,
    ) -> Self {
        let NeedleHeader { key, cookie, size } = *head.header();
        let ends = crc32c::crc32c_append(crc32c::crc32c(head.as_bytes()), tail_bytes);
        Self {
            offset,
            len: head.record_len(),
            key,
            cookie,
            size,
            ts: tail.ts,
            expires_at_secs: expires_at_secs(&tail.meta, tail.ts),
            ttl: tail.meta.ttl,
            sum: crc32c::crc32c_append(ends, &data_crc.to_be_bytes()),
        }
    }
}

/// Why the bytes at an offset are no record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScanError {
    /// The file ends before the record does.
    #[error("the file ends within the record")]
    PastEnd,
    /// They do not verify.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Why there is no record to be had at an offset.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadRecord {
    /// The bytes that lie there are none.
    #[error(transparent)]
    Bytes(#[from] ScanError),
    /// Nobody knows what lies there.
    #[error("the disk does not give its bytes: {0}")]
    Disk(#[from] io::Error),
}

/// Walks a volume file.
#[derive(Debug)]
pub struct Scanner<'a> {
    file: &'a dyn VolumeFile,
    version: Version,
    own_from: u64,
    position: u64,
    end: u64,
    window: Vec<u8>,
    window_start: u64,
    window_bytes: usize,
    /// From where on the page cache may keep what is read; `None` leaves that to it.
    cached_from: Option<u64>,
    /// Whether a window that the disk does not give is read in pieces.
    is_sparing: bool,
    /// A window that ends here was not given: before it what is asked for is read, and no more.
    alone_to: u64,
    work: u64,
}

impl<'a> Scanner<'a> {
    /// A walk over `file` from `position` to `end`; records from `own_from` on are our own.
    pub fn new(
        file: &'a dyn VolumeFile,
        version: Version,
        own_from: u64,
        position: u64,
        end: u64,
    ) -> Self {
        Self {
            file,
            version,
            own_from,
            position,
            end,
            window: Vec::new(),
            window_start: 0,
            window_bytes: WINDOW_BYTES,
            cached_from: None,
            is_sparing: false,
            alone_to: 0,
            work: 0,
        }
    }

    /// The same in smaller steps, for a walk that others shall hardly notice.
    pub fn in_small_steps(self) -> Self {
        Self { window_bytes: SMALL_WINDOW_BYTES, ..self }
    }

    /// The same, and the page cache forgets what lies behind: for a walk over a whole file that
    /// nobody reads yet. Tens of gigabytes would drive out everything else, and where memory has to
    /// be had from the host of a virtual machine it takes longer than using the same pages again.
    pub fn forgetting(self) -> Self {
        Self { cached_from: Some(self.position), ..self }
    }

    /// The same, and where the disk does not give a window each record is read alone, so that a bad
    /// sector spoils those that lie on it and not their neighbours.
    pub fn sparing_neighbours(self) -> Self {
        Self { is_sparing: true, ..self }
    }

    /// Where the next record starts.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes on at `position`.
    pub fn seek(&mut self, position: u64) {
        self.position = position;
    }

    /// What it has taken so far: bytes that were read and bytes that were summed, and what else costs,
    /// as so many bytes.
    pub fn work(&self) -> u64 {
        self.work
    }

    /// The next record; `None` at the end. After an error the position is that of the bad record.
    pub fn advance(&mut self) -> io::Result<Option<Result<Scanned, ScanError>>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let found = self.record_at(self.position)?;
        if let Ok(record) = &found {
            self.position += record.len;
        }
        Ok(Some(found))
    }

    /// The same for a walk that goes on behind what the disk does not give.
    pub(super) fn advance_or_tell(&mut self) -> Option<Result<Scanned, BadRecord>> {
        match self.advance() {
            Ok(found) => found.map(|record| record.map_err(BadRecord::Bytes)),
            Err(error) => Some(Err(BadRecord::Disk(error))),
        }
    }

    /// The record at `offset`, if one is there that verifies.
    pub fn record_at(&mut self, offset: u64) -> io::Result<Result<Scanned, ScanError>> {
        match self.head_bytes(offset)? {
            Some(head) => self.record_with(offset, &head),
            None => Ok(Err(ScanError::PastEnd)),
        }
    }

    /// What would be the head of a record at `offset`; `None` if the file ends before.
    pub fn head_bytes(&mut self, offset: u64) -> io::Result<Option<[u8; HEAD_LEN]>> {
        // A record without a body has no data length, but is longer than a head all the same.
        if self.end.saturating_sub(offset) < HEAD_LEN as u64 {
            return Ok(None);
        }
        let mut head = [0; HEAD_LEN];
        head.copy_from_slice(self.bytes(offset, HEAD_LEN)?);
        Ok(Some(head))
    }

    /// The record at `offset`, if it verifies with this head in place of its own.
    pub fn record_with(
        &mut self,
        offset: u64,
        head: &[u8; HEAD_LEN],
    ) -> io::Result<Result<Scanned, ScanError>> {
        match Head::parse(head, self.version) {
            Ok(head) => self.record_of(offset, &head),
            Err(error) => Ok(Err(error.into())),
        }
    }

    fn record_of(&mut self, offset: u64, head: &Head) -> io::Result<Result<Scanned, ScanError>> {
        if head.record_len() > self.end.saturating_sub(offset) {
            return Ok(Err(ScanError::PastEnd));
        }
        self.hold_whole(offset, head.record_len())?;
        self.verify(offset, head)
    }

    /// The head at `offset` if all looks like a record that can be told without summing: for a search,
    /// which comes upon many that do not.
    pub(super) fn likely_head(&mut self, offset: u64) -> io::Result<Option<Head>> {
        let Some(bytes) = self.head_bytes(offset)? else { return Ok(None) };
        let Ok(head) = Head::parse(&bytes, self.version) else { return Ok(None) };
        if head.record_len() > self.end.saturating_sub(offset) {
            return Ok(None);
        }
        let fits = head.fits_its_fields(|at| self.byte(offset + at))?;
        Ok(fits.then_some(head))
    }

    /// The record at `offset`, if one is there that looks like one and verifies.
    pub(super) fn likely_record_at(&mut self, offset: u64) -> io::Result<Option<Scanned>> {
        match self.likely_head(offset)? {
            Some(head) => Ok(self.record_of(offset, &head)?.ok()),
            None => Ok(None),
        }
    }

    /// Reads a record that a window has room for, but this one a part of only, in one go. Else its
    /// tail, which comes first, would be read twice.
    fn hold_whole(&mut self, offset: u64, len: u64) -> io::Result<()> {
        match usize::try_from(len) {
            Ok(len) if len <= self.window_bytes => self.bytes(offset, len).map(drop),
            _ => Ok(()),
        }
    }

    fn verify(&mut self, offset: u64, head: &Head) -> io::Result<Result<Scanned, ScanError>> {
        // The tail first: it is small, and in random bytes it hardly ever parses.
        let tail_len = usize::try_from(head.tail_len()).map_err(io::Error::other)?;
        let bytes = self.tail_bytes(offset + head.tail_start(), tail_len)?;
        self.work += TAIL_WORK * head.tail_len();
        let tail = match head.parse_tail(bytes.clone(), offset >= self.own_from) {
            Ok(tail) => tail,
            Err(error) => return Ok(Err(error.into())),
        };
        let computed = self.data_crc(offset + head.data_start(), u64::from(head.data_len()))?;
        if !tail.checksum_matches(computed) {
            let stored = tail.stored_checksum;
            return Ok(Err(DecodeError::Checksum { stored, computed }.into()));
        }
        Ok(Ok(Scanned::new(offset, head, &bytes, &tail, computed)))
    }

    /// One byte, which leaves the window where it is.
    fn byte(&mut self, offset: u64) -> io::Result<u8> {
        let mut byte = [0];
        if self.holds(offset, 1) {
            byte.copy_from_slice(self.bytes(offset, 1)?);
        } else {
            read_exact_at(self.file, &mut byte, offset)?;
            self.work += PROBE_WORK;
        }
        let [byte] = byte;
        Ok(byte)
    }

    /// The tail of a record that a window has no room for lies far from the window, which stays where
    /// it is: next come the data, or the offset after that of what is no record.
    fn tail_bytes(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        if self.holds(offset, len) {
            return Ok(Bytes::copy_from_slice(self.bytes(offset, len)?));
        }
        let mut bytes = vec![0; len];
        read_exact_at(self.file, &mut bytes, offset)?;
        Ok(bytes.into())
    }

    fn holds(&self, offset: u64, len: usize) -> bool {
        let window_end = self.window_start + self.window.len() as u64;
        offset >= self.window_start && offset + len as u64 <= window_end
    }

    fn data_crc(&mut self, start: u64, len: u64) -> io::Result<u32> {
        let (mut crc, mut done) = (0, 0);
        while done < len {
            let piece =
                usize::try_from(len - done).unwrap_or(usize::MAX).min(self.window_bytes / 2);
            crc = crc32c::crc32c_append(crc, self.bytes(start + done, piece)?);
            self.work += piece as u64;
            done += piece as u64;
        }
        Ok(crc)
    }

    fn forget_up_to(&mut self, offset: u64) -> io::Result<()> {
        let whole = offset / CACHED_AS_ONE_BYTES * CACHED_AS_ONE_BYTES;
        match self.cached_from.filter(|from| *from < whole) {
            Some(from) => {
                self.cached_from = Some(whole);
                self.file.forget_cached(from..whole)
            }
            None => Ok(()),
        }
    }

    /// `len` bytes at `offset`, at most a window; the caller knows that they lie before the end.
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        if !self.holds(offset, len) {
            self.load(offset, len)?;
        }
        let from = usize::try_from(offset - self.window_start).map_err(io::Error::other)?;
        Ok(&self.window[from..from + len])
    }

    /// Reads the window that begins at `offset`, or of it only the `len` bytes that are asked for.
    fn load(&mut self, offset: u64, len: usize) -> io::Result<()> {
        if offset < self.alone_to {
            return self.fill(offset, len);
        }
        let left = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let whole = left.min(self.window_bytes).max(len);
        match self.fill(offset, whole) {
            Err(_) if self.is_sparing && whole > len => {
                self.alone_to = offset + whole as u64;
                return self.fill(offset, len);
            }
            filled => filled?,
        }
        self.forget_up_to(offset)?;
        let next = offset + whole as u64;
        let ahead = WINDOWS_AHEAD * self.window_bytes as u64;
        self.file.begin_reading(next..self.end.min(next + ahead));
        Ok(())
    }

    fn fill(&mut self, offset: u64, len: usize) -> io::Result<()> {
        self.window.resize(len, 0);
        self.window_start = offset;
        // What was not read must not be taken for bytes of the file.
        self.work += len as u64;
        read_exact_at(self.file, &mut self.window, offset).inspect_err(|_| self.window.clear())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{OpenMode, RealFile, write_all_at};

    /// A header that says: two gigabytes of body, none of them data.
    #[test]
    fn no_record_makes_the_window_longer_than_a_tail_can_be() {
        let temp = tempfile::tempdir().unwrap();
        let file = RealFile::open(&temp.path().join("f"), OpenMode::CreateNew).unwrap();
        let mut head = [0; HEAD_LEN];
        head[11] = 1;
        head[12..16].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]);
        write_all_at(&file, &mut [io::IoSlice::new(&head)], 0).unwrap();
        file.truncate(3 << 30).unwrap();
        let mut scanner = Scanner::new(&file, Version::V3, 0, 0, 3 << 30);
        let found = scanner.record_at(0).unwrap();
        assert!(matches!(found, Err(ScanError::Decode(DecodeError::TailLen { .. }))), "{found:?}");
        assert!(scanner.window.capacity() <= WINDOW_BYTES);
    }
}
