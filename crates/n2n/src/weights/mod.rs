//! Named tensors, and the files that store them.
//!
//! n2n writes safetensors, and ONNX for other engines. It also reads what PyTorch and Paddle write for this network,
//! so that published weights can be used directly. A file is untrusted input: reading it executes nothing, takes
//! memory in proportion to its length, and fails with an error that says what is wrong.

mod dtype;
mod gray;
mod onnx;
mod pdparams;
mod pickle;
mod pth;
mod safetensors;
mod state_dict;
mod storage;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

pub use dtype::DType;

use crate::error::{Error, Result};
use crate::files;
use crate::unet::UNet;

/// One tensor: its shape in PyTorch's order and its values, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The values, as many as the product of the dimensions.
    pub data: Vec<f32>,
}

/// The weights of a network, by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights {
    /// The tensors.
    pub tensors: BTreeMap<String, Tensor>,
    /// Free text by key: noise, training summary. Files written here also have `format_version`, `n_feature` and
    /// `n_channel`, and the sizes that differ from the paper's ([`UNet::non_default_sizes`]), which are read back.
    pub metadata: BTreeMap<String, String>,
}

/// The formats of weight files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The format that n2n writes.
    Safetensors,
    /// The weights together with the network's graph; also written here.
    Onnx,
    /// `torch.save` since PyTorch 1.6.
    TorchZip,
    /// `torch.save` before PyTorch 1.6.
    TorchStream,
    /// `paddle.save`.
    Paddle,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::Onnx => "ONNX",
            Self::TorchZip => "PyTorch .pth (zip)",
            Self::TorchStream => "PyTorch .pth (stream)",
            Self::Paddle => "Paddle .pdparams",
        })
    }
}

impl Weights {
    /// The version of the metadata conventions; files with a later version are rejected.
    pub const FORMAT_VERSION: u32 = 1;

    /// The version of the operators of an ONNX file.
    pub const ONNX_OPSET: i64 = onnx::OPSET;

    /// Reads a file: safetensors, ONNX as written here, PyTorch `.pth` (zip or stream format), Paddle `.pdparams`.
    /// The format is detected from the content.
    ///
    /// Elements are converted to `f32`. Non-finite elements are an error, as is a file larger than the largest
    /// network. A `module.` prefix on all names is removed.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_with_format(path).map(|(weights, _)| weights)
    }

    /// [`Weights::read`], which also returns the format.
    pub fn read_with_format(path: &Path) -> Result<(Self, Format)> {
        Self::decode(&read_bytes(path)?, path)
    }

    /// [`Weights::read`] for the content of a file; `path` names it in errors.
    pub fn decode(bytes: &[u8], path: &Path) -> Result<(Self, Format)> {
        let (mut weights, format) = decode(bytes).map_err(|reason| Error::Weights {
            path: path.into(),
            reason,
        })?;
        (weights.tensors).retain(|name, _| !name.starts_with(TRAINING));
        (weights.metadata).retain(|key, _| !key.starts_with(TRAINING));
        Ok((weights, format))
    }

    /// [`Weights::read`] for a checkpoint: returns the weights and the tensors that only training needs, without the
    /// `training.` prefix that their names have in the file.
    pub fn read_with_training(path: &Path) -> Result<(Self, BTreeMap<String, Tensor>)> {
        let bytes = read_bytes(path)?;
        let (mut weights, _) = decode(&bytes).map_err(|reason| Error::Weights {
            path: path.into(),
            reason,
        })?;
        let (training, own) = std::mem::take(&mut weights.tensors)
            .into_iter()
            .partition(|(name, _)| name.starts_with(TRAINING));
        weights.tensors = own;
        // It is that of all tensors of the file, and would be wrong for these.
        weights.metadata.remove(safetensors::CHECKSUM);
        let bare = |(name, tensor): (String, Tensor)| (name[TRAINING.len()..].to_owned(), tensor);
        Ok((weights, BTreeMap::into_iter(training).map(bare).collect()))
    }

    /// [`Weights::write`] with additional tensors that only training needs; reading the file as weights skips them. The
    /// file has a checksum of all tensors, and a damaged one cannot be read.
    pub fn write_with_training(
        &self,
        training: BTreeMap<String, Tensor>,
        path: &Path,
    ) -> Result<()> {
        let mut all = self.clone();
        all.metadata.extend(self.own_facts(DType::F32)?);
        (all.tensors).extend(
            training
                .into_iter()
                .map(|(k, v)| (format!("{TRAINING}{k}"), v)),
        );
        let bytes = safetensors::write(&all.tensors, &all.metadata, DType::F32, true);
        files::write_atomically(path, |file| file.write_all(&bytes).map_err(Error::io(path)))
    }

    /// Writes safetensors, whole or not at all.
    ///
    /// The tensors must be those of a network; otherwise the result is [`Error::Mismatch`]. Values that are not finite
    /// give [`Error::Value`]. Equal weights give equal bytes.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.write_as(path, DType::F32)
    }

    /// [`Weights::write`] with a different element type: [`DType::F16`] halves the file and keeps 11 bits of each
    /// value. Values that are too large for the type give [`Error::Value`], too.
    pub fn write_as(&self, path: &Path, dtype: DType) -> Result<()> {
        let bytes = self.encode(dtype)?;
        files::write_atomically(path, |file| file.write_all(&bytes).map_err(Error::io(path)))
    }

    /// The content of the file that [`Weights::write_as`] writes.
    pub fn encode(&self, dtype: DType) -> Result<Vec<u8>> {
        let mut metadata = self.metadata.clone();
        metadata.extend(self.own_facts(dtype)?);
        // Without a checksum: if another program changed the tensors and copied the metadata, it would be wrong.
        Ok(safetensors::write(&self.tensors, &metadata, dtype, false))
    }

    /// The facts that the file will state about its network, if it can be written.
    fn own_facts(&self, dtype: DType) -> Result<impl Iterator<Item = (String, String)>> {
        let facts = Self::facts(&self.writable_as(dtype)?);
        Ok(facts
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value)))
    }

    /// Writes ONNX, whole or not at all: the network as a graph, for any inference engine.
    ///
    /// Opset 17, all in `f32`. The input `input` and the output `output` have the shape `[batch, C, height, width]` for
    /// any batch, height and width, the last two multiples of the network's
    /// [`Grid::multiple`](crate::unet::Grid::multiple). Tensors keep their names; the metadata are those of [`Weights`],
    /// plus `pixel_range` and `size_multiple`. The tensors must be those of a network; otherwise the result is
    /// [`Error::Mismatch`]. Values that are not finite give [`Error::Value`]. Equal weights give equal bytes.
    pub fn write_onnx(&self, path: &Path) -> Result<()> {
        let bytes = self.encode_onnx()?;
        files::write_atomically(path, |file| file.write_all(&bytes).map_err(Error::io(path)))
    }

    /// The content of the file that [`Weights::write_onnx`] writes.
    pub fn encode_onnx(&self) -> Result<Vec<u8>> {
        let unet = self.writable_as(DType::F32)?;
        let pixel_range = match unet.n_channel {
            1 => "0..1 gray",
            3 => "0..1 RGB",
            _ => "0..1",
        };
        let mut facts = Self::facts(&unet);
        // Comes last: its presence shows that the file is complete.
        let format_version = facts.remove(0);
        facts.extend([
            ("pixel_range", pixel_range.to_owned()),
            ("size_multiple", unet.grid().multiple.to_string()),
            format_version,
        ]);
        onnx::write(self, &unet, &facts)
    }

    /// The facts that every file states about its network.
    fn facts(unet: &UNet) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("format_version", Self::FORMAT_VERSION.to_string()),
            ("n_feature", unet.n_feature.to_string()),
            ("n_channel", unet.n_channel.to_string()),
        ];
        let others = unet.non_default_sizes();
        facts.extend(others.map(|(name, size)| (name, size.to_string())));
        facts
    }

    /// The architecture, if every value is finite as a `dtype`.
    fn writable_as(&self, dtype: DType) -> Result<UNet> {
        let unet = self.architecture()?;
        for (name, tensor) in &self.tensors {
            let mut bytes = vec![];
            for &value in &tensor.data {
                bytes.clear();
                dtype.put(value, &mut bytes);
                if !dtype.get(&bytes, 0).is_finite() {
                    let expected = format!("finite values in the range of {}", dtype.name());
                    return Err(Error::value(name, expected, value));
                }
            }
        }
        Ok(unet)
    }

    /// The architecture of these tensors: F and C follow from the shapes, other sizes from the metadata if they differ
    /// from the paper's. Every tensor is checked.
    ///
    /// The first two dimensions of `enc_conv0.weight` are F and r²·C, where r is `pixel_shuffle`.
    /// [`Error::Mismatch`] lists all tensors that are wrong, missing or unexpected.
    pub fn architecture(&self) -> Result<UNet> {
        let stated = stated_sizes(&self.metadata)?;
        let first = self.tensors.get(FIRST).map(|first| first.shape.as_slice());
        let Some(unet) = with_first_layer(stated, first)? else {
            // Without F and C no other shape can be checked, but foreign names can.
            let found = first.map_or("nothing".into(), |shape| format!("{shape:?}"));
            let channels = match stated.pixel_shuffle {
                1 => "C".to_owned(),
                block => format!("{}·C", block * block),
            };
            let mut problems = vec![format!(
                "{FIRST}: expected [F, {channels}, 3, 3], found {found}"
            )];
            problems.extend(self.surplus(&stated));
            return Err(Error::Mismatch { problems });
        };
        self.check(&unet)?;
        Ok(unet)
    }

    /// The flat vector of all parameters, in the order of [`UNet::tensors`], with every tensor checked.
    pub fn to_parameters(&self, unet: &UNet) -> Result<Vec<f32>> {
        self.check(unet)?;
        let mut parameters = Vec::with_capacity(unet.parameters());
        for spec in unet.tensors() {
            parameters.extend_from_slice(&self.tensors[&spec.name].data);
        }
        Ok(parameters)
    }

    /// Named tensors from the flat vector of all parameters.
    ///
    /// # Panics
    ///
    /// If their number is not [`UNet::parameters`].
    pub fn from_parameters(unet: &UNet, parameters: &[f32]) -> Self {
        assert_eq!(parameters.len(), unet.parameters(), "parameters of {unet}");
        let tensor = |spec: crate::unet::TensorSpec| {
            let data = parameters[spec.offset..][..spec.len()].to_vec();
            let shape = spec.shape;
            (spec.name, Tensor { shape, data })
        };
        let sizes = unet.non_default_sizes();
        Self {
            tensors: unet.tensors().into_iter().map(tensor).collect(),
            metadata: sizes.map(|(k, v)| (k.into(), v.to_string())).collect(),
        }
    }

    /// Checks that these are exactly the tensors of `unet`.
    fn check(&self, unet: &UNet) -> Result<()> {
        let mut problems = vec![];
        for spec in unet.tensors() {
            let found = match self.tensors.get(&spec.name) {
                None => "nothing".to_owned(),
                Some(tensor) if tensor.shape != spec.shape => format!("{:?}", tensor.shape),
                Some(tensor) if tensor.data.len() != spec.len() => {
                    format!("{} values", tensor.data.len())
                }
                Some(_) => continue,
            };
            problems.push(format!(
                "{}: expected {:?}, found {found}",
                spec.name, spec.shape
            ));
        }
        problems.extend(self.surplus(unet));
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Error::Mismatch { problems })
        }
    }

    /// A line for each tensor whose name is not in the network.
    fn surplus(&self, unet: &UNet) -> Vec<String> {
        let known: BTreeSet<_> = unet.tensors().into_iter().map(|spec| spec.name).collect();
        self.tensors
            .iter()
            .filter(|(name, _)| !known.contains(*name))
            .map(|(name, tensor)| {
                let name = name.escape_debug();
                format!("{name}: expected nothing, found {:?}", tensor.shape)
            })
            .collect()
    }
}

/// The tensor whose shape gives F and C.
const FIRST: &str = "enc_conv0.weight";

/// The paper's network with the sizes that the metadata give.
fn stated_sizes(metadata: &BTreeMap<String, String>) -> Result<UNet> {
    let mut unet = UNet::default();
    for (name, size) in [
        ("n_depth", &mut unet.n_depth),
        ("head_width", &mut unet.head_width),
        ("pixel_shuffle", &mut unet.pixel_shuffle),
    ] {
        if let Some(text) = metadata.get(name) {
            let parsed = text.parse();
            *size = parsed.map_err(|_| Error::value(name, "a whole number", text))?;
        }
    }
    unet.check()?;
    Ok(unet)
}

/// Completes the sizes with F and C from the shape of the first layer's weight; `None` if the shape does not fit.
fn with_first_layer(stated: UNet, first: Option<&[usize]>) -> Result<Option<UNet>> {
    let block = stated.pixel_shuffle * stated.pixel_shuffle;
    let Some(&[n_feature, inputs, 3, 3]) = first else {
        return Ok(None);
    };
    if !inputs.is_multiple_of(block) {
        return Ok(None);
    }
    let unet = UNet {
        n_feature,
        n_channel: inputs / block,
        ..stated
    };
    unet.check()?;
    Ok(Some(unet))
}

/// Number of bytes that suffice to identify the format.
const HEAD: u64 = 9;

/// Maximum bytes per parameter: two `f64`, or four `f32` in a training checkpoint.
const LARGEST_PARAMETER: usize = 16;

/// Prefix of the names of tensors and metadata that only training needs.
const TRAINING: &str = "training.";

/// The content of a file that may be a weight file.
fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut bytes = vec![];
    let mut read_up_to = |len, bytes: &mut Vec<u8>| {
        let limit = len - bytes.len() as u64;
        (&mut file)
            .take(limit)
            .read_to_end(bytes)
            .map_err(Error::io(path))
    };
    // Reject a wrong file before all of it is in memory.
    read_up_to(HEAD, &mut bytes)?;
    if Container::of(&bytes).is_some() {
        let largest = UNet {
            n_feature: UNet::MAX_FEATURE,
            n_channel: UNet::MAX_CHANNEL,
            n_depth: UNet::MAX_DEPTH,
            head_width: UNet::MAX_HEAD,
            pixel_shuffle: UNet::MAX_PIXEL_SHUFFLE,
        };
        let limit = (largest.parameters() * LARGEST_PARAMETER) as u64;
        read_up_to(limit + 1, &mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(Error::Weights {
                path: path.into(),
                reason: format!("expected at most {limit} bytes; the file is larger"),
            });
        }
    }
    Ok(bytes)
}

/// The container format, as seen from the first bytes.
enum Container {
    Safetensors,
    Onnx,
    Zip,
    Pickle,
}

impl Container {
    fn of(head: &[u8]) -> Option<Self> {
        match head {
            head if safetensors::begins(head) => Some(Self::Safetensors),
            head if onnx::begins(head) => Some(Self::Onnx),
            [b'P', b'K', 3, 4, ..] => Some(Self::Zip),
            [0x80, 2..=5, ..] => Some(Self::Pickle),
            _ => None,
        }
    }
}

fn decode(bytes: &[u8]) -> std::result::Result<(Weights, Format), String> {
    let bare = |tensors| Weights {
        tensors,
        metadata: BTreeMap::new(),
    };
    let (mut weights, format) = match Container::of(bytes) {
        Some(Container::Safetensors) => (safetensors::read(bytes)?, Format::Safetensors),
        Some(Container::Onnx) => (onnx::read(bytes)?, Format::Onnx),
        Some(Container::Zip) => (bare(pth::read_zip(bytes)?), Format::TorchZip),
        Some(Container::Pickle) => {
            let first = pickle::parse(bytes)?;
            if pth::begins_stream(&first) {
                let tensors = pth::read_stream(&bytes[first.end..])?;
                (bare(tensors), Format::TorchStream)
            } else {
                (bare(pdparams::read(&first, bytes.len())?), Format::Paddle)
            }
        }
        None => {
            let head = &bytes[..bytes.len().min(HEAD as usize)];
            return Err(format!(
                "expected safetensors, ONNX, PyTorch .pth or Paddle .pdparams, found a file that \
                 starts with \"{}\"",
                head.escape_ascii()
            ));
        }
    };

    check_version(&weights.metadata)?;
    for (name, tensor) in &weights.tensors {
        if let Some(value) = tensor.data.iter().find(|value| !value.is_finite()) {
            return Err(format!("{name:?}: expected finite values, found {value}"));
        }
    }
    // PyTorch's `DataParallel`, which the authors train with, adds this prefix to every name.
    let inner = |name: &String| name.strip_prefix("module.").map(str::to_owned);
    if weights.tensors.keys().all(|name| inner(name).is_some()) {
        weights.tensors = (weights.tensors.into_iter())
            .filter_map(|(name, tensor)| Some((inner(&name)?, tensor)))
            .collect();
    }
    Ok((weights, format))
}

fn check_version(metadata: &BTreeMap<String, String>) -> std::result::Result<(), String> {
    match metadata.get("format_version") {
        // Not written by n2n: names and shapes will tell.
        None => Ok(()),
        Some(text) => match text.parse::<u32>() {
            Ok(version) if version <= Weights::FORMAT_VERSION => Ok(()),
            _ => Err(format!(
                "expected format_version {} or lower, found {text:?}; a newer version of this \
                 program may be able to read it",
                Weights::FORMAT_VERSION
            )),
        },
    }
}
