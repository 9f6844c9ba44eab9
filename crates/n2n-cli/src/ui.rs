//! The program's output: results to standard output; notes, warnings, errors and progress to standard error.
//!
//! `println!` and `eprintln!` panic if the reader has closed the pipe (`n2n … | head`). Nothing here does.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Where output goes, and how much of it the user wants.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    quiet: bool,
}

impl Ui {
    /// If `quiet`, prints only results, warnings and errors.
    pub fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// Prints a result. A closed pipe is not a failure; any other error is.
    #[allow(clippy::unused_self, reason = "all output goes through a Ui")]
    pub fn result(self, text: impl Display) -> anyhow::Result<()> {
        let mut out = stdout();
        // Another program gets the text unchanged.
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

    /// Prints a line that is worth reading but is not a result.
    pub fn note(self, text: impl Display) {
        if !self.quiet {
            say(text);
        }
    }

    /// Reports a problem that does not stop the work, even if quiet: the user must know what is lost.
    #[allow(clippy::unused_self, reason = "all output goes through a Ui")]
    pub fn warn(self, text: impl Display) {
        say(format_args!("warning: {text}"));
    }

    /// Reports that something could not be done.
    #[allow(clippy::unused_self, reason = "all output goes through a Ui")]
    pub fn error(self, text: impl Display) {
        say(format_args!("error: {text}"));
    }

    /// Writes a result that is a whole file.
    #[allow(clippy::unused_self, reason = "all output goes through a Ui")]
    pub fn result_bytes(self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        out.write_all(bytes)
            .and_then(|()| out.flush())
            .context("standard output")
    }

    /// Whether progress is printed in lines because there is no terminal.
    pub fn wants_lines(self) -> bool {
        !self.quiet && !stderr().is_terminal()
    }

    /// A progress bar over `length` items; hidden if quiet or without a terminal, and cleared when dropped. Print
    /// lines within its `suspend`.
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
    // There is no better place to report that this failed.
    let _ = writeln!(stderr(), "{}", harmless(&text.to_string()));
}

/// The text with control characters escaped: a file name may contain some, and a terminal would obey them.
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

/// `1 image`, `2 images`.
pub fn counted(count: usize, item: &str) -> String {
    format!("{count} {item}{}", if count == 1 { "" } else { "s" })
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
