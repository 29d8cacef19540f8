//! `dulse export`: the needles of a stopped server as files.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use dulse_shared::{
    clock::Clock,
    id::{Collection, VolumeId},
};
use dulse_volume::{
    disk::{Disk, RealDisk},
    offline::{
        check::bytes_to_check,
        export::{ExportOptions, export_dir},
    },
};

use super::progress::Bar;
use crate::exit::{Exit, one_line};

/// Write the live needles of a directory that no server has open as files.
///
/// Each volume gets a directory in OUT, each needle a file named as it was uploaded, or after its
/// fid. Every needle is verified; what cannot be is left out and reported, and the exit code is
/// then 1. Directories of SeaweedFS can be exported too.
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  \
    dulse export /srv/dulse --to ./out\n  \
    dulse export /srv/seaweedfs --to ./out --collection pics --raw")]
pub(crate) struct ExportArgs {
    /// The data directory.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Where the files go: a new or empty directory.
    #[arg(long, value_name = "OUT")]
    to: PathBuf,
    /// Only this collection; "" is the one without a name.
    #[arg(long, value_name = "NAME")]
    collection: Option<Collection>,
    /// Only this volume.
    #[arg(long, value_name = "ID")]
    volume: Option<VolumeId>,
    /// Leave gzipped data as it is.
    #[arg(long)]
    raw: bool,
}

impl ExportArgs {
    /// Writes the files and prints what could not be written.
    pub(crate) fn run(&self) -> Result<(), Exit> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let bytes = bytes_to_check(&*disk, &self.dir);
        let bytes = bytes.map_err(|error| Exit::Failed(one_line(&error)))?;
        // Verified first, then read again.
        let bar = Bar::new("exporting", bytes.saturating_mul(2));
        let options = ExportOptions {
            collection: self.collection.clone(),
            volume: self.volume,
            is_raw: self.raw,
        };
        let mut advance = |bytes| bar.advance(bytes);
        let report = export_dir(&disk, &self.dir, &self.to, &options, &Clock::System, &mut advance);
        bar.clear();
        let report = report.map_err(|error| Exit::Failed(one_line(&error)))?;
        for problem in &report.problems {
            eprintln!("{problem}");
        }
        if report.more_problems > 0 {
            eprintln!("and {} more", report.more_problems);
        }
        println!(
            "{} files with {} bytes written to {}; {} expired needles left out",
            report.files,
            report.bytes,
            self.to.display(),
            report.expired,
        );
        if report.problems.is_empty() { Ok(()) } else { Err(Exit::Told) }
    }
}
