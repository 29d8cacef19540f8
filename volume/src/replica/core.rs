//! One step of a replica: an event comes in, actions go out.
//!
//! The rules, in short:
//! - A write is stored by every member before it is committed; its coordinator, the member that a
//!   client sent it to, commits or aborts it and tells the others. With no other member it is
//!   committed as soon as it is synced.
//! - A member stores only what was sent in the epoch of its fence, and of a key only what is newer
//!   than all it knows. It answers no read of a key while a newer version is pending.
//! - A higher epoch ends everything that was under way. What has no outcome then gets it from the
//!   decision, which comes with a configuration, and from nowhere else.
//! - A replica that was restarted or left out is not read, not written and not asked until a
//!   decision counted it in by name and run, or it took over the state of one that was.
//!
//! What may be read is answered by [`State::read`]; what a sealed replica holds by
//! [`State::sealed`], [`State::holding`] and [`State::key_states`]. None of them changes anything.
//! Waiting, clocks and deadlines are the shell's: every time limit arrives as an event.

use dulse_shared::wire::Standing;

use super::{
    event::{Action, Event, Message},
    record::Versions,
    state::State,
};

/// Takes one event and appends to `actions` what is to be done about it, in order.
pub fn step<V: Versions>(state: &mut State<V>, event: Event, actions: &mut Vec<Action>) {
    match event {
        Event::Write { client, write, now_ns, has_lease } => {
            state.write(client, &write, now_ns, has_lease, actions);
        }
        Event::Flush => state.flush(actions),
        Event::Synced => state.synced(actions),
        Event::DiskFailed => state.fail(actions),
        Event::Saw(ts) => state.saw(ts),
        Event::Received { from, message, has_room } => match message {
            Message::Batch(batch) => state.store(from, batch, has_room, actions),
            Message::Answer(answer) => state.stored(from, &answer, actions),
            Message::Ask { epoch, id } => state.asked(from, epoch, id, actions),
        },
        Event::Unanswered { by } => state.unanswered(by, actions),
        Event::Retry(key) => state.retry(key, actions),
        Event::Tell => state.tell(actions),
        Event::Configured(config) => state.configure(&config, actions),
        Event::Adopt { epoch, states } => state.adopt(epoch, &states, actions),
        Event::Swapping(next) => state.swapping(next, actions),
        Event::Swapped { file, dropped } => state.swapped(file, dropped, actions),
        Event::Checkpoint => actions.push(Action::WriteSidecar(state.durable())),
    }
}

impl<V: Versions> State<V> {
    /// The end of a replica whose disk failed: its writes have no outcome that it could know.
    fn fail(&mut self, actions: &mut Vec<Action>) {
        self.standing = Standing::Failed;
        self.abandon(actions);
        actions.push(Action::Report(self.server));
    }
}
