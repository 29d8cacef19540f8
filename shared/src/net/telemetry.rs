//! The log: on stderr, filtered by `RUST_LOG`, as text or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt};

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged unless `RUST_LOG` says otherwise: our own words, and others' when they matter.
const DEFAULT_FILTER: &str = "info,openraft=warn,hyper=warn,reqwest=warn";

/// Colours are for people, and only for those who want them.
fn is_coloured() -> bool {
    let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !is_unwanted && std::io::stderr().is_terminal()
}

/// Starts logging; later calls change nothing.
pub fn init(format: LogFormat) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_coloured())
        .with_target(false);
    let started = match format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().finish().try_init(),
    };
    // Only a second call fails, and the first one's choice stands.
    drop(started);
}
