//! Values of flags that are more than a word or a number: how they are written, and what is wrong
//! with those that cannot be read.

use std::{num::NonZeroU64, path::PathBuf, time::Duration};

use dulse_shared::{
    size::{ByteSize, ParseByteSizeError},
    wire::DiskType,
};

/// A data directory and its kind of disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct VolumeDir {
    pub(crate) path: PathBuf,
    pub(crate) disk: DiskType,
}

/// A disk type is a short word; what else follows a colon belongs to the path.
pub(crate) fn parse_dir(text: &str) -> Result<VolumeDir, String> {
    let is_word = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    let (path, disk) = match text.rsplit_once(':') {
        Some((path, disk)) if is_word(disk) => (path, DiskType(disk.to_ascii_lowercase())),
        _ => (text, DiskType::default()),
    };
    if path.is_empty() {
        return Err("the directory is missing".to_owned());
    }
    Ok(VolumeDir { path: path.into(), disk })
}

/// A whole number and s, m, h or d; 0 needs no unit.
pub(crate) fn parse_interval(text: &str) -> Result<Duration, String> {
    let error = || format!("{text:?} is no length of time: use a whole number and s, m, h or d");
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let number: u64 = digits.parse().map_err(|_| error())?;
    let unit_secs = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "" if number == 0 => 0,
        _ => return Err(error()),
    };
    number.checked_mul(unit_secs).map(Duration::from_secs).ok_or_else(error)
}

/// Bytes a second, above 0.
pub(crate) fn parse_rate(text: &str) -> Result<NonZeroU64, String> {
    let size: ByteSize = text.parse().map_err(|error: ParseByteSizeError| error.to_string())?;
    let none = "it must be above 0; --scrub-interval=0 is what turns scrubs off";
    NonZeroU64::new(size.0).ok_or_else(|| none.to_owned())
}

/// A part of a volume, above 0.
pub(crate) fn parse_part(text: &str) -> Result<f64, String> {
    let above = |part: &f64| *part > 0.0;
    let part = Some(parse_garbage(text)?).filter(above);
    part.ok_or_else(|| "it must be above 0, as in 0.3".to_owned())
}

/// A part of a volume, or nothing of it.
pub(crate) fn parse_garbage(text: &str) -> Result<f64, String> {
    let part: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (0.0..=1.0).contains(&part) {
        return Ok(part);
    }
    Err("it is a part of a volume, from 0 to 1, as in 0.3".to_owned())
}
