//! What a volume server does to its volumes in the background, one thing at a time on each disk.

mod job;
mod metrics;
mod pace;
mod schedule;
mod scrub_file;
mod scrub_job;
mod server;
mod vacuum_job;
mod vacuum_schedule;
mod worker;

pub use schedule::RoutineScrub;
pub use server::Maintenance;
pub use vacuum_schedule::RoutineVacuum;
pub use worker::Routine;
