//! Measures the needle map: resident memory, lookups, inserts, and opening a volume.
//!
//! Each measurement runs in a process of its own, so that the memory of one is not that of another.
//! `cargo bench -p dulse-volume --bench needle_map -- [--needles N] [WORKLOAD]...` prints a table;
//! `scripts/needle-map.sh` is the way to run it and says what has to hold.

mod histogram;
mod memory;
mod opening;
mod workload;

use std::{error::Error, hint::black_box, process::Command};

use dulse_shared::{clock::Clock, id::NeedleKey};
use dulse_volume::engine::needle_map::NeedleMap;

use crate::{
    histogram::Histogram,
    memory::resident_bytes,
    workload::{Numbers, WORKLOADS, Workload},
};

const NEEDLES: u64 = 10_000_000;
const LOOKUPS: u64 = 2_000_000;
/// Set in the processes that measure; what they do is in their arguments.
const PART: &str = "NEEDLE_MAP_PART";

/// What a measuring process prints, and the program around it reads: words in one line.
type Cells = Vec<String>;

fn main() -> Result<(), Box<dyn Error>> {
    let (needles, workloads) = arguments()?;
    match std::env::var(PART) {
        Ok(part) => {
            let workload = workloads.first().ok_or("no workload is named")?;
            println!("{}", measure(&part, workload, needles)?.join("|"));
            Ok(())
        }
        Err(_) => print_table(needles, &workloads),
    }
}

fn arguments() -> Result<(u64, Vec<&'static Workload>), Box<dyn Error>> {
    let (mut needles, mut workloads) = (NEEDLES, Vec::new());
    // Cargo adds `--bench`.
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        if word == "--needles" {
            needles = words.next().ok_or("--needles wants a number")?.parse()?;
        } else {
            let named = WORKLOADS.iter().find(|workload| workload.name == word);
            workloads.push(named.ok_or_else(|| format!("there is no workload `{word}`"))?);
        }
    }
    if workloads.is_empty() {
        workloads.extend(&WORKLOADS);
    }
    Ok((needles, workloads))
}

fn print_table(needles: u64, workloads: &[&Workload]) -> Result<(), Box<dyn Error>> {
    println!("{needles} needles in one volume\n");
    println!(
        "| Workload | Bytes a needle | Lookup p50 | p99 | Inserts | In order p50 | Out of order p50 \
         | p99 | Longest | Opened in | Bytes a needle then |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for workload in workloads {
        let mut cells = vec![workload.title.to_owned()];
        for part in ["build", "insert", "open"] {
            cells.extend(run_apart(part, workload, needles)?);
        }
        println!("| {} |", cells.join(" | "));
    }
    Ok(())
}

fn run_apart(part: &str, workload: &Workload, needles: u64) -> Result<Cells, Box<dyn Error>> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--needles", &needles.to_string(), workload.name])
        .env(PART, part)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{part} of {} failed: {}", workload.name, output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().split('|').map(str::to_owned).collect())
}

fn measure(part: &str, workload: &Workload, needles: u64) -> Result<Cells, Box<dyn Error>> {
    match part {
        "build" => build(workload, needles),
        "insert" => insert(workload, needles),
        "open" => opening::measure(workload, needles),
        other => Err(format!("there is no part `{other}`").into()),
    }
}

/// Memory of a map made by inserts, how long all of them took, and lookups in it.
fn build(workload: &Workload, needles: u64) -> Result<Cells, Box<dyn Error>> {
    let clock = Clock::System;
    let before = resident_bytes()?;
    let mut map = NeedleMap::default();
    let (mut inserts, start) = (0_u64, clock.boot());
    workload.rows(needles, &mut |key, entry| {
        map.insert(key, entry);
        inserts += 1;
    });
    let seconds = clock.since(start).as_secs_f64();
    let resident = resident_bytes()?.saturating_sub(before);
    let mut lookups = Histogram::default();
    let mut numbers = Numbers::new(7);
    for _ in 0..LOOKUPS {
        let key = workload.key(numbers.below(needles));
        let start = clock.boot();
        black_box(map.lookup(black_box(key)).ok_or("a key is not found")?);
        lookups.add(clock.since(start));
    }
    map.check()?;
    Ok(vec![
        format!("{:.2}", resident as f64 / map.len() as f64),
        lookups.percentile(50),
        lookups.percentile(99),
        format!("{:.1} M/s", inserts as f64 / seconds / 1e6),
    ])
}

/// How long each insert takes, those that raise the highest key apart from the others.
fn insert(workload: &Workload, needles: u64) -> Result<Cells, Box<dyn Error>> {
    let clock = Clock::System;
    let mut map = NeedleMap::default();
    let (mut in_order, mut out_of_order) = (Histogram::default(), Histogram::default());
    let mut highest: Option<NeedleKey> = None;
    workload.rows(needles, &mut |key, entry| {
        let start = clock.boot();
        black_box(map.insert(key, entry));
        let took = clock.since(start);
        if highest.is_none_or(|highest| key > highest) {
            highest = Some(key);
            in_order.add(took);
        } else {
            out_of_order.add(took);
        }
    });
    let longest = in_order.longest().max(out_of_order.longest());
    Ok(vec![
        in_order.percentile(50),
        out_of_order.percentile(50),
        out_of_order.percentile(99),
        histogram::text(longest),
    ])
}
