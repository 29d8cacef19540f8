//! The repository as the rules see it: every text file, and the Rust ones parsed.
//!
//! Test code is told apart once, here: a file is a test file when it lies under a `tests`
//! directory or is declared by a module behind `#[cfg(test)]`; in other files the items behind
//! `#[cfg(test)]` are taken out of [`RustFile::production`]. Which rule applies to test code is
//! for the rules to say.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use syn::{Attribute, Item, spanned::Spanned};

/// A text file. `path` is relative to the repository, with forward slashes.
#[derive(Clone, Debug)]
pub(crate) struct TextFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A parsed Rust file.
#[derive(Clone)]
pub(crate) struct RustFile {
    pub(crate) path: String,
    pub(crate) text: String,
    /// Everything in the file.
    pub(crate) whole: syn::File,
    /// The file without its items behind `#[cfg(test)]`.
    pub(crate) production: syn::File,
    /// Lines taken by the items behind `#[cfg(test)]`.
    pub(crate) test_lines: usize,
    /// Whether all of the file is test code.
    pub(crate) is_test: bool,
}

/// The directory that holds the workspace's manifest.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the repository, in order of path.
pub(crate) fn text_files() -> Vec<TextFile> {
    let mut found = Vec::new();
    walk(&root(), "", &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 20, "the repository was not found");
    found
}

/// Every Rust file of the repository, parsed, with its test code told apart.
pub(crate) fn rust_files() -> Vec<RustFile> {
    let texts = text_files();
    let rust = texts.iter().filter(|file| file.path.ends_with(".rs"));
    let mut files: Vec<RustFile> = rust.map(|file| parse(&file.path, &file.text)).collect();
    mark_test_files(&mut files);
    files
}

/// Parses one file; a file that does not parse fails the test that asked for it.
pub(crate) fn parse(path: &str, text: &str) -> RustFile {
    let whole = syn::parse_file(text)
        .unwrap_or_else(|error| panic!("{path}:{}: {error}", error.span().start().line));
    let mut production = whole.clone();
    let test_lines = strip_tests(&mut production.items);
    RustFile {
        is_test: path.split('/').any(|part| part == "tests" || part == "benches"),
        path: path.to_owned(),
        text: text.to_owned(),
        whole,
        production,
        test_lines,
    }
}

/// Marks the files that a module behind `#[cfg(test)]` declares, and what lies below them.
pub(crate) fn mark_test_files(files: &mut [RustFile]) {
    let mut test_modules = BTreeSet::new();
    for file in files.iter() {
        for item in &file.whole.items {
            if let Item::Mod(module) = item
                && module.content.is_none()
                && is_test_only(&module.attrs)
            {
                test_modules.insert(format!("{}/{}", child_dir(&file.path), module.ident));
            }
        }
    }
    for file in files {
        let module = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
        file.is_test |= test_modules.iter().any(|test| {
            module == test
                || module.strip_prefix(test.as_str()).is_some_and(|rest| rest.starts_with('/'))
        });
    }
}

/// Whether the attributes keep an item out of everything but test builds.
pub(crate) fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else {
            return false;
        };
        let condition = list.tokens.to_string();
        attribute.path().is_ident("cfg")
            && (condition == "test" || condition.starts_with("all (test"))
    })
}

/// Where the modules that the file at `path` declares lie.
fn child_dir(path: &str) -> String {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "mod.rs" | "lib.rs" | "main.rs" => dir.to_owned(),
        _ => path.trim_end_matches(".rs").to_owned(),
    }
}

fn strip_tests(items: &mut Vec<Item>) -> usize {
    let mut lines = 0;
    items.retain_mut(|item| {
        if is_test_only(attributes(item)) {
            lines += item.span().end().line + 1 - item.span().start().line;
            return false;
        }
        if let Item::Mod(module) = item
            && let Some((_, inner)) = &mut module.content
        {
            lines += strip_tests(inner);
        }
        true
    });
    lines
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn walk(dir: &Path, relative: &str, found: &mut Vec<TextFile>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for entry in entries {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = if relative.is_empty() { name.clone() } else { format!("{relative}/{name}") };
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !is_left_out(&name) {
            walk(&entry.path(), &path, found);
        } else if kind.is_file()
            && name != ".git"
            && let Ok(text) = fs::read_to_string(entry.path())
        {
            found.push(TextFile { path, text });
        }
    }
}

/// Directories that hold nothing anybody wrote.
fn is_left_out(name: &str) -> bool {
    name == ".git" || name == "target" || name == "proptest-regressions"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_code_is_told_apart_from_the_rest() {
        let mut files = [
            parse("a/src/lib.rs", "mod plain;\n#[cfg(test)]\nmod proofs;\n"),
            parse("a/src/proofs.rs", "fn one() {}\n"),
            parse("a/src/proofs/deep.rs", "fn two() {}\n"),
            parse(
                "a/src/plain.rs",
                "fn three() {}\n#[cfg(test)]\nmod tests {\n    fn four() {}\n}\n",
            ),
            parse("a/tests/it.rs", "fn five() {}\n"),
        ];
        mark_test_files(&mut files);
        let marks: Vec<bool> = files.iter().map(|file| file.is_test).collect();
        assert_eq!(marks, [false, true, true, false, true]);
        assert_eq!(files[3].test_lines, 4);
        assert_eq!(files[3].production.items.len(), 1);
    }
}
