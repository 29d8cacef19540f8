//! The program: reads flags, environment and configuration file, runs what they ask for, and
//! turns the outcome into an exit code: 0, 1 for a failure, 2 for wrong usage.
//!
//! It decides nothing about storage: roles live in the master and volume crates, commands in the
//! client crate.

mod cli;
mod cli_values;
mod cluster;
mod config_file;
mod exit;
mod offline;
mod resources;
mod role;
mod seaweedfs_flags;

use std::process::ExitCode;

use cli::{Cli, Command, VolumeArgs, VolumeCommand};
use cluster::{ClusterCommand, SecretArgs};
use dulse_client::{
    Client,
    command::{self, Outcome},
};
use dulse_shared::net::telemetry;
use exit::{Exit, one_line};

/// The system's takes a tenth more processor time of an upload. Huge pages are off (`no_thp`): an
/// idle server would take twice the memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::read(std::env::args_os()).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report(),
    }
}

fn run(cli: Cli) -> Result<(), Exit> {
    telemetry::init(cli.log_format.into());
    match cli.command {
        Command::Server(args) => role::run_server(args),
        Command::Master(args) => role::run_master(args),
        Command::Volume(args) if args.command.is_none() => role::run_volume(args),
        Command::Check(args) => args.run(),
        Command::Export(args) => args.run(),
        client_command => run_client(client_command),
    }
}

/// A client command needs no second thread; Ctrl-C drops it where it stands, which removes what
/// it had not finished.
fn run_client(command: Command) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Exit::Failed(format!("cannot start the runtime: {error}")))?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = dispatch(command) => outcome,
            _ = tokio::signal::ctrl_c() => Err(Exit::Interrupted),
        }
    });
    // A read of a terminal may hang in a thread of its own; nobody waits for it.
    runtime.shutdown_background();
    outcome
}

async fn dispatch(command: Command) -> Result<(), Exit> {
    let failed = |error| Exit::Failed(one_line(&error));
    let outcome = match command {
        Command::Put(args) => {
            let (client, request) = (connect(&args.master)?, args.request()?);
            command::put(&client, &request).await
        }
        Command::Get(args) => {
            command::get(&connect(&args.master)?, &args.request()).await.map_err(failed)?
        }
        Command::Delete(args) => {
            command::delete(&connect(&args.master)?, &args.fids, args.output.json).await
        }
        Command::Lookup(args) => {
            let client = connect(&args.master)?;
            command::lookup(&client, &args.subject, args.output.json).await.map_err(failed)?
        }
        Command::Status(args) => {
            command::status(&connect(&args.master)?, args.output.json).await.map_err(failed)?
        }
        Command::Cluster(command) => look_at_cluster(command).await?,
        Command::Volume(VolumeArgs { command: Some(VolumeCommand::Scrub(args)), .. }) => {
            let client = connect_as_member(&args.master, &args.secret)?;
            command::scrub(&client, args.volume, args.output.json).await.map_err(failed)?
        }
        Command::Volume(VolumeArgs { command: Some(VolumeCommand::Vacuum(args)), .. }) => {
            let client = connect_as_member(&args.master, &args.secret)?;
            let (threshold, json) = (args.garbage_threshold, args.output.json);
            command::vacuum(&client, args.volume, threshold, json).await.map_err(failed)?
        }
        Command::Server(_)
        | Command::Master(_)
        | Command::Volume(VolumeArgs { command: None, .. })
        | Command::Check(_)
        | Command::Export(_) => Outcome::Done,
    };
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::Partial => Err(Exit::Told),
    }
}

async fn look_at_cluster(command: ClusterCommand) -> Result<Outcome, Exit> {
    let outcome = match command {
        ClusterCommand::NewSecret(args) => return args.run().map(|()| Outcome::Done),
        ClusterCommand::Masters(command) => {
            let (change, reach) = command.into_parts();
            let client = connect_as_member(&reach.master, &reach.secret)?;
            command::masters(&client, change.as_ref(), reach.output.json).await
        }
        ClusterCommand::Recover(args) => {
            let client = connect_as_member(&args.master, &args.secret)?;
            command::recover(&client, &args.request(), args.output.json).await
        }
        ClusterCommand::Status(args) => {
            command::cluster_status(&connect(&args.master)?, args.output.json).await
        }
        ClusterCommand::Wait(args) => {
            command::cluster_wait(&connect(&args.master)?, args.wanted()).await
        }
        ClusterCommand::Events(args) => {
            let client = connect(&args.master)?;
            command::cluster_events(&client, args.follow, args.output.json).await
        }
    };
    outcome.map_err(|error| Exit::Failed(one_line(&error)))
}

fn connect(masters: &cli::Masters) -> Result<Client, Exit> {
    Client::new(&masters.master).map_err(|error| Exit::Usage(one_line(&error)))
}

/// For what is asked on cluster ports.
fn connect_as_member(masters: &cli::Masters, secret: &SecretArgs) -> Result<Client, Exit> {
    let client = Client::with_identity(&masters.master, secret.identity()?.as_ref());
    client.map_err(|error| Exit::Usage(one_line(&error)))
}
