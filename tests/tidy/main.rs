//! The repository's own rules, held by a test: what every source file looks like, which part may
//! know which, and that the documents say what is there.
//!
//! Each rule is a function from files to violations, with two tests: one over the repository, and
//! one on a made-up bad input, which shows that the rule bites. A violation is one line that names
//! the file, the line and the remedy.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod borders;
mod documents;
mod layout;
mod licences;
mod source;
mod words;

/// Fails with every violation, one a line.
#[track_caller]
fn assert_tidy(violations: Vec<String>) {
    assert!(
        violations.is_empty(),
        "{} untidy place(s):\n{}\n",
        violations.len(),
        violations.join("\n")
    );
}
