//! How the cluster is, in words: the first thing on the page.
//!
//! Pure. What is unavailable comes before what is at risk, and each sentence names the things
//! and what to do.

use std::collections::BTreeMap;

use dulse_shared::id::VolumeId;
use serde::Serialize;

use crate::{
    topology::Topology,
    volume_layout::{Layouts, Standing},
};

/// Volume ids named in one sentence; the table lists all.
const MAX_NAMED: usize = 10;

/// The verdict.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Nothing to do.
    Healthy,
    /// Everything can be read; something needs attention.
    AtRisk,
    /// Something cannot be read or written.
    Unavailable,
}

impl Verdict {
    /// For people.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::AtRisk => "at risk",
            Self::Unavailable => "unavailable",
        }
    }

    /// For style sheets.
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::AtRisk => "at-risk",
            Self::Healthy | Self::Unavailable => self.words(),
        }
    }
}

/// The verdict and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Health {
    /// The gravest of the findings.
    pub(crate) verdict: Verdict,
    /// What was found, gravest first; empty when all is well.
    pub(crate) findings: Vec<Finding>,
}

/// One thing that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Finding {
    /// How grave it is.
    pub(crate) verdict: Verdict,
    /// A stable word for programs.
    pub(crate) code: &'static str,
    /// What and what to do.
    pub(crate) sentence: String,
}

/// Judges the whole picture.
pub(crate) fn judge(
    why_leaderless: Option<String>,
    topology: &Topology,
    layouts: &Layouts,
) -> Health {
    let mut findings = Vec::new();
    if let Some(sentence) = why_leaderless {
        findings.push(Finding::new(Verdict::Unavailable, "NO_LEADER", sentence));
    }
    if topology.alive().next().is_none() {
        let sentence = "no volume server is connected: start one with `dulse volume --dir DIR \
                        --master HOST:PORT` and this master's address";
        findings.push(Finding::new(Verdict::Unavailable, "NO_VOLUME_SERVER", sentence));
    }
    findings.extend(by_standing(layouts));
    findings.extend(crate::trouble::findings(topology));
    findings.extend(gone_servers(topology));
    findings.extend(nothing_writable(topology, layouts));
    if !layouts.contradictions.is_empty() {
        let sentence = format!(
            "{} reports of volume servers contradict what the masters agreed on: listed below",
            layouts.contradictions.len()
        );
        findings.push(Finding::new(Verdict::AtRisk, "CONTRADICTION", sentence));
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    let verdict = findings.iter().map(|finding| finding.verdict).max();
    Health { verdict: verdict.unwrap_or(Verdict::Healthy), findings }
}

impl Finding {
    pub(crate) fn new(verdict: Verdict, code: &'static str, sentence: impl Into<String>) -> Self {
        Self { verdict, code, sentence: sentence.into() }
    }
}

fn by_standing(layouts: &Layouts) -> Vec<Finding> {
    let mut groups: BTreeMap<Standing, Vec<VolumeId>> = BTreeMap::new();
    for (id, volume) in &layouts.volumes {
        groups.entry(volume.standing).or_default().push(*id);
    }
    let finding = |(standing, ids): (Standing, Vec<VolumeId>)| {
        let (verdict, code) = gravity(standing)?;
        let sentence = format!("{}: {}", named(ids), standing.sentence());
        Some(Finding::new(verdict, code, sentence))
    };
    groups.into_iter().filter_map(finding).collect()
}

/// Standings that are part of a volume's ordinary life are no findings.
const fn gravity(standing: Standing) -> Option<(Verdict, &'static str)> {
    match standing {
        Standing::Writable
        | Standing::Closed
        | Standing::Creating
        | Standing::Full
        | Standing::Expired
        | Standing::OldFormat
        | Standing::Stopping => None,
        Standing::Behind => Some((Verdict::AtRisk, "VOLUME_BEHIND")),
        Standing::LowSpace => Some((Verdict::AtRisk, "LOW_SPACE")),
        Standing::MissingCopies => Some((Verdict::AtRisk, "VOLUME_UNDER_REPLICATED")),
        Standing::Corrupt => Some((Verdict::AtRisk, "VOLUME_CORRUPT")),
        Standing::Duplicate => Some((Verdict::AtRisk, "VOLUME_DUPLICATE")),
        Standing::Damaged => Some((Verdict::AtRisk, "VOLUME_DAMAGED")),
        Standing::Failed => Some((Verdict::AtRisk, "VOLUME_FAILED")),
        Standing::OtherKind => Some((Verdict::Unavailable, "VOLUME_OTHER_KIND")),
        Standing::NotThere => Some((Verdict::Unavailable, "VOLUME_MISSING")),
        Standing::ServerGone => Some((Verdict::Unavailable, "VOLUME_UNAVAILABLE")),
    }
}

fn named(mut ids: Vec<VolumeId>) -> String {
    ids.sort_unstable();
    let listed: Vec<String> = ids.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    let noun = if ids.len() == 1 { "volume" } else { "volumes" };
    match ids.len().checked_sub(MAX_NAMED) {
        Some(more) if more > 0 => format!("{noun} {} and {more} more", listed.join(", ")),
        _ => format!("{noun} {}", listed.join(", ")),
    }
}

fn gone_servers(topology: &Topology) -> Vec<Finding> {
    let gone = topology.servers().filter(|s| !s.is_alive && !s.url.is_empty() && !s.stopping);
    let finding = |server: &crate::topology::VolumeServer| {
        let sentence = format!("volume server {} is not heard: start it again", server.url);
        Finding::new(Verdict::AtRisk, "SERVER_GONE", sentence)
    };
    gone.map(finding).collect()
}

/// Nothing to write to, and nothing to grow into.
fn nothing_writable(topology: &Topology, layouts: &Layouts) -> Option<Finding> {
    let capacity = &layouts.capacity;
    topology.alive().next()?;
    if capacity.free_slots > 0 || capacity.writable_volumes > 0 {
        return None;
    }
    let sentence = format!(
        "nothing can be written: none of {} volumes takes new needles, and of {} volume slots none \
         is free on a disk with room; add a volume server or free space",
        layouts.volumes.len(),
        capacity.max_volumes
    );
    Some(Finding::new(Verdict::Unavailable, "FULL", sentence))
}

#[cfg(test)]
mod tests {
    use dulse_shared::{clock::BootTime, wire::VolumeReport};

    use super::*;
    use crate::{
        cluster_state::{ClusterState, Command},
        testing::{LIMIT, dir, heartbeat, plain_layout, report, server},
    };

    /// Volume 1 with so many bytes, on a server with so many slots.
    fn findings(size_bytes: u64, slots: u32) -> Vec<String> {
        let key = plain_layout();
        let mut state = ClusterState::default();
        state.apply(&Command::CreateVolumes {
            collection: key.collection,
            placement: key.placement,
            ttl: key.ttl,
            disk: key.disk,
            members: vec![vec![(server(1), dulse_shared::wire::Incarnation(1))]],
        });
        let mut topology = Topology::default();
        let mut heard = heartbeat(1, vec![VolumeReport { size_bytes, ..report(1) }]);
        heard.dirs = vec![dir(slots, 1)];
        topology.receive(heard, BootTime::default()).unwrap();
        let health = judge(None, &topology, &Layouts::build(&state, &topology, LIMIT));
        health.findings.into_iter().map(|finding| finding.sentence).collect()
    }

    #[test]
    fn a_cluster_in_which_nothing_is_writable_says_so_and_why() {
        assert!(findings(LIMIT - 1, 1).is_empty(), "the volume is");
        assert!(findings(LIMIT, 2).is_empty(), "another can be made");
        let full = "nothing can be written: none of 1 volumes takes new needles, and of 1 volume \
                    slots none is free on a disk with room; add a volume server or free space";
        assert_eq!(findings(LIMIT, 1), [full]);
    }

    #[test]
    fn many_volumes_are_named_up_to_a_limit() {
        let ids = |n: u32| (1..=n).filter_map(VolumeId::new).collect();
        assert_eq!(named(ids(1)), "volume 1");
        assert_eq!(named(ids(3)), "volumes 1, 2, 3");
        assert_eq!(named(ids(12)), "volumes 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more");
    }
}
