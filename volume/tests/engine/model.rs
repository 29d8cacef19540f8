//! Random writes, overwrites, deletes and restarts against a plain map.

use std::collections::BTreeMap;

use dulse_volume::engine::append::{Write, WriteError, Written};
use proptest::prelude::*;

use crate::harness::{COOKIE, Rig, key, needle};

#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<Change>),
    Checkpoint,
    Reopen { is_clean: bool },
}

#[derive(Clone, Debug)]
enum Change {
    Put(u64, Vec<u8>),
    Delete(u64),
}

fn change() -> impl Strategy<Value = Change> {
    let keys = 1_u64..8;
    prop_oneof![
        3 => (keys.clone(), prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(k, d)| Change::Put(k, d)),
        1 => keys.prop_map(Change::Delete),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(change(), 1..5).prop_map(Step::Batch),
        1 => Just(Step::Checkpoint),
        1 => any::<bool>().prop_map(|is_clean| Step::Reopen { is_clean }),
    ]
}

fn run(steps: Vec<Step>) {
    let mut rig = Rig::new();
    let mut model: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Batch(changes) => batch(&rig, &mut model, changes),
            Step::Checkpoint => rig.volume.checkpoint().unwrap(),
            Step::Reopen { is_clean } => rig.reopen(is_clean),
        }
        check(&rig, &model);
    }
}

fn batch(rig: &Rig, model: &mut BTreeMap<u64, Vec<u8>>, changes: Vec<Change>) {
    let writes = changes.iter().map(|change| match change {
        Change::Put(k, data) => Write::Put(needle(*k, data)),
        Change::Delete(k) => Write::Delete { key: key(*k), cookie: COOKIE },
    });
    for (change, answer) in changes.iter().zip(rig.commit(writes.collect())) {
        match change {
            Change::Put(k, data) => {
                assert_eq!(answer.unwrap(), Written::Stored);
                model.insert(*k, data.clone());
            }
            Change::Delete(k) => match model.remove(k) {
                Some(_) => assert!(matches!(answer, Ok(Written::Deleted { body_bytes: 1.. }))),
                None => assert!(matches!(answer, Err(WriteError::NotFound))),
            },
        }
    }
}

fn check(rig: &Rig, model: &BTreeMap<u64, Vec<u8>>) {
    for k in 1..8 {
        assert_eq!(rig.data(k), model.get(&k).cloned(), "needle {k}");
    }
    let report = rig.volume.report();
    assert_eq!(report.live_needles, model.len() as u64);
    assert_eq!(8 + report.live_bytes + report.garbage_bytes, report.size_bytes);
    // Behind the last record are zeros at most.
    let dat = std::fs::read(rig.dat()).unwrap();
    assert!(dat[report.size_bytes as usize..].iter().all(|byte| *byte == 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn a_volume_agrees_with_a_map(steps in prop::collection::vec(step(), 1..20)) {
        run(steps);
    }
}
