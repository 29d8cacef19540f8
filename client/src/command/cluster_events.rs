//! `dulse cluster events`: what happened, one line each.

use std::time::Duration;

use dulse_shared::wire::ClusterEvent;

use super::{Outcome, say, when::utc};
use crate::{client::Client, error::ClientError};

/// Before a master is asked again that could not be.
const PAUSE: Duration = Duration::from_secs(1);

/// Prints what a master remembers and, if `follow`, what happens from then on, until it is ended.
pub async fn cluster_events(
    client: &Client,
    follow: bool,
    json: bool,
) -> Result<Outcome, ClientError> {
    let mut told = client.events(None).await?;
    let mut printed_ms = 0;
    loop {
        for event in &told.events {
            print(event, json)?;
            printed_ms = event.at_ms;
        }
        if !follow {
            return Ok(Outcome::Done);
        }
        let run = run_of(&told.cursor).to_owned();
        told = next(client, &told.cursor).await;
        if run_of(&told.cursor) != run {
            // Another master, or another run, tells all that it saw.
            told.events.retain(|event| event.at_ms > printed_ms);
        }
    }
}

/// What happens next, however long it takes until a master can be asked.
async fn next(client: &Client, cursor: &str) -> dulse_shared::wire::EventList {
    let mut is_told = false;
    loop {
        match client.events(Some(cursor)).await {
            Ok(told) => return told,
            Err(error) if !is_told => {
                say::complaint(&error);
                is_told = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The part of a cursor that names the master's run.
fn run_of(cursor: &str) -> &str {
    cursor.split_once('.').map_or("", |(run, _)| run)
}

fn print(event: &ClusterEvent, json: bool) -> Result<(), ClientError> {
    if json {
        return say::json(event);
    }
    say::data(&format!("{}  {:<15}  {}", utc(event.at_ms), event.kind.words(), event.text))
}
