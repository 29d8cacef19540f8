//! What the documents promise: links that lead somewhere, lengths that are read, names that exist.
//!
//! ARCHITECTURE.md names code as `` `volume/src/writer.rs` `` or, for something in it,
//! `` `volume/src/writer.rs::put` `` (a function, method, type or constant). Both forms are checked
//! in every Markdown file.

use std::collections::BTreeSet;

use syn::visit::{self, Visit};

use crate::source::{RustFile, TextFile};

/// Documents that lose their purpose when nobody reads them to the end.
const MAX_LINES: [(&str, usize); 2] = [("ARCHITECTURE.md", 300), ("CONTRIBUTING.md", 60)];
/// The document that traces one write and one read through the code.
const TRACES: &str = "ARCHITECTURE.md";
/// A trace with fewer stations skips some.
const MIN_TRACE_NAMES: usize = 5;

/// Links between the files of the repository lead to files that exist.
fn links(file: &TextFile, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for target in link_targets(line) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            if !exists(&resolve(&file.path, path)) {
                found.push(format!(
                    "{}:{}: the link to {target} leads nowhere",
                    file.path,
                    index + 1
                ));
            }
        }
    }
    found
}

fn link_targets(line: &str) -> Vec<&str> {
    let after = line.split("](").skip(1);
    after.filter_map(|rest| rest.split([')', ' ']).next()).collect()
}

/// `target`, written in the file `from`, as a path from the repository's root.
fn resolve(from: &str, target: &str) -> String {
    let dir = from.rsplit_once('/').map_or("", |(dir, _)| dir);
    let mut parts: Vec<&str> = Vec::new();
    for part in dir.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// The documents of [`MAX_LINES`] are short enough to be read.
fn lengths(file: &TextFile) -> Vec<String> {
    let lines = file.text.lines().count();
    let too_long = MAX_LINES.iter().filter(|(path, max)| *path == file.path && lines > *max);
    too_long.map(|(path, max)| format!("{path}: {lines} lines, {max} allowed: cut it")).collect()
}

/// A name in backticks that points into the code.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct CodeName {
    line: usize,
    path: String,
    name: Option<String>,
}

fn code_names(text: &str) -> Vec<CodeName> {
    let mut found = Vec::new();
    let mut in_block = false;
    for (index, line) in text.lines().enumerate() {
        in_block ^= line.trim_start().starts_with("```");
        if in_block {
            continue;
        }
        for quoted in line.split('`').skip(1).step_by(2) {
            let (path, name) =
                quoted.split_once("::").map_or((quoted, None), |(path, name)| (path, Some(name)));
            if path.ends_with(".rs") && path.contains('/') && !path.contains(['{', ' ', '*']) {
                let name = name.map(|name| name.trim_end_matches("()").to_owned());
                found.push(CodeName { line: index + 1, path: path.to_owned(), name });
            }
        }
    }
    found
}

/// Every name that a document gives to code exists.
fn names_exist(file: &TextFile, code: &[RustFile]) -> Vec<String> {
    let mut found = Vec::new();
    for CodeName { line, path, name } in code_names(&file.text) {
        let Some(source) = code.iter().find(|source| source.path == path) else {
            found.push(format!("{}:{line}: there is no file {path}", file.path));
            continue;
        };
        let defined = defined_names(source);
        let missing =
            name.iter().flat_map(|name| name.split("::")).find(|part| !defined.contains(*part));
        if let Some(part) = missing {
            found.push(format!("{}:{line}: {path} defines no {part}", file.path));
        }
    }
    found
}

fn defined_names(file: &RustFile) -> BTreeSet<String> {
    struct Names(BTreeSet<String>);
    impl<'ast> Visit<'ast> for Names {
        fn visit_signature(&mut self, signature: &'ast syn::Signature) {
            self.0.insert(signature.ident.to_string());
            visit::visit_signature(self, signature);
        }
        fn visit_item(&mut self, item: &'ast syn::Item) {
            match item {
                syn::Item::Struct(item) => self.0.insert(item.ident.to_string()),
                syn::Item::Enum(item) => self.0.insert(item.ident.to_string()),
                syn::Item::Trait(item) => self.0.insert(item.ident.to_string()),
                syn::Item::Type(item) => self.0.insert(item.ident.to_string()),
                syn::Item::Const(item) => self.0.insert(item.ident.to_string()),
                _ => false,
            };
            visit::visit_item(self, item);
        }
    }
    let mut names = Names(BTreeSet::new());
    names.visit_file(&file.production);
    names.0
}

/// The two traces: a heading with `word` in it, under which enough functions are named.
fn trace(text: &str, word: &str) -> Vec<String> {
    let is_start = |line: &&str| line.starts_with('#') && line.to_lowercase().contains(word);
    let Some(start) = text.lines().position(|line| is_start(&line)) else {
        return vec![format!(
            "{TRACES}: no heading says `{word}`: trace one through file and function names"
        )];
    };
    let section: Vec<&str> =
        text.lines().skip(start + 1).take_while(|line| !line.starts_with('#')).collect();
    let functions =
        code_names(&section.join("\n")).into_iter().filter(|name| name.name.is_some()).count();
    if functions >= MIN_TRACE_NAMES {
        return Vec::new();
    }
    vec![format!(
        "{TRACES}: the trace of `{word}` names {functions} functions, {MIN_TRACE_NAMES} are too few"
    )]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        assert_tidy,
        source::{parse, root, rust_files, text_files},
    };

    fn markdown() -> Vec<TextFile> {
        text_files().into_iter().filter(|file| file.path.ends_with(".md")).collect()
    }

    fn page(text: &str) -> TextFile {
        TextFile { path: "docs/page.md".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn links_between_files_lead_somewhere() {
        let exists = |path: &str| root().join(path).exists();
        assert_tidy(markdown().iter().flat_map(|file| links(file, &exists)).collect());
    }

    #[test]
    fn a_dead_link_is_found() {
        let exists = |path: &str| path == "README.md" || path == "docs/other.md";
        let fine =
            page("[a](../README.md#top) [b](other.md) [c](https://example.org/x) [d](#here)");
        assert_eq!(links(&fine, &exists), Vec::<String>::new());
        let dead = page("text\n[a](README.md)");
        assert_eq!(links(&dead, &exists), ["docs/page.md:2: the link to README.md leads nowhere"]);
    }

    #[test]
    fn the_documents_are_short_enough_to_be_read() {
        assert_tidy(text_files().iter().flat_map(lengths).collect());
    }

    #[test]
    fn a_document_that_grew_too_long_is_found() {
        let long = TextFile { path: MAX_LINES[1].0.to_owned(), text: "line\n".repeat(61) };
        assert_eq!(lengths(&long).len(), 1);
    }

    #[test]
    fn names_of_code_in_documents_exist() {
        let code = rust_files();
        assert_tidy(markdown().iter().flat_map(|file| names_exist(file, &code)).collect());
    }

    #[test]
    fn a_name_that_does_not_exist_is_found() {
        let code = [parse(
            "volume/src/writer.rs",
            "struct Queue;\nimpl Queue {\n    fn put() {}\n}\n#[cfg(test)]\nmod tests { fn only_here() {} }\n",
        )];
        let fine = page(
            "`volume/src/writer.rs` `volume/src/writer.rs::put` `volume/src/writer.rs::Queue::put`",
        );
        assert_eq!(names_exist(&fine, &code), Vec::<String>::new());
        let wrong = page(
            "`volume/src/gone.rs` `volume/src/writer.rs::take` `volume/src/writer.rs::only_here`",
        );
        assert_eq!(names_exist(&wrong, &code).len(), 3);
    }

    #[test]
    fn one_write_and_one_read_are_traced_through_the_code() {
        let text = std::fs::read_to_string(root().join(TRACES))
            .unwrap_or_else(|error| panic!("{TRACES}: {error}"));
        assert_tidy(["one write", "one read"].iter().flat_map(|word| trace(&text, word)).collect());
    }

    #[test]
    fn a_missing_or_thin_trace_is_found() {
        let step = "`a/src/b.rs::c` ";
        let fine = format!("## One write\n{}\n## Next\n", step.repeat(MIN_TRACE_NAMES));
        assert_eq!(trace(&fine, "one write"), Vec::<String>::new());
        assert_eq!(trace(&fine, "one read").len(), 1);
        let thin = format!("## One write\n{step}\n## Next\n{}", step.repeat(MIN_TRACE_NAMES));
        assert_eq!(trace(&thin, "one write").len(), 1);
    }
}
