//! What can go wrong between a program and the store.
//!
//! Each message is one whole line: what failed, on what, what to do. Whether trying again may
//! help is a property of the error, so that no caller judges by status codes.

use std::{error::Error, io};

use dulse_shared::{
    id::Fid,
    net::peer::{Distrust, PeerError},
    size::ByteSize,
    wire::Code,
};

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A master's address cannot be read.
    #[error("{0:?} is not the address of a master: write host:port")]
    MasterAddress(String),
    /// The list of masters is empty.
    #[error("no master is named: give at least one host:port")]
    NoMasters,
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client: {0}")]
    Setup(String),
    /// Every master was tried, none could be talked to.
    #[error("no master answers at {tried} ({reason}): start one, or name others with --master")]
    NoMasterAnswers {
        /// The masters.
        tried: String,
        /// What happened at the last one.
        reason: String,
    },
    /// No connection, or it broke, or the time limit passed. Whether a write or delete took
    /// effect is unknown.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// What was called.
        url: String,
        /// Why.
        reason: String,
    },
    /// A cluster port that knows another cluster secret, or none.
    #[error("{address} {distrust}")]
    Distrust {
        /// `host:port` of the cluster port.
        address: String,
        /// How the secrets differ.
        distrust: Distrust,
    },
    /// The server answered with an error.
    #[error("{url} answered {status}: {message}")]
    Refused {
        /// What was called.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The server's stable word, if it sent one that is known.
        code: Option<Code>,
        /// The server's sentence.
        message: String,
    },
    /// The answer is not what this route answers.
    #[error("{url} sent an answer that cannot be read ({reason}): is it a dulse server?")]
    Unreadable {
        /// What was called.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What was under way on a server is not any more, and was not finished.
    #[error(
        "{what} was not finished: the server was restarted, or the volume went; start it again"
    )]
    Interrupted {
        /// What was under way.
        what: String,
    },
    /// No such needle.
    #[error("there is no needle {0}: it was deleted, has expired, or the fid is mistyped")]
    NotFound(Fid),
    /// More than a needle holds.
    #[error(
        "{name} has {}, a needle holds at most {}: split it; larger files come with a later version",
        size.map_or_else(|| "more bytes than fit".to_owned(), |size| ByteSize(size).to_string()),
        ByteSize(*limit)
    )]
    TooLarge {
        /// What was to be uploaded.
        name: String,
        /// Its size in bytes, if known.
        size: Option<u64>,
        /// The limit in bytes.
        limit: u64,
    },
    /// More was fetched than the caller wanted to hold.
    #[error("{fid} is larger than {}: write it to a file instead", ByteSize(*limit))]
    OverLimit {
        /// The needle.
        fid: Fid,
        /// The caller's limit in bytes.
        limit: u64,
    },
    /// The bytes that arrived are not the bytes that were stored.
    #[error("{fid} arrived damaged (checksum {arrived:08x} instead of {stored:08x}): try again")]
    Damaged {
        /// The needle.
        fid: Fid,
        /// CRC-32C of the stored bytes.
        stored: u32,
        /// CRC-32C of those that arrived.
        arrived: u32,
    },
    /// What was to be uploaded cannot be read.
    #[error("cannot read {name}: {source}")]
    Source {
        /// What was to be uploaded.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// What was fetched cannot be written.
    #[error("cannot write {name}: {source}")]
    Sink {
        /// Where to.
        name: String,
        /// Why.
        source: io::Error,
    },
}

impl ClientError {
    /// From a request that got no answer.
    pub(crate) fn unreachable(url: &str, error: &reqwest::Error) -> Self {
        Self::Unreachable { url: url.to_owned(), reason: reason(error) }
    }

    /// Whether the same call may succeed elsewhere or a moment later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoMasterAnswers { .. } | Self::Damaged { .. } => true,
            Self::Refused { status, code, .. } => match code {
                Some(Code::NotSupported) => false,
                // The volume moved since the caller was told where it is.
                Some(Code::VolumeNotFound) => true,
                _ => *status >= 500 || *status == 421,
            },
            _ => false,
        }
    }

    /// Whether another fid may be written where this one was not.
    pub(crate) fn calls_for_another_fid(&self) -> bool {
        let is_key_taken = matches!(self, Self::Refused { code: Some(Code::CookieMismatch), .. });
        self.is_passing() || is_key_taken
    }

    /// The server's stable word, if it refused with one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => *code,
            _ => None,
        }
    }
}

impl From<PeerError> for ClientError {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::Unreachable { url, source } => {
                Self::Unreachable { url, reason: source.to_string() }
            }
            PeerError::Distrust { address, distrust } => Self::Distrust { address, distrust },
            PeerError::Refused { url, status, code, message } => {
                Self::Refused { url, status, code, message }
            }
            PeerError::Unreadable { url, reason } => Self::Unreadable { url, reason },
        }
    }
}

/// The innermost cause: what lies around it repeats the URL in other words.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer within the time limit".to_owned();
    }
    let mut innermost: &dyn Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}
