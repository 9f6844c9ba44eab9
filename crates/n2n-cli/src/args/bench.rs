//! The flags of `n2n bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use n2n::Error;
use n2n::unet::{self, UNet};

use super::device::Denoiser;
use super::value::{batch_size, patch_size, positive, seed};

/// `n2n bench`
#[derive(Debug, Args)]
#[command(
    after_help = "Times are for whole runs, after warm-up runs. GFLOP/s count two operations per \
                  multiply-add of the direct convolutions, whatever the algorithm; for a training \
                  step, they count the forward pass of the full-size images, that of the \
                  half-size neighbors, and twice the latter for the gradients."
)]
pub struct Bench {
    /// What to time: denoising an image, or training steps
    #[arg(value_enum)]
    pub work: BenchWork,
    /// Image size for `infer`: height x width, or one number for both; multiples of 32
    #[arg(long, value_name = "PIXELS", default_value = "512x512", value_parser = size)]
    pub size: [usize; 2],
    /// Patches per step for `train`
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = batch_size)]
    pub batch: usize,
    /// Side of the square patches of `train`, a multiple of 64
    #[arg(long, value_name = "PIXELS", default_value_t = 128, value_parser = patch_size)]
    pub patch: usize,
    /// Timed runs
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = positive)]
    pub runs: usize,
    /// A weight file, or the name of a shipped model [default: random weights]
    #[arg(long, value_name = "MODEL")]
    pub model_path: Option<PathBuf>,
    /// Architecture of the network with random weights: paper, fast, faster or fastest, optionally followed by ,NAME=N
    /// for each size that differs, such as `fast,n_feature=32`
    #[arg(long, value_name = "SIZES", default_value = "paper", value_parser = sizes, conflicts_with = "model_path")]
    pub architecture: UNet,
    /// Seed of the pixels and of random weights
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = seed)]
    pub seed: u64,
    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
    /// Where to compute.
    #[command(flatten)]
    pub denoiser: Denoiser,
}

/// What `n2n bench` times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchWork {
    /// Denoising an image
    Infer,
    /// Training steps
    Train,
}

/// Height and width, each at most 4096: one such image fits into the memory of a large machine.
fn size(text: &str) -> Result<[usize; 2], String> {
    let multiple = UNet::default().grid().multiple;
    let side = |text: &str| {
        let side = text.parse().ok()?;
        let fits = (multiple..=4096).contains(&side) && side.is_multiple_of(multiple);
        fits.then_some(side)
    };
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    match (side(height), side(width)) {
        (Some(height), Some(width)) => Ok([height, width]),
        _ => Err(format!(
            "expected HEIGHTxWIDTH or one number for both, multiples of {multiple} from {multiple} \
             to 4096"
        )),
    }
}

/// An architecture by name, followed by sizes that differ from it.
fn sizes(text: &str) -> Result<UNet, String> {
    let reason = |error: Error| error.to_string();
    let mut sizes = text.split(',');
    let mut unet = unet::named(sizes.next().unwrap_or("")).map_err(reason)?;
    for size in sizes {
        let (name, value) = size
            .split_once('=')
            .ok_or_else(|| format!("expected NAME=N, such as n_feature=32, found '{size}'"))?;
        *match name {
            "n_feature" => &mut unet.n_feature,
            "n_channel" => &mut unet.n_channel,
            "n_depth" => &mut unet.n_depth,
            "head_width" => &mut unet.head_width,
            "pixel_shuffle" => &mut unet.pixel_shuffle,
            _ => {
                let names = unet.sizes().map(|(name, _)| name).join(", ");
                return Err(format!("expected a size ({names}), found {name}"));
            }
        } = positive(value)?;
    }
    unet.check().map_err(reason)?;
    Ok(unet)
}
