//! A file in a multipart form.
//!
//! The file is the first part with a file name, whatever its field is called, or else the first
//! part. The form is read to its end: one that breaks off stores nothing.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use dulse_shared::{
    net::incoming::{Incoming, Pace, broke_off},
    wire::{Code, Problem},
};
use multer::{Constraints, Field, Multipart, SizeLimit};

use super::{
    budget::{MAX_OVERHEAD_BYTES, Reservation, UploadBudget},
    collector::Collector,
    form_body::{FormBody, Held, TooMuchOutsideParts},
    headers,
    receive::{Upload, content_md5, is_gzipped},
};
use crate::{disk::DataDir, format::DataLen};

/// Parts of a form at most: an upload is one file and perhaps a few fields.
const MAX_PARTS: usize = 16;

/// Receives a form.
pub(super) async fn receive<'a>(
    budget: &'a UploadBudget,
    request: &HeaderMap,
    body: &mut Incoming,
    dir: &'a DataDir,
) -> Result<(Upload, Reservation<'a>), Problem> {
    let kind = headers::text(request, &header::CONTENT_TYPE).unwrap_or_default();
    let boundary = multer::parse_boundary(kind).map_err(|error| {
        let text = format!(
            "the Content-Type of a form is multipart/form-data with a boundary, not {kind:?} \
             ({error}): with curl use -F file=@FILE; or name another Content-Type to send the file as \
             it is"
        );
        Problem::new(Code::BadMultipart, text)
    })?;
    let max_body_bytes = budget.max_needle_bytes.saturating_add(MAX_OVERHEAD_BYTES);
    let expected = body.announced_len();
    if expected.is_some_and(|len| len > max_body_bytes) {
        return Err(budget.too_large());
    }
    let reservation = budget.reserve(expected, dir).await?;
    let limit = SizeLimit::new().whole_stream(max_body_bytes);
    let (body, held) = FormBody::new(body);
    let form = Form {
        parts: Multipart::with_constraints(body, boundary, Constraints::new().size_limit(limit)),
        held,
        pace: Pace::with_patience(budget.patience),
        budget,
        dir,
        reservation,
        expected,
    };
    form.receive(content_md5(request)).await
}

struct Form<'a, 'b> {
    parts: Multipart<'b>,
    held: Arc<Held>,
    pace: Pace,
    budget: &'a UploadBudget,
    dir: &'a DataDir,
    reservation: Reservation<'a>,
    expected: Option<u64>,
}

impl<'a, 'b> Form<'a, 'b> {
    async fn receive(
        mut self,
        md5_of_request: Option<String>,
    ) -> Result<(Upload, Reservation<'a>), Problem> {
        let mut file: Option<(Upload, bool)> = None;
        let mut count = 0;
        while let Some(part) = self.next_part().await? {
            count += 1;
            if count > MAX_PARTS {
                let text = format!("a form of an upload has at most {MAX_PARTS} parts");
                return Err(Problem::new(Code::BadMultipart, text));
            }
            let is_named = part.file_name().is_some_and(|name| !name.is_empty());
            let is_better = match &file {
                None => true,
                Some((_, was_named)) => is_named && !was_named,
            };
            if is_better {
                // Room is taken for one of them.
                drop(file.take());
                file = Some((self.collect(part).await?, is_named));
            } else {
                self.skip(part).await?;
            }
        }
        let Some((mut upload, _)) = file else {
            return Err(Problem::new(Code::BadMultipart, "the form has no part: send a file"));
        };
        self.reservation.shrink_to(upload.data.data_len());
        upload.content_md5 = md5_of_request.or(upload.content_md5);
        Ok((upload, self.reservation))
    }

    async fn next_part(&mut self) -> Result<Option<Field<'b>>, Problem> {
        let next = self.pace.wait(self.parts.next_field()).await?;
        self.held.handed_out(0);
        next.map_err(|error| self.problem(&error))
    }

    async fn next_chunk(&mut self, part: &mut Field<'b>) -> Result<Option<Bytes>, Problem> {
        let next = self.pace.wait(part.chunk()).await?;
        let chunk = next.map_err(|error| self.problem(&error))?;
        let bytes = chunk.as_ref().map_or(0, Bytes::len);
        self.held.handed_out(bytes);
        self.pace.earn(bytes);
        Ok(chunk)
    }

    async fn skip(&mut self, mut part: Field<'b>) -> Result<(), Problem> {
        while self.next_chunk(&mut part).await?.is_some() {}
        Ok(())
    }

    async fn collect(&mut self, mut part: Field<'b>) -> Result<Upload, Problem> {
        let mut collector = Collector::new(self.dir, self.expected);
        while let Some(chunk) = self.next_chunk(&mut part).await? {
            self.reservation.grow_to(collector.len().saturating_add(chunk.len() as u64)).await?;
            collector.push(chunk).await?;
        }
        let (data, checksum) = collector.finish().await?;
        let name = headers::base_name(part.file_name().unwrap_or_default()).to_owned();
        let declared = headers::text(part.headers(), &header::CONTENT_TYPE).unwrap_or_default();
        Ok(Upload {
            data,
            checksum,
            mime: headers::mime_of_form_part(declared, &name),
            name,
            is_gzipped: is_gzipped(part.headers()),
            content_md5: content_md5(part.headers()),
        })
    }

    fn problem(&self, error: &multer::Error) -> Problem {
        match error {
            multer::Error::StreamSizeExceeded { .. } => self.budget.too_large(),
            multer::Error::StreamReadFailed(cause) if !cause.is::<TooMuchOutsideParts>() => {
                broke_off(cause)
            }
            multer::Error::StreamReadFailed(cause) => unreadable(cause),
            error => unreadable(error),
        }
    }
}

fn unreadable(cause: &dyn std::fmt::Display) -> Problem {
    let text = format!(
        "the form cannot be read: {cause}; nothing was stored: send it as a form or the file as \
         it is with PUT"
    );
    Problem::new(Code::BadMultipart, text)
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::HeaderValue};
    use futures_util::stream;

    use super::{super::test_dir::test_dir, *};
    use crate::needle_data::NeedleData;

    async fn send_as(kind: &str, body: &str) -> Result<Upload, Problem> {
        // In pieces of seven bytes, so that boundaries are cut.
        send_in_pieces(7, 100, kind, body).await
    }

    async fn send_in_pieces(
        bytes: usize,
        max_needle_bytes: u64,
        kind: &str,
        body: &str,
    ) -> Result<Upload, Problem> {
        let budget = UploadBudget::new(max_needle_bytes);
        let request =
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())]);
        let body = body.replace('\n', "\r\n").into_bytes();
        let pieces: Vec<_> =
            body.chunks(bytes).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
        let body = Body::from_stream(stream::iter(pieces));
        let (_, dir) = test_dir();
        let mut body = Incoming::new(&request, body);
        receive(&budget, &request, &mut body, &dir).await.map(|(upload, _)| upload)
    }

    fn bytes_of(upload: &Upload) -> &[u8] {
        match &upload.data {
            NeedleData::Memory(data) => data,
            NeedleData::Spooled(_) => panic!("it is small"),
        }
    }

    async fn send(body: &str) -> Result<Upload, Problem> {
        send_as("multipart/form-data; boundary=XX", body).await
    }

    #[tokio::test]
    async fn the_file_is_the_first_part_with_a_name_whatever_its_field() {
        let upload = send(
            "--XX\nContent-Disposition: form-data; name=\"note\"\n\nhello\n\
             --XX\nContent-Disposition: form-data; name=\"anything\"; filename=\"C:\\dir\\a.txt\"\n\
             Content-Type: text/plain\nContent-MD5: abc\n\nthe file\n--XX--\n",
        );
        let upload = upload.await.unwrap();
        assert_eq!(bytes_of(&upload), b"the file");
        assert_eq!(upload.checksum, crc32c::crc32c(b"the file"));
        assert_eq!((upload.name.as_str(), upload.mime.as_str()), ("a.txt", "text/plain"));
        assert_eq!(upload.content_md5.as_deref(), Some("abc"));
    }

    #[tokio::test]
    async fn without_names_the_first_part_is_the_file() {
        let part =
            |value: &str| format!("--XX\nContent-Disposition: form-data; name=\"a\"\n\n{value}\n");
        let upload = send(&format!("{}{}--XX--\n", part("one"), part("two"))).await.unwrap();
        assert_eq!((bytes_of(&upload), upload.name.as_str()), (&b"one"[..], ""));
        let many = part("x").repeat(17);
        let error = send(&format!("{many}--XX--\n")).await.unwrap_err();
        assert_eq!(error.code, Code::BadMultipart);
    }

    #[tokio::test]
    async fn broken_forms_store_nothing() {
        let head = "--XX\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\n\n";
        for body in [
            "",
            "no boundary at all",
            "--XX--\n",
            head,
            &format!("{head}cut off in the mid"),
            &format!("{head}data\n--YY--\n"),
        ] {
            let error = send(body).await.unwrap_err();
            assert_eq!(error.code, Code::BadMultipart, "{body}: {error}");
        }
        for kind in ["", "multipart/form-data", "text/plain"] {
            let error = send_as(kind, "--XX--").await.unwrap_err();
            assert_eq!(error.code, Code::BadMultipart, "{kind}");
            assert!(error.message.contains("boundary"));
        }
    }

    const KIND: &str = "multipart/form-data; boundary=XX";
    const PIECES: [usize; 4] = [7, 5000, 200_000, 10 << 20];

    #[tokio::test]
    async fn what_is_outside_parts_is_bounded_wherever_it_lies_and_however_it_comes() {
        let head = "--XX\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\n";
        let long = "y".repeat(200_000);
        let many = "--XX\nContent-Disposition: form-data; name=\"f\"\nX: ".to_owned();
        let many = format!("{many}{}\n\nz\n", "y".repeat(30_000));
        for body in [
            format!("{long}\n{head}\ndata\n--XX--\n"),
            format!("{head}X-Long: {long}\n\ndata\n--XX--\n"),
            format!("{head}\ndata\n{}--XX--\n", many.repeat(5)),
            "\n".repeat(200_000),
        ] {
            for bytes in PIECES {
                let error = send_in_pieces(bytes, 1 << 20, KIND, &body).await.unwrap_err();
                assert_eq!(error.code, Code::BadMultipart, "{bytes}");
                assert!(error.message.contains("64 KiB"), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn data_of_any_length_comes_through_and_parts_beside_it_too() {
        let preamble = "y".repeat(50_000);
        let part = "\n--XX\nContent-Disposition: form-data; name=\"f\"";
        // Lines that could be the beginning of a boundary.
        let data = "x\n--X\n-".repeat(50_000);
        let other = "z".repeat(300_000);
        let body = format!(
            "{preamble}{part}\n\n{other}{part}; filename=\"a\"\n\n{data}{part}\n\n{other}\n--XX--\n"
        );
        for bytes in PIECES {
            let upload = send_in_pieces(bytes, 1 << 20, KIND, &body).await.unwrap();
            assert!(bytes_of(&upload) == data.replace('\n', "\r\n").as_bytes(), "{bytes}");
        }
    }

    #[tokio::test]
    async fn a_file_larger_than_a_needle_is_too_large() {
        let body = |len: usize| {
            format!(
                "--XX\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\n\n{}\n--XX--\n",
                "x".repeat(len)
            )
        };
        assert_eq!(bytes_of(&send(&body(100)).await.unwrap()).len(), 100);
        assert_eq!(send(&body(101)).await.unwrap_err().code, Code::TooLarge);
    }
}
