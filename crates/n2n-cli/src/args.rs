//! The command line: every flag, its default and its check.
//!
//! Flags are written in kebab-case. Each is also accepted in the reference's snake_case spelling
//! (`--data_dir`).

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use n2n::Error;
use n2n::eval::Set;
use n2n::models;
use n2n::noise::Noise;
use n2n::unet::INIT_SCALE;

/// Train an image denoiser from noisy images alone, and use it.
#[derive(Debug, Parser)]
#[command(name = "n2n", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
}

/// Flags that every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// CPU threads [default: all cores]
    #[arg(
        long,
        alias = "cpu-threads",
        global = true,
        value_name = "N",
        value_parser = threads,
        display_order = 900
    )]
    pub threads: Option<usize>,
    /// Print results only: no progress, no notes
    #[arg(long, short, global = true, display_order = 901)]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Select and convert training images
    Prepare(Prepare),
    /// Train a denoiser
    Train(Train),
    /// Score a model by the paper's protocol
    Val(Val),
    /// Denoise files and folders
    #[command(visible_alias = "denoise")]
    Predict(Predict),
    /// Write a model for other engines: ONNX and safetensors
    Export(Export),
    /// Run an exported model over pictures, with a benchmark report
    Infer(Infer),
    /// Show the build, the CPU level and the shipped models; or the layers of a model
    Info(Info),
}

/// `n2n prepare`
#[derive(Debug, Args)]
pub struct Prepare {
    /// Folder of images, searched recursively for .jpeg, .jpg and .png
    #[arg(long, value_name = "DIR")]
    pub input_dir: PathBuf,
    /// Folder for the converted images
    #[arg(long, value_name = "DIR")]
    pub save_dir: PathBuf,
    /// Smallest width and height to keep
    #[arg(long, value_name = "PIXELS", default_value_t = 256, value_parser = positive)]
    pub min_size: usize,
    /// Largest width and height to keep
    #[arg(long, value_name = "PIXELS", default_value_t = 512, value_parser = positive)]
    pub max_size: usize,
}

/// `n2n train`. Of a flag given twice the last counts, as in the seed: its scripts append to a command
/// what they change in it.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Train {
    /// Noise to add: gaussS (σ of 255), poissonL (rate), gaussA_B or poissonA_B (between two
    /// levels), or none (of images that are noisy already)
    #[arg(long, value_name = "NOISE", default_value = "gauss25", value_parser = named::<Noise>)]
    pub noisetype: Noise,
    /// Folder of training images, searched recursively
    #[arg(long, value_name = "DIR", default_value = "./Imagenet_val")]
    pub data_dir: PathBuf,
    /// Folder with the validation set, in BSD300/test [default: ./validation, if it is there]
    #[arg(long, value_name = "DIR")]
    pub val_dirs: Option<PathBuf>,
    /// Folder that runs are saved in
    #[arg(long, value_name = "DIR", default_value = "./results")]
    pub save_model_path: PathBuf,
    /// Name of this run's folder
    #[arg(long, value_name = "NAME", default_value = "unet_gauss25_b4e100r02")]
    pub log_name: String,
    /// Replace the run that the folder already holds
    #[arg(long)]
    pub overwrite: bool,
    /// Channels of the first layer
    #[arg(long, value_name = "N", default_value_t = 48, value_parser = positive)]
    pub n_feature: usize,
    /// Channels of the images: 3 RGB, 1 grey
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = positive)]
    pub n_channel: usize,
    /// Learning rate
    #[arg(long, value_name = "RATE", default_value_t = 3e-4, value_parser = positive_number)]
    pub lr: f64,
    /// Factor of the learning rate after each fifth of the epochs
    #[arg(long, value_name = "FACTOR", default_value_t = 0.5, value_parser = positive_number)]
    pub gamma: f64,
    /// Epochs
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive)]
    pub n_epoch: usize,
    /// Iterations between two lines of losses
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive)]
    pub log_iters: usize,
    /// Epochs between two checkpoints, each with its scores
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub n_snapshot: usize,
    /// Patches a step
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = positive)]
    pub batchsize: usize,
    /// Side of the square patches, a multiple of 64
    #[arg(long, value_name = "PIXELS", default_value_t = 256, value_parser = patch_size)]
    pub patchsize: usize,
    /// Factor of the reconstruction loss
    #[arg(
        long = "Lambda1",
        alias = "lambda1",
        value_name = "FACTOR",
        default_value_t = 1.0,
        value_parser = factor
    )]
    pub lambda1: f64,
    /// Factor of the regulariser
    #[arg(
        long = "Lambda2",
        alias = "lambda2",
        value_name = "FACTOR",
        default_value_t = 1.0,
        value_parser = factor
    )]
    pub lambda2: f64,
    /// Λ in the last epoch: 2 for synthetic noise, 1 for real raw noise
    #[arg(long, value_name = "RATIO", default_value_t = 2.0, value_parser = factor)]
    pub increase_ratio: f64,
    /// Factor on the initial weights: the reference's 0.1 learns slowly at first; 1 suits short runs
    #[arg(long, value_name = "FACTOR", default_value_t = INIT_SCALE, value_parser = positive_number)]
    pub init_scale: f64,
    /// Seed of everything that is drawn
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = seed)]
    pub seed: u64,
    /// Accepted for the reference's scripts; this program trains on the CPU
    #[arg(long, value_name = "LIST", hide = true)]
    pub gpu_devices: Option<String>,
    /// Accepted for the reference's scripts; this program always uses all its threads
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    pub parallel: Option<bool>,
}

/// `n2n val`
#[derive(Debug, Args)]
#[allow(clippy::struct_field_names, reason = "the reference's flag")]
pub struct Val {
    /// A weight file, or the name of a shipped model
    #[arg(long, value_name = "MODEL", default_value = models::DEFAULT)]
    pub model_path: PathBuf,
    /// Folder with the sets: BSD300/test, Kodak, Set14
    #[arg(long, value_name = "DIR", default_value = "./validation")]
    pub val_dirs: PathBuf,
    /// Sets to score on, in this order: BSD300, Kodak, Set14
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "BSD300",
        value_parser = named::<Set>
    )]
    pub sets: Vec<Set>,
    /// Times each set is gone through [default: BSD300 3, Kodak 10, Set14 20]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub repeats: Option<usize>,
    /// Noise to add: gaussS (σ of 255), poissonL (rate), gaussA_B or poissonA_B (between two
    /// levels), or none
    #[arg(long, value_name = "NOISE", default_value = "gauss25", value_parser = named::<Noise>)]
    pub noisetype: Noise,
    /// Channels of the first layer; checked against the model when given
    #[arg(long, value_name = "N", value_parser = positive)]
    pub n_feature: Option<usize>,
    /// Channels of the images; checked against the model when given
    #[arg(long, value_name = "N", value_parser = positive)]
    pub n_channel: Option<usize>,
    /// Write a table with a line for each image and repeat
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write the scores as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `n2n predict`
#[derive(Debug, Args)]
#[command(
    after_help = "An image becomes <name>_denoise.png, with its depth and channels. A folder is \
                  searched recursively, and its images keep their place below it."
)]
pub struct Predict {
    /// Images (.jpeg, .jpg, .png), or folders of images
    #[arg(value_name = "INPUT", required_unless_present = "image_path")]
    pub inputs: Vec<PathBuf>,
    /// One more image or folder
    #[arg(long, value_name = "PATH")]
    pub image_path: Option<PathBuf>,
    /// A weight file, or the name of a shipped model
    #[arg(long, value_name = "MODEL", default_value = models::DEFAULT)]
    pub model_path: PathBuf,
    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "./output")]
    pub save_dir: PathBuf,
}

/// `n2n export`. Of a flag given twice the last counts, as for `n2n train`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Export {
    /// A weight file, or the name of a shipped model
    #[arg(long, value_name = "MODEL", default_value = models::DEFAULT)]
    pub model_path: PathBuf,
    /// Folder for model.onnx and model.safetensors
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
    /// Licence of the weights, to be stated in the files [default: what the model states]
    #[arg(long, value_name = "SPDX", visible_alias = "licence")]
    pub license: Option<String>,
}

/// A kind of file that `n2n export` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// The network as a graph, for inference engines
    Onnx,
    /// The weights alone, for PyTorch
    Safetensors,
}

/// `n2n infer`. Of a flag given twice the last counts, as for `n2n train`.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "An image becomes <name>_denoise.png. The result is scored against its noisy input, \
                  as the reference does, and against the clean image."
)]
#[allow(clippy::struct_excessive_bools, reason = "the reference's flags")]
pub struct Infer {
    /// An image, or a folder of images, searched recursively
    #[arg(long, short, value_name = "PATH")]
    pub input_file: PathBuf,
    /// The exported model: .onnx; any weight file, or a shipped model, if the engine is native
    #[arg(long, value_name = "FILE")]
    pub model_file: PathBuf,
    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "output/inference_img")]
    pub save_dir: PathBuf,
    /// Images a batch
    #[arg(long, short, value_name = "N", default_value_t = 1, value_parser = batch_size)]
    pub batch_size: usize,
    /// What runs the model
    #[arg(long, value_enum, default_value_t = Engine::Native)]
    pub engine: Engine,
    /// Leave the images at their own size; without, each is resized to 256×256
    #[arg(long)]
    pub keep_size: bool,
    /// Noise to add: gaussS (σ of 255), poissonL (rate), gaussA_B or poissonA_B (between two
    /// levels), or none (to images that are noisy already)
    #[arg(long, value_name = "NOISE", default_value = "gauss25", value_parser = named::<Noise>)]
    pub noisetype: Noise,
    /// Seed of the noise
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = seed)]
    pub seed: u64,
    /// Print a benchmark report in AutoLog's form, and write it to a file
    #[arg(
        long,
        value_name = "BOOL",
        default_value = "False",
        num_args = 0..=1,
        default_missing_value = "True",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub enable_benchmark: bool,
    /// File for the benchmark report; what it held is replaced
    #[arg(long, value_name = "FILE", default_value = "./output/auto_log.lpg")]
    pub log_path: PathBuf,
    /// Numbers to compute with; this program has fp32
    #[arg(long, value_enum, default_value_t = Precision::Fp32)]
    pub precision: Precision,
    /// Whether to run on a GPU; this program has none. The reference's default is True
    #[arg(
        long,
        value_name = "BOOL",
        default_value = "False",
        num_args = 0..=1,
        default_missing_value = "True",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub use_gpu: bool,
    /// Whether to run in TensorRT; this program has none
    #[arg(
        long,
        value_name = "BOOL",
        default_value = "False",
        num_args = 0..=1,
        default_missing_value = "True",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub use_tensorrt: bool,
    /// Accepted for the reference's scripts; this program's own kernels are used either way
    #[arg(
        long,
        value_name = "BOOL",
        default_value = "False",
        num_args = 0..=1,
        default_missing_value = "True",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub enable_mkldnn: bool,
    /// Accepted for the reference's scripts; layers are always fused with what follows them
    #[arg(
        long,
        value_name = "BOOL",
        default_value = "True",
        num_args = 0..=1,
        default_missing_value = "True",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub ir_optim: bool,
    /// Accepted for the reference's scripts, also empty; the model file holds the weights
    #[arg(long, value_name = "FILE", hide = true)]
    pub params_file: Option<String>,
    /// Accepted for the reference's scripts; there is no GPU to take memory of
    #[arg(long, value_name = "MB", default_value_t = 8000, hide = true)]
    pub gpu_mem: u64,
}

/// What runs an exported model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// This program's own network, with the weights of the file
    Native,
    /// The ONNX runtime rten: any model from image to image
    Rten,
}

/// Numbers to compute with, as the reference names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 32-bit floats
    Fp32,
    /// 16-bit floats: not in this program
    Fp16,
    /// 8-bit integers: not in this program
    Int8,
}

/// `n2n info`
#[derive(Debug, Args)]
pub struct Info {
    /// A weight file, or the name of a shipped model
    #[arg(long, value_name = "MODEL")]
    pub model_path: Option<PathBuf>,
}

/// The command line of this process; ends it when there is something wrong with it.
pub fn parse() -> Cli {
    let matches = command().get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// The parser, with the reference's spelling of every flag, and with numbers below 0 known as such:
/// they are for the check of the flag to refuse.
fn command() -> clap::Command {
    Cli::command()
        .mut_args(and_snake_case)
        .mut_subcommands(|command| {
            command
                .mut_args(and_snake_case)
                .allow_negative_numbers(true)
        })
}

fn and_snake_case(flag: Arg) -> Arg {
    let names = flag.get_long_and_visible_aliases().unwrap_or_default();
    let names = names
        .into_iter()
        .chain(flag.get_all_aliases().unwrap_or_default());
    let others: Vec<_> = names
        .filter(|name| name.contains('-'))
        .map(|name| name.replace('-', "_"))
        .collect();
    flag.aliases(others)
}

/// A value that the library knows by name; what it expects is said as the others here say it.
fn named<T: FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| match error {
        Error::Value { expected, .. } => format!("expected {expected}"),
        error => error.to_string(),
    })
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number of at least 1".into()),
        Ok(number) => Ok(number),
    }
}

/// More threads than any machine has would be minutes in starting.
fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=1024) => Ok(number),
        _ => Err("expected a whole number from 1 to 1024".into()),
    }
}

/// All images of a batch are in memory together.
fn batch_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=1024) => Ok(number),
        _ => Err("expected a whole number from 1 to 1024".into()),
    }
}

fn seed(text: &str) -> Result<u64, String> {
    let number = text.parse();
    number.map_err(|_| format!("expected a whole number from 0 to {}", u64::MAX))
}

/// A factor of the loss.
fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number >= 0.0 && number.is_finite() => Ok(number),
        _ => Err("expected a number of at least 0".into()),
    }
}

fn positive_number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("expected a number above 0".into()),
    }
}

fn patch_size(text: &str) -> Result<usize, String> {
    match positive(text) {
        Ok(size) if size % 64 == 0 && size <= 4096 => Ok(size),
        _ => Err("expected a multiple of 64 from 64 to 4096 \
                  (the network sees halves of it, and they must be multiples of 32)"
            .into()),
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Ok(true),
        "false" | "f" | "0" => Ok(false),
        _ => Err("expected True or False".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        command().debug_assert();
    }
}
