//! How the program ends other than well: the line it leaves on stderr and its exit code.

use std::{error::Error, process::ExitCode};

/// Why the program ends without success.
#[derive(Debug)]
pub(crate) enum Exit {
    /// clap has its own words, for help and for flags it does not know.
    Clap(clap::Error),
    /// Flags, environment or configuration file cannot be used as they are.
    Usage(String),
    /// What was asked for did not work.
    Failed(String),
    /// Some of it did not work, and was reported where it happened.
    Told,
    /// Ctrl-C.
    Interrupted,
}

impl Exit {
    /// Prints the reason and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Clap(error) => {
                let code = u8::try_from(error.exit_code()).unwrap_or(2);
                // Nowhere to complain when the terminal is gone.
                drop(error.print());
                ExitCode::from(code)
            }
            Self::Usage(reason) => {
                eprintln!("error: {reason}");
                ExitCode::from(2)
            }
            Self::Failed(reason) => {
                eprintln!("error: {reason}");
                ExitCode::FAILURE
            }
            Self::Told => ExitCode::FAILURE,
            Self::Interrupted => ExitCode::from(130),
        }
    }
}

/// An error and what caused it, in one line. A cause that the line already has is left out.
pub(crate) fn one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        #[source]
        source: Option<Box<Layer>>,
    }

    #[test]
    fn an_error_is_one_line_with_every_cause_once() {
        let inner = Layer { text: "no such file", source: None };
        let middle = Layer { text: "cannot read a: no such file", source: Some(Box::new(inner)) };
        let outer = Layer { text: "cannot\nstart", source: Some(Box::new(middle)) };
        assert_eq!(one_line(&outer), "cannot start: cannot read a: no such file");
    }
}
