//! The command line: every flag of every command, its environment variable and its default.
//!
//! A setting comes from its flag, else from `DULSE_…`, else from the file given with `--config`,
//! else from its default; [`Cli::read`] is where the four meet. What a setting means is decided
//! where the typed configurations are made.

use std::{ffi::OsString, num::NonZeroU64, path::PathBuf, time::Duration};

use clap::{
    ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    error::{ContextKind, ContextValue},
};
use dulse_client::{AssignOptions, command};
use dulse_shared::{
    id::{Collection, Fid, ReplicaPlacement, Ttl, VolumeId},
    net::{
        address::{ServerAddress, master_address},
        telemetry,
    },
    size::ByteSize,
};
use dulse_volume::config::{MinFreeSpace, parse_max_volumes};

use crate::{
    cli_values::{VolumeDir, parse_dir, parse_garbage, parse_interval, parse_part, parse_rate},
    cluster::{ClusterCommand, SecretArgs},
    config_file::{self, ConfigFile},
    exit::Exit,
    offline::{CheckArgs, ExportArgs},
    seaweedfs_flags,
};

/// A volume-based distributed object store.
#[derive(Debug, Parser)]
#[command(
    name = "dulse",
    version,
    before_help = "Examples:\n  \
        dulse server                            a whole store on this machine\n  \
        dulse put README.md                     store a file, print its fid\n  \
        dulse get 3,01637037d6 -o README.md     fetch it\n  \
        dulse status                            what is running",
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// Read settings from this TOML file; its keys are the flags' names.
    #[arg(long, global = true, value_name = "FILE", env = "DULSE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// How log lines on stderr look.
    #[arg(long, global = true, env = "DULSE_LOG_FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl From<LogFormat> for telemetry::LogFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Server(ServerArgs),
    Master(MasterArgs),
    Volume(VolumeArgs),
    Put(PutArgs),
    Get(GetArgs),
    Delete(DeleteArgs),
    Lookup(LookupArgs),
    Status(StatusArgs),
    #[command(subcommand)]
    Cluster(ClusterCommand),
    Check(CheckArgs),
    Export(ExportArgs),
}

/// Run a master and a volume server in one process.
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  \
    dulse server\n  \
    dulse server --dir /srv/dulse --master-port 9333 --volume-port 8080")]
pub(crate) struct ServerArgs {
    /// Where the data is kept [default: dulse in $XDG_DATA_HOME or ~/.local/share].
    #[arg(long, env = "DULSE_DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The master's port; 0 picks one.
    #[arg(long, value_name = "PORT", env = "DULSE_MASTER_PORT", default_value_t = 9333)]
    pub(crate) master_port: u16,
    /// The master's port for other servers [default: the port + 10000].
    #[arg(long, value_name = "PORT", env = "DULSE_MASTER_CLUSTER_PORT")]
    pub(crate) master_cluster_port: Option<u16>,
    /// The volume server's port; 0 picks one.
    #[arg(long, value_name = "PORT", env = "DULSE_VOLUME_PORT", default_value_t = 8080)]
    pub(crate) volume_port: u16,
    /// The volume server's port for other servers [default: the port + 10000].
    #[arg(long, value_name = "PORT", env = "DULSE_VOLUME_CLUSTER_PORT")]
    pub(crate) volume_cluster_port: Option<u16>,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Run a master.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  dulse master --dir /srv/dulse/master")]
pub(crate) struct MasterArgs {
    /// Where the cluster's state is kept [default: dulse/master in $XDG_DATA_HOME or ~/.local/share].
    #[arg(long, env = "DULSE_DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The port for clients; 0 picks one.
    #[arg(long, alias = "master-port", env = "DULSE_PORT", default_value_t = 9333)]
    pub(crate) port: u16,
    /// The port for other servers [default: the port + 10000].
    #[arg(long, alias = "master-cluster-port", value_name = "PORT", env = "DULSE_CLUSTER_PORT")]
    pub(crate) cluster_port: Option<u16>,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// Run a volume server.
#[derive(Debug, Args)]
#[command(
    before_help = "Examples:\n  \
        dulse volume --dir /srv/disk1 --dir /srv/disk2:ssd --master 127.0.0.1:9333\n  \
        dulse volume --dir ./second --port 8081\n  \
        dulse volume scrub --volume 3",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct VolumeArgs {
    /// What to do to volumes, instead of running a server of them.
    #[command(subcommand)]
    pub(crate) command: Option<VolumeCommand>,
    /// Where volumes are kept; once for each disk [default: dulse in $XDG_DATA_HOME or ~/.local/share].
    #[arg(long, value_name = "DIR[:DISKTYPE]", env = "DULSE_DIR", value_delimiter = ',', value_parser = parse_dir)]
    pub(crate) dir: Vec<VolumeDir>,
    /// The port for clients; 0 picks one.
    #[arg(long, alias = "volume-port", env = "DULSE_PORT", default_value_t = 8080)]
    pub(crate) port: u16,
    /// The port for other servers [default: the port + 10000].
    #[arg(long, alias = "volume-cluster-port", value_name = "PORT", env = "DULSE_CLUSTER_PORT")]
    pub(crate) cluster_port: Option<u16>,
    /// The masters, separated by commas; every address of a name is one.
    #[arg(
        long,
        value_name = "HOST[:PORT[.CLUSTERPORT]]",
        env = "DULSE_MASTER",
        value_delimiter = ',',
        default_value = "127.0.0.1:9333",
        value_parser = master_address
    )]
    pub(crate) master: Vec<ServerAddress>,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Administration of volumes: what a running cluster is told to do.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    Scrub(ScrubArgs),
    Vacuum(VacuumArgs),
}

/// Read volumes again from their disks, and show what does not verify.
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  \
    dulse volume scrub\n  \
    dulse volume scrub --volume 3 --json")]
pub(crate) struct ScrubArgs {
    /// The volume to read [default: all].
    #[arg(long, value_name = "ID")]
    pub(crate) volume: Option<VolumeId>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
    #[command(flatten)]
    pub(crate) master: Masters,
}

/// Write the live needles of volumes into new files, so that garbage no longer takes up room.
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  \
    dulse volume vacuum\n  \
    dulse volume vacuum --volume 3 --garbage-threshold 0")]
pub(crate) struct VacuumArgs {
    /// The volume to compact [default: all].
    #[arg(long, value_name = "ID")]
    pub(crate) volume: Option<VolumeId>,
    /// Leave alone what has no more than this part of garbage [default: what each server was told].
    #[arg(long, value_name = "PART", value_parser = parse_garbage)]
    pub(crate) garbage_threshold: Option<f64>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
    #[command(flatten)]
    pub(crate) master: Masters,
}

/// Where to listen and what others are told.
#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    /// Address to listen on and to tell others: sets --bind and --advertise.
    #[arg(long, value_name = "HOST", env = "DULSE_IP")]
    pub(crate) ip: Option<String>,
    /// Address to listen on [default: 127.0.0.1].
    #[arg(long, value_name = "HOST", env = "DULSE_BIND")]
    pub(crate) bind: Option<String>,
    /// Name or address that others are told [default: what --bind says].
    #[arg(long, value_name = "HOST", env = "DULSE_ADVERTISE")]
    pub(crate) advertise: Option<String>,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

/// What a master decides for the cluster.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Size at which a volume is full.
    #[arg(long, value_name = "SIZE", env = "DULSE_VOLUME_SIZE_LIMIT", default_value = "30GB")]
    pub(crate) volume_size_limit: ByteSize,
    /// Copies of each volume unless an upload says otherwise; 000 (one copy) is all there is yet.
    #[arg(long, value_name = "XYZ", env = "DULSE_DEFAULT_REPLICATION", default_value = "000")]
    pub(crate) default_replication: ReplicaPlacement,
    /// All masters, this one included, separated by commas and the same for each; three or five
    /// [default: this one alone].
    #[arg(long, value_name = "HOST[:PORT[.CLUSTERPORT]]", env = "DULSE_PEERS", value_delimiter = ',', value_parser = master_address)]
    pub(crate) peers: Vec<ServerAddress>,
}

/// How a volume server keeps volumes.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// host:port that clients outside are told.
    #[arg(long, value_name = "HOST:PORT", env = "DULSE_PUBLIC_URL")]
    pub(crate) public_url: Option<String>,
    /// Volumes in each directory, or in one after the other as 7,9 [default: auto, what its disk
    /// holds, at least 8].
    #[arg(long, value_name = "N[,N]", env = "DULSE_MAX_VOLUMES", value_delimiter = ',', value_parser = parse_max_volumes)]
    pub(crate) max_volumes: Vec<Option<u32>>,
    /// Give new volumes offsets of five bytes: up to 8 TB instead of 32 GB each.
    #[arg(
        long,
        value_name = "BOOL",
        env = "DULSE_LARGE_VOLUMES",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value = "false",
        action = clap::ArgAction::Set
    )]
    pub(crate) large_volumes: bool,
    /// Room to leave free on each disk, or on one after the other as 10GB,5%; below it, no new data
    /// [default: auto, by the disk's size].
    #[arg(
        long,
        value_name = "SIZE|PART%[,...]",
        env = "DULSE_MIN_FREE_SPACE",
        value_delimiter = ','
    )]
    pub(crate) min_free_space: Vec<MinFreeSpace>,
    /// Within this time every volume is read again from its disk; 0 never.
    #[arg(
        long,
        value_name = "TIME",
        env = "DULSE_SCRUB_INTERVAL",
        default_value = "14d",
        value_parser = parse_interval
    )]
    pub(crate) scrub_interval: Duration,
    /// Bytes a second that are read for it from each disk.
    #[arg(long, value_name = "SIZE", env = "DULSE_SCRUB_RATE", default_value = "20MB", value_parser = parse_rate)]
    pub(crate) scrub_rate: NonZeroU64,
    /// Part of a volume that is garbage before it is compacted; 1 never.
    #[arg(
        long,
        value_name = "PART",
        env = "DULSE_GARBAGE_THRESHOLD",
        default_value_t = 0.3,
        value_parser = parse_part
    )]
    pub(crate) garbage_threshold: f64,
    /// Data center of this server.
    #[arg(
        long,
        value_name = "NAME",
        env = "DULSE_DATA_CENTER",
        default_value = "DefaultDataCenter"
    )]
    pub(crate) data_center: String,
    /// Rack of this server.
    #[arg(long, value_name = "NAME", env = "DULSE_RACK", default_value = "DefaultRack")]
    pub(crate) rack: String,
}

/// Which masters a client asks.
#[derive(Debug, Args)]
pub(crate) struct Masters {
    /// The masters, separated by commas; tried in turn, at every address of a name.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "DULSE_MASTER",
        value_delimiter = ',',
        default_value = "127.0.0.1:9333"
    )]
    pub(crate) master: Vec<String>,
}

/// How results are printed.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Store files and print their fids.
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  \
    dulse put photo.jpg\n  \
    dulse put *.jpg --collection pictures --json\n  \
    tar c src | dulse put - --name src.tar")]
pub(crate) struct PutArgs {
    /// Files to store; - is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Collection to put them in.
    #[arg(long, env = "DULSE_COLLECTION")]
    collection: Option<Collection>,
    /// Copies to keep [default: what the master was started with].
    #[arg(long, value_name = "XYZ", env = "DULSE_REPLICATION")]
    replication: Option<ReplicaPlacement>,
    /// Time after which they are gone, as 3d (m, h, d, w, M, y).
    #[arg(long, env = "DULSE_TTL")]
    ttl: Option<Ttl>,
    /// Name to store with the file instead of its own; for one file only.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    pub(crate) master: Masters,
}

impl PutArgs {
    pub(crate) fn request(&self) -> Result<command::PutRequest, Exit> {
        if self.name.is_some() && self.files.len() > 1 {
            let count = self.files.len();
            return Err(Exit::Usage(format!(
                "--name names one file, not {count}: put them one by one, or leave it out"
            )));
        }
        Ok(command::PutRequest {
            files: self.files.clone(),
            name: self.name.clone(),
            assign: AssignOptions {
                collection: self.collection.clone().unwrap_or_default(),
                replication: self.replication,
                ttl: self.ttl.unwrap_or(Ttl::NONE),
                ..AssignOptions::default()
            },
            json: self.output.json,
        })
    }
}

/// Fetch a needle.
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  \
    dulse get 3,01637037d6 -o photo.jpg\n  \
    dulse get 3,01637037d6 | less")]
pub(crate) struct GetArgs {
    /// What to fetch.
    #[arg(value_name = "FID")]
    fid: Fid,
    /// File to write, which appears when it is whole; - is standard output.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    #[command(flatten)]
    pub(crate) master: Masters,
}

impl GetArgs {
    pub(crate) fn request(&self) -> command::GetRequest {
        command::GetRequest { fid: self.fid, output: self.output.clone() }
    }
}

/// Delete needles.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  dulse delete 3,01637037d6 3,02b4f1a2c9")]
pub(crate) struct DeleteArgs {
    /// What to delete.
    #[arg(required = true, value_name = "FID")]
    pub(crate) fids: Vec<Fid>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) master: Masters,
}

/// Show which servers hold a volume.
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  dulse lookup 3\n  dulse lookup 3,01637037d6")]
pub(crate) struct LookupArgs {
    /// A volume's number, or a fid in it.
    #[arg(value_name = "VOLUME|FID", value_parser = command::parse_subject)]
    pub(crate) subject: command::LookupSubject,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) master: Masters,
}

/// Show leader, servers and volumes of the cluster.
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  dulse status\n  dulse status --json --master a:9333,b:9333")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) master: Masters,
}

impl Cli {
    /// Reads the arguments (program name first), the environment and the configuration file.
    pub(crate) fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, Exit> {
        let args = seaweedfs_flags::rewrite(args);
        let args = args.map_err(|error| Exit::Usage(error.to_string()))?;
        let matches = Self::command().try_get_matches_from(&args);
        let matches = matches.map_err(Exit::Clap)?;
        let names = subcommand_names(&matches);
        let Some(path) = config_file::path_in(&matches).filter(|_| !names.is_empty()) else {
            return Self::from_arg_matches(&matches).map_err(Exit::Clap);
        };
        let usage = |error: config_file::ConfigError| Exit::Usage(error.to_string());
        let file = ConfigFile::read(path).map_err(usage)?;
        let command = file.apply(Self::command(), &names).map_err(usage)?;
        let matches = command.try_get_matches_from(&args);
        let matches = matches.map_err(|error| blame(error, &file))?;
        Self::from_arg_matches(&matches).map_err(Exit::Clap)
    }
}

/// The command that is run: `volume`, `scrub`.
fn subcommand_names(matches: &ArgMatches) -> Vec<&str> {
    let mut names = Vec::new();
    let mut next = matches.subcommand();
    while let Some((name, matches)) = next {
        names.push(name);
        next = matches.subcommand();
    }
    names
}

/// The arguments were fine without the file: what is refused now may stand in it.
fn blame(error: clap::Error, file: &ConfigFile) -> Exit {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let blamed = file.blame(text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
    let Some(blamed) = blamed else {
        return Exit::Clap(error);
    };
    match std::error::Error::source(&error) {
        Some(reason) => Exit::Usage(format!("{blamed}: {reason}")),
        None => Exit::Usage(blamed),
    }
}
