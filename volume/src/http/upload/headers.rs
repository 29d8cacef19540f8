//! What the headers of an upload say: name, type, pairs. Pure.
//!
//! Whatever comes out fits the format's limits, except pairs, which are refused as a whole where
//! the needle is encoded. A name never has a path before it.

use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::{
    format::{MAX_MIME_LEN, MAX_NAME_LEN},
    http::content_headers::{OCTET_STREAM, type_of_extension},
};

/// The MD5 of the body, base64.
pub(super) const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
/// Request headers with this prefix are stored with the needle, without it.
const PAIR_PREFIX: &str = "seaweed-";

/// A header as text; `None` if it is missing or no text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let value = headers.get(name)?.as_bytes();
    std::str::from_utf8(value).ok()
}

/// The type to store: the one declared, unless that says nothing, else that of the extension.
/// Empty if neither, or too long for the format.
pub(super) fn mime_of_form_part(declared: &str, name: &str) -> String {
    mime_of_body(if declared == OCTET_STREAM { "" } else { declared }, name)
}

/// The same for a raw body, whose declared type is stored even if it says nothing.
pub(super) fn mime_of_body(declared: &str, name: &str) -> String {
    let mime = match declared {
        "" => type_of_extension(name).unwrap_or_default(),
        declared => declared,
    };
    if mime.len() > MAX_MIME_LEN { String::new() } else { mime.to_owned() }
}

/// The last segment of a path of either slash; empty if it is too long for the format.
pub(super) fn base_name(path: &str) -> &str {
    let base = path.rsplit(['/', '\\']).next().unwrap_or_default();
    if base.len() > MAX_NAME_LEN { "" } else { base }
}

/// The name in a `Content-Disposition`: of the file, else of the field.
pub(super) fn disposition_name(disposition: &str) -> Option<String> {
    let parameters = || parameters(disposition);
    let named = |wanted: &str| parameters().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    if let Some((_, extended)) = named("filename*") {
        // charset'language'percent-encoded
        let encoded = extended.splitn(3, '\'').nth(2)?.to_owned();
        return Some(percent_decode_str(&encoded).decode_utf8_lossy().into_owned());
    }
    named("filename").or_else(|| named("name")).map(|(_, value)| value)
}

/// The parameters after the first semicolon, quotes undone.
fn parameters(header: &str) -> impl Iterator<Item = (&str, String)> {
    let mut rest = header.split_once(';').map_or("", |(_, rest)| rest);
    std::iter::from_fn(move || {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_matches([' ', '\t', ';']);
        let after = after.trim_start();
        let (value, end) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after.split_at(end).0.trim().to_owned(), after.split_at(end).1)
            }
        };
        rest = end;
        Some((name, value))
    })
}

/// The text up to the closing quote, and what follows it.
fn unquote(quoted: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => value.extend(characters.next()),
            other => value.push(other),
        }
    }
    (value, characters.as_str())
}

/// The pairs of a request as JSON; empty without any.
pub(in crate::http) fn pairs(headers: &HeaderMap) -> Bytes {
    let mut pairs = Map::new();
    for (name, value) in headers {
        let stripped = name.as_str().strip_prefix(PAIR_PREFIX);
        if let (Some(name), Ok(value)) = (stripped, value.to_str()) {
            pairs.insert(canonical(name), Value::from(value));
        }
    }
    if pairs.is_empty() {
        return Bytes::new();
    }
    Value::Object(pairs).to_string().into()
}

/// `round-shape` as `Round-Shape`: requests arrive with names in lower case.
fn canonical(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut characters = word.chars();
        let first = characters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(characters).collect::<String>()
    });
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_declared_type_wins_if_it_says_anything() {
        for (declared, name, mime) in [
            ("text/csv", "a.txt", "text/csv"),
            ("application/octet-stream", "a.png", "image/png"),
            ("application/octet-stream", "a.bin", ""),
            ("", "a.png", "image/png"),
            ("", "a", ""),
        ] {
            assert_eq!(mime_of_form_part(declared, name), mime, "{declared} {name}");
        }
        assert_eq!(mime_of_body(OCTET_STREAM, "a.png"), OCTET_STREAM);
        assert_eq!(mime_of_body("", "a.png"), "image/png");
        assert_eq!(mime_of_body(&"x".repeat(256), "a"), "");
    }

    #[test]
    fn a_name_is_the_last_segment_of_a_path() {
        for (path, name) in [
            ("a.txt", "a.txt"),
            ("/tmp/a.txt", "a.txt"),
            ("C:\\dir\\a.txt", "a.txt"),
            ("../../etc/passwd", "passwd"),
            ("dir/", ""),
        ] {
            assert_eq!(base_name(path), name, "{path}");
        }
        assert_eq!(base_name(&"x".repeat(256)), "");
        assert_eq!(base_name(&"x".repeat(255)).len(), 255);
    }

    #[test]
    fn a_disposition_names_the_file_or_else_the_field() {
        for (header, name) in [
            ("attachment; filename=a.txt", Some("a.txt")),
            ("form-data; name=\"file\"; filename=\"a b.txt\"", Some("a b.txt")),
            ("inline; filename=\"a;\\\"b\"; x=y", Some("a;\"b")),
            ("form-data; name=field", Some("field")),
            ("attachment; FileName = a.txt ; x=y", Some("a.txt")),
            ("attachment; filename=x; filename*=UTF-8''%E6%96%87.jpg", Some("文.jpg")),
            ("attachment", None),
            ("inline; filename=\"unclosed", Some("unclosed")),
        ] {
            assert_eq!(disposition_name(header).as_deref(), name, "{header}");
        }
    }

    #[test]
    fn pairs_are_stored_without_prefix_in_canonical_case() {
        let mut headers = HeaderMap::new();
        assert!(pairs(&headers).is_empty());
        headers.insert("host", HeaderValue::from_static("x"));
        headers.insert("seaweed-shape", HeaderValue::from_static("round one"));
        headers.insert("seaweed-big-color", HeaderValue::from_static("red"));
        assert_eq!(pairs(&headers), r#"{"Big-Color":"red","Shape":"round one"}"#);
    }
}
