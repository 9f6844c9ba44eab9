//! Diagnosis of images.

use n2n::diagnose::{Frame, Options, Severity};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::array::{depth, image};
use crate::call;
use crate::error::to_python;

/// A diagnosis: the measurements as JSON, the summary line by line, and each finding with whether it is a warning.
type Report = (String, Vec<String>, Vec<(bool, String)>);

/// Diagnoses images of height × width × channels.
#[pyfunction]
#[pyo3(signature = (images, offset))]
pub fn diagnose(
    py: Python<'_>,
    images: Vec<Bound<'_, PyAny>>,
    offset: Option<f64>,
) -> PyResult<Report> {
    let frames = images.iter().map(|array| {
        let dtype = array.getattr("dtype")?.to_string();
        Ok(Frame::from(&image(array, depth(&dtype)?)?))
    });
    let frames = frames.collect::<PyResult<Vec<_>>>()?;
    let options = Options {
        offset,
        ..Options::default()
    };
    let look = move || n2n::diagnose::diagnose(&frames, &options);
    let diagnosis = call::waited(py, None, look, |_| Ok(()))?.map_err(to_python)?;
    let json = serde_json::to_string(&diagnosis)
        .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    let findings = diagnosis.findings().into_iter().map(|finding| {
        let is_warning = finding.severity() == Severity::Warning;
        (is_warning, finding.to_string())
    });
    Ok((json, diagnosis.summary(), findings.collect()))
}
