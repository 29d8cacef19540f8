//! Runs the real program: each server in its own directory on its own ports, waited for with a
//! deadline, killed with its test.
//!
//! A server's output goes to files, one pair a start; they are printed when a test fails. Ports
//! are chosen once and kept over restarts, so that addresses stay good after a kill.

#![allow(dead_code, reason = "not every test uses every convenience of the harness")]

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread::sleep,
    time::Duration,
};

use dulse_shared::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A server that is not ready after this long is broken, however slow the machine.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Draining takes at most 10 s; the rest is for a busy machine.
const EXIT_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(2);

/// The built program.
pub fn dulse() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dulse"));
    // What the developer has set must not reach the tests.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DULSE_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG");
    command
}

/// Runs a command to its end; panics if that takes longer than [`EXIT_LIMIT`].
pub fn run(command: &mut Command) -> Output {
    let scratch = tempfile::tempdir().unwrap();
    let (out, err) = (scratch.path().join("out"), scratch.path().join("err"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let status = wait(&mut child, EXIT_LIMIT).unwrap_or_else(|| {
        child.kill().unwrap();
        let text = std::fs::read_to_string(&err).unwrap();
        panic!("{command:?} did not end within {EXIT_LIMIT:?}:\n{text}");
    });
    Output { status, stdout: std::fs::read(out).unwrap(), stderr: std::fs::read(err).unwrap() }
}

/// Calls `probe` until it gives something; panics with `what` when `limit` has passed.
pub fn eventually<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let clock = Clock::System;
    let start = clock.boot();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(clock.since(start) < limit, "not within {limit:?}: {what}");
        sleep(POLL);
    }
}

/// A port nobody listens on, below those that the kernel gives to outgoing connections, and
/// given out once in this process.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        // Processes that run side by side start far from each other.
        let start = u16::try_from(std::process::id() % 200).unwrap() * 100;
        let port = 10_000 + (start + n) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let clock = Clock::System;
    let start = clock.boot();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if clock.since(start) >= limit {
            return None;
        }
        sleep(POLL);
    }
}

/// Which servers a process runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// `dulse server`: both.
    Server,
    /// `dulse master`.
    Master,
    /// `dulse volume`.
    Volume,
}

/// What a server is started with.
pub struct ServerBuilder {
    role: Role,
    flags: Vec<String>,
    envs: Vec<(String, String)>,
    dir: Option<PathBuf>,
    has_dir: bool,
    chooses_ports: bool,
    ports: Vec<(&'static str, u16)>,
}

impl ServerBuilder {
    /// Another role than `dulse server`.
    pub fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// One more argument: `--name`, or `--name=value`.
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.envs.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A data directory that outlives the server, instead of one that goes with it.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Joins the cluster of `server`.
    pub fn master_of(self, server: &Server) -> Self {
        let address = server.master_address();
        self.flag(format!("--master={address}"))
    }

    /// This port instead of a chosen one: `port`, `master-cluster-port` and so on.
    pub fn port(mut self, name: &'static str, port: u16) -> Self {
        self.ports.push((name, port));
        self
    }

    /// Adds no ports: the flags have them, or the defaults are meant.
    pub fn default_ports(mut self) -> Self {
        self.chooses_ports = false;
        self
    }

    /// No `--dir`: it comes from elsewhere.
    pub fn no_dir(mut self) -> Self {
        self.has_dir = false;
        self
    }

    /// Starts the program and waits until it says that it is ready.
    pub fn start(self) -> Server {
        let mut server = self.prepare();
        server.spawn();
        server.await_ready();
        server
    }

    /// Starts the program without waiting for anything.
    pub fn spawn(self) -> Server {
        let mut server = self.prepare();
        server.spawn();
        server
    }

    /// Starts a program that is expected to give up by itself, and waits for that.
    pub fn run_to_exit(self) -> Output {
        let mut server = self.prepare();
        server.spawn();
        let status = server.wait_for_exit();
        Output {
            status,
            stdout: server.stdout().into_bytes(),
            stderr: server.stderr().into_bytes(),
        }
    }

    fn prepare(self) -> Server {
        let scratch = tempfile::tempdir().unwrap();
        let dir = self.dir.unwrap_or_else(|| scratch.path().join("data"));
        let mut args = vec![self.role.name().to_owned()];
        if self.has_dir {
            args.push(format!("--dir={}", dir.display()));
        }
        let names = self.role.port_names().iter();
        for name in names.filter(|_| self.chooses_ports) {
            let asked_for = self.ports.iter().find(|(asked_for, _)| asked_for == name);
            let port = asked_for.map_or_else(free_port, |(_, port)| *port);
            args.push(format!("--{name}={port}"));
        }
        args.extend(self.flags);
        Server { role: self.role, args, envs: self.envs, dir, scratch, starts: 0, child: None }
    }
}

impl Role {
    /// The sub-command.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Master => "master",
            Self::Volume => "volume",
        }
    }

    fn port_names(self) -> &'static [&'static str] {
        match self {
            Self::Server => {
                &["master-port", "master-cluster-port", "volume-port", "volume-cluster-port"]
            }
            Self::Master | Self::Volume => &["port", "cluster-port"],
        }
    }
}

/// A process of the program; killed when dropped.
pub struct Server {
    role: Role,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    dir: PathBuf,
    scratch: TempDir,
    starts: u32,
    child: Option<Child>,
}

impl Server {
    /// `dulse server` with a directory and ports of its own.
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            role: Role::Server,
            flags: Vec::new(),
            envs: Vec::new(),
            dir: None,
            has_dir: true,
            chooses_ports: true,
            ports: Vec::new(),
        }
    }

    /// `dulse volume` that joins the cluster of this server.
    pub fn volume_server(&self) -> ServerBuilder {
        Self::builder().role(Role::Volume).master_of(self)
    }

    /// `http://host:port` of the master's public port.
    pub fn master_url(&self) -> String {
        self.announced("master")
    }

    /// `http://host:port` of the volume server's public port.
    pub fn volume_url(&self) -> String {
        self.announced("volume server")
    }

    /// `host:port.clusterport` of the master, as `--master` takes it.
    pub fn master_address(&self) -> String {
        let url = self.master_url();
        let cluster = self.master_cluster_address();
        let port = cluster.rsplit(':').next().unwrap();
        format!("{}.{port}", url.trim_start_matches("http://"))
    }

    /// `host:port` of the master's cluster port.
    pub fn master_cluster_address(&self) -> String {
        self.announced_cluster("master")
    }

    /// `host:port` of the volume server's cluster port.
    pub fn volume_cluster_address(&self) -> String {
        self.announced_cluster("volume server")
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The process' id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// What the last start has said on stdout so far.
    pub fn stdout(&self) -> String {
        std::fs::read_to_string(self.output_path("out")).unwrap()
    }

    /// What the last start has said on stderr so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.output_path("err")).unwrap()
    }

    /// Ends the process at once, as a crash would.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks the process to stop and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_for_exit()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until the process ends by itself.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        wait(&mut child, EXIT_LIMIT).unwrap_or_else(|| {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the server did not end within {EXIT_LIMIT:?}");
        })
    }

    /// Starts a stopped or killed server again, with the same flags, ports and directory.
    pub fn restart(&mut self) {
        self.spawn();
        self.await_ready();
    }

    /// [`Server::restart`] without waiting.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        self.starts += 1;
        let child = dulse()
            .args(&self.args)
            .envs(self.envs.iter().cloned())
            .stdin(Stdio::null())
            .stdout(File::create(self.output_path("out")).unwrap())
            .stderr(File::create(self.output_path("err")).unwrap())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Waits for the ready line of the last start.
    pub fn await_ready(&mut self) {
        let clock = Clock::System;
        let start = clock.boot();
        while !self.stdout().lines().any(|line| line == "ready") {
            let ended = self.child.as_mut().expect("it runs").try_wait().unwrap();
            if let Some(status) = ended {
                panic!("the server ended ({status}) before it was ready");
            }
            assert!(
                clock.since(start) < READY_LIMIT,
                "the server was not ready within {READY_LIMIT:?}"
            );
            sleep(POLL);
        }
    }

    fn output_path(&self, stream: &str) -> PathBuf {
        let name = format!("{}.{stream}", self.starts);
        self.scratch.path().join(name)
    }

    /// The line `NAME   URL   cluster port ADDRESS`.
    fn announcement(&self, name: &str) -> String {
        let stdout = self.stdout();
        let mut lines = stdout.lines();
        let line = lines.find(|line| line.starts_with(name) && line.contains("http://"));
        line.unwrap_or_else(|| panic!("no {name} announced in:\n{stdout}")).to_owned()
    }

    fn announced(&self, name: &str) -> String {
        let line = self.announcement(name);
        let mut words = line.split_whitespace();
        words.find(|word| word.starts_with("http://")).unwrap().to_owned()
    }

    fn announced_cluster(&self, name: &str) -> String {
        let line = self.announcement(name);
        line.split_whitespace().last().unwrap().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            self.print_output();
        }
    }
}

impl Server {
    fn print_output(&self) {
        eprintln!("==== dulse {}", self.args.join(" "));
        for start in 1..=self.starts {
            for stream in ["out", "err"] {
                let path = self.scratch.path().join(format!("{start}.{stream}"));
                let text = std::fs::read_to_string(path).unwrap_or_default();
                eprintln!("---- start {start}, std{stream}\n{text}");
            }
        }
    }
}
