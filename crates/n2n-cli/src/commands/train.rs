//! `n2n train`

use std::process::ExitCode;

use indicatif::ProgressBar;
use n2n::cpu::CpuNetwork;
use n2n::error::Error;
use n2n::train::{Config, Event};
use n2n::unet::UNet;

use crate::args;
use crate::ui::Ui;

/// Runs the command.
pub fn run(args: &args::Train, ui: Ui) -> anyhow::Result<ExitCode> {
    if args.gpu_devices.is_some() || args.parallel.is_some() {
        ui.note("note: this program trains on the CPU; --gpu-devices and --parallel do nothing");
    }
    let config = config(args);
    config.check()?;
    let unet = UNet::new(args.n_feature, args.n_channel)?;
    let mut network = CpuNetwork::initial_scaled(unet, args.init_scale, args.seed);

    let mut screen = Screen::new(ui);
    let outcome = n2n::train::run(&config, &mut network, &mut |event| screen.show(event));
    screen.bar.finish_and_clear();
    match outcome {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error @ Error::RunExists { .. }) => Err(anyhow::anyhow!(
            "{error}\nhint: choose another --log-name, or pass --overwrite"
        )),
        Err(error) => Err(error.into()),
    }
}

fn config(args: &args::Train) -> Config {
    Config {
        noise: args.noisetype,
        data_dir: args.data_dir.clone(),
        val_dirs: args
            .val_dirs
            .clone()
            .unwrap_or_else(|| "./validation".into()),
        save_model_path: args.save_model_path.clone(),
        log_name: args.log_name.clone(),
        overwrite: args.overwrite,
        lr: args.lr,
        gamma: args.gamma,
        n_epoch: args.n_epoch,
        log_iters: args.log_iters,
        n_snapshot: args.n_snapshot,
        batchsize: args.batchsize,
        patchsize: args.patchsize,
        lambda1: args.lambda1,
        lambda2: args.lambda2,
        increase_ratio: args.increase_ratio,
        init_scale: args.init_scale,
        seed: args.seed,
        ..Config::default()
    }
}

/// The log on standard output, below it a progress bar: first over the files, then over the run.
struct Screen {
    ui: Ui,
    bar: ProgressBar,
    n_epoch: usize,
}

impl Screen {
    fn new(ui: Ui) -> Self {
        Self {
            ui,
            bar: ProgressBar::hidden(),
            n_epoch: 0,
        }
    }

    fn show(&mut self, event: &Event) {
        if let Some(line) = event.line() {
            // A screen that takes no more must not end days of training; the line is in train.log.
            let _ = self.bar.suspend(|| self.ui.result(line));
        }
        match event {
            Event::Scanned { done: 0, total } => {
                self.bar = self.ui.progress(*total as u64);
                self.bar.set_message("images read");
            }
            Event::Scanned { done, total } => {
                self.bar.set_position(*done as u64);
                if done == total {
                    self.bar.finish_and_clear();
                }
            }
            Event::Skipped { error } => {
                let text = format!("{error}; left out");
                self.bar.suspend(|| self.ui.warn(text));
            }
            Event::Padded { images, patchsize } => self.ui.note(format!(
                "note: {images} images are smaller than the patches of {patchsize} pixels; \
                 they are padded by reflection"
            )),
            Event::Unvalidated { folder } => self.ui.note(format!(
                "note: no validation set in {}; training goes on without scores",
                folder.display()
            )),
            Event::Began {
                n_epoch,
                iterations,
                ..
            } => {
                self.n_epoch = *n_epoch;
                self.bar = self.ui.progress((n_epoch * iterations) as u64);
            }
            Event::Stepped(step) => {
                self.bar.set_message(format!(
                    "epoch {}/{}, loss {:.6}",
                    step.epoch, self.n_epoch, step.losses.loss_full
                ));
                self.bar.inc(1);
            }
            Event::Scored { done, total } => {
                self.bar.set_message(format!("scoring {done}/{total}"));
            }
            _ => {}
        }
    }
}
