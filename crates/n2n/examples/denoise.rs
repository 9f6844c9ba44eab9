//! Denoises an image file: any size, gray or RGB, with a progress line.
//!
//! ```sh
//! cargo run --release --example denoise -- noisy.png clean.png [MODEL]
//! ```
//!
//! `MODEL` is a weight file or the name of a shipped model. For files of several pages, with metadata and
//! transparency kept, see `n2n::predict`.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;

use n2n::{DenoiseOptions, Image, Model};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (input, output, model) = match &arguments[..] {
        [input, output] => (input, output, "gauss5_50"),
        [input, output, model] => (input, output, model.as_str()),
        _ => return Err("usage: denoise INPUT OUTPUT [MODEL]".into()),
    };
    let model = Model::load(model)?;
    let noisy = Image::read(Path::new(input))?;
    let clean = model.denoise_with(
        &noisy,
        &DenoiseOptions {
            on_progress: Some(&|progress| {
                eprint!("\r{:3.0} %", 100.0 * progress.fraction());
                ControlFlow::Continue(())
            }),
            ..DenoiseOptions::default()
        },
    )?;
    eprintln!();
    clean.write(Path::new(output))?;
    Ok(())
}
