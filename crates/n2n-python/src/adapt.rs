//! Fitting a model to images.

use std::ops::ControlFlow;

use n2n::adapt::{Config, Event};
use pyo3::prelude::*;

use crate::call;
use crate::error::to_python;
use crate::model::Model;
use crate::train::to_source;

/// What is reported to Python.
enum Message {
    /// The fraction of the budget that has passed.
    Passed(f64),
    /// An image is skipped: the reason.
    Skipped(String),
}

/// A copy of one of the models, fitted to the images of a source: see [`n2n::adapt::adapt`]. `budget` is a time or a
/// number of steps, `range` is `auto` or `MIN,MAX`. `on_event` is called with the kind of the event and its data;
/// learning ends when it returns `False`.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "they are Python's")]
pub fn adapt(
    py: Python<'_>,
    models: Vec<PyRef<'_, Model>>,
    source: &Bound<'_, PyAny>,
    budget: &str,
    range: &str,
    seed: u64,
    threads: Option<usize>,
    on_event: &Bound<'_, PyAny>,
) -> PyResult<Model> {
    let models = models.iter().map(|model| model.get());
    let models = models.collect::<PyResult<Vec<_>>>()?;
    let config = Config {
        budget: budget.parse().map_err(to_python)?,
        range: range.parse().map_err(to_python)?,
        seed,
        ..Config::default()
    };
    let source = to_source(source)?;
    let work = move |report: &mut dyn FnMut(Option<Message>) -> ControlFlow<()>| {
        let models: Vec<_> = models.iter().map(AsRef::as_ref).collect();
        n2n::adapt::adapt(&models, source, &config, &mut |event| {
            report(match event {
                Event::Progress(passed) => Some(Message::Passed(passed)),
                Event::Skipped { error } => Some(Message::Skipped(error.to_string())),
                _ => None,
            })
        })
    };
    let adapted = call::reported(py, threads, work, |message| {
        let answer = match message {
            Message::Passed(passed) => on_event.call1(("passed", passed)),
            Message::Skipped(why) => on_event.call1(("skipped", why)),
        };
        Ok(answer?.unbind())
    })?;
    Ok(Model::new(adapted.map_err(to_python)?.model))
}
