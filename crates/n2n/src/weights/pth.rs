//! PyTorch's files: the zip format (since 1.6) and the earlier stream format.
//!
//! Both contain a pickled state dict whose tensors refer to *storages*, runs of raw elements: entries of the zip
//! archive, or the data after the pickle in the stream. A tensor is a view of its storage with offset, shape and
//! strides. Written from the behavior of `torch/serialization.py`.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{self, Global, Id, Pickle, Value};
use super::storage::{Budget, Storage};
use super::{DType, Tensor, state_dict};

type Tensors = BTreeMap<String, Tensor>;

/// Reads the zip format: `<name>/data.pkl` and one `<name>/data/<key>` per storage.
pub(super) fn read_zip(bytes: &[u8]) -> Result<Tensors, String> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))
        .map_err(|error| format!("an unreadable zip archive: {error}"))?;
    let folder = archive
        .file_names()
        .filter_map(Result::ok)
        .find_map(|name| match name.split_once('/') {
            Some((folder, "data.pkl")) => Some(folder.to_owned()),
            _ => None,
        })
        .ok_or("a zip archive without data.pkl is not a PyTorch file")?;
    let byte_order = format!("{folder}/byteorder");
    if archive.index_for_name(&byte_order).is_some()
        && entry(&mut archive, &byte_order, bytes.len())? != b"little"
    {
        return Err("expected little-endian data, found big-endian".into());
    }

    let pickle = entry(&mut archive, &format!("{folder}/data.pkl"), bytes.len())?;
    let pickle = pickle::parse(&pickle)?;
    let views = views(&pickle)?;
    let mut storages = BTreeMap::new();
    // The total is limited to the length of the file, so that overlapping entries cannot multiply it.
    let mut left = bytes.len();
    for (_, view) in &views {
        if !storages.contains_key(view.storage.key) {
            let name = format!("{folder}/data/{}", view.storage.key);
            let data = entry(&mut archive, &name, left)?;
            left -= data.len();
            storages.insert(view.storage.key, data);
        }
    }
    tensors(&views, bytes.len(), |key| {
        storages.get(key).map(Vec::as_slice)
    })
}

/// Whether `first`, the pickle at the start of a file, is the magic number of the stream format.
pub(super) fn begins_stream(first: &Pickle) -> bool {
    const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
    matches!(first.get(first.root), Value::Int(MAGIC))
}

/// Reads what follows the magic number in the stream format: the pickles of the protocol version, of the machine's
/// properties, of the object and of the list of storage keys; then each storage, as its number of elements (64 bits)
/// and its elements.
pub(super) fn read_stream(mut bytes: &[u8]) -> Result<Tensors, String> {
    let budget = bytes.len();
    let mut next = || -> Result<_, String> {
        let pickle = pickle::parse(bytes)?;
        bytes = &bytes[pickle.end..];
        Ok(pickle)
    };
    let version = next()?;
    if !matches!(version.get(version.root), Value::Int(1001)) {
        return Err("expected version 1001 of PyTorch's stream format".into());
    }
    let machine = next()?;
    if let Value::Dict(facts) = machine.get(machine.root)
        && facts.iter().any(|&(key, value)| {
            matches!(machine.get(key), Value::Str("little_endian"))
                && !matches!(machine.get(value), Value::Bool(true))
        })
    {
        return Err("expected little-endian data, found big-endian".into());
    }
    let object = next()?;
    let keys = next()?;
    let Value::List(ids) = keys.get(keys.root) else {
        return Err(keys.get(keys.root).instead_of("the list of storage keys"));
    };

    let described = storages(&object)?;
    let mut storages = BTreeMap::new();
    for &id in ids {
        let key = keys.str(id)?;
        let storage = described
            .get(key)
            .ok_or_else(|| format!("storage {key:?} does not belong to any tensor"))?;
        let (count, rest) = bytes
            .split_first_chunk()
            .ok_or_else(|| format!("the file ends before storage {key:?}"))?;
        if u64::from_le_bytes(*count) != storage.len as u64 {
            return Err(format!(
                "storage {key:?}: expected {} elements, found {}",
                storage.len,
                u64::from_le_bytes(*count)
            ));
        }
        let (data, rest) = (storage.bytes())
            .and_then(|len| rest.split_at_checked(len))
            .ok_or_else(|| format!("the file ends within storage {key:?}"))?;
        storages.insert(key, data);
        bytes = rest;
    }
    tensors(&views(&object)?, budget, |key| storages.get(key).copied())
}

/// The content of an entry that is stored uncompressed and is not longer than `limit`.
fn entry(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    name: &str,
    limit: usize,
) -> Result<Vec<u8>, String> {
    let wrong = |problem: &dyn std::fmt::Display| format!("{name:?} in the archive: {problem}");
    let entry = archive.by_name(name).map_err(|error| wrong(&error))?;
    if entry.compression() != CompressionMethod::Stored {
        return Err(wrong(&"expected an entry that is not compressed"));
    }
    let size = entry.size();
    if size > limit as u64 {
        return Err(wrong(&format!(
            "it declares {size} bytes, more than the file has"
        )));
    }
    let mut data = Vec::with_capacity(size as usize);
    // Reading to the end makes the archive verify the checksum.
    entry
        .take(size + 1)
        .read_to_end(&mut data)
        .map_err(|error| wrong(&error))?;
    if data.len() as u64 != size {
        return Err(wrong(&format!(
            "expected {size} bytes, found {}",
            data.len()
        )));
    }
    Ok(data)
}

/// A storage, as a tensor refers to it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Described<'a> {
    key: &'a str,
    dtype: DType,
    /// Number of elements.
    len: usize,
}

impl Described<'_> {
    fn bytes(&self) -> Option<usize> {
        self.len.checked_mul(self.dtype.size())
    }
}

/// A tensor as the pickle describes it.
#[derive(Debug)]
struct View<'a> {
    storage: Described<'a>,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// The tensors of the state dict, by name.
fn views<'a>(pickle: &Pickle<'a>) -> Result<Vec<(&'a str, View<'a>)>, String> {
    let is_tensor = |id| {
        matches!(
            pickle.get(id),
            Value::Call {
                function: Global::TorchTensor | Global::TorchParameter,
                ..
            }
        )
    };
    state_dict::entries(pickle, is_tensor)?
        .into_iter()
        .map(|(name, id)| match view(pickle, id) {
            Ok(view) => Ok((name, view)),
            Err(reason) => Err(format!("{name:?}: {reason}")),
        })
        .collect()
}

fn view<'a>(pickle: &Pickle<'a>, id: Id) -> Result<View<'a>, String> {
    let arguments = |id, function| match pickle.get(id) {
        Value::Call {
            function: called,
            arguments,
            ..
        } if *called == function => pickle.tuple(*arguments),
        other => Err(other.instead_of("a tensor")),
    };
    // A parameter is a tensor and a flag that says whether it is trained.
    let tensor = match arguments(id, Global::TorchParameter) {
        Ok(&[tensor, ..]) => tensor,
        _ => id,
    };
    match *arguments(tensor, Global::TorchTensor)? {
        // The rest: the flag for training, hooks, and in newer files metadata.
        [storage, offset, shape, strides, _, _] | [storage, offset, shape, strides, _, _, _] => {
            let Value::Persistent(storage) = pickle.get(storage) else {
                return Err(pickle.get(storage).instead_of("a reference to a storage"));
            };
            Ok(View {
                storage: described(pickle, *storage)?,
                offset: pickle.size(offset)?,
                shape: pickle.sizes(shape)?,
                strides: pickle.sizes(strides)?,
            })
        }
        ref other => Err(format!(
            "expected a tensor of 6 or 7 fields, found {}",
            other.len()
        )),
    }
}

/// Every storage that the pickle refers to, including those outside the state dict.
fn storages<'a>(pickle: &Pickle<'a>) -> Result<BTreeMap<&'a str, Described<'a>>, String> {
    let mut storages = BTreeMap::new();
    for value in pickle.values() {
        if let Value::Persistent(id) = value {
            let storage = described(pickle, *id)?;
            if *storages.entry(storage.key).or_insert(storage) != storage {
                return Err(format!("storage {:?} is described twice", storage.key));
            }
        }
    }
    Ok(storages)
}

/// `("storage", type, key, device, length)`, followed by a view in the stream format.
fn described<'a>(pickle: &Pickle<'a>, id: Id) -> Result<Described<'a>, String> {
    let (dtype, key, len) = match *pickle.tuple(id)? {
        [_, dtype, key, _, len] => (dtype, key, len),
        [_, dtype, key, _, len, view] if matches!(pickle.get(view), Value::None) => {
            (dtype, key, len)
        }
        ref other => {
            return Err(format!(
                "expected a storage of 5 fields, found {} fields or a view of another storage",
                other.len()
            ));
        }
    };
    match pickle.get(dtype) {
        Value::Global(Global::TorchStorage(dtype)) => Ok(Described {
            key: pickle.str(key)?,
            dtype: *dtype,
            len: pickle.size(len)?,
        }),
        other => Err(other.instead_of("a type of storage")),
    }
}

fn tensors<'s>(
    views: &[(&str, View)],
    budget: usize,
    storage: impl Fn(&str) -> Option<&'s [u8]>,
) -> Result<Tensors, String> {
    let mut budget = Budget::new(budget);
    views
        .iter()
        .map(|(name, view)| {
            let mut read = || {
                let key = view.storage.key;
                let bytes = storage(key).ok_or_else(|| format!("storage {key:?} is missing"))?;
                if Some(bytes.len()) != view.storage.bytes() {
                    return Err(format!(
                        "storage {key:?}: expected {} elements of {} bytes, found {} bytes",
                        view.storage.len,
                        view.storage.dtype.size(),
                        bytes.len()
                    ));
                }
                let storage = Storage {
                    dtype: view.storage.dtype,
                    bytes,
                };
                storage.tensor(view.offset, &view.shape, &view.strides, &mut budget)
            };
            match read() {
                Ok(tensor) => Ok(((*name).to_owned(), tensor)),
                Err(reason) => Err(format!("{name:?}: {reason}")),
            }
        })
        .collect()
}
