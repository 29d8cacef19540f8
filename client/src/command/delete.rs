//! `dulse delete`: delete needles, print the fid of each that is gone.

use dulse_shared::id::Fid;
use serde::Serialize;

use super::{Outcome, say};
use crate::{client::Client, error::ClientError};

#[derive(Serialize)]
struct Deleted {
    fid: String,
    size: u64,
}

/// Deletes needles one after the other and prints the fid of each; one that fails does not keep
/// the others.
pub async fn delete(client: &Client, fids: &[Fid], json: bool) -> Outcome {
    let mut is_complete = true;
    for fid in fids {
        let deleted = match client.delete(*fid).await {
            Ok(size) => print(*fid, size, json),
            Err(error) => Err(error),
        };
        if let Err(error) = deleted {
            say::complaint(&error);
            is_complete = false;
        }
    }
    Outcome::of(is_complete)
}

fn print(fid: Fid, size: u64, json: bool) -> Result<(), ClientError> {
    let fid = fid.to_string();
    if json {
        return say::json(&Deleted { fid, size });
    }
    say::data(&fid)
}
