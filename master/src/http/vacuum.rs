//! `/vol/vacuum`: has every volume server compact what has enough garbage, waits until all are done,
//! and answers what `/dir/status` does.
//!
//! Volume servers compact by themselves when it is time; this is for those who want it now.

use std::{collections::BTreeMap, time::Duration};

use axum::{extract::State, http::Uri, response::Response};
use dulse_shared::{
    id::VolumeId,
    net::peer::PeerError,
    wire::{Code, JobPhase, Problem, StartVacuum, VacuumReport, VolumeVacuum},
};
use futures_util::future::join_all;

use super::{
    params::{Params, bad_request},
    state::HttpState,
    status::dir_status,
};

/// Reports come from a server's memory.
const REPORT_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks: at first short, since most volumes of a new store are.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_secs(1)];
/// Looks with each of those pauses.
const LOOKS_PER_PAUSE: usize = 10;

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
        .filter_map(|((url, _), result)| result.err().map(|error| format!("{url} ({error})")))
        .collect();
    if failed.is_empty() {
        return dir_status(State(state), uri).await;
    }
    let message = format!("vacuums broke off on {}; the others are done", failed.join(", "));
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
) -> Result<(), PeerError> {
    let path = "/admin/vacuum";
    let started: VacuumReport = state.peers.post(cluster_url, path, &request, REPORT_LIMIT).await?;
    let mut awaited: BTreeMap<VolumeId, u64> =
        started.volumes.iter().map(|vacuum| (vacuum.volume, vacuum.completed + 1)).collect();
    let mut looks = 0;
    while !awaited.is_empty() {
        let pause = PAUSES.get(looks / LOOKS_PER_PAUSE).or(PAUSES.last()).copied();
        tokio::time::sleep(pause.unwrap_or_default()).await;
        looks += 1;
        let report: VacuumReport = state.peers.fetch(cluster_url, path, REPORT_LIMIT).await?;
        awaited.retain(|volume, number| is_under_way(&report, *volume, *number));
    }
    Ok(())
}

/// A server that was restarted, or lost the volume, is not waited for.
fn is_under_way(report: &VacuumReport, volume: VolumeId, number: u64) -> bool {
    let is_open = |vacuum: &VolumeVacuum| {
        vacuum.volume == volume && vacuum.completed < number && vacuum.phase != JobPhase::Idle
    };
    report.volumes.iter().any(is_open)
}
