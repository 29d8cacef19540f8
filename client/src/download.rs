//! A needle on its way to the caller.
//!
//! Needles that are stored compressed travel compressed, so that the checksum of the stored bytes
//! can be compared whatever they are; they are unpacked here. The comparison comes at the end:
//! until [`Download::chunk`] has said `None`, what arrived is not to be trusted.

use std::{io::Write, time::Duration};

use bytes::Bytes;
use dulse_shared::id::Fid;
use flate2::write::MultiGzDecoder;
use reqwest::{
    Response,
    header::{CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderName},
};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::{answer::too_slow, error::ClientError};

/// A server that sends nothing for this long is given up.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// Compressed bytes unpacked at a time: at most a thousand times as many come out.
const UNPACK_BYTES: usize = 8 << 10;
/// What follows a server's mark that a needle is a list of chunks.
const FILE_STORE: HeaderName = HeaderName::from_static("x-file-store");

/// What a server says about a needle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NeedleInfo {
    /// The stored name, if any.
    pub name: Option<String>,
    /// The content type.
    pub mime: Option<String>,
    /// Length in bytes, if known: of a compressed needle it is not.
    pub size: Option<u64>,
    /// CRC-32C of the stored bytes; none for a file in chunks.
    pub crc: Option<u32>,
}

/// An open needle.
#[derive(Debug)]
pub struct Download {
    fid: Fid,
    url: String,
    info: NeedleInfo,
    response: Response,
    arrived_crc: u32,
    unpacker: Option<Unpacker>,
}

#[derive(Debug)]
struct Unpacker {
    decoder: MultiGzDecoder<Vec<u8>>,
    /// Arrived, not yet unpacked.
    packed: Bytes,
}

impl Download {
    pub(crate) fn new(fid: Fid, url: String, response: Response) -> Self {
        let headers = response.headers();
        let is_packed = text(headers, &CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
        let size = response.content_length().filter(|_| !is_packed);
        let unpacker = is_packed
            .then(|| Unpacker { decoder: MultiGzDecoder::new(Vec::new()), packed: Bytes::new() });
        Self { fid, url, info: read_info(headers, size), response, arrived_crc: 0, unpacker }
    }

    /// What the server says about the needle.
    pub fn info(&self) -> &NeedleInfo {
        &self.info
    }

    /// The next bytes. `None` means that all have come and that their checksum is right.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            if let Some(unpacked) = self.unpack_some()? {
                return Ok(Some(unpacked));
            }
            let Some(chunk) = self.receive().await? else {
                self.verify()?;
                return self.unpack_rest();
            };
            match &mut self.unpacker {
                Some(unpacker) => unpacker.packed = chunk,
                None => return Ok(Some(chunk)),
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, ClientError> {
        let received = tokio::time::timeout(IDLE_LIMIT, self.response.chunk()).await;
        let received = received.map_err(|_| too_slow(&self.url, IDLE_LIMIT))?;
        let chunk = received.map_err(|error| ClientError::unreachable(&self.url, &error))?;
        if let Some(chunk) = &chunk {
            self.arrived_crc = crc32c::crc32c_append(self.arrived_crc, chunk);
        }
        Ok(chunk)
    }

    fn unpack_some(&mut self) -> Result<Option<Bytes>, ClientError> {
        let Some(unpacker) = &mut self.unpacker else {
            return Ok(None);
        };
        while !unpacker.packed.is_empty() {
            let len = unpacker.packed.len().min(UNPACK_BYTES);
            let piece = unpacker.packed.split_to(len);
            unpacker.decoder.write_all(&piece).map_err(|error| not_gzip(&self.url, &error))?;
            let unpacked = std::mem::take(unpacker.decoder.get_mut());
            if !unpacked.is_empty() {
                return Ok(Some(unpacked.into()));
            }
        }
        Ok(None)
    }

    fn unpack_rest(&mut self) -> Result<Option<Bytes>, ClientError> {
        let Some(unpacker) = self.unpacker.take() else {
            return Ok(None);
        };
        let rest = unpacker.decoder.finish();
        let rest = rest.map_err(|error| not_gzip(&self.url, &error))?;
        Ok((!rest.is_empty()).then(|| rest.into()))
    }

    fn verify(&self) -> Result<(), ClientError> {
        match self.info.crc {
            Some(stored) if stored != self.arrived_crc => {
                Err(ClientError::Damaged { fid: self.fid, stored, arrived: self.arrived_crc })
            }
            _ => Ok(()),
        }
    }

    /// The whole needle, if it has at most `limit` bytes.
    pub async fn into_bytes(mut self, limit: u64) -> Result<Bytes, ClientError> {
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if all.len() as u64 + chunk.len() as u64 > limit {
                return Err(ClientError::OverLimit { fid: self.fid, limit });
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.into())
    }

    /// Writes the needle as it arrives; the number of bytes written. On an error some may have
    /// been written already.
    pub async fn write_to<W: AsyncWrite + Unpin>(
        &mut self,
        name: &str,
        writer: &mut W,
        mut progress: impl FnMut(u64),
    ) -> Result<u64, ClientError> {
        let failed = |source| ClientError::Sink { name: name.to_owned(), source };
        let mut written = 0;
        while let Some(chunk) = self.chunk().await? {
            writer.write_all(&chunk).await.map_err(failed)?;
            written += chunk.len() as u64;
            progress(written);
        }
        writer.flush().await.map_err(failed)?;
        Ok(written)
    }
}

fn not_gzip(url: &str, error: &std::io::Error) -> ClientError {
    ClientError::Unreadable {
        url: url.to_owned(),
        reason: format!("it says gzip and is not: {error}"),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn read_info(headers: &HeaderMap, size: Option<u64>) -> NeedleInfo {
    // The checksum of a file in chunks is that of the list.
    let is_chunked = headers.contains_key(FILE_STORE);
    let etag = text(headers, &ETAG).filter(|_| !is_chunked);
    let digits = etag.map(|etag| etag.trim_matches('"'));
    let digits = digits.filter(|digits| digits.len() == 8);
    let disposition = headers.get(CONTENT_DISPOSITION);
    let disposition = disposition.and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    NeedleInfo {
        name: disposition.and_then(file_name),
        mime: text(headers, &CONTENT_TYPE).map(str::to_owned),
        size,
        crc: digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()),
    }
}

/// The file name in a `Content-Disposition`: the extended form if there is one.
fn file_name(disposition: &str) -> Option<String> {
    let lower = disposition.to_ascii_lowercase();
    if let Some(start) = lower.find("filename*=utf-8''") {
        let escaped = disposition.get(start + "filename*=utf-8''".len()..)?;
        let escaped = escaped.split(';').next()?.trim();
        let name = percent_encoding::percent_decode_str(escaped).decode_utf8();
        return name.ok().map(|name| name.into_owned());
    }
    let start = lower.find("filename=")? + "filename=".len();
    let value = disposition.get(start..)?.trim();
    let Some(quoted) = value.strip_prefix('"') else {
        return value.split(';').next().map(|name| name.trim().to_owned());
    };
    let mut name = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return Some(name),
            '\\' => name.extend(characters.next()),
            other => name.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_read_in_every_form() {
        for (header, name) in [
            ("inline; filename=a.txt", Some("a.txt")),
            ("inline; filename=\"a \\\"b\\\".txt\"", Some("a \"b\".txt")),
            ("attachment; filename*=UTF-8''%C3%BC.txt; x=y", Some("ü.txt")),
            ("inline", None),
            ("inline; filename=\"open", None),
        ] {
            assert_eq!(file_name(header).as_deref(), name, "{header}");
        }
    }
}
