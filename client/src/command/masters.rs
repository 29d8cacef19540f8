//! `dulse cluster masters`: the masters as a table, and changes of who they are.

use dulse_shared::wire::{ChangeMasters, MasterReport, MasterRole};

use super::{Outcome, say, table::add_table};
use crate::{client::Client, error::ClientError};

/// Prints the masters, after `change` if there is one.
pub async fn masters(
    client: &Client,
    change: Option<&ChangeMasters>,
    json: bool,
) -> Result<Outcome, ClientError> {
    let masters = match change {
        Some(change) => {
            tell_if_member(client, change).await;
            client.change_masters(change).await?
        }
        None => client.list_masters().await?,
    };
    if json {
        say::json(&masters)?;
    } else {
        say::data(render(&masters).trim())?;
    }
    if masters.len() > 1 && masters.len().is_multiple_of(2) {
        eprintln!(
            "{} masters stand the loss of as many as {} do: three or five are best",
            masters.len(),
            masters.len() - 1
        );
    }
    Ok(Outcome::Done)
}

/// Taking in a master once more changes nothing, which should not look as if it had.
async fn tell_if_member(client: &Client, change: &ChangeMasters) {
    let ChangeMasters::Add(address) = change else { return };
    // If no master answers, the change itself says so.
    let Ok(masters) = client.list_masters().await else { return };
    let is_member =
        |master: &MasterReport| master.address == *address && master.role != MasterRole::Learner;
    if masters.iter().any(is_member) {
        eprintln!("{address} is a master of this cluster already");
    }
}

fn render(masters: &[MasterReport]) -> String {
    let mut text = String::new();
    let head = ["MASTER", "ROLE", "ENTRIES BEHIND", "LAST HEARD", "NODE"];
    add_table(&mut text, head, masters.iter().map(row).collect());
    text
}

fn row(master: &MasterReport) -> [String; 5] {
    let role = match master.role {
        MasterRole::Leader => "leader",
        MasterRole::Follower => "follower",
        MasterRole::Learner => "being taken in",
    };
    // Only the leader knows how the others are doing.
    let or_dash = |value: Option<u64>, unit: &str| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value}{unit}"))
    };
    [
        master.address.clone(),
        role.to_owned(),
        or_dash(master.entries_behind, ""),
        or_dash(master.heard_ms.filter(|_| master.role != MasterRole::Leader), " ms ago"),
        master.node.clone(),
    ]
}
