//! When a scrub gives up: a disk that gives nothing any more would be asked for every record of the
//! volume, and each answer may take it half a minute.
//!
//! A bad stretch is no dead disk, nor is a bad end of the file. So before a scrub gives up it looks at
//! places all over the file, and goes on if one of them can be read. What it then says is what it saw.

use std::{cell::Cell, io, ops::Range};

/// Records in a row, none of which the disk gives, before other places are looked at.
const MAX_IN_A_ROW: u32 = 100;
/// Places that are looked at then, the same distance from each other.
const PLACES: u64 = 16;

/// How long the disk has given nothing.
#[derive(Debug, Default)]
pub(super) struct SilentDisk {
    in_a_row: Cell<u32>,
}

impl SilentDisk {
    /// Takes note of an attempt to read a record; whether it is time to look at other places.
    pub(super) fn attempted<T>(&self, read: &io::Result<T>) -> bool {
        // The end of the file is an answer.
        let is_silent =
            read.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::UnexpectedEof);
        let in_a_row = if is_silent { self.in_a_row.get() + 1 } else { 0 };
        self.in_a_row.set(in_a_row % MAX_IN_A_ROW);
        in_a_row == MAX_IN_A_ROW
    }

    /// Where to look.
    pub(super) fn places(file: Range<u64>) -> impl Iterator<Item = u64> {
        let step = (file.end.saturating_sub(file.start) / PLACES).max(1);
        file.step_by(usize::try_from(step).unwrap_or(usize::MAX)).take(PLACES as usize)
    }

    /// What is said of a volume whose scrub gave up.
    pub(super) fn in_words() -> String {
        format!(
            "the disk gave none of the last {MAX_IN_A_ROW} records it was asked for, and nothing at \
             {PLACES} places all over the file: the scrub ended here, and what lies behind is not \
             verified"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unbroken_row_of_failures_counts() {
        let disk = SilentDisk::default();
        let fails = || disk.attempted::<()>(&Err(io::Error::from_raw_os_error(5)));
        for _ in 0..3 {
            assert!((1..MAX_IN_A_ROW).all(|_| !fails()));
            assert!(!disk.attempted(&Ok(())));
            assert!((1..MAX_IN_A_ROW).all(|_| !fails()));
            assert!(!disk.attempted::<()>(&Err(io::ErrorKind::UnexpectedEof.into())));
        }
        assert!((1..MAX_IN_A_ROW).all(|_| !fails()));
        assert!(fails() && !fails(), "it begins to count anew");
    }

    #[test]
    fn places_lie_all_over() {
        let places: Vec<u64> = SilentDisk::places(1000..33_000).collect();
        assert_eq!((places.len() as u64, places[0], places[15]), (PLACES, 1000, 31_000));
        assert_eq!(SilentDisk::places(8..10).collect::<Vec<_>>(), [8, 9]);
        assert_eq!(SilentDisk::places(9..9).count(), 0);
    }
}
