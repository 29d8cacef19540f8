//! Waiting for work on volumes, where people look on.

use std::time::Duration;

use super::{progress::Bar, say};
use crate::{
    error::ClientError,
    volume_work::{VolumeWork, Work, WorkProgress},
};

/// Between two looks: at first short, since most volumes of a new store are.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_secs(1)];

/// Waits for the end, behind a progress bar.
pub(super) async fn watch<W: VolumeWork>(work: &Work<W>) -> Result<WorkProgress<W>, ClientError> {
    let mut progress = work.progress().await?;
    let bar = Bar::new(W::WORD, Some(progress.total_bytes));
    let mut looks = 0;
    while !progress.is_complete {
        bar.advance(progress.done_bytes);
        let pause = PAUSES.get(looks / 10).or(PAUSES.last()).copied().unwrap_or_default();
        tokio::time::sleep(pause).await;
        looks += 1;
        progress = work.progress().await.inspect_err(|_| bar.clear())?;
    }
    bar.clear();
    Ok(progress)
}

/// Names the servers that were not there to be asked.
pub(super) fn complain(missing: &[String]) {
    for server in missing {
        say::complaint(&ClientError::Unreachable {
            url: format!("http://{server}"),
            reason: "the master does not hear it; its volumes were passed over".to_owned(),
        });
    }
}
