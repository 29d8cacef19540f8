//! Where a server listens, what it tells others, and where its data lies: flags and their
//! defaults made into values.

use std::{
    net::{IpAddr, Ipv6Addr, ToSocketAddrs, UdpSocket},
    path::PathBuf,
};

use dulse_shared::net::{
    address::{ServerAddress, default_cluster_port},
    cluster_identity::ClusterIdentity,
    server::BindError,
};

use crate::{cli::ListenArgs, cluster::SecretArgs, exit::Exit};

/// The address of every listener unless told otherwise, and of cluster ports without a secret.
const LOOPBACK: &str = "127.0.0.1";

/// The flags that choose a role's two ports, in the command that runs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortFlags {
    pub(crate) public: &'static str,
    pub(crate) cluster: &'static str,
}

impl PortFlags {
    /// Of a role that has a process of its own.
    pub(crate) const ALONE: Self = Self { public: "--port", cluster: "--cluster-port" };

    /// The error of a port, naming the flag that the user can pass.
    pub(crate) fn name_in(self, mut error: BindError) -> BindError {
        let (BindError::Taken { flag, .. } | BindError::Other { flag, .. }) = &mut error;
        *flag = if flag.contains("cluster") { self.cluster } else { self.public };
        error
    }
}

/// Where the ports are opened, under which name others reach them, and what is shown to other
/// servers there.
#[derive(Clone, Debug)]
pub(crate) struct Listening {
    pub(crate) bind: String,
    pub(crate) advertise: String,
    pub(crate) identity: Option<ClusterIdentity>,
}

impl Listening {
    pub(crate) fn from_args(args: &ListenArgs) -> Result<Self, Exit> {
        let bind = args.bind.as_ref().or(args.ip.as_ref());
        let bind = bind.map_or(LOOPBACK, String::as_str);
        let advertise = args.advertise.as_ref().or(args.ip.as_ref());
        Self::at(bind, advertise.map_or(bind, String::as_str), &args.secret)
    }

    /// For one of several masters: unless told otherwise it is the one of `peers` that has its port
    /// and whose host is this machine, so that the same command can be given on each machine.
    pub(crate) fn among(
        peers: &[ServerAddress],
        port: u16,
        args: &ListenArgs,
    ) -> Result<Self, Exit> {
        let is_told = args.ip.is_some() || args.bind.is_some() || args.advertise.is_some();
        let candidates = peers.iter().filter(|peer| !is_told && peer.port == port);
        let mut here = candidates.filter(|peer| is_this_machine(&peer.host));
        let listening = match (here.next(), here.next()) {
            (Some(peer), None) => Self::at(bare(&peer.host), &peer.host, &args.secret)?,
            _ => Self::from_args(args)?,
        };
        match peers.iter().find(|peer| !is_loopback(&peer.host)) {
            Some(peer) if listening.identity.is_none() => Err(Exit::Usage(format!(
                "--peers names {peer}, and masters of several machines need a secret to speak to \
                 each other: make one with `dulse cluster new-secret FILE`, copy it to each machine, \
                 and pass --cluster-secret-file FILE"
            ))),
            _ => Ok(listening),
        }
    }

    fn at(bind: &str, advertise: &str, secret: &SecretArgs) -> Result<Self, Exit> {
        if is_unspecified(advertise) {
            return Err(Exit::Usage(format!(
                "{advertise} is no address that others can connect to: pass --advertise with the \
                 name or address of this machine"
            )));
        }
        let identity = secret.server_identity(bind)?;
        Ok(Self { bind: bind.to_owned(), advertise: bracketed(advertise), identity })
    }
}

/// Whether one of the addresses of `host` is one of this machine's: only those can be bound.
fn is_this_machine(host: &str) -> bool {
    let addresses = (bare(host), 0).to_socket_addrs();
    addresses.is_ok_and(|mut addresses| addresses.any(|to| UdpSocket::bind(to).is_ok()))
}

fn is_unspecified(host: &str) -> bool {
    bare(host).parse().is_ok_and(|ip: IpAddr| ip.is_unspecified())
}

/// Whether all addresses of `host` are of this machine alone.
fn is_loopback(host: &str) -> bool {
    let addresses = (bare(host), 0).to_socket_addrs();
    addresses.is_ok_and(|mut addresses| addresses.all(|address| address.ip().is_loopback()))
}

/// A host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// A host as it stands before `:port`.
fn bracketed(host: &str) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]"),
        Err(_) => host.to_owned(),
    }
}

/// The cluster port: the one asked for, else the one that goes with the public `port`.
pub(crate) fn cluster_port(
    asked_for: Option<u16>,
    port: u16,
    flags: PortFlags,
) -> Result<u16, Exit> {
    let PortFlags { public, cluster } = flags;
    asked_for.or_else(|| default_cluster_port(port)).ok_or_else(|| {
        Exit::Usage(format!(
            "{public} {port}: the cluster port is the port plus 10000 and would be above \
                 65535: pass {cluster}"
        ))
    })
}

/// The data directory when none is given: lasting, and the user's own.
pub(crate) fn default_dir() -> Result<PathBuf, Exit> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    // The XDG specification has relative paths ignored.
    let data_home = variable("XDG_DATA_HOME").map(PathBuf::from);
    let data_home = data_home.filter(|path| path.is_absolute());
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let base = data_home.or_else(home).ok_or_else(|| {
        Exit::Usage("neither XDG_DATA_HOME nor HOME is set: pass --dir".to_owned())
    })?;
    Ok(base.join("dulse"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::SecretArgs;

    fn listening(
        ip: Option<&str>,
        bind: Option<&str>,
        advertise: Option<&str>,
    ) -> Option<(String, String)> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let args = ListenArgs {
            ip: owned(ip),
            bind: owned(bind),
            advertise: owned(advertise),
            secret: SecretArgs::default(),
        };
        let listening = Listening::from_args(&args).ok()?;
        Some((listening.bind, listening.advertise))
    }

    #[test]
    fn ip_sets_both_and_the_more_particular_flag_wins() {
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(listening(None, None, None), pair("127.0.0.1", "127.0.0.1"));
        assert_eq!(listening(Some("10.0.0.1"), None, None), pair("10.0.0.1", "10.0.0.1"));
        assert_eq!(listening(Some("10.0.0.1"), Some("0.0.0.0"), None), pair("0.0.0.0", "10.0.0.1"));
        assert_eq!(listening(None, Some("::1"), None), pair("::1", "[::1]"));
        assert_eq!(listening(None, Some("0.0.0.0"), Some("a")), pair("0.0.0.0", "a"));
    }

    #[test]
    fn a_master_finds_itself_among_its_peers_unless_it_is_told() {
        let peers: Vec<ServerAddress> =
            ["127.0.0.1:9334", "[::1]:9333", "127.0.0.2:9335"].map(|a| a.parse().unwrap()).into();
        let among = |port, ip: Option<&str>| {
            let args = ListenArgs { ip: ip.map(str::to_owned), ..no_args() };
            Listening::among(&peers, port, &args).unwrap().advertise
        };
        assert_eq!(among(9334, None), "127.0.0.1");
        assert_eq!(among(9335, None), "127.0.0.2");
        assert_eq!(among(9334, Some("127.0.0.3")), "127.0.0.3");
        assert_eq!(among(1, None), "127.0.0.1", "as if there were no peers");
        let twice: Vec<ServerAddress> =
            ["127.0.0.3:9333", "127.0.0.2:9333"].map(|a| a.parse().unwrap()).into();
        assert_eq!(Listening::among(&twice, 9333, &no_args()).unwrap().advertise, "127.0.0.1");
    }

    #[test]
    fn masters_of_several_machines_need_a_secret() {
        let peers: Vec<ServerAddress> = vec!["192.0.2.1:9333".parse().unwrap()];
        let Err(Exit::Usage(error)) = Listening::among(&peers, 9333, &no_args()) else {
            panic!("accepted");
        };
        assert!(error.contains("192.0.2.1:9333") && error.contains("--cluster-secret-file"));
    }

    fn no_args() -> ListenArgs {
        ListenArgs { ip: None, bind: None, advertise: None, secret: SecretArgs::default() }
    }

    #[test]
    fn nobody_is_told_to_connect_to_every_address() {
        for bind in ["0.0.0.0", "::", "[::]"] {
            assert_eq!(listening(None, Some(bind), None), None, "{bind}");
        }
    }

    #[test]
    fn a_cluster_port_past_the_last_one_is_asked_for() {
        assert_eq!(cluster_port(None, 9333, PortFlags::ALONE).unwrap(), 19333);
        assert_eq!(cluster_port(Some(7), 60000, PortFlags::ALONE).unwrap(), 7);
        let Err(Exit::Usage(error)) = cluster_port(None, 60000, PortFlags::ALONE) else {
            panic!("accepted");
        };
        assert!(error.contains("--cluster-port"), "{error}");
    }
}
