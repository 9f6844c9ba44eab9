//! `n2n predict`

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use n2n::cpu::CpuNetwork;
use n2n::denoise::{denoise_image, tile_pixels};
use n2n::image::Image;
use n2n::network::Network;
use n2n::{files, models};

use crate::args;
use crate::jobs::{Job, jobs};
use crate::ui::Ui;

/// Runs the command: every input is denoised and written as `<name>_denoise.png`.
///
/// An input that cannot be read, or a result that cannot be written, is reported, and the others go
/// on. A folder that cannot be written to at all is found out before the work.
pub fn run(args: &args::Predict, ui: Ui) -> anyhow::Result<ExitCode> {
    let inputs = args.inputs.iter().chain(&args.image_path);
    let jobs = jobs(inputs, &args.save_dir)?;
    let mut network = load(&args.model_path)?;
    if let Some(first) = jobs.first() {
        files::check_writable(&first.output)?;
    }

    let bar = ui.progress(jobs.len() as u64);
    let mut failed = 0;
    for job in &jobs {
        bar.set_message(job.input.display().to_string());
        match denoise(job, &mut network) {
            Ok(()) => bar.suspend(|| ui.result(job.output.display()))?,
            Err(error) => {
                failed += 1;
                bar.suspend(|| ui.error(format_args!("{error:#}")));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if failed > 0 && jobs.len() > 1 {
        ui.error(format_args!("{failed} of {} images failed", jobs.len()));
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn load(model: &Path) -> anyhow::Result<CpuNetwork> {
    let weights = models::load(Some(model))?;
    let network =
        CpuNetwork::from_weights(&weights).with_context(|| model.display().to_string())?;
    match network.architecture().n_channel {
        1 | 3 => Ok(network),
        other => bail!(
            "{}: expected a model of 1 channel (grey) or 3 (RGB), found {other}",
            model.display()
        ),
    }
}

fn denoise(job: &Job, network: &mut CpuNetwork) -> anyhow::Result<()> {
    let noisy = Image::read(&job.input)?;
    let max_pixels = tile_pixels(network.architecture());
    let image = denoise_image(network, noisy, max_pixels)
        .with_context(|| job.input.display().to_string())?;
    Ok(image.write(&job.output)?)
}
