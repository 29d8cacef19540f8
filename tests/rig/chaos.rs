//! Clusters under faults: clients ask all the time, the leader is killed, stopped, cut off, and in
//! the end nothing is lost, nothing was handed out twice, and nobody was without service for long.
//!
//! A run is told by its seed and its schedule; one that fails prints the command that repeats both.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    thread::sleep,
    time::Duration,
};

use dulse_shared::{clock::Clock, id::Fid};

use crate::{
    checks::{Limits, findings, longest_gap},
    client::{Client, Clients},
    cluster::{Cluster, Layout},
    fault::Schedule,
    history::{Event, History, Outcome, Stopwatch},
    nemesis::Nemesis,
    require,
};

/// Half a second is usual; two faults at once may take the majority for another. Twice that.
const GAP: Duration = Duration::from_secs(3);
/// A leader that hears nothing of the others hands out nothing after this long.
const DEPOSED: Duration = Duration::from_millis(500);
const LIMITS: Limits = Limits { gap: GAP, deposed: DEPOSED };
/// What was acknowledged can be read this soon after everything was healed.
const READ_BACK_LIMIT: Duration = Duration::from_secs(20);
/// Clients see a cluster without faults this long, before and after.
const QUIET: Duration = Duration::from_millis(500);
const USERS: u64 = 3;
/// Writes that are acknowledged in the shortest run, and far fewer than in any.
const LOOKED_AT: usize = 50;

/// Clusters take turns: their time limits are for a machine that runs one.
static TURN: Mutex<()> = Mutex::new(());

/// Runs clients and a schedule against a cluster, then every check. `test` is the name by which it
/// is run again.
fn run(test: &str, layout: Layout, schedule: impl FnOnce(u64, &[String]) -> Schedule) {
    if !require::namespaces() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut cluster = Cluster::start(layout);
    let seed = setting("DULSE_RIG_SEED").unwrap_or_else(|| Clock::System.wall_ns() % 1_000_000);
    let schedule =
        setting("DULSE_RIG_SCHEDULE").unwrap_or_else(|| schedule(seed, &cluster.volume_servers()));
    let settings = format!("DULSE_RIG_SEED={seed} DULSE_RIG_SCHEDULE='{schedule}'");
    println!("repeat: {settings} cargo test --test rig {test}");

    let stopwatch = Stopwatch::start();
    let clients = Clients::start(&cluster, &stopwatch, seed, USERS);
    sleep(QUIET);
    let isolations = Nemesis::new(&mut cluster, stopwatch.clone()).run(&schedule);
    sleep(QUIET);
    let end = stopwatch.now();
    let mut history = History { operations: clients.stop(), isolations };
    read_back(&cluster, &stopwatch, &mut history);

    let (gap, from) = longest_gap(&history, end);
    println!("{end} s: {}; longest gap {gap:?} at {from}", history.summary());
    let stored = history.operations.iter().filter(|operation| is_stored(&operation.event)).count();
    assert!(stored >= LOOKED_AT, "{stored} needles were stored: the checks looked at nothing");
    let found = findings(&history, end, LIMITS);
    if !found.is_empty() {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{seed}"));
        std::fs::write(&path, history.lines()).unwrap();
        panic!("found:\n{}\n\nthe history: {}\n", found.join("\n"), path.display());
    }
}

fn is_stored(event: &Event) -> bool {
    matches!(event, Event::Put(_, _, Outcome::Ok(())))
}

/// What the environment says.
fn setting<T: std::str::FromStr<Err: std::fmt::Debug>>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error:?}")))
}

/// Reads every needle that anybody tried to write, by way of a master. One whose server is not
/// heard again yet is asked for until it is.
fn read_back(cluster: &Cluster, stopwatch: &Stopwatch, history: &mut History) {
    let mut reader = Client::new("reader".to_owned(), cluster, stopwatch);
    let masters = cluster.masters();
    let mut fids: Vec<Fid> = history
        .operations
        .iter()
        .filter_map(|operation| match &operation.event {
            Event::Put(fid, _, Outcome::Ok(()) | Outcome::Unknown(_)) => Some(*fid),
            _ => None,
        })
        .collect();
    fids.sort_by_key(|fid| fid.key);
    fids.dedup();
    let begin = stopwatch.now();
    for (n, fid) in fids.into_iter().enumerate() {
        let mut is_known = reader.get_by_way_of(&masters[n % masters.len()], fid);
        while !is_known && stopwatch.now().since(begin) < READ_BACK_LIMIT {
            sleep(QUIET);
            is_known = reader.get_by_way_of(&masters[n % masters.len()], fid);
        }
    }
    history.operations.extend(reader.into_operations());
}

#[test]
fn a_cluster_survives_random_faults() {
    let layout = Layout { masters: 3, volume_servers: 3, ..Layout::default() };
    run("a_cluster_survives_random_faults", layout, Schedule::random);
}

#[test]
fn servers_that_are_both_survive_faults_of_two_at_once() {
    let layout = Layout { both: 3, ..Layout::default() };
    let schedule = "cut leader both, wait 1s, kill leader 1s, heal, stop s1 1500ms";
    run("servers_that_are_both_survive_faults_of_two_at_once", layout, |_, _| {
        schedule.parse().unwrap()
    });
}
