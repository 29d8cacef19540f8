//! The error that every server answers with.

use serde::{Deserialize, Serialize};

use super::Location;

/// An error on its way to a client: one status, one stable code, one sentence that says what
/// failed and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// What kind of problem; decides the HTTP status.
    pub code: Code,
    /// What failed, on what, and what to do next.
    pub message: String,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The JSON body of an error.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProblemBody {
    /// The sentence.
    pub error: String,
    /// The stable word.
    pub code: Code,
    /// Bytes that were concerned, where clients look for that beside an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Where the volume is that was asked for, as far as the server knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locations: Option<Vec<Location>>,
    /// The request's id, as in `X-Request-Id` and the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// The stable words by which programs tell errors apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A parameter or header cannot be read (400).
    BadRequest,
    /// The path is not a fid (400).
    BadFid,
    /// The multipart body is broken (400).
    BadMultipart,
    /// The body does not match its `Content-MD5` (400).
    Md5Mismatch,
    /// The cookie is not the stored needle's (403 on a write, 400 on a delete; a read says
    /// [`Code::NotFound`]).
    CookieMismatch,
    /// No such needle (404).
    NotFound,
    /// No such volume in the cluster (404).
    VolumeNotFound,
    /// No such route (404).
    NoRoute,
    /// The route exists, the method does not (405).
    MethodNotAllowed,
    /// The body comes too slowly to be waited for (408).
    TooSlow,
    /// Another write of the same fid is under way (409).
    Conflict,
    /// The body is larger than a needle may be (413).
    TooLarge,
    /// No part of the range exists (416).
    RangeNotSatisfiable,
    /// The request is for an epoch of the volume that the server does not serve (421).
    OtherEpoch,
    /// Something went wrong that should not (500).
    Internal,
    /// The stored bytes do not verify (500).
    Corrupt,
    /// Not built yet (501).
    NotSupported,
    /// The volume takes no writes at present; nothing was stored (503).
    VolumeReadOnly,
    /// The volume is full, or its disk; nothing was stored (507).
    VolumeFull,
    /// No volume server that holds the volume can be reached, or the one that has its files cannot
    /// use them (503).
    VolumeUnavailable,
    /// No volume can take a write; nothing was stored (503).
    NoWritableVolume,
    /// No master leads; nothing was stored (503).
    NoLeader,
    /// A limit is reached; nothing was stored (503).
    Overloaded,
    /// The write may or may not take effect (503).
    WriteUnknown,
    /// The server is starting or stopping (503).
    NotReady,
    /// The caller belongs to another cluster (409).
    OtherCluster,
}

impl Code {
    /// The HTTP status that goes with the code.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::BadFid | Self::BadMultipart | Self::Md5Mismatch => 400,
            Self::CookieMismatch => 403,
            Self::NotFound | Self::VolumeNotFound | Self::NoRoute => 404,
            Self::MethodNotAllowed => 405,
            Self::TooSlow => 408,
            Self::Conflict | Self::OtherCluster => 409,
            Self::TooLarge => 413,
            Self::RangeNotSatisfiable => 416,
            Self::OtherEpoch => 421,
            Self::Internal | Self::Corrupt => 500,
            Self::NotSupported => 501,
            Self::VolumeReadOnly
            | Self::VolumeUnavailable
            | Self::NoWritableVolume
            | Self::NoLeader
            | Self::Overloaded
            | Self::WriteUnknown
            | Self::NotReady => 503,
            Self::VolumeFull => 507,
        }
    }
}
