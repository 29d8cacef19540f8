//! Host names and the addresses behind them, asked of the system; a test passes in its own answers.
//!
//! Several servers may share a name. Everything that is to find all of them asks here instead of
//! leaving the name to whoever connects, which takes the first address that answers.

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;

/// Addresses of one name that are used: a cluster has five masters at most, each with two perhaps.
pub const MAX_ADDRESSES: usize = 16;
/// A name server that takes longer is asked again.
const LIMIT: Duration = Duration::from_secs(5);

type Answer = io::Result<Vec<IpAddr>>;
type Ask = dyn Fn(String) -> BoxFuture<'static, Answer> + Send + Sync;

/// Finds the addresses of a host. Cheap to clone.
#[derive(Clone)]
pub struct Resolver(Arc<Ask>);

impl Resolver {
    /// Asks the system: its hosts file, its name servers.
    pub fn system() -> Self {
        Self(Arc::new(|host| Box::pin(ask_system(host))))
    }

    /// Has every name answered by `ask`.
    pub fn of<F: Future<Output = Answer> + Send + 'static>(
        ask: impl Fn(String) -> F + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move |host| Box::pin(ask(host))))
    }

    /// The addresses of `host`, in the order of the answer and each once: never none, and
    /// [`MAX_ADDRESSES`] at most. One that is an address already is not asked for.
    pub async fn addresses(&self, host: &str) -> Answer {
        if let Some(address) = literal(host) {
            return Ok(vec![address]);
        }
        let answer = tokio::time::timeout(LIMIT, (self.0)(host.to_owned())).await;
        let slow = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {LIMIT:?}"));
        let mut addresses = Vec::new();
        for address in answer.map_err(slow)?? {
            let address = address.to_canonical();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
        }
        Ok(addresses)
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

async fn ask_system(host: String) -> Answer {
    let found = tokio::net::lookup_host((host, 0)).await?;
    Ok(found.map(|address: SocketAddr| address.ip()).collect())
}

/// The address that `host` is, with or without the brackets of an IPv6 address.
pub fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn an_address_is_not_asked_for() {
        let nobody = Resolver::of(|host| async move { panic!("asked for {host}") });
        for (host, address) in [("10.0.0.1", "10.0.0.1"), ("[::1]", "::1"), ("::1", "::1")] {
            assert_eq!(nobody.addresses(host).await.unwrap(), [ip(address)]);
        }
    }

    #[tokio::test]
    async fn each_address_counts_once_and_not_too_many_do() {
        let twice = ["10.0.0.2", "10.0.0.1", "::ffff:10.0.0.2"].map(ip).to_vec();
        let resolver = Resolver::of(move |_| std::future::ready(Ok(twice.clone())));
        let found = resolver.addresses("masters").await.unwrap();
        assert_eq!(found, ["10.0.0.2", "10.0.0.1"].map(ip));
        let many: Vec<IpAddr> = (0..100).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        let resolver = Resolver::of(move |_| std::future::ready(Ok(many.clone())));
        assert_eq!(resolver.addresses("masters").await.unwrap().len(), MAX_ADDRESSES);
        let none = Resolver::of(|_| std::future::ready(Ok(Vec::new())));
        assert!(none.addresses("masters").await.is_err());
    }

    #[tokio::test]
    async fn localhost_is_this_machine() {
        let found = Resolver::system().addresses("localhost").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    }
}
