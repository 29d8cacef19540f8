//! Exporting: every live needle as a file, whatever it is called, and nothing outside.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use dulse_shared::clock::Clock;
use dulse_volume::{
    disk::{Disk, simulated::SimulatedDisk},
    engine::write::Write,
    format::{NeedleMeta, NewNeedle},
    needle_data::NeedleData,
    offline::export::{ExportError, ExportOptions, ExportReport, export_dir},
    writer,
};
use flate2::{Compression, write::GzEncoder};

use crate::harness::{Rig, SIMULATED_DIR, needle};

const OUT: &str = "/out";

fn named(key: u64, data: &[u8], meta: NeedleMeta) -> NewNeedle<NeedleData> {
    NewNeedle { meta, ..needle(key, data) }
}

fn name(name: &str) -> NeedleMeta {
    NeedleMeta { name: Some(Bytes::copy_from_slice(name.as_bytes())), ..NeedleMeta::default() }
}

fn rig_with(disk: &SimulatedDisk, needles: Vec<NewNeedle<NeedleData>>) -> Rig {
    let rig = Rig::on(disk);
    for answer in rig.commit(needles.into_iter().map(Write::Put).collect()) {
        answer.unwrap();
    }
    writer::close(&rig.volume);
    disk.crash();
    rig
}

fn export(disk: &SimulatedDisk, options: &ExportOptions) -> Result<ExportReport, ExportError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let clock = Clock::manual(1_795_305_600_000_000_000 + 3600 * 1_000_000_000);
    export_dir(&disk, Path::new(SIMULATED_DIR), Path::new(OUT), options, &clock, &mut |_| {})
}

/// The exported files below the volume's directory.
fn exported(disk: &SimulatedDisk) -> BTreeMap<String, Vec<u8>> {
    let is_ours = |path: &PathBuf| path.starts_with(SIMULATED_DIR);
    let paths = disk.paths().into_iter().filter(|path| !is_ours(path));
    paths
        .map(|path| {
            let name = path.strip_prefix("/out/7").unwrap().to_str().unwrap().to_owned();
            (name, disk.contents(&path).unwrap())
        })
        .collect()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut encoder, data).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn needles_keep_their_names_without_meeting_or_leaving_the_directory() {
    let disk = SimulatedDisk::new(1);
    let rig = rig_with(
        &disk,
        vec![
            named(1, b"one", name("a.txt")),
            named(2, b"two", name("a.txt")),
            named(3, b"three", name("../../data/7.dat")),
            named(4, b"four", name("..")),
            named(5, b"five", NeedleMeta::default()),
            named(6, b"six", name("a-02c00c1e00.txt")),
            named(7, b"gone", name("gone")),
        ],
    );
    drop(rig);
    let report = export(&disk, &ExportOptions::default()).unwrap();
    assert_eq!((report.files, report.problems.len()), (7, 0));
    let files = exported(&disk);
    let expected = [
        ("7.dat", "three"),
        ("04c00c1e00", "four"),
        ("05c00c1e00", "five"),
        ("a-02c00c1e00.txt", "two"),
        ("a-02c00c1e00-06c00c1e00.txt", "six"),
        ("a.txt", "one"),
        ("gone", "gone"),
    ];
    let expected = expected.map(|(name, data)| (name.to_owned(), data.as_bytes().to_vec()));
    assert_eq!(files, BTreeMap::from(expected));
    assert!(matches!(export(&disk, &ExportOptions::default()), Err(ExportError::NotEmpty(_))));
}

#[test]
fn deleted_and_expired_needles_stay_out_and_packed_ones_are_unpacked() {
    let disk = SimulatedDisk::new(1);
    let packed = gzip(b"text that was packed");
    let rig = rig_with(
        &disk,
        vec![
            named(1, &packed, NeedleMeta { is_gzipped: true, ..name("packed.txt") }),
            named(2, b"short", NeedleMeta { ttl: "30m".parse().unwrap(), ..name("short") }),
            named(3, b"long", NeedleMeta { ttl: "2h".parse().unwrap(), ..name("long") }),
            named(4, b"{}", NeedleMeta { is_chunk_manifest: true, ..name("film") }),
            named(5, &packed[..9], NeedleMeta { is_gzipped: true, ..name("broken") }),
        ],
    );
    drop(rig);
    let report = export(&disk, &ExportOptions::default()).unwrap();
    assert_eq!((report.files, report.expired, report.problems.len()), (4, 1, 1));
    let files = exported(&disk);
    assert_eq!(files["packed.txt"], b"text that was packed");
    assert_eq!(files["long"], b"long");
    assert_eq!(files["film.chunks.json"], b"{}");
    assert_eq!(files["broken.gz"], packed[..9]);
}

#[test]
fn raw_data_stays_packed_and_filters_leave_the_others_out() {
    let packed = gzip(b"text that was packed");
    let disk = SimulatedDisk::new(1);
    let meta = NeedleMeta { is_gzipped: true, ..name("packed.txt") };
    rig_with(&disk, vec![named(1, &packed, meta)]);
    for options in [
        ExportOptions { collection: Some("pics".parse().unwrap()), ..ExportOptions::default() },
        ExportOptions { volume: Some("8".parse().unwrap()), ..ExportOptions::default() },
    ] {
        let refused = export(&disk, &options).unwrap_err();
        assert!(matches!(refused, ExportError::NoSuchVolume { .. }), "{refused}");
        assert!(disk.list(Path::new(OUT)).is_err(), "nothing was made");
    }
    let raw = ExportOptions {
        collection: Some("".parse().unwrap()),
        volume: Some("7".parse().unwrap()),
        is_raw: true,
    };
    assert_eq!(export(&disk, &raw).unwrap().files, 1);
    assert_eq!(exported(&disk)["packed.txt.gz"], packed);
}

#[test]
fn a_damaged_needle_is_named_and_the_others_are_exported() {
    let disk = SimulatedDisk::new(1);
    let needles = (1..=3).map(|key| named(key, &[key as u8; 50], name(&format!("n{key}"))));
    let rig = rig_with(&disk, needles.collect());
    disk.flip(&rig.dat(), (8 + 30) * 8);
    let report = export(&disk, &ExportOptions::default()).unwrap();
    assert_eq!(report.problems.len(), 2, "the record, and the needle: {:?}", report.problems);
    assert_eq!(exported(&disk).into_keys().collect::<Vec<_>>(), ["n2", "n3"]);
}
