//! Zeros behind the last record, while a volume is written to.
//!
//! A sync that has to record a new length or new blocks writes the file system's own structures as
//! well, which takes longer than writing the needles. So an append that outgrows the file writes
//! zeros behind itself, and those that follow write over them. There are as many as was written
//! since the volume last rested, up to a limit: a lone write costs little more, and a busy volume
//! writes each byte about twice at most. At rest the zeros are cut off, so that the file is what other
//! programs read. Zeros are no record (key 0 does not exist), so a start tells them from one.

use std::io::{self, IoSlice};

use crate::disk::{VolumeFile, read_exact_at};

/// Zeros that are written at once, at most: as long as a sync hardly takes longer for them.
const MAX_FILL_BYTES: u64 = 512 << 10;
/// The file then ends at a multiple of this.
const PAGE_BYTES: u64 = 4 << 10;
/// Zeros in memory, written as often as needed.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// How far the file reaches behind its last record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FillAhead {
    /// The file's length.
    filled_to: u64,
    /// Where the first record since the last rest lies.
    busy_from: u64,
}

impl FillAhead {
    /// For a file that ends at `len`, with its last record.
    pub(super) fn at_rest(len: u64) -> Self {
        Self { filled_to: len, busy_from: len }
    }

    /// How many zeros shall follow records that are to lie from `start` to `end`.
    pub(super) fn zeros_behind(&self, start: u64, end: u64) -> u64 {
        let appended = end.saturating_sub(start);
        if end <= self.filled_to || appended >= MAX_FILL_BYTES {
            return 0;
        }
        let written = end.saturating_sub(self.busy_from);
        let target = end + written.min(MAX_FILL_BYTES);
        target.next_multiple_of(PAGE_BYTES) - end
    }

    /// Takes note of a file that is written up to `len`.
    pub(super) fn reaches(&mut self, len: u64) {
        self.filled_to = self.filled_to.max(len);
    }

    /// Whether there is anything behind `end`.
    pub(super) fn is_beyond(&self, end: u64) -> bool {
        self.filled_to > end
    }
}

/// Adds `len` zeros to what is written.
pub(super) fn push_zeros(slices: &mut Vec<IoSlice<'_>>, mut len: u64) {
    while len > 0 {
        let piece = usize::try_from(len).unwrap_or(usize::MAX).min(ZEROS.len());
        slices.push(IoSlice::new(&ZEROS[..piece]));
        len -= piece as u64;
    }
}

/// Where the zeros begin that a file of `len` bytes ends with; not below `from`.
pub(super) fn end_of_data(file: &dyn VolumeFile, from: u64, len: u64) -> io::Result<u64> {
    let mut buffer = vec![0; ZEROS.len()];
    let mut end = len;
    while end > from {
        let piece = usize::try_from(end - from).unwrap_or(usize::MAX).min(buffer.len());
        let start = end - piece as u64;
        let bytes = &mut buffer[..piece];
        read_exact_at(file, bytes, start)?;
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_grow_with_what_is_written_up_to_a_limit() {
        let mut fill = FillAhead::at_rest(8);
        let mut end = 8;
        let mut fills = Vec::new();
        for _ in 0..2000 {
            let start = end;
            end += 1096;
            let zeros = fill.zeros_behind(start, end);
            fill.reaches(end + zeros);
            if zeros > 0 {
                assert_eq!((end + zeros) % PAGE_BYTES, 0);
                fills.push(zeros);
            }
            assert!(fill.filled_to >= end);
        }
        assert!(fills[0] < 2 * PAGE_BYTES, "a lone write writes little more: {fills:?}");
        assert!(fills.len() < 20 && fills.iter().sum::<u64>() <= 2 * end, "{fills:?}");
        let most = MAX_FILL_BYTES + PAGE_BYTES;
        assert!(fills.iter().all(|zeros| *zeros < most), "{fills:?}");
        assert!(fill.is_beyond(end) && !FillAhead::at_rest(end).is_beyond(end));
    }

    #[test]
    fn a_large_append_writes_none() {
        let fill = FillAhead::at_rest(8);
        assert_eq!(fill.zeros_behind(8, 8 + MAX_FILL_BYTES), 0);
    }

    #[test]
    fn the_end_of_the_data_is_found_behind_any_number_of_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let file =
            crate::disk::RealFile::open(&dir.path().join("f"), crate::disk::OpenMode::CreateNew)
                .unwrap();
        for (data, zeros) in [(1, 0), (1, 1), (70_000, 5), (3, 200_000), (100_000, 131_072)] {
            let mut slices = vec![IoSlice::new(&[7; 100_000][..data])];
            push_zeros(&mut slices, zeros);
            file.truncate(0).unwrap();
            crate::disk::write_all_at(&file, &mut slices, 0).unwrap();
            let len = data as u64 + zeros;
            assert_eq!(file.len().unwrap(), len);
            assert_eq!(end_of_data(&file, 0, len).unwrap(), data as u64);
            assert_eq!(end_of_data(&file, len, len).unwrap(), len);
        }
    }
}
