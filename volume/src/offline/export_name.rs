//! File names for needles: what their uploaders called them, made harmless.
//!
//! A name that comes out of here is one component of a path, neither `.` nor `..` nor empty, of at
//! most 255 bytes with whatever is added to it, and without control characters.

use dulse_shared::id::Fid;

/// Bytes of a name before anything is added: file systems take 255.
const MAX_NAME_BYTES: usize = 180;
/// What is taken for an extension is no longer than this.
const MAX_EXTENSION_BYTES: usize = 16;

/// The file name of a needle that was stored under `name`.
pub(super) fn safe_name(name: Option<&[u8]>, fid: &Fid) -> String {
    let text = String::from_utf8_lossy(name.unwrap_or_default());
    let last = text.rsplit(['/', '\\']).next().unwrap_or_default();
    let harmless = |letter: char| if letter.is_control() { '_' } else { letter };
    let cleaned: String = last.trim().chars().map(harmless).collect();
    let (stem, extension) = split(&cleaned);
    let stem = shorten(stem, MAX_NAME_BYTES);
    match format!("{stem}{extension}").as_str() {
        "" | "." | ".." => fid_name(fid),
        name => name.to_owned(),
    }
}

/// Another name for the same needle, should the first be taken already.
pub(super) fn distinct_name(name: &str, fid: &Fid, attempt: u32) -> String {
    let (stem, extension) = split(name);
    match attempt {
        0 => format!("{stem}-{}{extension}", fid_name(fid)),
        _ => format!("{stem}-{}-{attempt}{extension}", fid_name(fid)),
    }
}

/// Key and cookie: the volume is the directory.
fn fid_name(fid: &Fid) -> String {
    let text = fid.to_string();
    text.split_once(',').map_or(text.clone(), |(_, needle)| needle.to_owned())
}

/// The name before its extension, and the extension with its dot.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= MAX_EXTENSION_BYTES => name.split_at(at),
        _ => (name, ""),
    }
}

fn shorten(text: &str, max_bytes: usize) -> &str {
    let mut end = text.len().min(max_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fid() -> Fid {
        "7,01637037d6".parse().unwrap()
    }

    #[test]
    fn a_name_is_its_last_component_or_else_the_fid() {
        for (stored, name) in [
            ("photo.jpg", "photo.jpg"),
            ("../../etc/passwd", "passwd"),
            ("C:\\temp\\a.txt", "a.txt"),
            ("..", "01637037d6"),
            (".", "01637037d6"),
            ("", "01637037d6"),
            ("a/", "01637037d6"),
            ("   ", "01637037d6"),
            ("a\0b\nc", "a_b_c"),
            (".profile", ".profile"),
        ] {
            assert_eq!(safe_name(Some(stored.as_bytes()), &fid()), name, "{stored:?}");
        }
        assert_eq!(safe_name(None, &fid()), "01637037d6");
        assert_eq!(distinct_name("photo.jpg", &fid(), 0), "photo-01637037d6.jpg");
        assert_eq!(distinct_name("photo", &fid(), 2), "photo-01637037d6-2");
    }

    proptest! {
        #[test]
        fn any_name_is_one_harmless_component(
            stored in prop::collection::vec(any::<u8>(), 0..300),
            attempt in 0_u32..100_000,
        ) {
            let name = safe_name(Some(&stored), &fid());
            for name in [distinct_name(&name, &fid(), attempt), name] {
                let path = std::path::Path::new("/out").join(&name);
                prop_assert_eq!(path.parent(), Some(std::path::Path::new("/out")));
                prop_assert_eq!(path.file_name().and_then(|n| n.to_str()), Some(name.as_str()));
                prop_assert!(name.len() <= 255 && !name.chars().any(char::is_control));
            }
        }
    }
}
