//! `dulse volume vacuum`: has volumes compacted, and prints what that gave.

use dulse_shared::{
    id::VolumeId,
    size::ByteSize,
    wire::{VacuumOutcome, VolumeVacuum},
};
use serde::Serialize;

use super::{
    Outcome, say,
    work::{complain, watch},
};
use crate::{
    client::Client,
    error::ClientError,
    volume_work::{WorkProgress, WorkingServer},
};

#[derive(Serialize)]
struct Report<'a> {
    done: bool,
    servers: &'a [WorkingServer<VolumeVacuum>],
    /// Servers that were not there to be asked.
    missing: &'a [String],
}

/// Compacts a volume, or all with enough garbage, and prints a line for each.
pub async fn vacuum(
    client: &Client,
    volume: Option<VolumeId>,
    garbage_threshold: Option<f64>,
    json: bool,
) -> Result<Outcome, ClientError> {
    let vacuum = client.start_vacuum(volume, garbage_threshold).await?;
    let done = watch(&vacuum).await?;
    complain(vacuum.missing());
    let is_done = done.servers.iter().flat_map(|server| &server.volumes).all(went_well);
    if json {
        let (servers, missing) = (&done.servers[..], vacuum.missing());
        say::json(&Report { done: is_done, servers, missing })?;
    } else {
        say::data(&render(&done))?;
    }
    Ok(Outcome::of(is_done && vacuum.missing().is_empty()))
}

fn went_well(vacuum: &VolumeVacuum) -> bool {
    vacuum.last.as_ref().is_none_or(|last| last.error.is_none())
}

fn render(done: &WorkProgress<VolumeVacuum>) -> String {
    let mut lines = Vec::new();
    let (mut compacted, mut reclaimed) = (0_u64, 0_u64);
    for server in &done.servers {
        for VolumeVacuum { volume, last, .. } in &server.volumes {
            let Some(last) = last else { continue };
            let place = format!("volume {volume} on {}", server.server);
            lines.push(format!("{place}: {}", in_words(last)));
            if last.error.is_none() {
                compacted += 1;
                reclaimed += last.before_bytes.saturating_sub(last.after_bytes);
            }
        }
    }
    let noun = if compacted == 1 { "volume" } else { "volumes" };
    lines.push(format!("{compacted} {noun} compacted, {} reclaimed", ByteSize(reclaimed)));
    lines.join("\n")
}

fn in_words(last: &VacuumOutcome) -> String {
    let VacuumOutcome { before_bytes, after_bytes, expired, error, .. } = last;
    if let Some(error) = error {
        return format!("left as it was: {error}");
    }
    let (before, after) = (ByteSize(*before_bytes), ByteSize(*after_bytes));
    match expired {
        0 => format!("{before} to {after}"),
        expired => format!("{before} to {after}, {expired} expired needles deleted"),
    }
}

#[cfg(test)]
mod tests {
    use dulse_shared::{id::Collection, wire::JobPhase};

    use super::*;

    fn vacuum(volume: u32, expired: u64, error: Option<&str>) -> VolumeVacuum {
        VolumeVacuum {
            volume: VolumeId::new(volume).unwrap(),
            collection: Collection::default(),
            phase: JobPhase::Idle,
            done_bytes: 0,
            total_bytes: 0,
            completed: 1,
            last: Some(VacuumOutcome {
                ended_at_secs: 9,
                before_bytes: 4096,
                after_bytes: 1024,
                expired,
                error: error.map(str::to_owned),
            }),
        }
    }

    #[test]
    fn each_volume_has_a_line_and_only_what_was_compacted_counts() {
        let volumes = vec![vacuum(1, 0, None), vacuum(2, 5, None), vacuum(3, 0, Some("why"))];
        assert!(went_well(&volumes[0]) && !went_well(&volumes[2]));
        let servers = vec![WorkingServer { server: "a:8080".to_owned(), volumes }];
        let done = WorkProgress { done_bytes: 0, total_bytes: 0, is_complete: true, servers };
        let text = render(&done);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "volume 1 on a:8080: 4KB to 1KB",
                "volume 2 on a:8080: 4KB to 1KB, 5 expired needles deleted",
                "volume 3 on a:8080: left as it was: why",
                "2 volumes compacted, 6KB reclaimed",
            ]
        );
    }
}
