//! A server started without one of its directories, or with a volume that cannot be opened, serves all
//! else and says what is missing wherever one would look; when it is back, so are its needles.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use reqwest::Method;
use serde_json::Value;

use crate::{
    harness::{Role, Server, dulse, eventually, run},
    http::{self, get},
    needles::{Needles, assign, body, try_assign},
};

/// Several heartbeats on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// Volumes of each directory that have needles, at least.
const VOLUMES_EACH: usize = 2;

/// A way to lose a directory.
type Way<'a> = &'a dyn Fn(&Path);

/// A master and a volume server on two directories, with needles in both.
struct Site {
    scratch: tempfile::TempDir,
    master: Server,
    volume: Server,
    needles: Vec<(String, Vec<u8>)>,
}

impl Site {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let master = Server::builder().role(Role::Master).start();
        let builder = master.volume_server().no_dir().flag("--max-volumes=9,2");
        // What grows at first fills the second directory and goes on in the first.
        let dir = |name: &str| format!("--dir={}", scratch.path().join(name).display());
        let volume = builder.flag(dir("a")).flag(dir("b")).start();
        let mut site = Self { scratch, master, volume, needles: Vec::new() };
        // Volumes take turns, each of which is longer than several of these take.
        eventually("needles lie in several volumes of both", SOON, || {
            site.put();
            let has_enough = |name| site.ids_in(name).len() >= VOLUMES_EACH;
            ["a", "b"].into_iter().all(has_enough).then_some(())
        });
        site
    }

    fn put(&mut self) {
        let (assigned, bytes) = (assign(&self.master), body(self.needles.len() as u64, 500));
        assert_eq!(http::send(Method::PUT, &assigned.url, &[], bytes.clone()).status, 201);
        self.needles.push((assigned.fid, bytes));
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The volumes in a directory that have needles: what is left of an empty one counts for nothing.
    fn ids_in(&self, name: &str) -> Vec<u64> {
        let names = fs::read_dir(self.dir(name)).unwrap().map(|entry| entry.unwrap().file_name());
        let id = |name: String| name.strip_suffix(".dat")?.parse().ok();
        let ids = names.filter_map(|name| id(name.into_string().unwrap()));
        let has_needle = |id: &u64| self.needles.iter().any(|(fid, _)| volume_of(fid) == *id);
        ids.filter(has_needle).collect()
    }

    fn dat(&self, name: &str, id: u64) -> PathBuf {
        self.dir(name).join(format!("{id}.dat"))
    }

    /// Stops the server, changes its directories, and starts it again.
    fn restart_after(&mut self, change: impl FnOnce(&Self)) {
        assert!(self.volume.terminate().success());
        change(self);
        self.volume.restart();
    }

    fn status(&self) -> Value {
        get(&format!("{}/status", self.volume.volume_url())).json()
    }

    /// Reads every needle from the volume server: those in `served` volumes are whole, others are an
    /// error of one kind and never wrong bytes.
    fn assert_served(&self, served: &[u64], other_status: u16, other_code: &str) {
        for (fid, bytes) in &self.needles {
            let answer = get(&format!("{}/{fid}", self.volume.volume_url()));
            if served.contains(&volume_of(fid)) {
                assert_eq!(answer.status, 200, "{fid}: {}", answer.text());
                assert!(answer.body == *bytes, "{fid}: other bytes than were stored");
            } else {
                answer.error(other_status, other_code);
            }
        }
    }

    /// The sentences of the cluster's health with this code, once there are `count`.
    fn findings(&self, code: &str, count: usize) -> Vec<String> {
        eventually("the master says so", SOON, || {
            let page = get(&format!("{}/ui/status.json", self.master.master_url())).json();
            let all = page["health"]["findings"].as_array().unwrap().clone();
            let of_code = all.iter().filter(|finding| finding["code"] == code);
            let found: Vec<String> =
                of_code.map(|f| f["sentence"].as_str().unwrap().to_owned()).collect();
            (found.len() == count).then_some(found)
        })
    }

    /// What `dulse status` prints.
    fn printed_status(&self) -> String {
        let mut command: Command = dulse();
        command.arg("status").env("DULSE_MASTER", self.master.master_address());
        let output = run(&mut command);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The server is alive and ready, and takes a new needle.
    fn assert_goes_on(&self) {
        let ready = get(&format!("{}/readyz", self.volume.volume_url()));
        assert_eq!(ready.status, 200, "{}", ready.text());
        let mut needles = Needles::default();
        let assigned = eventually("a fid is assigned", SOON, || try_assign(&self.master, "").ok());
        let answer = http::send(Method::PUT, &assigned.url, &[], b"meanwhile".to_vec());
        assert_eq!(answer.status, 201, "{}", answer.text());
        needles.note(&assigned.fid, b"meanwhile");
        needles.assert_kept(&self.master);
    }
}

fn volume_of(fid: &str) -> u64 {
    fid.split_once(',').unwrap().0.parse().unwrap()
}

fn files_below(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn without_a_directory_the_other_is_served_and_with_it_again_both_are() {
    let mut site = Site::new();
    let (in_a, in_b) = (site.ids_in("a"), site.ids_in("b"));
    // Gone with its mount point, the mount point without its disk, and something that cannot be read.
    let ways: [(Way<'_>, &str); 3] = [
        (&|_| {}, "dulse.json"),
        (&|b| fs::create_dir(b).unwrap(), "dulse.json"),
        (&|b| fs::write(b, "not a directory").unwrap(), "check --dir"),
    ];
    for (way, reason) in ways {
        site.restart_after(|site| {
            fs::rename(site.dir("b"), site.dir("kept")).unwrap();
            way(&site.dir("b"));
        });
        let b = site.dir("b").display().to_string();
        let status = site.status();
        let disks = status["DiskStatuses"].as_array().unwrap();
        assert!(disks[0]["reason"].is_null(), "{status}");
        let said = disks[1]["reason"].as_str().unwrap();
        assert!(disks[1]["dir"] == b.as_str() && said.contains(reason), "{status}");
        let banner = site.volume.stdout();
        assert!(banner.contains(&format!("{b}   cannot be used: {said}")), "{banner}");
        let sentences = site.findings("DIRECTORY_FAILED", 1);
        assert!(sentences[0].contains(&b) && sentences[0].contains(said), "{sentences:?}");
        let printed = site.printed_status();
        assert!(printed.contains("cannot be used") && printed.contains(&b), "{printed}");
        site.assert_served(&in_a, 404, "volume_not_found");
        site.assert_goes_on();
        if site.dir("b").is_dir() {
            assert_eq!(files_below(&site.dir("b")), 0, "a mount point is not written to");
        }
        site.restart_after(|site| {
            let b = site.dir("b");
            match fs::metadata(&b) {
                Ok(found) if found.is_dir() => fs::remove_dir(&b).unwrap(),
                Ok(_) => fs::remove_file(&b).unwrap(),
                Err(_) => {}
            }
            fs::rename(site.dir("kept"), b).unwrap();
        });
        assert!(site.status()["DiskStatuses"][1]["reason"].is_null());
        let all: Vec<u64> = in_a.iter().chain(&in_b).copied().collect();
        site.assert_served(&all, 404, "volume_not_found");
        site.findings("DIRECTORY_FAILED", 0);
        site.assert_goes_on();
    }
}

#[test]
fn a_volume_that_cannot_be_opened_takes_only_itself() {
    let mut site = Site::new();
    let (in_a, in_b) = (site.ids_in("a"), site.ids_in("b"));
    let (damaged, lost) = (in_a[0], in_b[0]);
    let mut served: Vec<u64> = in_a[1..].iter().chain(&in_b[1..]).copied().collect();
    let (dat, kept) = (site.dat("b", lost), site.scratch.path().join("lost.dat"));
    site.restart_after(|site| {
        let damaged = site.dat("a", damaged);
        let mut bytes = fs::read(&damaged).unwrap();
        // A version that does not exist.
        bytes[0] = 0x7F;
        fs::write(&damaged, bytes).unwrap();
        fs::rename(&dat, &kept).unwrap();
    });
    let unserved = site.status()["Unserved"].as_array().unwrap().clone();
    let reason_of = |id: u64| {
        let of_it = unserved.iter().find(|volume| volume["Id"] == id).unwrap();
        of_it["Reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(unserved.len(), 2, "{unserved:?}");
    assert!(reason_of(damaged).contains("superblock"), "{unserved:?}");
    assert!(reason_of(lost).contains(&format!("{lost}.dat is missing")), "{unserved:?}");
    let sentences = site.findings("VOLUME_NOT_SERVED", 2);
    for id in [damaged, lost] {
        assert!(
            sentences.iter().any(|sentence| sentence.contains(&reason_of(id))),
            "{sentences:?}"
        );
    }
    let printed = site.printed_status();
    assert_eq!(printed.matches("not served: ").count(), 2, "{printed}");
    assert!(printed.contains(", 2 not served\n"), "{printed}");
    site.assert_served(&served, 503, "volume_unavailable");
    for id in [damaged, lost] {
        let fid = site.needles.iter().map(|(fid, _)| fid).find(|fid| volume_of(fid) == id).unwrap();
        let url = format!("{}/{fid}", site.volume.volume_url());
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let answer = http::send(method, &url, &[], b"new".to_vec());
            answer.error(503, "volume_unavailable");
            assert!(answer.text().contains(&reason_of(id)), "{}", answer.text());
        }
        let looked = get(&format!("{}/dir/lookup?volumeId={id}", site.master.master_url()));
        looked.error(503, "volume_unavailable");
        let says = looked.text();
        assert!(says.contains("cannot serve it") && says.contains(&reason_of(id)), "{says}");
    }
    site.assert_goes_on();

    // What was lost is put back; the other stays as it is.
    site.restart_after(|_| fs::rename(&kept, &dat).unwrap());
    site.findings("VOLUME_NOT_SERVED", 1);
    served.push(lost);
    site.assert_served(&served, 503, "volume_unavailable");
}

#[test]
fn a_volume_file_that_lies_in_two_directories_is_read_and_not_written_until_one_is_moved_away() {
    let mut site = Site::new();
    let mut all = site.ids_in("a");
    all.extend(site.ids_in("b"));
    let id = site.ids_in("b")[0];
    let files = |dir: &Path| -> Vec<PathBuf> {
        let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let prefix = format!("{id}.");
        let is_of_it =
            |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&prefix);
        paths.filter(is_of_it).collect()
    };
    let kept = site.scratch.path().join("kept");
    fs::create_dir(&kept).unwrap();
    site.restart_after(|site| {
        for path in files(&site.dir("b")) {
            fs::copy(&path, kept.join(path.file_name().unwrap())).unwrap();
        }
    });
    // The copy is the older one from here on.
    let at = site.needles.iter().position(|(fid, _)| volume_of(fid) == id).unwrap();
    let url = format!("{}/{}", site.volume.volume_url(), site.needles[at].0);
    site.needles[at].1 = b"written after it was copied".to_vec();
    let answer = http::send(Method::PUT, &url, &[], site.needles[at].1.clone());
    assert_eq!(answer.status, 201, "{}", answer.text());
    site.restart_after(|site| {
        for path in files(&kept) {
            fs::copy(&path, site.dir("a").join(path.file_name().unwrap())).unwrap();
        }
    });
    let (older, newer) = (site.dat("a", id), site.dat("b", id));
    let names_both = |reason: &str| {
        let parts = [older.display().to_string(), newer.display().to_string()];
        parts.iter().all(|part| reason.contains(part)) && reason.contains("move one away")
    };
    let status = site.status();
    let volumes = status["Volumes"].as_array().unwrap();
    let of_it = volumes.iter().find(|volume| volume["Id"] == id).unwrap();
    assert!(of_it["ReadOnly"] == true && names_both(of_it["Reason"].as_str().unwrap()), "{of_it}");
    assert!(names_both(status["Unserved"][0]["Reason"].as_str().unwrap()), "{status}");
    let findings = site.findings("VOLUME_DUPLICATE", 2);
    assert!(findings.iter().any(|sentence| names_both(sentence)), "{findings:?}");
    site.assert_served(&all, 404, "volume_not_found");
    let answer = http::send(Method::PUT, &url, &[], b"refused".to_vec());
    assert!(answer.status >= 400 && answer.text().contains("another file"), "{}", answer.text());
    site.assert_goes_on();

    site.restart_after(|site| {
        files(&site.dir("a")).iter().for_each(|path| fs::remove_file(path).unwrap());
    });
    site.findings("VOLUME_DUPLICATE", 0);
    site.assert_served(&all, 404, "volume_not_found");
    let answer = http::send(Method::PUT, &url, &[], b"written again".to_vec());
    assert_eq!(answer.status, 201, "{}", answer.text());
}
