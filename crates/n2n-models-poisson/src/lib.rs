//! Weights of [n2n](https://docs.rs/n2n)'s denoisers for Poisson noise, as safetensors files.
//!
//! `n2n::Model::load` loads them by name. This crate is separate from the one for Gaussian noise because crates.io
//! limits each crate to 10 MiB.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

/// RGB, λ 30.
pub static POISSON30: &[u8] = include_bytes!("../models/poisson30.safetensors");

/// RGB, λ 5 to 50, also with read noise.
pub static POISSON5_50: &[u8] = include_bytes!("../models/poisson5_50.safetensors");

/// Gray, λ 5 to 50, also with read noise.
pub static POISSON5_50_GRAY: &[u8] = include_bytes!("../models/poisson5_50_gray.safetensors");
