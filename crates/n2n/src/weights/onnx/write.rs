//! Writes weights as the bytes of an ONNX file.

use std::collections::BTreeMap;

use prost::Message;

use super::graph::{UNSHUFFLE, graph, unshuffle_filters};
use super::schema::{
    DataType, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
};
use crate::error::{Error, Result};
use crate::unet::UNet;
use crate::weights::{DType, Weights};

/// The operator set version, and the format version released with it (ONNX 1.12, 2022): old enough for every engine
/// in use, and these operators have not changed since.
pub(in crate::weights) const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

/// Protobuf's own limit, 2 GiB.
const MAX_BYTES: usize = i32::MAX as usize;

/// The bytes of a file; equal weights give equal bytes. The tensors must be those of `unet`.
///
/// `facts` come after the weights' own free text, and [`super::read()`] requires the last of them, so that a file
/// truncated between two entries is not accepted.
pub(in crate::weights) fn write(
    weights: &Weights,
    unet: &UNet,
    facts: &[(&str, String)],
) -> Result<Vec<u8>> {
    let mut metadata: BTreeMap<&str, &str> = (weights.metadata.iter())
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    for (key, _) in facts {
        metadata.remove(key);
    }
    let facts = facts.iter().map(|(key, value)| (*key, value.as_str()));
    let entry = |(key, value): (&str, &str)| StringStringEntryProto {
        key: key.into(),
        value: value.into(),
    };
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "n2n".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: format!(
            "Neighbor2Neighbor image denoiser. Images of {} channel(s), values 0..1; \
             height and width multiples of {}. The result is not clipped.",
            unet.n_channel,
            unet.grid().multiple
        ),
        graph: Some(GraphProto {
            initializer: initializers(weights, unet),
            ..graph(unet)
        }),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: OPSET,
        }],
        metadata_props: metadata.into_iter().chain(facts).map(entry).collect(),
    };
    match model.encoded_len() {
        len if len > MAX_BYTES => {
            let expected = format!("at most {MAX_BYTES} bytes");
            Err(Error::value("the size of an ONNX file", expected, len))
        }
        _ => Ok(model.encode_to_vec()),
    }
}

/// The tensors, in the order of the layers.
fn initializers(weights: &Weights, unet: &UNet) -> Vec<TensorProto> {
    let initializer = |name: String, shape: &[usize], values: &[f32]| {
        let mut raw_data = Vec::with_capacity(size_of_val(values));
        for &value in values {
            DType::F32.put(value, &mut raw_data);
        }
        TensorProto {
            dims: shape.iter().map(|&n| n as i64).collect(),
            data_type: DataType::Float.into(),
            name,
            raw_data,
            data_location: 0,
        }
    };
    let unshuffle = (unet.pixel_shuffle > 1).then(|| {
        let (shape, values) = unshuffle_filters(unet);
        initializer(UNSHUFFLE.into(), &shape, &values)
    });
    let tensors = unet.tensors().into_iter().map(|spec| {
        let values = &weights.tensors[&spec.name].data;
        initializer(spec.name, &spec.shape, values)
    });
    unshuffle.into_iter().chain(tensors).collect()
}
