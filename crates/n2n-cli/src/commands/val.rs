//! `n2n val`

use std::process::ExitCode;

use anyhow::{Context, bail};
use n2n::cpu::Level;
use n2n::denoise::{ModelRange, Transform};
use n2n::error::Error;
use n2n::eval::report::Report;
use n2n::eval::{self, Config};
use n2n::files;
use n2n::network::Denoise;
use n2n::unet::UNet;

use crate::args::{self, Denoiser};
use crate::device::{self, Placed};
use crate::progress::Progress;
use crate::ui::Ui;

/// Runs the command.
pub fn run(args: &args::Val, ui: Ui) -> anyhow::Result<ExitCode> {
    if args.csv.is_some() && args.csv == args.json {
        bail!("--csv and --json name the same file");
    }
    let Loaded {
        mut network,
        level,
        range,
    } = load(args, ui)?;
    let config = Config {
        val_dirs: args.val_dirs.clone(),
        sets: args.sets.clone(),
        repeats: args.repeats,
        noise: args.noisetype,
        ensemble: args.ensemble,
        range,
    };
    for path in args.csv.iter().chain(&args.json) {
        files::check_writable(path)?;
    }
    let mut progress = Progress::new(ui, "image");
    let report = eval::evaluate(&mut *network, &config, |scored| {
        let set = scored.score.set.name();
        progress.show(scored.done as f64, scored.total, set);
        Ok(())
    });
    drop(progress);
    let mut report = report?;
    report.cpu_level = level.map(|level| level.to_string());
    render(&report, ui)?;
    if let Some(path) = &args.csv {
        report.write_csv(path)?;
    }
    if let Some(path) = &args.json {
        report.write_json(path)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A model, ready to be scored.
struct Loaded {
    network: Box<dyn Denoise>,
    level: Option<Level>,
    /// The range that it was trained on, if it states one.
    range: Option<ModelRange>,
}

fn load(args: &args::Val, ui: Ui) -> anyhow::Result<Loaded> {
    let model = args.model_path.display();
    ui.result(format_args!("Loading pretrained model from {model}"))?;
    let weights = n2n::models::load(Some(&args.model_path))?;
    let unet = weights.architecture().with_context(|| model.to_string())?;
    check(args, unet)?;
    let range = ModelRange::of(&weights.metadata).with_context(|| model.to_string())?;
    let Denoiser { device_args, half } = &args.denoiser;
    let Placed { network, level } = device::place(device_args, *half, &weights, ui)?;
    let network = Transform::place(&weights.metadata, network);
    let network = network.with_context(|| model.to_string())?;
    let loaded = weights.tensors.len();
    ui.result(format_args!(
        "There are {loaded}/{loaded} variables loaded into UNet."
    ))?;
    Ok(Loaded {
        network,
        level,
        range,
    })
}

/// The reference is told the sizes of the model; here they follow from the weights, and sizes that
/// are given must agree.
fn check(args: &args::Val, model: UNet) -> Result<(), Error> {
    for (flag, told, found) in [
        ("--n-feature", args.n_feature, model.n_feature),
        ("--n-channel", args.n_channel, model.n_channel),
    ] {
        if let Some(told) = told.filter(|&told| told != found) {
            return Err(Error::value(
                flag,
                format!("{found}, as the model has"),
                told,
            ));
        }
    }
    Ok(())
}

fn render(report: &Report, ui: Ui) -> anyhow::Result<()> {
    for score in &report.sets {
        ui.result(score.line())?;
        let whole = score.set.images();
        if score.images != whole {
            ui.warn(format!(
                "{}: expected {whole} images, found {}; the score is not comparable with \
                 published ones",
                score.set, score.images
            ));
        }
    }
    if report.ensemble {
        ui.note("note: scored with --ensemble; published scores do not use it");
    }
    ui.note(format!("{:.2} images/s", report.images_per_s()));
    Ok(())
}
