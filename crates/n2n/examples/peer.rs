//! This network as a process that `bench/peers` times beside other engines: see the protocol in
//! `bench/peers/worker.py`, which does the same for those.
//!
//! ```sh
//! peer infer MODEL IMAGES N H W
//! peer call MODEL IMAGES 1 H W
//! peer train MODEL IMAGES N H W PAIRS
//! ```
//!
//! `infer` runs the network on a tensor; `call` runs [`n2n::Model::denoise_with`] on an image, as other languages call
//! it.
//!
//! `IMAGES` holds `n · h · w · 3` numbers, `f32`, little-endian, in the order n, h, w, c; `PAIRS` a
//! byte for each cell. Threads are those of `RAYON_NUM_THREADS`, the level that of `N2N_LEVEL`.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::time::Instant;

use n2n::batch::Batch;
use n2n::cpu::CpuNetwork;
use n2n::neighbors::Neighbors;
use n2n::network::{Denoise, LossFactors};
use n2n::{DenoiseOptions, Image, Model, Range, models, system};
use serde_json::json;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [work, model, images, n, h, w, rest @ ..] = &arguments[..] else {
        return Err("usage: peer infer|call|train MODEL IMAGES N H W [PAIRS]".into());
    };
    let weights = models::load(Some(Path::new(model)))?;
    let mut network = CpuNetwork::from_weights(&weights)?;
    if let Ok(level) = std::env::var("N2N_LEVEL") {
        network.set_level(level.parse()?);
    }
    let noisy = read_images(images, n.parse()?, h.parse()?, w.parse()?)?;
    let version = format!("n2n {}, {}", env!("CARGO_PKG_VERSION"), network.level());
    match (work.as_str(), rest) {
        ("infer", []) => serve(&version, || Ok(network.denoise(&noisy)?.data)),
        ("call", []) => {
            let model = Model::with_network(Box::new(network), weights)?;
            let image = Image::from_f32(noisy.h, noisy.w, noisy.c, noisy.data)?;
            let options = DenoiseOptions {
                range: Range::Between(0.0, 1.0),
                ..DenoiseOptions::default()
            };
            serve(&version, || Ok(model.denoise_with(&image, &options)?.data))
        }
        ("train", [pairs]) => {
            let (n, h, w) = (noisy.n, noisy.h / 2, noisy.w / 2);
            let pairs = std::fs::read(pairs)?;
            let neighbors = Neighbors { n, h, w, pairs };
            let factors = LossFactors {
                lambda1: 1.0,
                lambda2: 1.0,
                lambda: 1.0,
            };
            serve(&version, || {
                let losses = network.step(&noisy, &neighbors, factors, 3e-4)?;
                Ok(vec![losses.loss_full as f32])
            })
        }
        _ => Err("usage: peer infer|call|train MODEL IMAGES N H W [PAIRS]".into()),
    }
}

/// Answers each line of standard input with a line of JSON.
fn serve(version: &str, mut run: impl FnMut() -> Outcome<Vec<f32>>) -> Outcome<()> {
    answer(&json!({ "version": version }))?;
    let mut result = vec![];
    for line in stdin().lock().lines() {
        match line?.split_once(' ') {
            None => {
                let start = Instant::now();
                result = run()?;
                let ms = start.elapsed().as_secs_f64() * 1e3;
                answer(&json!({ "ms": ms, "peak_rss_mb": system::peak_rss_mb() }))?;
            }
            Some((_, path)) => {
                let bytes: Vec<_> = result.iter().flat_map(|x| x.to_le_bytes()).collect();
                std::fs::write(path, bytes)?;
                answer(&json!({}))?;
            }
        }
    }
    Ok(())
}

fn answer(json: &serde_json::Value) -> Outcome<()> {
    let mut stdout = stdout().lock();
    writeln!(stdout, "{json}")?;
    Ok(stdout.flush()?)
}

fn read_images(path: &str, n: usize, h: usize, w: usize) -> Outcome<Batch> {
    let bytes = std::fs::read(path)?;
    let values: Vec<_> = bytes
        .chunks_exact(4)
        .map(|value| f32::from_le_bytes(value.try_into().expect("four bytes")))
        .collect();
    let expected = n * h * w * 3;
    if values.len() != expected {
        return Err(format!("{path}: expected {expected} values, found {}", values.len()).into());
    }
    Ok(Batch::new(n, h, w, 3, values))
}
