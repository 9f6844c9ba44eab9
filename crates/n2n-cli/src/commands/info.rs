//! `n2n info`

use std::fmt::{Display, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use n2n::cpu::{CpuNetwork, Level};
use n2n::models;
use n2n::unet::UNet;

use crate::args;
use crate::device;
use crate::ui::Ui;

/// Runs the command.
pub fn run(args: &args::Info, ui: Ui) -> anyhow::Result<ExitCode> {
    let text = match &args.model_path {
        Some(model) => describe_model(model)?,
        None => describe_build(args.processor.level()),
    };
    ui.result(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn describe_build(level: Level) -> String {
    let mut text = format!("n2n {}\n", env!("CARGO_PKG_VERSION"));
    let system = format!("{} {}", std::env::consts::ARCH, std::env::consts::OS);
    entry(&mut text, "system", system);
    let levels: Vec<_> = Level::available()
        .iter()
        .map(|level| level.name())
        .collect();
    entry(&mut text, "cpu level", level);
    entry(&mut text, "levels", levels.join(", "));
    let units = CpuNetwork::matrix_units().unwrap_or("none");
    entry(&mut text, "matrix units", units);
    entry(&mut text, "threads", rayon::current_num_threads());
    for (name, device) in device::entries() {
        entry(&mut text, &name, device);
    }
    entry(&mut text, "default model", models::DEFAULT);
    text.push_str("\nshipped models    quality  cost   BSD300  Kodak\n");
    for model in models::SHIPPED {
        let unet = models::load(Some(Path::new(model.name)))
            .and_then(|weights| weights.architecture())
            .expect("a shipped model is valid");
        let scores = model.scores.map_or_else(
            || format!("{:<15}", ""),
            |[bsd300, kodak]| format!("{bsd300:<8.2}{kodak:<7.2}"),
        );
        writeln!(
            text,
            "{:<18}{:<9}{:<7}{scores}{}",
            model.name,
            model.quality.name(),
            format!("{:.2}×", cost(&unet)),
            model.description
        )
        .expect("a string takes everything");
    }
    let whole = UNet::default().multiply_adds_per_pixel();
    writeln!(
        text,
        "cost: relative to the {whole:.0} multiply-adds per pixel of the paper's network; BSD300, Kodak: PSNR in dB \
         with the model's noise, by n2n val"
    )
    .expect("a string takes everything");
    text
}

fn describe_model(model: &Path) -> anyhow::Result<String> {
    let (weights, format) = models::load_with_format(Some(model))?;
    let unet = weights
        .architecture()
        .with_context(|| model.display().to_string())?;

    let mut text = String::new();
    entry(&mut text, "model", model.display());
    entry(&mut text, "format", format);
    entry(&mut text, "n_feature", unet.n_feature);
    entry(&mut text, "n_channel", unet.n_channel);
    entry(&mut text, "parameters", unet.parameters());
    let multiply_adds = unet.multiply_adds_per_pixel();
    let part = cost(&unet);
    entry(
        &mut text,
        "multiply-adds",
        format_args!("{multiply_adds:.0} per pixel, {part:.2}× the paper's network"),
    );
    for (key, value) in &weights.metadata {
        if !["n_feature", "n_channel"].contains(&key.as_str()) {
            // A file's text must not move the cursor or forge another line.
            entry(
                &mut text,
                &key.escape_debug().to_string(),
                value.escape_debug(),
            );
        }
    }

    let row = |text: &mut String, cells: [&str; 5]| {
        let [layer, weight, bias, parameters, resolution] = cells;
        writeln!(
            text,
            "{layer:<12}{weight:<18}{bias:<8}{parameters:>10}  {resolution}"
        )
        .expect("a string takes everything");
    };
    text.push('\n');
    row(
        &mut text,
        ["layer", "weight", "bias", "parameters", "resolution"],
    );
    for layer in unet.layers() {
        let weight = layer.weight_shape();
        let parameters = weight.iter().product::<usize>() + layer.outputs;
        let resolution = match layer.scale {
            1 => "1".to_owned(),
            scale => format!("1/{scale}"),
        };
        row(
            &mut text,
            [
                layer.name,
                &format!("{weight:?}"),
                &format!("[{}]", layer.outputs),
                &parameters.to_string(),
                &resolution,
            ],
        );
    }
    Ok(text)
}

/// Multiply-adds relative to the paper's network.
fn cost(unet: &UNet) -> f64 {
    unet.multiply_adds_per_pixel() / UNet::default().multiply_adds_per_pixel()
}

fn entry(text: &mut String, name: &str, value: impl Display) {
    writeln!(text, "{name:<16}{value}").expect("a string takes everything");
}
