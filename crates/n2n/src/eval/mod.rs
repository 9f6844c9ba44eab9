//! The paper's evaluation.

pub mod mean;
pub mod protocol;
pub mod psnr;
pub mod report;
pub mod set;
pub mod ssim;

pub use protocol::{Config, Scored, check, evaluate};
pub use report::{ImageScore, Report, SetScore};
pub use set::Set;
