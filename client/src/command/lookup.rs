//! `dulse lookup`: which servers hold a volume.

use dulse_shared::{
    id::{Fid, VolumeId},
    wire::LookupResponse,
};

use super::{Outcome, say};
use crate::{client::Client, error::ClientError};

/// A volume, or a needle in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LookupSubject {
    /// The volume itself.
    Volume(VolumeId),
    /// The volume of a needle.
    Needle(Fid),
}

/// Reads `3` or `3,01637037d6`.
pub fn parse_subject(text: &str) -> Result<LookupSubject, String> {
    if text.contains(',') {
        let fid = text.parse().map(LookupSubject::Needle);
        return fid.map_err(|error: dulse_shared::id::ParseFidError| error.to_string());
    }
    let volume = text.parse().map(LookupSubject::Volume);
    volume.map_err(|error: dulse_shared::id::ParseVolumeIdError| error.to_string())
}

/// Prints one URL a line: the volume server's, or the needle's there.
pub async fn lookup(
    client: &Client,
    subject: &LookupSubject,
    json: bool,
) -> Result<Outcome, ClientError> {
    let volume = match subject {
        LookupSubject::Volume(volume) => *volume,
        LookupSubject::Needle(fid) => fid.volume,
    };
    let locations = client.lookup(volume).await?;
    if json {
        say::json(&LookupResponse { volume_id: volume.to_string(), locations })?;
        return Ok(Outcome::Done);
    }
    for location in locations {
        let server = format!("http://{}", location.public_url);
        match subject {
            LookupSubject::Volume(_) => say::data(&server)?,
            LookupSubject::Needle(fid) => say::data(&format!("{server}/{fid}"))?,
        }
    }
    Ok(Outcome::Done)
}
