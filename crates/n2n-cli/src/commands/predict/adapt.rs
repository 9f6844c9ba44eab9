//! `--adapt`: fits a copy of the model to the images before they are denoised.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use n2n::adapt::{self, Budget};
use n2n::denoise::Range;
use n2n::predict::{self, Input};
use n2n::weights::Weights;
use n2n::{Model, files, models};

use super::plan::{limits, selection};
use crate::args;
use crate::progress::Progress;
use crate::ui::Ui;

/// The weights of a copy of the model fitted to the images; a note says how, and by how much the loss fell.
pub(super) fn adapted(
    (weights, model_path): (Weights, &Path),
    budget: Budget,
    args: &args::Predict,
    jobs: &[predict::Job],
    images: &[Input],
    ui: Ui,
) -> anyhow::Result<Weights> {
    if args.range == Range::Percentile {
        bail!(
            "--range: expected auto or MIN,MAX with --adapt, which measures the range itself, found percentile"
        );
    }
    if let Some(file) = &args.save_model {
        files::check_writable(file)?;
    }
    let config = adapt::Config {
        budget,
        range: args.range,
        seed: args.seed,
        level: args.denoiser.device_args.processor.level(),
        ..adapt::Config::default()
    };
    // All images of a job array, so that each job comes to the same model.
    let inputs: Vec<_> = if images.is_empty() {
        jobs.iter().map(|job| job.input.clone()).collect()
    } else {
        images.to_vec()
    };
    let inputs = inputs.into_iter().map(|input| (input, selection(args)));
    let model = Model::from_weights(weights)?;
    let inputs = adapt::Inputs::new(inputs.collect(), limits(args), model.channels());
    let inputs = Arc::new(inputs);
    let others = other_shipped(model_path)?;
    let models: Vec<&Model> = std::iter::once(&model).chain(&others).collect();
    let mut progress = Progress::new(ui, "");
    let adapted = adapt::adapt(&models, inputs, &config, &mut |event| {
        match event {
            adapt::Event::Progress(passed) => {
                progress.show_part(passed, "fitting the model");
            }
            adapt::Event::Skipped { error } => progress.suspend(|| {
                ui.warn(format_args!("not used for fitting: {error}"));
            }),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    drop(progress);
    let adapted = adapted.context("--adapt")?;
    ui.note(format_args!("adapted: {adapted}"));
    if let Some(file) = &args.save_model {
        adapted.model.save(file)?;
    }
    Ok(adapted.model.weights().clone())
}

/// If `model` is a shipped one, the others of the same quality and channels, because the noise of the images is not
/// known.
fn other_shipped(model: &Path) -> anyhow::Result<Vec<Model>> {
    // A file of that name takes precedence.
    let Some(name) = model.to_str().filter(|_| !model.exists() || model.is_dir()) else {
        return Ok(vec![]);
    };
    let others = models::others(name).map(Model::load);
    Ok(others.collect::<Result<_, _>>()?)
}
