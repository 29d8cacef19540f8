//! The flags of the commands that look at a cluster as a whole.

use std::time::Duration;

use clap::Args;
use dulse_client::command::Wanted;

use crate::{
    cli::{Masters, OutputArgs},
    cli_values::parse_interval,
};

/// Show masters, volume servers, volumes by state, and what is wrong.
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  \
    dulse cluster status\n  \
    dulse cluster status --json --master a:9333,b:9333,c:9333")]
pub(crate) struct ClusterStatusArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) master: Masters,
}

/// Wait until a master leads and the cluster is as it is wanted; exit code 1 if it is not in time.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  dulse cluster wait --healthy --servers 3 --timeout 60s")]
pub(crate) struct WaitArgs {
    /// Until nothing is at risk or unavailable.
    #[arg(long)]
    healthy: bool,
    /// Until so many volume servers are there.
    #[arg(long, value_name = "N", default_value_t = 0)]
    servers: usize,
    /// For so long at most.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_interval)]
    timeout: Duration,
    #[command(flatten)]
    pub(crate) master: Masters,
}

impl WaitArgs {
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted { healthy: self.healthy, servers: self.servers, timeout: self.timeout }
    }
}

/// Show what happened: servers that came and went, leaders, volumes.
#[derive(Debug, Args)]
#[command(
    before_help = "Examples:\n  dulse cluster events\n  dulse cluster events --follow --json"
)]
pub(crate) struct EventsArgs {
    /// Go on with what happens next, until it is ended.
    #[arg(long, short)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) master: Masters,
}
