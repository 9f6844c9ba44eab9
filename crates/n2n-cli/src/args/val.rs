//! The flags of `n2n val`.

use std::path::PathBuf;

use clap::Args;
use n2n::eval::Set;
use n2n::models;
use n2n::noise::Noise;

use super::device::Denoiser;
use super::value::{named, no_image, positive};

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
    /// Sets to score on, separated by commas, in the given order: BSD300, Kodak, Set14
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "BSD300",
        value_parser = named::<Set>
    )]
    pub sets: Vec<Set>,
    /// Passes over each set [default: BSD300 3, Kodak 10, Set14 20]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub repeats: Option<usize>,
    /// Noise to add: gaussS (σ on a scale of 255), poissonL (rate), gaussA_B or poissonA_B (a range of levels), both
    /// as in poissonL+gaussS, or none
    #[arg(long, value_name = "NOISE", default_value = "gauss25", value_parser = named::<Noise>)]
    pub noisetype: Noise,
    /// Score the mean over the eight flips and rotations of each noisy image; published scores do not use it
    #[arg(long)]
    pub ensemble: bool,
    /// Channels of the first layer; if given, checked against the model
    #[arg(long, value_name = "N", value_parser = positive)]
    pub n_feature: Option<usize>,
    /// Channels of the images; if given, checked against the model
    #[arg(long, value_name = "N", value_parser = positive)]
    pub n_channel: Option<usize>,
    /// Write a table with one row per image and pass
    #[arg(long, value_name = "FILE", value_parser = no_image())]
    pub csv: Option<PathBuf>,
    /// Write the scores as JSON
    #[arg(long, value_name = "FILE", value_parser = no_image())]
    pub json: Option<PathBuf>,
    /// Where to compute.
    #[command(flatten)]
    pub denoiser: Denoiser,
}
