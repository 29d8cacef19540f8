//! The end of what an index can address: nothing is written there that could not be found again, and
//! what is refused is refused, not a failure.

use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write as _},
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use dulse_shared::{clock::Clock, id::ClusterId, net::metrics::Metrics, wire::LocalState};
use dulse_volume::{
    engine::{
        clock_trust::ClockTrust,
        metrics::EngineMetrics,
        open::Opener,
        stamp::StampSource,
        volume::{Refusal, Shared, Volume},
        write::{Write, WriteError, Written},
    },
    format::{IndexRow, Offset, OffsetWidth, RowSize, SUPERBLOCK_LEN, Vif, record_len},
};

use crate::harness::{COOKIE, Rig, key, name, needle, open_dir, read_of, real_disk, volume_config};

const WIDTH: OffsetWidth = OffsetWidth::Four;
static DATA: [u8; 150_000] = [7; 150_000];

/// A volume of another program's making with one needle (key 1), which ends `room` bytes before
/// the last that can be addressed. What lies before it is a hole.
fn volume_with(room: u64, path: &Path) -> Arc<Volume> {
    let rig = Rig::new();
    rig.put(1, b"the only one").unwrap();
    let mut whole = vec![0; usize::try_from(rig.volume.report().size_bytes).unwrap()];
    fs::File::open(rig.dat()).unwrap().read_exact(&mut whole).unwrap();
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
    let shared = Shared {
        stamps: StampSource::new(Clock::System),
        clock_trust: ClockTrust::new(Clock::System),
        volume_size_limit_bytes: AtomicU64::new(0),
        // So that it counts as full only when it nearly is.
        max_needle_bytes: 0,
        metrics: EngineMetrics::register(&Metrics::default()),
    };
    let opener = Opener { shared: Arc::new(shared), default_width: WIDTH };
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
