//! Opening a volume whose index is gone: all of its volume file is read and verified.
//!
//! `make DIR GIB KIB` writes a volume of needles of 1 to so many KiB, by the engine itself, and removes
//! its index; `open DIR` opens it and says how long that took, after which the index is removed again.
//! What the page cache holds is for the caller to see to.

#[path = "rig.rs"]
mod rig;

use std::{error::Error, fs, path::Path};

use bytes::Bytes;
use dulse_shared::{
    clock::Clock,
    id::{Cookie, NeedleKey},
};
use dulse_volume::{
    engine::{open::Discovered, volume::Volume, write::Write},
    format::{NeedleMeta, NewNeedle},
    needle_data::NeedleData,
};

const MIN_BYTES: u64 = 1 << 10;
/// Of needles in one commit.
const COMMIT_BYTES: u64 = 12 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", dir, gib, kib] => {
            make(Path::new(dir), gib.parse::<u64>()? << 30, kib.parse::<u64>()? << 10)
        }
        ["open", dir] => open(Path::new(dir)),
        // `cargo test` and `cargo bench` run it without words.
        [] => Ok(()),
        _ => Err("make DIR GIB KIB, or open DIR".into()),
    }
}

fn make(path: &Path, bytes: u64, max_bytes: u64) -> Result<(), Box<dyn Error>> {
    let (dir, opener, name) = (rig::open_dir(path)?, rig::opener(), rig::name()?);
    let volume = rig::create(&opener, &dir, &name)?;
    // No two needles are alike: each is another piece of the same noise.
    let noise = Bytes::from(noise(4 * max_bytes));
    let (mut seed, mut key) = (1, 0);
    while volume.report().size_bytes < bytes {
        let (mut writes, mut batch_bytes) = (Vec::new(), 0);
        while batch_bytes < COMMIT_BYTES {
            key += 1;
            let len = MIN_BYTES + next(&mut seed) % (max_bytes - MIN_BYTES + 1);
            let from = usize::try_from(next(&mut seed) % max_bytes)?;
            writes.push(Write::Put(needle(key, noise.slice(from..from + usize::try_from(len)?))?));
            batch_bytes += len;
        }
        for answer in volume.commit(writes) {
            answer?;
        }
        dir.measure(&Clock::System);
    }
    volume.rest()?;
    println!("{} bytes, {key} needles", volume.report().size_bytes);
    remove_index(path)
}

fn open(path: &Path) -> Result<(), Box<dyn Error>> {
    let (dir, opener, name) = (rig::open_dir(path)?, rig::opener(), rig::name()?);
    let clock = Clock::System;
    let start = clock.boot();
    let Discovered::Own(volume) = opener.discover(&dir, &name)? else {
        return Err("the volume is not taken for ours".into());
    };
    let seconds = clock.since(start).as_secs_f64();
    print_figures(&volume, seconds);
    drop(volume);
    remove_index(path)
}

fn print_figures(volume: &Volume, seconds: f64) {
    let report = volume.report();
    let (needles, _) = volume.keys();
    println!("{} {needles} {seconds}", report.size_bytes);
}

fn remove_index(path: &Path) -> Result<(), Box<dyn Error>> {
    fs::remove_file(rig::name()?.idx(path))?;
    Ok(())
}

fn needle(key: u64, data: Bytes) -> Result<NewNeedle<NeedleData>, Box<dyn Error>> {
    Ok(NewNeedle {
        key: NeedleKey::new(key).ok_or("0 is no key")?,
        cookie: Cookie(7),
        checksum: crc32c::crc32c(&data),
        data: data.into(),
        meta: NeedleMeta::default(),
    })
}

fn noise(len: u64) -> Vec<u8> {
    let mut seed = 88_172_645_463_325_252;
    (0..len / 8).flat_map(|_| next(&mut seed).to_le_bytes()).collect()
}

/// Marsaglia's xorshift: the same volume every time.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}
