//! Request parameters: the query string, and for POST and PUT an urlencoded body, which wins.
//!
//! Names that nobody asks for are ignored: clients send more than one server understands.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::Bytes;
use dulse_shared::wire::{Code, DiskType, Problem};
use http_body_util::{BodyExt, Limited};
use percent_encoding::percent_decode;

use crate::{assign::AssignRequest, key_range::MAX_GRANT, volume_layout::LayoutKey};

/// A form with parameters is a few hundred bytes long; a longer body is not one.
const MAX_FORM_BYTES: usize = 64 << 10;
/// How long it may take to come: its client waits for the answer to it.
const FORM_LIMIT: Duration = Duration::from_secs(10);
/// The longest name of a disk type; it appears in pages and in every volume's configuration.
const MAX_DISK_TYPE_BYTES: usize = 32;
/// The disk type that an empty name means.
const DEFAULT_DISK_TYPE: &str = "hdd";

/// Names and values, decoded, those that win first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// From the query string alone.
    pub(super) fn from_query(query: Option<&str>) -> Self {
        Self(decode_pairs(query.unwrap_or_default().as_bytes()))
    }

    /// From body and query of a request; a body that is no form is left alone.
    pub(super) async fn read(
        query: Option<&str>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Self, Problem> {
        let Self(from_query) = Self::from_query(query);
        if !is_form(headers) {
            return Ok(Self(from_query));
        }
        let form = read_form(body, FORM_LIMIT).await?;
        let mut pairs = decode_pairs(&form);
        pairs.extend(from_query);
        Ok(Self(pairs))
    }

    /// The value of a parameter; an empty one is as good as none.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether a parameter is there, with any value or none.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Whether a parameter says yes.
    pub(super) fn is_true(&self, name: &str) -> bool {
        matches!(self.value(name), Some("1" | "t" | "T" | "true" | "TRUE" | "True" | "yes"))
    }

    /// Which layout is meant by `collection`, `replication`, `ttl` and `disk`.
    pub(super) fn layout_key(
        &self,
        default_replication: dulse_shared::id::ReplicaPlacement,
    ) -> Result<LayoutKey, Problem> {
        let placement = match self.value("replication") {
            Some(text) => text.parse().map_err(bad_request)?,
            None => default_replication,
        };
        Ok(LayoutKey {
            collection: self
                .value("collection")
                .unwrap_or_default()
                .parse()
                .map_err(bad_request)?,
            placement,
            ttl: self.value("ttl").unwrap_or_default().parse().map_err(bad_request)?,
            disk: disk_type(self.value("disk").unwrap_or(DEFAULT_DISK_TYPE))?,
        })
    }

    /// What an assign with these parameters asks for.
    pub(super) fn assign_request(
        &self,
        default_replication: dulse_shared::id::ReplicaPlacement,
    ) -> Result<AssignRequest, Problem> {
        // A hint: what is no number is as good as none.
        let volumes_to_grow = self.value("writableVolumeCount").and_then(|text| text.parse().ok());
        Ok(AssignRequest {
            count: self.count()?,
            key: self.layout_key(default_replication)?,
            wish: self.location_wish(),
            volumes_to_grow,
        })
    }

    /// How many fids are asked for: 1 unless a larger number is there.
    pub(super) fn count(&self) -> Result<u64, Problem> {
        let asked: Option<u64> = self.value("count").and_then(|text| text.parse().ok());
        let count = asked.unwrap_or(1).max(1);
        if count > MAX_GRANT {
            let message =
                format!("count is {count}: at most {MAX_GRANT} fids are assigned at once");
            return Err(Problem::new(Code::BadRequest, message));
        }
        Ok(count)
    }
}

pub(super) fn bad_request(error: impl std::fmt::Display) -> Problem {
    Problem::new(Code::BadRequest, error.to_string())
}

fn disk_type(text: &str) -> Result<DiskType, Problem> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if text.len() > MAX_DISK_TYPE_BYTES || !text.bytes().all(is_name) {
        let message = format!(
            "{text:?} is not a disk type: use up to {MAX_DISK_TYPE_BYTES} letters, digits, _ and \
             -, as in ssd"
        );
        return Err(Problem::new(Code::BadRequest, message));
    }
    Ok(DiskType(text.to_ascii_lowercase()))
}

async fn read_form(body: Body, limit: Duration) -> Result<Bytes, Problem> {
    let form = Limited::new(body, MAX_FORM_BYTES).collect();
    let Ok(form) = tokio::time::timeout(limit, form).await else {
        let message = format!(
            "the parameters in the body did not come within {} seconds: use the query string",
            limit.as_secs()
        );
        return Err(Problem::new(Code::TooSlow, message));
    };
    let form = form.map_err(|error| {
        let message = format!(
            "cannot read the parameters in the body ({error}): send at most {MAX_FORM_BYTES} \
             bytes, or use the query string"
        );
        Problem::new(Code::BadRequest, message)
    })?;
    Ok(form.to_bytes())
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn decode_pairs(text: &[u8]) -> Vec<(String, String)> {
    let parts = text.split(|byte| *byte == b'&').filter(|part| !part.is_empty());
    let pair = |part: &[u8]| {
        let mut halves = part.splitn(2, |byte| *byte == b'=');
        let name = decode(halves.next().unwrap_or_default());
        (name, decode(halves.next().unwrap_or_default()))
    };
    parts.map(pair).collect()
}

fn decode(text: &[u8]) -> String {
    let spaced: Vec<u8> =
        text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_decode(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_decoded_and_empty_ones_count_as_absent() {
        let params = Params::from_query(Some("a=1&b=x+y%2Fz&c&d=&a=2&&=v"));
        assert_eq!(params.value("a"), Some("1"), "the first wins");
        assert_eq!(params.value("b"), Some("x y/z"));
        assert_eq!((params.value("c"), params.value("d")), (None, None));
        assert!(params.has("c") && !params.has("e"));
    }

    #[test]
    fn a_count_that_is_no_number_or_zero_is_one_and_a_huge_one_is_refused() {
        for (query, count) in [("", 1), ("count=0", 1), ("count=x", 1), ("count=7", 7)] {
            let params = Params::from_query(Some(query));
            assert_eq!(params.count(), Ok(count), "{query}");
        }
        let params = Params::from_query(Some("count=1048577"));
        assert_eq!(params.count().unwrap_err().code, Code::BadRequest);
    }

    #[test]
    fn a_layout_is_read_from_its_parameters() {
        let params = Params::from_query(Some("collection=pics&replication=1&ttl=24h&disk=SSD"));
        let key = params.layout_key("000".parse().unwrap()).unwrap();
        assert_eq!(key.collection.as_str(), "pics");
        assert_eq!(key.placement.to_string(), "001");
        assert_eq!(key.ttl.to_string(), "1d");
        assert_eq!(key.disk.0, "ssd");
        for bad in ["collection=a/b", "replication=9999", "ttl=3x", "disk=a%20b"] {
            let params = Params::from_query(Some(bad));
            let refused = params.layout_key("000".parse().unwrap());
            assert_eq!(refused.unwrap_err().code, Code::BadRequest, "{bad}");
        }
    }

    #[tokio::test]
    async fn an_urlencoded_body_wins_over_the_query_and_another_body_is_left_alone() {
        let mut headers = HeaderMap::new();
        let body = || Body::from("count=5");
        let params = Params::read(Some("count=2"), &headers, body()).await.unwrap();
        assert_eq!(params.value("count"), Some("2"));
        let kind = "application/x-www-form-urlencoded; charset=utf-8";
        headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        let params = Params::read(Some("count=2&ttl=1m"), &headers, body()).await.unwrap();
        assert_eq!((params.value("count"), params.value("ttl")), (Some("5"), Some("1m")));
        let long = Body::from(vec![b'a'; MAX_FORM_BYTES + 1]);
        let refused = Params::read(None, &headers, long).await;
        assert_eq!(refused.unwrap_err().code, Code::BadRequest);
        let silent = Body::from_stream(futures_util::stream::pending::<std::io::Result<Bytes>>());
        let refused = read_form(silent, Duration::from_millis(20)).await;
        assert_eq!(refused.unwrap_err().code, Code::TooSlow);
    }
}
