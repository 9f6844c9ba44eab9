//! `n2n infer`

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use n2n::autolog::Benchmark;
use n2n::cpu::{CpuNetwork, Level};
use n2n::denoise::{ModelRange, Transform};
use n2n::infer::{self, Config, Denoised, Inference, REFERENCE_SIDE, Score};
use n2n::network::Denoise;
use n2n::weights::Weights;
use n2n::{Error, files, models, system};

use crate::args::{self, Precision};
use crate::jobs::{AsPng, Earlier, jobs, reject_replacing};
use crate::progress::Progress;
use crate::rten_engine::RtenModel;
use crate::ui::{Ui, counted};

/// Runs the command: denoises the images, prints how similar each result is to its input, and, if
/// asked, reports memory and times.
pub fn run(args: &args::Infer, ui: Ui) -> anyhow::Result<ExitCode> {
    reject_unsupported(args)?;
    note_ineffective(args, ui);
    let jobs = jobs([&args.input_file], &args.save_dir, &AsPng, Earlier::Image)?;
    let mut model = Model::load(args)?;
    let config = Config {
        images: jobs
            .into_iter()
            .map(|job| (job.input, job.output))
            .collect(),
        batch_size: args.batch_size,
        size: (!args.keep_size).then_some((REFERENCE_SIDE, REFERENCE_SIDE)),
        noise: args.noisetype,
        seed: args.seed,
        range: model.range,
    };
    if let Some((_, output)) = config.images.first() {
        files::check_writable(output)?;
    }
    if args.enable_benchmark {
        let images = config
            .images
            .iter()
            .flat_map(|(input, output)| [&**input, &**output]);
        reject_replacing(&[("--log-path", Some(&args.log_path))], images)?;
        files::check_writable(&args.log_path)?;
    }

    let mut progress = Progress::new(ui, "image");
    let (mut count, total) = (0_u32, config.images.len());
    let mut said = Ok(());
    let done = infer::infer(&mut *model.network, &config, |image| {
        if said.is_ok() {
            said = progress.suspend(|| print_image(image, ui));
        }
        count += 1;
        progress.show(f64::from(count), total, "");
    });
    drop(progress);
    let done = done?;
    said?;
    print_means(&done.images, ui)?;
    if args.enable_benchmark {
        report(args, &benchmark(&config, &model, &done), ui)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Rejects flags that are not supported, instead of silently doing something else.
fn reject_unsupported(args: &args::Infer) -> Result<(), Error> {
    if args.use_gpu {
        let expected = "False (this command runs on the CPU)";
        return Err(Error::value("--use-gpu", expected, "True"));
    }
    if args.use_tensorrt {
        let expected = "False (the engines are native and rten)";
        return Err(Error::value("--use-tensorrt", expected, "True"));
    }
    let got = match args.precision {
        Precision::Fp32 => return Ok(()),
        Precision::Fp16 => "fp16",
        Precision::Int8 => "int8",
    };
    let expected = "fp32 (this command computes in 32-bit floats)";
    Err(Error::value("--precision", expected, got))
}

fn note_ineffective(args: &args::Infer, ui: Ui) {
    if args.enable_mkldnn {
        ui.note(
            "note: --enable-mkldnn: there is no oneDNN (MKL-DNN) here; the engine's own kernels run \
             either way, and the report says enable_mkldnn: False",
        );
    }
    if !args.ir_optim {
        ui.note(
            "note: --ir-optim: the engine's optimizations cannot be turned off, and the report says \
             ir_optim: True",
        );
    }
}

/// A model, loaded into the engine that runs it.
struct Model {
    network: Box<dyn Denoise>,
    engine: &'static str,
    /// The level of our kernels, if they run.
    level: Option<Level>,
    /// The range that it was trained on, if it states one.
    range: Option<ModelRange>,
}

impl Model {
    fn load(args: &args::Infer) -> anyhow::Result<Self> {
        let path = &args.model_file;
        let name = || path.display().to_string();
        let range = |weights: &Weights| ModelRange::of(&weights.metadata).with_context(name);
        let placed = |network, weights: &Weights| {
            Transform::place(&weights.metadata, network).with_context(name)
        };
        match args.engine {
            args::Engine::Native => {
                let weights = models::load(Some(path))?;
                let mut network = CpuNetwork::from_weights(&weights).with_context(name)?;
                network.set_level(args.processor.level());
                Ok(Self {
                    engine: "native",
                    level: Some(network.level()),
                    network: placed(Box::new(network), &weights)?,
                    range: range(&weights)?,
                })
            }
            args::Engine::Rten => {
                let bytes = std::fs::read(path).with_context(name)?;
                // Nothing is known about a foreign network.
                let weights = Weights::decode(&bytes, path).ok();
                let mut network: Box<dyn Denoise> = Box::new(RtenModel::from_bytes(bytes, path)?);
                let mut trained_on = None;
                if let Some((weights, _)) = weights {
                    network = placed(network, &weights)?;
                    trained_on = range(&weights)?;
                }
                Ok(Self {
                    network,
                    engine: "rten",
                    level: None,
                    range: trained_on,
                })
            }
        }
    }
}

/// Prints the path of the result and its scores. The reference prints only the score against the noisy input, although
/// a denoised image should differ from that.
fn print_image(image: &Denoised, ui: Ui) -> anyhow::Result<()> {
    ui.result(image.output.display())?;
    print_scores(Some(image.against_noisy), image.against_clean, ui)
}

fn print_means(images: &[Denoised], ui: Ui) -> anyhow::Result<()> {
    ui.result(format_args!("mean of {}", counted(images.len(), "image")))?;
    let noisy = images.iter().map(|image| Some(image.against_noisy));
    let clean = images.iter().map(|image| image.against_clean);
    print_scores(mean(noisy), mean(clean), ui)
}

fn print_scores(noisy: Option<Score>, clean: Option<Score>, ui: Ui) -> anyhow::Result<()> {
    for (against, score) in [("noisy input", noisy), ("clean image", clean)] {
        if let Some(Score { psnr_db, ssim }) = score {
            let ssim = ssim.map_or("None".into(), |ssim| format!("{ssim:?}"));
            ui.result(format_args!(
                "[INFER] output against {against}: psnr:{psnr_db:?} ssim:{ssim}"
            ))?;
        }
    }
    Ok(())
}

/// The mean of scores; none if one is missing.
fn mean(scores: impl Iterator<Item = Option<Score>>) -> Option<Score> {
    let scores: Vec<Score> = scores.collect::<Option<_>>()?;
    let n = scores.len() as f64;
    let ssims: Option<Vec<f64>> = scores.iter().map(|score| score.ssim).collect();
    Some(Score {
        psnr_db: scores.iter().map(|score| score.psnr_db).sum::<f64>() / n,
        ssim: ssims.map(|ssims| ssims.iter().sum::<f64>() / n),
    })
}

fn benchmark(config: &Config, model: &Model, done: &Inference) -> Benchmark {
    Benchmark {
        os_version: system::os_version(),
        engine: model.engine.into(),
        cpu_level: model.level.map(|level| level.to_string()),
        threads: rayon::current_num_threads(),
        batch_size: config.batch_size,
        input_shape: config.size.map(|(h, w)| [model.network.channels(), h, w]),
        data_num: done.images.len(),
        cpu_rss_mb: system::rss_mb(),
        times: done.times,
    }
}

/// Prints the report and writes it to the file. As with AutoLog, the file holds the last report.
fn report(args: &args::Infer, benchmark: &Benchmark, ui: Ui) -> anyhow::Result<()> {
    let time = jiff::Zoned::now().strftime("%Y/%m/%d %H:%M:%S").to_string();
    let lines = benchmark.lines(&time).join("\n");
    ui.result(&lines)?;
    let path = &args.log_path;
    files::write_atomically(path, |file| {
        writeln!(file, "{lines}").map_err(Error::io(path))
    })?;
    Ok(())
}
