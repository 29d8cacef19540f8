//! `dulse get`: fetch a needle into a file or to stdout.
//!
//! A file appears under its name when it is whole and verified, never before: it is written beside
//! it and renamed.

use std::{
    fs::Permissions,
    io,
    os::{fd::AsFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};

use dulse_shared::{disk, id::Fid};
use tempfile::NamedTempFile;
use tokio::io::{AsyncSeekExt, AsyncWrite};

use super::{Outcome, progress::Bar};
use crate::{client::Client, error::ClientError, retry::Backoff};

/// What a new file may be used for, before the umask has its say.
const FILE_MODE: u32 = 0o666;

/// What to fetch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GetRequest {
    /// The needle.
    pub fid: Fid,
    /// The file to write; `-` is stdout.
    pub output: PathBuf,
}

/// Fetches a needle.
pub async fn get(client: &Client, request: &GetRequest) -> Result<Outcome, ClientError> {
    let output = &request.output;
    if output == Path::new("-") {
        let mut stdout = stdout_as_file()?;
        fetch(client, request.fid, "standard output", &mut stdout).await?;
        return Ok(Outcome::Done);
    }
    let name = output.display().to_string();
    let failed = |source| ClientError::Sink { name: name.clone(), source };
    match std::fs::metadata(output) {
        Ok(metadata) if metadata.is_dir() => {
            let reason = "it is a directory; name the file to write";
            Err(failed(io::Error::new(io::ErrorKind::IsADirectory, reason)))
        }
        // A device or pipe is written to; a rename would replace it.
        Ok(metadata) if !metadata.is_file() => {
            let file = std::fs::OpenOptions::new().write(true).open(output);
            let mut file = tokio::fs::File::from_std(file.map_err(failed)?);
            fetch(client, request.fid, &name, &mut file).await?;
            Ok(Outcome::Done)
        }
        _ => {
            fetch_to_file(client, request.fid, output).await?;
            Ok(Outcome::Done)
        }
    }
}

/// Standard output without a buffer of its own: chunks are large.
fn stdout_as_file() -> Result<tokio::fs::File, ClientError> {
    let descriptor = io::stdout().as_fd().try_clone_to_owned();
    let file = descriptor.map(std::fs::File::from);
    file.map(tokio::fs::File::from_std)
        .map_err(|source| ClientError::Sink { name: "standard output".to_owned(), source })
}

/// Writes beside `path` and renames. A transfer that breaks off starts again, a few times.
async fn fetch_to_file(client: &Client, fid: Fid, path: &Path) -> Result<(), ClientError> {
    let name = path.display().to_string();
    let failed = |source| ClientError::Sink { name: name.clone(), source };
    // What a link points to is replaced, not the link.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let staged = stage(&path).map_err(failed)?;
    let reopened = staged.reopen().map_err(failed)?;
    let mut file = tokio::fs::File::from_std(reopened);
    let mut backoff = Backoff::default();
    while let Err(error) = fetch(client, fid, &name, &mut file).await {
        let pause = backoff.next_pause(rand::random());
        let Some(pause) = pause.filter(|_| error.is_passing()) else {
            return Err(error);
        };
        tokio::time::sleep(pause).await;
        file.rewind().await.map_err(failed)?;
        file.set_len(0).await.map_err(failed)?;
    }
    file.sync_all().await.map_err(failed)?;
    let persisted = staged.persist(&path).map_err(|error| error.error);
    persisted.map_err(failed)?;
    disk::fsync_dir(disk::parent(&path)).map_err(failed)
}

fn stage(path: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(".dulse-get-")
        .permissions(Permissions::from_mode(FILE_MODE))
        .tempfile_in(disk::parent(path))
}

async fn fetch(
    client: &Client,
    fid: Fid,
    name: &str,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<(), ClientError> {
    let mut download = client.read(fid).await?;
    let bar = Bar::new(name, download.info().size);
    let written = download.write_to(name, writer, |done| bar.advance(done)).await;
    bar.clear();
    written.map(drop)
}
