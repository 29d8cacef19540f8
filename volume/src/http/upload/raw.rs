//! A body that is the file.
//!
//! Its bytes are stored as they came, whatever type they are said to have. The bound on a needle's
//! length holds from the first byte on, for bodies of unknown length too.

use axum::http::{HeaderMap, header};
use dulse_shared::{
    net::incoming::{Incoming, Pace},
    wire::Problem,
};

use super::{
    budget::{Reservation, UploadBudget},
    collector::Collector,
    headers,
    receive::{Upload, content_md5, is_gzipped},
};
use crate::disk::DataDir;

/// Receives a raw body, named by its `Content-Disposition` or else `base`.
pub(super) async fn receive<'a>(
    budget: &'a UploadBudget,
    request: &HeaderMap,
    body: &mut Incoming,
    base: &str,
    dir: &'a DataDir,
) -> Result<(Upload, Reservation<'a>), Problem> {
    let expected = body.announced_len();
    if expected.is_some_and(|len| len > budget.max_needle_bytes) {
        return Err(budget.too_large());
    }
    let mut reservation = budget.reserve(expected, dir).await?;
    let mut collector = Collector::new(dir, expected);
    let mut pace = Pace::with_patience(budget.patience);
    while let Some(chunk) = pace.next_chunk(body).await? {
        reservation.grow_to(collector.len().saturating_add(chunk.len() as u64)).await?;
        collector.push(chunk).await?;
    }
    reservation.shrink_to(collector.len());
    let (data, checksum) = collector.finish().await?;
    let name = name(request, base);
    let declared = headers::text(request, &header::CONTENT_TYPE).unwrap_or_default();
    let upload = Upload {
        data,
        checksum,
        mime: headers::mime_of_body(declared, &name),
        name,
        is_gzipped: is_gzipped(request),
        content_md5: content_md5(request),
    };
    Ok((upload, reservation))
}

fn name(request: &HeaderMap, base: &str) -> String {
    let disposition = headers::text(request, &header::CONTENT_DISPOSITION);
    let given = disposition.and_then(headers::disposition_name);
    let given = given.as_deref().filter(|name| !name.is_empty());
    headers::base_name(given.unwrap_or(base)).to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::{body::Body, http::HeaderValue};
    use dulse_shared::wire::Code;
    use futures_util::{StreamExt, stream};

    use super::{super::test_dir::test_dir, *};
    use crate::needle_data::NeedleData;

    async fn send(
        chunks: &[&'static str],
        headers: &[(&'static str, &str)],
    ) -> Result<Upload, Problem> {
        let budget = UploadBudget::new(10);
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok::<_, std::io::Error>(*chunk)).collect();
        let body = Body::from_stream(stream::iter(chunks));
        let request = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect();
        let (_, dir) = test_dir();
        let mut body = Incoming::new(&request, body);
        let received = receive(&budget, &request, &mut body, "3,01637037d6", &dir).await;
        received.map(|(upload, _)| upload)
    }

    #[tokio::test]
    async fn a_trickle_is_given_up_and_its_room_given_back() {
        let patience = Duration::from_millis(100);
        let mut budget = UploadBudget::new(1 << 20);
        budget.patience = patience;
        let (_, dir) = test_dir();
        let free = || budget.free_memory();
        let all = free();
        let drops = stream::repeat("x").then(|piece| async move {
            tokio::time::sleep(Duration::from_millis(30)).await;
            Ok::<_, std::io::Error>(piece)
        });
        let mut body = Incoming::new(&HeaderMap::new(), Body::from_stream(drops));
        let none = HeaderMap::new();
        let refused = {
            let receiving = std::pin::pin!(receive(&budget, &none, &mut body, "x", &dir));
            let (_, refused) = tokio::join!(
                async {
                    tokio::time::sleep(patience / 2).await;
                    assert!(free() < all, "it holds room meanwhile");
                },
                receiving
            );
            refused.unwrap_err()
        };
        assert_eq!(refused.code, Code::TooSlow);
        assert_eq!(free(), all);
    }

    #[tokio::test]
    async fn a_body_of_any_type_is_stored_as_it_is() {
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let upload = send(&["a=b", "&c"], &form).await.unwrap();
        assert!(matches!(upload.data, NeedleData::Memory(data) if data == "a=b&c"));
        assert_eq!(upload.checksum, crc32c::crc32c(b"a=b&c"));
        assert_eq!(upload.name, "3,01637037d6");
        assert_eq!(upload.mime, "application/x-www-form-urlencoded");
    }

    #[tokio::test]
    async fn headers_name_and_describe_it() {
        let headers = [
            ("content-disposition", "attachment; filename=\"dir/a.png\""),
            ("content-encoding", "gzip"),
            ("content-md5", "xyz"),
        ];
        let upload = send(&["x"], &headers).await.unwrap();
        assert_eq!((upload.name.as_str(), upload.mime.as_str()), ("a.png", "image/png"));
        assert_eq!((upload.is_gzipped, upload.content_md5.as_deref()), (true, Some("xyz")));
    }

    #[tokio::test]
    async fn the_largest_needle_is_taken_and_no_larger_one() {
        assert!(send(&["01234", "56789"], &[]).await.is_ok());
        let error = send(&["01234", "56789", "x"], &[]).await.unwrap_err();
        assert_eq!(error.code, Code::TooLarge);
    }
}
