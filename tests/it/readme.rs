//! The documents, held to what they print: every shell block is run, in order, against the built
//! program, and every flag is described.
//!
//! Two substitutions are made: the built program stands for `cargo run --release --` and for
//! `target/release/dulse`, and free ports stand for the default ones.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{Role, Server, ServerBuilder, dulse, free_port, run};

/// Blocks that begin so are left to others: the first would run this test again.
const LEFT_OUT: [&str; 1] = ["cargo test --workspace"];
const RUN_PREFIX: &str = "cargo run --release -- ";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The contents of the fenced blocks marked `sh`.
fn shell_blocks(document: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let parts = text.split("\n```sh\n").skip(1);
    parts.map(|part| part.split("\n```\n").next().unwrap().to_owned()).collect()
}

/// A place with a README.md to upload, and what the document has started there.
struct Reader {
    scratch: tempfile::TempDir,
    servers: Vec<Server>,
}

impl Reader {
    fn follow(document: &str) {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::copy(root().join("README.md"), scratch.path().join("README.md")).unwrap();
        let mut reader = Self { scratch, servers: Vec::new() };
        let blocks = shell_blocks(document);
        assert!(blocks.len() >= 4, "{document} has lost its blocks");
        for block in blocks {
            if LEFT_OUT.iter().any(|left_out| block.starts_with(left_out)) {
                continue;
            }
            match block.strip_prefix(RUN_PREFIX) {
                Some(arguments) => reader.start(arguments),
                None => reader.run_script(&block),
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A server command, which has a block of its own.
    fn start(&mut self, arguments: &str) {
        assert_eq!(arguments.lines().count(), 1, "one command a block: {arguments}");
        let mut words = arguments.split_whitespace();
        let server = match words.next() {
            Some("server") => Server::builder(),
            Some("volume") => self.first().volume_server(),
            other => panic!("{other:?} does not go on running"),
        };
        let words: Vec<&str> = words.collect();
        let server = self.with_flags(server.no_dir(), &words);
        let data_home = self.path("data-home");
        let server = server.env("XDG_DATA_HOME", data_home.to_str().unwrap());
        self.servers.push(server.start());
    }

    fn with_flags(&self, mut server: ServerBuilder, words: &[&str]) -> ServerBuilder {
        let mut words = words.iter();
        while let Some(flag) = words.next() {
            let value = *words.next().unwrap();
            server = match *flag {
                // Another one is chosen.
                "--port" => {
                    assert!(value.parse::<u16>().is_ok());
                    server
                }
                "--dir" => server.flag(format!("--dir={}", self.path(value).display())),
                other => server.flag(format!("{other}={value}")),
            };
        }
        server
    }

    fn first(&self) -> &Server {
        self.servers.first().expect("the server is started first")
    }

    fn run_script(&self, block: &str) {
        let address = |url: String| url.trim_start_matches("http://").to_owned();
        let server = self.first();
        let script = block
            .replace("127.0.0.1:9333", &address(server.master_url()))
            .replace("127.0.0.1:8080", &address(server.volume_url()))
            .replace("target/release/dulse", env!("CARGO_BIN_EXE_dulse"));
        assert!(!script.contains("cargo "), "a server command needs its own block: {block}");
        let mut shell = Command::new("sh");
        shell.args(["-euc", &script]).current_dir(&self.scratch);
        shell.env("DULSE_MASTER", server.master_address());
        let output = run(&mut shell);
        assert!(
            output.status.success(),
            "{script}\n{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn the_readme_works_as_printed() {
    Reader::follow("README.md");
}

#[test]
fn the_quick_start_works_as_printed() {
    Reader::follow("docs/quick-start.md");
}

/// The default ports are what the documents say, though tests use others.
#[test]
fn the_default_ports_are_those_of_the_documents() {
    let help = help_of(Role::Server);
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for port in ["9333", "8080"] {
        assert!(help.contains(&format!("[default: {port}]")), "{help}");
        assert!(readme.contains(port));
    }
    assert_ne!(free_port(), 9333);
}

fn help_of(role: Role) -> String {
    let output = run(dulse().args([role.name(), "--help"]));
    String::from_utf8(output.stdout).unwrap()
}

/// Words that look like flags.
fn flags_in(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '-';
    let words = text.split(|c: char| !is_part(c));
    words.filter(|word| word.starts_with("--") && word.len() > 2).collect()
}

#[test]
fn the_operations_page_has_every_flag_under_its_roles_and_no_other() {
    let page = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    for (column, role) in [Role::Server, Role::Master, Role::Volume].into_iter().enumerate() {
        let help = help_of(role);
        let options = help.split("Options:").nth(1).unwrap();
        let lines = options.lines().filter_map(|line| line.trim_start().split(' ').next());
        let mut known: BTreeSet<&str> = lines.flat_map(flags_in).collect();
        known.remove("--help");
        let mut described = BTreeSet::new();
        for row in page.lines().filter(|line| line.starts_with("| `--")) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            if cells[2 + column] == "✓" {
                described.extend(flags_in(cells[1]));
            }
        }
        assert_eq!(described, known, "{role:?}");
    }
}
