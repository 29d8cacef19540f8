//! The roles a process can have, each from its flags to its ready line.

mod lifetime;
mod listening;
mod master;
mod ready;
mod server;
mod volume;

pub(crate) use master::run_master;
pub(crate) use server::run_server;
pub(crate) use volume::run_volume;
