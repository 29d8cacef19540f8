//! Where a server listens, what it tells others, and where its data lies: flags and their
//! defaults made into values.

use std::{
    net::{IpAddr, Ipv6Addr},
    path::PathBuf,
};

use dulse_shared::net::{
    address::default_cluster_port, cluster_identity::ClusterIdentity, server::BindError,
};

use crate::{cli::ListenArgs, exit::Exit};

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
        let advertise = advertise.map_or(bind, String::as_str);
        if is_unspecified(advertise) {
            return Err(Exit::Usage(format!(
                "{advertise} is no address that others can connect to: pass --advertise with the \
                 name or address of this machine"
            )));
        }
        let identity = args.secret.server_identity(bind)?;
        Ok(Self { bind: bind.to_owned(), advertise: bracketed(advertise), identity })
    }
}

fn is_unspecified(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified())
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
