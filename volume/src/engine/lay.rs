//! Laying the records of a batch behind each other in the volume file.
//!
//! Data in memory goes there with its neighbours in one call. Spooled data is read and written a
//! piece at a time, and summed on the way: what the file gets is what was received, whatever the
//! page cache or the disk did to the spool meanwhile. The disk is told to begin with each stretch as
//! soon as it is written, so that the sync at the end is short. Taking a failed write back is left
//! to the caller.

use std::io::{self, IoSlice};

use super::fill::push_zeros;
use crate::{
    disk::{VolumeFile, write_all_at},
    format::{Record, TOMBSTONE_LEN},
    needle_data::{NeedleData, Spool},
};

/// Spooled bytes in memory at a time: they stay in the processor's cache from the read to the write.
const PIECE_BYTES: usize = 256 << 10;
/// The disk is told of this many bytes at a time: some milliseconds of its work.
const STRETCH_BYTES: u64 = 8 << 20;

/// A record that is to be written.
pub(super) enum RecordBytes {
    Put { record: Record<NeedleData>, checksum: u32 },
    Tombstone([u8; TOMBSTONE_LEN]),
}

/// Why records could not be laid.
pub(super) enum LayError {
    /// The volume file did not take them.
    Volume(io::Error),
    /// A spool file does not give back what was put there.
    Spool(io::Error),
}

impl RecordBytes {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Put { record, .. } => record.len(),
            Self::Tombstone(bytes) => bytes.len() as u64,
        }
    }
}

/// Writes `records` from `start` on with `zeros` behind them, or without if there is no room for
/// those; how many it was.
pub(super) fn lay(
    dat: &dyn VolumeFile,
    records: &[&RecordBytes],
    zeros: u64,
    start: u64,
) -> Result<u64, LayError> {
    match lay_once(dat, records, zeros, start) {
        Ok(()) => Ok(zeros),
        Err(LayError::Volume(error)) if zeros > 0 && is_out_of_room(&error) => {
            // What was written of them takes the room that others need.
            dat.truncate(start).map_err(LayError::Volume)?;
            lay_once(dat, records, 0, start).map(|()| 0)
        }
        Err(error) => Err(error),
    }
}

fn lay_once(
    dat: &dyn VolumeFile,
    records: &[&RecordBytes],
    zeros: u64,
    start: u64,
) -> Result<(), LayError> {
    let mut end = End { dat, position: start };
    let mut slices = Vec::with_capacity(records.len() * 3);
    for record in records {
        match record {
            RecordBytes::Tombstone(bytes) => slices.push(IoSlice::new(bytes)),
            RecordBytes::Put { record: Record { head, data, tail }, checksum } => {
                slices.push(IoSlice::new(head));
                match data {
                    NeedleData::Memory(bytes) => slices.push(IoSlice::new(bytes)),
                    NeedleData::Spooled(spool) => {
                        end.write(&mut slices)?;
                        end.copy(spool, *checksum)?;
                    }
                }
                slices.push(IoSlice::new(tail));
            }
        }
    }
    push_zeros(&mut slices, zeros);
    end.write(&mut slices)
}

/// Up to where the volume file is written.
struct End<'a> {
    dat: &'a dyn VolumeFile,
    position: u64,
}

impl End<'_> {
    /// Writes what the slices hold and empties the list.
    fn write(&mut self, slices: &mut Vec<IoSlice<'_>>) -> Result<(), LayError> {
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        write_all_at(self.dat, slices, self.position).map_err(LayError::Volume)?;
        slices.clear();
        self.position += len as u64;
        Ok(())
    }

    /// Copies what is spooled, if it still has its sum.
    fn copy(&mut self, spool: &Spool, checksum: u32) -> Result<(), LayError> {
        let mut buffer = vec![0; PIECE_BYTES];
        let (mut copied, mut sum, mut begun_to) = (0, 0, self.position);
        while copied < spool.len() {
            let left = usize::try_from(spool.len() - copied).unwrap_or(usize::MAX);
            let piece = &mut buffer[..left.min(PIECE_BYTES)];
            spool.read_exact_at(piece, copied).map_err(LayError::Spool)?;
            sum = crc32c::crc32c_append(sum, piece);
            copied += piece.len() as u64;
            self.write(&mut vec![IoSlice::new(piece)])?;
            if self.position - begun_to >= STRETCH_BYTES {
                self.dat.begin_writeback(begun_to..self.position);
                begun_to = self.position;
            }
        }
        self.dat.begin_writeback(begun_to..self.position);
        if sum == checksum {
            return Ok(());
        }
        let reason = format!("it has checksum {sum:08x}, what was received has {checksum:08x}");
        Err(LayError::Spool(io::Error::new(io::ErrorKind::InvalidData, reason)))
    }
}

fn is_out_of_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
