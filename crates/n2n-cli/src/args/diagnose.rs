//! The flags of `n2n diagnose`.

use std::path::PathBuf;

use clap::Args;

use super::value::{no_image, number, positive};

/// `n2n diagnose`
#[derive(Debug, Args)]
#[command(
    after_help = "Prints the noise at each signal level, any obstacles to training on these \
                  images, and advice on each. All values are in the units of the files. Each page \
                  of a stack is an image. Only the middle of large images is used, 16 megapixels \
                  in all."
)]
pub struct Diagnose {
    /// Images, stacks, folders of images or glob patterns
    #[arg(value_name = "INPUT", required = true)]
    pub inputs: Vec<PathBuf>,
    /// Value of a dark pixel, if known; determines the read noise even where photon noise hides it
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true, value_parser = number)]
    pub offset: Option<f64>,
    /// Maximum number of images or pages to use
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    pub max_images: usize,
    /// Write all measurements as JSON
    #[arg(long, value_name = "FILE", value_parser = no_image())]
    pub json: Option<PathBuf>,
    /// Write an HTML page with charts and images
    #[arg(long, value_name = "FILE", value_parser = no_image())]
    pub html: Option<PathBuf>,
}
