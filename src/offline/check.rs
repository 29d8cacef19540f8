//! `dulse check`: what is wrong with the volumes of stopped servers, and mending what is safe.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use dulse_shared::clock::Clock;
use dulse_volume::{
    disk::{Disk, RealDisk},
    engine::check::Finding,
    offline::check::{DirReport, Repairs, VolumeReport, bytes_to_check, check_dir},
};
use serde_json::{Value, json};

use super::progress::Bar;
use crate::exit::{Exit, one_line};

/// Verify every byte of the volumes in directories that no server has open.
///
/// Exits with 0 if all is sound and with 1 if something was found. Nothing is written without
/// --repair. Directories of SeaweedFS can be checked too.
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  \
    dulse check /srv/dulse\n  \
    dulse check --repair /srv/disk1 /srv/disk2\n  \
    dulse check --json /srv/seaweedfs")]
pub(crate) struct CheckArgs {
    /// The data directories.
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Make indexes anew, cut torn tails, move leftovers to the trash; damage is left alone.
    #[arg(long)]
    repair: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl CheckArgs {
    /// Checks the directories and prints what was found.
    pub(crate) fn run(&self) -> Result<(), Exit> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let mut total = 0;
        for dir in &self.dirs {
            let bytes = bytes_to_check(&*disk, dir);
            total += bytes.map_err(|error| Exit::Failed(one_line(&error)))?;
        }
        let bar = Bar::new("checking", total);
        let mut reports = Vec::new();
        for dir in &self.dirs {
            let repairs = if self.repair { Repairs::Safe } else { Repairs::None };
            let mut advance = |bytes| bar.advance(bytes);
            let report = check_dir(&disk, dir, repairs, &Clock::System, &mut advance);
            reports.push(report.map_err(|error| Exit::Failed(one_line(&error)))?);
        }
        bar.clear();
        if self.json {
            println!("{}", as_json(&reports));
        } else {
            reports.iter().for_each(print);
        }
        if reports.iter().all(DirReport::is_sound) { Ok(()) } else { Err(Exit::Told) }
    }
}

fn print(report: &DirReport) {
    let dir = report.dir.display();
    for finding in &report.findings {
        println!("{dir}: {finding}");
    }
    for repaired in &report.repaired {
        println!("{dir}: repaired: {repaired}");
    }
    for volume in &report.volumes {
        let dat = volume.name.dat(&report.dir);
        for finding in volume.findings.as_slice() {
            println!("{}: {finding}", dat.display());
        }
        if volume.findings.more() > 0 {
            println!("{}: and {} more", dat.display(), volume.findings.more());
        }
        for repaired in &volume.repaired {
            println!("{}: repaired: {repaired}", dat.display());
        }
    }
    let needles: u64 = report.volumes.iter().map(|volume| volume.live_needles).sum();
    let verdict = if report.is_sound() { "sound" } else { "not sound" };
    println!("{dir}: {} volumes, {needles} live needles: {verdict}", report.volumes.len());
}

fn as_json(reports: &[DirReport]) -> Value {
    let dirs: Vec<Value> = reports
        .iter()
        .map(|report| {
            json!({
                "dir": report.dir.display().to_string(),
                "volumes": report.volumes.iter().map(volume_as_json).collect::<Vec<_>>(),
                "findings": report.findings.iter().map(finding_as_json).collect::<Vec<_>>(),
                "repaired": report.repaired,
                "sound": report.is_sound(),
            })
        })
        .collect();
    json!({ "directories": dirs, "sound": reports.iter().all(DirReport::is_sound) })
}

fn volume_as_json(volume: &VolumeReport) -> Value {
    let findings = volume.findings.as_slice().iter().map(finding_as_json);
    json!({
        "id": volume.name.id.as_u32(),
        "collection": volume.name.collection.as_str(),
        "has_sidecar": volume.is_own,
        "bytes": volume.bytes,
        "records": volume.records,
        "live_needles": volume.live_needles,
        "findings": findings.collect::<Vec<_>>(),
        "more_findings": volume.findings.more(),
        "repaired": volume.repaired,
    })
}

fn finding_as_json(finding: &Finding) -> Value {
    json!({ "code": finding.code(), "text": finding.to_string() })
}
