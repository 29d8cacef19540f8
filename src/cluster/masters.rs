//! The flags of `dulse cluster masters`.

use clap::{Args, Subcommand};
use dulse_shared::{
    net::address::{ServerAddress, master_address},
    wire::ChangeMasters,
};

use super::SecretArgs;
use crate::cli::{Masters, OutputArgs};

/// Show the masters, take one in or out, or have another one lead.
#[derive(Debug, Subcommand)]
#[command(before_help = "Examples:\n  \
    dulse cluster masters list\n  \
    dulse cluster masters add 10.0.0.4:9333 --cluster-secret-file secret\n  \
    dulse cluster masters transfer")]
pub(crate) enum MastersCommand {
    /// Show who they are and how far each is.
    List(ReachArgs),
    /// Take in a new master, which runs already with --peers that name it and the present ones.
    Add(OneMasterArgs),
    /// Take a master out; stop it afterwards.
    Remove(OneMasterArgs),
    /// Have another master lead: the one named, or any.
    Transfer(TransferArgs),
}

/// How the masters are reached.
#[derive(Debug, Args)]
pub(crate) struct ReachArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) master: Masters,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

/// One master.
#[derive(Debug, Args)]
pub(crate) struct OneMasterArgs {
    /// Its address, as its --peers have it.
    #[arg(value_name = "HOST[:PORT[.CLUSTERPORT]]", value_parser = master_address)]
    address: ServerAddress,
    #[command(flatten)]
    reach: ReachArgs,
}

/// A new leader.
#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    /// The master that is to lead [default: the one that has most of the log].
    #[arg(long, value_name = "HOST[:PORT[.CLUSTERPORT]]", value_parser = master_address)]
    to: Option<ServerAddress>,
    #[command(flatten)]
    reach: ReachArgs,
}

impl MastersCommand {
    /// What to change, if anything, and how the masters are reached.
    pub(crate) fn into_parts(self) -> (Option<ChangeMasters>, ReachArgs) {
        let text = |address: &ServerAddress| address.to_string();
        match self {
            Self::List(reach) => (None, reach),
            Self::Add(OneMasterArgs { address, reach }) => {
                (Some(ChangeMasters::Add(text(&address))), reach)
            }
            Self::Remove(OneMasterArgs { address, reach }) => {
                (Some(ChangeMasters::Remove(text(&address))), reach)
            }
            Self::Transfer(TransferArgs { to, reach }) => {
                (Some(ChangeMasters::Transfer(to.as_ref().map(text))), reach)
            }
        }
    }
}
