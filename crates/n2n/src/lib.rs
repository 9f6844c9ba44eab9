//! Neighbor2Neighbor: train an image denoiser from noisy images alone.
//!
//! The method is that of Huang et al., *Neighbor2Neighbor: Self-Supervised Denoising from Single Noisy
//! Images*, CVPR 2021. A random sub-sampler splits a noisy image into two half-size images of adjacent pixels; one is
//! the input of the network, the other its target, and a regularizer corrects for the difference between them.
//!
//! # Denoise
//!
//! ```
//! use n2n::{Image, Model};
//!
//! // The name of a shipped model, or a weight file.
//! let model = Model::load("gauss5_50")?;
//! let noisy = Image::from_u8(60, 80, 3, &[127; 60 * 80 * 3])?;
//! // Any size, any number of channels, in tiles within a memory limit.
//! let clean = model.denoise(&noisy)?;
//! assert_eq!(clean.to_u8().len(), 60 * 80 * 3);
//! # Ok::<(), n2n::Error>(())
//! ```
//!
//! [`Model`] is the entry point: load, denoise, save. It is `Send + Sync`; calls from several threads run
//! concurrently and share the weights. [`DenoiseOptions`] sets the strength, range, ensemble, memory limit, and a
//! callback for progress and cancellation. [`Model::denoise_block`] denoises a block of an image that is too
//! large for memory, with the same result as for the whole image. [`Image`] holds pixels in memory and reads and writes
//! files; [`predict`] denoises whole files, with their pages, metadata and transparency.
//!
//! # Train
//!
//! [`train()`] trains a [`Model`] on images in memory, noisy or clean; [`train_with`] takes any [`train::Source`] and a
//! callback for progress and cancellation. [`train::run`] trains on a folder, as the program does, with checkpoints and
//! scores; its runs can be resumed. The module [`mod@train`] has an example.
//!
//! # Conventions
//!
//! Pixels are `f32` in the order height, width, channel. Unsigned integers of 8 and 16 bits map to 0..1, and all other
//! types keep their values; noisy pixels may lie outside 0..1. Only [`mod@image`] knows file formats and integer
//! ranges. Results do not depend on the number of threads. Nothing here prints or exits; progress and notes go to
//! callbacks. Functions that can fail return [`Error`]; those that only detect the format of a stream return
//! [`std::io::Error`].
//! “The reference” is the code whose results, log lines and spellings n2n reproduces: the authors' own, and a
//! reimplementation in `PaddlePaddle`, the Paddle port.
//!
//! # Structure
//!
//! Data flows one way: files → [`Image`] → [`batch::Batch`] of patches → training run → [`Weights`] →
//! [`network::Denoise`] → [`Image`] → metrics → report.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

pub mod adapt;
pub mod autolog;
pub mod batch;
pub mod bench;
pub mod corrupt;
pub mod cpu;
pub mod denoise;
pub mod diagnose;
mod dihedral;
pub mod error;
pub mod eval;
pub mod files;
mod html;
pub mod image;
pub mod infer;
mod magnify;
pub mod model;
pub mod models;
pub mod neighbors;
pub mod network;
pub mod noise;
pub mod numpy;
pub mod package;
pub mod predict;
pub mod prepare;
mod reflect;
pub mod repair;
pub mod system;
pub mod train;
pub mod unet;
pub mod weights;
mod words;

pub use denoise::{Progress, Range, Region, Tile};
pub use error::{Error, Result};
pub use image::Image;
pub use model::{DenoiseOptions, Model};
#[doc(inline)]
pub use train::{train, train_with};
pub use weights::Weights;
