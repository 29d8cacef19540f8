//! Requests that want the needle only if it changed, or a part only if it did not, by RFC 9110
//! section 13. Pure.
//!
//! `If-None-Match` wins over `If-Modified-Since`; dates that cannot be read are ignored.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName, header};

/// What a client may compare its copy with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validators<'a> {
    /// The ETag with its quotes.
    pub(super) etag: &'a str,
    /// Seconds since 1970.
    pub(super) last_modified_secs: Option<u64>,
}

impl Validators<'_> {
    /// Whether the client's copy is still right, so that 304 is the answer.
    pub(super) fn is_not_modified(&self, request: &HeaderMap) -> bool {
        if request.contains_key(header::IF_NONE_MATCH) {
            let values = request.get_all(header::IF_NONE_MATCH).iter();
            let mut tags = values.filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
            return tags.any(|tag| self.matches_weakly(tag.trim()));
        }
        match (date(request, &header::IF_MODIFIED_SINCE), self.last_modified_secs) {
            (Some(since), Some(modified)) => modified <= since,
            _ => false,
        }
    }

    /// Whether a `Range` header counts: without `If-Range` always, else only if the client's part
    /// belongs to this needle.
    pub(super) fn range_counts(&self, request: &HeaderMap) -> bool {
        let Some(value) = request.get(header::IF_RANGE) else {
            return true;
        };
        if value.as_bytes() == self.etag.as_bytes() {
            return true;
        }
        let since = date(request, &header::IF_RANGE);
        since.is_some() && since == self.last_modified_secs
    }

    fn matches_weakly(&self, tag: &str) -> bool {
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.etag
    }
}

fn date(request: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let time = httpdate::parse_http_date(request.get(name)?.to_str().ok()?).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// Seconds since 1970 from which a date has a year of five digits, which HTTP cannot say.
const END_OF_DATES_SECS: u64 = 253_402_300_800;

/// A date as HTTP writes it; `None` past the year 9999.
pub(super) fn http_date(secs: u64) -> Option<String> {
    let time: SystemTime = UNIX_EPOCH.checked_add(Duration::from_secs(secs))?;
    (secs < END_OF_DATES_SECS).then(|| httpdate::fmt_http_date(time))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const THEN: u64 = 1_795_305_600;
    const HERE: Validators<'_> =
        Validators { etag: "\"3674085d\"", last_modified_secs: Some(THEN) };

    fn request(headers: &[(HeaderName, &str)]) -> HeaderMap {
        let header = |(name, value): &(HeaderName, &str)| {
            (name.clone(), HeaderValue::from_str(value).unwrap())
        };
        headers.iter().map(header).collect()
    }

    #[test]
    fn tags_are_compared_in_lists_weakly_and_by_star() {
        for (value, is_same) in [
            ("\"3674085d\"", true),
            ("W/\"3674085d\"", true),
            ("\"x\", \"3674085d\"", true),
            ("*", true),
            ("3674085d", false),
            ("\"00000000\"", false),
            ("", false),
        ] {
            let headers = request(&[(header::IF_NONE_MATCH, value)]);
            assert_eq!(HERE.is_not_modified(&headers), is_same, "{value}");
        }
    }

    #[test]
    fn a_tag_wins_over_a_date() {
        let date = http_date(THEN).unwrap();
        let headers =
            request(&[(header::IF_NONE_MATCH, "\"x\""), (header::IF_MODIFIED_SINCE, &date)]);
        assert!(!HERE.is_not_modified(&headers));
        let headers = request(&[(header::IF_MODIFIED_SINCE, &date)]);
        assert!(HERE.is_not_modified(&headers));
    }

    #[test]
    fn a_date_before_the_change_or_none_at_all_is_no_match() {
        let before = http_date(THEN - 1).unwrap();
        for value in [before.as_str(), "yesterday"] {
            let headers = request(&[(header::IF_MODIFIED_SINCE, value)]);
            assert!(!HERE.is_not_modified(&headers), "{value}");
        }
        assert!(!HERE.is_not_modified(&HeaderMap::new()));
    }

    #[test]
    fn if_range_takes_a_strong_tag_or_the_exact_date() {
        let date = http_date(THEN).unwrap();
        let later = http_date(THEN + 1).unwrap();
        for (value, counts) in [
            ("\"3674085d\"", true),
            ("W/\"3674085d\"", false),
            ("\"x\"", false),
            (date.as_str(), true),
            (later.as_str(), false),
        ] {
            let headers = request(&[(header::IF_RANGE, value)]);
            assert_eq!(HERE.range_counts(&headers), counts, "{value}");
        }
        assert!(HERE.range_counts(&HeaderMap::new()));
    }

    #[test]
    fn a_date_past_the_year_9999_has_no_text() {
        assert_eq!(http_date(END_OF_DATES_SECS), None);
        assert!(http_date(END_OF_DATES_SECS - 1).unwrap().contains("9999"));
        assert_eq!(http_date(u64::MAX), None);
    }
}
