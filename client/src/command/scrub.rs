//! `dulse volume scrub`: has volumes read again from their disks, and prints what is wrong.

use dulse_shared::{
    id::VolumeId,
    size::ByteSize,
    wire::{ScrubFinding, VolumeScrub},
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
    sound: bool,
    servers: &'a [WorkingServer<VolumeScrub>],
    /// Servers that were not there to be asked.
    missing: &'a [String],
}

/// Scrubs a volume, or all, and prints a line for each thing that is wrong.
pub async fn scrub(
    client: &Client,
    volume: Option<VolumeId>,
    json: bool,
) -> Result<Outcome, ClientError> {
    let scrub = client.start_scrub(volume).await?;
    let done = watch(&scrub).await?;
    let mut volumes = done.servers.iter().flat_map(|server| &server.volumes);
    let is_sound = volumes.all(|volume| volume.findings.is_empty());
    complain(scrub.missing());
    if json {
        let (servers, missing) = (&done.servers[..], scrub.missing());
        say::json(&Report { sound: is_sound, servers, missing })?;
    } else {
        say::data(&render(&done))?;
    }
    Ok(Outcome::of(is_sound && scrub.missing().is_empty()))
}

fn render(done: &WorkProgress<VolumeScrub>) -> String {
    let mut lines = Vec::new();
    let (mut volumes, mut found) = (0_u64, 0_u64);
    for server in &done.servers {
        for scrub in &server.volumes {
            volumes += 1;
            found += scrub.findings.len() as u64 + scrub.more_findings;
            lines.extend(scrub.findings.iter().map(|finding| line(server, scrub, finding)));
            if scrub.more_findings > 0 {
                let (volume, more) = (scrub.volume, scrub.more_findings);
                lines.push(format!("volume {volume} on {}: {more} more", server.server));
            }
        }
    }
    let verdict = match found {
        0 => "sound".to_owned(),
        1 => "1 bad record".to_owned(),
        more => format!("{more} bad records"),
    };
    let noun = if volumes == 1 { "volume" } else { "volumes" };
    lines.push(format!("{volumes} {noun}, {} read: {verdict}", ByteSize(done.total_bytes)));
    lines.join("\n")
}

fn line(
    server: &WorkingServer<VolumeScrub>,
    scrub: &VolumeScrub,
    finding: &ScrubFinding,
) -> String {
    let ScrubFinding { offset, key, fid, reason } = finding;
    let what = match (fid, key) {
        (Some(fid), _) => format!("needle {fid} cannot be read"),
        (None, Some(key)) => format!("the needle with key {key} cannot be read"),
        (None, None) => "bad garbage, no needle is lost".to_owned(),
    };
    let (volume, server) = (scrub.volume, &server.server);
    format!("volume {volume} on {server}, offset {offset}: {what}: {reason}")
}

#[cfg(test)]
mod tests {
    use dulse_shared::{id::NeedleKey, wire::JobPhase};

    use super::*;

    fn progress(findings: Vec<ScrubFinding>, more_findings: u64) -> WorkProgress<VolumeScrub> {
        let volume = VolumeScrub {
            volume: VolumeId::new(3).unwrap(),
            collection: dulse_shared::id::Collection::default(),
            phase: JobPhase::Idle,
            done_bytes: 0,
            total_bytes: 2048,
            completed: 1,
            completed_at_secs: 9,
            findings,
            more_findings,
        };
        let server = WorkingServer { server: "a:8080".to_owned(), volumes: vec![volume] };
        WorkProgress {
            done_bytes: 2048,
            total_bytes: 2048,
            is_complete: true,
            servers: vec![server],
        }
    }

    #[test]
    fn each_finding_has_a_line_that_says_what_is_lost() {
        assert_eq!(render(&progress(Vec::new(), 0)), "1 volume, 2KB read: sound");
        let key = NeedleKey::new(1);
        let finding = |key, fid: Option<&str>| ScrubFinding {
            offset: 8,
            key,
            fid: fid.map(str::to_owned),
            reason: "why".to_owned(),
        };
        let findings =
            vec![finding(key, Some("3,01637037d6")), finding(key, None), finding(None, None)];
        let text = render(&progress(findings, 4));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "volume 3 on a:8080, offset 8: needle 3,01637037d6 cannot be read: why",
                "volume 3 on a:8080, offset 8: the needle with key 1 cannot be read: why",
                "volume 3 on a:8080, offset 8: bad garbage, no needle is lost: why",
                "volume 3 on a:8080: 4 more",
                "1 volume, 2KB read: 7 bad records",
            ]
        );
    }
}
