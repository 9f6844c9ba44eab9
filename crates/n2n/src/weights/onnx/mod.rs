//! The ONNX format: the weights together with the graph. Written for any inference engine, read back for our own.
//!
//! A protobuf message of operations, named tensors and free text. <https://onnx.ai/onnx/repo-docs/IR.html>

mod graph;
mod read;
mod schema;
mod write;

pub(super) use read::{begins, read};
pub(super) use write::{OPSET, write};
