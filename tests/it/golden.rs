//! Volumes that SeaweedFS wrote, served from a copied data directory: `dulse volume --dir` is all
//! it takes. Every answer is compared with the one SeaweedFS gave.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    harness::{Role, Server, eventually},
    http::{Answer, get, get_by_way_of},
    needles::try_assign,
};

/// Needles of this collection expire: they are read under a clock that stands still.
pub(crate) const EXPIRING: &str = "brief";
/// Volumes of this one have a copy in each of the two directories.
const DOUBLED: &str = "pics";

/// What SeaweedFS answered to a GET of one fid.
pub(crate) struct Expected {
    pub(crate) fid: String,
    status: u64,
    sha256: String,
    length: u64,
    headers: BTreeMap<String, String>,
}

impl Expected {
    /// The volume it lies in.
    pub(crate) fn volume(&self) -> u64 {
        self.fid.split_once(',').unwrap().0.parse().unwrap()
    }

    /// Whether it expires by itself: that takes a time of writing, which SeaweedFS gives to all
    /// but empty needles.
    pub(crate) fn has_lifetime(&self) -> bool {
        self.status == 200 && self.length > 0
    }
}

pub(crate) fn golden(width: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(width)
}

/// The last state of every fid.
pub(crate) fn expected(width: &str) -> Vec<Expected> {
    let text = std::fs::read_to_string(golden(width).join("expected.json")).unwrap();
    let requests: Vec<Value> = serde_json::from_str(&text).unwrap();
    let read = |request: &Value| {
        let read = request.get("read")?;
        let headers = read["headers"].as_object().unwrap().iter();
        Some(Expected {
            fid: request["fid"].as_str().unwrap().to_owned(),
            status: read["status"].as_u64().unwrap(),
            sha256: read["sha256"].as_str().unwrap().to_owned(),
            length: read["len"].as_u64().unwrap(),
            headers: headers
                .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
                .collect(),
        })
    };
    let all: Vec<Expected> = requests.iter().filter_map(read).collect();
    assert!(all.len() > 100, "{} answers in {width}/expected.json", all.len());
    all
}

/// The volume ids of a collection, by the names of its files.
pub(crate) fn volumes_of(dir: &Path, collection: &str) -> Vec<u64> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let id = |name: std::ffi::OsString| {
        let name = name.into_string().unwrap();
        let base = name.strip_suffix(".dat")?;
        let id = match collection {
            "" => base,
            _ => base.strip_prefix(collection)?.strip_prefix('_')?,
        };
        id.parse().ok()
    };
    names.filter_map(id).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// What differs between an answer and the one expected; nothing if all is well.
fn differences(expected: &Expected, answer: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    if u64::from(answer.status) != expected.status {
        found.push(format!("status {} instead of {}", answer.status, expected.status));
    }
    if expected.status != 200 {
        return found;
    }
    let digest: String =
        Sha256::digest(&answer.body).iter().map(|byte| format!("{byte:02x}")).collect();
    if digest != expected.sha256 {
        found.push(format!(
            "{} bytes, others than the {} stored",
            answer.body.len(),
            expected.length
        ));
    }
    for (name, value) in &expected.headers {
        let ours = answer.header(name);
        if ours.as_deref() != Some(value) {
            found.push(format!("{name}: {ours:?} instead of {value:?}"));
        }
    }
    found
}

#[track_caller]
pub(crate) fn assert_served(master_url: &str, expected: &[Expected]) {
    let mut wrong = Vec::new();
    for one in expected {
        let answer = get_by_way_of(master_url, &one.fid);
        let found = differences(one, &answer);
        wrong.extend(found.into_iter().map(|difference| format!("{}: {difference}", one.fid)));
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// A cluster of a master and a volume server on a copy of each directory.
struct Cluster {
    master: Server,
    a: Server,
    b: Server,
    scratch: tempfile::TempDir,
}

fn cluster(width: &str) -> Cluster {
    let scratch = tempfile::tempdir().unwrap();
    let (dir_a, dir_b) = (scratch.path().join("a"), scratch.path().join("b"));
    copy(&golden(width).join("a"), &dir_a);
    copy(&golden(width).join("b"), &dir_b);
    let master = Server::builder().role(Role::Master).start();
    // More room than the copied volumes take, however small the disk.
    let a = master.volume_server().dir(&dir_a).flag("--max-volumes=100").start();
    await_admission(&master.master_url(), &volumes_of(&dir_a, ""));
    await_admission(&master.master_url(), &volumes_of(&dir_a, DOUBLED));
    let b = master.volume_server().dir(&dir_b).start();
    await_admission(&master.master_url(), &volumes_of(&dir_b, ""));
    Cluster { master, a, b, scratch }
}

pub(crate) fn await_admission(master_url: &str, ids: &[u64]) {
    assert!(!ids.is_empty());
    for id in ids {
        let lookup = format!("{master_url}/dir/lookup?volumeId={id}");
        eventually(&format!("volume {id} is admitted"), std::time::Duration::from_secs(30), || {
            (get(&lookup).status == 200).then_some(())
        });
    }
}

/// What can be read under the machine's clock.
fn lasting(width: &str) -> Vec<Expected> {
    let dir = golden(width);
    let mut brief = volumes_of(&dir.join("a"), EXPIRING);
    brief.extend(volumes_of(&dir.join("b"), EXPIRING));
    assert!(!brief.is_empty());
    let is_lasting = |one: &Expected| !brief.contains(&one.volume());
    expected(width).into_iter().filter(is_lasting).collect()
}

fn served_as_by_seaweedfs(width: &str) {
    let cluster = cluster(width);
    let expected = lasting(width);
    assert_served(&cluster.master.master_url(), &expected);
}

#[test]
fn volumes_with_4_byte_offsets_are_served_as_seaweedfs_served_them() {
    served_as_by_seaweedfs("offset4");
}

#[test]
fn volumes_with_5_byte_offsets_are_served_as_seaweedfs_served_them() {
    served_as_by_seaweedfs("offset5");
}

#[test]
fn the_second_copy_of_a_doubled_volume_is_left_untouched() {
    let mut cluster = cluster("offset4");
    let doubled = volumes_of(&golden("offset4").join("a"), DOUBLED);
    assert_served(&cluster.master.master_url(), &lasting("offset4"));
    assert!(cluster.b.terminate().success());
    for id in &doubled {
        for end in ["dat", "idx", "vif"] {
            let name = format!("{DOUBLED}_{id}.{end}");
            let original = std::fs::read(golden("offset4").join("b").join(&name)).unwrap();
            let copy = std::fs::read(cluster.scratch.path().join("b").join(&name)).unwrap();
            assert!(copy == original, "b/{name} was changed");
        }
        let lookup = get(&format!("{}/dir/lookup?volumeId={id}", cluster.master.master_url()));
        let locations = lookup.json()["locations"].as_array().unwrap().clone();
        assert_eq!(locations.len(), 1, "{}", lookup.text());
        let url = locations[0]["url"].as_str().unwrap();
        assert_eq!(format!("http://{url}"), cluster.a.volume_url());
    }
}

#[test]
fn an_admitted_volume_is_closed_and_new_ids_go_on_above_it() {
    let cluster = cluster("offset4");
    let status = get(&format!("{}/status", cluster.a.volume_url())).json();
    let volumes = status["Volumes"].as_array().unwrap();
    let doubled = volumes_of(&golden("offset4").join("a"), DOUBLED);
    for volume in volumes.iter().filter(|volume| volume["Collection"] == DOUBLED) {
        assert!(doubled.contains(&volume["Id"].as_u64().unwrap()));
        assert_eq!(volume["ReadOnly"], true, "{volume}");
        assert!(volume.to_string().contains("missing"), "no reason in {volume}");
    }
    let highest = volumes.iter().map(|volume| volume["Id"].as_u64().unwrap()).max().unwrap();
    for _ in 0..20 {
        let assigned =
            try_assign(&cluster.master, "").unwrap_or_else(|answer| panic!("{}", answer.text()));
        let (volume, _) = assigned.fid.split_once(',').unwrap();
        assert!(volume.parse::<u64>().unwrap() > highest, "{}", assigned.fid);
    }
}
