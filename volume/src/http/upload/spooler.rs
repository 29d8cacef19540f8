//! A large upload on its way into a spool file, in the directory of the volume that it is for.
//!
//! One piece is written on the blocking pool, and summed there, while the next one comes off the
//! socket: so much of an upload is in memory and no more, and the runtime's thread never waits for
//! a disk. Whoever drops this before its end leaves nothing behind: the file has no name.

use std::{
    io::{self, IoSlice},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use dulse_shared::wire::{Code, Problem};
use tokio::task::JoinHandle;

use crate::{
    disk::{DataDir, VolumeFile, write_all_at},
    needle_data::{NeedleData, Spool},
    reader::on_blocking_pool,
};

/// Bytes that are written at once. An upload holds this much, as much again that is being written,
/// and the chunk that comes; handing a piece over costs far less than writing it.
const PIECE_BYTES: usize = 512 << 10;

/// What was received so far, but for the last pieces in a file.
#[derive(Debug)]
pub(super) struct Spooler {
    file: Arc<dyn VolumeFile>,
    dir: PathBuf,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    /// Bytes that are in the file or on their way into it.
    handed_over: u64,
    checksum: u32,
    /// The piece that is being written; the sum once it is.
    writing: Option<JoinHandle<io::Result<u32>>>,
}

impl Spooler {
    /// An empty spool in `dir`.
    pub(super) async fn create(dir: &DataDir) -> Result<Self, Problem> {
        let (files, path) = (dir.files().clone(), dir.path().to_owned());
        let made = on_blocking_pool(move || files.spool(&path)).await;
        Ok(Self {
            file: made.map_err(|error| problem(&error, dir.path().to_owned()))?,
            dir: dir.path().to_owned(),
            pending: Vec::new(),
            pending_bytes: 0,
            handed_over: 0,
            checksum: 0,
            writing: None,
        })
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> u64 {
        self.handed_over + self.pending_bytes as u64
    }

    /// Adds a chunk.
    pub(super) async fn push(&mut self, chunk: Bytes) -> Result<(), Problem> {
        self.pending_bytes += chunk.len();
        self.pending.push(chunk);
        if self.pending_bytes < PIECE_BYTES {
            return Ok(());
        }
        self.hand_over().await
    }

    /// All bytes and their CRC-32C.
    pub(super) async fn finish(mut self) -> Result<(NeedleData, u32), Problem> {
        self.hand_over().await?;
        self.written().await?;
        let data = NeedleData::Spooled(Spool::new(self.file, self.handed_over));
        Ok((data, self.checksum))
    }

    /// Has what is pending written, once the piece before it is.
    async fn hand_over(&mut self) -> Result<(), Problem> {
        self.written().await?;
        let piece = std::mem::take(&mut self.pending);
        let (file, offset, mut checksum) = (self.file.clone(), self.handed_over, self.checksum);
        self.handed_over += std::mem::take(&mut self.pending_bytes) as u64;
        self.writing = Some(tokio::task::spawn_blocking(move || {
            for chunk in &piece {
                checksum = crc32c::crc32c_append(checksum, chunk);
            }
            let mut slices: Vec<_> = piece.iter().map(|chunk| IoSlice::new(chunk)).collect();
            write_all_at(&*file, &mut slices, offset).map(|()| checksum)
        }));
        Ok(())
    }

    async fn written(&mut self) -> Result<(), Problem> {
        if let Some(writing) = self.writing.take() {
            let written = writing.await.map_err(io::Error::other).flatten();
            self.checksum = written.map_err(|error| problem(&error, self.dir.clone()))?;
        }
        Ok(())
    }
}

fn problem(error: &io::Error, dir: PathBuf) -> Problem {
    let dir = dir.display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Problem::new(
            Code::VolumeFull,
            format!(
                "the disk of {dir} has no room for the upload; nothing was stored: free space or \
                 ask the master for another fid"
            ),
        ),
        _ => Problem::new(
            Code::Internal,
            format!("cannot keep the upload in {dir}: {error}; nothing was stored: check the disk"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::{super::test_dir::test_dir, *};
    use crate::disk::simulated::{ENOSPC, Fault, Operation};

    #[tokio::test]
    async fn chunks_of_any_length_come_out_as_one_with_their_sum() {
        let (_, dir) = test_dir();
        let mut spooler = Spooler::create(&dir).await.unwrap();
        let mut whole = Vec::new();
        for len in [1, 0, PIECE_BYTES, 7, PIECE_BYTES - 1, 3 * PIECE_BYTES, 5] {
            let start = whole.len();
            whole.extend((0..len).map(|at| ((start + at) / 3 % 251) as u8));
            spooler.push(Bytes::copy_from_slice(&whole[start..])).await.unwrap();
            assert_eq!(spooler.len(), whole.len() as u64);
        }
        let (data, checksum) = spooler.finish().await.unwrap();
        let mut read = Vec::new();
        data.reader().read_to_end(&mut read).unwrap();
        assert!(data.is_spooled() && read == whole);
        assert_eq!(checksum, crc32c::crc32c(&whole));
    }

    #[tokio::test]
    async fn a_full_disk_is_the_volumes_and_any_other_failure_is_ours() {
        let (disk, dir) = test_dir();
        for (fault, code) in [
            (Fault::Fails(ENOSPC), Code::VolumeFull),
            (Fault::Tears, Code::VolumeFull),
            (Fault::Fails(5), Code::Internal),
        ] {
            let mut spooler = Spooler::create(&dir).await.unwrap();
            disk.plan(Operation::Write, None, 0, fault);
            spooler.push(Bytes::from_static(b"x")).await.unwrap();
            assert_eq!(spooler.finish().await.unwrap_err().code, code);
        }
        disk.plan(Operation::Create, None, 0, Fault::Fails(ENOSPC));
        assert_eq!(Spooler::create(&dir).await.unwrap_err().code, Code::VolumeFull);
    }
}
