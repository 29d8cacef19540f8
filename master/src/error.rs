//! Why a master does not start. Each text names the thing and the remedy.

use std::{io, path::PathBuf};

use dulse_shared::net::server::BindError;

use crate::raft::RaftStartError;

/// Why a master does not start.
#[derive(Debug, thiserror::Error)]
pub enum MasterStartError {
    /// The data directory cannot be made or written to.
    #[error(
        "cannot use data directory {path}: {source}; pass --dir with a directory that this user \
         may write to"
    )]
    Dir {
        /// The directory, or the file in it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else has the data directory.
    #[error(
        "data directory {path} is in use by another dulse process: stop it, or pass --dir with \
         another directory"
    )]
    DirInUse {
        /// The directory.
        path: PathBuf,
    },
    /// A port cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The address that others are told does not work as one.
    #[error(
        "{address:?} cannot be told to others as an address: pass --advertise with a host name"
    )]
    Advertise {
        /// What was passed.
        address: String,
    },
    /// The list of masters does not have this one.
    #[error(
        "this master is {here} to others, which is not among --peers {peers}: pass --ip (or \
         --advertise) and the port as they stand there"
    )]
    NotAmongPeers {
        /// What it advertises.
        here: String,
        /// The list.
        peers: String,
    },
    /// The agreed state cannot be opened.
    #[error(transparent)]
    Raft(#[from] RaftStartError),
    /// The HTTP client for uploads cannot be set up.
    #[error("cannot set up the HTTP client for uploads: {0}")]
    Relay(#[source] reqwest::Error),
}
