//! Neighbor2Neighbor: train an image denoiser from noisy images alone.
//!
//! The method is of Huang et al., *Neighbor2Neighbor: Self-Supervised Denoising from Single Noisy
//! Images*, CVPR 2021. A random sub-sampler cuts a noisy image into two half-size neighbours; one
//! is the input of the network, the other its target, and a regulariser corrects for the gap
//! between them.
//!
//! Data flows one way: files → [`image::Image`] → [`batch::Batch`] of patches → training run →
//! [`weights::Weights`] → [`network::Network`] → [`image::Image`] → metrics → report. Pixels are
//! `f32`, 0..1, in the order height, width, channel everywhere; only [`image`] knows file formats
//! and integer ranges.
#![forbid(unsafe_code)]

pub mod autolog;
pub mod batch;
pub mod bench;
pub mod corrupt;
pub mod cpu;
pub mod denoise;
pub mod error;
pub mod eval;
pub mod files;
pub mod image;
pub mod infer;
pub mod models;
pub mod neighbors;
pub mod network;
pub mod noise;
pub mod numpy;
pub mod predict;
pub mod prepare;
mod reflect;
pub mod system;
pub mod train;
pub mod unet;
pub mod weights;

pub use error::{Error, Result};
