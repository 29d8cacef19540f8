//! One master by itself: first start, restarts, what it refuses to start on.

use dulse_shared::{clock::Clock, net::tasks::Tasks};

use super::*;
use crate::raft::{
    ProposeError,
    database::{DATABASE_FILE, Database},
};

#[tokio::test]
async fn a_new_master_leads_a_named_cluster_when_start_returns() {
    let dir = tempfile::tempdir().unwrap();
    let tasks = Tasks::new();
    let raft = Raft::start(config(&dir.path().join("master")), &tasks).await.unwrap();
    let leadership = raft.leadership();
    assert!(leadership.is_leader);
    assert_eq!(leadership.leader, Some(address(9333)));
    assert!(raft.read(|state| state.cluster.is_some()));
    raft.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_the_state_and_grants_no_key_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = None;
    let mut next = 1;
    let mut last_term = 0;
    for _ in 0..4 {
        let tasks = Tasks::new();
        let raft = Raft::start(config(dir.path()), &tasks).await.unwrap();
        let named = raft.read(|state| state.cluster);
        assert_eq!(*cluster.get_or_insert(named), named);
        assert!(raft.leadership().term > last_term);
        last_term = raft.leadership().term;
        for _ in 0..3 {
            let keys = granted(&raft.propose(grant(10)).await.unwrap());
            assert_eq!(keys, next..next + 10);
            next += 10;
        }
        raft.stop().await;
        assert_eq!(tasks.failure(), None);
    }
}

/// A copy of the database of a running master is what a crash would leave.
#[tokio::test]
async fn a_master_that_was_killed_grants_no_key_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut path = dir.path().join("0");
    let mut next = 1;
    for round in 1..5 {
        let raft = Raft::start(config(&path), &Tasks::new()).await.unwrap();
        let keys = granted(&raft.propose(grant(7)).await.unwrap());
        assert_eq!(keys, next..next + 7);
        next += 7;
        let crashed = dir.path().join(round.to_string());
        std::fs::create_dir(&crashed).unwrap();
        std::fs::copy(path.join(DATABASE_FILE), crashed.join(DATABASE_FILE)).unwrap();
        raft.stop().await;
        path = crashed;
    }
}

#[tokio::test]
async fn the_log_is_purged_behind_a_snapshot_and_a_restart_reads_both() {
    let dir = tempfile::tempdir().unwrap();
    let raft = Raft::start(config(dir.path()), &Tasks::new()).await.unwrap();
    for _ in 0..62 {
        let proposals = (0..100).map(|_| raft.propose(grant(1)));
        for outcome in futures_util::future::join_all(proposals).await {
            outcome.unwrap();
        }
    }
    let applied = raft.applied();
    raft.stop().await;

    let contents = Database::open(dir.path()).unwrap().load().unwrap();
    let (snapshot, _) = contents.snapshot.expect("a snapshot was taken");
    assert!(snapshot.last_log_id.unwrap().index >= 4_999);
    assert!(contents.log.len() < 6_200 && !contents.log.contains_key(&1));

    let raft = Raft::start(config(dir.path()), &Tasks::new()).await.unwrap();
    assert!(raft.applied() > applied);
    assert_eq!(granted(&raft.propose(grant(1)).await.unwrap()), 6_201..6_202);
    raft.stop().await;
}

#[tokio::test]
async fn the_applied_index_grows_with_each_command_and_can_be_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let raft = Raft::start(config(dir.path()), &Tasks::new()).await.unwrap();
    let seen = raft.applied();
    let waiting = raft.clone();
    let waiting = async move { waiting.applied_after(seen).await };
    let (later, outcome) = tokio::join!(waiting, raft.propose(grant(1)));
    outcome.unwrap();
    assert_eq!(later, seen + 1);
    assert_eq!(raft.applied(), seen + 1);
    raft.stop().await;
}

#[tokio::test]
async fn after_stop_nothing_is_proposed_and_the_database_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let raft = Raft::start(config(dir.path()), &Tasks::new()).await.unwrap();
    raft.stop().await;
    assert!(raft.propose(grant(1)).await.is_err());
    assert!(!raft.leadership().is_leader);
    Database::open(dir.path()).unwrap();
}

#[tokio::test]
async fn a_database_in_use_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let raft = Raft::start(config(dir.path()), &Tasks::new()).await.unwrap();
    let error = Raft::start(config(dir.path()), &Tasks::new()).await.unwrap_err();
    let text = error.to_string();
    let path = dir.path().join(DATABASE_FILE);
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    assert!(text.contains("in use by another dulse master"), "{text}");
    raft.stop().await;
}

async fn refusal(dir: &Path) -> String {
    let started = Raft::start(config(dir), &Tasks::new()).await;
    started.expect_err("it must not start").to_string()
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(DATABASE_FILE);
    let text = b"these are not the bytes you are looking for".repeat(400);
    std::fs::write(&path, &text).unwrap();
    let refused = refusal(dir.path()).await;
    assert!(refused.contains("not a master's database"), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), text);
}

#[tokio::test]
async fn a_first_start_that_was_interrupted_begins_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(DATABASE_FILE);
    // What redb leaves before it writes the first bytes of its header.
    drop(Database::open(dir.path()).unwrap());
    let made = std::fs::read(&path).unwrap();
    let mut unfinished = vec![0; made.len()];
    unfinished[9..320].copy_from_slice(&made[9..320]);
    for left in [unfinished, vec![0; 4096], vec![0; 3]] {
        std::fs::write(&path, left).unwrap();
        let node = Database::open(dir.path()).unwrap().node();
        assert_eq!(Database::open(dir.path()).unwrap().node(), node);
    }
}

#[tokio::test]
async fn a_database_that_lost_its_first_sector_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(DATABASE_FILE);
    drop(Database::open(dir.path()).unwrap());
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[..512].fill(0);
    std::fs::write(&path, &damaged).unwrap();
    let refused = refusal(dir.path()).await;
    assert!(refused.contains("not a master's database"), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
}

#[tokio::test]
async fn a_database_of_another_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(DATABASE_FILE);
    let table: redb::TableDefinition<u64, u64> = redb::TableDefinition::new("recipes");
    let other = redb::Database::create(&path).unwrap();
    let write = other.begin_write().unwrap();
    write.open_table(table).unwrap().insert(1, 1).unwrap();
    write.commit().unwrap();
    drop(other);
    let refused = refusal(dir.path()).await;
    assert!(refused.contains("it holds the tables recipes"), "{refused}");
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Database::open(dir.path()).unwrap());
    let path = dir.path().join(DATABASE_FILE);
    let table: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
    let newer = redb::Database::create(&path).unwrap();
    let write = newer.begin_write().unwrap();
    let header = br#"{"version":2,"node":"0000000000000001"}"#;
    write.open_table(table).unwrap().insert("header", header.as_slice()).unwrap();
    write.commit().unwrap();
    drop(newer);
    let refused = refusal(dir.path()).await;
    assert!(refused.contains("version 2"), "{refused}");
    assert!(refused.contains("install the newer program"), "{refused}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = refusal(&file.join("master")).await;
    assert!(refused.contains("file/master"), "{refused}");
    assert!(refused.contains("make it writable"), "{refused}");
}

#[tokio::test]
async fn a_command_too_large_for_a_log_entry_is_refused() {
    use dulse_shared::id::ServerId;
    let dir = tempfile::tempdir().unwrap();
    let raft = Raft::start(config(dir.path()), &Tasks::new()).await.unwrap();
    let member = (ServerId::from(1), dulse_shared::wire::Incarnation(1));
    let command = Command::CreateVolumes {
        collection: Default::default(),
        placement: Default::default(),
        ttl: Default::default(),
        disk: Default::default(),
        members: vec![vec![member]; 20_000],
    };
    let error = raft.propose(command).await.unwrap_err();
    assert!(error.to_string().contains("in parts"), "{error}");
    assert_eq!(raft.read(|state| state.volumes.len()), 0);
    raft.stop().await;
}

#[tokio::test]
async fn what_is_too_much_at_once_is_refused_and_the_rest_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let raft = Raft::start(config(dir.path()), &Tasks::new()).await.unwrap();
    let proposals = (0..1_200).map(|_| raft.propose(grant(1)));
    let outcomes = futures_util::future::join_all(proposals).await;
    let refused = |outcome: &&Result<Outcome, ProposeError>| match outcome {
        Ok(_) => false,
        Err(error) => *error == ProposeError::Overloaded,
    };
    let refused = outcomes.iter().filter(refused).count();
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!((done, refused), (1_024, 176));
    assert_eq!(raft.read(|state| state.next_key), 1_025);
    raft.stop().await;
}

/// Prints what a start takes; run it in release mode.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_start() {
    let clock = Clock::default();
    let start = async |dir: &Path| {
        let begin = clock.boot();
        let raft = Raft::start(config(dir), &Tasks::new()).await.unwrap();
        let started = clock.since(begin);
        let begin = clock.boot();
        raft.propose(grant(1)).await.unwrap();
        let proposed = clock.since(begin);
        let begin = clock.boot();
        raft.stop().await;
        let stopped = clock.since(begin);
        println!("start {started:?}; a command {proposed:?}; stop {stopped:?}");
    };
    let dir = tempfile::tempdir_in(".").unwrap();
    for n in 0..8 {
        println!("empty directory {n}");
        start(&dir.path().join(n.to_string())).await;
    }
    for n in 0..8 {
        println!("restart {n}");
        start(&dir.path().join("0")).await;
    }
}
