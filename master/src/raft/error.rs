//! What can go wrong when a master starts, and when it proposes a change.

use std::{io, path::PathBuf};

use dulse_shared::net::address::ServerAddress;

/// Why a master cannot take part. The text names the path and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RaftStartError {
    /// Several masters were asked for.
    #[error("several masters are not supported yet: start one master, without --peers")]
    PeersNotYet,
    /// The directory cannot be made or written.
    #[error(
        "cannot use {path} for the master's state: {source}; \
         make it writable for this user, or choose another directory"
    )]
    Unwritable {
        /// The directory or the database in it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has the database open.
    #[error("{path} is in use by another dulse master: stop it, or choose another directory")]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// A file of that name which no dulse master wrote, or a newer one, or a damaged one.
    #[error(
        "{path} is not a master's database that this program can read: {reason}; \
         if something else put it there, move it away, otherwise bring it back from a copy"
    )]
    NotOurs {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The database was opened, but the node did not get going.
    #[error("the master with its state in {path} did not start: {reason}")]
    Failed {
        /// The database.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Why a command was not committed, or may not have been.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProposeError {
    /// Another master leads, or none; nothing was changed.
    #[error("this master does not lead: {}", ask(.leader))]
    NotLeader {
        /// Whom to ask instead.
        leader: Option<ServerAddress>,
    },
    /// Leadership or the connection to the other masters was lost on the way: the change may
    /// have been made or may still be made.
    #[error("the change may or may not have been made: {reason}")]
    Unknown {
        /// What happened.
        reason: String,
    },
    /// Too many changes are under way; nothing was changed.
    #[error("too many changes are being made at once: try again")]
    Overloaded,
    /// The command is larger than a log entry may be; nothing was changed.
    #[error("a change of {bytes} bytes is too large, {limit} are allowed: make it in parts")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The node is stopping or has failed.
    #[error("this master is stopping")]
    Stopped,
}

fn ask(leader: &Option<ServerAddress>) -> String {
    match leader {
        Some(leader) => format!("ask {}", leader.public()),
        None => "no master leads at present, try again".to_owned(),
    }
}
