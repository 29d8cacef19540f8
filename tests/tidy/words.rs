//! What no committed file says: where or how it was written.
//!
//! A file speaks about the program as it is. Tickets, working sittings, the tools that typed, the
//! paths of one machine and the hosts of package registries are true for a day and for one reader.

use crate::source::TextFile;

/// Words about how the text came to be. Spelled in two halves, so that this list is not found.
const WORDS: [&str; 7] = [
    concat!("iss", "ue"),
    concat!("iss", "ues"),
    concat!("sess", "ion"),
    concat!("sess", "ions"),
    concat!("ag", "ent"),
    concat!("ag", "ents"),
    concat!("subag", "ent"),
];
/// Where one of [`WORDS`] is part of a name that is not ours to choose.
const NAMES: [&str; 3] =
    [concat!("user-ag", "ent"), concat!("user ag", "ent"), concat!("user_ag", "ent")];
/// Directories of one machine.
const MACHINE_PATHS: [&str; 3] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/home/", "user")];
/// Hosts that packages are fetched from: cargo and pip know theirs.
const REGISTRY_HOSTS: [&str; 5] = [
    concat!("crates", ".io/"),
    concat!("index.crates", ".io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("npmjs", ".org"),
];
/// Not our words: written by cargo, which names its registry in it; the text of the licence.
const NOT_OURS: [&str; 2] = ["Cargo.lock", "LICENSE"];

/// Every place in `file` that says what no file should say.
fn unspeakable(file: &TextFile) -> Vec<String> {
    let mut found = Vec::new();
    if NOT_OURS.contains(&file.path.as_str()) {
        return found;
    }
    for (index, line) in file.text.lines().enumerate() {
        let mut spoken = line.to_lowercase();
        for name in NAMES {
            spoken = spoken.replace(name, "");
        }
        for found_word in line_words(&spoken) {
            found.push(format!(
                "{}:{}: `{found_word}`: speak of the program, not of how it was written",
                file.path,
                index + 1
            ));
        }
        for place in MACHINE_PATHS.iter().filter(|path| names_path(&spoken, path)) {
            found.push(format!("{}:{}: `{place}` is on one machine only", file.path, index + 1));
        }
        for host in REGISTRY_HOSTS.iter().filter(|host| spoken.contains(**host)) {
            found.push(format!(
                "{}:{}: `{host}`: the tools know their registries",
                file.path,
                index + 1
            ));
        }
    }
    found
}

fn line_words(line: &str) -> Vec<&str> {
    line.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| WORDS.contains(word))
        .collect()
}

/// Whether `path` begins at a place where an absolute path can begin.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        before.is_none_or(|letter| !(letter.is_alphanumeric() || "._-})".contains(letter)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{assert_tidy, source::text_files};

    fn check(text: &str) -> Vec<String> {
        unspeakable(&TextFile { path: "a.md".to_owned(), text: text.to_owned() })
    }

    #[test]
    fn no_file_says_how_or_where_it_was_written() {
        assert_tidy(text_files().iter().flat_map(unspeakable).collect());
    }

    #[test]
    fn each_forbidden_word_path_and_host_is_found() {
        for word in WORDS.iter().chain(&MACHINE_PATHS).chain(&REGISTRY_HOSTS) {
            assert!(!check(&format!("a line\nsee {word} there")).is_empty(), "{word}");
        }
        assert_eq!(check(&format!("As of {} 3.", WORDS[0].to_uppercase())).len(), 1);
    }

    #[test]
    fn words_that_only_contain_a_forbidden_one_are_left_alone() {
        for fine in [
            "reissued",
            "obsession",
            NAMES[0],
            "network/paths",
            concat!("a/wo", "rk/b"),
            "agentless",
        ] {
            assert_eq!(check(fine), Vec::<String>::new(), "{fine}");
        }
    }
}
