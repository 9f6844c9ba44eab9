//! Reads weights from an ONNX file. Only the graph that is written here is accepted: any other would compute
//! something different from the network that these tensors belong to.

use std::collections::BTreeMap;

use prost::{Message, decode_length_delimiter};

use super::graph::{UNSHUFFLE, graph, unshuffle_filters};
use super::schema::{DataType, GraphProto, ModelProto, TensorProto};
use crate::unet::UNet;
use crate::weights::storage::{Budget, Storage, row_major};
use crate::weights::{DType, FIRST, Tensor, Weights, stated_sizes, with_first_layer};
use crate::words::counted;

/// Maximum size in bytes of everything except tensor values: a hundred times what the network needs. When decoded, an
/// empty operation of two bytes takes a hundred times as much.
const MAX_STRUCTURE: usize = 1 << 20;

/// Whether a file that begins with `head` may be in this format: a small version number as its first field, then
/// another field of the model.
pub(in crate::weights) fn begins(head: &[u8]) -> bool {
    // ir_version; then producer_name, producer_version, domain, model_version, doc_string, graph,
    // opset_import.
    matches!(
        head,
        [
            0x08,
            1..0x80,
            0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42,
            ..
        ]
    )
}

/// Reads tensors and free text.
pub(in crate::weights) fn read(bytes: &[u8]) -> Result<Weights, String> {
    let outline = Outline::of(bytes).ok_or("a truncated or damaged ONNX model")?;
    if outline.structure > MAX_STRUCTURE {
        return Err(foreign(outline.nodes, "it is too large"));
    }
    let model =
        ModelProto::decode(bytes).map_err(|error| format!("a damaged ONNX model: {error}"))?;
    let found = model.graph.ok_or("an ONNX model without a graph")?;
    let entries = model.metadata_props.into_iter();
    let metadata: BTreeMap<_, _> = entries.map(|entry| (entry.key, entry.value)).collect();
    let unet = check(&found, &metadata)?;

    let mut budget = Budget::new(bytes.len());
    let mut tensors = BTreeMap::new();
    for initializer in found.initializer {
        let tensor = tensor(&initializer, &mut budget)
            .map_err(|reason| format!("{:?}: {reason}", initializer.name))?;
        if tensors.insert(initializer.name.clone(), tensor).is_some() {
            return Err(format!("{:?} occurs twice", initializer.name));
        }
    }
    if unet.pixel_shuffle > 1 {
        let (shape, data) = unshuffle_filters(&unet);
        if tensors.remove(UNSHUFFLE) != Some(Tensor { shape, data }) {
            return Err(format!(
                "{UNSHUFFLE:?}: expected filters that turn blocks into pixels"
            ));
        }
    }
    if !metadata.contains_key("format_version") {
        return Err(
            "expected format_version in the metadata, found none; is the file whole?".into(),
        );
    }
    Ok(Weights { tensors, metadata })
}

/// Checks that `found` is the graph that is written here for a network of its sizes.
fn check(found: &GraphProto, metadata: &BTreeMap<String, String>) -> Result<UNet, String> {
    let foreign = |reason: &str| Err(foreign(found.node.len(), reason));
    let first = (found.initializer.iter()).find(|tensor| tensor.name == FIRST);
    let dims = first.and_then(|tensor| {
        let dims = tensor.dims.iter().map(|&n| usize::try_from(n));
        dims.collect::<Result<Vec<_>, _>>().ok()
    });
    let sizes = stated_sizes(metadata).and_then(|stated| with_first_layer(stated, dims.as_deref()));
    let Some(unet) = sizes.map_err(|error| error.to_string())? else {
        return foreign("no tensor enc_conv0.weight of shape [F, C, 3, 3]");
    };
    let expected = graph(&unet);
    for (i, expected) in expected.node.iter().enumerate() {
        let found = found.node.get(i);
        if found != Some(expected) {
            let found = found.map_or("nothing".into(), |node| {
                // A foreign name may be a megabyte of anything.
                let [operator, name] = [&node.op_type, &node.name]
                    .map(|text| text.chars().take(64).collect::<String>());
                format!("{} {name:?}", operator.escape_debug())
            });
            return foreign(&format!(
                "operation {}: expected {} {:?} with its inputs and attributes, found {found}",
                i + 1,
                expected.op_type,
                expected.name,
            ));
        }
    }
    if found.node.len() > expected.node.len() {
        return foreign(&format!("expected {} operations", expected.node.len()));
    }
    if found.input != expected.input || found.output != expected.output {
        return foreign("its input or output differs");
    }
    Ok(unet)
}

fn foreign(nodes: usize, reason: &str) -> String {
    format!(
        "an ONNX model with {} that n2n did not write ({reason}); \
         n2n infer --engine rten runs other models",
        counted(nodes, "operation")
    )
}

fn tensor(initializer: &TensorProto, budget: &mut Budget) -> Result<Tensor, String> {
    if initializer.data_location != 0 {
        return Err("expected its values in this file, found them in another".into());
    }
    if initializer.data_type != i32::from(DataType::Float) {
        let found = initializer.data_type;
        return Err(format!("expected data_type 1 (FLOAT), found {found}"));
    }
    let shape = (initializer.dims.iter())
        .map(|&n| usize::try_from(n))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| format!("expected a shape, found {:?}", initializer.dims))?;
    let bytes = initializer.raw_data.len();
    let expected = (shape.iter()).try_fold(size_of::<f32>(), |bytes, &n| bytes.checked_mul(n));
    if expected != Some(bytes) {
        return Err(format!(
            "expected 4 bytes per value, found shape {shape:?} with {bytes} bytes of raw_data"
        ));
    }
    let storage = Storage {
        dtype: DType::F32,
        bytes: &initializer.raw_data,
    };
    storage.tensor(0, &shape, &row_major(&shape), budget)
}

/// What can be determined about a file without decoding it.
#[derive(Default)]
struct Outline {
    /// Number of operations in the graph.
    nodes: usize,
    /// Bytes other than tensor values.
    structure: usize,
}

impl Outline {
    /// `None` if a field extends beyond the file.
    fn of(model: &[u8]) -> Option<Self> {
        // The field numbers in `ModelProto`, `GraphProto` and `TensorProto`.
        const GRAPH: usize = 7;
        const NODE: usize = 1;
        const INITIALIZER: usize = 5;
        const RAW_DATA: usize = 9;

        let mut nodes = 0;
        let mut values = 0;
        for_each_field(model, |number, graph| match number {
            GRAPH => for_each_field(graph, |number, content| match number {
                NODE => {
                    nodes += 1;
                    Some(())
                }
                INITIALIZER => for_each_field(content, |number, content| {
                    if number == RAW_DATA {
                        values += content.len();
                    }
                    Some(())
                }),
                _ => Some(()),
            }),
            _ => Some(()),
        })?;
        let structure = model.len() - values;
        Some(Self { nodes, structure })
    }
}

/// Visits the fields of a message: their numbers and, if they have a length, the content.
fn for_each_field(
    mut message: &[u8],
    mut visit: impl FnMut(usize, &[u8]) -> Option<()>,
) -> Option<()> {
    while !message.is_empty() {
        let key = decode_length_delimiter(&mut message).ok()?;
        let len = match key & 7 {
            // A varint, read only to skip it.
            0 => {
                decode_length_delimiter(&mut message).ok()?;
                continue;
            }
            1 => size_of::<u64>(),
            2 => decode_length_delimiter(&mut message).ok()?,
            5 => size_of::<u32>(),
            _ => return None,
        };
        let (content, rest) = message.split_at_checked(len)?;
        message = rest;
        if key & 7 == 2 {
            visit(key >> 3, content)?;
        }
    }
    Some(())
}
