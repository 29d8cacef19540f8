//! The public port of a volume server on a real socket, over a real store, without masters.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests are free to")]

mod codes;
mod epochs;
mod golden;
mod harness;
mod pages;
mod reads;
mod writes;
