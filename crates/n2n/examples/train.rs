//! Trains a model on the noisy images of a folder within a time budget, and saves it.
//!
//! ```sh
//! cargo run --release --example train -- FOLDER model.safetensors [TIME]
//! ```
//!
//! `TIME` is written as `30m` or `1h 30m`. For checkpoints, scores and resuming, see `n2n::train::run`.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use n2n::noise::Noise;
use n2n::train::{Config, Event, Folder};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, output, time) = match &arguments[..] {
        [folder, output] => (folder, output, "30m"),
        [folder, output, time] => (folder, output, time.as_str()),
        _ => return Err("usage: train FOLDER OUTPUT [TIME]".into()),
    };
    let config = Config {
        noise: Noise::NONE,
        time_budget: Some(time.parse()?),
        ..Config::fast()
    };
    // Images in memory instead: `n2n::train(&images, &config)`.
    let images = Arc::new(Folder::open(Path::new(folder), &[])?);
    let model = n2n::train_with(images, &config, &mut |event| {
        match event {
            Event::Skipped { error } => eprintln!("skipped: {error}"),
            Event::Stepped(step) => eprint!("\r{:5.1} %", 100.0 * step.passed),
            event => {
                if let Some(line) = event.line() {
                    eprintln!("\r{line}");
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    model.save(output)?;
    Ok(())
}
