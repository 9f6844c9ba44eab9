//! Weights of [n2n](https://docs.rs/n2n)'s denoisers for Poisson noise, as safetensors files.
//!
//! `n2n::Model::load` takes their names. They are a crate of their own, beside that for Gaussian noise, because
//! crates.io accepts 10 MiB for each crate.
#![forbid(unsafe_code)]

/// RGB, λ 30.
pub static POISSON30: &[u8] = include_bytes!("../models/poisson30.safetensors");

/// RGB, λ 5 to 50.
pub static POISSON5_50: &[u8] = include_bytes!("../models/poisson5_50.safetensors");
