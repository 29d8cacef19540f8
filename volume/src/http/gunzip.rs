//! Undoing gzip with bounds: on the input taken at a time, on the output held, on the output in
//! all, and on the threads that do it.
//!
//! A kilobyte of gzip can stand for a megabyte, so nothing here trusts a length, and output exists
//! in pieces of a fixed size: each is looked at before the next one is made.

use std::{
    io::{self, BufRead, Read},
    sync::LazyLock,
};

use bytes::{Buf, Bytes, BytesMut};
use flate2::{bufread::MultiGzDecoder, read};
use futures_util::{Stream, TryStreamExt, stream};
use tokio::sync::Semaphore;

use crate::reader::on_blocking_pool;

/// Output in all, of one needle: far above every real one, and far below what crafted input of a
/// needle's size could stand for.
pub(crate) const MAX_OUTPUT_BYTES: u64 = 1 << 30;
/// Output that is collected to know its length; more is streamed without one.
pub(super) const MAX_COLLECTED_BYTES: usize = 8 << 20;
/// Output made at a time: it fits a processor's cache.
const PIECE_BYTES: usize = 64 << 10;

/// Long decompressions at a time: as many as there are cores. More would take the blocking pool's
/// hundreds of threads from the reads and writes of disks, and not be done sooner.
static CORES: LazyLock<Semaphore> = LazyLock::new(|| {
    Semaphore::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
});

/// Does long work on the blocking pool, once a core is free for it.
pub(super) async fn with_a_core<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let core = CORES.acquire().await.map_err(io::Error::other)?;
    on_blocking_pool(move || {
        // Given back by the work, which goes on if nobody waits for it any more.
        let _core = core;
        work()
    })
    .await
}

/// Whether data looks like gzip. Other programs flag some that is not; it is sent as it lies.
pub(crate) fn is_gzip(data: &[u8]) -> bool {
    data.starts_with(&[0x1f, 0x8b])
}

/// The whole output, or `None` if it is more than `limit`.
pub(super) fn collect(data: &[u8], limit: usize) -> io::Result<Option<Bytes>> {
    let mut output = Vec::new();
    let beyond = (limit as u64).saturating_add(1);
    MultiGzDecoder::new(data).take(beyond).read_to_end(&mut output)?;
    Ok((output.len() <= limit).then(|| output.into()))
}

/// Length of the whole output; an error if it is more than [`MAX_OUTPUT_BYTES`]. Each piece is
/// shown to `see` on its way.
pub(crate) fn measure(data: impl Read, mut see: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut decoder = read::MultiGzDecoder::new(data);
    let mut piece = vec![0; PIECE_BYTES];
    let mut len = 0;
    loop {
        let made = decoder.read(&mut piece)?;
        if made == 0 {
            return Ok(len);
        }
        len += made as u64;
        if len > MAX_OUTPUT_BYTES {
            return Err(too_long());
        }
        see(&piece[..made]);
    }
}

fn too_long() -> io::Error {
    let text = format!("it decompresses to more than {MAX_OUTPUT_BYTES} bytes");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The output of a gzipped stream, in pieces of at most 64 KiB. An error ends it: of the input, of
/// the gzip format, or of an output beyond [`MAX_OUTPUT_BYTES`].
pub(super) fn decompress<S>(input: S) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let arrived = Arrived { pending: Bytes::new(), is_whole: false };
    let walk = Walk { input: Box::pin(input), decoder: MultiGzDecoder::new(arrived), sent: 0 };
    stream::try_unfold(walk, Walk::next)
}

/// Length of the output of a gzipped stream.
pub(super) async fn measure_stream<S>(input: S) -> io::Result<u64>
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    decompress(input)
        .try_fold(0_u64, |sum, piece| async move { Ok(sum + piece.len() as u64) })
        .await
}

/// Input of a decoder as far as it came: at its end a reader that would block, until it is whole.
struct Arrived {
    pending: Bytes,
    is_whole: bool,
}

impl Read for Arrived {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.fill_buf()?.read(into)?;
        self.consume(len);
        Ok(len)
    }
}

impl BufRead for Arrived {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.pending.is_empty() && !self.is_whole {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(&self.pending)
    }

    fn consume(&mut self, len: usize) {
        self.pending.advance(len);
    }
}

struct Walk<S> {
    input: std::pin::Pin<Box<S>>,
    decoder: MultiGzDecoder<Arrived>,
    sent: u64,
}

impl<S: Stream<Item = io::Result<Bytes>>> Walk<S> {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        let mut piece = BytesMut::zeroed(PIECE_BYTES);
        loop {
            match self.decoder.read(&mut piece) {
                Ok(0) => return Ok(None),
                Ok(made) => {
                    self.sent += made as u64;
                    if self.sent > MAX_OUTPUT_BYTES {
                        return Err(too_long());
                    }
                    piece.truncate(made);
                    return Ok(Some((piece.freeze(), self)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let arrived = self.decoder.get_mut();
                    match self.input.try_next().await? {
                        Some(chunk) => arrived.pending = chunk,
                        None => arrived.is_whole = true,
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    async fn collect_stream(chunks: Vec<Bytes>) -> io::Result<Vec<u8>> {
        let input = stream::iter(chunks.into_iter().map(Ok));
        let pieces: Vec<Bytes> = decompress(input).try_collect().await?;
        Ok(pieces.concat())
    }

    #[tokio::test]
    async fn what_was_gzipped_comes_out_in_one_piece_or_in_many() {
        let data: Vec<u8> = (0..300_000_u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        let mut zipped = gzip(&data[..1000]);
        zipped.extend(gzip(&data[1000..]));
        assert!(is_gzip(&zipped));
        assert_eq!(collect(&zipped, data.len()).unwrap().unwrap(), data);
        assert_eq!(collect(&zipped, data.len() - 1).unwrap(), None);
        assert_eq!(measure(&zipped[..], |_| {}).unwrap(), data.len() as u64);
        let chunks = zipped.chunks(777).map(Bytes::copy_from_slice).collect();
        assert_eq!(collect_stream(chunks).await.unwrap(), data);
    }

    #[tokio::test]
    async fn cut_or_foreign_input_is_an_error() {
        let zipped = gzip(&[7; 5000]);
        let cut = &zipped[..zipped.len() - 4];
        assert!(measure(cut, |_| {}).is_err());
        assert!(collect(b"no gzip at all", 100).is_err());
        assert!(collect_stream(vec![Bytes::copy_from_slice(cut)]).await.is_err());
    }

    #[tokio::test]
    async fn output_comes_in_pieces_however_much_a_piece_of_input_stands_for() {
        let zeros = vec![0; 8 << 20];
        let zipped = gzip(&zeros);
        let mut longest = 0;
        let see = |piece: &[u8]| longest = longest.max(piece.len());
        assert_eq!(measure(&zipped[..], see).unwrap(), zeros.len() as u64);
        assert!(longest <= PIECE_BYTES, "{longest}");
        let whole = stream::iter([Ok(Bytes::from(zipped))]);
        let pieces: Vec<Bytes> = decompress(whole).try_collect().await.unwrap();
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
        assert!(pieces.concat() == zeros);
    }

    #[tokio::test]
    async fn no_more_than_a_core_each_decompresses() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let cores = std::thread::available_parallelism().unwrap().get();
        let jobs = (0..4 * cores).map(|_| {
            with_a_core(|| {
                MOST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(20));
                RUNNING.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
        });
        futures_util::future::try_join_all(jobs).await.unwrap();
        assert_eq!(MOST.load(Ordering::SeqCst), cores);
    }

    #[test]
    fn a_bomb_is_given_up() {
        let mut bomb = Vec::new();
        let member = gzip(&vec![0; 64 << 20]);
        for _ in 0..17 {
            bomb.extend_from_slice(&member);
        }
        assert!(measure(&bomb[..], |_| {}).is_err());
        assert_eq!(collect(&bomb, MAX_COLLECTED_BYTES).unwrap(), None);
    }
}
