//! The version of a needle that a write would replace.
//!
//! Its record is read for the cookie, which a write has to name, and for the stamp, which it has to be
//! above. What is read is verified, all but the data: one flipped bit of a stamp would carry the
//! server's stamps, and with them every ttl, far into the future.
//!
//! A needle whose record does not verify is lost, and writing it anew or deleting it is how that is
//! mended. Its cookie guards it all the same, but for one flipped bit in it, unless there is nothing
//! left of the record, or another one in its place. A disk that does not
//! give the bytes may give them next time: only once a scrub has found the needle bad is it written
//! over as well.

use std::io;

use dulse_shared::id::{Cookie, NeedleKey, Ts};

use super::volume::{Located, Volume};
use crate::{
    disk::read_exact_at,
    format::{DecodeError, HEAD_LEN, Head, NeedleHeader, RowSize, Tail},
};

/// The version that a write would replace.
#[derive(Clone, Copy)]
pub(super) struct Existing {
    pub(super) size: RowSize,
    pub(super) cookie: Cookie,
    pub(super) ts: Ts,
    /// What a write over it has to be above.
    pub(super) floor: Ts,
}

/// Why a record is no proof of anything.
#[derive(Debug, thiserror::Error)]
enum Unread {
    /// The disk does not give its bytes.
    #[error(transparent)]
    Disk(#[from] io::Error),
    /// They have another key.
    #[error("another record lies there, or nothing is left of it")]
    Other,
    /// This is its head, and not all of it verifies.
    #[error("it does not verify")]
    Damaged([u8; HEAD_LEN]),
}

impl Volume {
    /// The version of `key` that is committed; tombstones count, because their cookie still guards
    /// the fid. Of one that cannot be read the cookie is that of the caller, unless what is left of
    /// it says otherwise.
    pub(super) fn existing(&self, key: NeedleKey, cookie: Cookie) -> io::Result<Option<Existing>> {
        let Some((record, size)) = self.locate_record(key) else {
            return Ok(None);
        };
        let unread = match self.read_ends(key, &record, size) {
            Ok(existing) => return Ok(Some(existing)),
            Err(Unread::Disk(error)) if !self.scrubbed.has_bad_needle_at(record.place()) => {
                return Err(error);
            }
            Err(unread) => unread,
        };
        let stored = match &unread {
            Unread::Disk(_) | Unread::Other => cookie,
            Unread::Damaged(head) => self.cookie_of(*head, &record, cookie),
        };
        if stored == cookie {
            tracing::warn!(volume = %self.id(), %key, offset = record.offset, "a needle that cannot be read is written over or deleted: {unread}");
        }
        Ok(Some(Existing { size, cookie: stored, ts: Ts::default(), floor: Ts::default() }))
    }

    fn read_ends(
        &self,
        key: NeedleKey,
        record: &Located,
        size: RowSize,
    ) -> Result<Existing, Unread> {
        let mut bytes = [0; HEAD_LEN];
        read_exact_at(&*record.dat, &mut bytes, record.offset)?;
        if !is_nearly(&bytes, key) {
            return Err(Unread::Other);
        }
        let damaged = |_| Unread::Damaged(bytes);
        let head = Head::parse(&bytes, self.version()).map_err(damaged)?;
        let NeedleHeader { key: found, cookie, size: body } = *head.header();
        if (found, body) != (key, record.size) {
            return Err(Unread::Damaged(bytes));
        }
        let tail = read_tail(&head, record)?.map_err(damaged)?;
        let floor = if self.believes(tail.ts, record.is_own) { tail.ts } else { Ts::default() };
        Ok(Existing { size, cookie, ts: tail.ts, floor })
    }

    /// The cookie of a record that does not verify: `claimed`, if it differs in one bit and the record
    /// verifies with it.
    fn cookie_of(&self, mut head: [u8; HEAD_LEN], record: &Located, claimed: Cookie) -> Cookie {
        let [c0, c1, c2, c3, ..] = head;
        let stored = Cookie(u32::from_be_bytes([c0, c1, c2, c3]));
        if (stored.0 ^ claimed.0).count_ones() != 1 {
            return stored;
        }
        if let Some(cookie) = head.first_chunk_mut() {
            *cookie = claimed.0.to_be_bytes();
        }
        let verifies = Head::parse(&head, self.version())
            .is_ok_and(|head| read_tail(&head, record).is_ok_and(|tail| tail.is_ok()));
        if verifies { claimed } else { stored }
    }
}

/// Whether a head is that of `key`, but for one bit.
fn is_nearly(head: &[u8; HEAD_LEN], key: NeedleKey) -> bool {
    let [_, _, _, _, k0, k1, k2, k3, k4, k5, k6, k7, ..] = *head;
    let found = u64::from_be_bytes([k0, k1, k2, k3, k4, k5, k6, k7]);
    (found ^ key.as_u64()).count_ones() <= 1
}

fn read_tail(head: &Head, record: &Located) -> io::Result<Result<Tail, DecodeError>> {
    let mut tail = vec![0; usize::try_from(head.tail_len()).map_err(io::Error::other)?];
    read_exact_at(&*record.dat, &mut tail, record.offset + head.tail_start())?;
    Ok(head.parse_tail(tail.into(), record.is_own))
}
