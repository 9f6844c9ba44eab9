//! Training, from arrays or files to a model.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use n2n::train::{Config, Event, Folder, Memory, Source};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use toml::{Table, Value};

use crate::array::{depth, image};
use crate::call;
use crate::error::to_python;
use crate::model::Model;

/// What is reported to Python.
enum Message {
    /// The fraction of the run that has passed, epoch, iteration, and the loss if it is known.
    Step(f64, usize, usize, Option<f64>),
    /// An image is skipped: the reason.
    Skipped(String),
    /// What the user should know.
    Warning(String),
    /// A line of the log.
    Line(String),
}

/// Trains a model on images, or on the images of a folder or of files. `on_event` is called with the kind of the event
/// and its data; the run ends when it returns `False`.
#[pyfunction]
pub fn train(
    py: Python<'_>,
    source: &Bound<'_, PyAny>,
    settings: BTreeMap<String, Bound<'_, PyAny>>,
    threads: Option<usize>,
    on_event: &Bound<'_, PyAny>,
) -> PyResult<Model> {
    let settings = settings
        .iter()
        .map(|(name, value)| Ok((name.clone(), setting(name, value)?)));
    let config = Config::resolve(&[settings.collect::<PyResult<Table>>()?]).map_err(to_python)?;
    let source = to_source(source)?;
    let work = move |report: &mut dyn FnMut(Option<Message>) -> ControlFlow<()>| {
        n2n::train_with(source, &config, &mut |event| {
            report(match event {
                Event::Stepped(step) => {
                    let loss = step.stats.map(|stats| stats.losses.loss_full);
                    Some(Message::Step(step.passed, step.epoch, step.iteration, loss))
                }
                Event::Skipped { error } => Some(Message::Skipped(error.to_string())),
                Event::Constant => {
                    let text = "all pixels have the same value, so there is nothing to learn";
                    Some(Message::Warning(text.into()))
                }
                Event::FailsOnWhole {
                    changes: [whole, parts],
                    patchsize,
                } => Some(Message::Warning(format!(
                    "after an epoch, the network fails on whole images: it changes them by \
                     {whole:.4} (RMS, on a scale of 0 to 1), but parts of {0} × {0} pixels by \
                     {parts:.4}; if that persists, train with patchsize={1}, or with a lower lr",
                    patchsize / 2,
                    2 * patchsize
                ))),
                event => event.line().map(Message::Line),
            })
        })
    };
    let model = call::reported(py, threads, work, |message| {
        let answer = match message {
            Message::Step(passed, epoch, iteration, loss) => {
                on_event.call1(("step", (passed, epoch, iteration, loss)))
            }
            Message::Skipped(why) => on_event.call1(("skipped", why)),
            Message::Warning(text) => on_event.call1(("warning", text)),
            Message::Line(line) => on_event.call1(("line", line)),
        };
        Ok(answer?.unbind())
    })?;
    Ok(Model::new(model.map_err(to_python)?))
}

/// A folder as a string, or a list of files or of images.
pub fn to_source(source: &Bound<'_, PyAny>) -> PyResult<Arc<dyn Source>> {
    if let Ok(folder) = source.extract::<PathBuf>() {
        let folder = Folder::open(&folder, &[]).map_err(to_python)?;
        return Ok(Arc::new(folder));
    }
    if let Ok(paths) = source.extract::<Vec<PathBuf>>() {
        return Ok(Arc::new(Folder::of_files(paths)));
    }
    let mut memory = Memory::default();
    for (place, array) in source.try_iter()?.enumerate() {
        let array = array?;
        let dtype = array.getattr("dtype")?.to_string();
        memory.push(format!("image {place}"), &image(&array, depth(&dtype)?)?);
    }
    Ok(Arc::new(memory))
}

fn setting(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if let Ok(value) = value.extract::<bool>() {
        Ok(Value::Boolean(value))
    } else if let Ok(value) = value.extract::<i64>() {
        Ok(Value::Integer(value))
    } else if let Ok(value) = value.extract::<f64>() {
        Ok(Value::Float(value))
    } else if let Ok(value) = value.extract::<String>() {
        Ok(Value::String(value))
    } else {
        let kind = value.get_type().name()?;
        let words = format!("{name}: expected a number, str or bool, found {kind}");
        Err(PyTypeError::new_err(words))
    }
}
