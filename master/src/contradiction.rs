//! Where what a volume server reports and what the masters agreed on cannot both be right.
//!
//! Pure. Nothing is repaired here: the cluster state is the authority, and people are told, on the
//! page and by the leader's answer to the server itself.

use std::fmt;

use dulse_shared::{
    id::{ServerId, VolumeId},
    wire::{Epoch, VolumeConfig, VolumeReport},
};

use crate::{
    cluster_state::ClusterState,
    topology::{Topology, VolumeServer},
};

/// Listed at most; more are of the same kind, and a page has an end.
const MAX_LISTED: usize = 1_000;

/// One disagreement.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Contradiction {
    /// Who reports it.
    pub(crate) server: ServerId,
    /// Where that server is.
    pub(crate) url: String,
    /// The volume.
    pub(crate) volume: VolumeId,
    /// What is wrong.
    pub(crate) what: Disagreement,
}

/// What a report and the cluster state disagree on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Disagreement {
    /// The cluster state has no such volume.
    UnknownVolume,
    /// The volume has other members.
    NotAMember,
    /// The server follows a configuration that was never agreed on.
    EpochAhead {
        /// What the server reports.
        reported: Epoch,
        /// What was agreed on.
        agreed: Epoch,
    },
    /// Collection, replica placement or ttl differ.
    OtherKind,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (volume, url) = (self.volume, &self.url);
        match self.what {
            Disagreement::UnknownVolume => write!(
                f,
                "{url} reports volume {volume}, which this cluster does not have: it is not used; \
                 did the masters lose their data directory?"
            ),
            Disagreement::NotAMember => write!(
                f,
                "{url} reports volume {volume}, which other servers hold: this copy is not used"
            ),
            Disagreement::EpochAhead { reported, agreed } => write!(
                f,
                "{url} reports volume {volume} at epoch {}, the masters agreed on {}: was a \
                 master's data directory restored from an older copy?",
                reported.0, agreed.0
            ),
            Disagreement::OtherKind => write!(
                f,
                "{url} reports volume {volume} with another collection, replication or ttl than \
                 the masters agreed on: it is not used"
            ),
        }
    }
}

/// All disagreements with servers that are alive.
pub(crate) fn find_contradictions(state: &ClusterState, topology: &Topology) -> Vec<Contradiction> {
    topology.alive().flat_map(|server| contradictions_of(state, server)).take(MAX_LISTED).collect()
}

/// All disagreements with one server.
pub(crate) fn contradictions_of<'a>(
    state: &'a ClusterState,
    server: &'a VolumeServer,
) -> impl Iterator<Item = Contradiction> + 'a {
    server.volumes.values().filter_map(move |report| {
        let config = state.volume(report.id);
        if config.is_none() && state.deleted.contains(report.id) {
            // The answer to its heartbeat tells the server.
            return None;
        }
        let what = disagreement(config, server.id, report)?;
        Some(Contradiction { server: server.id, url: server.url.clone(), volume: report.id, what })
    })
}

fn disagreement(
    config: Option<&VolumeConfig>,
    server: ServerId,
    report: &VolumeReport,
) -> Option<Disagreement> {
    let Some(config) = config else {
        return Some(Disagreement::UnknownVolume);
    };
    if config.members.iter().all(|member| member.server != server) {
        return Some(Disagreement::NotAMember);
    }
    if report.epoch > config.epoch {
        return Some(Disagreement::EpochAhead { reported: report.epoch, agreed: config.epoch });
    }
    (!is_same_kind(config, report)).then_some(Disagreement::OtherKind)
}

/// Whether the file that is reported can be the volume that was agreed on.
pub(crate) fn is_same_kind(config: &VolumeConfig, report: &VolumeReport) -> bool {
    let reported = (&report.collection, report.placement, report.ttl);
    reported == (&config.collection, config.placement, config.ttl)
}
