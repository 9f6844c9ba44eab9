//! The flags of `n2n infer`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use n2n::noise::Noise;

use super::device::Processor;
use super::value::{BOOL, batch_size, boolean, named, no_image, optional_value, seed};

/// `n2n infer`. If a flag is given twice, the last one counts, as for `n2n train`.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Results are named <name>_denoise.png. Each is scored against its noisy input, \
                  as in the Paddle port, and, if noise was added, against the clean image.",
    mut_args(optional_value)
)]
#[allow(clippy::struct_excessive_bools, reason = "the reference's flags")]
pub struct Infer {
    /// An image, or a folder of images, searched recursively; only the first page of a file is used
    #[arg(long, short, value_name = "PATH")]
    pub input_file: PathBuf,
    /// The exported model (.onnx); with the native engine, also any weight file or the name of a shipped model
    #[arg(long, value_name = "FILE")]
    pub model_file: PathBuf,
    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "output/inference_img")]
    pub save_dir: PathBuf,
    /// Images per batch
    #[arg(long, short, value_name = "N", default_value_t = 1, value_parser = batch_size)]
    pub batch_size: usize,
    /// Engine that runs the model
    #[arg(long, value_enum, default_value_t = Engine::Native)]
    pub engine: Engine,
    /// Keep each image's own size instead of resizing it to 256×256
    #[arg(long)]
    pub keep_size: bool,
    /// Noise to add: gaussS (σ on a scale of 255), poissonL (rate), gaussA_B or poissonA_B (a range of levels), both
    /// as in poissonL+gaussS, or none (the images are already noisy)
    #[arg(long, value_name = "NOISE", default_value = "gauss25", value_parser = named::<Noise>)]
    pub noisetype: Noise,
    /// Seed of the noise
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = seed)]
    pub seed: u64,
    /// Print a benchmark report in AutoLog's format, and write it to a file
    #[arg(long, value_name = BOOL, default_value = "False", value_parser = boolean)]
    pub enable_benchmark: bool,
    /// File for the benchmark report; overwritten if it exists
    #[arg(
        long,
        value_name = "FILE",
        default_value = "./output/auto_log.lpg",
        value_parser = no_image()
    )]
    pub log_path: PathBuf,
    /// Precision; only fp32 is supported
    #[arg(long, value_enum, default_value_t = Precision::Fp32)]
    pub precision: Precision,
    /// Run on a GPU; not supported by this command. The Paddle port's default is True
    #[arg(long, value_name = BOOL, default_value = "False", value_parser = boolean)]
    pub use_gpu: bool,
    /// Run with TensorRT; not supported
    #[arg(long, value_name = BOOL, default_value = "False", value_parser = boolean)]
    pub use_tensorrt: bool,
    /// Accepted for the Paddle port's scripts; has no effect: the engine's own kernels are always used
    #[arg(long, value_name = BOOL, default_value = "False", value_parser = boolean)]
    pub enable_mkldnn: bool,
    /// Accepted for the Paddle port's scripts; has no effect: layers and their epilogues are always fused
    #[arg(long, value_name = BOOL, default_value = "True", value_parser = boolean)]
    pub ir_optim: bool,
    /// Accepted for the reference's scripts, even if empty; has no effect: the model file contains the weights
    #[arg(long, value_name = "FILE", hide = true)]
    pub params_file: Option<String>,
    /// Accepted for the reference's scripts; has no effect
    #[arg(long, value_name = "MB", default_value_t = 8000, hide = true)]
    pub gpu_mem: u64,
    /// Where to compute.
    #[command(flatten)]
    pub processor: Processor,
}

/// What runs an exported model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// This program's own network, with the weights of the file
    Native,
    /// The ONNX runtime rten, which runs any image-to-image model
    Rten,
}

/// Numbers to compute with, as the reference names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 32-bit floats
    Fp32,
    /// 16-bit floats: not supported
    Fp16,
    /// 8-bit integers: not supported
    Int8,
}
