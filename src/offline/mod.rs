//! Commands on data directories that no server has open.

mod check;
mod export;
mod progress;

pub(crate) use check::CheckArgs;
pub(crate) use export::ExportArgs;
