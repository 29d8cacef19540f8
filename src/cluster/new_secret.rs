//! `dulse cluster new-secret`: a new cluster secret in a file that only its owner can read.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Args;
use dulse_shared::{
    disk::{fsync_dir, parent},
    net::cluster_secret::ClusterSecret,
};

use crate::exit::{Exit, one_line};

/// For its owner alone.
const MODE: u32 = 0o600;

/// Make the secret by which the servers of a cluster know each other.
///
/// Every server is started with a copy of the file. Without one a server speaks with others on its
/// own machine only.
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  \
    dulse cluster new-secret\n  \
    dulse cluster new-secret /etc/dulse/cluster.secret")]
pub(crate) struct NewSecretArgs {
    /// The file to make; one that is there is left alone.
    #[arg(value_name = "FILE", default_value = "cluster.secret")]
    file: PathBuf,
}

impl NewSecretArgs {
    /// Writes the file and prints what to do with it.
    pub(crate) fn run(&self) -> Result<(), Exit> {
        let secret = ClusterSecret::generate();
        let secret = secret.map_err(|error| Exit::Failed(one_line(&error)))?;
        let (path, fingerprint) = (self.file.display(), secret.fingerprint());
        write_new(&self.file, secret.to_text().as_bytes()).map_err(|error| self.failed(&error))?;
        let text = format!(
            "{path} has a new cluster secret, whose fingerprint is {fingerprint}\n\
             copy it to every server of the cluster, by a way that nobody else can read,\n\
             and start each one with --cluster-secret-file {path}\n"
        );
        // The file is there, whoever reads this.
        let _ = io::stdout().write_all(text.as_bytes());
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Exit {
        let path = self.file.display();
        Exit::Failed(match error.kind() {
            io::ErrorKind::AlreadyExists => format!(
                "{path} is there already and stays as it is: servers that were given another \
                 secret would not join; name a file that is not there"
            ),
            _ => format!("cannot make {path}: {error}: name a file where this user may write"),
        })
    }
}

/// Makes a file; one that cannot be written whole is removed.
fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    let written = write_durably(file, path, text);
    if written.is_err() {
        // The error says more than that this fails too.
        let _ = std::fs::remove_file(path);
    }
    written
}

fn write_durably(mut file: File, path: &Path, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    file.sync_all()?;
    fsync_dir(parent(path))
}
