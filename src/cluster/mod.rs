//! `dulse cluster`, and the secret that makes servers one cluster.

mod command;
mod looking;
mod masters;
mod new_secret;
mod recover;
mod secret_file;

pub(crate) use command::ClusterCommand;
pub(crate) use secret_file::SecretArgs;
