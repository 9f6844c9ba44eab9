//! The library's errors as Python's exceptions, in the library's words.

use n2n::Error;
use pyo3::PyErr;
use pyo3::exceptions::{
    PyFileNotFoundError, PyInterruptedError, PyMemoryError, PyOSError, PyRuntimeError, PyValueError,
};

/// The exception for an error.
pub fn to_python(error: Error) -> PyErr {
    let words = error.to_string();
    match error {
        Error::Io { path, reason } => match reason.raw_os_error() {
            // Python makes the subclass of it: FileNotFoundError, PermissionError and so on.
            Some(number) => PyOSError::new_err((number, reason.to_string(), path)),
            None => PyOSError::new_err(words),
        },
        Error::UnknownModel { .. } => PyFileNotFoundError::new_err(words),
        Error::OutOfMemory { .. } => PyMemoryError::new_err(words),
        Error::Stopped => PyInterruptedError::new_err(words),
        Error::Value { .. }
        | Error::Image { .. }
        | Error::Weights { .. }
        | Error::Mismatch { .. }
        | Error::Settings { .. }
        | Error::NoFiles { .. } => PyValueError::new_err(words),
        _ => PyRuntimeError::new_err(words),
    }
}
