//! The flags of `dulse cluster recover`.

use clap::Args;
use dulse_shared::{net::address::ServerAddress, wire::StartRecovery};

use super::SecretArgs;
use crate::cli::{Masters, OutputArgs};

/// Make the masters' state anew from the volume servers, after all masters lost theirs.
///
/// Start the volume servers with their directories, then the masters with empty ones, then run this.
/// Every volume is back as it was; ids go on far above the old ones. Masters of a cluster with volumes
/// of its own refuse. It can be repeated, with volume servers that were away.
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  \
    dulse cluster recover --from v1:8080,v2:8080,v3:8080 --dry-run\n  \
    dulse cluster recover --from v1:8080,v2:8080,v3:8080 --master a:9333,b:9333,c:9333")]
pub(crate) struct RecoverArgs {
    /// All volume servers of the cluster.
    #[arg(long, value_name = "HOST:PORT[.CLUSTERPORT],…", value_delimiter = ',', required = true)]
    from: Vec<ServerAddress>,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) master: Masters,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

impl RecoverArgs {
    pub(crate) fn request(&self) -> StartRecovery {
        let from = self.from.iter().map(ToString::to_string).collect();
        StartRecovery { from, dry_run: self.dry_run }
    }
}
