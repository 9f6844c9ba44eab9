//! What the program says: results to standard output; notes, warnings, errors and progress to
//! standard error.
//!
//! `println!` and `eprintln!` panic when whoever reads them has gone away (`n2n … | head`). Nothing
//! here does.

use std::fmt::Display;
use std::io::{ErrorKind, Write, stderr, stdout};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How much the user wants to hear.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    quiet: bool,
}

impl Ui {
    /// A voice that keeps to results when `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// A line that was asked for. That nobody reads it is no failure, that it is lost is one.
    #[allow(clippy::unused_self, reason = "everything is said by a voice")]
    pub fn result(self, text: impl Display) -> anyhow::Result<()> {
        match writeln!(stdout(), "{text}") {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(error).context("standard output")
            }
            _ => Ok(()),
        }
    }

    /// A line worth reading that is not a result.
    pub fn note(self, text: impl Display) {
        if !self.quiet {
            say(text);
        }
    }

    /// Something went wrong that does not stop the work. Shown even when quiet: what is lost must
    /// be known.
    #[allow(clippy::unused_self, reason = "everything is said by a voice")]
    pub fn warn(self, text: impl Display) {
        say(format_args!("warning: {text}"));
    }

    /// Something asked for could not be done.
    #[allow(clippy::unused_self, reason = "everything is said by a voice")]
    pub fn error(self, text: impl Display) {
        say(format_args!("error: {text}"));
    }

    /// A progress bar over `length` items; hidden when quiet or when nobody watches, gone when
    /// dropped. Lines are printed within its `suspend`.
    pub fn progress(self, length: u64) -> ProgressBar {
        let target = if self.quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} (ETA {eta}) {wide_msg}")
            .expect("a valid template");
        ProgressBar::with_draw_target(Some(length), target).with_style(style)
    }
}

fn say(text: impl Display) {
    // There is no better place to say that this failed.
    let _ = writeln!(stderr(), "{text}");
}
