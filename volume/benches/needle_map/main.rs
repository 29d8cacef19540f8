//! Measures the needle map: resident memory, lookups, inserts, and opening a volume.
//!
//! Each measurement runs in a process of its own, so that the memory of one is not that of another.
//! `cargo bench -p dulse-volume --bench needle_map -- [--needles N] [WORKLOAD]...` prints a table;
//! `scripts/needle-map.sh` is the way to run it and says what has to hold.

mod histogram;
mod memory;
mod opening;
#[path = "../rig.rs"]
mod rig;
mod workload;

use std::{
    collections::BTreeMap,
    error::Error,
    hint::black_box,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use dulse_shared::{clock::Clock, id::NeedleKey};
use dulse_volume::engine::needle_map::NeedleMap;

use crate::{
    histogram::Histogram,
    memory::resident_bytes,
    workload::{Numbers, WORKLOADS, Workload},
};

const NEEDLES: u64 = 10_000_000;
const LOOKUPS: u64 = 2_000_000;
/// Set in the processes that measure; the workload is in their arguments.
const PART: &str = "NEEDLE_MAP_PART";

/// A figure's name, the column's heading, and what it has to stay below (or above).
const FIGURES: [(&str, &str, Goal); 10] = [
    ("bytes", "Bytes a needle", Goal::AtMost(12.0)),
    ("lookup_p50", "Lookup p50, ns", Goal::AtMost(300.0)),
    ("lookup_p99", "p99, ns", Goal::None),
    ("in_order", "Inserts in order, M/s", Goal::AtLeast(5.0)),
    ("late_mean", "Out of order, mean, ns", Goal::AtMost(3000.0)),
    ("late_p50", "p50, ns", Goal::None),
    ("late_p99", "p99, ns", Goal::None),
    ("longest", "Longest insert, us", Goal::None),
    ("opened", "Opened in, s", Goal::AtMost(1.0)),
    ("opened_bytes", "Bytes a needle then", Goal::AtMost(12.0)),
];

#[derive(Clone, Copy)]
enum Goal {
    None,
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn is_held(self, figure: f64) -> bool {
        match self {
            Self::None => true,
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
        }
    }
}

/// What a measuring process prints, a name and a number a line.
type Figures = Vec<(&'static str, f64)>;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let (needles, workloads) = arguments()?;
    let Ok(part) = std::env::var(PART) else {
        return print_table(needles, &workloads);
    };
    let workload = workloads.first().ok_or("no workload is named")?;
    let figures = match part.as_str() {
        "build" => build(workload, needles)?,
        "insert" => insert(workload, needles)?,
        "open" => opening::measure(workload, needles)?,
        other => return Err(format!("there is no part `{other}`").into()),
    };
    for (name, figure) in figures {
        println!("{name} {figure}");
    }
    Ok(ExitCode::SUCCESS)
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

fn print_table(needles: u64, workloads: &[&Workload]) -> Result<ExitCode, Box<dyn Error>> {
    let headings: Vec<&str> = FIGURES.iter().map(|(_, heading, _)| *heading).collect();
    println!("{needles} needles in one volume\n\n| Workload | {} |", headings.join(" | "));
    println!("|---{}|", "|---".repeat(FIGURES.len()));
    let mut missed = Vec::new();
    for workload in workloads {
        let mut figures = BTreeMap::new();
        for part in ["build", "insert", "open"] {
            figures.extend(measure_apart(part, workload, needles)?);
        }
        let cells = FIGURES.iter().map(|(name, ..)| {
            figures.get(*name).map_or_else(|| "-".to_owned(), |figure| rounded(*figure))
        });
        println!("| {} | {} |", workload.title, cells.collect::<Vec<_>>().join(" | "));
        for (name, heading, goal) in FIGURES {
            let is_missed = figures.get(name).is_some_and(|figure| !goal.is_held(*figure));
            if workload.has_goals && is_missed {
                missed.push(format!("{}: {heading}", workload.title));
            }
        }
    }
    if missed.is_empty() {
        println!("\nEvery goal is met.");
        return Ok(ExitCode::SUCCESS);
    }
    println!("\nMissed:\n{}", missed.join("\n"));
    Ok(ExitCode::FAILURE)
}

/// Measures in a process of its own, whose memory nothing else was in.
fn measure_apart(
    part: &str,
    workload: &Workload,
    needles: u64,
) -> Result<BTreeMap<String, f64>, Box<dyn Error>> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--needles", &needles.to_string(), workload.name])
        .env(PART, part)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{part} of {} failed: {}", workload.name, output.status).into());
    }
    let mut figures = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let (name, figure) = line.split_once(' ').ok_or("a line has no figure")?;
        figures.insert(name.to_owned(), figure.parse()?);
    }
    Ok(figures)
}

/// With as many digits as mean something.
fn rounded(figure: f64) -> String {
    match figure {
        ..1.0 => format!("{figure:.3}"),
        1.0..20.0 => format!("{figure:.2}"),
        _ => format!("{figure:.0}"),
    }
}

/// Memory of a map made by inserts, and lookups in it.
fn build(workload: &Workload, needles: u64) -> Result<Figures, Box<dyn Error>> {
    let before = resident_bytes()?;
    let mut map = NeedleMap::default();
    workload.rows(needles, &mut |key, entry| {
        map.insert(key, entry);
    });
    let resident = resident_bytes()?.saturating_sub(before);
    map.check()?;
    let clock = Clock::System;
    let (mut lookups, mut numbers) = (Histogram::default(), Numbers::new(7));
    for _ in 0..LOOKUPS {
        let key = workload.key(numbers.below(needles)).ok_or("there is no key 0")?;
        let start = clock.boot();
        black_box(map.lookup(black_box(key)).ok_or("a key is not found")?);
        lookups.add(clock.since(start));
    }
    let of_clock = of_clock();
    Ok(vec![
        ("bytes", resident as f64 / map.len() as f64),
        ("lookup_p50", lookups.percentile(50) - of_clock),
        ("lookup_p99", lookups.percentile(99) - of_clock),
    ])
}

/// How long inserts take: runs of those that raise the highest key, and each of the others.
fn insert(workload: &Workload, needles: u64) -> Result<Figures, Box<dyn Error>> {
    let clock = Clock::System;
    let mut map = NeedleMap::default();
    let (mut in_order, mut late) = (Histogram::default(), Histogram::default());
    let mut highest: Option<NeedleKey> = None;
    workload.rows(needles, &mut |key, entry| {
        let start = clock.boot();
        black_box(map.insert(key, entry));
        let took = clock.since(start);
        if highest.is_none_or(|highest| key > highest) {
            highest = Some(key);
            in_order.add(took);
        } else {
            late.add(took);
        }
    });
    let of_clock = of_clock();
    let longest = Duration::max(in_order.longest(), late.longest());
    let mut figures = vec![
        ("in_order", 1e3 / (in_order.mean() - of_clock)),
        ("longest", longest.as_secs_f64() * 1e6),
    ];
    if late.total() > 0 {
        figures.push(("late_mean", late.mean() - of_clock));
        figures.push(("late_p50", late.percentile(50) - of_clock));
        figures.push(("late_p99", late.percentile(99) - of_clock));
    }
    Ok(figures)
}

/// What every time includes: nanoseconds that reading the clock takes.
fn of_clock() -> f64 {
    let clock = Clock::System;
    let mut empty = Histogram::default();
    for _ in 0..100_000 {
        let start = clock.boot();
        empty.add(clock.since(start));
    }
    empty.percentile(50)
}
