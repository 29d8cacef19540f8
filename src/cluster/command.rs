//! What `dulse cluster` can do: one variant for each sub-command, whose arguments and work have a
//! file of their own.

use clap::Subcommand;

use super::new_secret::NewSecretArgs;
use crate::exit::Exit;

/// Administration of a cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    NewSecret(NewSecretArgs),
}

impl ClusterCommand {
    /// Does it.
    pub(crate) fn run(&self) -> Result<(), Exit> {
        match self {
            Self::NewSecret(args) => args.run(),
        }
    }
}
