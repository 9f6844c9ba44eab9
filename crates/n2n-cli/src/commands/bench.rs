//! `n2n bench`

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context, bail};
use n2n::bench::{Report, Work};
use n2n::cpu::CpuNetwork;
use n2n::weights::Weights;
use n2n::{models, system};

use crate::args::{self, BenchWork, Denoiser};
use crate::device::{self, Placed};
use crate::ui::Ui;

/// Runs the command.
pub fn run(args: &args::Bench, ui: Ui) -> anyhow::Result<ExitCode> {
    let work = match args.work {
        BenchWork::Infer => Work::Infer { size: args.size },
        BenchWork::Train => Work::Train {
            batch: args.batch,
            patch: args.patch,
        },
    };
    let Denoiser { device_args, half } = &args.denoiser;
    if *half && args.work == BenchWork::Train {
        bail!("n2n bench train does not support --half");
    }
    let Placed { mut network, level } = device::place(device_args, *half, &weights(args)?, ui)?;

    let bar = ui.progress(args.runs as u64);
    let times = work.measure(&mut *network, args.runs, args.seed, || bar.inc(1));
    bar.finish_and_clear();
    let times = times?;
    let report = Report {
        median_ms: times.median_ms(),
        min_ms: times.min_ms(),
        max_ms: times.max_ms(),
        runs: times.runs(),
        threads: rayon::current_num_threads(),
        device: network.device(),
        level: level.map(|level| level.to_string()),
        work,
        gflops: times.gflops(),
        peak_rss_mb: system::peak_rss_mb(),
    };
    ui.result(if args.json {
        report.json()
    } else {
        lines(&report)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The weights of the network to time: those of a model, or random ones that give outputs of the order of 1. The
/// reference's initial weights would not be a realistic test: they give outputs of 1e-6.
fn weights(args: &args::Bench) -> anyhow::Result<Weights> {
    match &args.model_path {
        None => Ok(CpuNetwork::initial_scaled(args.architecture, 1.0, args.seed).weights()),
        Some(model) => {
            let weights = models::load(Some(model))?;
            let unet = weights.architecture();
            unet.with_context(|| model.display().to_string())?;
            Ok(weights)
        }
    }
}

fn lines(report: &Report) -> String {
    let work = match report.work {
        Work::Infer { size: [h, w] } => format!("infer {h}x{w}"),
        Work::Train { batch, patch } => format!("train {batch}x{patch}x{patch}"),
    };
    let memory = match report.peak_rss_mb {
        Some(mb) => format!("{mb:.0} MB"),
        None => "not known on this system".into(),
    };
    let rows = [
        ("work", work),
        ("median", format!("{:.1} ms", report.median_ms)),
        ("min", format!("{:.1} ms", report.min_ms)),
        ("max", format!("{:.1} ms", report.max_ms)),
        ("runs", report.runs.to_string()),
        ("effective", format!("{:.1} GFLOP/s", report.gflops)),
        ("device", report.device.clone()),
        ("threads", report.threads.to_string()),
        ("peak memory", memory),
    ];
    let mut text = String::new();
    for (name, value) in rows {
        writeln!(text, "{name:<16}{value}").expect("a string takes everything");
    }
    text.truncate(text.trim_end().len());
    text
}
