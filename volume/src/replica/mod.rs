//! How the replicas of a volume keep the same needles: the protocol, pure.
//!
//! [`core::step`] takes what happened and says what to do; `tests/model` of the root package
//! drives this very code through every order of events. No I/O, no clock, no bytes of needles.

mod adopt;
mod coordinator;
pub mod core;
mod event;
mod member;
mod read;
mod record;
mod recover;
mod rules;
mod seal;
mod state;

pub use event::{
    Action, Answer, Batch, BatchAnswer, Client, Event, KeyState, Message, NewRecord, Stored,
};
pub use read::Read;
pub use record::{Kind, Placed, Record, Units, Versions};
pub use recover::{Files, Identity, recover};
pub use rules::{Rule, Rules};
pub use state::{Durable, FileFacts, State};
