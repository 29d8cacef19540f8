//! A network of its own for each server: namespaces on one bridge, whose ways to each other can be
//! cut.
//!
//! Subnet and cut are those of `scripts/lib/namespaces.py`: a cut is silent and goes one way, since
//! a permanent neighbour entry sends packets to a hardware address that nobody has, so that nothing
//! is refused and nothing arrives. Bridge and veth pairs lie inside the namespaces, so that the
//! machine's own network is not touched and networks never collide. All names begin with this
//! process' id: what a run leaves that was killed, the next run removes.

use std::{
    fs::File,
    io::Write,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const SUBNET: &str = "10.77.0";
const NOBODY: &str = "02:00:00:00:ff:ff";
const PREFIX: &str = "dulse-rig-";
/// Its name in its own namespace.
const BRIDGE: &str = "bridge";
const NAMESPACES: &str = "/run/netns";
/// A process run by this dies with the thread that started it.
const DIES_WITH_US: [&str; 3] = ["setpriv", "--pdeathsig", "KILL"];

/// From whom to whom packets go.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Way {
    /// Who sends.
    pub sender: String,
    /// Who no longer hears it when the way is cut.
    pub receiver: String,
}

/// The namespaces of one cluster; removed when dropped.
pub struct Network {
    prefix: String,
    bridge: String,
    members: Vec<Member>,
}

struct Member {
    name: String,
    namespace: String,
    address: String,
    hardware: String,
}

impl Network {
    /// A bridge with nobody on it.
    pub fn new() -> Self {
        static SWEEP: Once = Once::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // This process has made none yet, so that its own names are of another that had its id.
        SWEEP.call_once(|| remove_leftovers(|pid| pid == std::process::id() || !is_alive(pid)));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}{}-{number}", std::process::id());
        // First the value, so that what follows is removed even if only half of it is done.
        let network = Self { bridge: format!("{prefix}-{BRIDGE}"), prefix, members: Vec::new() };
        must(ip(&["netns", "add", &network.bridge]));
        must(ip(&["-n", &network.bridge, "link", "add", BRIDGE, "type", "bridge"]));
        must(ip(&["-n", &network.bridge, "link", "set", BRIDGE, "up"]));
        network
    }

    /// Another member; gives its address.
    pub fn add(&mut self, name: &str) -> String {
        let number = self.members.len() + 1;
        let member = Member {
            name: name.to_owned(),
            namespace: format!("{}-{name}", self.prefix),
            address: format!("{SUBNET}.{number}"),
            hardware: format!("02:00:00:00:00:{number:02x}"),
        };
        self.members.push(member);
        let Member { namespace, address, hardware, .. } = self.member(name);
        let (port, network) = (format!("port{number}"), format!("{address}/24"));
        let inside = ["-n", namespace.as_str()];
        must(ip(&["netns", "add", namespace]));
        let veth = ["link", "add", "eth0", "netns", namespace, "type", "veth", "peer", "name"];
        must(ip(&[&veth[..], &[&port, "netns", &self.bridge]].concat()));
        must(ip(&["-n", &self.bridge, "link", "set", &port, "master", BRIDGE, "up"]));
        must(ip(&[&inside[..], &["link", "set", "lo", "up"]].concat()));
        must(ip(&[&inside[..], &["link", "set", "eth0", "address", hardware, "up"]].concat()));
        must(ip(&[&inside[..], &["addr", "add", &network, "dev", "eth0"]].concat()));
        address.clone()
    }

    /// What runs a program in a member's namespace, and has it die with the thread that starts it.
    pub fn runner(&self, name: &str) -> Vec<String> {
        let enter = ["ip", "netns", "exec", &self.member(name).namespace];
        enter.iter().chain(&DIES_WITH_US).map(|word| (*word).to_owned()).collect()
    }

    /// The file by which a thread enters a member's namespace.
    pub fn namespace_file(&self, name: &str) -> PathBuf {
        Path::new(NAMESPACES).join(&self.member(name).namespace)
    }

    /// Nothing that is sent on these ways arrives any more.
    pub fn cut(&self, ways: &[Way]) {
        self.set_neighbours(ways, |_| NOBODY);
    }

    /// What is sent on these ways arrives again.
    pub fn heal(&self, ways: &[Way]) {
        self.set_neighbours(ways, |receiver| &receiver.hardware);
    }

    /// One call of `ip` for each sender, so that its ways change together.
    fn set_neighbours<'a>(&'a self, ways: &[Way], hardware: impl Fn(&'a Member) -> &'a str) {
        for sender in &self.members {
            let from_it = ways.iter().filter(|way| way.sender == sender.name);
            let lines: Vec<String> = from_it
                .map(|way| {
                    let receiver = self.member(&way.receiver);
                    let (address, hardware) = (&receiver.address, hardware(receiver));
                    format!("neigh replace {address} lladdr {hardware} dev eth0 nud permanent\n")
                })
                .collect();
            if !lines.is_empty() {
                must(ip_batch(&sender.namespace, &lines.concat()));
            }
        }
    }

    fn member(&self, name: &str) -> &Member {
        let member = self.members.iter().find(|member| member.name == name);
        member.unwrap_or_else(|| panic!("there is no {name} in this network"))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in self.members.iter().map(|member| &member.namespace).chain([&self.bridge]) {
            // One that was never made is no reason to leave the others.
            let _ = ip(&["netns", "del", namespace]);
        }
    }
}

/// Puts the calling thread into a namespace, and with it all sockets it opens from now on.
pub fn enter(namespace_file: &Path) -> std::io::Result<()> {
    let namespace = File::open(namespace_file)?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Why no network can be made here, if so: all that [`Network`] needs is tried once.
pub fn unavailable() -> Option<String> {
    let name = format!("{PREFIX}{}-trial", std::process::id());
    let made = ip(&["netns", "add", &name]).and_then(|()| {
        let inside = ["-n", name.as_str()];
        ip(&[&inside[..], &["link", "add", BRIDGE, "type", "bridge"]].concat())?;
        ip(&[&inside[..], &["link", "add", "eth0", "type", "veth"]].concat())?;
        let run = ["netns", "exec", &name];
        ip(&[&run[..], &DIES_WITH_US[..], &["true"]].concat())
    });
    let _ = ip(&["netns", "del", &name]);
    made.err()
}

/// Removes the namespaces of runs that did not come to it themselves.
fn remove_leftovers(is_gone: impl Fn(u32) -> bool) {
    let Ok(entries) = std::fs::read_dir(NAMESPACES) else { return };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    for name in names.filter(|name| owner(name).is_some_and(&is_gone)) {
        // Another run may do the same at this moment.
        let _ = ip(&["netns", "del", &name]);
    }
}

/// Whether it runs. One that ended and that nobody waited for is still in the table.
fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !"ZX".contains(state))
}

/// The process whose name a namespace bears.
fn owner(name: &str) -> Option<u32> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse().ok()
}

fn must(done: Result<(), String>) {
    done.unwrap_or_else(|error| panic!("{error}"));
}

fn ip(words: &[&str]) -> Result<(), String> {
    run_ip(words, "")
}

fn ip_batch(namespace: &str, lines: &str) -> Result<(), String> {
    run_ip(&["-n", namespace, "-batch", "-"], lines)
}

fn run_ip(words: &[&str], input: &str) -> Result<(), String> {
    let failed = |error: &str| format!("ip {}: {error}", words.join(" "));
    let mut command = Command::new("ip");
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(&error.to_string()))?;
    let written = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().map_err(|error| failed(&error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    match written {
        _ if !output.status.success() => Err(failed(said.trim())),
        Err(error) if !input.is_empty() => Err(failed(&error.to_string())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, time::Duration};

    use super::*;
    use crate::{process::eventually, require};

    #[test]
    fn a_namespace_names_the_process_it_belongs_to() {
        assert_eq!(owner("dulse-rig-123-0-m1"), Some(123));
        assert_eq!(owner("dulse-rig-123-trial"), Some(123));
        for other in ["dulse123-bridge", "dulse-rig-x-0", "dulse-rig-5", "another"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }

    #[test]
    fn only_what_a_dead_process_left_is_removed() {
        if !require::namespaces() {
            return;
        }
        let mut gone = Command::new("true").spawn().unwrap();
        let (dead, alive) = (gone.id(), std::os::unix::process::parent_id());
        gone.wait().unwrap();
        let names = [dead, alive].map(|pid| format!("{PREFIX}{pid}-trial-of-sweeping"));
        for name in &names {
            must(ip(&["netns", "add", name]));
        }
        remove_leftovers(|pid| !is_alive(pid));
        let left: Vec<bool> =
            names.iter().map(|name| Path::new(NAMESPACES).join(name).exists()).collect();
        let _ = ip(&["netns", "del", &names[1]]);
        assert_eq!(left, [false, true]);
    }

    #[test]
    fn a_process_that_ended_is_not_alive_though_nobody_waited_for_it() {
        let mut ended = Command::new("true").spawn().unwrap();
        eventually("its end", Duration::from_secs(10), || (!is_alive(ended.id())).then_some(()));
        assert!(Path::new(&format!("/proc/{}", ended.id())).exists());
        ended.wait().unwrap();
        assert!(is_alive(std::process::id()));
    }

    /// A socket of a member, opened in its namespace.
    fn socket(network: &Network, name: &str, address: &str) -> UdpSocket {
        let file = network.namespace_file(name);
        let open = || {
            enter(&file).unwrap();
            let socket = UdpSocket::bind((address, 7)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            socket
        };
        std::thread::scope(|scope| scope.spawn(open).join().unwrap())
    }

    #[test]
    fn a_cut_stops_one_way_until_it_is_healed_and_no_other() {
        if !require::namespaces() {
            return;
        }
        let mut network = Network::new();
        let addresses = ["a", "b", "c"].map(|name| network.add(name));
        let sockets = [0, 1, 2].map(|n| socket(&network, ["a", "b", "c"][n], &addresses[n]));
        let arrives = |from: usize, to: usize| {
            sockets[from].send_to(b"hello", (addresses[to].as_str(), 7)).unwrap();
            sockets[to].recv(&mut [0; 8]).is_ok()
        };
        let way = Way { sender: "a".to_owned(), receiver: "b".to_owned() };
        let all = [(0, 1), (1, 0), (0, 2), (2, 1)];
        let seen = || all.map(|(from, to)| arrives(from, to));
        assert_eq!(seen(), [true; 4]);
        network.cut(std::slice::from_ref(&way));
        assert_eq!(seen(), [false, true, true, true]);
        network.heal(&[way]);
        assert_eq!(seen(), [true; 4]);
    }

    #[test]
    fn nothing_is_left_of_a_network_whose_test_panicked() {
        if !require::namespaces() {
            return;
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        let ended = std::thread::spawn(move || {
            let mut network = Network::new();
            network.add("a");
            sender.send((network.namespace_file("a"), network.prefix.clone())).unwrap();
            std::panic::panic_any("meant");
        });
        assert!(ended.join().is_err());
        let (file, prefix) = receiver.recv().unwrap();
        assert!(!file.exists() && !Path::new(NAMESPACES).join(format!("{prefix}-bridge")).exists());
    }
}
