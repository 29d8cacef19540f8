//! What can go wrong when a master starts, and when it proposes a change.

use std::{io, path::PathBuf};

use dulse_shared::net::{address::ServerAddress, peer::PeerError};

/// Why a master cannot take part. The text names the path and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RaftStartError {
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

/// Why the masters did not change.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// One change at a time.
    #[error("another change of the masters is under way: try again in a moment")]
    Busy,
    /// It is one already.
    #[error("{address} is a master of this cluster already")]
    AlreadyMember {
        /// Its address.
        address: String,
    },
    /// None of them.
    #[error("{address} is no master of this cluster, which has {members}")]
    NotAMember {
        /// What was asked for.
        address: String,
        /// Those there are.
        members: String,
    },
    /// A cluster needs a master.
    #[error(
        "{address} is the leader, and no other master can take over: a cluster needs at least one"
    )]
    LastMaster {
        /// Its address.
        address: String,
    },
    /// Nobody answers at the address of a master to be taken in.
    #[error(
        "no master answers at {address}: start it there first, with --peers that name it and the \
         present masters"
    )]
    Unreachable {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: Box<PeerError>,
    },
    /// It has a past.
    #[error(
        "the master at {address} has the state of a cluster already: stop it, give it an empty \
         directory, and start it again"
    )]
    NotNew {
        /// Its address.
        address: String,
    },
    /// Who answers there says it is somewhere else, or is not the one that asked.
    #[error("another master than expected answers at {address}: does each have its own address?")]
    AnotherThere {
        /// The address.
        address: String,
    },
    /// Those that answer would be no majority of the masters that there would be.
    #[error(
        "not now: with that change {needed} of {masters} masters have to answer, and only {heard} \
         do; start the others first, or take out those that are lost"
    )]
    TooFew {
        /// How many there would be.
        masters: usize,
        /// How many of them are needed.
        needed: usize,
        /// How many answered lately.
        heard: usize,
    },
    /// A new master did not get the log in time.
    #[error("the master at {address} did not take over what was agreed on in time: see its log")]
    NotCaughtUp {
        /// Its address.
        address: String,
    },
    /// Leadership stayed where it was.
    #[error("{to} did not take over in time: is it running?")]
    NotTakenOver {
        /// Who should have.
        to: String,
    },
    /// The consensus library refuses it.
    #[error("the masters cannot be changed so: {reason}")]
    Impossible {
        /// Why.
        reason: String,
    },
    /// It could not be agreed on.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

fn ask(leader: &Option<ServerAddress>) -> String {
    match leader {
        Some(leader) => format!("ask {}", leader.public()),
        None => "no master leads at present, try again".to_owned(),
    }
}
