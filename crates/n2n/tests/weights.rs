//! Weight files: those that PyTorch, Paddle and safetensors wrote are read to the last bit, ours
//! survive the way to disk and back, and damaged or hostile ones are errors.
//!
//! `tests/golden/weights.py` made the files and `expected.json`.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use n2n::Error;
use n2n::unet::UNet;
use n2n::weights::{DType, Format, Tensor, Weights};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/weights")
        .join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(golden(name)).unwrap()
}

fn decode(bytes: &[u8]) -> n2n::Result<(Weights, Format)> {
    Weights::decode(bytes, Path::new("weights"))
}

fn message<T>(result: n2n::Result<T>) -> String {
    match result {
        Ok(_) => panic!("must be refused"),
        Err(error) => error.to_string(),
    }
}

fn expected() -> BTreeMap<String, BTreeMap<String, Tensor>> {
    let json: serde_json::Value = serde_json::from_slice(&bytes("expected.json")).unwrap();
    let array = |value: &serde_json::Value| value.as_array().unwrap().clone();
    let tensor = |value: &serde_json::Value| Tensor {
        shape: (array(&value["shape"]).iter())
            .map(|n| n.as_u64().unwrap() as usize)
            .collect(),
        data: (array(&value["data"]).iter())
            .map(|x| x.as_f64().unwrap() as f32)
            .collect(),
    };
    let file = |tensors: &serde_json::Value| {
        let tensors = tensors.as_object().unwrap();
        (tensors
            .iter()
            .map(|(name, value)| (name.clone(), tensor(value))))
        .collect()
    };
    let files = json.as_object().unwrap();
    (files
        .iter()
        .map(|(name, value)| (name.clone(), file(value))))
    .collect()
}

/// A network with a different value in every parameter.
fn network(n_feature: usize, n_channel: usize) -> (UNet, Weights) {
    let unet = UNet::new(n_feature, n_channel).unwrap();
    let parameters: Vec<f32> = (0..unet.parameters())
        .map(|i| i as f32 / 64.0 - 9.0)
        .collect();
    (unet, Weights::from_parameters(&unet, &parameters))
}

#[test]
fn every_foreign_file_is_read_to_the_last_bit() {
    let expected = expected();
    assert_eq!(expected.len(), 13);
    for (name, tensors) in expected {
        let (weights, format) = Weights::read_with_format(&golden(&name)).unwrap();
        let by_name = match name.split_once('_') {
            Some(("paddle", _)) => Format::Paddle,
            Some(("torch", rest)) if rest.contains("stream") => Format::TorchStream,
            Some(("torch", _)) => Format::TorchZip,
            _ => Format::Safetensors,
        };
        assert_eq!(format, by_name, "{name}");
        assert_eq!(
            weights.tensors.keys().collect::<Vec<_>>(),
            tensors.keys().collect::<Vec<_>>(),
            "{name}"
        );
        for (key, tensor) in tensors {
            let found = &weights.tensors[&key];
            assert_eq!(found.shape, tensor.shape, "{key} in {name}");
            let bits = |data: &[f32]| data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&found.data), bits(&tensor.data), "{key} in {name}");
        }
    }
}

#[test]
fn arrays_of_numpy_1_have_another_module_name() {
    let new = bytes("paddle_3.pdparams");
    let at = (new.windows(12).position(|window| window == b"numpy._core.")).unwrap();
    let old = [&new[..at], b"numpy.core.", &new[at + 12..]].concat();
    assert_eq!(decode(&old).unwrap(), decode(&new).unwrap());
}

#[test]
fn the_free_text_of_a_foreign_safetensors_file_is_kept() {
    let weights = Weights::read(&golden("python.safetensors")).unwrap();
    assert_eq!(weights.metadata["noise"], "gauss25");
    assert_eq!(weights.metadata.len(), 2);
}

#[test]
fn a_file_that_would_run_a_command_is_refused_and_the_error_names_both() {
    for name in ["hostile.pth", "hostile_2.pdparams", "hostile_4.pdparams"] {
        let message = message(Weights::read(&golden(name)));
        assert!(message.contains("`posix.system`"), "{message}");
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    for name in expected().keys() {
        let bytes = bytes(name);
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{name} cut to {len} bytes");
        }
    }
}

#[test]
fn no_damaged_byte_makes_a_panic_or_more_values_than_the_file_holds() {
    for name in expected().keys() {
        let mut bytes = bytes(name);
        for at in 0..bytes.len() {
            let byte = bytes[at];
            for damage in [
                byte ^ 1,
                byte ^ 0x80,
                byte.wrapping_add(1),
                0,
                0xff,
                b'R',
                b'(',
            ] {
                bytes[at] = damage;
                if let Ok((weights, _)) = decode(&bytes) {
                    let values = (weights.tensors.values().map(|t| t.data.len())).sum::<usize>();
                    assert!(2 * values <= bytes.len(), "{name} with {damage:#x} at {at}");
                }
            }
            bytes[at] = byte;
        }
    }
}

/// A copy of `torch_zip.pth` with its entries changed; those that `change` gives nothing for are
/// left out.
fn rezipped(change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut old = ZipArchive::new(Cursor::new(bytes("torch_zip.pth"))).unwrap();
    let mut new = ZipWriter::new(Cursor::new(vec![]));
    for i in 0..old.len() {
        let mut entry = old.by_index(i).unwrap();
        let name = entry.name().unwrap().into_owned();
        let mut data = vec![];
        entry.read_to_end(&mut data).unwrap();
        if let Some(data) = change(name.strip_prefix("torch_zip/").unwrap(), data) {
            let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
            new.start_file(name, stored).unwrap();
            new.write_all(&data).unwrap();
        }
    }
    new.finish().unwrap().into_inner()
}

#[test]
fn a_zip_file_without_what_its_pickle_refers_to_is_an_error() {
    let whole = rezipped(|_, data| Some(data));
    assert_eq!(
        decode(&whole).unwrap(),
        decode(&bytes("torch_zip.pth")).unwrap()
    );
    // PyTorch before 2.0 wrote no byte order.
    let older = rezipped(|name, data| (name != "byteorder").then_some(data));
    assert_eq!(decode(&older).unwrap(), decode(&whole).unwrap());

    let without = |lost: &str| {
        message(decode(&rezipped(|name, data| {
            (name != lost).then_some(data)
        })))
    };
    assert!(without("data.pkl").contains("without data.pkl"));
    assert!(without("data/0").contains("torch_zip/data/0"));
    let short = rezipped(|name, mut data| {
        data.truncate(if name == "data/0" { 92 } else { data.len() });
        Some(data)
    });
    let message = message(decode(&short));
    assert!(
        message.contains("expected 24 elements of 4 bytes, found 92 bytes"),
        "{message}"
    );
}

#[test]
fn a_size_that_a_zip_file_only_claims_is_not_believed() {
    let mut bytes = bytes("torch_zip.pth");
    let name = b"torch_zip/data/0";
    let at = bytes
        .windows(name.len())
        .rposition(|window| window == name)
        .unwrap();
    // The two sizes in the central directory's entry, which begins 46 bytes before the name.
    bytes[at - 26..at - 18].copy_from_slice(&[0xf0, 0xff, 0xff, 0x7f, 0xf0, 0xff, 0xff, 0x7f]);
    let message = message(decode(&bytes));
    assert!(
        message.contains("it declares 2147483632 bytes"),
        "{message}"
    );
}

#[test]
fn big_endian_data_is_refused() {
    let zip = rezipped(|name, data| {
        Some(if name == "byteorder" {
            b"big".into()
        } else {
            data
        })
    });
    let replaced = |name: &str, old: &[u8], new: &[u8]| {
        let mut bytes = bytes(name);
        let at = bytes
            .windows(old.len())
            .position(|window| window == old)
            .unwrap();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    // The key, its place in the memo, and the value True, which becomes False.
    let stream = replaced(
        "torch_stream.pth",
        b"little_endianq\x02\x88",
        b"little_endianq\x02\x89",
    );
    let paddle = replaced("paddle_3.pdparams", b"X\x01\0\0\0<", b"X\x01\0\0\0>");
    for bytes in [zip, stream, paddle] {
        let message = message(decode(&bytes));
        assert!(message.contains("expected little-endian"), "{message}");
    }
}

#[test]
fn numpy_arrays_of_integers_are_refused_by_type_and_name() {
    let mut bytes = bytes("paddle_3.pdparams");
    let at = bytes.windows(2).position(|window| window == b"f4").unwrap();
    bytes[at] = b'i';
    let message = message(decode(&bytes));
    assert!(
        message.contains("\"conv.weight\"") && message.contains("\"<i4\""),
        "{message}"
    );
}

#[test]
fn a_damaged_value_in_a_zip_file_is_found_by_its_checksum() {
    let mut bytes = bytes("torch_parallel_zip.pth");
    let values = Weights::read(&golden("torch_parallel_zip.pth")).unwrap();
    let first = values.tensors["0.weight"].data[0].to_le_bytes();
    let at = (bytes.windows(4).position(|window| window == first)).unwrap();
    bytes[at] ^= 1;
    assert!(message(decode(&bytes)).contains("checksum"));
}

#[test]
fn our_file_holds_exactly_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (unet, mut weights) = network(2, 1);
    weights
        .metadata
        .insert("noise".into(), "gauss25 \u{1F600}\n\"".into());
    weights.write(&path).unwrap();
    let (read, format) = Weights::read_with_format(&path).unwrap();
    assert_eq!(format, Format::Safetensors);
    assert_eq!(read.tensors, weights.tensors);
    assert_eq!(read.architecture().unwrap(), unet);
    assert_eq!(
        read.metadata
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect::<Vec<_>>(),
        [
            ("format_version", "1"),
            ("n_channel", "1"),
            ("n_feature", "2"),
            ("noise", "gauss25 \u{1F600}\n\""),
        ]
    );
    assert_eq!(
        read.encode(DType::F32).unwrap(),
        std::fs::read(&path).unwrap()
    );
}

#[test]
fn the_safetensors_crate_agrees_on_our_file() {
    let (unet, weights) = network(1, 1);
    let bytes = weights.encode(DType::F32).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), 50);
    for spec in unet.tensors() {
        let view = file.tensor(&spec.name).unwrap();
        assert_eq!(
            (view.shape(), view.dtype()),
            (&*spec.shape, safetensors::Dtype::F32)
        );
        let first = f32::from_le_bytes(view.data()[..4].try_into().unwrap());
        assert_eq!(first, spec.offset as f32 / 64.0 - 9.0, "{}", spec.name);
        assert_eq!(
            view.data().as_ptr() as usize % 4,
            bytes.as_ptr() as usize % 4
        );
    }
}

#[test]
fn half_precision_takes_half_the_room_and_rounds() {
    let (unet, weights) = network(1, 3);
    let whole = weights.encode(DType::F32).unwrap();
    let half = weights.encode(DType::F16).unwrap();
    assert!(whole.len() - half.len() > 2 * unet.parameters() - 500);
    let (read, _) = decode(&half).unwrap();
    let (rounded, exact) = (
        read.to_parameters(&unet).unwrap(),
        weights.to_parameters(&unet).unwrap(),
    );
    for (rounded, exact) in rounded.iter().zip(&exact) {
        assert!(
            (rounded - exact).abs() <= exact.abs() / 2048.0,
            "{exact} became {rounded}"
        );
    }
}

#[test]
fn values_that_are_not_finite_are_neither_written_nor_read() {
    let (_, mut weights) = network(1, 1);
    weights.tensors.get_mut("nin_c.bias").unwrap().data[0] = 70_000.0;
    assert!(weights.encode(DType::F32).is_ok());
    assert!(message(weights.encode(DType::F16)).contains("nin_c.bias"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    weights.tensors.get_mut("nin_c.bias").unwrap().data[0] = f32::NAN;
    assert!(message(weights.write(&path)).contains("NaN"));
    assert!(!path.exists());

    let mut bytes = bytes("torch_stream.pth");
    let at = bytes
        .windows(4)
        .position(|w| w == 0.1f32.to_le_bytes())
        .unwrap();
    bytes[at..at + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let message = message(decode(&bytes));
    assert!(
        message.contains("conv.bias") && message.contains("inf"),
        "{message}"
    );
}

#[test]
fn a_file_of_a_later_version_is_refused() {
    let (_, weights) = network(1, 1);
    let mut bytes = weights.encode(DType::F32).unwrap();
    let key = b"\"format_version\":\"";
    let at = bytes
        .windows(key.len())
        .position(|window| window == key)
        .unwrap()
        + key.len();
    bytes[at] = b'2';
    let message = message(decode(&bytes));
    assert!(
        message.contains("format_version 1 or lower, found \"2\""),
        "{message}"
    );
}

#[test]
fn parameters_keep_the_order_of_the_architecture() {
    for (n_feature, n_channel) in [(1, 1), (2, 3), (5, 4)] {
        let (unet, weights) = network(n_feature, n_channel);
        assert_eq!(weights.architecture().unwrap(), unet);
        let parameters = weights.to_parameters(&unet).unwrap();
        assert_eq!(parameters.len(), unet.parameters());
        for (i, &parameter) in parameters.iter().enumerate() {
            assert_eq!(parameter, i as f32 / 64.0 - 9.0);
        }
    }
}

#[test]
fn sizes_that_are_not_the_papers_are_written_and_read_back() {
    let unet = UNet {
        n_depth: 3,
        head_width: 10,
        pixel_shuffle: 2,
        ..UNet::new(4, 3).unwrap()
    };
    let parameters = vec![0.5; unet.parameters()];
    let mut weights = Weights::from_parameters(&unet, &parameters);
    let (read, _) = decode(&weights.encode(DType::F32).unwrap()).unwrap();
    assert_eq!(read.architecture().unwrap(), unet);
    let said: Vec<_> = read
        .metadata
        .iter()
        .map(|(k, v)| format!("{k} {v}"))
        .collect();
    assert_eq!(
        said,
        [
            "format_version 1",
            "head_width 10",
            "n_channel 3",
            "n_depth 3",
            "n_feature 4",
            "pixel_shuffle 2"
        ]
    );
    // 12 channels of whole pixels and 3 channels in blocks of 2×2 have the same tensors; only the metadata differ.
    for (name, value, part) in [
        (
            "pixel_shuffle",
            "3",
            "expected [F, 9·C, 3, 3], found [4, 12, 3, 3]",
        ),
        ("pixel_shuffle", "5", "pixel_shuffle: expected 1 to 4"),
        ("n_depth", "two", "n_depth: expected a whole number"),
        ("n_depth", "2", "enc_conv4.weight: expected nothing"),
        (
            "head_width",
            "1000000000000",
            "head_width: expected 1 to 1024",
        ),
    ] {
        let right = weights.metadata.insert(name.into(), value.into()).unwrap();
        let error = message(weights.architecture());
        assert!(error.contains(part), "{error}");
        weights.metadata.insert(name.into(), right);
    }
}

#[test]
fn the_weights_of_a_checkpoint_can_be_written_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, alone) = (folder.path().join("a"), folder.path().join("b"));
    let (_, weights) = network(1, 1);
    let training = BTreeMap::from([("first".into(), weights.tensors["nin_c.bias"].clone())]);
    weights.write_with_training(training, &checkpoint).unwrap();
    let (read, _) = Weights::read_with_training(&checkpoint).unwrap();
    read.write_as(&alone, DType::F16).unwrap();
    assert_eq!(
        Weights::read(&alone).unwrap().tensors.len(),
        read.tensors.len()
    );
}

#[test]
fn every_tensor_that_does_not_fit_is_named_with_both_shapes() {
    let (_, mut weights) = network(2, 3);
    weights.tensors.remove("up5.deconv.bias");
    weights.tensors.get_mut("dec_conv5a.weight").unwrap().shape = vec![4, 4, 9];
    weights
        .tensors
        .get_mut("nin_c.bias")
        .unwrap()
        .data
        .push(0.0);
    let surplus = Tensor {
        shape: vec![7],
        data: vec![0.0; 7],
    };
    weights.tensors.insert("enc_conv7.bias".into(), surplus);
    let Err(Error::Mismatch { problems }) = weights.architecture() else {
        panic!("must be refused");
    };
    assert_eq!(
        problems,
        [
            "up5.deconv.bias: expected [2], found nothing",
            "dec_conv5a.weight: expected [4, 4, 3, 3], found [4, 4, 9]",
            "nin_c.bias: expected [3], found 4 values",
            "enc_conv7.bias: expected nothing, found [7]",
        ]
    );
    assert!(weights.encode(DType::F32).is_err());
}

#[test]
fn weights_of_another_size_do_not_fit() {
    let (_, weights) = network(2, 3);
    let other = UNet::new(2, 1).unwrap();
    let Err(Error::Mismatch { problems }) = weights.to_parameters(&other) else {
        panic!("must be refused");
    };
    assert!(
        problems.contains(&"enc_conv0.weight: expected [2, 1, 3, 3], found [2, 3, 3, 3]".into())
    );
}

#[test]
fn sizes_that_cannot_be_are_refused_before_anything_is_made_of_them() {
    let first = |shape: Vec<usize>| {
        let mut weights = Weights::default();
        let data = vec![];
        weights
            .tensors
            .insert("enc_conv0.weight".into(), Tensor { shape, data });
        message(weights.architecture())
    };
    assert!(first(vec![0, 3, 3, 3]).contains("n_feature"));
    assert!(first(vec![1 << 60, 3, 3, 3]).contains("n_feature"));
    assert!(first(vec![48, 65, 3, 3]).contains("n_channel"));
    assert!(first(vec![48, 3, 5, 5]).contains("expected [F, C, 3, 3], found [48, 3, 5, 5]"));
    assert!(message(Weights::default().architecture()).contains("found nothing"));
}

#[test]
fn what_is_not_a_weight_file_is_an_error_that_shows_its_beginning() {
    let refused = |content: &[u8]| message(decode(content));
    assert!(refused(b"").contains("starts with \"\""));
    assert!(refused(b"hello, world\n").contains("starts with \"hello, wo\""));
    assert!(refused(b"\x89PNG\r\n\x1a\n").contains("\\x89PNG"));
    assert!(refused(b"PK\x03\x04").contains("an unreadable zip archive"));
    assert!(message(Weights::read(Path::new("missing.pth"))).contains("missing.pth"));
    assert!(message(Weights::read(&golden(""))).contains("directory"));
}
