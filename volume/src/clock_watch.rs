//! Looking at the clock regularly, so that a jump is noticed and steady time counts.
//!
//! A task of its own: neither a master that cannot be reached nor a disk that hangs stops it. What
//! follows from what it sees is decided in [`crate::engine::clock_trust`].

use std::time::Duration;

use dulse_shared::net::tasks::Tasks;

use crate::store::Store;

/// Well within the minute that a stretch counts in which nobody looks.
const PAUSE: Duration = Duration::from_secs(10);

/// Looks at the clock until the process stops.
pub async fn run(store: Store, tasks: Tasks) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = tasks.stopped() => return,
        }
        store.clock_trust().look();
    }
}
