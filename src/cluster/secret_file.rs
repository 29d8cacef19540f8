//! `--cluster-secret-file`: the file, checked and made into what a process shows other servers.
//!
//! A secret is named by its file only, never by itself: arguments and environments are seen by
//! others. That a file is not its owner's alone is a warning, because what mounts secrets into
//! containers often leaves them so.

use std::{
    fs::File,
    io::{self, Read},
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use clap::Args;
use dulse_shared::net::{cluster_identity::ClusterIdentity, cluster_secret::ClusterSecret};

use crate::exit::{Exit, one_line};

/// More of a file than this is not read: a secret is one line.
const MAX_BYTES: u64 = 4 << 10;
/// What lets others than the owner read or write a file.
const OTHERS: u32 = 0o066;

/// Which cluster the process belongs to.
#[derive(Debug, Default, Args)]
pub(crate) struct SecretArgs {
    /// File with the cluster's secret, as `dulse cluster new-secret` makes it; cluster ports then
    /// speak mutual TLS.
    #[arg(long, value_name = "FILE", env = "DULSE_CLUSTER_SECRET_FILE")]
    pub(crate) cluster_secret_file: Option<PathBuf>,
}

impl SecretArgs {
    /// What the process shows on cluster ports, if it was given a secret.
    pub(crate) fn identity(&self) -> Result<Option<ClusterIdentity>, Exit> {
        let Some(path) = &self.cluster_secret_file else { return Ok(None) };
        let secret = read(path).map_err(Exit::Usage)?;
        let identity = ClusterIdentity::new(&secret);
        identity.map(Some).map_err(|error| Exit::Failed(one_line(&error)))
    }

    /// The same for a server that listens on `bind`; the log hears what follows.
    pub(crate) fn server_identity(&self, bind: &str) -> Result<Option<ClusterIdentity>, Exit> {
        let identity = self.identity()?;
        match &identity {
            Some(identity) => tracing::info!(
                "cluster ports speak mutual TLS; the cluster secret has the fingerprint {}",
                identity.fingerprint()
            ),
            None if !is_loopback(bind) => tracing::info!(
                "no --cluster-secret-file: the cluster port is on loopback only, and no server of \
                 another machine can join; for a cluster of several machines give all of them a \
                 secret that `dulse cluster new-secret` makes"
            ),
            None => {}
        }
        Ok(identity)
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn read(path: &Path) -> Result<ClusterSecret, String> {
    let name = path.display();
    let (text, mode) = read_file(path).map_err(|error| {
        format!(
            "cannot read the cluster secret file {name}: {error}: copy it from another server of \
             the cluster, or make a new one with `dulse cluster new-secret`"
        )
    })?;
    if mode & OTHERS != 0 {
        tracing::warn!(
            "the cluster secret file {name} is not its owner's alone, and whoever reads it can join \
             the cluster: chmod 600 {name}"
        );
    }
    text.parse().map_err(|error| format!("the cluster secret file {name}: {error}"))
}

/// What is in it, as far as it is text, and who may read and write it.
fn read_file(path: &Path) -> io::Result<(String, u32)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["127.0.0.1", "127.0.0.2", "::1", "[::1]", "localhost"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["0.0.0.0", "::", "10.0.0.1", "storage.example"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
