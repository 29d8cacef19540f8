//! `/vol/vacuum`: has every volume server compact what has enough garbage, waits until all are done,
//! and answers what `/dir/status` does.
//!
//! Volume servers compact by themselves when it is time; this is for those who want it now.

use std::{collections::BTreeMap, time::Duration};

use axum::{extract::State, http::Uri, response::Response};
use dulse_shared::{
    id::VolumeId,
    net::peer::PeerError,
    wire::{Code, JobPhase, Problem, StartVacuum, VacuumReport},
};
use futures_util::future::join_all;

use super::{
    params::{Params, bad_request},
    state::HttpState,
    status::dir_status,
};

/// Where servers take it.
const ROUTE: &str = "/admin/vacuum";
/// Reports come from a server's memory.
const REPORT_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks: at first short, since most volumes of a new store are.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_secs(1)];
/// Looks with each of those pauses.
const LOOKS_PER_PAUSE: usize = 10;
/// A look that fails is repeated so often: a server that is busy or out of reach for a moment goes on
/// with its vacuums.
const MAX_FAILURES: u32 = 3;
/// Before the first repeat; before the second twice as long, and so on.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Why it is not known that the vacuums of a server are done.
#[derive(Debug, thiserror::Error)]
enum VacuumError {
    /// It was not asked, or did not say that it was.
    #[error("did not take the request: {0}")]
    NotStarted(#[source] PeerError),
    /// It stopped answering.
    #[error("may still be at it, but does not say so: {0}")]
    OutOfSight(#[source] PeerError),
    /// Nobody works on this volume any more.
    #[error("was restarted, or lost volume {0}, before that was done: ask again")]
    Interrupted(VolumeId),
}

impl VacuumError {
    /// The sentence about a server, with where to see what becomes of its vacuums.
    fn of_server(&self, url: &str) -> String {
        match self {
            Self::OutOfSight(_) => {
                format!("{url} {self}; http://{url}/status shows what is under way")
            }
            Self::NotStarted(_) | Self::Interrupted(_) => format!("{url} {self}"),
        }
    }
}

/// Compacts volumes now.
pub(super) async fn vacuum(State(state): State<HttpState>, uri: Uri) -> Result<Response, Problem> {
    let garbage_threshold = threshold(&Params::from_query(uri.query()))?;
    let request = StartVacuum { volume: None, garbage_threshold };
    let servers: Vec<(String, String)> = state.cluster.look(|_, topology| {
        topology.alive().map(|server| (server.url.clone(), server.cluster_url.clone())).collect()
    });
    let vacuums =
        servers.iter().map(|(_, cluster_url)| vacuum_server(&state, cluster_url, request));
    let results = join_all(vacuums).await;
    let failed: Vec<String> = servers
        .iter()
        .zip(results)
        .filter_map(|((url, _), result)| result.err().map(|error| error.of_server(url)))
        .collect();
    if failed.is_empty() {
        return dir_status(State(state), uri).await;
    }
    let message = format!("not all vacuums came to an end: {}", failed.join("; "));
    Err(Problem::new(Code::VolumeUnavailable, message))
}

fn threshold(params: &Params) -> Result<Option<f64>, Problem> {
    let Some(text) = params.value("garbageThreshold") else { return Ok(None) };
    let part: Option<f64> = text.parse().ok().filter(|part| (0.0..=1.0).contains(part));
    let wrong = || format!("garbageThreshold is {text:?}: it is a part, from 0 to 1, as in 0.3");
    part.map(Some).ok_or_else(|| bad_request(wrong()))
}

/// Starts the vacuums of one server and waits for their ends.
async fn vacuum_server(
    state: &HttpState,
    cluster_url: &str,
    request: StartVacuum,
) -> Result<(), VacuumError> {
    let started = state.peers.post(cluster_url, ROUTE, &request, REPORT_LIMIT).await;
    let started: VacuumReport = started.map_err(VacuumError::NotStarted)?;
    let mut awaited: BTreeMap<VolumeId, u64> =
        started.volumes.iter().map(|vacuum| (vacuum.volume, vacuum.completed + 1)).collect();
    let (mut looks, mut failures) = (0, 0);
    while !awaited.is_empty() {
        let pause = PAUSES.get(looks / LOOKS_PER_PAUSE).or(PAUSES.last()).copied();
        tokio::time::sleep(pause.unwrap_or_default().max(PAUSE_AFTER_FAILURE * failures)).await;
        looks += 1;
        match state.peers.fetch(cluster_url, ROUTE, REPORT_LIMIT).await {
            Ok(report) => {
                failures = 0;
                awaited = still_awaited(&report, awaited)?;
            }
            Err(error) if failures == MAX_FAILURES => return Err(VacuumError::OutOfSight(error)),
            Err(_) => failures += 1,
        }
    }
    Ok(())
}

/// What is not done yet, by what a server says. A volume that nobody works on short of its number,
/// or that is not there any more, is not going to be done: the server was restarted, or lost it.
fn still_awaited(
    report: &VacuumReport,
    awaited: BTreeMap<VolumeId, u64>,
) -> Result<BTreeMap<VolumeId, u64>, VacuumError> {
    let mut left = BTreeMap::new();
    for (volume, number) in awaited {
        match report.volumes.iter().find(|vacuum| vacuum.volume == volume) {
            Some(vacuum) if vacuum.completed >= number => {}
            Some(vacuum) if vacuum.phase != JobPhase::Idle => {
                left.insert(volume, number);
            }
            Some(_) | None => return Err(VacuumError::Interrupted(volume)),
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use dulse_shared::{id::Collection, wire::VolumeVacuum};

    use super::*;

    #[test]
    fn a_vacuum_is_done_when_its_number_is_reached_and_lost_when_nobody_is_at_it() {
        let volume = VolumeId::new(3).unwrap();
        let awaited = || BTreeMap::from([(volume, 2)]);
        let left = |phase, completed| {
            let (collection, done_bytes, total_bytes) = (Collection::default(), 0, 8);
            let last = None;
            let vacuum = VolumeVacuum {
                volume,
                collection,
                phase,
                done_bytes,
                total_bytes,
                completed,
                last,
            };
            still_awaited(&VacuumReport { volumes: vec![vacuum] }, awaited()).ok()
        };
        assert_eq!(left(JobPhase::Waiting, 1), Some(awaited()));
        assert_eq!(left(JobPhase::Running, 1), Some(awaited()));
        assert_eq!(left(JobPhase::Idle, 2), Some(BTreeMap::new()));
        assert_eq!(left(JobPhase::Running, 2), Some(BTreeMap::new()), "the next one has begun");
        assert_eq!(left(JobPhase::Idle, 0), None, "the server was restarted");
        let nothing = VacuumReport { volumes: Vec::new() };
        assert!(still_awaited(&nothing, awaited()).is_err(), "the server lost the volume");
    }
}
