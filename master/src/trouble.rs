//! What volume servers say about their own disks, in words: directories that cannot be used, volumes
//! that failed, volumes that have files and are not served.
//!
//! Pure. The standing of a volume says that something is wrong; this says what.

use dulse_shared::wire::{LocalState, VolumeConfig};

use crate::{
    health::{Finding, Verdict},
    topology::{Topology, VolumeServer},
};

/// Sentences of one kind and server; its own page has all.
const MAX_NAMED: usize = 10;

/// What the servers that are alive report.
pub(crate) fn findings(topology: &Topology) -> Vec<Finding> {
    let mut findings = Vec::new();
    for server in topology.alive() {
        findings.extend(of_dirs(server));
        findings.extend(of_troubled_volumes(server));
        findings.extend(of_unserved_volumes(server));
    }
    findings
}

/// What a member of a volume says about it, beyond its standing.
pub(crate) fn reason_of(config: &VolumeConfig, topology: &Topology) -> Option<String> {
    let mut servers = config.members.iter().filter_map(|member| topology.server(member.server));
    servers.find_map(|server| {
        let reported = server.volumes.get(&config.id).and_then(|report| report.trouble.as_deref());
        let reason = reported.or_else(|| server.unserved_reason(config.id))?;
        Some(format!("{} says: {reason}", server.url))
    })
}

fn of_dirs(server: &VolumeServer) -> impl Iterator<Item = Finding> {
    let troubled = server.dirs.iter().filter_map(|dir| Some((dir, dir.trouble.as_deref()?)));
    troubled.take(MAX_NAMED).map(|(dir, trouble)| {
        let sentence = format!("the directory {} of {}: {trouble}", dir.dir, server.url);
        Finding::new(Verdict::Unavailable, "DIRECTORY_FAILED", sentence)
    })
}

fn of_troubled_volumes(server: &VolumeServer) -> impl Iterator<Item = Finding> {
    let troubled = server.volumes.values().filter_map(|report| {
        let trouble = report.trouble.as_deref()?;
        let code = match report.local {
            LocalState::Damaged => "VOLUME_DAMAGED",
            LocalState::Duplicate => "VOLUME_DUPLICATE",
            _ => "VOLUME_FAILED",
        };
        let sentence = format!("volume {} on {}: {trouble}", report.id, server.url);
        Some(Finding::new(Verdict::AtRisk, code, sentence))
    });
    troubled.take(MAX_NAMED)
}

fn of_unserved_volumes(server: &VolumeServer) -> impl Iterator<Item = Finding> {
    server.unserved.iter().take(MAX_NAMED).map(|volume| {
        let sentence =
            format!("volume {} on {} is not served: {}", volume.id, server.url, volume.reason);
        Finding::new(Verdict::Unavailable, "VOLUME_NOT_SERVED", sentence)
    })
}

#[cfg(test)]
mod tests {
    use dulse_shared::{
        clock::BootTime,
        id::Collection,
        wire::{DirReport, Heartbeat, UnservedVolume, VolumeReport},
    };

    use super::*;
    use crate::testing::{dir, heartbeat, report, volume};

    #[test]
    fn a_server_s_own_reasons_reach_the_health_word_for_word() {
        let failed = VolumeReport { trouble: Some("a sync failed".to_owned()), ..report(3) };
        let unserved = UnservedVolume {
            id: volume(4),
            collection: Collection::default(),
            reason: "4.dat is missing".to_owned(),
        };
        let gone = DirReport { trouble: Some("it was unmounted".to_owned()), ..dir(8, 0) };
        let heartbeat = Heartbeat {
            unserved: vec![unserved],
            dirs: vec![gone, dir(8, 1)],
            ..heartbeat(1, vec![failed])
        };
        let mut topology = Topology::default();
        topology.receive(heartbeat, BootTime::default()).unwrap();
        let found: Vec<(&str, String)> =
            findings(&topology).into_iter().map(|f| (f.code, f.sentence)).collect();
        let expected = [
            ("DIRECTORY_FAILED", "the directory /data of 127.0.0.1:8081: it was unmounted"),
            ("VOLUME_FAILED", "volume 3 on 127.0.0.1:8081: a sync failed"),
            ("VOLUME_NOT_SERVED", "volume 4 on 127.0.0.1:8081 is not served: 4.dat is missing"),
        ];
        assert_eq!(found, expected.map(|(code, text)| (code, text.to_owned())));
    }
}
