//! Whether the tests that need namespaces run: where none can be made they say so and pass, unless
//! `DULSE_RIG=require` makes that an error.

use std::{io::Write, sync::OnceLock};

use crate::network::unavailable;

/// Whether namespaces can be made here. If not, says so past the test runner, which hides what a
/// test that passes prints.
#[must_use]
pub fn namespaces() -> bool {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    let Some(reason) = REASON.get_or_init(unavailable) else {
        return true;
    };
    let is_required = std::env::var("DULSE_RIG").is_ok_and(|value| value == "require");
    assert!(!is_required, "DULSE_RIG=require, but no network namespaces can be made: {reason}");
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let said = format!("\n{test} was NOT run: it needs root, iproute2 and util-linux ({reason})\n");
    // Nobody is there to hear it.
    let _ = std::io::stderr().write_all(said.as_bytes());
    false
}
