//! The flags of `n2n prepare`.

use std::path::PathBuf;

use clap::Args;
use n2n::prepare::Interpolation;

use super::value::{named, positive, positive_number};

/// `n2n prepare`
#[derive(Debug, Args)]
pub struct Prepare {
    /// Folder of images, searched recursively; only the first page of a file is used
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
    /// Enlarge clean images by this factor, 1 to 4: with 2, the half-size images that training sees are as sharp
    /// as the images that are denoised later
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = positive_number)]
    pub magnification: f64,
    /// How they are enlarged: lanczos keeps their detail; bicubic attenuates the finest. Images that are already in
    /// the save folder in the right size are not enlarged again
    #[arg(long, value_name = "lanczos|bicubic", default_value_t, value_parser = named::<Interpolation>)]
    pub interpolation: Interpolation,
}
