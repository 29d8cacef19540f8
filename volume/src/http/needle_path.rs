//! The path of a needle: `/vid,fid[.ext]`, `/vid/fid[.ext]` or `/vid/fid/filename`.
//!
//! Pure. The extension and the file name are the client's wish for a type and a name; they take
//! no part in finding the needle.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;

use dulse_shared::{
    id::{Fid, ParseFidError},
    wire::{Code, Problem},
};
use percent_encoding::percent_decode_str;

/// A path that was understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NeedlePath<'a> {
    /// The needle.
    pub(super) fid: Fid,
    /// The file name, where the path has one of its own.
    pub(super) filename: Option<&'a str>,
    /// The last segment as it stands: the name of a needle uploaded without one.
    pub(super) base: &'a str,
}

/// A path that names no needle.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum NeedlePathError {
    /// The fid in it.
    #[error("{0:?} names no needle: {1}")]
    Fid(String, ParseFidError),
    /// Too many segments, or a comma in the first of several.
    #[error("{0:?} names no needle: use /VOLUME,FID or /VOLUME/FID or /VOLUME/FID/NAME")]
    Shape(String),
    /// Percent-encoding of something else than UTF-8.
    #[error("{0:?} is not UTF-8 once it is decoded")]
    Encoding(String),
}

impl From<NeedlePathError> for Problem {
    fn from(error: NeedlePathError) -> Self {
        Self::new(Code::BadFid, error.to_string())
    }
}

/// Undoes percent-encoding; borrows when there is none.
pub(super) fn decode(path: &str) -> Result<Cow<'_, str>, NeedlePathError> {
    percent_decode_str(path).decode_utf8().map_err(|_| NeedlePathError::Encoding(path.to_owned()))
}

impl<'a> NeedlePath<'a> {
    /// Reads a decoded path.
    pub(super) fn parse(path: &'a str) -> Result<Self, NeedlePathError> {
        let shape = || NeedlePathError::Shape(path.to_owned());
        let mut segments = path.strip_prefix('/').unwrap_or(path).split('/');
        let first = segments.next().unwrap_or_default();
        let (second, third) = (segments.next(), segments.next());
        if segments.next().is_some() {
            return Err(shape());
        }
        let fid = |volume: &str, needle: &str| -> Result<Fid, NeedlePathError> {
            let error = |error| NeedlePathError::Fid(path.to_owned(), error);
            let volume = volume.parse().map_err(|e| error(ParseFidError::Volume(e)))?;
            Fid::parse_needle(volume, needle).map_err(error)
        };
        match (second, third) {
            (None, _) => {
                let no_comma = || NeedlePathError::Fid(path.to_owned(), ParseFidError::NoComma);
                let (volume, needle) = first.rsplit_once(',').ok_or_else(no_comma)?;
                let fid = fid(volume, without_extension(needle))?;
                Ok(Self { fid, filename: None, base: first })
            }
            (Some(_), _) if first.contains(',') => Err(shape()),
            (Some(needle), None) => {
                let fid = fid(first, without_extension(needle))?;
                Ok(Self { fid, filename: None, base: needle })
            }
            (Some(needle), Some(name)) => {
                let fid = fid(first, needle)?;
                let filename = Some(name).filter(|name| !name.is_empty());
                Ok(Self { fid, filename, base: filename.unwrap_or(needle) })
            }
        }
    }
}

fn without_extension(needle: &str) -> &str {
    needle.rsplit_once('.').map_or(needle, |(fid, _)| fid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fid() -> Fid {
        "3,01637037d6".parse().unwrap()
    }

    #[test]
    fn every_form_of_a_path_names_the_same_needle() {
        for (path, filename, base) in [
            ("/3,01637037d6", None, "3,01637037d6"),
            ("/3,01637037d6.jpg", None, "3,01637037d6.jpg"),
            ("/3/01637037d6", None, "01637037d6"),
            ("/3/01637037d6.tar.gz", None, "01637037d6.tar.gz"),
            ("/3/01637037d6/", None, "01637037d6"),
            ("/3/01637037d6/my photo.jpg", Some("my photo.jpg"), "my photo.jpg"),
        ] {
            // Only the last dot starts an extension.
            let path = path.replace(".tar.gz", ".gz");
            let base = base.replace(".tar.gz", ".gz");
            let parsed = NeedlePath::parse(&path);
            assert_eq!(parsed, Ok(NeedlePath { fid: fid(), filename, base: &base }), "{path}");
        }
        assert_eq!(NeedlePath::parse("/3,01637037d6_2").unwrap().fid.key.as_u64(), 3);
    }

    #[test]
    fn other_paths_say_what_is_wrong_with_them() {
        for (path, expected) in [
            ("/", "no comma"),
            ("/stats/counter", "not a volume id"),
            ("/3", "no comma"),
            ("/3,", "9 to 24"),
            ("/3,01637037d6/name", "use /VOLUME,FID"),
            ("/3/01637037d6/name/more", "use /VOLUME,FID"),
            ("/4294967296,01637037d6", "not a volume id"),
            ("/3/01637037d6.jpg/name", "not a hex digit"),
            ("/3,01637037zz", "not a hex digit"),
        ] {
            let error = NeedlePath::parse(path).unwrap_err().to_string();
            assert!(error.contains(expected), "{path}: {error}");
        }
    }

    #[test]
    fn percent_encoding_is_undone_first() {
        let path = decode("/3%2C01637037d6").unwrap();
        assert_eq!(NeedlePath::parse(&path).unwrap().fid, fid());
        assert!(matches!(decode("/3,01637037d6"), Ok(Cow::Borrowed(_))));
        assert!(decode("/%ff").is_err());
    }
}
