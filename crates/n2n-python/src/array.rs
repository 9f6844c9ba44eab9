//! NumPy's arrays as images, and images as arrays: height × width × channels, `uint8`, `uint16` or
//! `float32`, with any strides.

use std::borrow::Cow;

use n2n::Image;
use n2n::denoise::type_name;
use n2n::image::Depth;
use numpy::ndarray::ArrayView3;
use numpy::{Element, PyArray1, PyArray3, PyArrayMethods, PyReadonlyArray3};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::error::to_python;

/// The image in an array whose samples have the type `depth`: `uint8` and `uint16` as they are, all others as
/// `float32`. Samples are copied, so that they do not change while the call is detached from the interpreter. As in
/// NumPy, nothing keeps other threads from writing to the array during the copy.
pub fn image(array: &Bound<'_, PyAny>, depth: Depth) -> PyResult<Image> {
    let image = if let Some(array) = borrowed::<u8>(array)? {
        of_samples(array.as_array(), Image::from_u8)
    } else if let Some(array) = borrowed::<u16>(array)? {
        of_samples(array.as_array(), Image::from_u16)
    } else if let Some(array) = borrowed::<f32>(array)? {
        let image = of_samples(array.as_array(), |height, width, channels, samples| {
            Image::from_f32(height, width, channels, samples.to_vec())
        });
        image.map(|image| Image { depth, ..image })
    } else {
        let expected = "expected an array of uint8, uint16 or float32 with three dimensions";
        Err(PyTypeError::new_err(expected))
    }?;
    if image.depth != depth {
        let (expected, found) = (type_name(depth), type_name(image.depth));
        let words = format!("expected the samples of {expected}, found an array of {found}");
        return Err(PyTypeError::new_err(words));
    }
    Ok(image)
}

/// An image as an array: `uint8` or `uint16` for these depths, `float32` for all others.
pub fn array(py: Python<'_>, image: Image) -> PyResult<Bound<'_, PyAny>> {
    let shape = [image.height, image.width, image.channels];
    match image.depth {
        Depth::U8 => shaped(py, image.to_u8(), shape),
        Depth::U16 => shaped(py, image.to_u16(), shape),
        _ => shaped(py, image.data, shape),
    }
}

/// The depth of a type, by NumPy's name.
pub fn depth(dtype: &str) -> PyResult<Depth> {
    let found = Depth::ALL
        .into_iter()
        .find(|&depth| type_name(depth) == dtype);
    found.ok_or_else(|| {
        let names = Depth::ALL.map(type_name).join(", ");
        PyTypeError::new_err(format!("expected one of {names}, found {dtype}"))
    })
}

/// The samples of an array in the order of its axes.
pub fn bytes(array: &PyReadonlyArray3<'_, u8>) -> Vec<u8> {
    samples(array.as_array()).into_owned()
}

fn borrowed<'py, T: Element>(
    array: &Bound<'py, PyAny>,
) -> PyResult<Option<PyReadonlyArray3<'py, T>>> {
    let Ok(array) = array.cast::<PyArray3<T>>() else {
        return Ok(None);
    };
    let array = array.try_readonly();
    array
        .map(Some)
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

fn of_samples<T: Copy>(
    array: ArrayView3<'_, T>,
    image: impl FnOnce(usize, usize, usize, &[T]) -> n2n::Result<Image>,
) -> PyResult<Image> {
    let (height, width, channels) = array.dim();
    image(height, width, channels, &samples(array)).map_err(to_python)
}

/// The samples of an array in the order of its axes, without a copy if they are stored in that order.
fn samples<T: Copy>(array: ArrayView3<'_, T>) -> Cow<'_, [T]> {
    match array.to_slice() {
        Some(samples) => Cow::Borrowed(samples),
        None => Cow::Owned(array.iter().copied().collect()),
    }
}

fn shaped<T: Element>(
    py: Python<'_>,
    samples: Vec<T>,
    shape: [usize; 3],
) -> PyResult<Bound<'_, PyAny>> {
    Ok(PyArray1::from_vec(py, samples).reshape(shape)?.into_any())
}
