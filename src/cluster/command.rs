//! What `dulse cluster` can do: one variant for each sub-command, whose arguments have a file of
//! their own.

use clap::Subcommand;

use super::{
    looking::{ClusterStatusArgs, EventsArgs, WaitArgs},
    masters::MastersCommand,
    new_secret::NewSecretArgs,
    recover::RecoverArgs,
};

/// Look at the cluster as a whole, and administer it.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    Status(ClusterStatusArgs),
    Wait(WaitArgs),
    Events(EventsArgs),
    #[command(subcommand)]
    Masters(MastersCommand),
    Recover(RecoverArgs),
    NewSecret(NewSecretArgs),
}
