//! The network as an ONNX graph: each of the rows of [`UNet::layers`] becomes one operation and its epilogue.
//! Space-to-depth is a convolution before the first row, depth-to-space the operator `DepthToSpace` after the last.
//! A value has the name of the operation that produces it, except for `input` and `output`.

use super::schema::{
    AttributeProto, AttributeType, DataType, Dimension, DimensionValue, GraphProto, NodeProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::unet::{Kind, LEAKY_SLOPE, Layer, Skip, UNet};

const INPUT: &str = "input";
const OUTPUT: &str = "output";
/// The filters that compute space-to-depth.
pub(super) const UNSHUFFLE: &str = "unshuffle.weight";

/// Shape `[r²·C, C, r, r]` and values of [`UNSHUFFLE`]: each output is one channel of one pixel of a block, in the
/// order of ONNX's `SpaceToDepth`.
pub(super) fn unshuffle_filters(unet: &UNet) -> (Vec<usize>, Vec<f32>) {
    let (r, c) = (unet.pixel_shuffle, unet.n_channel);
    let shape = vec![r * r * c, c, r, r];
    let mut values = vec![0.0; r * r * c * c * r * r];
    for place in 0..r * r {
        for channel in 0..c {
            let output = place * c + channel;
            values[(output * c + channel) * r * r + place] = 1.0;
        }
    }
    (shape, values)
}

/// The graph of `unet`, without its tensors.
pub(super) fn graph(unet: &UNet) -> GraphProto {
    let layers = unet.layers();
    let mut nodes = vec![];
    let mut pools: Vec<String> = vec![];
    let mut image = INPUT.to_owned();
    let block = unet.pixel_shuffle as i64;
    if block > 1 {
        // Not every engine has the operator `SpaceToDepth` (rten does not); this gives bit-identical results.
        let inputs = vec![image, UNSHUFFLE.into()];
        let unshuffle = node("Conv", "unshuffle".into(), inputs);
        image = push(&mut nodes, with(unshuffle, convolution(block, 0, block)));
    }
    let mut value = image.clone();
    for layer in &layers {
        if let Some(skip) = layer.skip {
            let second = match skip {
                Skip::Pool(k) => pools[k - 1].clone(),
                Skip::Image => image.clone(),
            };
            let inputs = vec![value, second];
            // Along the channel axis: the order is batch, channel, height, width.
            let concat = node("Concat", format!("{}.concat", layer.name), inputs);
            value = push(&mut nodes, with(concat, vec![int("axis", 1)]));
        }
        value = push(&mut nodes, weighted(layer, value));
        if layer.activation {
            let leaky = node("LeakyRelu", format!("{}.act", layer.name), vec![value]);
            value = push(&mut nodes, with(leaky, vec![float("alpha", LEAKY_SLOPE)]));
        }
        if layer.pool {
            let pool = node("MaxPool", format!("pool{}", pools.len() + 1), vec![value]);
            let halved = vec![
                ints("kernel_shape", [2, 2]),
                ints("pads", [0; 4]),
                ints("strides", [2, 2]),
            ];
            value = push(&mut nodes, with(pool, halved));
            pools.push(value.clone());
        }
    }
    if block > 1 {
        let shuffle = node("DepthToSpace", "shuffle".into(), vec![value]);
        let attributes = vec![int("blocksize", block), text("mode", "DCR")];
        push(&mut nodes, with(shuffle, attributes));
    }
    nodes.last_mut().expect("a node for each row").output = vec![OUTPUT.to_owned()];
    GraphProto {
        node: nodes,
        name: "n2n".into(),
        initializer: vec![],
        input: vec![images(INPUT, unet)],
        output: vec![images(OUTPUT, unet)],
    }
}

/// The convolution of `layer`.
fn weighted(layer: &Layer, value: String) -> NodeProto {
    let (operator, size, pad, stride) = match layer.kind {
        Kind::Conv3x3 => ("Conv", 3, 1, 1),
        Kind::Conv1x1 => ("Conv", 1, 0, 1),
        Kind::Up2x2 => ("ConvTranspose", 2, 0, 2),
    };
    let tensor = |part| format!("{}.{part}", layer.name);
    let inputs = vec![value, tensor("weight"), tensor("bias")];
    let node = node(operator, layer.name.into(), inputs);
    with(node, convolution(size, pad, stride))
}

/// All attributes of a convolution, for runtimes that do not know the defaults.
fn convolution(size: i64, pad: i64, stride: i64) -> Vec<AttributeProto> {
    vec![
        ints("dilations", [1, 1]),
        int("group", 1),
        ints("kernel_shape", [size; 2]),
        ints("pads", [pad; 4]),
        ints("strides", [stride; 2]),
    ]
}

fn node(operator: &str, name: String, input: Vec<String>) -> NodeProto {
    NodeProto {
        input,
        output: vec![name.clone()],
        name,
        op_type: operator.into(),
        attribute: vec![],
        domain: String::new(),
    }
}

fn with(node: NodeProto, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto { attribute, ..node }
}

/// Appends a node and returns the name of its output.
fn push(nodes: &mut Vec<NodeProto>, node: NodeProto) -> String {
    let value = node.output[0].clone();
    nodes.push(node);
    value
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        i: Some(value),
        ..attribute(name, AttributeType::Int)
    }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        f: Some(value),
        ..attribute(name, AttributeType::Float)
    }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        s: Some(value.into()),
        ..attribute(name, AttributeType::String)
    }
}

fn ints<const N: usize>(name: &str, values: [i64; N]) -> AttributeProto {
    AttributeProto {
        ints: values.to_vec(),
        ..attribute(name, AttributeType::Ints)
    }
}

fn attribute(name: &str, r#type: AttributeType) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: r#type.into(),
        ..Default::default()
    }
}

/// Images of any number and size.
fn images(name: &str, unet: &UNet) -> ValueInfoProto {
    let any = |name: &str| DimensionValue::DimParam(name.into());
    let dimensions = [
        any("batch"),
        DimensionValue::DimValue(unet.n_channel as i64),
        any("height"),
        any("width"),
    ];
    let dim = dimensions.map(|value| Dimension { value: Some(value) });
    let tensor = TensorTypeProto {
        elem_type: DataType::Float.into(),
        shape: Some(TensorShapeProto { dim: dim.to_vec() }),
    };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            tensor_type: Some(tensor),
        }),
    }
}
