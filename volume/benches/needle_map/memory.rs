//! Memory of this process, as the kernel counts it.

use std::{error::Error, fs};

/// Bytes of the process that are in RAM, without mapped files.
pub fn resident_bytes() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes.ok_or("the kernel does not say RssAnon")?.parse::<u64>()? * 1024)
}
