//! Paddle's files: one pickle that maps names to NumPy arrays, or to (Paddle's own name, array) if the state dict is
//! inside another object.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::pickle::{Global, Id, Pickle, Value};
use super::storage::{Budget, Storage, column_major, row_major};
use super::{DType, Tensor, state_dict};

/// The table from names in the network to Paddle's own names; we need only the former.
const NAME_TABLE: &str = "StructuredToParameterName@@";
/// Says how arrays above 1 GB were split; no tensor of the network comes near.
const PIECES: &str = "UnpackBigParamInfor@@";

/// Reads the tensors; `file_len` is in bytes.
pub(super) fn read(pickle: &Pickle, file_len: usize) -> Result<BTreeMap<String, Tensor>, String> {
    let mut budget = Budget::new(file_len);
    let mut tensors = BTreeMap::new();
    for (name, id) in state_dict::entries(pickle, |id| array(pickle, id).is_some())? {
        match name {
            NAME_TABLE => {}
            PIECES => {
                return Err(format!(
                    "the file contains arrays split into pieces ({PIECES}), which is not supported"
                ));
            }
            _ => {
                let tensor = match array(pickle, id) {
                    Some(array) => tensor(pickle, array, &mut budget),
                    None => Err(pickle.get(id).instead_of("an array")),
                };
                let tensor = tensor.map_err(|reason| format!("{name:?}: {reason}"))?;
                tensors.insert(name.to_owned(), tensor);
            }
        }
    }
    Ok(tensors)
}

/// The state of the NumPy array with this `id`, either alone or after its Paddle name.
fn array(pickle: &Pickle, id: Id) -> Option<Id> {
    match pickle.get(id) {
        Value::Call {
            function: Global::NumpyReconstruct,
            state,
            ..
        } => *state,
        Value::Tuple(pair) => match *pair.as_slice() {
            [name, array] => match (pickle.get(name), pickle.get(array)) {
                (
                    Value::Str(_),
                    Value::Call {
                        function: Global::NumpyReconstruct,
                        state,
                        ..
                    },
                ) => *state,
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// From `(1, shape, dtype, whether Fortran order, bytes)`.
fn tensor(pickle: &Pickle, state: Id, budget: &mut Budget) -> Result<Tensor, String> {
    let &[_, shape, dtype, fortran, data] = pickle.tuple(state)? else {
        return Err("expected an array of 5 fields".into());
    };
    let shape = pickle.sizes(shape)?;
    let dtype = element_type(pickle, dtype)?;
    let strides = match pickle.get(fortran) {
        Value::Bool(false) => row_major(&shape),
        Value::Bool(true) => column_major(&shape),
        other => return Err(other.instead_of("a bool")),
    };
    let expected = (shape.iter())
        .try_fold(dtype.size(), |bytes, &n| bytes.checked_mul(n))
        .ok_or_else(|| format!("shape {shape:?} is too large"))?;
    let bytes = raw_bytes(pickle, data, expected)?;
    if bytes.len() != expected {
        return Err(format!(
            "shape {shape:?} of {} needs {expected} bytes, found {}",
            dtype.name(),
            bytes.len()
        ));
    }
    let storage = Storage {
        dtype,
        bytes: &bytes,
    };
    storage.tensor(0, &shape, &strides, budget)
}

/// From `numpy.dtype("f4", False, True)` with state `(3, "<", …)`.
fn element_type(pickle: &Pickle, id: Id) -> Result<DType, String> {
    let Value::Call {
        function: Global::NumpyDType,
        arguments,
        state: Some(state),
    } = pickle.get(id)
    else {
        return Err(pickle.get(id).instead_of("a dtype"));
    };
    let (&[name, ..], &[_, order, ..]) = (pickle.tuple(*arguments)?, pickle.tuple(*state)?) else {
        return Err("expected a dtype with name and byte order".into());
    };
    match (pickle.str(name)?, pickle.str(order)?) {
        ("f2", "<") => Ok(DType::F16),
        ("f4", "<") => Ok(DType::F32),
        ("f8", "<") => Ok(DType::F64),
        (name, order) => Err(format!(
            "expected little-endian f2, f4 or f8, found {:?}",
            format!("{order}{name}")
        )),
    }
}

/// The bytes of the value, which may also be Latin-1 encoded (protocol 2). Text that cannot be `expected` bytes long
/// is rejected without decoding.
fn raw_bytes<'a>(pickle: &Pickle<'a>, id: Id, expected: usize) -> Result<Cow<'a, [u8]>, String> {
    match pickle.get(id) {
        Value::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
        Value::Call {
            function: Global::Encode,
            arguments,
            ..
        } => {
            let &[text, encoding] = pickle.tuple(*arguments)? else {
                return Err("expected text and its encoding".into());
            };
            let (text, encoding) = (pickle.str(text)?, pickle.str(encoding)?);
            if encoding != "latin1" {
                return Err(format!("expected encoding \"latin1\", found {encoding:?}"));
            }
            // A Latin-1 character takes one or two bytes in UTF-8.
            if !(text.len().div_ceil(2)..=text.len()).contains(&expected) {
                return Err(format!(
                    "expected {expected} bytes as Latin-1 text, found {} bytes of UTF-8",
                    text.len()
                ));
            }
            text.chars()
                .map(|character| {
                    u8::try_from(character).map_err(|_| "text that is not Latin-1".into())
                })
                .collect::<Result<_, String>>()
                .map(Cow::Owned)
        }
        other => Err(other.instead_of("bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::pickle;

    /// `numpy.ndarray` of shape `[2]`, type f2 and the bytes 1 to 4, under the name "a", followed
    /// by `more`.
    fn file(more: &[u8]) -> Vec<u8> {
        let array = b"\x80\x03}X\x01\0\0\0acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\
            K\0\x85C\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nX\x02\0\0\0f2K\0K\x01\x87R(K\x03X\x01\0\0\0<\
            NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89C\x04\x01\x02\x03\x04tbs";
        [array, more, b"."].concat()
    }

    fn names(bytes: &[u8]) -> Result<Vec<String>, String> {
        let tensors = read(&pickle::parse(bytes).unwrap(), bytes.len())?;
        Ok(tensors.into_keys().collect())
    }

    #[test]
    fn the_table_of_names_is_no_tensor() {
        assert_eq!(names(&file(b"")), Ok(vec!["a".into()]));
        let table = file(b"X\x1b\0\0\0StructuredToParameterName@@}s");
        assert_eq!(names(&table), Ok(vec!["a".into()]));
    }

    #[test]
    fn other_entries_among_the_tensors_are_refused_by_name() {
        let error = names(&file(b"X\x15\0\0\0UnpackBigParamInfor@@}s")).unwrap_err();
        assert!(error.contains("UnpackBigParamInfor@@"), "{error}");
        let error = names(&file(b"X\x01\0\0\0eK\x03s")).unwrap_err();
        assert!(
            error.contains("\"e\": expected an array, found an int"),
            "{error}"
        );
    }

    #[test]
    fn the_bytes_must_fill_the_shape() {
        let mut bytes = file(b"");
        let shape = bytes
            .windows(3)
            .position(|window| window == b"K\x02\x85")
            .unwrap();
        bytes[shape + 1] = 3;
        let error = names(&bytes).unwrap_err();
        assert!(error.contains("needs 6 bytes, found 4"), "{error}");
    }
}
