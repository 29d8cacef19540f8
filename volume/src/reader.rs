//! Reading a needle: find it, read it with no lock held, verify it, and only then let it go.
//!
//! A small needle that the page cache holds is read right on the runtime's thread, without
//! waiting; everything else on the blocking pool. A needle over a megabyte is streamed, its last
//! chunk held back until the checksum of the whole is right.

use std::{io, sync::Arc};

use bytes::Bytes;
use dulse_shared::id::{Cookie, NeedleKey, Ts};

use crate::{
    disk::read_exact_at,
    engine::volume::{Located, Volume},
    format::{DecodeError, HEAD_LEN, Head, Needle, NeedleMeta, NewNeedle, record_len},
    large_needle::LargeNeedle,
    needle_data::NeedleData,
};

/// A body up to this long is read whole and verified before its first byte leaves.
pub const WHOLE_BODY_BYTES: u32 = 1 << 20;
/// A record up to this long is read on the runtime's thread if it is cached: its checksum takes
/// some ten microseconds.
const INLINE_RECORD_BYTES: u64 = 128 << 10;

/// A needle that was found.
#[derive(Debug)]
pub enum Found {
    /// All of it, verified.
    Whole(Needle),
    /// Its ends, verified; the data is streamed.
    Large(LargeNeedle),
}

/// Why a needle cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Missing, deleted, expired, or another cookie: the caller cannot tell which.
    #[error("there is no such needle")]
    NotFound,
    /// The stored bytes are not what was written.
    #[error("needle {key} of volume {volume} does not verify: {reason}")]
    Corrupt {
        /// The volume.
        volume: dulse_shared::id::VolumeId,
        /// The needle.
        key: NeedleKey,
        /// What is wrong.
        reason: String,
    },
    /// The disk does not give the bytes.
    #[error("needle {key} of volume {volume} cannot be read: {source}")]
    Io {
        /// The volume.
        volume: dulse_shared::id::VolumeId,
        /// The needle.
        key: NeedleKey,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Reads the committed version of a needle.
pub async fn read_needle(
    volume: &Arc<Volume>,
    key: NeedleKey,
    cookie: Cookie,
) -> Result<Found, ReadError> {
    let context = Context { volume, key };
    context.refuse_doubtful()?;
    let located = volume.locate(key).ok_or(ReadError::NotFound)?;
    context.refuse_known_bad(&located)?;
    if located.size > WHOLE_BODY_BYTES {
        return read_large(context, located, cookie).await;
    }
    let len = record_len(located.size, volume.version());
    let record = read_record(&located, len).await.map_err(|error| context.io(error))?;
    let needle = Needle::decode(record, volume.version(), located.is_own)
        .map_err(|error| context.corrupt(&error))?;
    context.check(needle.key, needle.size, &located)?;
    if needle.cookie != cookie || is_expired(volume, &needle.meta, needle.ts) {
        return Err(ReadError::NotFound);
    }
    Ok(Found::Whole(needle))
}

/// Whether the same needle is stored already, so that storing it again would change nothing. The
/// time counts only if the uploader gave one. With a ttl, the needle's or the volume's, a repeat
/// renews the needle's life.
pub async fn is_unchanged(
    volume: &Arc<Volume>,
    new: &NewNeedle<NeedleData>,
    is_time_given: bool,
) -> bool {
    if !volume.ttl().is_none() || !new.meta.ttl.is_none() {
        return false;
    }
    match read_needle(volume, new.key, new.cookie).await {
        Ok(Found::Whole(old)) => {
            old.checksum == new.checksum
                && matches!(&new.data, NeedleData::Memory(data) if old.data == data)
                && is_same_meta(&old.meta, &new.meta, is_time_given)
        }
        Ok(Found::Large(old)) => {
            is_same_meta(old.meta(), &new.meta, is_time_given)
                && old.has_data(&new.data, new.checksum).await
        }
        Err(_) => false,
    }
}

fn is_same_meta(old: &NeedleMeta, new: &NeedleMeta, is_time_given: bool) -> bool {
    let new = NeedleMeta {
        last_modified_secs: if is_time_given {
            new.last_modified_secs
        } else {
            old.last_modified_secs
        },
        ..new.clone()
    };
    *old == new
}

async fn read_large(
    context: Context<'_>,
    located: Located,
    cookie: Cookie,
) -> Result<Found, ReadError> {
    let version = context.volume.version();
    let ends = move || -> io::Result<Result<_, DecodeError>> {
        let mut head = [0; HEAD_LEN];
        read_exact_at(&*located.dat, &mut head, located.offset)?;
        let head = match Head::parse(&head, version) {
            Ok(head) => head,
            Err(error) => return Ok(Err(error)),
        };
        let tail_len = usize::try_from(head.tail_len()).map_err(io::Error::other)?;
        let mut tail = vec![0; tail_len];
        read_exact_at(&*located.dat, &mut tail, located.offset + head.tail_start())?;
        let tail = head.parse_tail(Bytes::from(tail), located.is_own);
        Ok(tail.map(|tail| (head, tail, located)))
    };
    let (head, tail, located) = on_blocking_pool(ends)
        .await
        .map_err(|error| context.io(error))?
        .map_err(|error| context.corrupt(&error))?;
    context.check(head.header().key, head.header().size, &located)?;
    if head.header().cookie != cookie || is_expired(context.volume, &tail.meta, tail.ts) {
        return Err(ReadError::NotFound);
    }
    Ok(Found::Large(LargeNeedle::new(context.volume.clone(), located, &head, tail)))
}

/// The bytes of a record.
async fn read_record(located: &Located, len: u64) -> io::Result<Bytes> {
    let capacity = usize::try_from(len).map_err(io::Error::other)?;
    let mut buffer = vec![0; capacity];
    if len <= INLINE_RECORD_BYTES {
        let cached = located.dat.read_cached_at(&mut buffer, located.offset)?;
        if cached == Some(capacity) {
            return Ok(Bytes::from(buffer));
        }
    }
    let (dat, offset) = (located.dat.clone(), located.offset);
    on_blocking_pool(move || {
        read_exact_at(&*dat, &mut buffer, offset)?;
        Ok(Bytes::from(buffer))
    })
    .await
}

/// Runs what may wait for a disk off the runtime's threads.
pub(crate) async fn on_blocking_pool<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn is_expired(volume: &Volume, meta: &NeedleMeta, ts: Ts) -> bool {
    let now_secs = volume.clock().wall_secs();
    expires_at_secs(meta, ts).is_some_and(|expires_at| now_secs >= expires_at)
}

/// When a needle is gone, in seconds since 1970. A ttl runs from when the record was written, not
/// from the time of modification, which uploaders choose; only the older formats have nothing else.
pub(crate) fn expires_at_secs(meta: &NeedleMeta, ts: Ts) -> Option<u64> {
    let ttl = meta.ttl.duration()?;
    let written_secs = match ts {
        Ts(0) => meta.last_modified_secs,
        Ts(written_ns) => Some(written_ns / 1_000_000_000),
    };
    written_secs.map(|written| written.saturating_add(ttl.as_secs()))
}

/// What an error about a needle names.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) volume: &'a Arc<Volume>,
    pub(crate) key: NeedleKey,
}

impl Context<'_> {
    /// The index must speak of the record that was found.
    fn check(&self, key: NeedleKey, size: u32, located: &Located) -> Result<(), ReadError> {
        if key == self.key && size == located.size {
            return Ok(());
        }
        let reason = format!("another record (needle {key}, {size} bytes) lies in its place");
        Err(ReadError::Corrupt { volume: self.volume.id(), key: self.key, reason })
    }

    /// What was there before may have been replaced, and what replaced it may be forged.
    fn refuse_doubtful(&self) -> Result<(), ReadError> {
        if !self.volume.is_doubtful(self.key) {
            return Ok(());
        }
        let reason = "the record before it is damaged, and nothing vouches for it".to_owned();
        Err(ReadError::Corrupt { volume: self.volume.id(), key: self.key, reason })
    }

    /// The page cache may hold better bytes than the disk, but not for long.
    fn refuse_known_bad(&self, located: &Located) -> Result<(), ReadError> {
        match self.volume.scrubbed().reason_to_refuse(located.place()) {
            None => Ok(()),
            Some(reason) => {
                Err(ReadError::Corrupt { volume: self.volume.id(), key: self.key, reason })
            }
        }
    }

    fn corrupt(&self, error: &DecodeError) -> ReadError {
        let (volume, key) = (self.volume.id(), self.key);
        ReadError::Corrupt { volume, key, reason: error.to_string() }
    }

    pub(crate) fn io(&self, source: io::Error) -> ReadError {
        // An index row that points past the end is damage, not a failing disk.
        if source.kind() == io::ErrorKind::UnexpectedEof {
            let reason = "the volume file ends before its record does".to_owned();
            return ReadError::Corrupt { volume: self.volume.id(), key: self.key, reason };
        }
        ReadError::Io { volume: self.volume.id(), key: self.key, source }
    }
}
