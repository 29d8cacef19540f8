//! A cluster with a secret, as real processes: members work together, others are told why not.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use crate::{
    harness::{Role, Server, ServerBuilder, dulse, eventually, run},
    needles::Needles,
};

const LIMIT: Duration = Duration::from_secs(20);

/// A directory with the secret of one cluster and that of another.
struct Secrets {
    dir: tempfile::TempDir,
    ours: PathBuf,
    other: PathBuf,
}

impl Secrets {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name);
            let output = run(dulse().args(["cluster", "new-secret"]).arg(&path));
            assert!(output.status.success(), "{output:?}");
            path
        };
        let (ours, other) = (make("ours"), make("other"));
        Self { dir, ours, other }
    }
}

fn flag(secret: &Path) -> String {
    format!("--cluster-secret-file={}", secret.display())
}

fn member(role: Role, secret: &Path) -> ServerBuilder {
    Server::builder().role(role).flag(flag(secret))
}

fn client(master: &Server, args: &[&str], secret: Option<&Path>) -> Output {
    let mut command: Command = dulse();
    command.args(args).env("DULSE_MASTER", master.master_address());
    command.args(secret.map(flag));
    run(&mut command)
}

fn words(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

/// Waits until a server has logged a line with all of `parts`.
fn logged(server: &Server, parts: &[&str]) {
    let what = format!("a line of the log with {parts:?}");
    eventually(&what, LIMIT, || {
        let log = server.stderr();
        let is_it = |line: &str| parts.iter().all(|part| line.contains(part));
        log.lines().any(is_it).then_some(())
    });
}

#[test]
fn members_of_a_cluster_with_a_secret_work_together() {
    let secrets = Secrets::new();
    let master = member(Role::Master, &secrets.ours).start();
    let mut volume = member(Role::Volume, &secrets.ours).master_of(&master).start();
    let scratch = secrets.dir.path();
    let (file, back) = (scratch.join("file"), scratch.join("back"));
    std::fs::write(&file, "what was put").unwrap();
    let put = client(&master, &["put", "--json", file.to_str().unwrap()], None);
    let stored: serde_json::Value = serde_json::from_slice(&put.stdout).unwrap();
    let fid = stored["fid"].as_str().or(stored[0]["fid"].as_str()).unwrap();
    let got = client(&master, &["get", fid, "-o", back.to_str().unwrap()], None);
    assert!(got.status.success(), "{got:?}");
    assert_eq!(std::fs::read_to_string(&back).unwrap(), "what was put");
    assert_eq!(client(&master, &["delete", fid], None).status.code(), Some(0));

    let vacuum = ["volume", "vacuum", "--garbage-threshold=0"];
    let compacted = client(&master, &vacuum, Some(&secrets.ours));
    assert!(compacted.status.success(), "{compacted:?}");
    assert!(words(&compacted.stdout).contains("1 volume compacted"), "{compacted:?}");
    let scrubbed = client(&master, &["volume", "scrub"], Some(&secrets.ours));
    assert!(scrubbed.status.success(), "{scrubbed:?}");
    let by_master = crate::http::get(&format!("{}/vol/vacuum", master.master_url()));
    assert_eq!(by_master.status, 200, "{}", by_master.text());
    for (secret, part) in [(None, "pass that cluster's"), (Some(&*secrets.other), "another secret")]
    {
        let refused = client(&master, &vacuum, secret);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let said = words(&refused.stderr);
        assert!(said.contains(part) && said.contains("--cluster-secret-file"), "{said}");
        assert!(said.contains(&volume.volume_cluster_address()), "{said}");
    }
    assert!(volume.terminate().success());
}

#[test]
fn a_secret_that_differs_is_named_in_both_logs() {
    let secrets = Secrets::new();
    let master = member(Role::Master, &secrets.ours).start();
    let address = master.master_cluster_address();

    let other = member(Role::Volume, &secrets.other).master_of(&master).spawn();
    logged(&other, &[&address, "belongs to a cluster with another secret"]);
    logged(&master, &["127.0.0.1", "started with another --cluster-secret-file"]);

    let none = master.volume_server().spawn();
    logged(&none, &[&address, "pass that cluster's --cluster-secret-file"]);
    logged(&master, &["127.0.0.1", "started without a --cluster-secret-file"]);

    let open = Server::builder().role(Role::Master).start();
    let member = member(Role::Volume, &secrets.ours).master_of(&open).spawn();
    logged(&member, &[&open.master_cluster_address(), "started without a cluster secret"]);
    let servers = crate::http::get(&format!("{}/ui/status.json", master.master_url())).json();
    assert_eq!(servers["servers"].as_array().unwrap().len(), 0, "{servers}");
}

#[test]
fn a_whole_store_with_a_secret_listens_where_its_public_ports_do() {
    let secrets = Secrets::new();
    let config = secrets.dir.path().join("dulse.toml");
    let line = format!("cluster-secret-file = {:?}\n", secrets.ours.to_str().unwrap());
    std::fs::write(&config, line).unwrap();
    let builder = Server::builder().flag("--bind=0.0.0.0").flag("--advertise=127.0.0.1");
    let mut server = builder.flag(format!("--config={}", config.display())).start();
    for cluster in [server.master_cluster_address(), server.volume_cluster_address()] {
        assert!(cluster.starts_with("0.0.0.0:"), "{cluster}");
    }
    let mut needles = Needles::default();
    needles.put(&server, b"over TLS");
    // Another one joins by the advertised address, told the secret in its environment.
    let port = server.master_cluster_address().rsplit(':').next().unwrap().to_owned();
    let master = server.master_url().trim_start_matches("http://").to_owned();
    let second = Server::builder()
        .role(Role::Volume)
        .flag(format!("--master={master}.{port}"))
        .env("DULSE_CLUSTER_SECRET_FILE", secrets.ours.to_str().unwrap())
        .start();
    drop(second);
    assert!(server.terminate().success());
    server.restart();
    needles.assert_kept(&server);
}

#[test]
fn without_a_secret_the_cluster_port_stays_on_loopback_and_the_log_says_so() {
    let builder = Server::builder().flag("--bind=0.0.0.0").flag("--advertise=127.0.0.1");
    let server = builder.start();
    for cluster in [server.master_cluster_address(), server.volume_cluster_address()] {
        assert!(cluster.starts_with("127.0.0.1:"), "{cluster}");
    }
    let log = server.stderr();
    assert_eq!(log.matches("on loopback only").count(), 1, "{log}");
    assert!(log.contains("dulse cluster new-secret"), "{log}");
    let local = Server::builder().start();
    assert!(!local.stderr().contains("on loopback only"), "{}", local.stderr());
}

#[test]
fn a_secret_is_made_once_for_its_owner_alone() {
    let secrets = Secrets::new();
    let made = std::fs::read(&secrets.ours).unwrap();
    let mode = std::fs::metadata(&secrets.ours).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    assert_ne!(made, std::fs::read(&secrets.other).unwrap());
    let again = run(dulse().args(["cluster", "new-secret"]).arg(&secrets.ours));
    assert_eq!(again.status.code(), Some(1));
    let said = words(&again.stderr);
    assert!(said.contains("is there already") && said.lines().count() == 1, "{said}");
    assert_eq!(std::fs::read(&secrets.ours).unwrap(), made);
    let by_default = run(dulse().args(["cluster", "new-secret"]).current_dir(&secrets.dir));
    assert!(words(&by_default.stdout).contains("--cluster-secret-file"), "{by_default:?}");
    assert!(secrets.dir.path().join("cluster.secret").exists());
}

#[test]
fn a_secret_file_that_cannot_be_used_is_named_with_the_remedy() {
    let secrets = Secrets::new();
    let text = std::fs::read_to_string(&secrets.ours).unwrap();
    let refusal = |content: &[u8], part: &str| {
        let file = secrets.dir.path().join("bad");
        std::fs::write(&file, content).unwrap();
        let output = member(Role::Master, &file).run_to_exit();
        let said = words(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        let error = said.lines().find(|line| line.starts_with("error: ")).unwrap();
        for part in [part, file.to_str().unwrap(), "dulse cluster new-secret"] {
            assert!(error.contains(part), "{said}");
        }
    };
    refusal(&text.as_bytes()[..50], "cut off");
    refusal(b"", "empty");
    refusal(b"\xff\xfe a key of another program", "no cluster secret");
    let output = member(Role::Master, &secrets.dir.path().join("none")).run_to_exit();
    assert!(words(&output.stderr).contains("No such file"), "{output:?}");

    std::fs::set_permissions(&secrets.ours, std::fs::Permissions::from_mode(0o640)).unwrap();
    let master = member(Role::Master, &secrets.ours).start();
    let remedy = format!("chmod 600 {}", secrets.ours.display());
    logged(&master, &["WARN", &remedy]);
}
