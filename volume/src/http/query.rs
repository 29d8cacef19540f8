//! The parameters after the question mark. Pure; unknown ones are ignored.
//!
//! Nothing is decoded or allocated before it is asked for: most requests have no parameters. A
//! value that cannot be read is an error that names the parameter.

use std::borrow::Cow;

use dulse_shared::wire::{Code, Problem};
use percent_encoding::percent_decode_str;

/// The query of a request, undecoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// `None` is a request without a query.
    pub(super) fn new(query: Option<&'a str>) -> Self {
        Self(query.unwrap_or_default())
    }

    /// Whether there are no parameters at all.
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The first value of a parameter, decoded. Names are compared without regard to case.
    pub(super) fn value(self, name: &str) -> Option<Cow<'a, str>> {
        if self.0.is_empty() {
            return None;
        }
        let pairs = self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut values = pairs.filter(|(key, _)| decode(key).eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| decode(value))
    }

    /// A parameter that says yes: `1`, `t`, `true` and the like. Everything else is no.
    pub(super) fn is_true(self, name: &str) -> bool {
        let value = self.value(name).unwrap_or_default();
        matches!(&*value, "1" | "t" | "T" | "true" | "TRUE" | "True")
    }

    /// A parameter of a certain type; one that is present but empty counts as missing.
    pub(super) fn parsed<T: std::str::FromStr>(self, name: &str) -> Result<Option<T>, Problem>
    where
        T::Err: std::fmt::Display,
    {
        let Some(value) = self.value(name).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let parsed = value.parse();
        parsed.map(Some).map_err(|error| {
            Problem::new(Code::BadRequest, format!("the parameter {name}={value}: {error}"))
        })
    }
}

fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_names_have_no_case() {
        let query = Query::new(Some("a=1&Response-Content-Type=text%2Fplain&b=x+y&flag&ttl="));
        assert_eq!(query.value("response-content-type").as_deref(), Some("text/plain"));
        assert_eq!(query.value("b").as_deref(), Some("x y"));
        assert_eq!(query.value("flag").as_deref(), Some(""));
        assert_eq!(query.value("c"), None);
        assert!(query.is_true("a") && !query.is_true("b"));
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named() {
        let query = Query::new(Some("ts=soon&ttl="));
        assert_eq!(query.parsed::<u64>("ttl").unwrap(), None);
        let error = query.parsed::<u64>("ts").unwrap_err();
        assert!(error.message.contains("ts=soon"), "{error}");
    }
}
