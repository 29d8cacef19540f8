//! What is uploaded: bytes in memory or a file, of known length, readable any number of times.
//!
//! Reading again is what makes a second attempt possible. A file is read by position, so that
//! attempts do not disturb each other, and on threads that may block.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{Stream, stream};

use crate::error::ClientError;

/// The most a needle holds, in bytes: 256 MB.
pub const MAX_NEEDLE_BYTES: u64 = 256 << 20;
/// Bytes handed to the connection at a time.
const CHUNK_BYTES: u64 = 256 << 10;

/// Bytes to upload. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Source {
    kind: Kind,
    len: u64,
    name: Arc<str>,
}

#[derive(Clone, Debug)]
enum Kind {
    Bytes(Bytes),
    File(Arc<File>),
}

impl Source {
    /// A file, opened now. Directories, devices and pipes are refused: they have no length.
    pub fn open(path: &Path) -> Result<Self, ClientError> {
        let name = path.display().to_string();
        let failed = |source| ClientError::Source { name: name.clone(), source };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            let reason = "it is not a regular file";
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, reason)));
        }
        Ok(Self::from_file(file, metadata.len(), &name))
    }

    /// The first `len` bytes of an open file; `name` is for messages.
    pub(crate) fn from_file(file: File, len: u64, name: &str) -> Self {
        Self { kind: Kind::File(Arc::new(file)), len, name: name.into() }
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// An error unless a needle can hold it.
    pub(crate) fn check_size(&self) -> Result<(), ClientError> {
        if self.len <= MAX_NEEDLE_BYTES {
            return Ok(());
        }
        Err(ClientError::TooLarge {
            name: self.name.to_string(),
            size: Some(self.len),
            limit: MAX_NEEDLE_BYTES,
        })
    }

    /// All bytes in order, exactly [`Source::len`] of them, their checksum gathered in `tally`.
    pub(crate) fn stream(
        &self,
        tally: Arc<Tally>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let source = self.clone();
        stream::try_unfold(0, move |offset| {
            let (source, tally) = (source.clone(), tally.clone());
            async move {
                if offset >= source.len {
                    return Ok(None);
                }
                let chunk = source.read_chunk(offset).await.inspect_err(|error| {
                    tally.fail(error);
                })?;
                tally.add(&chunk);
                let next = offset + chunk.len() as u64;
                Ok(Some((chunk, next)))
            }
        })
    }

    async fn read_chunk(&self, offset: u64) -> io::Result<Bytes> {
        let len = usize::try_from(CHUNK_BYTES.min(self.len - offset)).map_err(io::Error::other)?;
        match &self.kind {
            Kind::Bytes(bytes) => {
                let start = usize::try_from(offset).map_err(io::Error::other)?;
                Ok(bytes.slice(start..start + len))
            }
            Kind::File(file) => {
                let file = file.clone();
                let read = move || {
                    let mut chunk = vec![0; len];
                    file.read_exact_at(&mut chunk, offset)?;
                    Ok(Bytes::from(chunk))
                };
                tokio::task::spawn_blocking(read).await?
            }
        }
    }

    /// An error of reading it.
    pub(crate) fn failed(&self, reason: String) -> ClientError {
        ClientError::Source { name: self.name.to_string(), source: io::Error::other(reason) }
    }
}

impl From<Bytes> for Source {
    fn from(bytes: Bytes) -> Self {
        Self { len: bytes.len() as u64, kind: Kind::Bytes(bytes), name: "the data".into() }
    }
}

impl From<&'static str> for Source {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<Vec<u8>> for Source {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

/// What one attempt has read so far: its checksum, and the error that ended it.
#[derive(Default)]
pub(crate) struct Tally {
    crc: AtomicU32,
    sent: std::sync::atomic::AtomicU64,
    failure: std::sync::OnceLock<String>,
    progress: Option<crate::upload::Progress>,
}

impl Tally {
    pub(crate) fn new(progress: Option<crate::upload::Progress>) -> Self {
        Self { progress, ..Self::default() }
    }

    /// Only the one stream of an attempt adds to it.
    fn add(&self, chunk: &[u8]) {
        let crc = crc32c::crc32c_append(self.crc.load(Ordering::Relaxed), chunk);
        self.crc.store(crc, Ordering::Relaxed);
        let len = chunk.len() as u64;
        let sent = self.sent.fetch_add(len, Ordering::Relaxed) + len;
        if let Some(progress) = &self.progress {
            progress(sent);
        }
    }

    fn fail(&self, error: &io::Error) {
        // A stream ends with its first error.
        let _ = self.failure.set(match error.kind() {
            io::ErrorKind::UnexpectedEof => "it became shorter while it was read".to_owned(),
            _ => error.to_string(),
        });
    }

    /// CRC-32C of what was read.
    pub(crate) fn crc(&self) -> u32 {
        self.crc.load(Ordering::Relaxed)
    }

    /// Why reading failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    async fn read_all(source: &Source, tally: Arc<Tally>) -> io::Result<Vec<u8>> {
        let stream = source.stream(tally);
        let gather = |mut all: Vec<u8>, chunk: Bytes| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        };
        stream.try_fold(Vec::new(), gather).await
    }

    #[tokio::test]
    async fn a_file_is_read_whole_and_again() {
        let content: Vec<u8> = (0..600_000_u32).map(|n| (n % 251) as u8).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &content).unwrap();
        let source = Source::open(file.path()).unwrap();
        for _ in 0..2 {
            let tally = Arc::new(Tally::default());
            assert_eq!(read_all(&source, tally.clone()).await.unwrap(), content);
            assert_eq!(tally.crc(), crc32c::crc32c(&content));
        }
    }

    #[tokio::test]
    async fn a_file_that_shrinks_is_an_error_and_not_a_short_needle() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "twelve bytes").unwrap();
        let source = Source::open(file.path()).unwrap();
        file.as_file().set_len(5).unwrap();
        let tally = Arc::new(Tally::default());
        assert!(read_all(&source, tally.clone()).await.is_err());
        assert!(tally.failure().unwrap().contains("shorter"));
    }

    #[test]
    fn what_has_no_length_is_refused() {
        for path in ["/dev/null", "/tmp", "/nonexistent"] {
            assert!(Source::open(Path::new(path)).is_err(), "{path}");
        }
    }
}
