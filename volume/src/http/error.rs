//! What goes wrong below, as an answer: the only place of this server that chooses codes.
//!
//! Each error is matched without a wildcard, so that a new one has to be given its code here. The
//! status that goes with a code, and the JSON, are the business of the layer that all servers share.

use dulse_shared::{
    id::{Fid, VolumeId},
    wire::{Code, Problem},
};

use crate::{
    engine::{volume::Refusal, write::WriteError},
    reader::ReadError,
    store::Store,
};

/// The volume is not served here: it is not on this server, or its files cannot be used.
pub(super) fn volume_not_here(store: &Store, id: VolumeId) -> Problem {
    if let Some(reason) = store.unserved_reason(id) {
        let message = format!("volume {id} has files on this server and is not served: {reason}");
        return Problem::new(Code::VolumeUnavailable, message);
    }
    let message = format!(
        "volume {id} is not on this server: ask a master where it is, GET /dir/lookup?volumeId={id}"
    );
    Problem::new(Code::VolumeNotFound, message)
}

/// A read that gave nothing.
pub(super) fn read_problem(fid: Fid, error: &ReadError) -> Problem {
    match error {
        ReadError::NotFound => Problem::new(
            Code::NotFound,
            format!("there is no needle {fid}: it was deleted, it expired, or it never was"),
        ),
        ReadError::Corrupt { .. } => Problem::new(
            Code::Corrupt,
            format!(
                "{error}; the volume's file is damaged: write the needle again under its fid, delete \
                 it, or restore the file from a backup"
            ),
        ),
        ReadError::Io { .. } => Problem::new(Code::Internal, format!("{error}; check the disk")),
    }
}

/// A write or delete that did not happen, or may not have.
pub(super) fn write_problem(fid: Fid, error: &WriteError) -> Problem {
    let code = match error {
        WriteError::NotFound => Code::NotFound,
        WriteError::CookieMismatch => Code::CookieMismatch,
        WriteError::Refused(Refusal::Full(_) | Refusal::AtItsEnd(_) | Refusal::NoRoom(_)) => {
            Code::VolumeFull
        }
        WriteError::Refused(Refusal::ReadOnly { .. }) => Code::VolumeReadOnly,
        WriteError::Invalid(_) => Code::BadRequest,
        WriteError::Unreadable(_) => Code::Corrupt,
        WriteError::Mangled(_) => Code::Internal,
        WriteError::Overloaded(_) => Code::Overloaded,
        WriteError::Unknown(_) => Code::WriteUnknown,
    };
    Problem::new(code, format!("needle {fid}: {error}"))
}
