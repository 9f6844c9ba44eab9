//! The single error type of the library. Variants carry facts and state them in one line; the program adds context and
//! hints.

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Everything that can go wrong with external data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system reported an error for a path.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        // Not named `source`: printing an error with its sources would print it twice.
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
    /// A file that should contain weights does not, or contains something unsupported.
    #[error("{}: {reason}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// An engine could not run a model, or a step failed that no other variant describes.
    #[error("{reason}")]
    Engine {
        /// What happened.
        reason: String,
    },
    /// A device does not work, or has stopped working.
    #[error("{device}: {reason}")]
    Device {
        /// The device.
        device: String,
        /// What happened.
        reason: String,
    },
    /// A device has too little memory for a request.
    #[error(
        "{device} has too little memory for {asked}{}",
        fits.as_ref().map_or(String::new(), |fits| format!("; the largest that fits: {fits}"))
    )]
    OutOfMemory {
        /// The device.
        device: String,
        /// The request.
        asked: String,
        /// The largest request of this kind that fits, if known.
        fits: Option<String>,
    },
    /// Named tensors do not fit the architecture.
    #[error("the weights do not fit the network:{}", list(problems))]
    Mismatch {
        /// One line for each wrong, missing or surplus tensor: name, expected shape, found shape.
        problems: Vec<String>,
    },
    /// A model is neither a file nor a shipped model.
    #[error(
        "{name}: neither a file nor a shipped model; {}",
        if shipped.is_empty() {
            "this build has no shipped models: name a weight file, or build with the feature `models`".into()
        } else {
            format!("shipped models: {shipped}")
        }
    )]
    UnknownModel {
        /// The requested name.
        name: String,
        /// The names of the shipped models; empty if there are none.
        shipped: String,
    },
    /// A folder contains none of the requested files.
    #[error("{}: {expected}", path.display())]
    NoFiles {
        /// The folder.
        path: PathBuf,
        /// What was looked for.
        expected: String,
    },
    /// A value is outside what the operation accepts.
    #[error("{what}: expected {expected}, found {found}")]
    Value {
        /// The name of the value.
        what: String,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A run folder already holds a run.
    #[error("{} already holds a run", path.display())]
    RunExists {
        /// The run folder.
        path: PathBuf,
    },
    /// The checkpoint that a run is resumed from is missing, although others of the run are there.
    #[error(
        "{}: the checkpoint to resume from is missing; the newest other one is {}",
        path.display(),
        newest.display()
    )]
    NoCheckpoint {
        /// The missing file.
        path: PathBuf,
        /// The newest numbered checkpoint or, if there is none, the best.
        newest: PathBuf,
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
    /// A settings file is invalid.
    #[error("{}: {reason}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// Training has diverged: its loss is many times its minimum.
    #[error(
        "training has diverged: the loss is {loss:.1e} at epoch {epoch}, iteration {iteration}; \
         its minimum was {least:.1e}"
    )]
    Diverged {
        /// Epoch, counted from 1.
        epoch: usize,
        /// Iteration within the epoch, counted from 1.
        iteration: usize,
        /// The reconstruction loss of the last step, or of the last few together.
        loss: f64,
        /// The minimum over the rows of the loss table, at least 0.001.
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
        /// The last checkpoint before it, if the run has a folder.
        checkpoint: Option<PathBuf>,
    },
    /// Work was stopped on request, or because concurrent work failed with an error of its own.
    #[error("stopped on request")]
    Stopped,
    /// A run cannot continue: it cannot read an image or write to its folder, its device fails, or it has diverged.
    #[error(
        "{reason}; the checkpoint of epoch {epoch}, iteration {iteration} was kept: {}",
        checkpoint.display()
    )]
    RunEnded {
        /// The reason.
        reason: Box<Error>,
        /// The checkpoint that was kept.
        checkpoint: PathBuf,
        /// Its epoch, counted from 1.
        epoch: usize,
        /// Steps taken in that epoch.
        iteration: usize,
    },
}

impl Error {
    /// An [`Error::Io`] for `path`, for use with `map_err`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        move |reason| Self::Io {
            path: path.as_ref().to_path_buf(),
            reason,
        }
    }

    /// An [`Error::Value`] from anything that can be shown.
    pub fn value(what: impl Display, expected: impl Display, found: impl Display) -> Self {
        Self::Value {
            what: what.to_string(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}

/// One line per problem; for the file of a very different network, only the first few.
fn list(problems: &[String]) -> String {
    const SHOWN: usize = 10;
    let (shown, more) = problems.split_at(problems.len().min(SHOWN));
    let rest = (!more.is_empty()).then(|| format!("and {} more", more.len()));
    let lines = shown.iter().chain(&rest);
    lines.fold(String::new(), |text, line| text + "\n  " + line)
}

/// The result of the fallible functions in this library.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_model_has_a_way_out_without_shipped_models_too() {
        let text = |shipped: &str| {
            let (name, shipped) = ("a".into(), shipped.into());
            Error::UnknownModel { name, shipped }.to_string()
        };
        let start = "a: neither a file nor a shipped model; ";
        assert_eq!(text("b, c"), format!("{start}shipped models: b, c"));
        assert!(text("").starts_with(&format!(
            "{start}this build has no shipped models: name a weight file"
        )));
    }

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
