//! What a data directory may hold and has to leave free, and which of the values that were given
//! belong to which directory.
//!
//! One value is for all directories; more are one for each, in their order. Any other number of
//! them is refused rather than guessed at.

use std::str::FromStr;

use dulse_shared::size::ByteSize;

/// What says that a directory decides by its disk.
const BY_THE_DISK: &str = "auto";
/// Hundredths of a per cent in a whole.
const WHOLE: u16 = 10_000;

/// The limits of one data directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DirLimits {
    /// Volumes it holds at most; none derives it from the disk's size.
    pub max_volumes: Option<u32>,
    /// When its disk counts as short of room.
    pub min_free_space: MinFreeSpace,
}

/// The free bytes below which no volume is created in a directory and none there is assigned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MinFreeSpace {
    /// 2 % of the disk, at most 10 GB.
    #[default]
    Default,
    /// This many.
    Bytes(u64),
    /// So many hundredths of a per cent of the disk, at most all of it.
    HundredthsOfPercent(u16),
}

/// A text that is no room to leave free.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0:?} is no room to leave free: use a size as in 10GB, a part of the disk as in 2.5%, or auto"
)]
pub struct ParseMinFreeSpaceError(String);

/// As many values of a flag as fit neither all directories nor each of them.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{flag} has {values} values for {dirs} {}: give one value for all of them, or one for each \
     --dir in the same order, separated by commas (auto leaves it to the disk)",
    if *dirs == 1 { "directory" } else { "directories" }
)]
pub struct LimitCountError {
    flag: &'static str,
    values: usize,
    dirs: usize,
}

impl DirLimits {
    /// Neither a number of volumes nor room to leave free.
    pub const NONE: Self = Self { max_volumes: None, min_free_space: MinFreeSpace::Bytes(0) };

    /// The limits of each of `dirs` directories, by the values of the two flags.
    pub fn spread(
        max_volumes: &[Option<u32>],
        min_free_space: &[MinFreeSpace],
        dirs: usize,
    ) -> Result<Vec<Self>, LimitCountError> {
        let max_volumes = one_for_each("--max-volumes", max_volumes, dirs)?;
        let min_free_space = one_for_each("--min-free-space", min_free_space, dirs)?;
        let both = max_volumes.into_iter().zip(min_free_space);
        Ok(both.map(|(max_volumes, min_free_space)| Self { max_volumes, min_free_space }).collect())
    }
}

fn one_for_each<T: Copy + Default>(
    flag: &'static str,
    values: &[T],
    dirs: usize,
) -> Result<Vec<T>, LimitCountError> {
    match values {
        [] => Ok(vec![T::default(); dirs]),
        [for_all] => Ok(vec![*for_all; dirs]),
        values if values.len() == dirs => Ok(values.to_vec()),
        values => Err(LimitCountError { flag, values: values.len(), dirs }),
    }
}

impl MinFreeSpace {
    /// The mark of a disk of `total_bytes`.
    pub fn bytes(self, total_bytes: u64) -> u64 {
        match self {
            Self::Default => (total_bytes / 50).min(10 << 30),
            Self::Bytes(bytes) => bytes,
            Self::HundredthsOfPercent(part) => {
                let part = u128::from(part.min(WHOLE));
                let bytes = u128::from(total_bytes) * part / u128::from(WHOLE);
                u64::try_from(bytes).unwrap_or(total_bytes)
            }
        }
    }
}

impl FromStr for MinFreeSpace {
    type Err = ParseMinFreeSpaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseMinFreeSpaceError(text.to_owned());
        if text.eq_ignore_ascii_case(BY_THE_DISK) {
            return Ok(Self::Default);
        }
        match text.strip_suffix('%') {
            Some(percent) => {
                hundredths(percent.trim_end()).map(Self::HundredthsOfPercent).ok_or_else(error)
            }
            None => text.parse().map(|ByteSize(bytes)| Self::Bytes(bytes)).map_err(|_| error()),
        }
    }
}

/// A number of per cent with two decimals at most, in hundredths.
fn hundredths(text: &str) -> Option<u16> {
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || !is_number(whole) || !is_number(decimals) || decimals.len() > 2 {
        return None;
    }
    let whole: u16 = whole.parse().ok()?;
    let decimals: u16 = format!("{decimals:0<2}").parse().ok()?;
    let all = whole.checked_mul(100)?.checked_add(decimals)?;
    (all <= WHOLE).then_some(all)
}

/// A number of volumes, or none where the disk decides.
pub fn parse_max_volumes(text: &str) -> Result<Option<u32>, String> {
    if text.eq_ignore_ascii_case(BY_THE_DISK) {
        return Ok(None);
    }
    match text.parse() {
        Ok(0) => Err("a directory holds one volume at least; auto is what its disk holds".into()),
        Ok(count) => Ok(Some(count)),
        Err(_) => Err(format!("{text:?} is no number of volumes: use a whole number, or auto")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn the_mark_is_two_percent_but_at_most_ten_gigabytes() {
        assert_eq!(MinFreeSpace::Default.bytes(100 << 30), 2 << 30);
        assert_eq!(MinFreeSpace::Default.bytes(10 << 40), 10 << 30);
        assert_eq!(MinFreeSpace::Bytes(7).bytes(100), 7);
        assert_eq!(MinFreeSpace::HundredthsOfPercent(250).bytes(1000), 25);
        assert_eq!(MinFreeSpace::HundredthsOfPercent(WHOLE).bytes(u64::MAX), u64::MAX);
    }

    #[test]
    fn room_to_leave_free_is_a_size_a_part_or_left_to_the_disk() {
        use MinFreeSpace::{Bytes, Default, HundredthsOfPercent};
        for (text, meant) in [
            ("auto", Default),
            ("0", Bytes(0)),
            ("5", Bytes(5)),
            ("10GiB", Bytes(10 << 30)),
            ("1%", HundredthsOfPercent(100)),
            ("2.5%", HundredthsOfPercent(250)),
            ("0.05 %", HundredthsOfPercent(5)),
            ("100%", HundredthsOfPercent(WHOLE)),
        ] {
            assert_eq!(text.parse(), Ok(meant), "{text}");
        }
        for bad in ["", "%", "-1%", "+1%", "1.234%", "100.01%", "1.%5", ".5%", "99999999%", "much"]
        {
            let error = bad.parse::<MinFreeSpace>().unwrap_err().to_string();
            assert!(error.contains("10GB") && error.contains('%'), "{bad}: {error}");
        }
    }

    #[test]
    fn a_number_of_volumes_is_one_at_least_or_left_to_the_disk() {
        assert_eq!(parse_max_volumes("7"), Ok(Some(7)));
        assert_eq!(parse_max_volumes("Auto"), Ok(None));
        for bad in ["0", "-1", "", "many", "4294967296"] {
            assert!(parse_max_volumes(bad).unwrap_err().contains("auto"), "{bad}");
        }
    }

    #[test]
    fn a_wrong_count_names_both_counts_and_the_remedy() {
        let error = DirLimits::spread(&[Some(7), Some(9)], &[], 3).unwrap_err().to_string();
        for part in ["--max-volumes has 2 values for 3 directories", "--dir", "one value for all"] {
            assert!(error.contains(part), "{part} in {error}");
        }
        let error = DirLimits::spread(&[], &[MinFreeSpace::Default; 2], 1).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("--min-free-space has 2 values for 1 directory:"), "{text}");
    }

    fn max_volumes() -> impl Strategy<Value = Option<u32>> {
        proptest::option::of(1..u32::MAX)
    }

    fn min_free_space() -> impl Strategy<Value = MinFreeSpace> {
        prop_oneof![
            Just(MinFreeSpace::Default),
            any::<u64>().prop_map(MinFreeSpace::Bytes),
            (0..=WHOLE).prop_map(MinFreeSpace::HundredthsOfPercent),
        ]
    }

    proptest! {
        #[test]
        fn every_directory_gets_its_own_value_or_the_one_for_all(
            max in vec(max_volumes(), 0..6),
            free in vec(min_free_space(), 0..6),
            dirs in 1_usize..6,
        ) {
            let fits = |count: usize| count <= 1 || count == dirs;
            let spread = DirLimits::spread(&max, &free, dirs);
            prop_assert_eq!(spread.is_ok(), fits(max.len()) && fits(free.len()));
            for (at, limits) in spread.into_iter().flatten().enumerate() {
                let max = max.get(at).or(max.first()).copied().unwrap_or_default();
                let free = free.get(at).or(free.first()).copied().unwrap_or_default();
                prop_assert_eq!(limits, DirLimits { max_volumes: max, min_free_space: free });
            }
        }

        #[test]
        fn a_part_of_the_disk_is_written_and_read_alike(part in 0..=WHOLE, total in any::<u64>()) {
            let text = format!("{}.{:02}%", part / 100, part % 100);
            let read: MinFreeSpace = text.parse().unwrap();
            prop_assert_eq!(read, MinFreeSpace::HundredthsOfPercent(part));
            let exact = total as f64 * f64::from(part) / f64::from(WHOLE);
            prop_assert!((read.bytes(total) as f64 - exact).abs() <= exact * 1e-9 + 1.0);
        }

        #[test]
        fn no_text_is_more_than_it_says(text in "[0-9]{0,6}[.]?[0-9]{0,4}%?") {
            if let Ok(read) = text.parse::<MinFreeSpace>() {
                let number: f64 = text.trim_end_matches('%').parse().unwrap();
                let meant = if text.ends_with('%') {
                    MinFreeSpace::HundredthsOfPercent((number * 100.0).round() as u16)
                } else {
                    MinFreeSpace::Bytes(number as u64)
                };
                prop_assert_eq!(read, meant);
            }
        }
    }
}
