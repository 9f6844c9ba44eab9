//! The flags of `n2n corrupt`.

use std::path::PathBuf;

use clap::Args;
use n2n::denoise::Range;
use n2n::noise::Noise;

use super::image::ImageDepth;
use super::value::{named, seed};

/// `n2n corrupt`
#[derive(Debug, Args)]
pub struct Corrupt {
    /// An image in any format
    #[arg(value_name = "IMAGE")]
    pub input: PathBuf,
    /// Output file; its extension determines the format
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Noise to add: gaussS (σ on a scale of 255), poissonL (rate), gaussA_B or poissonA_B (a range of levels), or both
    /// as in poissonL+gaussS
    #[arg(long, value_name = "NOISE", default_value = "gauss25", value_parser = named::<Noise>)]
    pub noisetype: Noise,
    /// Values that map to 0 and 1 for the noise: auto, percentile or MIN,MAX
    #[arg(
        long,
        value_name = "RANGE",
        default_value = "auto",
        allow_hyphen_values = true,
        value_parser = named::<Range>
    )]
    pub range: Range,
    /// Seed of the noise
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = seed)]
    pub seed: u64,
    /// Bits per sample: 8, 16 or 32f (floats, not clipped) [default: same as the image]
    #[arg(long, value_enum, value_name = "BITS")]
    pub depth: Option<ImageDepth>,
    /// Overwrite an existing output file
    #[arg(long)]
    pub overwrite: bool,
}
