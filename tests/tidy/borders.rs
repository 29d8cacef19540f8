//! Which part may know which: `shared ← master, volume, client ← dulse`, and the names that stay
//! behind one door.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Item, UseTree,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::source::RustFile;

/// Each crate's directory and the crates of ours that it may name.
const LAYERS: [(&str, &[&str]); 4] = [
    ("shared", &[]),
    ("master", &["dulse_shared"]),
    ("volume", &["dulse_shared"]),
    ("client", &["dulse_shared"]),
];
/// All crates of ours.
const OURS: [&str; 5] = ["dulse", "dulse_shared", "dulse_master", "dulse_volume", "dulse_client"];

/// Paths that only some directory may name: where the rule holds, the forbidden prefixes, the
/// directory that may, and why.
struct Door {
    within: &'static str,
    prefixes: &'static [&'static str],
    allowed: &'static [&'static str],
    reason: &'static str,
}

const DOORS: [Door; 2] = [
    Door {
        within: "volume/src/",
        prefixes: &["std::fs", "std::os::unix::fs", "tokio::fs", "rustix::fs", "rustix::io"],
        allowed: &["volume/src/disk/"],
        reason: "files are touched in volume/src/disk/ only, where faults are injected",
    },
    Door {
        within: "volume/src/format/",
        prefixes: &["tokio", "axum", "reqwest", "hyper", "tracing"],
        allowed: &[],
        reason: "the codec is pure",
    },
];

/// The crate whose names stay in one directory, because its generics spread.
const RAFT_CRATE: &str = "openraft";
const RAFT_HOME: &str = "master/src/raft/";

/// A crate names only the crates below it.
fn layers_in_code(file: &RustFile) -> Vec<String> {
    let Some((dir, allowed)) = LAYERS.iter().find(|(dir, _)| in_crate(&file.path, dir)) else {
        return Vec::new();
    };
    let own = format!("dulse_{dir}");
    let wrong = |path: &&(String, usize)| {
        let first = path.0.split("::").next().unwrap_or_default();
        OURS.contains(&first) && first != own && !allowed.contains(&first)
    };
    let named = named_paths(&file.whole);
    let violation = |(path, line): &(String, usize)| {
        format!("{}:{line}: `{path}`: {dir} may not know it", file.path)
    };
    named.iter().filter(wrong).map(violation).collect()
}

/// The same for the dependencies of a manifest; `dir` is the crate's directory.
fn layers_in_manifest(dir: &str, manifest: &str) -> Vec<String> {
    let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == dir) else {
        return Vec::new();
    };
    let table: toml::Table = manifest.parse().unwrap();
    let mut found = Vec::new();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(toml::Value::Table(dependencies)) = table.get(section) else {
            continue;
        };
        for name in dependencies.keys().map(|name| name.replace('-', "_")) {
            if OURS.contains(&name.as_str()) && !allowed.contains(&name.as_str()) {
                found.push(format!("{dir}/Cargo.toml: [{section}] {name}: {dir} may not know it"));
            }
        }
    }
    found
}

/// Production code goes through the doors.
fn doors(file: &RustFile) -> Vec<String> {
    let mut found = Vec::new();
    if file.is_test {
        return found;
    }
    for door in DOORS.iter().filter(|door| file.path.starts_with(door.within)) {
        if door.allowed.iter().any(|allowed| file.path.starts_with(allowed)) {
            continue;
        }
        for (path, line) in named_paths(&file.production) {
            if door.prefixes.iter().any(|prefix| is_below(&path, prefix)) {
                found.push(format!("{}:{line}: `{path}`: {}", file.path, door.reason));
            }
        }
    }
    found
}

/// openraft's name appears in one directory, macros and tests included.
fn raft_stays_home(file: &RustFile) -> Vec<String> {
    if file.path.starts_with(RAFT_HOME) || file.path.starts_with("tests/tidy/") {
        return Vec::new();
    }
    let tokens: TokenStream = file.text.parse().unwrap();
    let mut lines = BTreeSet::new();
    lines_naming(tokens, RAFT_CRATE, &mut lines);
    let violation =
        |line| format!("{}:{line}: {RAFT_CRATE} is named in {RAFT_HOME} only", file.path);
    lines.into_iter().map(violation).collect()
}

fn lines_naming(tokens: TokenStream, name: &str, lines: &mut BTreeSet<usize>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => lines_naming(group.stream(), name, lines),
            TokenTree::Ident(ident) if ident == name => {
                lines.insert(ident.span().start().line);
            }
            _ => {}
        }
    }
}

fn in_crate(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every path that the items name, `use` trees spelled out, with its line.
fn named_paths(file: &syn::File) -> Vec<(String, usize)> {
    struct Paths(Vec<(String, usize)>);
    impl<'ast> Visit<'ast> for Paths {
        fn visit_path(&mut self, path: &'ast syn::Path) {
            let segments: Vec<String> =
                path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.0.push((segments.join("::"), path.span().start().line));
            visit::visit_path(self, path);
        }
        fn visit_item(&mut self, item: &'ast Item) {
            if let Item::Use(item) = item {
                spell_out(&item.tree, "", &mut self.0);
            }
            visit::visit_item(self, item);
        }
    }
    let mut paths = Paths(Vec::new());
    paths.visit_file(file);
    paths.0
}

fn spell_out(tree: &UseTree, before: &str, found: &mut Vec<(String, usize)>) {
    let joined = |name: &syn::Ident| {
        let name = name.to_string();
        match before {
            "" => name,
            _ if name == "self" => before.to_owned(),
            _ => format!("{before}::{name}"),
        }
    };
    let line = tree.span().start().line;
    match tree {
        UseTree::Path(path) => spell_out(&path.tree, &joined(&path.ident), found),
        UseTree::Name(name) => found.push((joined(&name.ident), line)),
        UseTree::Rename(rename) => found.push((joined(&rename.ident), line)),
        UseTree::Glob(_) => found.push((before.to_owned(), line)),
        UseTree::Group(group) => group.items.iter().for_each(|item| spell_out(item, before, found)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        assert_tidy,
        source::{parse, root, rust_files},
    };

    #[test]
    fn a_crate_names_only_the_crates_below_it() {
        assert_tidy(rust_files().iter().flat_map(layers_in_code).collect());
    }

    #[test]
    fn a_crate_that_looks_up_or_aside_is_found() {
        let bad = "use dulse_shared::id::Fid;\nuse dulse_volume::{store::Store, reader};\nfn a() { dulse_client::b(); }\n";
        let found = layers_in_code(&parse("master/src/a.rs", bad));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[2].starts_with("master/src/a.rs:3: `dulse_client::b`"));
        assert_eq!(layers_in_code(&parse("src/main.rs", bad)), Vec::<String>::new());
        assert_eq!(
            layers_in_code(&parse("shared/src/a.rs", "use dulse_shared::id;")),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_manifest_lists_only_the_crates_below() {
        let manifest =
            |dir: &str| std::fs::read_to_string(root().join(dir).join("Cargo.toml")).unwrap();
        assert_tidy(
            LAYERS.iter().flat_map(|(dir, _)| layers_in_manifest(dir, &manifest(dir))).collect(),
        );
    }

    #[test]
    fn a_manifest_that_looks_up_or_aside_is_found() {
        let bad = "[dependencies]\ndulse-shared.workspace = true\ndulse-master.workspace = true\n[dev-dependencies]\ndulse-client.workspace = true\n";
        assert_eq!(layers_in_manifest("volume", bad).len(), 2);
        assert_eq!(layers_in_manifest("shared", bad).len(), 3);
    }

    #[test]
    fn files_and_frameworks_are_reached_through_their_doors() {
        assert_tidy(rust_files().iter().flat_map(doors).collect());
    }

    #[test]
    fn file_access_beside_the_door_is_found_unless_a_test_does_it() {
        let bad = "use std::{fs::File, io};\nfn a() { std::fs::read(\"b\"); }\nuse rustix::fs as f;\n#[cfg(test)]\nmod tests { use std::fs; }\n";
        assert_eq!(doors(&parse("volume/src/store.rs", bad)).len(), 3);
        assert_eq!(doors(&parse("volume/src/disk/file.rs", bad)), Vec::<String>::new());
        assert_eq!(doors(&parse("master/src/a.rs", bad)), Vec::<String>::new());
        assert_eq!(doors(&parse("volume/src/format/a.rs", "use tokio::io::AsyncRead;")).len(), 1);
        assert_eq!(
            doors(&parse("volume/src/format/a.rs", "use tokio_util::io::A;")),
            Vec::<String>::new()
        );
    }

    #[test]
    fn raft_names_stay_in_their_directory() {
        assert_tidy(rust_files().iter().flat_map(raft_stays_home).collect());
    }

    #[test]
    fn a_raft_name_elsewhere_is_found_in_macros_too() {
        let bad = format!("fn a() {{ println!(\"{{:?}}\", {RAFT_CRATE}::Raft); }}\n");
        assert_eq!(raft_stays_home(&parse("master/src/server.rs", &bad)).len(), 1);
        assert_eq!(raft_stays_home(&parse("master/src/raft/a.rs", &bad)), Vec::<String>::new());
    }
}
