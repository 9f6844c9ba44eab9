//! What the program says: results to standard output; notes, warnings, errors and progress to
//! standard error.
//!
//! `println!` and `eprintln!` panic when whoever reads them has gone away (`n2n … | head`). Nothing
//! here does.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};

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
        let mut out = stdout();
        // What another program reads is left as it is.
        let written = if out.is_terminal() {
            writeln!(out, "{}", harmless(&text.to_string()))
        } else {
            writeln!(out, "{text}")
        };
        match written {
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

    /// Bytes that were asked for, a file of their own.
    #[allow(clippy::unused_self, reason = "everything is said by a voice")]
    pub fn result_bytes(self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        out.write_all(bytes)
            .and_then(|()| out.flush())
            .context("standard output")
    }

    /// Whether nobody watches: progress is then told in lines.
    pub fn wants_lines(self) -> bool {
        !self.quiet && !stderr().is_terminal()
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
    let _ = writeln!(stderr(), "{}", harmless(&text.to_string()));
}

/// The text without control characters, which a file's name may hold and a terminal would obey.
fn harmless(text: &str) -> String {
    let escape = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    text.chars()
        .fold(String::with_capacity(text.len()), |mut text, c| {
            if escape(c) {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(
            harmless("a\u{1b}[2Jb\rc\n\td\u{e9}"),
            "a\\u{1b}[2Jb\\rc\n\td\u{e9}"
        );
    }
}
