//! What a source file looks like: its header, its length, its names.

use proc_macro2::Span;
use syn::{
    Item, Signature,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::source::RustFile;

/// Longer files are two files: nobody holds more in mind. Test code is not counted.
const MAX_FILE_LINES: usize = 500;
/// One screen: a longer function does several things.
const MAX_FUNCTION_LINES: usize = 70;
/// The fewest words that can say what a file owns.
const MIN_HEADER_WORDS: usize = 4;
/// Names that say nothing, so that everything ends up there.
const EMPTY_NAMES: [&str; 7] = ["utils", "util", "common", "helpers", "helper", "types", "misc"];

/// Every file opens with `//!` and at least one full sentence.
fn headers(file: &RustFile) -> Vec<String> {
    let header = file.text.lines().take_while(|line| line.starts_with("//!"));
    let lines: Vec<&str> = header.map(|line| line.trim_start_matches("//!").trim()).collect();
    let words: usize = lines.iter().map(|line| line.split_whitespace().count()).sum();
    let mut paragraphs = lines.split(|line| line.is_empty());
    let end_of_first = paragraphs.next().and_then(|paragraph| paragraph.last());
    let is_sentence = end_of_first.is_some_and(|line| line.ends_with(['.', ':', '?']))
        && words >= MIN_HEADER_WORDS;
    if is_sentence {
        return Vec::new();
    }
    vec![format!("{}:1: open with `//!` and a sentence that says what the file owns", file.path)]
}

/// No file is longer than [`MAX_FILE_LINES`] without its test code.
fn file_length(file: &RustFile) -> Vec<String> {
    let lines = file.text.lines().count() - file.test_lines;
    if file.is_test || lines <= MAX_FILE_LINES {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines without tests, {MAX_FILE_LINES} allowed: split it", file.path)]
}

/// No function is longer than [`MAX_FUNCTION_LINES`], from its signature to its closing brace.
fn function_length(file: &RustFile) -> Vec<String> {
    let mut found = Vec::new();
    each_function(file, |signature, whole, _| {
        let lines = whole.end().line + 1 - signature.span().start().line;
        if lines > MAX_FUNCTION_LINES {
            found.push(format!(
                "{}:{}: {} has {lines} lines, {MAX_FUNCTION_LINES} allowed: split it",
                file.path,
                signature.span().start().line,
                signature.ident,
            ));
        }
    });
    found
}

/// A getter is named after what it returns. The names of another's trait are not ours to choose,
/// and in tests GET is a verb of HTTP.
fn getters(file: &RustFile) -> Vec<String> {
    let mut found = Vec::new();
    if file.is_test {
        return found;
    }
    each_function(file, |signature, _, owner| {
        let name = signature.ident.to_string();
        if name.starts_with("get_") && owner == NameOwner::Us {
            let line = signature.ident.span().start().line;
            found.push(format!("{}:{line}: {name}: name it after what it returns", file.path));
        }
    });
    found
}

/// No module or directory has a name that says nothing.
fn module_names(file: &RustFile) -> Vec<String> {
    let mut names: Vec<String> =
        file.path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    for item in &file.whole.items {
        if let Item::Mod(module) = item {
            names.push(module.ident.to_string());
        }
    }
    names.retain(|name| EMPTY_NAMES.contains(&name.as_str()));
    let violation =
        |name: &String| format!("{}: `{name}` says nothing: name it after what it owns", file.path);
    names.iter().map(violation).collect()
}

/// `mod.rs` and `lib.rs` declare and re-export: whoever looks for logic looks at names.
fn declarations_only(file: &RustFile) -> Vec<String> {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    if file.is_test || !matches!(name, "mod.rs" | "lib.rs") {
        return Vec::new();
    }
    let is_logic = |item: &&Item| match item {
        Item::Use(_) => false,
        Item::Mod(module) => module.content.is_some(),
        _ => true,
    };
    let violation = |item: &Item| {
        format!(
            "{}:{}: only `mod` and `use` here: give logic a file with a name",
            file.path,
            item.span().start().line
        )
    };
    file.production.items.iter().filter(is_logic).map(violation).collect()
}

/// Who chose a function's name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NameOwner {
    Us,
    /// It implements a trait's function; the trait, if it is ours, is looked at by itself.
    Trait,
}

/// Calls `each` with every function's signature, the span of the whole and who named it.
fn each_function(file: &RustFile, each: impl FnMut(&Signature, Span, NameOwner)) {
    struct Functions<F> {
        each: F,
        owner: NameOwner,
    }
    impl<'ast, F: FnMut(&Signature, Span, NameOwner)> Visit<'ast> for Functions<F> {
        fn visit_item_impl(&mut self, block: &'ast syn::ItemImpl) {
            let owner = if block.trait_.is_some() { NameOwner::Trait } else { NameOwner::Us };
            let outer = std::mem::replace(&mut self.owner, owner);
            visit::visit_item_impl(self, block);
            self.owner = outer;
        }
        fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
            (self.each)(&function.sig, function.span(), NameOwner::Us);
            visit::visit_item_fn(self, function);
        }
        fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
            (self.each)(&function.sig, function.span(), self.owner);
            visit::visit_impl_item_fn(self, function);
        }
        fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
            (self.each)(&function.sig, function.span(), NameOwner::Us);
            visit::visit_trait_item_fn(self, function);
        }
    }
    Functions { each, owner: NameOwner::Us }.visit_file(&file.whole);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        assert_tidy,
        source::{parse, rust_files},
    };

    fn everywhere(rule: fn(&RustFile) -> Vec<String>) {
        assert_tidy(rust_files().iter().flat_map(rule).collect());
    }

    #[test]
    fn every_file_opens_with_a_sentence_that_says_what_it_owns() {
        everywhere(headers);
    }

    #[test]
    fn a_missing_or_empty_header_is_found() {
        for bad in [
            "fn a() {}\n",
            "//! Stuff.\nfn a() {}\n",
            "//! What it owns, but without an end\nfn a() {}\n",
            "// Not a header of the file.\n",
        ] {
            assert_eq!(headers(&parse("a/src/b.rs", bad)).len(), 1, "{bad}");
        }
        let good = "//! The list of volumes: what each\n//! holds.\nfn a() {}\n";
        assert_eq!(headers(&parse("a/src/b.rs", good)), Vec::<String>::new());
    }

    #[test]
    fn no_file_is_longer_than_500_lines_without_tests() {
        everywhere(file_length);
    }

    #[test]
    fn a_file_of_501_lines_is_found_and_its_tests_are_not_counted() {
        let long = "const A: u8 = 1;\n".repeat(501);
        assert_eq!(file_length(&parse("a/src/b.rs", &long)).len(), 1);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "const A: u8 = 1;\n".repeat(600));
        assert_eq!(file_length(&parse("a/src/b.rs", &tests)), Vec::<String>::new());
    }

    #[test]
    fn no_function_is_longer_than_70_lines() {
        everywhere(function_length);
    }

    #[test]
    fn a_function_of_71_lines_is_found_in_tests_and_impls_too() {
        let body = |lines: usize| format!("fn long() {{\n{}}}\n", "let _ = 1;\n".repeat(lines - 2));
        assert_eq!(function_length(&parse("a/src/b.rs", &body(70))), Vec::<String>::new());
        assert_eq!(function_length(&parse("a/src/b.rs", &body(71))).len(), 1);
        let nested = format!(
            "struct S;\nimpl S {{\n{}}}\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            body(71),
            body(72)
        );
        assert_eq!(function_length(&parse("a/src/b.rs", &nested)).len(), 2);
    }

    #[test]
    fn no_function_is_called_get() {
        everywhere(getters);
    }

    #[test]
    fn a_getter_is_found() {
        let bad = "struct S;\nimpl S {\n    fn get_name(&self) {}\n    fn get(&self) {}\n}\n\
                   impl Foreign for S {\n    fn get_state(&self) {}\n}\n";
        assert_eq!(
            getters(&parse("a/src/b.rs", bad)),
            ["a/src/b.rs:3: get_name: name it after what it returns"]
        );
    }

    #[test]
    fn no_module_has_a_name_that_says_nothing() {
        everywhere(module_names);
    }

    #[test]
    fn an_empty_name_is_found_as_file_directory_and_module() {
        for (path, text) in
            [("a/src/utils.rs", ""), ("a/src/common/b.rs", ""), ("a/src/b.rs", "mod types { }")]
        {
            assert_eq!(module_names(&parse(path, text)).len(), 1, "{path}");
        }
    }

    #[test]
    fn mod_rs_and_lib_rs_only_declare() {
        everywhere(declarations_only);
    }

    #[test]
    fn logic_in_mod_rs_is_found() {
        let bad = "//! Head.\nmod a;\npub use a::B;\nconst LIMIT: u8 = 1;\nfn logic() {}\nmod inline { }\n";
        let found = declarations_only(&parse("a/src/b/mod.rs", bad));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("a/src/b/mod.rs:4:"));
        assert_eq!(declarations_only(&parse("a/src/b/named.rs", bad)), Vec::<String>::new());
    }
}
