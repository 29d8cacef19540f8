//! A progress bar for long transfers, when a person looks at stderr.

use std::{io::IsTerminal, sync::Arc};

use indicatif::{ProgressBar, ProgressStyle};

use crate::upload::Progress;

/// Less than this is over before a bar helps.
const WORTH_A_BAR: u64 = 8 << 20;

/// A bar, or nothing.
#[derive(Clone)]
pub(super) struct Bar(Option<Arc<ProgressBar>>);

impl Bar {
    /// For `total` bytes, if known, of something called `name`.
    pub(super) fn new(name: &str, total: Option<u64>) -> Self {
        let is_long = total.is_none_or(|total| total >= WORTH_A_BAR);
        if !is_long || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(name.to_owned());
        Self(Some(Arc::new(bar)))
    }

    /// Bytes done so far.
    pub(super) fn advance(&self, done: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(done);
        }
    }

    /// As what an upload calls.
    pub(super) fn as_progress(&self) -> Option<Progress> {
        let bar = self.0.clone()?;
        Some(Arc::new(move |done| bar.set_position(done)))
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
