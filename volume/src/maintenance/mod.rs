//! What a volume server does to its volumes in the background, one thing at a time on each disk.

mod job;
mod metrics;
mod pace;
mod schedule;
mod scrub_file;
mod scrub_job;
mod server;
mod worker;

pub use schedule::RoutineScrub;
pub use server::Maintenance;
