//! Each data directory of a server holds and leaves free what was said of it, whichever way it was
//! said.

use std::{path::Path, time::Duration};

use serde_json::Value;

use crate::{
    harness::{Role, Server, ServerBuilder, eventually},
    http::{self, get},
    needles::{Needles, body, try_assign},
};

/// Several heartbeats on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// Four needles fill a volume of one megabyte.
const NEEDLE_BYTES: usize = 300_000;

/// A way to tell a server its limits.
type Way<'a> = &'a dyn Fn(ServerBuilder) -> ServerBuilder;

fn master() -> Server {
    Server::builder().role(Role::Master).flag("--volume-size-limit=1MB").start()
}

/// A volume server on `a` and `b` below a directory.
fn on_two(master: &Server, below: &Path) -> ServerBuilder {
    let dirs = ["a", "b"].map(|name| format!("--dir={}", below.join(name).display()));
    dirs.into_iter().fold(master.volume_server().no_dir(), ServerBuilder::flag)
}

fn disks(volume: &Server) -> Vec<Value> {
    let status = get(&format!("{}/status", volume.volume_url())).json();
    status["DiskStatuses"].as_array().unwrap().clone()
}

fn numbers(disks: &[Value], field: &str) -> Vec<u64> {
    disks.iter().map(|disk| disk[field].as_u64().unwrap()).collect()
}

/// Volumes that `/status` calls read-only.
fn read_only_count(volume: &Server) -> usize {
    let status = get(&format!("{}/status", volume.volume_url())).json();
    let volumes = status["Volumes"].as_array().unwrap();
    volumes.iter().filter(|volume| volume["ReadOnly"] == true).count()
}

fn volume_files(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".dat")).count()
}

/// Puts needles until assign says that there is no room.
fn fill(master: &Server) -> Needles {
    let mut needles = Needles::default();
    let mut seed = 0;
    eventually("there is no room left", SOON, || {
        seed += 1;
        match try_assign(master, "") {
            Ok(assigned) => {
                let bytes = body(seed, NEEDLE_BYTES);
                let answer = http::send(reqwest::Method::PUT, &assigned.url, &[], bytes.clone());
                match answer.status {
                    201 => needles.note(&assigned.fid, &bytes),
                    // It filled up since it was assigned.
                    507 => {}
                    other => panic!("{other}: {}", answer.text()),
                }
                None
            }
            Err(answer) => (answer.status == 503).then_some(()),
        }
    });
    needles
}

#[test]
fn one_directory_fills_its_slots_and_the_other_goes_on() {
    let scratch = tempfile::tempdir().unwrap();
    let master = master();
    let volume = on_two(&master, scratch.path()).flag("--max-volumes=5,1").start();
    assert_eq!(numbers(&disks(&volume), "max_volumes"), [5, 1]);
    let needles = fill(&master);
    let disks = disks(&volume);
    assert_eq!(numbers(&disks, "volumes"), [5, 1]);
    let files = ["a", "b"].map(|name| volume_files(&scratch.path().join(name)));
    assert_eq!(files, [5, 1], "{disks:?}");
    assert!(needles.len() >= 6 * 3, "{} needles fit", needles.len());
    needles.assert_kept(&master);

    let metrics = get(&format!("{}/metrics", volume.volume_url())).text();
    let full = read_only_count(&volume);
    let line = format!("dulse_store_volumes_read_only{{reason=\"full\"}} {full}");
    assert!(full > 0 && metrics.lines().any(|other| other == line), "{line} in {metrics}");
    let none = "dulse_store_volumes_read_only{reason=\"failed\"} 0";
    assert!(metrics.lines().any(|line| line == none), "{metrics}");
}

#[test]
fn a_directory_that_has_to_leave_more_free_gets_nothing_and_the_other_everything() {
    let scratch = tempfile::tempdir().unwrap();
    let master = master();
    let flags = ["--max-volumes=2", "--min-free-space=100%,0"];
    let volume = on_two(&master, scratch.path()).flag(flags[0]).flag(flags[1]).start();
    let disks = disks(&volume);
    let total = numbers(&disks, "all");
    assert_eq!(numbers(&disks, "min_free"), [total[0], 0]);
    assert_eq!(numbers(&disks, "max_volumes"), [2, 2], "one value is for both");
    let stdout = volume.stdout();
    let lines: Vec<&str> = stdout.lines().filter(|line| line.starts_with("data ")).collect();
    assert!(lines[0].contains("too little for new data, 0 of 2 volumes"), "{stdout}");
    assert!(lines[1].contains("of which 0B stay so, 0 of 2 volumes"), "{stdout}");
    let metrics = get(&format!("{}/metrics", volume.volume_url())).text();
    for (name, min_free) in [("a", total[0]), ("b", 0)] {
        let of = format!("{{dir=\"{}\"}} ", scratch.path().join(name).display());
        let value = |metric: &str| -> u64 {
            let line =
                metrics.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(&of));
            line.unwrap_or_else(|| panic!("no {metric}{of} in {metrics}")).parse().unwrap()
        };
        assert_eq!(value("dulse_disk_min_free_bytes"), min_free);
        assert!((1..=total[0]).contains(&value("dulse_disk_free_bytes")), "{metrics}");
    }
    fill(&master).assert_kept(&master);
    let files = ["a", "b"].map(|name| volume_files(&scratch.path().join(name)));
    assert_eq!(files, [0, 2]);
}

#[test]
fn lists_are_understood_from_environment_file_and_in_the_spelling_of_others() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let master = master();
    for (name, file) in [
        ("text.toml", "max-volumes = \"3,4\"\nmin_free.space = \"1%,10MB\"\n"),
        ("list.toml", "max-volumes = [3, 4]\nmin-free-space = [\"1%\", \"10MB\"]\n"),
    ] {
        std::fs::write(path(name), file).unwrap();
    }
    let ways: [Way<'_>; 4] = [
        &|builder| builder.env("DULSE_MAX_VOLUMES", "3,4").env("DULSE_MIN_FREE_SPACE", "1%,10MB"),
        &|builder| builder.flag(format!("--config={}", path("text.toml"))),
        &|builder| builder.flag(format!("--config={}", path("list.toml"))),
        &|builder| builder.flag("-max=3,4").flag("-minFreeSpace=1,10MiB"),
    ];
    for (at, way) in ways.iter().enumerate() {
        let dirs = ["a", "b"].map(|name| path(&format!("{at}-{name}"))).join(",");
        let builder = master.volume_server().no_dir().flag(format!("-dir={dirs}"));
        let volume = way(builder.flag("-disk=hdd,ssd")).start();
        let disks = disks(&volume);
        assert_eq!(numbers(&disks, "max_volumes"), [3, 4], "{at}");
        let total = numbers(&disks, "all");
        assert_eq!(numbers(&disks, "min_free"), [total[0] / 100, 10 << 20], "{at}");
        assert_eq!(
            (&disks[0]["disk_type"], &disks[1]["disk_type"]),
            (&"hdd".into(), &"ssd".into())
        );
        let page = get(&volume.volume_url()).text();
        assert!(page.contains("of 3</td>") && page.contains("of 4</td>"), "{page}");
    }
}
