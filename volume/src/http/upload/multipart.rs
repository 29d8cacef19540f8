//! A file in a multipart form.
//!
//! The file is the first part with a file name, whatever its field is called, or else the first
//! part. The form is read to its end: one that breaks off stores nothing.

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, header},
};
use dulse_shared::wire::{Code, Problem};
use multer::{Constraints, Field, Multipart, SizeLimit};

use super::{
    budget::{MAX_OVERHEAD_BYTES, Reservation, UploadBudget},
    collector::Collector,
    headers,
    receive::{Upload, content_md5, discard, in_time, is_gzipped},
};
use crate::{disk::DataDir, format::DataLen};

/// Parts of a form at most: an upload is one file and perhaps a few fields.
const MAX_PARTS: usize = 16;

/// Receives a form.
pub(super) async fn receive<'a>(
    budget: &'a UploadBudget,
    request: &HeaderMap,
    body: Body,
    dir: &'a DataDir,
) -> Result<(Upload, Reservation<'a>), Problem> {
    let kind = headers::text(request, &header::CONTENT_TYPE).unwrap_or_default();
    let boundary = multer::parse_boundary(kind).map_err(|error| {
        let text = format!(
            "the Content-Type of a form is multipart/form-data with a boundary, not {kind:?} \
             ({error}); send a file as it is with PUT"
        );
        Problem::new(Code::BadMultipart, text)
    })?;
    let max_body_bytes = budget.max_needle_bytes.saturating_add(MAX_OVERHEAD_BYTES);
    let expected = body.size_hint().exact();
    if expected.is_some_and(|len| len > max_body_bytes) {
        discard(request, body).await;
        return Err(budget.too_large());
    }
    let reservation = match budget.reserve(expected, dir).await {
        Ok(reservation) => reservation,
        Err(problem) => {
            discard(request, body).await;
            return Err(problem);
        }
    };
    let limit = SizeLimit::new().whole_stream(max_body_bytes);
    let form = Form {
        parts: Multipart::with_constraints(
            body.into_data_stream(),
            boundary,
            Constraints::new().size_limit(limit),
        ),
        budget,
        dir,
        reservation,
        expected,
    };
    form.receive(content_md5(request)).await
}

struct Form<'a> {
    parts: Multipart<'static>,
    budget: &'a UploadBudget,
    dir: &'a DataDir,
    reservation: Reservation<'a>,
    expected: Option<u64>,
}

impl<'a> Form<'a> {
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
            }
        }
        let Some((mut upload, _)) = file else {
            return Err(Problem::new(Code::BadMultipart, "the form has no part: send a file"));
        };
        self.reservation.shrink_to(upload.data.data_len());
        upload.content_md5 = md5_of_request.or(upload.content_md5);
        Ok((upload, self.reservation))
    }

    async fn next_part(&mut self) -> Result<Option<Field<'static>>, Problem> {
        let next = in_time(self.parts.next_field()).await?;
        next.map_err(|error| self.problem(&error))
    }

    async fn collect(&mut self, mut part: Field<'static>) -> Result<Upload, Problem> {
        let mut collector = Collector::new(self.dir, self.expected);
        loop {
            let chunk = in_time(part.chunk()).await?.map_err(|error| self.problem(&error))?;
            let Some(chunk) = chunk else { break };
            let len = collector.len().saturating_add(chunk.len() as u64);
            if len > self.budget.max_needle_bytes {
                return Err(self.budget.too_large());
            }
            self.reservation.grow_to(len).await?;
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
            multer::Error::StreamReadFailed(cause) => {
                Problem::new(Code::BadRequest, format!("the body broke off: {cause}"))
            }
            error => Problem::new(
                Code::BadMultipart,
                format!("the form cannot be read: {error}; nothing was stored"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use futures_util::stream;

    use super::{super::test_dir::test_dir, *};
    use crate::needle_data::NeedleData;

    async fn send_as(kind: &str, body: &str) -> Result<Upload, Problem> {
        let budget = UploadBudget::new(100);
        let request =
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())]);
        // In pieces of seven bytes, so that boundaries are cut.
        let body = body.replace('\n', "\r\n").into_bytes();
        let pieces: Vec<_> =
            body.chunks(7).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
        let body = Body::from_stream(stream::iter(pieces));
        let (_, dir) = test_dir();
        receive(&budget, &request, body, &dir).await.map(|(upload, _)| upload)
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
