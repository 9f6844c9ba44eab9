//! The safetensors format, which n2n writes, and the simplest to read.
//!
//! A length (64 bits), a JSON header of that length with the type, shape and position of each tensor and free text,
//! then the data. <https://github.com/huggingface/safetensors>

use std::collections::BTreeMap;

use crc::{CRC_32_ISO_HDLC, Crc, Table};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::json;

use super::storage::{Budget, Storage, row_major};
use super::{DType, Tensor, Weights};

/// Maximum header size in bytes: a thousand times what the network needs.
const MAX_HEADER: u64 = 8 << 20;

/// The metadata entry with the checksum of the data, in files that have one.
pub(super) const CHECKSUM: &str = "training.crc32";

/// The CRC-32 of zip and PNG.
static CRC_32: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISO_HDLC);

fn checksum(data: &[u8]) -> String {
    format!("{:08x}", CRC_32.checksum(data))
}

/// Whether a file that begins with `head` may be in this format: a plausible length, then a JSON object.
pub(super) fn begins(head: &[u8]) -> bool {
    match head.split_first_chunk() {
        Some((len, rest)) => u64::from_le_bytes(*len) <= MAX_HEADER && rest.first() == Some(&b'{'),
        None => false,
    }
}

/// Reads tensors and free text.
pub(super) fn read(bytes: &[u8]) -> Result<Weights, String> {
    let (header_len, header) =
        SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    // The crate has checked that the tensors fill the rest of the file exactly, without overlap.
    let data = &bytes[size_of::<u64>() + header_len..];
    let metadata: BTreeMap<_, _> = (header.metadata().iter().flatten())
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if let Some(expected) = metadata.get(CHECKSUM) {
        let found = checksum(data);
        if found != *expected {
            return Err(format!(
                "the file is damaged: expected tensors with the checksum {expected}, found {found}"
            ));
        }
    }
    let mut budget = Budget::new(bytes.len());
    let mut tensors = BTreeMap::new();
    for (name, info) in header.tensors() {
        let storage = Storage {
            dtype: match info.dtype {
                Dtype::F16 => DType::F16,
                Dtype::BF16 => DType::BF16,
                Dtype::F32 => DType::F32,
                Dtype::F64 => DType::F64,
                other => return Err(format!("{name:?}: expected floats, found {other}")),
            },
            bytes: &data[info.data_offsets.0..info.data_offsets.1],
        };
        let tensor = storage
            .tensor(0, &info.shape, &row_major(&info.shape), &mut budget)
            .map_err(|reason| format!("{name:?}: {reason}"))?;
        tensors.insert(name, tensor);
    }
    Ok(Weights { tensors, metadata })
}

/// The bytes of a file; equal weights give equal bytes. With `is_checked`, the metadata include a checksum.
///
/// The header is written here because the crate keeps the free text in a `HashMap`, whose order changes from run to
/// run.
pub(super) fn write(
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
    dtype: DType,
    is_checked: bool,
) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = vec![];
    for (name, tensor) in tensors {
        let start = data.len();
        for &value in &tensor.data {
            dtype.put(value, &mut data);
        }
        let place = json!({
            "dtype": dtype.name(),
            "shape": tensor.shape,
            "data_offsets": [start, data.len()],
        });
        header.insert(name.clone(), place);
    }
    let mut metadata = json!(metadata);
    if is_checked {
        metadata[CHECKSUM] = checksum(&data).into();
    }
    header.insert("__metadata__".into(), metadata);
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    // The data begins at a multiple of 8, as the format requires.
    header.resize(header.len().next_multiple_of(8), b' ');

    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(data);
    bytes
}
