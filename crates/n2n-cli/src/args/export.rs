//! The flags of `n2n export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use n2n::denoise::Range;
use n2n::models;
use n2n::weights::DType;

use super::device::Processor;
use super::value::named;

/// `n2n export`. If a flag is given twice, the last one counts, as for `n2n train`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Export {
    /// A weight file, or the name of a shipped model
    #[arg(long, value_name = "MODEL", default_value = models::DEFAULT)]
    pub model_path: PathBuf,
    /// Folder for model.onnx, model.safetensors and the packages
    #[arg(long, value_name = "DIR", default_value = "./output")]
    pub save_dir: PathBuf,
    /// What to write
    #[arg(
        long,
        value_name = "FORMATS",
        value_delimiter = ',',
        default_value = "onnx,safetensors"
    )]
    pub format: Vec<ExportFormat>,
    /// Precision of model.safetensors; f16 halves the size. The ONNX model is always f32
    #[arg(long, value_enum, default_value_t = ExportType::F32)]
    pub dtype: ExportType,
    /// License of the weights, stored in the files [default: as stated by the model]
    #[arg(long, value_name = "SPDX", alias = "licence")]
    pub license: Option<String>,
    /// Image values that map to the network's 0 and 1 in a bioimage.io package: MIN,MAX [default: the range that the
    /// model was trained on or, if it has none, 0,1]
    #[arg(
        long,
        value_name = "MIN,MAX",
        allow_hyphen_values = true,
        value_parser = named::<Range>
    )]
    pub range: Option<Range>,
    /// Where to compute.
    #[command(flatten)]
    pub processor: Processor,
}

/// A kind of file that `n2n export` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// The network as a graph, for inference engines
    Onnx,
    /// The weights alone, for PyTorch
    Safetensors,
    /// A bioimage.io package, for ilastik, deepImageJ and others
    Bioimageio,
    /// A package for darktable's neural restore
    Darktable,
}

/// A type of numbers that `n2n export` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportType {
    /// Single precision, which the network computes in
    F32,
    /// Half precision
    F16,
}

impl From<ExportType> for DType {
    fn from(value: ExportType) -> Self {
        match value {
            ExportType::F32 => Self::F32,
            ExportType::F16 => Self::F16,
        }
    }
}
