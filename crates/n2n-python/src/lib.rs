//! The native half of the Python package `n2n`: it converts arrays to images and back, checks what types
//! cannot, and calls the library. What users see is in `python/n2n`.
//!
//! Nothing here relies on the GIL for mutual exclusion: classes are frozen, and what calls share is behind a
//! [`Mutex`](std::sync::Mutex) that is locked only while attached to the interpreter, and never across code that
//! may detach.

#![cfg_attr(not(test), deny(clippy::unwrap_used))]
#![allow(
    clippy::needless_pass_by_value,
    reason = "Python's arguments are taken as values"
)]

mod adapt;
mod array;
mod call;
mod diagnose;
mod error;
mod model;
mod train;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _n2n {
    use std::collections::BTreeMap;

    use n2n::eval::psnr::psnr_db;
    use numpy::PyReadonlyArray3;
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::adapt::adapt;
    #[pymodule_export]
    use crate::diagnose::diagnose;
    #[pymodule_export]
    use crate::model::{Model, Survey};
    #[pymodule_export]
    use crate::train::train;

    use crate::array::bytes;
    use crate::call;
    use crate::error::to_python;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("DEFAULT", n2n::models::DEFAULT)?;
        module.add("GRAY", n2n::models::GRAY)
    }

    /// The shipped models: a dictionary from names to descriptions.
    #[pyfunction]
    fn models() -> BTreeMap<&'static str, &'static str> {
        let shipped = n2n::models::SHIPPED.iter();
        shipped
            .map(|model| (model.name, model.description))
            .collect()
    }

    /// The name of the shipped model with this quality for the same noise as `name`.
    #[pyfunction]
    fn of_quality(name: &str, quality: &str) -> PyResult<&'static str> {
        let quality = quality.parse().map_err(to_python)?;
        n2n::models::of_quality(name, quality).map_err(to_python)
    }

    /// The other shipped models of the same quality and channels.
    #[pyfunction]
    fn others(name: &str) -> Vec<&'static str> {
        n2n::models::others(name).collect()
    }

    /// The PSNR of two 8-bit images of the same shape, in dB.
    #[pyfunction]
    fn psnr(py: Python<'_>, a: PyReadonlyArray3<'_, u8>, b: PyReadonlyArray3<'_, u8>) -> f64 {
        let (a, b) = (bytes(&a), bytes(&b));
        py.detach(|| psnr_db(&a, &b))
    }

    /// The SSIM of two 8-bit images of the same shape, height × width × channels.
    #[pyfunction]
    fn ssim(
        py: Python<'_>,
        a: PyReadonlyArray3<'_, u8>,
        b: PyReadonlyArray3<'_, u8>,
    ) -> PyResult<f64> {
        let &[height, width, channels] = a.as_array().shape() else {
            unreachable!("an array of three dimensions")
        };
        let (a, b) = (bytes(&a), bytes(&b));
        let score = move || n2n::eval::ssim::ssim(&a, &b, height, width, channels);
        call::waited(py, None, score, |_| Ok(()))?.map_err(to_python)
    }
}
