//! Servers of the real program, each in its own directory on its own ports.
//!
//! Ports are chosen once and kept over restarts, so that addresses stay good after a kill. How a
//! process is started, waited for and killed is [`crate::process`]'s.

use std::{
    net::TcpListener,
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    process::Output,
    sync::atomic::{AtomicU16, Ordering},
};

pub use crate::process::{Process, dulse, eventually, run};

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
        Server { dir, process: Process::new(scratch, args).envs(self.envs) }
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

/// A server, with the process it runs in: whatever can be done to that can be done to it.
pub struct Server {
    dir: PathBuf,
    process: Process,
}

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
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
