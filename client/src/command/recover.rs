//! `dulse cluster recover`: what was found, what the masters took over, and what is still missing.

use std::fmt::Write;

use dulse_shared::wire::{AbsentServer, RecoveredServer, RecoveryReport, StartRecovery};

use super::{Outcome, say, table::add_table};
use crate::{client::Client, error::ClientError};

/// Recovers, or says what a recovery would do; `Partial` when something was left out.
pub async fn recover(
    client: &Client,
    asked: &StartRecovery,
    json: bool,
) -> Result<Outcome, ClientError> {
    let report = client.recover(asked).await?;
    if json {
        say::json(&report)?;
    } else {
        say::data(render(&report, asked.dry_run).trim())?;
    }
    for what in &report.left_out {
        eprintln!("left out: {what}");
    }
    for AbsentServer { server, url } in &report.absent {
        match url {
            Some(url) => eprintln!("volume server {url} was not asked: repeat this with it"),
            None => eprintln!(
                "volume server {server}, which holds copies, is not there: repeat this with it once \
                 it is"
            ),
        }
    }
    Ok(Outcome::of(report.left_out.is_empty() && report.absent.is_empty()))
}

fn render(report: &RecoveryReport, is_dry_run: bool) -> String {
    let RecoveryReport { cluster, restored, known, next_key, next_volume_id, .. } = report;
    let (did, go) = if is_dry_run { ("would take over", "would go") } else { ("took over", "go") };
    let mut text = format!(
        "the masters {did} {restored} volumes of cluster {cluster} and knew {known} already\n"
    );
    // Writing into a String cannot fail.
    let _ = writeln!(text, "needle keys {go} on at {next_key}, volume ids at {next_volume_id}");
    let row = |server: &RecoveredServer| {
        [server.address.clone(), server.volumes.to_string(), server.server.to_string()]
    };
    add_table(&mut text, ["ASKED", "VOLUMES", "SERVER"], report.servers.iter().map(row).collect());
    text
}
