//! Models as packages for other programs: a ZIP file with the network as ONNX and the description that the program
//! needs.

use std::fmt::Write as _;
use std::io::{Cursor, Write as _};

use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;

use crate::batch::Batch;
use crate::cpu::CpuNetwork;
use crate::denoise::Transform;
use crate::error::{Error, Result};
use crate::network::Denoise;
use crate::unet::{Grid, UNet};
use crate::weights::Weights;

/// A package of the `BioImage` Model Zoo (<https://bioimage.io>, specification 0.5), which ilastik, deepImageJ,
/// `QuPath` and others run: `rdf.yaml`, the weights, a test image with its result, and documentation.
///
/// `name` is the name of the model. `range` gives the values of an image that map to the network's 0 and 1; the package
/// then scales images by it, and results back. Without it, images must be in 0..1.
///
/// # Errors
/// The weights are not those of a network, state no license under the key `license`, which a package needs, or have a
/// [`Transform`]; or `range` is not finite, or does not begin below its end.
pub fn bioimageio(weights: &Weights, name: &str, range: Option<(f32, f32)>) -> Result<Vec<u8>> {
    check_transform(weights)?;
    if let Some((low, high)) = range
        && !(low < high && (high - low).is_finite())
    {
        let expected = "two finite numbers MIN,MAX with MIN below MAX";
        return Err(Error::value(
            "range of the package",
            expected,
            format!("{low},{high}"),
        ));
    }
    let license = weights.metadata.get("license").ok_or_else(|| {
        Error::value(
            "license of the model",
            "an SPDX identifier, which a bioimage.io package requires",
            "none",
        )
    })?;
    let mut network = CpuNetwork::from_weights(weights)?;
    let unet = weights.architecture()?;
    let (low, high) = range.unwrap_or((0.0, 1.0));
    let scale = |batch: &Batch, gain: f32, offset: f32| Batch {
        data: batch.data.iter().map(|x| gain * x + offset).collect(),
        ..*batch
    };
    let span = high - low;
    let side = side(unet);
    let noise = noise(side, side, unet.n_channel);
    let input = scale(&noise, span, low);
    let output = scale(&network.denoise(&noise)?, span, low);

    let files = [
        ("model.onnx", weights.encode_onnx()?),
        ("test_input.npy", npy(&input)),
        ("test_output.npy", npy(&output)),
        (
            "README.md",
            readme(weights, unet.grid(), name, range).into_bytes(),
        ),
    ];
    let sums = files.each_ref().map(|(_, bytes)| sha256(bytes));
    let description = description(&unet, (name, license), range, &sums, weights);
    let mut all = vec![("rdf.yaml", description.as_bytes())];
    all.extend(files.iter().map(|(name, bytes)| (*name, &bytes[..])));
    zipped(&all)
}

/// A package of darktable's module *neural restore* for its task *denoise*: a `.dtmodel`. Its name in darktable is
/// `denoise n2n`, followed by `name`.
///
/// # Errors
/// The weights are not those of an RGB network, or have a [`Transform`].
pub fn darktable(weights: &Weights, name: &str) -> Result<Vec<u8>> {
    /// Sides of the tiles that darktable cuts, of which it takes the largest that there is memory for.
    const TILES: [usize; 3] = [1024, 768, 512];
    check_transform(weights)?;
    let unet = weights.architecture()?;
    if unet.n_channel != 3 {
        let expected = "3 (RGB), as darktable requires";
        return Err(Error::value(
            "channels of the model",
            expected,
            unet.n_channel,
        ));
    }
    let id = format!("denoise-n2n-{}", identifier(name));
    let config = serde_json::json!({
        "id": id,
        "name": format!("denoise n2n {name}"),
        "description": about(weights, name),
        "task": "denoise",
        "arch": "unet",
        "backend": "onnx",
        "version": "1.0",
        "tiling": true,
        "attributes": {"input_sizes": TILES},
    });
    let config = format!("{config:#}\n");
    let onnx = weights.encode_onnx()?;
    zipped(&[
        (&format!("{id}/config.json"), config.as_bytes()),
        (&format!("{id}/model.onnx"), &onnx),
    ])
}

/// Rejects a model with a transform around its network, which other programs would not apply.
fn check_transform(weights: &Weights) -> Result<()> {
    match Transform::of(&weights.metadata)? {
        None => Ok(()),
        Some(transform) => Err(Error::value(
            "transform of the model",
            "none, because other programs would not apply it (package a model without one, such as the one that \
             this model was adapted from)",
            format!("{} knots", transform.knots().len()),
        )),
    }
}

/// The side of the test image: the smallest with a pixel whose receptive field reaches no edge.
fn side(unet: UNet) -> usize {
    let grid = unet.grid();
    2 * grid.halo + grid.multiple
}

/// Noise from 0 to 1, the same each time.
fn noise(h: usize, w: usize, c: usize) -> Batch {
    let mut state = 1_u32;
    let value = || {
        // Knuth's linear congruential generator; its upper bits are the better ones.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    Batch::new(
        1,
        h,
        w,
        c,
        std::iter::repeat_with(value).take(h * w * c).collect(),
    )
}

/// A NumPy file with the batch in the order batch, channel, height, width (NEP 1).
fn npy(batch: &Batch) -> Vec<u8> {
    let Batch { n, h, w, c, .. } = *batch;
    let header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({n}, {c}, {h}, {w}), }}");
    // Ten bytes precede it and a line feed follows; together they are a multiple of 64.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(format!("{header:<0$}\n", length - 1).bytes());
    for image in batch.data.chunks_exact(h * w * c) {
        for channel in 0..c {
            let plane = image.iter().skip(channel).step_by(c);
            bytes.extend(plane.flat_map(|value| value.to_le_bytes()));
        }
    }
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Lowercase letters, digits and hyphens.
fn identifier(name: &str) -> String {
    let letter = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9') => c,
        _ => '-',
    };
    name.chars().map(letter).collect()
}

/// What the model does, in a line.
fn about(weights: &Weights, name: &str) -> String {
    match weights.metadata.get("noise").map(String::as_str) {
        Some("none") => format!("Neighbor2Neighbor denoiser {name}, trained on noisy images"),
        Some(noise) => format!("Neighbor2Neighbor denoiser {name}, trained on {noise} noise"),
        None => format!("Neighbor2Neighbor denoiser {name}"),
    }
}

fn readme(weights: &Weights, grid: Grid, name: &str, range: Option<(f32, f32)>) -> String {
    let mut text = format!(
        "# {name}\n\n{}. The network is a U-Net like that of T. Huang et al., \"Neighbor2Neighbor: \
         Self-Supervised Denoising from Single Noisy Images\", CVPR 2021; it was trained on noisy \
         images alone.\n\n## Images\n\n",
        about(weights, name)
    );
    let _ = match range {
        Some((low, high)) => writeln!(
            text,
            "Values {low} to {high}, in the units of the images, map to the network's 0 to 1; the \
             package scales them."
        ),
        None => writeln!(text, "Image values must be in the range 0 to 1."),
    };
    let _ = writeln!(
        text,
        "The height and width of an image must be multiples of {}. A tile that begins and ends at such multiples \
         depends on up to {} more pixels on every side.\n\n## Validation\n\n\
         Compare results with the noisy images: what was removed has to look like noise, without a trace of \
         the structures in the image. Where a clean image exists, compare with that.\n\n## Metadata\n",
        grid.multiple, grid.halo
    );
    for (key, value) in &weights.metadata {
        let _ = writeln!(text, "- {key}: {}", value.replace('\n', " "));
    }
    text
}

/// The name of the model, with characters that the zoo does not allow replaced by hyphens.
fn title(name: &str) -> String {
    let allowed = |c: char| {
        if c.is_alphanumeric() || "_+- ()".contains(c) {
            c
        } else {
            '-'
        }
    };
    format!("n2n {name}").trim().chars().map(allowed).collect()
}

/// `rdf.yaml`. Strings are JSON's, which YAML reads.
fn description(
    unet: &UNet,
    (name, license): (&str, &str),
    range: Option<(f32, f32)>,
    [onnx, input, output, readme]: &[String; 4],
    weights: &Weights,
) -> String {
    // Only one identifier is allowed, and any of several alternatives may be chosen. The README has all of them.
    let license = license.split(" OR ").next().unwrap_or(license).trim();
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let author = weights.metadata.get("author").map_or("n2n", String::as_str);
    let channels = match unet.n_channel {
        1 => "[gray]".into(),
        3 => "[red, green, blue]".into(),
        count => {
            let names: Vec<_> = (1..=count).map(|i| format!("channel{i}")).collect();
            format!("[{}]", names.join(", "))
        }
    };
    let (low, high) = range.unwrap_or((0.0, 1.0));
    let (low, span) = (f64::from(low), f64::from(high) - f64::from(low));
    let scaled = |step: &str, gain: f64, offset: f64| {
        if range.is_none() {
            return String::new();
        }
        format!(
            "\n  {step}:\n  - id: scale_linear\n    kwargs:\n      gain: {gain:?}\n      offset: {offset:?}"
        )
    };
    // Without the sign of a zero.
    let before = scaled("preprocessing", 1.0 / span, 0.0 - low / span);
    let behind = scaled("postprocessing", span, low);
    let Grid { multiple, halo } = unet.grid();
    let side = side(*unet);
    format!(
        "format_version: 0.5.3
type: model
name: {title}
description: {about}
authors:
- name: {author}
cite:
- text: {paper}
  url: https://arxiv.org/abs/2101.02824
license: {license}
tags: [denoising, self-supervised, unet, n2n]
documentation:
  source: README.md
  sha256: {readme}
inputs:
- id: noisy
  description: \"The noisy image\"
  axes:
  - type: batch
  - type: channel
    channel_names: {channels}
  - type: space
    id: y
    size: {{min: {side}, step: {multiple}}}
  - type: space
    id: x
    size: {{min: {side}, step: {multiple}}}
  data:
    type: float32
    range: [{low:?}, {end:?}]
  test_tensor:
    source: test_input.npy
    sha256: {input}{before}
outputs:
- id: denoised
  description: \"The denoised image\"
  axes:
  - type: batch
  - type: channel
    channel_names: {channels}
  - type: space
    id: y
    halo: {halo}
    size: {{tensor_id: noisy, axis_id: y}}
  - type: space
    id: x
    halo: {halo}
    size: {{tensor_id: noisy, axis_id: x}}
  data:
    type: float32
  test_tensor:
    source: test_output.npy
    sha256: {output}{behind}
weights:
  onnx:
    source: model.onnx
    sha256: {onnx}
    opset_version: {opset}
",
        about = quoted(&about(weights, name)),
        title = quoted(&title(name)),
        author = quoted(author),
        paper = quoted("Huang et al., Neighbor2Neighbor, CVPR 2021"),
        license = quoted(license),
        end = low + span,
        opset = Weights::ONNX_OPSET,
    )
}

/// A ZIP file, the same for the same content.
fn zipped(files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let failed = |error: &dyn std::fmt::Display| Error::Engine {
        reason: format!("packing the model: {error}"),
    };
    for (name, bytes) in files {
        let options =
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file(*name, options).map_err(|e| failed(&e))?;
        zip.write_all(bytes).map_err(|e| failed(&e))?;
    }
    Ok(zip.finish().map_err(|e| failed(&e))?.into_inner())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn weights(channels: usize) -> Weights {
        let unet = UNet::new(2, channels).unwrap();
        let mut weights = CpuNetwork::initial(unet, 1).weights();
        let entries = [("license", "MIT OR Apache-2.0"), ("noise", "gauss25")];
        for (key, value) in entries {
            weights.metadata.insert(key.into(), value.into());
        }
        weights
    }

    fn file(package: &[u8], name: &str) -> Vec<u8> {
        let mut zip = zip::ZipArchive::new(Cursor::new(package)).unwrap();
        let mut bytes = vec![];
        zip.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// The values of an array, which follow a header of two lines of 64 bytes.
    fn values(npy: &[u8]) -> Vec<f32> {
        let floats = npy[128..].as_chunks().0.iter();
        floats.map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }

    #[test]
    fn a_package_of_bioimage_io_has_what_its_description_says() {
        let weights = weights(1);
        let package = bioimageio(&weights, "cells", Some((100.0, 4100.0))).unwrap();
        let side = side(weights.architecture().unwrap());
        assert_eq!(
            package,
            bioimageio(&weights, "cells", Some((100.0, 4100.0))).unwrap()
        );
        let said = String::from_utf8(file(&package, "rdf.yaml")).unwrap();
        for name in [
            "model.onnx",
            "test_input.npy",
            "test_output.npy",
            "README.md",
        ] {
            let sum = sha256(&file(&package, name));
            assert!(
                said.contains(&format!("source: {name}\n    sha256: {sum}"))
                    || said.contains(&format!("source: {name}\n  sha256: {sum}")),
                "{name}"
            );
        }
        for line in [
            "name: \"n2n cells\"",
            "license: \"MIT\"",
            "channel_names: [gray]",
            "gain: 0.00025",
            "offset: -0.025",
            "gain: 4000.0",
            "offset: 100.0",
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
        // In counts before the network, in its 0..1 inside it, and in counts again after it.
        let (input, output) = (
            file(&package, "test_input.npy"),
            file(&package, "test_output.npy"),
        );
        let header = String::from_utf8_lossy(&input[10..128]).into_owned();
        assert!(
            header.contains(&format!("'shape': (1, 1, {side}, {side}), }}"))
                && header.ends_with('\n')
        );
        let input = values(&input);
        let data = input.iter().map(|x| (x - 100.0) / 4000.0).collect();
        let mut network = CpuNetwork::from_weights(&weights).unwrap();
        let result = network
            .denoise(&Batch::new(1, side, side, 1, data))
            .unwrap();
        for (got, want) in values(&output).iter().zip(&result.data) {
            assert!((got - (100.0 + 4000.0 * want)).abs() < 0.01, "{got} {want}");
        }
    }

    #[test]
    fn the_description_says_what_the_model_was_trained_on() {
        let mut weights = weights(3);
        let described = |weights: &Weights| {
            let package = bioimageio(weights, "cells", None).unwrap();
            let readme = String::from_utf8(file(&package, "README.md")).unwrap();
            let said = String::from_utf8(file(&package, "rdf.yaml")).unwrap();
            let config = file(
                &darktable(weights, "cells").unwrap(),
                "denoise-n2n-cells/config.json",
            );
            let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
            let about = about(weights, "cells");
            assert_eq!(config["description"], about);
            assert!(
                readme.starts_with(&format!("# cells\n\n{about}. ")),
                "{readme}"
            );
            assert!(
                said.contains(&format!("description: \"{about}\"\n")),
                "{said}"
            );
            about
        };
        let cells = "Neighbor2Neighbor denoiser cells";
        assert_eq!(
            described(&weights),
            format!("{cells}, trained on gauss25 noise")
        );
        weights.metadata.insert("noise".into(), "none".into());
        assert_eq!(
            described(&weights),
            format!("{cells}, trained on noisy images")
        );
        weights.metadata.remove("noise");
        assert_eq!(described(&weights), cells);
    }

    #[test]
    fn without_a_license_there_is_no_package() {
        let mut weights = weights(3);
        weights.metadata.remove("license");
        let error = bioimageio(&weights, "a", None).unwrap_err().to_string();
        assert!(
            error.starts_with("license of the model: expected an SPDX identifier"),
            "{error}"
        );
    }

    #[test]
    fn a_model_with_a_transform_is_not_packaged() {
        let mut weights = weights(3);
        let identity = "0,0,0 1,1,1";
        weights.metadata.insert("transform".into(), identity.into());
        for package in [bioimageio(&weights, "a", None), darktable(&weights, "a")] {
            let error = package.unwrap_err().to_string();
            assert!(
                error.starts_with("transform of the model: expected none")
                    && error.ends_with("found 2 knots"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_invalid_range_is_refused() {
        let nan = f32::NAN;
        for (low, high) in [
            (1.0, 1.0),
            (2.0, 1.0),
            (nan, 1.0),
            (0.0, nan),
            (0.0, f32::INFINITY),
            (-3e38, 3e38),
        ] {
            let error = bioimageio(&weights(1), "a", Some((low, high))).unwrap_err();
            let error = error.to_string();
            assert!(
                error.starts_with("range of the package: expected two"),
                "{error}"
            );
        }
    }

    #[test]
    fn darktable_takes_rgb_alone() {
        let package = darktable(&weights(3), "My model_2").unwrap();
        let config = file(&package, "denoise-n2n-my-model-2/config.json");
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(
            (&config["id"], &config["task"]),
            (&"denoise-n2n-my-model-2".into(), &"denoise".into())
        );
        let onnx = file(&package, "denoise-n2n-my-model-2/model.onnx");
        assert_eq!(onnx, weights(3).encode_onnx().unwrap());
        let error = darktable(&weights(1), "a").unwrap_err().to_string();
        assert!(
            error.contains("expected 3 (RGB), as darktable requires, found 1"),
            "{error}"
        );
    }
}
