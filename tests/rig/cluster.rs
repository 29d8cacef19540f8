//! Masters and volume servers as processes, each in a namespace of its own.
//!
//! Masters are named `m1`, `m2`, …, volume servers `v1`, … and processes that are both `s1`, ….
//! Each has default ports at its own address, and they know each other by a cluster secret. A
//! process dies with the thread that starts it, so one thread starts all of a cluster.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    fault::{Target, Ways},
    history::Stopwatch,
    http::Http,
    network::{Network, Way},
    process::{Process, dulse, eventually, run},
};

const CLIENT: &str = "client";
const MASTER_PORT: u16 = 9333;
/// Elections take under a second and a half, a start less; the rest is for a busy machine.
const WHOLE_LIMIT: Duration = Duration::from_secs(30);
/// A master that the leader heard this lately is there: it hears each several times in that.
const HEARD_MS: u64 = 300;
/// A leader that thinks all are there for so long has heard each of them meanwhile: at first it
/// may go by what it heard of a process that is gone.
const SETTLED: Duration = Duration::from_millis(2 * HEARD_MS);

/// How many processes of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layout {
    /// `dulse master`.
    pub masters: usize,
    /// `dulse volume`.
    pub volume_servers: usize,
    /// `dulse server`: both.
    pub both: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Master,
    Volume,
    Both,
}

struct Node {
    name: String,
    role: Role,
    address: String,
    dir: std::path::PathBuf,
    process: Process,
}

/// All servers of a cluster; killed when dropped.
pub struct Cluster {
    // In this order: a namespace is left before it is removed.
    nodes: Vec<Node>,
    http: Http,
    network: Network,
    /// Every way that is cut, as often as it was.
    cuts: Vec<Way>,
    _scratch: TempDir,
}

impl Role {
    fn command(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Volume => "volume",
            Self::Both => "server",
        }
    }
}

impl Layout {
    fn members(self) -> Vec<(String, Role)> {
        let kinds = [
            ("m", self.masters, Role::Master),
            ("v", self.volume_servers, Role::Volume),
            ("s", self.both, Role::Both),
        ];
        let members = |(letter, count, role): (&str, usize, Role)| {
            (1..=count).map(move |n| (format!("{letter}{n}"), role)).collect::<Vec<_>>()
        };
        kinds.into_iter().flat_map(members).collect()
    }
}

impl Cluster {
    /// Starts all servers and waits until they are whole and hand out fids.
    pub fn start(layout: Layout) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let secret = scratch.path().join("secret");
        let made = run(dulse().args(["cluster", "new-secret"]).arg(&secret));
        assert!(made.status.success(), "{made:?}");

        let mut network = Network::new();
        let members: Vec<(String, Role, String)> = layout
            .members()
            .into_iter()
            .map(|(name, role)| (name.clone(), role, network.add(&name)))
            .collect();
        network.add(CLIENT);
        let masters = members.iter().filter(|(_, role, _)| *role != Role::Volume);
        let peers: Vec<&str> = masters.map(|(_, _, address)| address.as_str()).collect();
        let secret = format!("--cluster-secret-file={}", secret.display());
        let node = |(name, role, address): &(String, Role, String)| {
            let dir = scratch.path().join(name);
            let joined = match role {
                Role::Master | Role::Both => format!("--peers={}", peers.join(",")),
                Role::Volume => format!("--master={}", peers.join(",")),
            };
            let (dir_flag, ip) = (format!("--dir={}", dir.display()), format!("--ip={address}"));
            let args = [role.command(), &dir_flag, &ip, &secret, &joined].map(str::to_owned);
            let output = tempfile::tempdir().unwrap();
            let process = Process::new(output, args.to_vec()).run_by(network.runner(name));
            Node { name: name.clone(), role: *role, address: address.clone(), dir, process }
        };
        let nodes = members.iter().map(node).collect();
        let http = Http::inside(network.namespace_file(CLIENT));
        let mut cluster = Self { nodes, http, network, cuts: Vec::new(), _scratch: scratch };
        cluster.nodes.iter_mut().for_each(|node| node.process.spawn());
        cluster.nodes.iter_mut().for_each(|node| node.process.await_ready());
        cluster.wait_until_whole();
        cluster
    }

    /// What clients send with.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// Name and public URL of each master.
    pub fn masters(&self) -> Vec<(String, String)> {
        let masters = self.nodes.iter().filter(|node| node.is_master());
        masters.map(|node| (node.name.clone(), node.master_url())).collect()
    }

    /// The names of those that hold volumes.
    pub fn volume_servers(&self) -> Vec<String> {
        let holders = self.nodes.iter().filter(|node| node.role != Role::Master);
        holders.map(|node| node.name.clone()).collect()
    }

    /// Whether a server of this name is a master that has others to agree with.
    pub fn needs_agreement(&self, name: &str) -> bool {
        self.node(name).is_master() && self.masters().len() > 1
    }

    /// The name of the server that is meant now.
    pub fn resolve(&self, target: &Target) -> String {
        match target {
            Target::Named(name) => self.node(name).name.clone(),
            Target::Leader => self.leader(),
            Target::Follower => {
                let leader = self.leader();
                let follower = self.masters().into_iter().find(|(name, _)| *name != leader);
                follower.expect("there is a master that does not lead").0
            }
        }
    }

    /// Ends a process at once.
    pub fn kill(&mut self, name: &str) {
        self.node_mut(name).process.kill9();
    }

    /// Starts a process if it was killed, and waits for nothing.
    pub fn spawn(&mut self, name: &str) {
        let process = &mut self.node_mut(name).process;
        if !process.is_started() {
            process.spawn();
        }
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str, signal: Signal) {
        self.node(name).process.signal(signal);
    }

    /// Stops a process in an orderly way and starts it again.
    pub fn restart(&mut self, name: &str) {
        let process = &mut self.node_mut(name).process;
        let status = process.terminate();
        assert!(status.success(), "{name} did not stop in an orderly way: {status}");
        process.spawn();
    }

    /// Kills a process, removes its directory, and starts it again.
    pub fn wipe(&mut self, name: &str) {
        let node = self.node_mut(name);
        node.process.kill9();
        std::fs::remove_dir_all(&node.dir).unwrap();
        node.process.spawn();
    }

    /// Cuts a server off from all others.
    pub fn cut(&mut self, name: &str, ways: Ways) {
        let ways = self.ways(name, ways);
        self.network.cut(&ways);
        self.cuts.extend(ways);
    }

    /// Undoes one [`Cluster::cut`]; ways that another one cut too stay cut.
    pub fn reconnect(&mut self, name: &str, ways: Ways) {
        let mut healed = Vec::new();
        for way in self.ways(name, ways) {
            let cut = self.cuts.iter().position(|cut| *cut == way).expect("it was cut");
            self.cuts.swap_remove(cut);
            if !self.cuts.contains(&way) {
                healed.push(way);
            }
        }
        self.network.heal(&healed);
    }

    fn ways(&self, name: &str, ways: Ways) -> Vec<Way> {
        let others = self.nodes.iter().filter(|node| node.name != name);
        let way = |sender: &str, receiver: &str| Way {
            sender: sender.to_owned(),
            receiver: receiver.to_owned(),
        };
        others
            .flat_map(|other| match ways {
                Ways::Both => vec![way(name, &other.name), way(&other.name, name)],
                Ways::Outbound => vec![way(name, &other.name)],
                Ways::Inbound => vec![way(&other.name, name)],
            })
            .collect()
    }

    /// Waits until every master follows the leader, the leader hears all masters and volume
    /// servers, and hands out fids.
    pub fn wait_until_whole(&self) {
        let stopwatch = Stopwatch::start();
        let mut since = None;
        eventually("the cluster is whole", WHOLE_LIMIT, || {
            since = self.is_whole().then(|| since.unwrap_or_else(|| stopwatch.now()));
            (stopwatch.now().since(since?) >= SETTLED).then_some(())
        });
    }

    fn is_whole(&self) -> bool {
        let says =
            |node: &&Node, path: &str| self.http.json(&format!("{}{path}", node.master_url()));
        let masters: Vec<&Node> = self.nodes.iter().filter(|node| node.is_master()).collect();
        let statuses: Vec<Value> =
            masters.iter().filter_map(|node| says(node, "/cluster/status")).collect();
        let Some(leads) = statuses.iter().position(|status| status["IsLeader"] == true) else {
            return false;
        };
        if statuses.len() < masters.len() || statuses.iter().any(|s| s["Leader"].is_null()) {
            return false;
        }
        let page = says(&masters[leads], "/ui/status.json").unwrap_or_default();
        let hears = |master: &Value| {
            master["is_this_one"] == true
                || (master["role"] == "follower"
                    && master["heard_ms"].as_u64().is_some_and(|ms| ms < HEARD_MS)
                    && master["entries_behind"].as_u64().is_some_and(|behind| behind < 10))
        };
        let rows = |name: &str| page[name].as_array().cloned().unwrap_or_default();
        let alive = rows("servers").iter().filter(|server| server["is_alive"] == true).count();
        rows("masters").iter().filter(|row| hears(row)).count() == masters.len()
            && alive == self.volume_servers().len()
            && says(&masters[leads], "/dir/assign").is_some()
    }

    fn leader(&self) -> String {
        let leads = |url: &str| {
            let status = self.http.json(&format!("{url}/cluster/status"));
            status.is_some_and(|status| status["IsLeader"] == true)
        };
        eventually("a leader", WHOLE_LIMIT, || {
            self.masters().into_iter().find(|(_, url)| leads(url)).map(|(name, _)| name)
        })
    }

    fn node(&self, name: &str) -> &Node {
        let node = self.nodes.iter().find(|node| node.name == name);
        node.unwrap_or_else(|| panic!("there is no server {name}"))
    }

    fn node_mut(&mut self, name: &str) -> &mut Node {
        let node = self.nodes.iter_mut().find(|node| node.name == name);
        node.unwrap_or_else(|| panic!("there is no server {name}"))
    }
}

impl Node {
    fn is_master(&self) -> bool {
        self.role != Role::Volume
    }

    fn master_url(&self) -> String {
        format!("http://{}:{MASTER_PORT}", self.address)
    }
}
