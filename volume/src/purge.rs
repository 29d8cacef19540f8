//! When the trash is emptied: once a minute it is looked at.
//!
//! What may go is decided in [`crate::disk::Trash::purge`].

use std::time::Duration;

use dulse_shared::net::tasks::Tasks;

use crate::{reader::on_blocking_pool, store::Store};

/// Often enough for a disk that runs short of room.
const PAUSE: Duration = Duration::from_secs(60);

/// Empties the trash until the process stops.
pub async fn run(store: Store, tasks: Tasks) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = tasks.stopped() => return,
        }
        let store = store.clone();
        let purged = on_blocking_pool(move || {
            store.purge_trash();
            Ok(())
        });
        if let Err(error) = purged.await {
            tracing::error!("cannot empty the trash: {error}");
        }
    }
}
