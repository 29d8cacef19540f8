//! The end of what an index can address: nothing is written there that could not be found again, and
//! what is refused is refused, not a failure.

use std::{
    fs,
    io::{Seek, SeekFrom, Write as _},
    ops::ControlFlow,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use dulse_shared::{clock::Clock, id::ClusterId, net::metrics::Metrics, wire::LocalState};
use dulse_volume::{
    disk::simulated::SimulatedDisk,
    engine::{
        clock_trust::ClockTrust,
        compaction::CompactionError,
        metrics::EngineMetrics,
        open::Opener,
        stamp::StampSource,
        volume::{Refusal, Shared, Volume},
        write::{Write, WriteError, Written},
    },
    format::{IndexRow, NewNeedle, Offset, OffsetWidth, RowSize, SUPERBLOCK_LEN, Vif, record_len},
    needle_data::NeedleData,
    reader::ReadError,
};

use crate::{
    compaction::Pauses,
    harness::{
        COOKIE, NOW_NS, Rig, key, name, needle, open_dir, read_of, real_disk, volume_config, watch,
    },
};

const WIDTH: OffsetWidth = OffsetWidth::Four;
static DATA: [u8; 150_000] = [7; 150_000];

/// A volume of another program's making with one needle (key 1), which ends `room` bytes before
/// the last that can be addressed. What lies before it is a hole.
fn volume_with(room: u64, path: &Path) -> Arc<Volume> {
    volume_of(needle(1, b"the only one"), room, path, &shared(Clock::System))
}

fn shared(clock: Clock) -> Arc<Shared> {
    Arc::new(Shared {
        stamps: StampSource::new(clock.clone()),
        clock_trust: ClockTrust::new(clock),
        volume_size_limit_bytes: AtomicU64::new(0),
        // So that it counts as full only when it nearly is.
        max_needle_bytes: 0,
        metrics: EngineMetrics::register(&Metrics::default()),
    })
}

fn volume_of(
    needle: NewNeedle<NeedleData>,
    room: u64,
    path: &Path,
    shared: &Arc<Shared>,
) -> Arc<Volume> {
    let disk = SimulatedDisk::new(1);
    let rig = Rig::on(&disk);
    rig.commit(vec![Write::Put(needle)]).remove(0).unwrap();
    let mut whole = disk.contents(&rig.dat()).unwrap();
    whole.truncate(usize::try_from(rig.volume.report().size_bytes).unwrap());
    let (superblock, record) = whole.split_at(SUPERBLOCK_LEN);
    let start = WIDTH.max_bytes() - room - record.len() as u64;
    let mut dat = fs::File::create_new(name().dat(path)).unwrap();
    dat.write_all(superblock).unwrap();
    dat.seek(SeekFrom::Start(start)).unwrap();
    dat.write_all(record).unwrap();
    let size = u32::from_be_bytes(record[12..16].try_into().unwrap());
    let offset = Offset::from_bytes(start).unwrap();
    let mut rows = Vec::new();
    IndexRow { key: key(1), offset, size: RowSize::Live(size) }.write_to(&mut rows, WIDTH);
    fs::write(name().idx(path), rows).unwrap();
    fs::write(name().vif(path), Vif::new(WIDTH, 0).encode()).unwrap();
    let opener = Opener { shared: shared.clone(), default_width: WIDTH };
    let dir = open_dir(&real_disk(), path);
    let cluster = ClusterId::from(1);
    dir.join(cluster).unwrap();
    opener.admit(&dir, cluster, volume_config(&dir)).unwrap()
}

#[test]
fn a_batch_is_taken_up_to_the_last_offset_and_the_rest_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let body = needle(11, &DATA).body_size().unwrap();
    let record = record_len(body, dulse_volume::format::CURRENT_VERSION);
    let room = 2 * record + 32 + 24;
    let volume = volume_with(room, temp.path());
    let put = |key| Write::Put(needle(key, &DATA));
    let delete = |key| Write::Delete { key: self::key(key), cookie: COOKIE };
    let writes = vec![put(11), put(12), put(13), delete(11), delete(12)];
    let answers = volume.commit(writes);
    let is_stored = |answer: &Result<_, _>| matches!(answer, Ok(Written::Stored));
    assert!(is_stored(&answers[0]) && is_stored(&answers[1]), "{answers:?}");
    let refused = |at: usize| match &answers[at] {
        Err(WriteError::Refused(refusal)) => refusal.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(2), Refusal::Full(volume.id()));
    assert!(matches!(answers[3], Ok(Written::Deleted { .. })), "{answers:?}");
    assert_eq!(refused(4), Refusal::AtItsEnd(volume.id()));
    let report = volume.report();
    assert_eq!((report.local, report.trouble), (LocalState::Full, None));
    assert_eq!(report.size_bytes, WIDTH.max_bytes() - 24);
    assert_eq!(read_of(&volume, 12).unwrap().data, &DATA[..]);
    assert_eq!(read_of(&volume, 1).unwrap().data, &b"the only one"[..]);
}

/// As [`volume_with`], and the time of its needle is over.
fn expired_volume_with(room: u64, path: &Path) -> Arc<Volume> {
    let mut brief = needle(1, b"the only one");
    brief.meta.ttl = "1m".parse().unwrap();
    let shared = shared(Clock::manual(NOW_NS));
    let volume = volume_of(brief, room, path, &shared);
    watch(shared.stamps.clock(), &shared.clock_trust, Duration::from_secs(61));
    volume
}

/// What a compaction says of expired needles: how many it deleted and how many it put off.
fn compact(volume: &Volume) -> (u64, u64) {
    let compacted = volume.compact(&mut Pauses(|| ControlFlow::Continue(()))).unwrap();
    (compacted.expired, compacted.postponed)
}

#[test]
fn expired_needles_are_copied_where_there_is_no_place_for_their_deletes() {
    for (room, expected) in [(24, (0, 1)), (32, (1, 0))] {
        let temp = tempfile::tempdir().unwrap();
        let volume = expired_volume_with(room, temp.path());
        assert_eq!(compact(&volume), expected, "{room} bytes of room");
        assert_eq!(volume.report().live_needles, expected.1);
        assert!(matches!(read_of(&volume, 1), Err(ReadError::NotFound)), "it is hidden");
        assert!(volume.check().unwrap().is_empty());
        // The file is short now.
        assert_eq!(compact(&volume), (expected.1, 0));
        assert_eq!(volume.report().live_needles, 0);
    }
}

#[test]
fn a_place_that_another_delete_takes_puts_it_off_to_the_next_compaction() {
    let temp = tempfile::tempdir().unwrap();
    let body = needle(2, &DATA).body_size().unwrap();
    let record = record_len(body, dulse_volume::format::CURRENT_VERSION);
    let volume = expired_volume_with(record + 32, temp.path());
    volume.commit(vec![Write::Put(needle(2, &DATA))]).remove(0).unwrap();
    let mut pauses = 0;
    let delete = || {
        pauses += 1;
        // The first comes before the needles, behind the hole.
        if pauses == 2 {
            volume.commit(vec![Write::Delete { key: key(2), cookie: COOKIE }]).remove(0).unwrap();
        }
        ControlFlow::Continue(())
    };
    let refused = volume.compact(&mut Pauses(delete));
    let at_its_end = Refusal::AtItsEnd(volume.id());
    assert!(
        matches!(&refused, Err(CompactionError::Expire(WriteError::Refused(refusal)))
            if *refusal == at_its_end),
        "{refused:?}"
    );
    assert_eq!(compact(&volume), (0, 1));
    assert_eq!(compact(&volume), (1, 0));
}
