//! The order in which writes that wait are taken.
//!
//! Small writes go in batches, in the order they came. A spooled one goes alone, because copying
//! and syncing it takes a while that no other write should wait for twice: small ones that came
//! meanwhile go before the next spooled one, and that before the small ones after them. So neither
//! kind keeps the other from its turn.

use std::collections::VecDeque;

use super::Queued;

/// Writes of one batch at most: beyond it a sync is well used, and answers should not wait.
pub(super) const BATCH_WRITES: usize = 1024;
/// Bytes of one batch at most, unless a single needle is larger.
const BATCH_BYTES: u64 = 32 << 20;

#[derive(Debug, Default)]
pub(super) struct Waiting {
    small: VecDeque<Queued>,
    spooled: VecDeque<Queued>,
    /// The last batch was a spooled write.
    is_turn_of_small: bool,
}

impl Waiting {
    pub(super) fn push(&mut self, queued: Queued) {
        let line = if queued.write.is_spooled() { &mut self.spooled } else { &mut self.small };
        line.push_back(queued);
    }

    pub(super) fn len(&self) -> usize {
        self.small.len() + self.spooled.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What is to be committed together next; empty if nothing waits.
    pub(super) fn take_batch(&mut self) -> Vec<Queued> {
        let takes_small =
            !self.small.is_empty() && (self.is_turn_of_small || self.spooled.is_empty());
        self.is_turn_of_small = !takes_small;
        if takes_small {
            take_small(&mut self.small)
        } else {
            self.spooled.pop_front().into_iter().collect()
        }
    }
}

fn take_small(small: &mut VecDeque<Queued>) -> Vec<Queued> {
    let (mut count, mut bytes) = (0, 0);
    for queued in small.iter().take(BATCH_WRITES) {
        bytes += queued.write.weight();
        if count > 0 && bytes > BATCH_BYTES {
            break;
        }
        count += 1;
    }
    small.drain(..count).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use dulse_shared::{
        clock::BootTime,
        id::{Cookie, NeedleKey},
    };
    use tokio::{runtime::Handle, sync::oneshot};

    use super::*;
    use crate::{
        disk::NoFile,
        engine::write::Write,
        format::{NeedleMeta, NewNeedle},
        needle_data::{NeedleData, Spool},
        writer::Client,
    };

    fn put(key: u64, data: NeedleData) -> Queued {
        let key = NeedleKey::new(key).unwrap();
        let meta = NeedleMeta::default();
        let needle = NewNeedle { key, cookie: Cookie(1), data, checksum: 0, meta };
        let (answer, _) = oneshot::channel();
        let client = Client { answer, runtime: Handle::current() };
        Queued { write: Write::Put(needle), client, at: BootTime::default() }
    }

    fn keys(batch: &[Queued]) -> Vec<u64> {
        let key = |queued: &Queued| match &queued.write {
            Write::Put(needle) => needle.key.as_u64(),
            Write::Delete { .. } | Write::Expire { .. } => 0,
        };
        batch.iter().map(key).collect()
    }

    #[tokio::test]
    async fn small_and_spooled_writes_take_turns_and_a_spooled_one_goes_alone() {
        let small = |key| put(key, Bytes::new().into());
        let spooled = |key| put(key, NeedleData::Spooled(Spool::new(Arc::new(NoFile), 9)));
        let mut waiting = Waiting::default();
        for queued in [small(1), small(2), spooled(3), spooled(4), spooled(5), small(6)] {
            waiting.push(queued);
        }
        assert_eq!(keys(&waiting.take_batch()), [3], "the small ones had the turn before");
        assert_eq!(keys(&waiting.take_batch()), [1, 2, 6]);
        waiting.push(small(7));
        assert_eq!(keys(&waiting.take_batch()), [4]);
        assert_eq!(keys(&waiting.take_batch()), [7]);
        assert_eq!(keys(&waiting.take_batch()), [5]);
        assert!(waiting.is_empty() && waiting.take_batch().is_empty());
    }

    #[tokio::test]
    async fn a_batch_ends_where_it_has_enough_bytes() {
        let mut waiting = Waiting::default();
        let half = Bytes::from(vec![0; 20 << 20]);
        for key in 1..=3 {
            waiting.push(put(key, half.clone().into()));
        }
        assert_eq!(keys(&waiting.take_batch()), [1]);
        assert_eq!(keys(&waiting.take_batch()), [2]);
        assert_eq!(waiting.len(), 1);
    }
}
