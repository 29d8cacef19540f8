//! What goes over HTTP as JSON: types without logic.

mod assign;
mod cluster;
mod epoch;
mod event;
mod heartbeat;
mod job;
mod lookup;
mod map;
mod masters;
mod problem;
mod recovery;
mod replica;
mod scrub;
mod upload;
mod vacuum;
mod volume;
mod watch;

pub use assign::AssignResponse;
pub use cluster::{
    DiskType, Epoch, Incarnation, LastWritable, Member, ReadOnlyReason, VolumeConfig, VolumeState,
};
pub use epoch::{EPOCH_HEADER, ParseVolumeEpochError, VolumeEpoch};
pub use event::{ClusterEvent, EventKind, EventList};
pub use heartbeat::{
    DirReport, ForeignVolume, Heartbeat, HeartbeatAnswer, LocalState, MAX_CONTRADICTIONS,
    MAX_UNSERVED, MasterNode, RefusedVolume, UnservedVolume, VolumeReport, bounded_sentence,
};
pub use job::{JobKind, JobPhase, JobProgress};
pub use lookup::{Location, LookupResponse};
pub use map::{MappedServer, MappedState, MappedVolume, VolumeMap};
pub use masters::{ChangeMasters, MasterReport, MasterRole, Masters};
pub use problem::{Code, Problem, ProblemBody};
pub use recovery::{
    AbsentServer, GRANTED_BELOW, HeldVolumes, RecoveredServer, RecoveryReport, StartRecovery,
};
pub use replica::{Decision, Held, Holding, Sealed, Standing, Unresolved, WriteId};
pub use scrub::{ScrubFinding, ScrubReport, StartScrub, VolumeScrub};
pub use upload::{DeleteResponse, SubmitResponse, UploadResponse};
pub use vacuum::{StartVacuum, VacuumOutcome, VacuumReport, VolumeVacuum};
pub use volume::CreateVolume;
pub use watch::{ServerIdentity, Watch, WatchAnswer};
