//! Random sequences against the reference, and a crash at every point of some of them.
//!
//! A failure prints the seed that replays it and the shortest sequence that was found to fail.
//! `DULSE_SEQUENCES` says how many are run, `DULSE_SEED` with which one they begin.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use dulse_volume::disk::simulated::Operation;
use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};

use crate::{
    sequence::{Machine, run, run_and_stop},
    steps::{Step, calm_sequence, sequence},
};

const SEQUENCES: u64 = 20_000;
const CRASHED_SEQUENCES: u64 = 200;
/// How far a failing sequence is shortened.
const SHRINK_STEPS: u32 = 4000;

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => default,
    }
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config =
        Config { failure_persistence: None, max_shrink_iters: SHRINK_STEPS, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Draws the sequence of `seed`, tries it and shortens it if it fails.
fn try_seed(
    seed: u64,
    strategy: impl Strategy<Value = Vec<Step>>,
    test: impl Fn(&[Step]) -> Result<(), String>,
) -> Result<(), String> {
    let mut runner = runner(seed);
    let tree = strategy.new_tree(&mut runner).map_err(|reason| reason.to_string())?;
    let judged = runner.run_one(tree, |steps| test(&steps).map_err(TestCaseError::fail));
    match judged {
        Ok(_) => Ok(()),
        Err(TestError::Fail(reason, steps)) => {
            let steps: Vec<_> = steps.iter().map(|step| format!("  {step:?}")).collect();
            Err(format!("DULSE_SEED={seed} DULSE_SEQUENCES=1: {reason}\n{}", steps.join("\n")))
        }
        Err(TestError::Abort(reason)) => Err(reason.to_string()),
    }
}

/// Runs `count` seeds from `first` on, on all cores. Stops at the first failure.
fn on_all_cores(first: u64, count: u64, test: impl Fn(u64) -> Result<(), String> + Sync) {
    let next = AtomicU64::new(first);
    let failure = Mutex::new(None);
    let is_verbose = std::env::var_os("DULSE_PROGRESS").is_some();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || failure.lock().unwrap().is_some() {
                        return;
                    }
                    if is_verbose && (seed - first).is_multiple_of(10_000) {
                        eprintln!("{} of {count} sequences, seed {seed}", seed - first);
                    }
                    if let Err(reason) = test(seed) {
                        failure.lock().unwrap().get_or_insert(reason);
                    }
                }
            });
        }
    });
    if let Some(reason) = failure.into_inner().unwrap() {
        panic!("{reason}");
    }
}

#[test]
fn a_volume_agrees_with_the_reference_whatever_happens_to_its_disk() {
    let (first, count) = (setting("DULSE_SEED", 0), setting("DULSE_SEQUENCES", SEQUENCES));
    on_all_cores(first, count, |seed| try_seed(seed, sequence(), |steps| run(steps, seed)));
}

#[test]
fn a_crash_before_or_after_any_sync_loses_nothing_that_was_answered() {
    let (first, count) = (setting("DULSE_SEED", 0), setting("DULSE_SEQUENCES", CRASHED_SEQUENCES));
    on_all_cores(first, count.min(CRASHED_SEQUENCES), |seed| {
        try_seed(seed, calm_sequence(), |steps| {
            let created = Machine::new(seed).disk.operations().len() as u64;
            for (at, operation) in operations_of(steps, seed)?.into_iter().enumerate() {
                let at = at as u64;
                if at < created || !matches!(operation, Operation::Sync | Operation::SyncDir) {
                    continue;
                }
                for after in [at, at + 1] {
                    run_and_stop(steps, seed, after - created)
                        .map_err(|error| format!("stopped after operation {after}: {error}"))?;
                }
            }
            Ok(())
        })
    });
}

/// What a sequence does with its disk.
fn operations_of(steps: &[Step], seed: u64) -> Result<Vec<Operation>, String> {
    let mut machine = Machine::new(seed);
    for step in steps {
        machine.act(&step.action, true)?;
    }
    Ok(machine.disk.operations())
}
