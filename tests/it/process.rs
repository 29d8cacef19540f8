//! A process of the program: its output in files, waited for with a deadline, killed when dropped.
//!
//! `tests/rig` is compiled with this file too, so that the program is started in one way. Output
//! goes to one pair of files a start; it is printed when a test fails. What a server is started
//! with, and where it listens, is for those who start it.

#![allow(dead_code, reason = "neither binary uses every convenience")]

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
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
const PROGRAM: &str = env!("CARGO_BIN_EXE_dulse");

/// The built program.
pub fn dulse() -> Command {
    without_settings(Command::new(PROGRAM))
}

/// What the developer has set must not reach the tests.
fn without_settings(mut command: Command) -> Command {
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

/// A process of the program, started any number of times with the same arguments.
pub struct Process {
    /// What runs the program: its words come before the program's path.
    prefix: Vec<String>,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    scratch: TempDir,
    starts: u32,
    child: Option<Child>,
}

impl Process {
    /// A process that is not started yet; `scratch` is for its output, and goes with it.
    pub fn new(scratch: TempDir, args: Vec<String>) -> Self {
        Self { prefix: Vec::new(), args, envs: Vec::new(), scratch, starts: 0, child: None }
    }

    /// The same, with environment variables.
    pub fn envs(mut self, envs: Vec<(String, String)>) -> Self {
        self.envs = envs;
        self
    }

    /// The same, run by another program, which has to become it: its process id is ours to kill.
    pub fn run_by(mut self, prefix: Vec<String>) -> Self {
        self.prefix = prefix;
        self
    }

    /// The process' id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Whether it was started and neither killed nor waited for since.
    pub fn is_started(&self) -> bool {
        self.child.is_some()
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

    /// [`Process::restart`] without waiting.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        self.starts += 1;
        let child = self
            .command()
            .args(&self.args)
            .envs(self.envs.iter().cloned())
            .stdin(Stdio::null())
            .stdout(File::create(self.output_path("out")).unwrap())
            .stderr(File::create(self.output_path("err")).unwrap())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    fn command(&self) -> Command {
        let Some((runner, words)) = self.prefix.split_first() else {
            return dulse();
        };
        let mut command = without_settings(Command::new(runner));
        command.args(words).arg(PROGRAM);
        command
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

impl Drop for Process {
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
