//! Which volumes are deleted because the time of all their needles is over.
//!
//! A volume server decides by its own clock that a volume has expired, and from then on takes no
//! writes to it, durably. Only when every member said so is the volume deleted, and only if this
//! master's clock agrees and was steady for as long as the volume lives: one clock that ran ahead
//! deletes nothing. What is not plain is left for the next look.

use dulse_shared::{
    steady_clock::SteadyTime,
    wire::{LocalState, VolumeConfig, VolumeReport},
};

use crate::{
    cluster_state::{ClusterState, Deletion},
    topology::Topology,
};

/// Volumes deleted by one command; the others by the next, half a second later.
const MAX_AT_ONCE: usize = 256;

/// The volumes to delete now.
pub(crate) fn plan_deletions(
    state: &ClusterState,
    topology: &Topology,
    now: SteadyTime,
) -> Vec<Deletion> {
    let is_due = |config: &&VolumeConfig| {
        !config.ttl.is_none()
            && !config.members.is_empty()
            && config.members.iter().all(|member| {
                let report = topology.live_report(member.server, config.id);
                report.is_some_and(|(_, report)| has_expired(config, report, now))
            })
    };
    let due = state.configs().filter(is_due).take(MAX_AT_ONCE);
    due.map(|config| Deletion { id: config.id, epoch: config.epoch }).collect()
}

/// Whether a member says so of the volume as it was agreed on, and rightly.
fn has_expired(config: &VolumeConfig, report: &VolumeReport, now: SteadyTime) -> bool {
    let is_over = config.ttl.volume_lifetime().is_some_and(|lifetime| {
        let over_at = report.modified_at_secs.saturating_add(lifetime.as_secs());
        now.secs_to_delete_by(lifetime).is_some_and(|now_secs| over_at <= now_secs)
    });
    report.local == LocalState::Expired
        && report.epoch == config.epoch
        && report.ttl == config.ttl
        && is_over
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use dulse_shared::{
        clock::BootTime,
        id::{Collection, Ttl},
        steady_clock::LONGEST_PERIOD,
        wire::{DiskType, Epoch, Incarnation},
    };

    use super::*;
    use crate::{
        cluster_state::Command,
        testing::{heartbeat, report, server, volume},
    };

    /// The last write of the volume here.
    const WRITTEN: u64 = 1_000_000;
    /// An hour and six minutes later.
    const OVER: u64 = WRITTEN + 66 * 60;
    /// Five hundred years.
    const AGES: u64 = 500 * 365 * 24 * 3600;

    /// Volume 1 with the ttl of an hour on servers 1 and 2.
    fn two_copies() -> ClusterState {
        let mut state = ClusterState::default();
        state.apply(&Command::CreateVolumes {
            collection: Collection::default(),
            placement: "001".parse().unwrap(),
            ttl: "1h".parse().unwrap(),
            disk: DiskType::default(),
            members: vec![vec![(server(1), Incarnation(1)), (server(2), Incarnation(1))]],
        });
        state
    }

    fn expired() -> VolumeReport {
        VolumeReport {
            ttl: "1h".parse().unwrap(),
            local: LocalState::Expired,
            modified_at_secs: WRITTEN,
            ..report(1)
        }
    }

    fn topology(reports: &[VolumeReport]) -> Topology {
        let mut topology = Topology::default();
        for (report, n) in reports.iter().zip(1..) {
            let heartbeat = heartbeat(n, vec![report.clone()]);
            topology.receive(heartbeat, BootTime::default()).unwrap();
        }
        topology
    }

    /// The time by a clock that was steady for long enough.
    fn steadily(secs: u64) -> SteadyTime {
        SteadyTime { wall_ns: secs * 1_000_000_000, steady_for: LONGEST_PERIOD }
    }

    fn is_planned(state: &ClusterState, second: VolumeReport) -> bool {
        !plan_deletions(state, &topology(&[expired(), second]), steadily(OVER)).is_empty()
    }

    #[test]
    fn a_volume_is_deleted_when_every_member_says_that_it_has_expired() {
        let state = two_copies();
        let planned = plan_deletions(&state, &topology(&[expired(), expired()]), steadily(OVER));
        assert_eq!(planned, [Deletion { id: volume(1), epoch: Epoch(1) }]);
        for local in [LocalState::Ready, LocalState::Failed, LocalState::Damaged] {
            assert!(!is_planned(&state, VolumeReport { local, ..expired() }), "{local:?}");
        }
        assert!(!is_planned(&state, VolumeReport { epoch: Epoch(2), ..expired() }));
        assert!(!is_planned(&state, VolumeReport { ttl: Ttl::NONE, ..expired() }));
        assert!(
            plan_deletions(&state, &topology(&[expired()]), steadily(OVER)).is_empty(),
            "one is away"
        );
        let mut silent = topology(&[expired(), expired()]);
        silent.expire(BootTime::default().plus(Duration::from_secs(60)));
        assert!(plan_deletions(&state, &silent, steadily(OVER)).is_empty(), "both are silent");
    }

    #[test]
    fn a_volume_servers_clock_alone_deletes_nothing() {
        let state = two_copies();
        let both = topology(&[expired(), expired()]);
        assert!(plan_deletions(&state, &both, steadily(OVER - 1)).is_empty());
        let written_later = VolumeReport { modified_at_secs: WRITTEN + 1, ..expired() };
        assert!(!is_planned(&state, written_later));
    }

    #[test]
    fn a_masters_clock_that_was_not_steady_for_an_hour_deletes_nothing() {
        let (state, both) = (two_copies(), topology(&[expired(), expired()]));
        let second = Duration::from_secs(1);
        for (steady_for, planned) in
            [(Duration::ZERO, 0), (LONGEST_PERIOD - second, 0), (LONGEST_PERIOD, 1)]
        {
            let now = SteadyTime { steady_for, ..steadily(AGES) };
            assert_eq!(plan_deletions(&state, &both, now).len(), planned, "{steady_for:?}");
        }
    }

    #[test]
    fn a_volume_of_which_nobody_speaks_is_not_deleted() {
        let mut state = two_copies();
        for config in state.volumes.values_mut() {
            Arc::make_mut(config).members.clear();
        }
        assert!(plan_deletions(&state, &topology(&[]), steadily(AGES)).is_empty());
    }

    #[test]
    fn a_volume_without_a_ttl_is_never_deleted_whatever_is_reported() {
        let mut state = two_copies();
        for config in state.volumes.values_mut() {
            Arc::make_mut(config).ttl = Ttl::NONE;
        }
        let report = VolumeReport { ttl: Ttl::NONE, ..expired() };
        assert!(
            plan_deletions(&state, &topology(&[report.clone(), report]), steadily(AGES)).is_empty()
        );
    }
}
