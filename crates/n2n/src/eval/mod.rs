//! The paper's evaluation.

pub mod mean;
pub mod protocol;
pub mod psnr;
pub mod ssim;

pub use protocol::{Config, Scored, Set, check, evaluate};
