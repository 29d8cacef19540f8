//! Asking the masters: the one that answered last comes first, the others in turn.
//!
//! A name is left to whoever connects, until nobody answers well there: then it is resolved here, and
//! each of its addresses is a master of its own.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dulse_shared::{
    net::{
        address::{host_text, master_address, with_master_port},
        resolver::Resolver,
    },
    wire::Code,
};
use reqwest::{RequestBuilder, header::HOST};
use serde::de::DeserializeOwned;

use crate::{answer::fetch_json, error::ClientError, retry::Backoff};

/// The masters a client knows.
#[derive(Debug)]
pub(crate) struct Masters {
    http: reqwest::Client,
    resolver: Resolver,
    /// As they were named: `host:port`, never empty.
    addresses: Vec<String>,
    /// The same of their cluster ports, as far as they have one.
    cluster_addresses: Vec<String>,
    /// Where they are asked: at first at their names.
    places: RwLock<Arc<[Place]>>,
    /// Index of the place that answered last.
    preferred: AtomicUsize,
}

/// Where a master is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// `host:port` of what was named.
    pub(crate) named: String,
    /// `host:port` of one of its addresses, if there are several.
    pub(crate) at: Option<String>,
}

impl Place {
    /// `host:port` to connect to.
    pub(crate) fn address(&self) -> &str {
        self.at.as_ref().unwrap_or(&self.named)
    }

    /// `GET` of a URL of this place. What was named stands in its head, whoever stands in between.
    pub(crate) fn get(&self, http: &reqwest::Client, url: &str) -> RequestBuilder {
        let request = http.get(url);
        if self.at.is_some() { request.header(HOST, &self.named) } else { request }
    }
}

impl Masters {
    /// `texts` are `host:port` or `host:port.clusterport`.
    pub(crate) fn new<T: AsRef<str>>(
        http: reqwest::Client,
        resolver: Resolver,
        texts: &[T],
    ) -> Result<Self, ClientError> {
        let addresses = texts.iter().map(|text| public_address(text.as_ref()));
        let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            return Err(ClientError::NoMasters);
        }
        let parsed = texts.iter().filter_map(|text| master_address(text.as_ref().trim()).ok());
        let cluster_addresses = parsed.map(|address| address.cluster()).collect();
        let named = addresses.iter().map(|named| Place { named: named.clone(), at: None });
        let places = RwLock::new(named.collect());
        let preferred = AtomicUsize::new(0);
        Ok(Self { http, resolver, addresses, cluster_addresses, places, preferred })
    }

    /// `GET path?query` on a master that can answer. All are tried, several times with pauses,
    /// unless one gives an answer that the others would give too.
    pub(crate) async fn fetch<A: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        limit: Duration,
    ) -> Result<A, ClientError> {
        let mut backoff = Backoff::default();
        let mut may_hurry = true;
        loop {
            let error = match self.ask_each(path, query, limit).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if !is_worth_repeating(&error) {
                return Err(self.describe(error));
            }
            let are_elsewhere = self.look_again().await;
            if are_elsewhere && std::mem::take(&mut may_hurry) {
                continue;
            }
            let Some(pause) = backoff.next_pause(rand::random()) else {
                return Err(self.describe(error));
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn ask_each<A: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        limit: Duration,
    ) -> Result<A, ClientError> {
        let (places, first) = (self.places(), self.preferred.load(Ordering::Relaxed));
        let mut last_error = ClientError::NoMasters;
        for turn in 0..places.len() {
            let index = (first + turn) % places.len();
            let Some(place) = places.get(index) else {
                continue;
            };
            let url = format!("http://{}{path}", place.address());
            let request = place.get(&self.http, &url).query(query);
            match fetch_json(&url, request, limit).await {
                Ok(answer) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) if is_worth_repeating(&error) => last_error = error,
                Err(error) => return Err(error),
            }
        }
        Err(last_error)
    }

    fn places(&self) -> Arc<[Place]> {
        self.places.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Resolves the names; whether the masters are to be asked elsewhere than before.
    async fn look_again(&self) -> bool {
        let found: Arc<[Place]> = self.everywhere().await.into();
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        let is_news = *places != found;
        *places = found;
        is_news
    }

    /// Every address of every name; a name that has but one, or none now, is left as it is.
    pub(crate) async fn everywhere(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for named in &self.addresses {
            let at = self.addresses_of(named).await.into_iter();
            places.extend(at.map(|at| Place { named: named.clone(), at: Some(at) }));
            if places.last().is_none_or(|last: &Place| last.named != *named) {
                places.push(Place { named: named.clone(), at: None });
            }
        }
        places
    }

    /// `host:port` of the cluster ports, at every address of each name.
    pub(crate) async fn cluster_addresses(&self) -> Vec<String> {
        let mut all = Vec::new();
        for named in &self.cluster_addresses {
            let at = self.addresses_of(named).await;
            all.extend(if at.is_empty() { vec![named.clone()] } else { at });
        }
        all
    }

    /// What `host:port` resolves to, if to several, always in one order.
    async fn addresses_of(&self, named: &str) -> Vec<String> {
        let Some((host, port)) = named.rsplit_once(':') else { return Vec::new() };
        let found = self.resolver.addresses(host).await.unwrap_or_default();
        if found.len() < 2 {
            return Vec::new();
        }
        let found: BTreeSet<_> = found.into_iter().collect();
        found.into_iter().map(|ip| format!("{}:{port}", host_text(ip))).collect()
    }

    pub(crate) fn describe(&self, error: ClientError) -> ClientError {
        match error {
            ClientError::Unreachable { reason, .. } => {
                ClientError::NoMasterAnswers { tried: self.addresses.join(", "), reason }
            }
            other => other,
        }
    }

    /// The masters, as they were named.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }
}

/// A master that found no room has waited for it already, and knows as much as the others.
fn is_worth_repeating(error: &ClientError) -> bool {
    let is_final = matches!(error.code(), Some(Code::NoWritableVolume | Code::VolumeNotFound));
    error.is_passing() && !is_final
}

fn public_address(given: &str) -> Result<String, ClientError> {
    let error = || ClientError::MasterAddress(given.to_owned());
    let text = with_master_port(given.trim());
    let (host, ports) = text.rsplit_once(':').ok_or_else(error)?;
    let port = ports.split_once('.').map_or(ports, |(port, _)| port);
    let port: u16 = port.parse().map_err(|_| error())?;
    if host.is_empty() || host.contains('/') || port == 0 {
        return Err(error());
    }
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_address_of_a_master_is_read() {
        for (text, address) in
            [("a:1", "a:1"), ("a", "a:9333"), ("a:1.7", "a:1"), (" [::1]:60000", "[::1]:60000")]
        {
            assert_eq!(public_address(text).unwrap(), address);
        }
        for bad in ["", "a:", ":1", "a:0", "http://a:1", "a:70000"] {
            assert!(public_address(bad).is_err(), "{bad}");
        }
    }

    fn masters(resolver: Resolver, texts: &[&str]) -> Masters {
        Masters::new(reqwest::Client::new(), resolver, texts).unwrap()
    }

    fn of(addresses: &'static [&'static str]) -> Resolver {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<_>>();
        Resolver::of(move |_| std::future::ready(Ok(addresses.clone())))
    }

    #[tokio::test]
    async fn each_address_of_a_name_is_a_master_and_a_name_of_one_stays_as_it_is() {
        let three = masters(of(&["10.0.0.2", "::1", "10.0.0.1"]), &["masters", "10.0.0.9:1.2"]);
        let places = three.everywhere().await;
        let at: Vec<&str> = places.iter().map(Place::address).collect();
        assert_eq!(at, ["10.0.0.1:9333", "10.0.0.2:9333", "[::1]:9333", "10.0.0.9:1"]);
        assert_eq!(places[0].named, "masters:9333");
        let cluster = three.cluster_addresses().await;
        assert_eq!(cluster, ["10.0.0.1:19333", "10.0.0.2:19333", "[::1]:19333", "10.0.0.9:2"]);
        let one = masters(of(&["10.0.0.2"]), &["m:1"]);
        assert_eq!(one.everywhere().await, [Place { named: "m:1".to_owned(), at: None }]);
        assert!(!one.look_again().await, "there is nothing new to be tried at once");
        let none = masters(of(&[]), &["m:1"]);
        assert_eq!(none.cluster_addresses().await, ["m:10001"]);
    }

    /// A master that answers every request so.
    async fn serve(ip: &str, port: u16, answer: &'static str) -> u16 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind((ip, port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        #[expect(clippy::disallowed_methods, reason = "it ends with its test")]
        tokio::spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut head = [0; 4096];
                let _ = connection.read(&mut head).await;
                let _ = connection.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    #[tokio::test]
    async fn the_masters_behind_one_name_are_all_asked_and_where_the_name_leads_later() {
        let busy = "HTTP/1.1 503 Busy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let good = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\n7";
        let port = serve("127.0.0.1", 0, busy).await;
        serve("127.0.0.2", port, good).await;
        let resolver = of(&["127.0.0.1", "127.0.0.2"]);
        // By its name only the first is reached: what the system says of it.
        let all = masters(resolver, &[&format!("localhost:{port}")]);
        let limit = Duration::from_secs(5);
        assert_eq!(all.fetch::<u32>("/a", &[], limit).await.unwrap(), 7);
        assert_eq!(all.places().len(), 2);
        assert_eq!(all.preferred.load(Ordering::Relaxed), 1);

        *all.places.write().unwrap() =
            vec![Place { named: format!("localhost:{port}"), at: Some("127.0.0.3:1".to_owned()) }]
                .into();
        assert_eq!(
            all.fetch::<u32>("/a", &[], limit).await.unwrap(),
            7,
            "none was left where it was"
        );
    }
}
