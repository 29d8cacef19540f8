//! What must be known of an upload before it is stored: that it is what the client sent, and how
//! long it is without compression.
//!
//! Nothing is stored that says it is gzip and is not. Long work happens off the runtime's threads.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use std::io;

use dulse_shared::wire::{Code, Problem};
use md5::{Digest, Md5};

use super::Upload;
use crate::{format::DataLen, http::gunzip, needle_data::NeedleData};

/// More than this is summed and decompressed on the blocking pool: it takes a millisecond.
const INLINE_BYTES: u64 = 4 << 10;

impl Upload {
    /// Checks MD5 and gzip; the length of the file without compression.
    pub(in crate::http) async fn inspect(&self) -> Result<u64, Problem> {
        if !self.is_gzipped && self.content_md5.is_none() {
            return Ok(self.data.data_len());
        }
        let (data, is_gzipped) = (self.data.clone(), self.is_gzipped);
        let expected = self.content_md5.clone();
        let work = move || inspect(&data, is_gzipped, expected.as_deref());
        if self.data.data_len() <= INLINE_BYTES {
            return work();
        }
        let done = gunzip::with_a_core(move || Ok(work())).await;
        done.map_err(|error| Problem::new(Code::Internal, error.to_string()))?
    }
}

/// The MD5 is that of the file without compression.
fn inspect(data: &NeedleData, is_gzipped: bool, expected: Option<&str>) -> Result<u64, Problem> {
    let mut sum = Md5::new();
    let len = if is_gzipped {
        let measured = gunzip::measure(data.reader(), |piece| {
            if expected.is_some() {
                sum.update(piece);
            }
        });
        measured.map_err(|error| {
            // The gzip format has no error number; a disk has.
            if error.raw_os_error().is_some() {
                return unreadable(&error);
            }
            let text = format!("the upload says it is gzipped, but: {error}; nothing was stored");
            Problem::new(Code::BadRequest, text)
        })?
    } else {
        io::copy(&mut data.reader(), &mut Summing(&mut sum)).map_err(|error| unreadable(&error))?
    };
    let Some(expected) = expected else {
        return Ok(len);
    };
    let found = BASE64.encode(sum.finalize());
    if found == expected.trim() {
        return Ok(len);
    }
    let text = format!(
        "Content-MD5 did not match md5 of the data: {expected} was expected, {found} was received; \
         nothing was stored"
    );
    Err(Problem::new(Code::Md5Mismatch, text))
}

/// What is written is summed.
struct Summing<'a>(&'a mut Md5);

impl io::Write for Summing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unreadable(error: &io::Error) -> Problem {
    let text =
        format!("the upload cannot be read back: {error}; nothing was stored: check the disk");
    Problem::new(Code::Internal, text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bytes::Bytes;
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const MD5_OF_HELLO: &str = "XUFAKrxLKna5cZ2REBfFkg==";

    fn gzipped_hello() -> NeedleData {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"hello").unwrap();
        Bytes::from(encoder.finish().unwrap()).into()
    }

    #[test]
    fn the_md5_is_that_of_the_file_without_compression() {
        let hello = Bytes::from_static(b"hello").into();
        assert_eq!(inspect(&hello, false, Some(MD5_OF_HELLO)).unwrap(), 5);
        assert_eq!(inspect(&gzipped_hello(), true, Some(MD5_OF_HELLO)).unwrap(), 5);
        let error = inspect(&hello, false, Some("1B2M2Y8AsgTpgAmY7PhCfg==")).unwrap_err();
        assert_eq!(error.code, Code::Md5Mismatch);
    }

    #[test]
    fn what_says_it_is_gzipped_must_be() {
        assert_eq!(inspect(&gzipped_hello(), true, None).unwrap(), 5);
        let error = inspect(&Bytes::from_static(b"hello").into(), true, None).unwrap_err();
        assert_eq!(error.code, Code::BadRequest);
    }
}
