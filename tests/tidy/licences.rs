//! Every dependency comes from cargo's registry under a licence that `deny.toml` allows.
//!
//! The same that `cargo deny check licenses sources` says, held here as well, so that it is
//! checked where that program is not installed.

use std::process::Command;

use serde_json::Value;

use crate::source::root;

/// One package, as `cargo metadata` describes it.
struct Package {
    name: String,
    /// An SPDX expression; empty when the manifest names none.
    licence: String,
    /// Where it comes from; `None` for a package of the workspace.
    source: Option<String>,
}

/// Packages whose licence is not on the list, or that come from elsewhere.
fn refused(packages: &[Package], allow: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for Package { name, licence, source } in packages {
        let Some(source) = source else { continue };
        if !is_allowed(licence, allow) {
            found.push(format!(
                "{name}: `{licence}` is not covered by deny.toml's [licenses] allow"
            ));
        }
        if !source.starts_with("registry+https://github.com/rust-lang/") {
            found.push(format!("{name}: comes from {source}, not from cargo's registry"));
        }
    }
    found
}

/// Whether the licences on the list satisfy an SPDX expression: `OR` leaves the choice, `AND`
/// binds tighter and asks for both, `/` is an old way to write `OR`.
fn is_allowed(expression: &str, allow: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest, allow) && rest.is_empty()
}

fn any_of(words: &mut &[&str], allow: &[String]) -> bool {
    let mut allowed = all_of(words, allow);
    while let ["OR", rest @ ..] = words {
        *words = rest;
        allowed |= all_of(words, allow);
    }
    allowed
}

fn all_of(words: &mut &[&str], allow: &[String]) -> bool {
    let mut allowed = one(words, allow);
    while let ["AND", rest @ ..] = words {
        *words = rest;
        allowed &= one(words, allow);
    }
    allowed
}

fn one(words: &mut &[&str], allow: &[String]) -> bool {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let allowed = any_of(words, allow);
            *words = words.strip_prefix(&[")"]).unwrap_or(&[]);
            allowed
        }
        [licence, "WITH", exception, rest @ ..] => {
            *words = rest;
            allow.contains(&format!("{licence} WITH {exception}"))
        }
        [licence, rest @ ..] => {
            *words = rest;
            allow.iter().any(|allowed| allowed == licence)
        }
        [] => false,
    }
}

/// deny.toml's list.
fn allow_list() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let allow = table["licenses"]["allow"].as_array().unwrap();
    allow.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// The packages that this platform's build can contain.
fn packages() -> Vec<Package> {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &platform])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let package = |value: &Value| Package {
        name: text(&value["name"]).unwrap(),
        licence: text(&value["license"]).unwrap_or_default(),
        source: text(&value["source"]),
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_tidy;

    #[test]
    fn every_dependency_has_an_allowed_licence_and_source() {
        let packages = packages();
        assert!(packages.len() > 100, "only {} packages were listed", packages.len());
        assert_tidy(refused(&packages, &allow_list()));
    }

    #[test]
    fn an_expression_is_read_as_spdx_means_it() {
        let allow = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        for fine in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/GPL-3.0",
            "(GPL-3.0 OR MIT) AND Apache-2.0",
            "Apache-2.0 WITH LLVM-exception",
            "GPL-3.0 AND BSD OR MIT",
        ] {
            assert!(is_allowed(fine, &allow), "{fine}");
        }
        for bad in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR Apache-2.0) AND GPL-3.0",
            "MIT WITH odd-exception",
            "MIT GPL-3.0",
        ] {
            assert!(!is_allowed(bad, &allow), "{bad}");
        }
    }

    #[test]
    fn a_licence_or_source_that_is_not_allowed_is_found() {
        let package = |licence: &str, source: Option<&str>| Package {
            name: "odd".to_owned(),
            licence: licence.to_owned(),
            source: source.map(str::to_owned),
        };
        let registry = concat!("registry+https://github.com/rust-lang/crates", ".io-index");
        let allow = ["MIT".to_owned()];
        let packages = [
            package("MIT", Some(registry)),
            package("GPL-3.0", Some(registry)),
            package("MIT", Some("git+https://example.org/odd")),
            package("GPL-3.0", None),
        ];
        assert_eq!(refused(&packages, &allow).len(), 2);
    }
}
