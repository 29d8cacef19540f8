//! What is done with a data directory that no server has open: check it, mend it, take out what it
//! holds.

pub mod check;
pub mod directory;
pub mod export;
mod export_name;
mod repair;
