//! The native part of a Python model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use n2n::denoise::{Progress, Scale};
use n2n::image::Depth;
use n2n::weights::{DType, Weights};
use n2n::{DenoiseOptions, Image, Range, Region};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::array::{array, depth, image};
use crate::call::{self, Stop};
use crate::error::to_python;

/// A region of an image as Python passes it: top, left, height, width.
type Rectangle = (usize, usize, usize, usize);

/// Two values in the units of the array, and whether integer results are limited to them.
type Bounds = (f64, f64, bool);

/// A trained network. See `n2n.Model`.
#[pyclass(frozen, module = "n2n._n2n")]
pub struct Model(Mutex<Owned>);

/// A model and the process that made it.
struct Owned {
    model: Arc<n2n::Model>,
    process: u32,
}

impl Model {
    pub fn new(model: n2n::Model) -> Self {
        Self(Mutex::new(Owned {
            model: Arc::new(model),
            process: process::id(),
        }))
    }

    /// The model. In a forked process it is created anew, because a thread that does not exist there may have held the
    /// locks of the old one.
    pub fn get(&self) -> PyResult<Arc<n2n::Model>> {
        // Locked only while attached to the interpreter, so that no fork finds it locked: see `call::POOLS`.
        let mut owned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let process = process::id();
        if owned.process != process {
            let weights = owned.model.weights().clone();
            let model = Arc::new(n2n::Model::from_weights(weights).map_err(to_python)?);
            std::mem::forget(std::mem::replace(&mut owned.model, model));
            owned.process = process;
        }
        Ok(Arc::clone(&owned.model))
    }
}

/// What the calls have in common.
#[derive(FromPyObject)]
struct Settings {
    #[pyo3(attribute)]
    dtype: String,
    #[pyo3(attribute)]
    bounds: Bounds,
    #[pyo3(attribute)]
    strength: f32,
    #[pyo3(attribute)]
    ensemble: bool,
    #[pyo3(attribute)]
    max_memory: u64,
    #[pyo3(attribute)]
    threads: Option<usize>,
}

impl Settings {
    /// The result of `work` on the image in an array with these options, as an array.
    fn run<'py>(
        &self,
        noisy: &Bound<'py, PyAny>,
        on_progress: Option<&Bound<'py, PyAny>>,
        work: impl FnOnce(&Image, &DenoiseOptions) -> n2n::Result<Image> + Send + 'static,
    ) -> PyResult<Bound<'py, PyAny>> {
        let &Self {
            ref dtype,
            bounds,
            strength,
            ensemble,
            max_memory,
            threads,
        } = self;
        let py = noisy.py();
        let depth = depth(dtype)?;
        let noisy = image(noisy, depth)?;
        let scale = to_scale(bounds, depth);
        let stop = Stop::default();
        let asked = stop.asked();
        // The bits of the fraction that is done.
        let fraction = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&fraction);
        let denoise = move || {
            let options = DenoiseOptions {
                strength,
                scale: Some(scale),
                ensemble,
                max_bytes: max_memory,
                on_progress: Some(&|progress: Progress| {
                    told.store(progress.fraction().to_bits(), Ordering::Relaxed);
                    asked()
                }),
                ..DenoiseOptions::default()
            };
            work(&noisy, &options)
        };
        let clean = call::waited(py, threads, denoise, |_| {
            let fraction = f64::from_bits(fraction.load(Ordering::Relaxed));
            on_progress.map_or(Ok(()), |tell| tell.call1((fraction,)).map(drop))
        })?;
        array(py, clean.map_err(to_python)?)
    }
}

#[pymethods]
impl Model {
    #[staticmethod]
    fn load(py: Python<'_>, name_or_file: PathBuf) -> PyResult<Self> {
        let model = py.detach(|| n2n::Model::load(name_or_file));
        model.map(Self::new).map_err(to_python)
    }

    #[staticmethod]
    fn from_bytes(bytes: &[u8]) -> PyResult<Self> {
        let (weights, _) = Weights::decode(bytes, Path::new("model")).map_err(to_python)?;
        let model = n2n::Model::from_weights(weights).map_err(to_python)?;
        Ok(Self::new(model))
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.get()?.weights().encode(DType::F32);
        Ok(PyBytes::new(py, &bytes.map_err(to_python)?))
    }

    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let model = self.get()?;
        py.detach(|| model.save(path)).map_err(to_python)
    }

    #[getter]
    fn channels(&self) -> PyResult<usize> {
        Ok(self.get()?.channels())
    }

    #[getter]
    fn takes_gray(&self) -> PyResult<bool> {
        Ok(self.get()?.takes_gray())
    }

    #[getter]
    fn halo(&self) -> PyResult<usize> {
        Ok(self.get()?.halo())
    }

    #[getter]
    fn multiple(&self) -> PyResult<usize> {
        Ok(self.get()?.multiple())
    }

    #[getter]
    fn metadata(&self) -> PyResult<BTreeMap<String, String>> {
        Ok(self.get()?.metadata().clone())
    }

    fn block_for(&self, region: Rectangle, shape: (usize, usize)) -> PyResult<Rectangle> {
        let seen = self.get()?.block_for(to_region(region), shape);
        Ok((seen.top, seen.left, seen.height, seen.width))
    }

    /// The values that map to the network's 0 and 1 with this `range`: `auto`, `percentile` or `MIN,MAX`. `None` if
    /// images have to be surveyed for it and there is no survey.
    fn bounds(
        &self,
        range: &str,
        dtype: &str,
        survey: Option<&Survey>,
    ) -> PyResult<Option<Bounds>> {
        let (range, depth) = (range.parse::<Range>().map_err(to_python)?, depth(dtype)?);
        let model = self.get()?;
        let scale = match survey {
            Some(survey) => model.scale(range, depth, Some(&survey.locked())),
            None => model.scale(range, depth, None),
        };
        Ok(scale.map(|scale| {
            let in_units = |value| in_units(value, f64::from(depth.unit()));
            (in_units(scale.low), in_units(scale.high), scale.is_limit)
        }))
    }

    #[pyo3(signature = (plane, settings, on_progress))]
    fn denoise<'py>(
        &self,
        plane: &Bound<'py, PyAny>,
        settings: Settings,
        on_progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let model = self.get()?;
        settings.run(plane, on_progress, move |noisy, options| {
            model.denoise_with(noisy, options)
        })
    }

    #[pyo3(signature = (block, origin, shape, region, settings, on_progress))]
    #[allow(clippy::too_many_arguments, reason = "they are Python's")]
    fn denoise_block<'py>(
        &self,
        block: &Bound<'py, PyAny>,
        origin: (usize, usize),
        shape: (usize, usize),
        region: Rectangle,
        settings: Settings,
        on_progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (model, region) = (self.get()?, to_region(region));
        settings.run(block, on_progress, move |noisy, options| {
            model.denoise_block(noisy, origin, shape, region, options)
        })
    }

    fn free_scratch(&self) -> PyResult<()> {
        self.get()?.free_scratch();
        Ok(())
    }
}

/// A summary of the values of some images.
#[pyclass(frozen, module = "n2n._n2n")]
pub struct Survey(Mutex<n2n::denoise::Survey>);

impl Survey {
    fn locked(&self) -> MutexGuard<'_, n2n::denoise::Survey> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Survey {
    #[new]
    fn new() -> Self {
        let survey = n2n::denoise::Survey::new(n2n::denoise::Survey::OF_ALL);
        Self(Mutex::new(survey))
    }

    /// Adds an image, and returns whether further images of its type could add information.
    fn add(&self, plane: &Bound<'_, PyAny>, dtype: &str) -> PyResult<bool> {
        let image = image(plane, depth(dtype)?)?;
        self.locked().add_image(&image).map_err(to_python)
    }
}

fn to_region((top, left, height, width): Rectangle) -> Region {
    Region {
        top,
        left,
        height,
        width,
    }
}

/// A value of the library in the units of an array, with the fewest digits that reproduce it.
fn in_units(value: f32, unit: f64) -> f64 {
    let exact = f64::from(value) * unit;
    let short = (exact as f32).to_string().parse::<f64>();
    short.map_or(exact, |short| {
        if (short / unit) as f32 == value {
            short
        } else {
            exact
        }
    })
}

/// The quotient is exactly the `f32` that the bound was computed from: `f64` is precise enough for both.
fn to_scale((low, high, is_limit): Bounds, depth: Depth) -> Scale {
    let unit = f64::from(depth.unit());
    Scale {
        low: (low / unit) as f32,
        high: (high / unit) as f32,
        is_limit,
    }
}
