//! The files beside `.dat` and `.idx`: the sidecar, and what an interruption left.

use super::finding::{Finding, Findings};
use crate::{disk::VolumeName, engine::sidecar::Sidecar, format::Superblock};

/// What is written beside a file before it takes its place; the marker without which the others
/// mean nothing comes first.
const STAGED: [&str; 6] = ["cpc", "cpd", "cpx", "idx.new", "dulse.new", "vif.new"];

/// The names under which an interruption may have left something of the volume.
pub fn stray_names(name: &VolumeName) -> impl Iterator<Item = String> {
    STAGED.iter().map(|suffix| name.with_suffix(suffix))
}

/// Holds a sidecar against the volume's name, its superblock and the length of its file.
pub fn check_sidecar(
    sidecar: &Sidecar,
    name: &VolumeName,
    superblock: &Superblock,
    dat_len: u64,
    findings: &mut Findings,
) {
    let mut require = |is_so: bool, text: String| {
        if !is_so {
            findings.push(Finding::Sidecar(text));
        }
    };
    let Sidecar { config, .. } = sidecar;
    let is_of_it = config.id == name.id && config.collection == name.collection;
    require(is_of_it, format!("is that of volume {}", config.id));
    let (fence, epoch) = (sidecar.fence.0, config.epoch.0);
    require(fence >= epoch, format!("has the epoch {epoch} above its fence {fence}"));
    let (generation, revision) = (sidecar.generation, superblock.compaction_revision);
    let text = format!("speaks of generation {generation}, the volume file is {revision}");
    require(generation == revision, text);
    for (field, offset) in [("own_from", sidecar.own_from), ("resolved_len", sidecar.resolved_len)]
    {
        require(offset <= dat_len, format!("has {field} {offset} in a file of {dat_len} bytes"));
    }
    let is_rising = sidecar.aborted.is_sorted_by(|a, b| a < b);
    let is_below = sidecar.aborted.last().is_none_or(|last| *last < sidecar.resolved_len);
    require(is_rising && is_below, "has aborted offsets out of order".to_owned());
}
