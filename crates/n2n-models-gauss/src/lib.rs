//! Weights of [n2n](https://docs.rs/n2n)'s denoisers for Gaussian noise, as safetensors files.
//!
//! `n2n::Model::load` loads them by name. This crate is separate from the one for Poisson noise because crates.io
//! limits each crate to 10 MiB.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

/// RGB, σ up to 50.
pub static GAUSS5_50: &[u8] = include_bytes!("../models/gauss5_50.safetensors");

/// RGB, σ 5 to 50, a small network.
pub static GAUSS5_50_FAST: &[u8] = include_bytes!("../models/gauss5_50_fast.safetensors");

/// RGB, σ 25.
pub static GAUSS25: &[u8] = include_bytes!("../models/gauss25.safetensors");

/// Gray, σ up to 50.
pub static GAUSS5_50_GRAY: &[u8] = include_bytes!("../models/gauss5_50_gray.safetensors");
