//! What a restart finds after a crash, and what it makes of it.

use std::fs;

use dulse_shared::{
    clock::Clock,
    id::{BatchPlace, Ts, Ttl},
    wire::LocalState,
};
use dulse_volume::{
    disk::simulated::SimulatedDisk,
    engine::{open::Discovered, write::Write},
    reader::ReadError,
    writer,
};

use crate::harness::{NOW_NS, Rig, key, name, needle, real_disk};

fn three_needles() -> (Rig, Vec<u64>) {
    let rig = Rig::new();
    let mut ends = vec![8];
    for key in 1..=3 {
        rig.put(key, format!("data of needle {key}").as_bytes()).unwrap();
        ends.push(rig.volume.report().size_bytes);
    }
    (rig, ends)
}

/// The file may end in zeros while it is written to; they are nothing that was written.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)]
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_kept_and_written_over() {
    let (rig, ends) = three_needles();
    let whole = fs::read(rig.dat()).unwrap();
    drop(rig);
    for torn_len in 8..whole.len() as u64 {
        let (mut rig, _) = three_needles();
        let kept = ends.iter().rfind(|end| **end <= torn_len).copied().unwrap();
        let bytes = fs::read(rig.dat()).unwrap();
        fs::write(rig.dat(), &bytes[..torn_len as usize]).unwrap();
        // The index has no rows of what was never synced.
        let idx = fs::read(rig.idx()).unwrap();
        let rows = ends.iter().position(|end| *end == kept).unwrap();
        fs::write(rig.idx(), &idx[..rows * 16]).unwrap();
        rig.reopen(false);
        assert_eq!(rig.volume.report().local, LocalState::Ready, "torn at {torn_len}");
        assert_eq!(rig.volume.report().size_bytes, kept, "torn at {torn_len}");
        let torn = without_zeros(&bytes[kept as usize..torn_len as usize]);
        let expected = if torn.is_empty() { Vec::new() } else { vec![torn.to_vec()] };
        assert_eq!(rig.trash(), expected, "torn at {torn_len}");
        for key in 1..=3 {
            let is_whole = ends[key as usize] <= kept;
            assert_eq!(rig.data(key).is_some(), is_whole, "needle {key} torn at {torn_len}");
        }
        rig.put(9, b"written after the crash").unwrap();
        rig.reopen(false);
        assert_eq!(rig.data(9).unwrap(), b"written after the crash");
    }
}

#[test]
fn zeros_behind_the_last_record_come_with_writing_and_go_with_rest() {
    let (mut rig, ends) = three_needles();
    let busy = fs::metadata(rig.dat()).unwrap().len();
    assert!(busy > ends[3], "{busy} bytes");
    for is_clean in [false, true] {
        rig.reopen(is_clean);
        assert_eq!(fs::metadata(rig.dat()).unwrap().len(), ends[3]);
        assert_eq!(rig.data(3).unwrap(), b"data of needle 3");
        assert!(rig.trash().is_empty(), "zeros are not worth keeping");
    }
    rig.put(4, b"more").unwrap();
    rig.volume.rest().unwrap();
    assert_eq!(fs::metadata(rig.dat()).unwrap().len(), rig.volume.report().size_bytes);
}

#[test]
fn a_torn_batch_is_cut_although_later_records_of_it_reached_the_disk() {
    for first_lost in [0, 1] {
        let (mut rig, ends) = three_needles();
        let batch: Vec<Write> = (4..=6).map(|key| Write::Put(needle(key, b"of a batch"))).collect();
        assert!(rig.commit(batch).iter().all(Result::is_ok));
        let size = rig.volume.report().size_bytes;
        let record_len = (size - ends[3]) / 3;
        // The index has no rows of a batch whose sync did not return.
        let idx = fs::read(rig.idx()).unwrap();
        fs::write(rig.idx(), &idx[..3 * 16]).unwrap();
        let mut dat = fs::read(rig.dat()).unwrap();
        let lost = (ends[3] + first_lost * record_len) as usize;
        dat[lost..lost + record_len as usize].fill(0);
        fs::write(rig.dat(), &dat).unwrap();
        rig.reopen(false);
        assert_eq!(rig.volume.report().local, LocalState::Ready, "record {first_lost} lost");
        assert_eq!(rig.volume.report().size_bytes, lost as u64);
        assert_eq!(rig.trash(), [without_zeros(&dat[lost..]).to_vec()]);
        for key in 1..=6 {
            assert_eq!(rig.data(key).is_some(), key < 4 + first_lost, "needle {key}");
        }
    }
}

#[test]
fn a_lost_record_is_damage_when_a_later_batch_reached_the_disk() {
    let (mut rig, ends) = three_needles();
    let mut dat = fs::read(rig.dat()).unwrap();
    dat[ends[1] as usize..ends[2] as usize].fill(0);
    fs::write(rig.dat(), &dat).unwrap();
    fs::write(rig.idx(), "").unwrap();
    rig.reopen(false);
    assert_eq!(rig.volume.report().local, LocalState::Damaged);
    assert!(rig.trash().is_empty());
    assert_eq!(rig.data(1).unwrap(), b"data of needle 1");
    assert_eq!(rig.data(2), None, "no trace of it is left");
    assert!(matches!(rig.read(3), Err(ReadError::Corrupt { .. })), "nothing vouches for it");
}

#[test]
fn doubt_does_not_end_at_the_next_bad_record() {
    let (mut rig, ends) = three_needles();
    for key in 4..=6 {
        rig.put(key, b"behind both").unwrap();
    }
    let mut dat = fs::read(rig.dat()).unwrap();
    dat[ends[1] as usize..ends[2] as usize].fill(0);
    dat[ends[3] as usize..ends[3] as usize + 24].fill(0);
    fs::write(rig.dat(), &dat).unwrap();
    fs::write(rig.idx(), "").unwrap();
    rig.reopen(false);
    for key in [3, 5, 6] {
        assert!(matches!(rig.read(key), Err(ReadError::Corrupt { .. })), "needle {key}");
    }
}

/// For each bit of the length of the record at that place among three: the volume opened again
/// without its index, which is damaged and as long as before.
fn with_each_bit_of_a_length_flipped(place: usize, check: impl Fn(&Rig, usize)) {
    for bit in 0..32 {
        let (mut rig, ends) = three_needles();
        let mut dat = fs::read(rig.dat()).unwrap();
        dat[ends[place] as usize + 12 + bit / 8] ^= 0x80 >> (bit % 8);
        fs::write(rig.dat(), &dat).unwrap();
        fs::write(rig.idx(), "").unwrap();
        rig.reopen(false);
        assert_eq!(rig.volume.report().local, LocalState::Damaged, "bit {bit}");
        assert_eq!(fs::read(rig.dat()).unwrap(), dat, "nothing is cut");
        check(&rig, bit);
    }
}

#[test]
fn a_last_record_that_is_whole_but_for_a_bit_of_its_length_is_not_torn() {
    with_each_bit_of_a_length_flipped(2, |rig, bit| {
        assert_eq!(rig.data(2).unwrap(), b"data of needle 2", "bit {bit}");
    });
}

#[test]
fn a_record_whose_length_has_a_flipped_bit_is_passed_by() {
    with_each_bit_of_a_length_flipped(1, |rig, bit| {
        assert_eq!(rig.data(3).unwrap(), b"data of needle 3", "bit {bit}");
    });
}

/// A record as an attacker makes it, for needle 1 of the same cookie: newer than all others, and the
/// first of its batch.
pub fn forged_record() -> Vec<u8> {
    let temp = tempfile::tempdir().unwrap();
    let ahead = Clock::manual(2 * NOW_NS);
    let rig = Rig::create(real_disk(), temp.path().to_owned(), ahead, Ttl::NONE);
    rig.put(1, b"forged").unwrap();
    let end = rig.volume.report().size_bytes as usize;
    fs::read(rig.dat()).unwrap()[8..end].to_vec()
}

/// The data of needle 4 is full of records, and only its middle reached the disk before the power
/// went.
#[test]
fn records_within_a_torn_needle_replace_nothing() {
    let forged = forged_record();
    for is_indexed in [false, true] {
        let (mut rig, ends) = three_needles();
        // Records begin at multiples of eight, data four bytes behind one.
        rig.put(4, &[b"four".to_vec(), forged.repeat(100)].concat()).unwrap();
        let mut dat = fs::read(rig.dat()).unwrap();
        let (start, end) = (ends[3] as usize, rig.volume.report().size_bytes as usize);
        dat[start..start + 20].fill(0);
        dat[end - 60..end].fill(0);
        fs::write(rig.dat(), &dat).unwrap();
        if !is_indexed {
            fs::write(rig.idx(), "").unwrap();
        }
        for _ in 0..2 {
            rig.reopen(false);
            assert_eq!(rig.volume.report().local, LocalState::Damaged);
            assert!(
                matches!(rig.read(1), Err(ReadError::Corrupt { .. })),
                "it may be an overwrite"
            );
            for key in 2..=3 {
                assert_eq!(rig.data(key).unwrap(), format!("data of needle {key}").as_bytes());
            }
            assert_eq!(rig.volume.keys().0, 3 + usize::from(is_indexed));
        }
        let stamp = rig.opener.shared.stamps.next(Ts(0), 0, BatchPlace::First);
        assert!(stamp.0 < 2 * NOW_NS, "its stamp is not taken up");
        assert_eq!(fs::read(rig.dat()).unwrap(), dat, "nothing is cut");
    }
}

#[test]
fn a_lost_record_is_damage_however_long_it_was() {
    const LEN: usize = 65 << 20;
    let mut rig = Rig::new();
    rig.put(1, b"before").unwrap();
    let bad_at = rig.volume.report().size_bytes as usize;
    rig.put(2, &vec![0; LEN]).unwrap();
    rig.put(3, b"behind").unwrap();
    let mut dat = fs::read(rig.dat()).unwrap();
    dat[bad_at..bad_at + 16].fill(0);
    fs::write(rig.dat(), &dat).unwrap();
    fs::write(rig.idx(), "").unwrap();
    rig.reopen(false);
    assert_eq!(rig.volume.report().local, LocalState::Damaged);
    assert!(matches!(rig.read(3), Err(ReadError::Corrupt { .. })), "nothing vouches for it");
    assert!(rig.trash().is_empty());
}

#[test]
fn a_row_that_calls_a_tombstone_an_empty_needle_is_not_believed() {
    let (mut rig, _) = three_needles();
    rig.delete(2).unwrap();
    rig.reopen(true);
    let before = fs::read(rig.idx()).unwrap();
    let mut idx = before.clone();
    idx[60..64].fill(0);
    fs::write(rig.idx(), idx).unwrap();
    rig.reopen(false);
    assert_eq!(rig.data(2), None);
    assert_eq!(fs::read(rig.idx()).unwrap(), before);
    assert!(rig.volume.check().unwrap().is_empty());
}

#[test]
fn a_batch_torn_behind_damage_does_not_take_what_lies_between() {
    let (mut rig, ends) = three_needles();
    rig.put(4, b"between").unwrap();
    let batch: Vec<Write> = (5..=6).map(|key| Write::Put(needle(key, b"of a batch"))).collect();
    let torn_at = rig.volume.report().size_bytes as usize;
    assert!(rig.commit(batch).iter().all(Result::is_ok));
    let mut dat = fs::read(rig.dat()).unwrap();
    // The first record of the batch is lost, its second is not; and a bit rots in needle 2.
    dat[torn_at..torn_at + 16].fill(0);
    dat[ends[1] as usize + 20] ^= 1;
    fs::write(rig.dat(), &dat).unwrap();
    fs::write(rig.idx(), "").unwrap();
    rig.reopen(false);
    assert_eq!(rig.volume.report().local, LocalState::Damaged);
    for key in [1, 3, 4] {
        assert!(rig.data(key).is_some(), "needle {key}");
    }
    assert_eq!(fs::read(rig.dat()).unwrap(), dat, "nothing is cut");
}

#[test]
fn a_volume_that_lost_its_sidecar_while_it_was_written_to_is_taken_in_whole() {
    let (rig, ends) = three_needles();
    fs::remove_file(name().sidecar(rig.dir.path())).unwrap();
    assert!(fs::metadata(rig.dat()).unwrap().len() > ends[3]);
    let config = (*rig.volume.config()).clone();
    let volume = rig.opener.admit(&rig.dir, 1.into(), config).unwrap();
    assert_eq!(volume.report().live_needles, 3);
    assert_eq!(volume.report().local, LocalState::Ready);
    assert_eq!(volume.report().size_bytes, ends[3]);
}

#[test]
fn a_needle_is_stored_although_there_is_no_room_for_zeros_behind_it() {
    let disk = SimulatedDisk::new(1);
    let rig = Rig::on(&disk);
    rig.put(1, &[1; 6000]).unwrap();
    disk.limit_free_bytes(10_000);
    rig.put(2, &[2; 9000]).unwrap();
    disk.limit_free_bytes(1 << 40);
    assert_eq!(rig.data(2).unwrap(), [2; 9000]);
    assert!(rig.volume.check().unwrap().is_empty());
}

#[test]
fn a_lost_cut_or_scribbled_index_is_made_anew_from_the_volume_file() {
    let scribbles: [fn(&Rig); 5] = [
        |rig| fs::remove_file(rig.idx()).unwrap(),
        |rig| fs::write(rig.idx(), vec![0; 48]).unwrap(),
        |rig| {
            let idx = fs::read(rig.idx()).unwrap();
            fs::write(rig.idx(), &idx[..20]).unwrap();
        },
        |rig| {
            let mut idx = fs::read(rig.idx()).unwrap();
            idx[11] ^= 1;
            fs::write(rig.idx(), idx).unwrap();
        },
        // A row of another key, which names a place like the others.
        |rig| {
            let mut idx = fs::read(rig.idx()).unwrap();
            idx[7] ^= 0x10;
            fs::write(rig.idx(), idx).unwrap();
        },
    ];
    for scribble in scribbles {
        let (mut rig, _) = three_needles();
        rig.delete(2).unwrap();
        rig.reopen(true);
        let before = fs::read(rig.idx()).unwrap();
        scribble(&rig);
        rig.reopen(false);
        assert_eq!(fs::read(rig.idx()).unwrap(), before);
        assert_eq!(rig.data(1).unwrap(), b"data of needle 1");
        assert_eq!(rig.data(2), None);
    }
}

#[test]
fn rows_past_the_checkpoint_are_not_believed() {
    let (mut rig, _) = three_needles();
    rig.volume.checkpoint().unwrap();
    rig.put(4, b"after the checkpoint").unwrap();
    let mut idx = fs::read(rig.idx()).unwrap();
    let last = idx.len() - 1;
    idx[last] ^= 0x40;
    fs::write(rig.idx(), &idx).unwrap();
    rig.reopen(false);
    assert_eq!(rig.data(4).unwrap(), b"after the checkpoint");
    idx[last] ^= 0x40;
    assert_eq!(fs::read(rig.idx()).unwrap(), idx);
}

#[test]
fn without_a_sidecar_a_volume_is_foreign_and_untouched() {
    let (rig, _) = three_needles();
    let before = fs::read(rig.dat()).unwrap();
    fs::remove_file(name().sidecar(rig.dir.path())).unwrap();
    let found = rig.opener.discover(&rig.dir, &name()).unwrap();
    let Discovered::Foreign(foreign) = found else { panic!("it has no owner") };
    assert_eq!(foreign.live_needles, 3);
    assert_eq!(fs::read(rig.dat()).unwrap(), before);
}

#[test]
fn an_interrupted_creation_leaves_nothing_in_the_way() {
    let rig = Rig::new();
    fs::remove_file(rig.dat()).unwrap();
    fs::write(rig.idx(), "leftovers").unwrap();
    let config = (*rig.volume.config()).clone();
    let volume = rig.opener.create(&rig.dir, 1.into(), config).unwrap();
    assert_eq!(volume.report().live_needles, 0);
    assert_eq!(fs::metadata(rig.idx()).unwrap().len(), 0);
}

#[test]
fn a_volume_file_that_could_not_be_opened_is_never_created_over() {
    let (rig, _) = three_needles();
    let mut dat = fs::read(rig.dat()).unwrap();
    dat[0] = 9;
    fs::write(rig.dat(), &dat).unwrap();
    assert!(rig.opener.discover(&rig.dir, &name()).is_err());
    let config = (*rig.volume.config()).clone();
    let error = rig.opener.create(&rig.dir, 1.into(), config).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(rig.dat()).unwrap(), dat);
}

#[test]
fn what_a_restart_found_is_covered_by_the_next_checkpoint() {
    let (mut rig, _) = three_needles();
    rig.reopen(false);
    rig.reopen(true);
    fs::remove_file(rig.idx()).unwrap();
    fs::write(rig.idx(), "").unwrap();
    rig.reopen(false);
    assert_eq!(rig.volume.report().live_needles, 3);
}

#[test]
fn what_a_crash_left_beside_the_files_is_gone_after_the_next_start() {
    let disk = SimulatedDisk::new(1);
    let mut rig = Rig::on(&disk);
    let paths = disk.paths();
    for stray in ["7.idx.new", "7.dulse.new", "7.vif.new"] {
        disk.put(&rig.dat().with_file_name(stray), b"half".to_vec());
    }
    assert_eq!(rig.volume.check().unwrap().as_slice().len(), 3);
    rig.reopen(false);
    assert_eq!(disk.paths(), paths);
}

/// A volume without its sidecar, whose last bytes are no record, taken in.
fn admitted_with_garbage(disk: &SimulatedDisk) -> (Rig, Vec<u8>) {
    let mut rig = Rig::on(disk);
    rig.put(1, b"before").unwrap();
    let config = (*rig.volume.config()).clone();
    let mut dat = disk.contents(&rig.dat()).unwrap();
    dat.extend([7; 40]);
    disk.put(&rig.dat(), dat.clone());
    disk.erase(&name().sidecar(rig.dir.path()));
    rig.restart();
    rig.try_start(&config).unwrap();
    assert_eq!(rig.volume.report().local, LocalState::Damaged);
    (rig, dat)
}

#[test]
fn what_was_there_before_a_volume_was_taken_in_is_not_cut_at_a_later_start() {
    let disk = SimulatedDisk::new(1);
    let (mut rig, dat) = admitted_with_garbage(&disk);
    for _ in 0..2 {
        rig.reopen(true);
        assert_eq!(rig.volume.report().local, LocalState::Damaged);
        assert_eq!(disk.contents(&rig.dat()).unwrap(), dat);
        assert_eq!(rig.data(1).unwrap(), b"before");
    }
}

#[test]
fn what_is_appended_to_a_file_that_became_shorter_is_our_own() {
    let disk = SimulatedDisk::new(1);
    let (mut rig, dat) = admitted_with_garbage(&disk);
    disk.put(&rig.dat(), dat[..dat.len() - 40].to_vec());
    rig.reopen(false);
    assert!(rig.volume.check().unwrap().is_empty());
    rig.put(2, b"after").unwrap();
    let located = rig.volume.locate(key(2)).unwrap();
    assert!(located.is_own, "its header and metadata are verified");
}

/// SeaweedFS writes such a row for what is deleted while it vacuums.
#[test]
fn a_row_without_a_place_in_another_programs_index_is_not_believed() {
    let disk = SimulatedDisk::new(1);
    let mut rig = Rig::on(&disk);
    for key in 1..=3 {
        rig.put(key, b"of another program").unwrap();
    }
    writer::close(&rig.volume);
    let mut idx = disk.contents(&rig.idx()).unwrap();
    let row_len = idx.len() / 3;
    let mut odd = idx[..row_len].to_vec();
    odd[8..row_len].fill(0);
    odd[row_len - 4..].fill(0xff);
    idx.splice(2 * row_len..2 * row_len, odd);
    disk.put(&rig.idx(), idx);
    disk.erase(&name().sidecar(rig.dir.path()));
    let config = (*rig.volume.config()).clone();
    rig.restart();
    rig.try_start(&config).unwrap();
    assert_eq!(&rig.read(1).unwrap().data[..], b"of another program");
    rig.put(1, b"overwritten").unwrap();
    assert_eq!(&rig.read(1).unwrap().data[..], b"overwritten");
}
