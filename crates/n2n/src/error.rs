//! The one error type of the library. Variants carry facts; the program adds context and words.

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// What can go wrong with data from outside.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something about a path.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        // Not named `source`: who prints an error with its sources would print it twice.
        reason: std::io::Error,
    },
    /// A file that should be an image could not be decoded, or an image could not be encoded.
    #[error("{}: {reason}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// A file that should hold weights does not, or holds something not understood.
    #[error("{}: {reason}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// What runs a model could not.
    #[error("{reason}")]
    Engine {
        /// Which model, and what happened.
        reason: String,
    },
    /// A device does not work, or no longer.
    #[error("{device}: {reason}")]
    Device {
        /// The device.
        device: String,
        /// What happened, and what can be done.
        reason: String,
    },
    /// A device has not the memory for what it was asked to do.
    #[error(
        "{device} has not the memory for {asked}{}",
        fits.as_ref().map_or(String::new(), |fits| format!("; what fits: {fits}"))
    )]
    OutOfMemory {
        /// The device.
        device: String,
        /// What it was asked to do.
        asked: String,
        /// The largest of the kind that fits, where that is known.
        fits: Option<String>,
    },
    /// Named tensors do not fit the architecture.
    #[error("the weights do not fit the network:{}", list(problems))]
    Mismatch {
        /// One line for each wrong, missing or surplus tensor: name, expected shape, found shape.
        problems: Vec<String>,
    },
    /// A model is neither a file nor one of those that are shipped.
    #[error("{name}: no such file, and no shipped model of that name; shipped: {shipped}")]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// The names there are.
        shipped: String,
    },
    /// A folder holds none of the files that were asked for.
    #[error("{}: {expected}", path.display())]
    Nothing {
        /// The folder.
        path: PathBuf,
        /// What was looked for.
        expected: String,
    },
    /// A value is outside what the operation accepts.
    #[error("{what}: expected {expected}, got {got}")]
    Value {
        /// The name of the value.
        what: String,
        /// What it must be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A run folder already holds a run.
    #[error("{} already holds a run", path.display())]
    RunExists {
        /// The run folder.
        path: PathBuf,
    },
    /// A thread that reads training images could not start, or panicked.
    #[error("reading the training images: {reason}")]
    Loader {
        /// What happened.
        reason: String,
    },
    /// A run folder is in use.
    #[error("another process is training in {}", path.display())]
    RunLocked {
        /// The run folder.
        path: PathBuf,
    },
    /// A file of settings cannot be understood.
    #[error("{}: {reason}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// Training has diverged: its loss is many times what it was.
    #[error(
        "training has diverged: the loss is {loss:.1e} at epoch {epoch}, iteration {iteration}, and was \
         {least:.1e} at its least"
    )]
    Diverged {
        /// Epoch, counted from 1.
        epoch: usize,
        /// Iteration within the epoch, counted from 1.
        iteration: usize,
        /// The reconstruction loss of the last step, or of the last few together.
        loss: f64,
        /// The least that a row of the table of losses has.
        least: f64,
    },
    /// The loss or a gradient of a training step is not a finite number.
    #[error(
        "the loss or a gradient is not finite at epoch {epoch}, iteration {iteration}, on {images}{}",
        checkpoint.as_ref().map_or(String::new(), |path| {
            format!("; the last good checkpoint is {}", path.display())
        })
    )]
    NotFinite {
        /// Epoch, counted from 1.
        epoch: usize,
        /// Iteration within the epoch, counted from 1.
        iteration: usize,
        /// The names of the step's images.
        images: String,
        /// The checkpoint from before it, if the run has a folder.
        checkpoint: Option<PathBuf>,
    },
    /// Work was ended on request, or because work beside it had failed, whose own error says why.
    #[error("stopped on request")]
    Stopped,
    /// A run cannot go on: it cannot write to its folder, its device fails, or it has diverged.
    #[error(
        "{reason}; the checkpoint of epoch {epoch}, iteration {iteration} is kept: {}",
        checkpoint.display()
    )]
    Unsaved {
        /// What is in the way.
        reason: Box<Error>,
        /// The checkpoint that is kept.
        checkpoint: PathBuf,
        /// Its epoch, counted from 1.
        epoch: usize,
        /// Steps taken in that epoch.
        iteration: usize,
    },
}

impl Error {
    /// An [`Error::Io`] for `path`; made for `map_err`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        move |reason| Self::Io {
            path: path.as_ref().to_path_buf(),
            reason,
        }
    }

    /// An [`Error::Value`] from anything that can be shown.
    pub fn value(what: impl Display, expected: impl Display, got: impl Display) -> Self {
        Self::Value {
            what: what.to_string(),
            expected: expected.to_string(),
            got: got.to_string(),
        }
    }
}

/// A line for each problem; of a file for quite another network, for the first of them.
fn list(problems: &[String]) -> String {
    const SHOWN: usize = 10;
    let (shown, more) = problems.split_at(problems.len().min(SHOWN));
    let rest = (!more.is_empty()).then(|| format!("and {} more", more.len()));
    let lines = shown.iter().chain(&rest);
    lines.fold(String::new(), |text, line| text + "\n  " + line)
}

/// The result of everything in this library that can fail.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_lists_ten_problems_at_most() {
        let text = |count: usize| {
            let problems = (1..=count).map(|i| format!("problem {i}")).collect();
            Error::Mismatch { problems }.to_string()
        };
        assert_eq!(
            text(2),
            "the weights do not fit the network:\n  problem 1\n  problem 2"
        );
        assert!(text(10).ends_with("\n  problem 9\n  problem 10"));
        assert!(text(12).ends_with("\n  problem 10\n  and 2 more"));
        assert_eq!(text(12).lines().count(), 12);
    }

    #[test]
    fn an_error_printed_with_its_sources_says_nothing_twice() {
        let error = Error::io("a/path")(std::io::ErrorKind::NotFound.into());
        assert_eq!(error.to_string(), "a/path: entity not found");
        assert!(std::error::Error::source(&error).is_none());
    }
}
