//! Addresses of servers as people write them: `host:port`, or `host:port.clusterport` where the
//! cluster port is not the public one plus 10000.

use std::{fmt, net::IpAddr, str::FromStr};

/// What is added to a public port to get the cluster port.
pub const CLUSTER_PORT_OFFSET: u16 = 10_000;

/// Where a master listens unless told otherwise.
pub const DEFAULT_MASTER_PORT: u16 = 9333;

/// A server's public address and where its cluster port is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ServerAddress {
    /// Name, IPv4 address or bracketed IPv6 address.
    pub host: String,
    /// The public port.
    pub port: u16,
    /// The cluster port.
    pub cluster_port: u16,
}

impl ServerAddress {
    /// `host:port` of the public listener.
    pub fn public(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// `host:port` of the cluster listener.
    pub fn cluster(&self) -> String {
        format!("{}:{}", self.host, self.cluster_port)
    }

    /// The same ports at one of the addresses of its host.
    #[must_use]
    pub fn at(&self, ip: IpAddr) -> Self {
        Self { host: host_text(ip), ..self.clone() }
    }
}

/// An address as it stands before `:port`.
pub fn host_text(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// The cluster port that goes with a public one; `None` past 65535. Port 0 stays 0: both are
/// then picked by the system.
pub fn default_cluster_port(port: u16) -> Option<u16> {
    if port == 0 { Some(0) } else { port.checked_add(CLUSTER_PORT_OFFSET) }
}

/// A master's address as people write it: without a port, the usual one.
pub fn master_address(text: &str) -> Result<ServerAddress, ParseServerAddressError> {
    with_master_port(text).parse()
}

/// `text` with a master's usual port if it is a host alone.
pub fn with_master_port(text: &str) -> String {
    // A bare IPv6 address has colons of its own; with brackets around it its port is told apart.
    let has_port = text.rsplit_once(']').map_or(text, |(_, rest)| rest).contains(':');
    if has_port || text.is_empty() {
        return text.to_owned();
    }
    format!("{text}:{DEFAULT_MASTER_PORT}")
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)?;
        if default_cluster_port(self.port) == Some(self.cluster_port) {
            return Ok(());
        }
        write!(f, ".{}", self.cluster_port)
    }
}

/// A text that is not a server's address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseServerAddressError {
    /// Not of the form.
    #[error("{0:?} is not an address: expected host:port, or host:port.clusterport")]
    Form(String),
    /// The cluster port would be past 65535.
    #[error(
        "{0:?}: the cluster port is the port plus 10000 and would be above 65535; \
         write host:port.clusterport"
    )]
    ClusterPort(String),
}

impl FromStr for ServerAddress {
    type Err = ParseServerAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || ParseServerAddressError::Form(text.to_owned());
        let (host, ports) = text.rsplit_once(':').ok_or_else(form)?;
        // An IPv6 address has colons of its own: brackets tell them from the port's.
        let is_bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || host.contains('/') || (host.contains(':') && !is_bracketed) {
            return Err(form());
        }
        let (port, cluster_port) = match ports.split_once('.') {
            Some((port, cluster)) => (port, Some(cluster)),
            None => (ports, None),
        };
        let port = parse_port(port).ok_or_else(form)?;
        let cluster_port = match cluster_port {
            Some(cluster) => parse_port(cluster).ok_or_else(form)?,
            None => default_cluster_port(port)
                .ok_or_else(|| ParseServerAddressError::ClusterPort(text.to_owned()))?,
        };
        Ok(Self { host: host.to_owned(), port, cluster_port })
    }
}

fn parse_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0 && text.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_port_is_found_or_given() {
        let address: ServerAddress = "a:9333".parse().unwrap();
        assert_eq!((address.public(), address.cluster()), ("a:9333".into(), "a:19333".into()));
        let address: ServerAddress = "[::1]:60000.7".parse().unwrap();
        assert_eq!(address.cluster(), "[::1]:7");
        assert_eq!(address.to_string(), "[::1]:60000.7");
        for (text, full) in [("a", "a:9333"), ("[::1]", "[::1]:9333"), ("a:1.2", "a:1.2")] {
            assert_eq!(master_address(text), full.parse(), "{text}");
        }
        for bad in ["", "::1", "a:", ":9333"] {
            assert!(master_address(bad).is_err(), "{bad}");
        }
        for bad in
            ["a", ":1", "a:", "a:0", "a:x", "a:60000", "a:1.x", "a:+1", "::1:1", "http://a:1"]
        {
            assert!(bad.parse::<ServerAddress>().is_err(), "{bad}");
        }
    }
}
