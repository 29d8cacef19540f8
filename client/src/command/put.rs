//! `dulse put`: store files, print fid and URL of each.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{Outcome, progress::Bar, say};
use crate::{
    client::{AssignOptions, Client},
    error::ClientError,
    source::{MAX_NEEDLE_BYTES, Source},
    upload::{Stored, UploadOptions},
};

/// What to store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PutRequest {
    /// Files; `-` is standard input.
    pub files: Vec<PathBuf>,
    /// A name instead of the file's own.
    pub name: Option<String>,
    /// Where it may go.
    pub assign: AssignOptions,
    /// One JSON object a line instead of columns.
    pub json: bool,
}

/// Stores the files one after the other. A file that fails does not keep the others from being
/// stored.
pub async fn put(client: &Client, request: &PutRequest) -> Outcome {
    let mut is_complete = true;
    for file in &request.files {
        let stored = match put_file(client, request, file).await {
            Ok(stored) => print(&stored, file, request.json),
            Err(error) => Err(error),
        };
        if let Err(error) = stored {
            say::complaint(&error);
            is_complete = false;
        }
    }
    Outcome::of(is_complete)
}

async fn put_file(
    client: &Client,
    request: &PutRequest,
    file: &Path,
) -> Result<Stored, ClientError> {
    let (source, own_name) = if file == Path::new("-") {
        (spool_stdin().await?, None)
    } else {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        (Source::open(file)?, name)
    };
    let bar = Bar::new(&file.display().to_string(), Some(source.len()));
    let options = UploadOptions {
        assign: request.assign.clone(),
        name: request.name.clone().or(own_name),
        mime: None,
        progress: bar.as_progress(),
    };
    let stored = client.upload(&source, &options).await;
    bar.clear();
    stored
}

fn print(stored: &Stored, file: &Path, json: bool) -> Result<(), ClientError> {
    if json {
        return say::json(stored);
    }
    say::data(&format!("{}\t{}\t{}", stored.fid, stored.url, file.display()))
}

/// Input of unknown length goes to an unnamed file first: an upload needs the length beforehand,
/// and the bytes again if it has to be repeated.
async fn spool_stdin() -> Result<Source, ClientError> {
    let spooled = tokio::task::spawn_blocking(|| spool(io::stdin().lock()));
    let spooled = spooled.await.map_err(io::Error::from).flatten();
    let (file, len) = spooled
        .map_err(|source| ClientError::Source { name: "standard input".to_owned(), source })?;
    if len > MAX_NEEDLE_BYTES {
        return Err(ClientError::TooLarge {
            name: "standard input".to_owned(),
            size: None,
            limit: MAX_NEEDLE_BYTES,
        });
    }
    Ok(Source::from_file(file, len, "standard input"))
}

/// At most one byte more than fits, which is enough to see that it does not.
fn spool(input: impl Read) -> io::Result<(std::fs::File, u64)> {
    let mut file = tempfile::tempfile()?;
    let len = io::copy(&mut input.take(MAX_NEEDLE_BYTES + 1), &mut file)?;
    Ok((file, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_spooled_up_to_one_byte_more_than_fits() {
        assert_eq!(spool(&b"some words"[..]).unwrap().1, 10);
        assert_eq!(spool(io::repeat(7)).unwrap().1, MAX_NEEDLE_BYTES + 1);
    }
}
