//! Whole runs, on networks that record what they are asked.

mod devices;
mod fakes;
mod folder;
mod images;
mod memory;
mod resume;
mod steps;

use std::fs;

use super::*;
use crate::batch::Batch;
use crate::cpu::CpuNetwork;
use crate::image::{Depth, Image};
use crate::neighbors::Neighbors;
use crate::network::{Denoise, LossFactors, Losses, Pixels, State};
use crate::noise::Noise;
use crate::train::checkpoint::{self, Pending};
use crate::train::config::{Recipe, Span};
use crate::train::folder::LOSSES;
use crate::train::losses::LossRow;
use crate::train::random::{Purpose, stream};
use crate::unet::{Grid, UNet};
use crate::weights::Tensor;

use self::fakes::{Drawer, Recording};

/// [`crate::train::run`] of a new run that nobody stops.
fn run(config: &Config, network: &mut dyn Train, observe: &mut dyn FnMut(&Event)) -> Result<()> {
    let never = AtomicBool::new(false);
    let outcome = crate::train::run(config, Start::New, network, &never, observe)?;
    assert_eq!(outcome, Outcome::Finished);
    Ok(())
}

fn overwrite(config: &Config, observe: &mut dyn FnMut(&Event)) -> Result<Outcome> {
    let never = AtomicBool::new(false);
    crate::train::run(
        config,
        Start::Overwrite,
        &mut Recording::new(),
        &never,
        observe,
    )
}

fn rows(folder: &Path) -> Vec<LossRow> {
    let mut table = csv::Reader::from_path(folder.join(LOSSES)).unwrap();
    table.deserialize().map(|row| row.unwrap()).collect()
}

/// Five images of 64×80, two for validation of 30×20, and the settings of a short run.
fn workplace() -> (tempfile::TempDir, Config) {
    let folder = tempfile::tempdir().unwrap();
    for k in 0..5 {
        write_image(&folder.path().join(format!("images/{k}.png")), 64, 80, k);
    }
    for k in 0..2 {
        let path = format!("validation/BSD300/test/{k}.png");
        write_image(&folder.path().join(path), 30, 20, k);
    }
    let config = Config {
        data_dir: folder.path().join("images"),
        val_dirs: Some(folder.path().join("validation")),
        save_model_path: folder.path().into(),
        log_name: "run".into(),
        n_feature: 1,
        n_channel: 1,
        n_epoch: 5,
        n_snapshot: 2,
        log_iters: 2,
        batchsize: 2,
        patchsize: 64,
        seed: 3,
        ..Config::default()
    };
    (folder, config)
}

fn write_image(path: &Path, height: usize, width: usize, k: usize) {
    let value = |i: usize| ((i * i / 7 + 50 * k) % 256) as f32 / 255.0;
    let image = Image {
        height,
        width,
        channels: 1,
        data: (0..height * width).map(value).collect(),
        depth: Depth::U8,
    };
    image.write(path).unwrap();
}

/// Runs with a network that records, which comes back with the lines of the log.
fn trained(config: &Config) -> (Recording, Vec<String>) {
    let mut network = Recording::new();
    let mut lines = vec![];
    run(config, &mut network, &mut |event| {
        lines.extend(event.line());
    })
    .unwrap();
    (network, lines)
}

/// The images that the error names. Checks that it is that of a run that ended at this iteration of epoch 2 with a
/// non-finite loss, and that the run's checkpoint is readable.
fn not_finite(error: Error, iteration: usize, config: &Config) -> String {
    let Error::NotFinite {
        epoch: 2,
        iteration: at,
        images,
        checkpoint: Some(checkpoint),
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(at, iteration);
    assert_eq!(checkpoint, config.folder().join("latest.safetensors"));
    checkpoint::read(&checkpoint).unwrap();
    assert_eq!(images.split(", ").count(), config.batchsize, "{images}");
    images
}

/// The reason why a run ended. Checks that its checkpoint is that of the start of epoch 2.
fn unsaved(error: Error) -> Error {
    let Error::RunEnded {
        reason,
        checkpoint,
        epoch: 2,
        iteration: 0,
    } = error
    else {
        panic!("{error}")
    };
    let (_, progress) = checkpoint::read(&checkpoint).unwrap();
    assert_eq!((progress.epoch, progress.iteration), (2, 0));
    *reason
}

/// Runs a small network until it is asked to stop, after `events` events that `counted` accepts.
fn until(config: &Config, start: Start, events: usize, counted: fn(&Event) -> bool) -> Outcome {
    let mut network =
        CpuNetwork::initial_scaled(config.unet().unwrap(), config.init_scale, config.seed);
    until_with(&mut network, config, start, events, counted)
}

fn until_with(
    network: &mut dyn Train,
    config: &Config,
    start: Start,
    events: usize,
    counted: fn(&Event) -> bool,
) -> Outcome {
    let (stop, mut left) = (AtomicBool::new(events == 0), events);
    crate::train::run(config, start, network, &stop, &mut |event| {
        if counted(event) && left > 0 {
            left -= 1;
            stop.store(left == 0, Relaxed);
        }
    })
    .unwrap()
}

/// What a run left, without what depends on the clock.
fn left_by(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    let mut left = BTreeMap::new();
    for path in crate::files::find(folder, &["safetensors", "png", "csv", "log"]).unwrap() {
        let name = path.strip_prefix(folder).unwrap().display().to_string();
        let content = match name.as_str() {
            "train.log" => (text(&path).lines())
                .map(|line| line.split(", Time=").next().unwrap().to_owned() + "\n")
                .map(|line| line.replace(folder.to_str().unwrap(), ""))
                .collect::<String>()
                .into_bytes(),
            // Steps, losses, Λ and rate; then speed and time.
            "losses.csv" => (text(&path).lines())
                .map(|line| line.split(',').take(8).collect::<Vec<_>>().join(",") + "\n")
                .collect::<String>()
                .into_bytes(),
            "latest.safetensors" => {
                let (state, progress) = checkpoint::read(&path).unwrap();
                let of_the_clock = Progress {
                    elapsed_s: 0.0,
                    pending: Pending::default(),
                    logs: BTreeMap::new(),
                    ..progress
                };
                format!("{state:?}{of_the_clock:?}").into_bytes()
            }
            _ => fs::read(&path).unwrap(),
        };
        left.insert(name, content);
    }
    left
}
