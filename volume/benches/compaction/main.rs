//! Measures one compaction at full speed: how fast it goes, how much memory it takes, and for how
//! long it stops a writer.
//!
//! `cargo bench -p dulse-volume --bench compaction -- [--gigabytes N] [--needle-bytes N] [--dir DIR]`
//! fills a volume, deletes every other needle, and compacts it while one writer writes on. It needs
//! one and a half times that much disk.

#[path = "../needle_map/memory.rs"]
mod memory;
#[path = "../rig.rs"]
mod rig;

use std::{
    error::Error,
    ops::ControlFlow,
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use dulse_shared::{
    clock::Clock,
    id::{Cookie, NeedleKey},
};
use dulse_volume::{
    engine::{compaction::Pace, volume::Volume, write::Write},
    format::{NeedleMeta, NewNeedle},
};

/// A writer is stopped for no longer than this.
const MAX_STOP: Duration = Duration::from_millis(50);
const COOKIE: Cookie = Cookie(0x1234_5678);
/// Writes that are committed together while the volume is filled.
const BATCH: u64 = 1024;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::read()?;
    let temp = tempfile::tempdir_in(&options.dir)?;
    let (dir, opener, name) = (rig::open_dir(temp.path())?, rig::opener(), rig::name()?);
    let volume = rig::create(&opener, &dir, &name)?;
    let needles = (options.gigabytes << 30) / options.needle_bytes;
    fill(&volume, needles, options.needle_bytes)?;
    let (undisturbed, _) = beside_writer(&volume, needles, || {
        std::thread::sleep(Duration::from_secs(3));
        Ok(())
    })?;
    let mut memory = Memory::default();
    let before = memory::resident_bytes()?;
    let clock = Clock::System;
    let start = clock.boot();
    let (longest, compacted) =
        beside_writer(&volume, needles, || Ok(volume.compact(&mut memory)?))?;
    let seconds = clock.since(start).as_secs_f64();
    let extra = memory.most.saturating_sub(before);
    let read_megabytes = (compacted.before_bytes + compacted.after_bytes) as f64 / 1e6;
    println!("needles:             {needles} of {} bytes, half deleted", options.needle_bytes);
    println!("volume file:         {} to {} bytes", compacted.before_bytes, compacted.after_bytes);
    println!("compacted in:        {seconds:.1} s, {:.0} MB/s read", read_megabytes / seconds);
    println!("memory besides:      {:.1} MB", extra as f64 / 1e6);
    println!("longest write:       {:.1} ms, undisturbed {:.1} ms", ms(longest), ms(undisturbed));
    println!("writes stopped:      {:.1} ms", ms(compacted.writes_stopped));
    let is_held = compacted.writes_stopped <= MAX_STOP;
    println!(
        "wanted: writes stopped for no longer than {} ms: {}",
        MAX_STOP.as_millis(),
        if is_held { "held" } else { "FAILED" }
    );
    Ok(if is_held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

struct Options {
    gigabytes: u64,
    needle_bytes: u64,
    dir: PathBuf,
}

impl Options {
    fn read() -> Result<Self, Box<dyn Error>> {
        let mut options = Self { gigabytes: 1, needle_bytes: 1024, dir: std::env::temp_dir() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            // Cargo adds it.
            if argument == "--bench" {
                continue;
            }
            let value = arguments.next().ok_or(format!("{argument} needs a value"))?;
            match argument.as_str() {
                "--gigabytes" => options.gigabytes = value.parse()?,
                "--needle-bytes" => options.needle_bytes = value.parse()?,
                "--dir" => options.dir = value.into(),
                other => return Err(format!("there is no option {other}").into()),
            }
        }
        Ok(options)
    }
}

/// Goes on at once, and looks at the memory.
#[derive(Default)]
struct Memory {
    most: u64,
}

impl Pace for Memory {
    fn after(&mut self, _bytes: u64) -> ControlFlow<()> {
        self.most = self.most.max(memory::resident_bytes().unwrap_or(0));
        ControlFlow::Continue(())
    }
}

fn put(key: u64, data: Bytes) -> Result<Write, Box<dyn Error>> {
    let key = NeedleKey::new(key).ok_or("0 is no key")?;
    let checksum = crc32c::crc32c(&data);
    let meta = NeedleMeta::default();
    let data = data.into();
    Ok(Write::Put(NewNeedle { key, cookie: COOKIE, data, checksum, meta }))
}

fn fill(volume: &Volume, needles: u64, needle_bytes: u64) -> Result<(), Box<dyn Error>> {
    let data = Bytes::from(vec![7; usize::try_from(needle_bytes)?]);
    for start in (1..=needles).step_by(usize::try_from(BATCH)?) {
        let keys = start..(start + BATCH).min(needles + 1);
        let writes: Result<Vec<Write>, _> = keys.map(|key| put(key, data.clone())).collect();
        commit(volume, writes?)?;
    }
    let odd: Vec<u64> = (1..=needles).step_by(2).collect();
    for keys in odd.chunks(usize::try_from(BATCH)?) {
        let delete = |key: &u64| {
            let key = NeedleKey::new(*key).ok_or("0 is no key")?;
            Ok(Write::Delete { key, cookie: COOKIE })
        };
        let deletes: Result<Vec<Write>, Box<dyn Error>> = keys.iter().map(delete).collect();
        commit(volume, deletes?)?;
    }
    Ok(())
}

fn commit(volume: &Volume, writes: Vec<Write>) -> Result<(), Box<dyn Error>> {
    for answer in volume.commit(writes) {
        answer?;
    }
    Ok(())
}

/// Does `work` beside one writer; the longest that a write of its took, and what the work gave.
fn beside_writer<T>(
    volume: &Volume,
    needles: u64,
    work: impl FnOnce() -> Result<T, Box<dyn Error>>,
) -> Result<(Duration, T), Box<dyn Error>> {
    let is_over = AtomicBool::new(false);
    let write_on = || -> Result<Duration, String> {
        let (clock, data) = (Clock::System, Bytes::from_static(&[9; 1024]));
        let mut longest = Duration::ZERO;
        let mut key = needles;
        while !is_over.load(Ordering::Relaxed) {
            key += 1;
            let write = put(key, data.clone()).map_err(|error| error.to_string())?;
            let start = clock.boot();
            commit(volume, vec![write]).map_err(|error| error.to_string())?;
            longest = longest.max(clock.since(start));
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(longest)
    };
    std::thread::scope(|scope| {
        let writer = scope.spawn(write_on);
        let worked = work();
        is_over.store(true, Ordering::Relaxed);
        let longest = writer.join().map_err(|_| "the writer panicked")??;
        Ok((longest, worked?))
    })
}
