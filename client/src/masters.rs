//! Asking the masters: the one that answered last comes first, the others in turn.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use dulse_shared::{
    net::address::{master_address, with_master_port},
    wire::Code,
};
use reqwest::RequestBuilder;
use serde::de::DeserializeOwned;

use crate::{answer::fetch_json, error::ClientError, retry::Backoff};

/// The masters a client knows.
#[derive(Debug)]
pub(crate) struct Masters {
    http: reqwest::Client,
    /// `host:port`, never empty.
    addresses: Vec<String>,
    /// The same of their cluster ports, as far as they have one.
    cluster_addresses: Vec<String>,
    /// Index of the one that answered last.
    preferred: AtomicUsize,
}

impl Masters {
    /// `texts` are `host:port` or `host:port.clusterport`.
    pub(crate) fn new<T: AsRef<str>>(
        http: reqwest::Client,
        texts: &[T],
    ) -> Result<Self, ClientError> {
        let addresses = texts.iter().map(|text| public_address(text.as_ref()));
        let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            return Err(ClientError::NoMasters);
        }
        let parsed = texts.iter().filter_map(|text| master_address(text.as_ref().trim()).ok());
        let cluster_addresses = parsed.map(|address| address.cluster()).collect();
        Ok(Self { http, addresses, cluster_addresses, preferred: AtomicUsize::new(0) })
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
        loop {
            let error = match self.ask_each(path, query, limit).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = backoff.next_pause(rand::random());
            let Some(pause) = pause.filter(|_| is_worth_repeating(&error)) else {
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
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last_error = ClientError::NoMasters;
        for turn in 0..self.addresses.len() {
            let index = (first + turn) % self.addresses.len();
            let Some(address) = self.addresses.get(index) else {
                continue;
            };
            let url = format!("http://{address}{path}");
            let request: RequestBuilder = self.http.get(&url).query(query);
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

    pub(crate) fn describe(&self, error: ClientError) -> ClientError {
        match error {
            ClientError::Unreachable { reason, .. } => {
                ClientError::NoMasterAnswers { tried: self.addresses.join(", "), reason }
            }
            other => other,
        }
    }

    /// `host:port` of the cluster ports.
    pub(crate) fn cluster_addresses(&self) -> &[String] {
        &self.cluster_addresses
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
}
