//! The volume engine on real files: what is acknowledged is read back, whatever happened between.

mod damage;
mod faults;
mod harness;
mod model;
mod recovery;
