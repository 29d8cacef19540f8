//! The headers that describe a needle: what was stored with it, then what the request overrides.
//! Pure.
//!
//! Whatever was stored or asked for, a type that a browser would run is sandboxed, and no stored
//! pair can take the place of a header that frames the message.

use std::{borrow::Cow, collections::BTreeMap};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    conditional::{Validators, http_date},
    needle_path::NeedlePath,
    query::Query,
};
use crate::format::NeedleMeta;

/// The type of what has no other.
pub(super) const OCTET_STREAM: &str = "application/octet-stream";
/// Enough for a usual answer without growing.
const USUAL_HEADERS: usize = 16;

/// Query parameters that set a header of the answer.
const OVERRIDES: [(&str, HeaderName); 6] = [
    ("response-cache-control", header::CACHE_CONTROL),
    ("response-content-disposition", header::CONTENT_DISPOSITION),
    ("response-content-encoding", header::CONTENT_ENCODING),
    ("response-content-language", header::CONTENT_LANGUAGE),
    ("response-content-type", header::CONTENT_TYPE),
    ("response-expires", header::EXPIRES),
];

/// What stored pairs may not set: these frame the message or speak for the server.
const NOT_FOR_PAIRS: [HeaderName; 14] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_SECURITY_POLICY,
    header::DATE,
    header::RETRY_AFTER,
    header::SERVER,
    header::SET_COOKIE,
    header::STRICT_TRANSPORT_SECURITY,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::WWW_AUTHENTICATE,
];

/// A needle as a request sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Described<'a> {
    /// Its metadata.
    pub(super) meta: &'a NeedleMeta,
    /// The ETag with its quotes, and the time.
    pub(super) validators: Validators<'a>,
    /// The path it was asked by.
    pub(super) path: NeedlePath<'a>,
    /// And the parameters.
    pub(super) query: Query<'a>,
}

/// The ETag of data with this checksum, with its quotes.
pub(super) fn etag(checksum: u32) -> String {
    format!("\"{checksum:08x}\"")
}

impl Described<'_> {
    /// The headers of an answer with content.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(USUAL_HEADERS);
        self.add_pairs(&mut headers);
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::CONTENT_TYPE, self.content_type());
        if let Some(disposition) = self.content_disposition() {
            headers.insert(header::CONTENT_DISPOSITION, disposition);
        }
        self.add_validators(&mut headers);
        self.override_by_query(&mut headers);
        if headers.get(header::CONTENT_TYPE).is_some_and(is_active) {
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
        }
        headers
    }

    /// The headers of an answer that says that nothing changed.
    pub(super) fn headers_without_content(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(USUAL_HEADERS);
        self.add_validators(&mut headers);
        headers
    }

    fn add_validators(&self, headers: &mut HeaderMap) {
        if let Ok(etag) = HeaderValue::from_str(self.validators.etag) {
            headers.insert(header::ETAG, etag);
        }
        let date = self.validators.last_modified_secs.and_then(http_date);
        if let Some(Ok(date)) = date.map(HeaderValue::try_from) {
            headers.insert(header::LAST_MODIFIED, date);
        }
    }

    fn add_pairs(&self, headers: &mut HeaderMap) {
        if self.meta.pairs.is_empty() {
            return;
        }
        // Foreign volumes may hold anything here; what is no object of strings has no headers.
        let pairs: BTreeMap<String, String> =
            serde_json::from_slice(&self.meta.pairs).unwrap_or_default();
        for (name, value) in pairs {
            let name = HeaderName::try_from(name);
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value))
                && !NOT_FOR_PAIRS.contains(&name)
            {
                headers.insert(name, value);
            }
        }
    }

    /// The stored type, else that of the extension.
    fn content_type(&self) -> HeaderValue {
        let stored = self.meta.mime.as_ref();
        let stored =
            stored.filter(|mime| !mime.is_empty() && !mime.starts_with(OCTET_STREAM.as_bytes()));
        if let Some(Ok(mime)) = stored.map(|mime| HeaderValue::from_maybe_shared(mime.clone())) {
            return mime;
        }
        let name = self.filename();
        let guessed = name.as_deref().and_then(type_of_extension);
        HeaderValue::from_static(
            guessed.or_else(|| type_of_extension(self.path.base)).unwrap_or(OCTET_STREAM),
        )
    }

    /// The name in the path, else the stored one.
    fn filename(&self) -> Option<Cow<'_, str>> {
        if let Some(name) = self.path.filename {
            return Some(Cow::Borrowed(name));
        }
        let stored = self.meta.name.as_ref().filter(|name| !name.is_empty());
        stored.map(|name| String::from_utf8_lossy(name))
    }

    fn content_disposition(&self) -> Option<HeaderValue> {
        let name = match self.path.filename {
            Some(name) => name.as_bytes(),
            None => self.meta.name.as_deref().filter(|name| !name.is_empty())?,
        };
        let kind = if self.query.is_true("dl") { "attachment" } else { "inline" };
        HeaderValue::try_from(disposition(kind, name)).ok()
    }

    fn override_by_query(&self, headers: &mut HeaderMap) {
        if self.query.is_empty() {
            return;
        }
        for (parameter, name) in OVERRIDES {
            let value = self.query.value(parameter).filter(|value| !value.is_empty());
            if let Some(Ok(value)) = value.map(|value| HeaderValue::from_str(&value)) {
                headers.insert(name, value);
            }
        }
    }
}

/// The type that a file name's extension stands for; `None` without one, or for plain bytes.
pub(super) fn type_of_extension(name: &str) -> Option<&'static str> {
    let (_, extension) = name.rsplit_once('.')?;
    let guess = mime_guess::from_ext(extension).first_raw();
    guess.filter(|mime| *mime != OCTET_STREAM)
}

/// Whether a browser would run or interpret content of this type.
fn is_active(content_type: &HeaderValue) -> bool {
    let Ok(text) = content_type.to_str() else {
        return true;
    };
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    ["html", "xml", "javascript", "ecmascript", "pdf", "svg"]
        .iter()
        .any(|active| essence.contains(active))
}

/// `inline; filename=…`: a token bare, other ASCII quoted, everything else percent-encoded.
fn disposition(kind: &str, name: &[u8]) -> String {
    // Room for quotes and a few escapes.
    let mut text = String::with_capacity(kind.len() + name.len() + 24);
    text.push_str(kind);
    if !name.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
        text.push_str("; filename*=utf-8''");
        push_percent_encoded(&mut text, name);
        return text;
    }
    text.push_str("; filename=");
    let is_bare = name.iter().all(|byte| is_token(*byte));
    if !is_bare {
        text.push('"');
    }
    for byte in name {
        if matches!(byte, b'"' | b'\\') {
            text.push('\\');
        }
        text.push(char::from(*byte));
    }
    if !is_bare {
        text.push('"');
    }
    text
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte)
}

fn push_percent_encoded(text: &mut String, name: &[u8]) {
    for byte in name {
        if is_token(*byte) && !b"*'%".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn headers(meta: &NeedleMeta, path: &str, query: &str) -> HeaderMap {
        let validators =
            Validators { etag: "\"3674085d\"", last_modified_secs: meta.last_modified_secs };
        let path = NeedlePath::parse(path).unwrap();
        Described { meta, validators, path, query: Query::new(Some(query)) }.headers()
    }

    fn named(name: &str, mime: &str) -> NeedleMeta {
        NeedleMeta {
            name: Some(Bytes::copy_from_slice(name.as_bytes())),
            mime: Some(Bytes::copy_from_slice(mime.as_bytes())),
            ..NeedleMeta::default()
        }
    }

    #[track_caller]
    fn assert_header(headers: &HeaderMap, name: &str, value: &str) {
        assert_eq!(headers.get(name).map(|found| found.to_str().unwrap()), Some(value), "{name}");
    }

    #[test]
    fn a_needle_is_described_by_what_was_stored() {
        let mut meta = named("hello.txt", "text/plain");
        meta.last_modified_secs = Some(1_795_305_600);
        meta.pairs = Bytes::from_static(br#"{"Color":"red","Shape":"round one"}"#);
        let headers = headers(&meta, "/3,01637037d6", "");
        for (name, value) in [
            ("content-type", "text/plain"),
            ("content-disposition", "inline; filename=hello.txt"),
            ("last-modified", "Sun, 22 Nov 2026 00:00:00 GMT"),
            ("etag", "\"3674085d\""),
            ("accept-ranges", "bytes"),
            ("color", "red"),
            ("shape", "round one"),
        ] {
            assert_header(&headers, name, value);
        }
        assert!(!headers.contains_key("content-security-policy"));
    }

    #[test]
    fn the_type_comes_from_upload_or_extension_and_is_never_guessed_from_bytes() {
        let type_of = |meta: &NeedleMeta, path: &str| {
            headers(meta, path, "")["content-type"].to_str().unwrap().to_owned()
        };
        let nothing = NeedleMeta::default();
        assert_eq!(type_of(&nothing, "/3,01637037d6"), OCTET_STREAM);
        assert_eq!(type_of(&nothing, "/3,01637037d6.png"), "image/png");
        assert_eq!(type_of(&nothing, "/3/01637037d6/a.png"), "image/png");
        assert_eq!(type_of(&named("a.png", ""), "/3,01637037d6"), "image/png");
        assert_eq!(type_of(&named("a.png", OCTET_STREAM), "/3,01637037d6"), "image/png");
        assert_eq!(type_of(&named("a.bin", ""), "/3,01637037d6"), OCTET_STREAM);
        assert_eq!(type_of(&named("a.png", "x/y"), "/3/01637037d6/a.gif"), "x/y");
    }

    #[test]
    fn names_are_bare_quoted_or_percent_encoded() {
        for (name, value) in [
            ("a.txt", "inline; filename=a.txt"),
            ("7,049450069d", "inline; filename=\"7,049450069d\""),
            ("a \"b\\.txt", "inline; filename=\"a \\\"b\\\\.txt\""),
            (
                "文件名 with space.jpg",
                "inline; filename*=utf-8''%E6%96%87%E4%BB%B6%E5%90%8D%20with%20space.jpg",
            ),
            ("a\r\nb", "inline; filename*=utf-8''a%0D%0Ab"),
        ] {
            assert_eq!(disposition("inline", name.as_bytes()), value);
        }
        let meta = named("stored.txt", "");
        let asked = headers(&meta, "/3/01637037d6/asked.txt", "dl=true");
        assert_header(&asked, "content-disposition", "attachment; filename=asked.txt");
        let nameless = headers(&NeedleMeta::default(), "/3,01637037d6", "dl=1");
        assert!(!nameless.contains_key("content-disposition"));
    }

    #[test]
    fn active_types_are_sandboxed_even_when_the_request_sets_them() {
        for mime in ["text/html; charset=utf-8", "image/svg+xml", "TEXT/HTML", "application/pdf"] {
            let found = headers(&named("a", mime), "/3,01637037d6", "");
            assert_header(&found, "content-security-policy", "sandbox");
        }
        let query = "response-content-type=text%2Fhtml&response-cache-control=no-store";
        let found = headers(&named("a", "text/plain"), "/3,01637037d6", query);
        assert_header(&found, "content-type", "text/html");
        assert_header(&found, "content-security-policy", "sandbox");
        assert_header(&found, "cache-control", "no-store");
    }

    #[test]
    fn pairs_cannot_frame_the_message_or_lift_the_sandbox() {
        let mut meta = named("a.html", "text/html");
        let pairs = br#"{"Content-Length":"1","Transfer-Encoding":"chunked","Set-Cookie":"a=b",
            "Content-Security-Policy":"none","Bad Name":"x","Bad":"a\nb","Etag":"y","Good":"z"}"#;
        meta.pairs = Bytes::from_static(pairs);
        let found = headers(&meta, "/3,01637037d6", "");
        for absent in ["content-length", "transfer-encoding", "set-cookie", "bad"] {
            assert!(!found.contains_key(absent), "{absent}");
        }
        assert_header(&found, "content-security-policy", "sandbox");
        assert_header(&found, "etag", "\"3674085d\"");
        assert_header(&found, "good", "z");
        meta.pairs = Bytes::from_static(b"[1, 2");
        assert!(headers(&meta, "/3,01637037d6", "").contains_key("etag"));
    }
}
