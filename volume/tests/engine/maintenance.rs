//! The background work of a server: what is due is scrubbed or compacted, what is asked for goes
//! first, and what a scrub found out outlasts the process.

use std::{num::NonZeroU64, path::Path, sync::Arc, thread::sleep, time::Duration};

use dulse_shared::{
    clock::Clock,
    id::{ClusterId, VolumeId},
    net::{metrics::Metrics, tasks::Tasks},
    wire::{
        JobPhase, LocalState, StartVacuum, VacuumOutcome, VolumeConfig, VolumeScrub, VolumeVacuum,
    },
};
use dulse_volume::{
    config::{DirConfig, DirLimits},
    disk::{Disk, open_data_dirs, simulated::SimulatedDisk},
    engine::write::Write,
    maintenance::{Maintenance, Routine, RoutineScrub, RoutineVacuum},
    reader::ReadError,
    store::Store,
};

use crate::harness::{COOKIE, SIMULATED_DIR, key, needle, opener_at, read_of, volume_config};

/// A server's volumes and its background work, on a simulated disk.
struct Server {
    disk: SimulatedDisk,
    store: Store,
    maintenance: Maintenance,
    metrics: Metrics,
    tasks: Tasks,
    runtime: tokio::runtime::Runtime,
}

const LONG: Duration = Duration::from_secs(20);

fn id(id: u32) -> VolumeId {
    VolumeId::new(id).unwrap()
}

fn routine(interval: Option<Duration>, bytes_per_sec: u64) -> Routine {
    let bytes_per_sec = NonZeroU64::new(bytes_per_sec).unwrap();
    let scrub = RoutineScrub { interval, bytes_per_sec, quiet_after_start: Duration::ZERO };
    Routine { scrub, vacuum: RoutineVacuum { garbage_threshold: None } }
}

impl Server {
    fn start(disk: &SimulatedDisk, routine: Routine) -> Self {
        let files: Arc<dyn Disk> = Arc::new(disk.clone());
        let dirs = [DirConfig::at(SIMULATED_DIR).with_limits(DirLimits::NONE)];
        let dirs = open_data_dirs(&files, &dirs).unwrap();
        let store = Store::open(dirs, opener_at(Clock::System)).unwrap();
        store.join(ClusterId::from(1)).unwrap();
        let (metrics, tasks) = (Metrics::default(), Tasks::new());
        let maintenance = Maintenance::new(store.clone(), routine, &Clock::System, &metrics);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
        Self { disk: disk.clone(), store, maintenance, metrics, tasks, runtime: runtime.unwrap() }
    }

    fn spawn(&self) {
        let _entered = self.runtime.enter();
        self.maintenance.spawn(&self.tasks);
    }

    fn create(&self, volume: u32, needles: u64, len: usize) {
        let dir = &self.store.data_dirs()[0];
        let config = VolumeConfig { id: id(volume), ..volume_config(dir) };
        let volume = self.store.create(ClusterId::from(1), config).unwrap();
        for key in 1..=needles {
            volume.commit(vec![Write::Put(needle(key, &vec![7; len]))]).remove(0).unwrap();
        }
    }

    fn scrub(&self, volume: u32) -> VolumeScrub {
        self.maintenance.scrub_report(Some(id(volume))).volumes.remove(0)
    }

    fn until(&self, volume: u32, is_so: impl Fn(&VolumeScrub) -> bool) -> VolumeScrub {
        let start = Clock::System.boot();
        loop {
            let scrub = self.scrub(volume);
            if is_so(&scrub) {
                return scrub;
            }
            assert!(Clock::System.since(start) < LONG, "{scrub:?}");
            sleep(Duration::from_millis(1));
        }
    }

    fn vacuum(&self, volume: u32) -> VolumeVacuum {
        self.maintenance.vacuum_report(Some(id(volume))).volumes.remove(0)
    }

    /// How the first vacuum of a volume ended.
    fn vacuumed(&self, volume: u32) -> VacuumOutcome {
        let start = Clock::System.boot();
        loop {
            let vacuum = self.vacuum(volume);
            if vacuum.completed == 1 {
                return vacuum.last.unwrap();
            }
            assert!(Clock::System.since(start) < LONG, "{vacuum:?}");
            sleep(Duration::from_millis(1));
        }
    }

    /// Deletes every needle of a volume but the first.
    fn delete_most(&self, volume: u32, needles: u64) {
        let volume = self.store.volume(id(volume)).unwrap();
        for k in 2..=needles {
            let delete = Write::Delete { key: key(k), cookie: COOKIE };
            volume.commit(vec![delete]).remove(0).unwrap();
        }
    }

    /// Stops it; it must not take long.
    fn stop(self) -> SimulatedDisk {
        self.tasks.stop();
        let drained = self.runtime.block_on(async { self.tasks.drain(LONG).await });
        assert!(drained && self.tasks.failure().is_none());
        self.store.close();
        self.disk.clone()
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.encode();
        let line = text.lines().find(|line| line.starts_with(&format!("dulse_{name} ")));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    /// The runtime waits for its threads: a failed test would hang without this.
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

fn dat(volume: u32) -> std::path::PathBuf {
    Path::new(SIMULATED_DIR).join(format!("{volume}.dat"))
}

#[test]
fn what_is_due_is_scrubbed_once_and_the_time_of_it_outlasts_the_process() {
    let every_day = routine(Some(Duration::from_secs(86_400)), 1 << 30);
    let server = Server::start(&SimulatedDisk::new(1), every_day);
    server.create(3, 2, 1000);
    server.create(4, 2, 1000);
    let before_secs = Clock::System.wall_secs();
    server.spawn();
    let bytes: u64 = [3, 4].map(|v| server.until(v, |s| s.completed == 1).total_bytes).iter().sum();
    assert_eq!(server.metric("scrub_bytes_total"), bytes);
    assert_eq!(server.metric("scrub_corrupt_total"), 0);
    let disk = server.stop();

    let server = Server::start(&disk, every_day);
    server.spawn();
    let scrub = server.until(4, |scrub| scrub.completed_at_secs > 0);
    assert!(scrub.completed_at_secs >= before_secs);
    // What is asked for comes after what is due, if there were anything.
    server.maintenance.start_scrub(Some(id(3)));
    server.until(3, |scrub| scrub.completed == 1);
    assert_eq!(server.scrub(4).completed, 0, "not again before its time");
    assert!(server.metric("scrub_last_complete_timestamp_seconds") >= before_secs);
    server.stop();
}

#[test]
fn what_is_asked_for_goes_ahead_of_routine_work_and_a_stop_ends_both() {
    // Four blocks, an hour each.
    let slow = routine(Some(Duration::from_secs(1)), (2 << 20) / 3600);
    let server = Server::start(&SimulatedDisk::new(1), slow);
    server.create(3, 8, 900 << 10);
    server.create(4, 1, 1000);
    server.spawn();
    server.until(3, |scrub| scrub.phase == JobPhase::Running && scrub.done_bytes == 2 << 20);
    let answer = server.maintenance.start_scrub(Some(id(3)));
    assert_eq!(answer.volumes[0].completed, 0);
    assert!(server.maintenance.running()[0].is_asked_for, "it runs already");
    server.stop();

    // The same, a tenth of a second each.
    let brisk = routine(Some(Duration::from_secs(1)), (2 << 20) * 10);
    let server = Server::start(&SimulatedDisk::new(1), brisk);
    server.create(3, 8, 900 << 10);
    server.create(4, 1, 1000);
    server.spawn();
    server.until(3, |scrub| scrub.phase == JobPhase::Running);
    server.maintenance.start_scrub(Some(id(4)));
    server.until(4, |scrub| scrub.completed == 1);
    assert_eq!(server.scrub(3).completed, 0, "it waited");
    server.until(3, |scrub| scrub.completed == 1);
    server.stop();
}

#[test]
fn a_bad_needle_is_bad_after_a_restart_unless_its_file_was_restored() {
    let on_request = routine(None, 1 << 30);
    let server = Server::start(&SimulatedDisk::new(1), on_request);
    server.create(3, 3, 1000);
    server.spawn();
    server.store.volume(id(3)).unwrap().checkpoint().unwrap();
    let bit = (8 + 1100 + 100) * 8;
    server.disk.flip_beneath_cache(&dat(3), bit);
    server.maintenance.start_scrub(None);
    let scrub = server.until(3, |scrub| scrub.completed == 1);
    assert_eq!(scrub.findings.len(), 1, "{scrub:?}");
    assert_eq!(scrub.findings[0].key.unwrap().as_u64(), 2);
    assert_eq!(server.metric("scrub_corrupt_total"), 1);
    let mut disk = server.stop();
    for is_restored in [false, true] {
        if is_restored {
            disk.flip(&dat(3), bit);
        }
        let server = Server::start(&disk, on_request);
        server.spawn();
        let scrub = server.until(3, |scrub| scrub.completed_at_secs > 0);
        assert_eq!((scrub.completed, scrub.findings.len()), (0, 1), "what the last one found");
        let volume = server.store.volume(id(3)).unwrap();
        let expected = if is_restored { LocalState::Ready } else { LocalState::Corrupt };
        // The needles are looked at after the file was read.
        let start = Clock::System.boot();
        while volume.report().local != expected {
            assert!(Clock::System.since(start) < LONG, "{:?}", volume.report().local);
            sleep(Duration::from_millis(1));
        }
        let is_corrupt = matches!(read_of(&volume, 2), Err(ReadError::Corrupt { .. }));
        assert_eq!(is_corrupt, !is_restored);
        assert!(read_of(&volume, 1).is_ok() && read_of(&volume, 3).is_ok());
        disk = server.stop();
    }
}

#[test]
fn garbage_is_compacted_away_when_it_is_due_and_a_volume_then_rests() {
    let routine = Routine {
        vacuum: RoutineVacuum { garbage_threshold: Some(0.3) },
        ..routine(None, 1 << 30)
    };
    let server = Server::start(&SimulatedDisk::new(1), routine);
    server.create(3, 8, 900 << 10);
    server.delete_most(3, 8);
    server.create(4, 8, 9 << 10);
    server.delete_most(4, 8);
    server.spawn();
    let outcome = server.vacuumed(3);
    assert_eq!(outcome.error, None);
    assert!(outcome.before_bytes > 7 << 20 && outcome.after_bytes < 1 << 20, "{outcome:?}");
    assert_eq!(
        server.metric("vacuum_reclaimed_bytes_total"),
        outcome.before_bytes - outcome.after_bytes
    );
    assert!(read_of(&server.store.volume(id(3)).unwrap(), 1).is_ok());
    assert_eq!(server.vacuum(4).completed, 0, "it has too little garbage to be worth it");
    server.stop();
}

#[test]
fn a_vacuum_that_is_asked_for_takes_what_is_above_the_threshold_and_says_how_it_ended() {
    let server = Server::start(&SimulatedDisk::new(1), routine(None, 1 << 30));
    server.create(3, 8, 9 << 10);
    server.delete_most(3, 8);
    server.create(4, 8, 9 << 10);
    let ask = |threshold| {
        let asked = StartVacuum { volume: None, garbage_threshold: threshold };
        let report = server.maintenance.start_vacuum(asked);
        report.volumes.iter().map(|vacuum| vacuum.volume.as_u32()).collect::<Vec<_>>()
    };
    assert_eq!(ask(Some(0.99)), Vec::<u32>::new());
    assert_eq!(ask(None), [3], "a full one of live needles has no garbage");
    assert_eq!(server.vacuum(3).phase, JobPhase::Waiting);
    server.spawn();
    let outcome = server.vacuumed(3);
    assert!(outcome.error.is_none() && outcome.after_bytes < outcome.before_bytes / 4);
    assert_eq!(server.vacuum(3).phase, JobPhase::Idle);
    server.disk.limit_free_bytes(1 << 20);
    server.delete_most(4, 8);
    assert_eq!(ask(Some(0.1)), [4]);
    let refused = server.vacuumed(4);
    assert!(refused.error.unwrap().contains("room"));
    server.stop();
}
