//! What the database acknowledged survives power cuts, failing writes and failing syncs.
//!
//! Each seed is a life of a database: it is opened, changed as Raft changes it, loses power at any
//! write or sync (in the middle of a commit, of its creation, of its recovery), or its disk fails,
//! or its process is killed; then it is opened again and compared with a model. What was
//! acknowledged has to be there to the byte; of the commit that was not, all or nothing. That it
//! was all is then as good as acknowledged: the next start has to find it as well.

use std::path::Path;

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    simulated_file::{Operation, SimulatedFile},
    storage_model::{Changes, Kept},
};
use crate::raft::{
    RaftStartError,
    database::{Change, Database, DatabaseError},
    type_config::NodeId,
};

/// Lives, and how often each is cut short.
const SEEDS: u64 = 200;
const STARTS: usize = 12;
const COMMITS: usize = 14;

/// Opens the file as [`Database::open`] opens a real one.
pub(super) fn open(file: &SimulatedFile) -> Result<Database, RaftStartError> {
    file.forget_cached();
    Database::open_on(file.open(), Path::new("simulated").to_owned())
}

/// One life.
struct Life {
    seed: u64,
    random: SmallRng,
    file: SimulatedFile,
    changes: Changes,
    node: Option<NodeId>,
    /// What was acknowledged.
    kept: Kept,
    /// What the commit that was not acknowledged would have made of it.
    tried: Option<Kept>,
    tally: Tally,
}

/// What the lives went through, so that it is known that they went through something.
#[derive(Default, Debug)]
struct Tally {
    commits: usize,
    cuts_in_commits: usize,
    cuts_in_openings: usize,
    disk_faults: usize,
    kills: usize,
    lost_commits: usize,
    surviving_commits: usize,
}

impl Life {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            random: SmallRng::seed_from_u64(seed),
            file: SimulatedFile::new(!seed),
            changes: Changes::new(seed.rotate_left(32)),
            node: None,
            kept: Kept::default(),
            tried: None,
            tally: Tally::default(),
        }
    }

    fn live(&mut self) {
        for _ in 0..STARTS {
            let mut database = self.open();
            self.compare(&mut database);
            self.plan_fault();
            self.commit_until_it_fails(&mut database);
            self.end(database);
        }
        let mut database = self.open();
        self.compare(&mut database);
    }

    /// Opens the database; some of the openings are cut short as well.
    fn open(&mut self) -> Database {
        loop {
            if self.random.random_bool(0.3) {
                self.file.cut_after(self.random.random_range(0..24));
            }
            match open(&self.file) {
                Ok(database) => return database,
                Err(error) => {
                    assert!(self.file.is_off(), "seed {}: not opened: {error}", self.seed);
                    self.tally.cuts_in_openings += 1;
                    self.file.power_cut();
                }
            }
        }
    }

    fn compare(&mut self, database: &mut Database) {
        let seed = self.seed;
        let node = database.node();
        assert_eq!(*self.node.get_or_insert(node), node, "seed {seed}: another node");
        let found = Kept::from(database.load().unwrap());
        assert!(!found.has_hole(), "seed {seed}: a hole in {found:?}");
        match self.tried.take() {
            Some(tried) if found == tried && tried != self.kept => {
                self.tally.surviving_commits += 1;
                self.kept = tried;
            }
            Some(_) => self.tally.lost_commits += 1,
            None => {}
        }
        assert_eq!(found, self.kept, "seed {seed}");
    }

    fn plan_fault(&mut self) {
        let nth = self.random.random_range(0..60);
        match self.random.random_range(0..8) {
            0..4 => self.file.cut_after(nth),
            4 => self.file.fail(Operation::Sync, nth / 5),
            5 => self.file.fail(Operation::Write, nth),
            6 => self.file.fail(Operation::Read, nth / 5),
            _ => self.file.fail(Operation::SetLen, nth / 30),
        }
    }

    fn commit_until_it_fails(&mut self, database: &mut Database) {
        for _ in 0..COMMITS {
            let was_off = self.file.is_off();
            let (changes, after) = self.changes.some(&self.kept);
            match database.commit(&changes) {
                Ok(()) => {
                    assert!(!was_off, "seed {}: acknowledged without power", self.seed);
                    self.kept = after;
                    self.tally.commits += 1;
                }
                Err(_) => {
                    self.tried = Some(after);
                    let is_cut = self.file.is_off();
                    self.tally.cuts_in_commits += usize::from(is_cut && !was_off);
                    self.tally.disk_faults += usize::from(!is_cut);
                    return self.expect_no_more(database);
                }
            }
        }
    }

    /// After a failed commit nothing is acknowledged.
    fn expect_no_more(&mut self, database: &mut Database) {
        let refused = database.commit(&[Change::Committed(None)]);
        assert!(matches!(refused, Err(DatabaseError::Failed)), "seed {}", self.seed);
    }

    fn end(&mut self, database: Database) {
        match self.random.random_range(0..3) {
            // Closing writes, too, and may itself be cut short.
            0 => drop(database),
            1 => {
                self.file.kill();
                drop(database);
            }
            _ => {
                self.file.power_cut();
                drop(database);
            }
        }
        if self.file.is_off() || self.random.random_bool(0.5) {
            self.file.power_cut();
        } else {
            self.file.kill();
            self.tally.kills += 1;
        }
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.cuts_in_commits += other.cuts_in_commits;
        self.cuts_in_openings += other.cuts_in_openings;
        self.disk_faults += other.disk_faults;
        self.kills += other.kills;
        self.lost_commits += other.lost_commits;
        self.surviving_commits += other.surviving_commits;
    }
}

/// Another life: `DULSE_SEED=17 cargo test -p dulse-master power_cuts`.
#[test]
fn what_was_acknowledged_survives_power_cuts_and_failing_disks() {
    let seed = std::env::var("DULSE_SEED").ok().map(|seed| seed.parse().unwrap());
    let seeds = seed.map_or(0..SEEDS, |seed| seed..seed + 1);
    let mut total = Tally::default();
    for seed in seeds {
        let mut life = Life::new(seed);
        life.live();
        total.add(&life.tally);
    }
    println!("{total:?}");
    if seed.is_none() {
        let all = [
            total.commits,
            total.cuts_in_commits,
            total.cuts_in_openings,
            total.disk_faults,
            total.kills,
            total.lost_commits,
            total.surviving_commits,
        ];
        assert!(all.iter().all(|count| *count > 100), "{total:?}");
    }
}
