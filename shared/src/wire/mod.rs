//! What goes over HTTP as JSON: types without logic.

mod assign;
mod cluster;
mod heartbeat;
mod lookup;
mod problem;
mod replica;
mod upload;
mod volume;

pub use assign::AssignResponse;
pub use cluster::{
    DiskType, Epoch, Incarnation, LastWritable, Member, ReadOnlyReason, VolumeConfig, VolumeState,
};
pub use heartbeat::{
    DirReport, ForeignVolume, Heartbeat, HeartbeatAnswer, LocalState, MAX_UNSERVED, RefusedVolume,
    UnservedVolume, VolumeReport, bounded_sentence,
};
pub use lookup::{Location, LookupResponse};
pub use problem::{Code, Problem, ProblemBody};
pub use replica::{Decision, Held, Holding, Sealed, Standing, Unresolved, WriteId};
pub use upload::{DeleteResponse, SubmitResponse, UploadResponse};
pub use volume::CreateVolume;
