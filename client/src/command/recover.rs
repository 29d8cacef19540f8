//! `dulse cluster recover`: what was found, what the masters took over, and what is still missing.

use std::fmt::Write;

use dulse_shared::wire::{RecoveredServer, RecoveryReport, StartRecovery};

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
    for absent in &report.absent {
        eprintln!(
            "volume server {} was not asked and holds copies of {} of these volumes",
            absent.server, absent.volumes
        );
    }
    Ok(Outcome::of(report.left_out.is_empty()))
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
    if !is_dry_run {
        text.push_str(
            "\nIf a volume server was not asked, repeat this with it: what is known is left as it is.\n",
        );
    }
    text
}
