//! ONNX files: what is written holds the weights and the graph of the network, comes back to the
//! last bit, and nothing else is read.

use std::path::Path;

use n2n::Error;
use n2n::cpu::CpuNetwork;
use n2n::unet::UNet;
use n2n::weights::{Format, Weights};

fn network(n_feature: usize, n_channel: usize) -> Weights {
    let unet = UNet::new(n_feature, n_channel).unwrap();
    let mut weights = CpuNetwork::initial(unet, 7).weights();
    for (key, value) in [("noise", "gauss25"), ("training", "epoch 3 of 100")] {
        weights.metadata.insert(key.into(), value.into());
    }
    weights
}

fn decode(bytes: &[u8]) -> n2n::Result<(Weights, Format)> {
    Weights::decode(bytes, Path::new("model.onnx"))
}

fn refused(bytes: &[u8]) -> String {
    match decode(bytes) {
        Ok(_) => panic!("must be refused"),
        Err(error) => error.to_string(),
    }
}

/// A protobuf field that has a length, from the definition of the wire format.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut len = content.len();
    while len >= 0x80 {
        bytes.push(len as u8 | 0x80);
        len >>= 7;
    }
    bytes.push(len as u8);
    bytes.extend(content);
    bytes
}

/// A model of version 8 with this graph.
fn model(graph: &[u8]) -> Vec<u8> {
    [&[0x08, 8], field(7, graph).as_slice()].concat()
}

/// Where `part` first occurs in `bytes`.
fn find(bytes: &[u8], part: &[u8]) -> usize {
    (bytes.windows(part.len()).position(|window| window == part)).expect("the file has it")
}

#[test]
fn what_was_written_comes_back_to_the_last_bit() {
    for (n_feature, n_channel, pixel_range) in
        [(1, 1, "0..1 gray"), (2, 3, "0..1 RGB"), (3, 4, "0..1")]
    {
        let weights = network(n_feature, n_channel);
        let bytes = weights.encode_onnx().unwrap();
        let (read, format) = decode(&bytes).unwrap();
        assert_eq!(format, Format::Onnx);
        assert_eq!(read.tensors, weights.tensors);
        let facts = [
            ("noise", "gauss25"),
            ("training", "epoch 3 of 100"),
            ("format_version", "1"),
            ("n_feature", &n_feature.to_string()),
            ("n_channel", &n_channel.to_string()),
            ("pixel_range", pixel_range),
            ("size_multiple", "32"),
        ];
        assert_eq!(read.metadata.len(), facts.len());
        for (key, value) in facts {
            assert_eq!(read.metadata[key], value, "{key}");
        }
        // Read and written again, it is the same file.
        assert_eq!(read.encode_onnx().unwrap(), bytes);
    }
}

/// A network of other sizes than the paper's, that computes on blocks of pixels.
fn in_blocks() -> Weights {
    let unet = UNet {
        n_depth: 2,
        head_width: 5,
        pixel_shuffle: 2,
        ..UNet::new(2, 3).unwrap()
    };
    CpuNetwork::initial(unet, 7).weights()
}

#[test]
fn the_sizes_of_other_networks_come_back_too() {
    let weights = in_blocks();
    let bytes = weights.encode_onnx().unwrap();
    let (read, _) = decode(&bytes).unwrap();
    assert_eq!(read.tensors, weights.tensors);
    let unet = weights.architecture().unwrap();
    assert_eq!(read.architecture().unwrap(), unet);
    assert_eq!(read.metadata["size_multiple"], "8");
    assert_eq!(read.encode_onnx().unwrap(), bytes);

    // An invalid size in a metadata entry: its key, and its value of one byte.
    let mut damaged = bytes.clone();
    let at = find(&damaged, b"head_width\x12\x01") + b"head_width\x12\x01".len();
    damaged[at] = b'x';
    let error = refused(&damaged);
    assert!(
        error.contains("head_width: expected a whole number, found x"),
        "{error}"
    );

    // A block without one of its pixels.
    let at = find(&bytes, b"unshuffle.weight\x4a");
    let mut damaged = bytes.clone();
    let one = find(&damaged[at..], &1_f32.to_le_bytes());
    damaged[at + one..][..4].fill(0);
    let error = refused(&damaged);
    assert!(
        error.contains("filters that turn blocks into pixels"),
        "{error}"
    );
    // The other order of the channels.
    let mut damaged = bytes;
    let at = find(&damaged, b"DCR");
    damaged[at..][..3].copy_from_slice(b"CRD");
    let error = refused(&damaged);
    assert!(
        error.contains("expected DepthToSpace \"shuffle\""),
        "{error}"
    );
}

#[test]
fn a_file_on_the_disk_is_known_by_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("any.name");
    let weights = network(1, 3);
    weights.write_onnx(&path).unwrap();
    let (read, format) = Weights::read_with_format(&path).unwrap();
    assert_eq!((read.tensors, format), (weights.tensors, Format::Onnx));
}

#[test]
fn only_the_weights_of_a_network_are_written() {
    let mut weights = network(1, 1);
    weights.tensors.remove("nin_c.bias");
    assert!(matches!(weights.encode_onnx(), Err(Error::Mismatch { .. })));
    let mut weights = network(1, 1);
    weights.tensors.get_mut("nin_c.bias").unwrap().data[0] = f32::INFINITY;
    assert!(matches!(weights.encode_onnx(), Err(Error::Value { .. })));
}

#[test]
fn a_file_that_was_cut_short_is_an_error() {
    let bytes = network(1, 1).encode_onnx().unwrap();
    // Every length within the operations and within the metadata, a sample of those between.
    let metadata = bytes.len() - 400;
    let lengths = (0..12_000)
        .chain((12_000..metadata).step_by(997))
        .chain(metadata..bytes.len());
    for len in lengths {
        assert!(decode(&bytes[..len]).is_err(), "cut to {len} bytes");
    }
    decode(&bytes).unwrap();
}

#[test]
fn no_damaged_byte_makes_a_panic_or_another_network() {
    let weights = network(1, 1);
    let unet = weights.architecture().unwrap();
    let mut bytes = weights.encode_onnx().unwrap();
    let places = (0..12_000).step_by(7).chain(bytes.len() - 600..bytes.len());
    let sample = (12_000..bytes.len() - 600).step_by(3989);
    for at in places.chain(sample).collect::<Vec<_>>() {
        let byte = bytes[at];
        for damage in [byte ^ 1, byte ^ 0x80, 0, 0xff] {
            bytes[at] = damage;
            if let Ok((read, _)) = decode(&bytes) {
                // A value, a tensor's name or the metadata may have changed, but no shape.
                if let Ok(found) = read.architecture() {
                    assert_eq!(found, unet, "{damage:#x} at {at}");
                }
            }
        }
        bytes[at] = byte;
    }
}

#[test]
fn another_model_is_an_error_that_says_what_it_is() {
    let relu = field(1, &[field(3, b"first"), field(4, b"Relu")].concat());
    let seven = refused(&model(&relu.repeat(7)));
    assert!(
        seven.contains("model.onnx: an ONNX model with 7 operations that n2n did not write"),
        "{seven}"
    );
    assert!(seven.contains("--engine rten"), "{seven}");
    // An operation replaced within our own file, then an attribute and a connection.
    let bytes = network(1, 1).encode_onnx().unwrap();
    for (ours, theirs, part) in [
        ("MaxPool", "AvgPool", "expected MaxPool \"pool1\""),
        ("alpha", "gamma", "expected LeakyRelu \"enc_conv0.act\""),
        ("pool4", "pool3", "expected MaxPool \"pool4\""),
        ("input", "image", "operation 1: expected Conv \"enc_conv0\""),
        ("batch", "count", "its input or output differs"),
    ] {
        let mut damaged = bytes.clone();
        let at = find(&bytes, ours.as_bytes());
        damaged[at..][..ours.len()].copy_from_slice(theirs.as_bytes());
        let error = refused(&damaged);
        assert!(error.contains(part), "{ours}: {error}");
        assert!(error.contains("n2n did not write"), "{ours}: {error}");
    }
}

#[test]
fn tensors_that_are_not_in_the_file_or_not_f32_are_errors() {
    let bytes = network(1, 1).encode_onnx().unwrap();
    // The first tensor, enc_conv0.weight: name (field 8), then 36 bytes of values (field 9).
    let name = find(
        &bytes,
        &[&[0x42, 16], b"enc_conv0.weight".as_slice(), &[0x4a, 36]].concat(),
    );
    // Before the name stand the dimensions 1, 1, 3, 3 (field 1), and the type (field 2).
    assert_eq!(&bytes[name - 10..name], [8, 1, 8, 1, 8, 3, 8, 3, 16, 1]);

    let with = |at: usize, byte| {
        let mut damaged = bytes.clone();
        damaged[at] = byte;
        refused(&damaged)
    };
    // FLOAT16.
    let error = with(name - 1, 10);
    assert!(
        error.contains("\"enc_conv0.weight\": expected data_type 1 (FLOAT), found 10"),
        "{error}"
    );
    // Values under another field number, that of data_location, are invalid.
    let error = with(name + 18, 14 << 3 | 2);
    assert!(error.contains("damaged"), "{error}");
    // Another field that is not read.
    let error = with(name + 18, 13 << 3 | 2);
    assert!(
        error.contains("shape [1, 1, 3, 3] with 0 bytes of raw_data"),
        "{error}"
    );
    // A file that says its values are elsewhere.
    let dims = find(
        &bytes,
        &[&[0x42, 14], b"enc_conv0.bias".as_slice()].concat(),
    ) - 4;
    let mut damaged = bytes.clone();
    damaged[dims..][..4].copy_from_slice(&[14 << 3, 1, 16, 1]);
    let error = refused(&damaged);
    assert!(
        error.contains("\"enc_conv0.bias\": expected its values in this file"),
        "{error}"
    );
}

#[test]
fn sizes_that_a_file_only_claims_take_no_memory() {
    // A dimension of 2^62 with no values.
    let huge = [0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40];
    let tensor = field(5, &[huge.as_slice(), &field(8, b"x")].concat());
    refused(&model(&tensor));
    // Two million empty operations, which would be a hundred times as large in memory.
    let empty = field(1, b"").repeat(2_000_000);
    let error = refused(&model(&empty));
    assert!(error.contains("2000000 operations"), "{error}");
    // A length beyond the end.
    refused(&[0x08, 8, 7 << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0x07]);
}
