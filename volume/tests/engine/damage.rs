//! Flipped bits in a volume file: found, named, and never a reason to cut anything off.

use std::{fs, path::Path};

use dulse_shared::{id::Ts, wire::LocalState};
use dulse_volume::{
    disk::simulated::SimulatedDisk,
    engine::{volume_files::OpenError, write::WriteError},
    reader::ReadError,
    writer,
};

use crate::harness::{NOW_NS, Rig, SIMULATED_DIR, name};

fn flip(rig: &Rig, bit: usize) {
    let mut dat = fs::read(rig.dat()).unwrap();
    dat[bit / 8] ^= 1 << (bit % 8);
    fs::write(rig.dat(), dat).unwrap();
}

fn three_needles() -> Rig {
    let rig = Rig::new();
    for key in 1..=3 {
        rig.put(key, format!("data of needle {key}").as_bytes()).unwrap();
    }
    rig
}

#[test]
fn a_flipped_bit_in_the_middle_is_damage_and_the_others_are_read_on() {
    let rig = three_needles();
    let record_bits = (rig.volume.report().size_bytes as usize - 8) / 3 * 8;
    drop(rig);
    // Every seventh bit of the first two records.
    for bit in (64..64 + 2 * record_bits).step_by(7) {
        let mut rig = three_needles();
        flip(&rig, bit);
        let before = fs::read(rig.dat()).unwrap();
        rig.reopen(false);
        assert_eq!(rig.volume.report().local, LocalState::Damaged, "bit {bit}");
        assert_eq!(fs::read(rig.dat()).unwrap(), before, "bit {bit}");
        let bad = if bit < 64 + record_bits { 1 } else { 2 };
        for key in 1..=3 {
            match rig.read(key) {
                Ok(needle) => {
                    assert_ne!(key, bad, "bit {bit}");
                    assert_eq!(&needle.data[..], format!("data of needle {key}").as_bytes());
                }
                Err(error) => {
                    assert!(matches!(error, ReadError::Corrupt { .. }), "bit {bit}: {error}");
                    assert_eq!(key, bad, "bit {bit}");
                }
            }
        }
        assert!(matches!(rig.put(4, b"more"), Err(WriteError::Refused(_))));
        assert!(rig.trash().is_empty());
    }
}

#[test]
fn a_flipped_bit_under_a_running_server_is_an_error_and_not_other_bytes() {
    let rig = three_needles();
    let end = rig.volume.report().size_bytes as usize * 8;
    let first = 64;
    for bit in first..end {
        flip(&rig, bit);
        let results = [1, 2, 3].map(|key| rig.read(key));
        flip(&rig, bit);
        let bad = results.iter().filter(|result| result.is_err()).count();
        assert_eq!(bad, 1, "bit {bit}: each bit belongs to one record, which must not verify");
    }
}

#[test]
fn damage_below_the_checkpoint_at_the_end_of_the_file_is_not_taken_for_a_torn_tail() {
    let mut rig = three_needles();
    rig.reopen(true);
    let dat = fs::read(rig.dat()).unwrap();
    fs::write(rig.dat(), &dat[..dat.len() - 8]).unwrap();
    rig.reopen(false);
    assert_eq!(rig.volume.report().local, LocalState::Damaged);
    assert!(matches!(rig.read(3), Err(ReadError::Corrupt { .. })));
    assert!(rig.trash().is_empty());
}

/// Nothing but the checkpoint tells that they were ever whole.
#[test]
fn covered_last_records_that_rot_are_damage_without_their_rows_as_well() {
    let mut rig = three_needles();
    rig.reopen(true);
    let mut dat = fs::read(rig.dat()).unwrap();
    let record_len = (dat.len() - 8) / 3;
    for lost in [1, 2] {
        let at = 8 + lost * record_len;
        dat[at..at + 20].fill(0);
    }
    fs::write(rig.dat(), &dat).unwrap();
    fs::write(rig.idx(), "").unwrap();
    rig.reopen(false);
    assert_eq!(rig.volume.report().local, LocalState::Damaged);
    assert!(rig.read(1).is_ok());
    assert_eq!(fs::read(rig.dat()).unwrap(), dat);
    assert!(rig.trash().is_empty());
}

#[test]
fn needles_behind_the_end_of_a_file_that_was_cut_below_the_checkpoint_answer_an_error() {
    let mut rig = three_needles();
    let record_len = (rig.volume.report().size_bytes as usize - 8) / 3;
    rig.delete(1).unwrap();
    rig.reopen(true);
    let dat = fs::read(rig.dat()).unwrap();
    fs::write(rig.dat(), &dat[..8 + 2 * record_len]).unwrap();
    for is_clean in [false, true, false] {
        rig.reopen(is_clean);
        assert_eq!(rig.volume.report().local, LocalState::Damaged);
        assert!(matches!(rig.read(3), Err(ReadError::Corrupt { .. })), "{:?}", rig.read(3));
        assert!(rig.read(2).is_ok());
        assert!(rig.read(1).is_err(), "its tombstone is missing, not its row");
    }
    assert!(rig.trash().is_empty());
}

/// Puts three needles on a simulated disk and ends the process, after a checkpoint or without one.
fn closed_volume(disk: &SimulatedDisk, is_clean: bool) -> Rig {
    let rig = Rig::on(disk);
    for key in 1..=3 {
        rig.put(key, format!("data of needle {key}").as_bytes()).unwrap();
    }
    if is_clean {
        writer::close(&rig.volume);
    }
    rig
}

/// Whether all three needles are there; an error if one reads as anything but itself.
fn all_are_right(rig: &Rig, at: &str) -> bool {
    let is_right = |key: u64| match rig.read(key) {
        Ok(needle) => {
            assert_eq!(&needle.data[..], format!("data of needle {key}").as_bytes(), "{at}");
            true
        }
        Err(ReadError::Corrupt { .. }) => false,
        Err(error) => panic!("{at}: needle {key}: {error}"),
    };
    (1..=3).filter(|key| is_right(*key)).count() == 3
}

#[test]
fn any_flipped_bit_of_any_file_is_found_or_harmless() {
    for is_clean in [false, true] {
        for extension in ["dat", "idx", "dulse", "vif"] {
            let path = Path::new(SIMULATED_DIR).join(name().with_suffix(extension));
            let (bits, written) = {
                let disk = SimulatedDisk::new(1);
                let rig = closed_volume(&disk, is_clean);
                let written = rig.volume.report().size_bytes as usize * 8;
                (disk.contents(&path).unwrap().len() * 8, written)
            };
            for bit in 0..bits {
                let at = format!("bit {bit} of .{extension}, closed well: {is_clean}");
                let disk = SimulatedDisk::new(1);
                let mut rig = closed_volume(&disk, is_clean);
                let config = (*rig.volume.config()).clone();
                disk.flip(&path, bit);
                rig.restart();
                if rig.try_start(&config).is_err() {
                    continue;
                }
                let is_harmless = all_are_right(&rig, &at);
                let findings = rig.volume.check().unwrap();
                assert!(is_harmless || !findings.is_empty(), "{at}");
                // Behind the last record lay zeros, which nobody wrote.
                let is_behind = extension == "dat" && bit >= written;
                assert!(rig.trash().is_empty() || is_behind, "{at}: something was cut off");
                // Harmless at the next start too, when what was found the first time is believed.
                rig.restart();
                if rig.try_start(&config).is_ok() && is_harmless && findings.is_empty() {
                    assert!(all_are_right(&rig, &at));
                }
            }
        }
    }
}

#[test]
fn an_index_sidecar_or_vif_cut_at_any_byte_is_harmless() {
    for is_clean in [false, true] {
        for extension in ["idx", "dulse", "vif"] {
            let path = Path::new(SIMULATED_DIR).join(name().with_suffix(extension));
            let disk = SimulatedDisk::new(1);
            closed_volume(&disk, is_clean);
            let whole = disk.contents(&path).unwrap();
            for len in 0..whole.len() {
                let at = format!("{len} bytes of .{extension}, closed well: {is_clean}");
                let disk = SimulatedDisk::new(1);
                let mut rig = closed_volume(&disk, is_clean);
                let config = (*rig.volume.config()).clone();
                disk.put(&path, whole[..len].to_vec());
                rig.restart();
                rig.try_start(&config).unwrap();
                assert!(all_are_right(&rig, &at), "{at}");
                assert!(rig.volume.check().unwrap().is_empty(), "{at}");
            }
        }
    }
}

#[test]
fn a_damaged_record_that_is_written_over_does_not_spoil_the_stamps_to_come() {
    let (from, to) = {
        let disk = SimulatedDisk::new(1);
        let rig = closed_volume(&disk, false);
        (8 * 8, rig.volume.report().size_bytes as usize / 3 * 8)
    };
    let soon = Ts(NOW_NS + 3_600_000_000_000);
    for bit in from..to {
        let disk = SimulatedDisk::new(1);
        let rig = closed_volume(&disk, false);
        disk.flip(&rig.dat(), bit);
        // It may be refused: what the bit stood for is gone.
        let _ = rig.put(1, b"written over");
        rig.put(2, b"another").unwrap();
        let stamp = rig.read(2).unwrap().ts;
        assert!(stamp < soon, "bit {bit}: {stamp:?}");
    }
}

#[test]
fn a_superblock_that_its_sidecar_contradicts_is_not_believed() {
    // The version, the ttl's unit, the length of the extra bytes.
    for (byte, value) in [(0, 2), (0, 1), (2, 1), (7, 8)] {
        let disk = SimulatedDisk::new(1);
        let mut rig = closed_volume(&disk, false);
        let config = (*rig.volume.config()).clone();
        let mut dat = disk.contents(&rig.dat()).unwrap();
        dat[byte] = value;
        // A ttl needs a unit as well.
        dat[3] = if byte == 2 { 3 } else { dat[3] };
        disk.put(&rig.dat(), dat);
        let Err(error) = rig.try_start(&config) else { panic!("byte {byte} as {value}") };
        assert!(matches!(error, OpenError::Contradiction { .. }), "{byte}: {error}");
    }
}

#[test]
fn damage_is_found_again_at_every_start() {
    let mut rig = three_needles();
    flip(&rig, (8 + 16 + 5) * 8);
    for is_clean in [false, true, true] {
        rig.reopen(is_clean);
        assert_eq!(rig.volume.report().local, LocalState::Damaged);
        assert!(matches!(rig.read(1), Err(ReadError::Corrupt { .. })));
        assert!(rig.read(3).is_ok());
    }
}
