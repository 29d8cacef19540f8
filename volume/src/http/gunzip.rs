//! Undoing gzip with bounds: on the input taken at a time, on the output held, on the output in
//! all.
//!
//! A kilobyte of gzip can stand for a megabyte, so nothing here trusts a length.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use flate2::write::MultiGzDecoder;
use futures_util::{Stream, TryStreamExt, stream};

/// Output in all, of one needle: far above every real one, and far below what crafted input of a
/// needle's size could stand for.
pub(crate) const MAX_OUTPUT_BYTES: u64 = 1 << 30;
/// Output that is collected to know its length; more is streamed without one.
pub(super) const MAX_COLLECTED_BYTES: usize = 8 << 20;
/// Input taken at a time. It becomes at most some 16 MB of output.
const STEP_BYTES: usize = 16 << 10;

/// Whether data looks like gzip. Other programs flag some that is not; it is sent as it lies.
pub(crate) fn is_gzip(data: &[u8]) -> bool {
    data.starts_with(&[0x1f, 0x8b])
}

/// The whole output, or `None` if it is more than `limit`.
pub(super) fn collect(data: &[u8], limit: usize) -> io::Result<Option<Bytes>> {
    let mut output = Vec::new();
    let mut sink = |piece: &[u8]| {
        let fits = output.len().saturating_add(piece.len()) <= limit;
        if fits {
            output.extend_from_slice(piece);
        }
        fits
    };
    Ok(feed(data, &mut sink)?.then(|| output.into()))
}

/// Length of the whole output; an error if it is more than [`MAX_OUTPUT_BYTES`]. Each piece is
/// shown to `see` on its way.
pub(crate) fn measure(data: impl Read, mut see: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut len = 0;
    let mut sink = |piece: &[u8]| {
        len += piece.len() as u64;
        see(piece);
        len <= MAX_OUTPUT_BYTES
    };
    if feed(data, &mut sink)? { Ok(len) } else { Err(too_long()) }
}

/// Whether `sink` took all of the output.
fn feed(mut data: impl Read, sink: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<bool> {
    let mut decoder = MultiGzDecoder::new(Vec::new());
    let mut step = [0; STEP_BYTES];
    loop {
        let len = data.read(&mut step)?;
        if len == 0 {
            break;
        }
        decoder.write_all(&step[..len])?;
        if !sink(decoder.get_ref()) {
            return Ok(false);
        }
        decoder.get_mut().clear();
    }
    decoder.try_finish()?;
    Ok(sink(decoder.get_ref()))
}

fn too_long() -> io::Error {
    let text = format!("it decompresses to more than {MAX_OUTPUT_BYTES} bytes");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The output of a gzipped stream. An error ends it: of the input, of the gzip format, or of an
/// output beyond [`MAX_OUTPUT_BYTES`].
pub(super) fn decompress<S>(input: S) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let walk = Walk {
        input: Box::pin(input),
        pending: Bytes::new(),
        decoder: MultiGzDecoder::new(Vec::new()),
        sent: 0,
        is_finished: false,
    };
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

struct Walk<S> {
    input: std::pin::Pin<Box<S>>,
    pending: Bytes,
    decoder: MultiGzDecoder<Vec<u8>>,
    sent: u64,
    is_finished: bool,
}

impl<S: Stream<Item = io::Result<Bytes>>> Walk<S> {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        while !self.is_finished {
            if self.pending.is_empty() {
                match self.input.try_next().await? {
                    Some(chunk) => self.pending = chunk,
                    None => {
                        self.decoder.try_finish()?;
                        self.is_finished = true;
                    }
                }
            } else {
                let step = self.pending.len().min(STEP_BYTES);
                self.decoder.write_all(&self.pending[..step])?;
                self.pending.advance(step);
            }
            let output = std::mem::take(self.decoder.get_mut());
            if !output.is_empty() {
                self.sent += output.len() as u64;
                if self.sent > MAX_OUTPUT_BYTES {
                    return Err(too_long());
                }
                return Ok(Some((output.into(), self)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
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
