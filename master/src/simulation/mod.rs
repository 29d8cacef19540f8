//! Random clusters, step by step, from one seed each: what the masters decide, against what must
//! hold whatever happens.
//!
//! The pure parts run here as they are: cluster state, topology, placement, layouts and plans.
//! Simulated are volume servers, the network between them and two masters, and time. A seed that
//! fails is printed and replays exactly. What is not simulated: consensus, clients, disks.

mod flaw;
mod invariants;
mod plans;
mod runs;
mod steps;
mod volume_server;
mod world;
