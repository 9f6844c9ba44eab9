//! Whole runs, on networks that record what they are asked.

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
use crate::unet::{Grid, UNet};
use crate::weights::Tensor;

/// Stands in for a device: writes down what it is asked, and keeps one number that every step
/// changes for its weights.
struct Recording {
    weight: f32,
    steps: Vec<Asked>,
    fail_at: Option<usize>,
    lost_at: Option<usize>,
    /// The reconstruction loss of each step, counted from 1.
    loss: fn(usize) -> f64,
}

/// [`super::run`] of a new run that nobody stops.
fn run(config: &Config, network: &mut dyn Train, observe: &mut dyn FnMut(&Event)) -> Result<()> {
    let never = AtomicBool::new(false);
    let outcome = super::run(config, Start::New, network, &never, observe)?;
    assert_eq!(outcome, Outcome::Finished);
    Ok(())
}

fn overwrite(config: &Config, observe: &mut dyn FnMut(&Event)) -> Result<Outcome> {
    let never = AtomicBool::new(false);
    super::run(
        config,
        Start::Overwrite,
        &mut Recording::new(),
        &never,
        observe,
    )
}

#[derive(Debug, Clone, PartialEq)]
struct Asked {
    noisy: Batch,
    neighbors: Neighbors,
    factors: LossFactors,
    learning_rate: f64,
}

impl Recording {
    fn new() -> Self {
        Self {
            weight: 1.0,
            steps: vec![],
            fail_at: None,
            lost_at: None,
            loss: |_| 0.25,
        }
    }
}

impl Denoise for Recording {
    fn channels(&self) -> usize {
        1
    }

    fn grid(&self) -> Grid {
        self.architecture().grid()
    }

    fn denoise(&mut self, noisy: &Batch) -> Result<Batch> {
        Ok(noisy.clone())
    }

    fn working_bytes(&self, _: usize, _: usize) -> u64 {
        0
    }

    fn device(&self) -> String {
        "a test".into()
    }
}

impl Train for Recording {
    fn architecture(&self) -> UNet {
        UNet::new(1, 1).unwrap()
    }

    fn step(
        &mut self,
        sample: &Sample,
        factors: LossFactors,
        learning_rate: f64,
    ) -> Result<Option<Losses>> {
        let Sample::Noisy(noisy, neighbors) = sample else {
            panic!("clean patches are not wanted");
        };
        self.steps.push(Asked {
            noisy: noisy.clone(),
            neighbors: neighbors.clone(),
            factors,
            learning_rate,
        });
        if self.lost_at == Some(self.steps.len()) {
            return Err(lost());
        }
        self.weight = self.weight * 0.9 + noisy.data[0];
        let failed = self.fail_at == Some(self.steps.len());
        Ok(Some(Losses {
            loss1: (self.loss)(self.steps.len()),
            loss2: 0.5 * factors.lambda,
            loss_full: if failed { f64::NAN } else { 0.75 },
        }))
    }

    fn weights(&self) -> Result<Weights> {
        let tensors = self.architecture().tensors().into_iter().map(|spec| {
            let data = vec![self.weight; spec.len()];
            let shape = spec.shape;
            (spec.name, Tensor { shape, data })
        });
        Ok(Weights {
            tensors: tensors.collect(),
            ..Weights::default()
        })
    }

    fn set_weights(&mut self, _: &Weights) -> Result<()> {
        unreachable!("training starts from the weights it is given")
    }

    fn state(&self) -> Result<State> {
        Ok(State {
            weights: self.weights()?,
            first: self.weights()?,
            second: self.weights()?,
            steps: 0,
            average: None,
        })
    }

    fn set_state(&mut self, state: &State) -> Result<()> {
        self.weight = state.weights.tensors["nin_c.bias"].data[0];
        Ok(())
    }

    fn average(&mut self, _: f64) {}

    fn swap_average(&mut self) {}
}

fn lost() -> Error {
    Error::Device {
        device: "a test".into(),
        reason: "it was unplugged".into(),
    }
}

fn no_memory() -> Error {
    Error::OutOfMemory {
        device: "a test".into(),
        asked: "a step".into(),
        fits: None,
    }
}

/// Stands in for a device that draws noise and neighbours itself, and tells of its steps when asked.
struct Drawer {
    network: CpuNetwork,
    /// The losses of each step, and its seed.
    steps: Vec<(Losses, u64)>,
    /// Steps that were told of, at each time it was asked.
    told: Vec<usize>,
    /// Steps that noise was drawn for elsewhere.
    noisy: usize,
    fail_at: Option<usize>,
    has_failed: bool,
    lost_at: Option<usize>,
    full_at: Option<usize>,
}

impl Drawer {
    fn new(config: &Config) -> Self {
        let unet = config.unet().unwrap();
        Self {
            network: CpuNetwork::initial_scaled(unet, config.init_scale, config.seed),
            steps: vec![],
            told: vec![],
            noisy: 0,
            fail_at: None,
            has_failed: false,
            lost_at: None,
            full_at: None,
        }
    }
}

impl Denoise for Drawer {
    fn channels(&self) -> usize {
        self.network.channels()
    }

    fn grid(&self) -> Grid {
        self.network.grid()
    }

    fn denoise(&mut self, noisy: &Batch) -> Result<Batch> {
        self.network.denoise(noisy)
    }

    fn working_bytes(&self, h: usize, w: usize) -> u64 {
        self.network.working_bytes(h, w)
    }

    fn device(&self) -> String {
        "a test that draws".into()
    }
}

impl Train for Drawer {
    fn architecture(&self) -> UNet {
        self.network.architecture()
    }

    fn wants(&self) -> Kind {
        Kind::Clean
    }

    fn reserve_step(&mut self, _: usize, _: usize, _: usize) -> Result<()> {
        match self.full_at {
            Some(0) => Err(no_memory()),
            _ => Ok(()),
        }
    }

    fn step(&mut self, sample: &Sample, factors: LossFactors, rate: f64) -> Result<Option<Losses>> {
        let clean = match sample {
            Sample::Noisy(noisy, neighbors) => {
                self.noisy += 1;
                return self.network.step(noisy, neighbors, factors, rate).map(Some);
            }
            Sample::Clean(clean) => clean,
        };
        let at = self.steps.len() + 1;
        if self.lost_at == Some(at) {
            return Err(lost());
        }
        self.has_failed |= self.fail_at == Some(at);
        let mut losses = Losses {
            loss1: 0.0,
            loss2: 0.0,
            loss_full: f64::NAN,
        };
        if !self.has_failed {
            let pixels = match &clean.pixels {
                Pixels::U8(bytes) => bytes.iter().map(|&x| f32::from(x) / 255.0).collect(),
                Pixels::F32(floats) => floats.clone(),
            };
            let mut noisy = Batch::new(clean.n, clean.side, clean.side, clean.c, pixels);
            let mut rng = stream(clean.seed, Purpose::Noise, 0, 0);
            clean.noise.corrupt_in_place(&mut noisy, &mut rng);
            let neighbors = Neighbors::draw(&noisy, &mut rng);
            losses = self.network.step(&noisy, &neighbors, factors, rate)?;
        }
        self.steps.push((losses, clean.seed));
        Ok(None)
    }

    fn take_losses(&mut self) -> Result<Losses> {
        if self.full_at.is_some_and(|at| at <= self.steps.len()) {
            return Err(no_memory());
        }
        let before = self.told.last().copied().unwrap_or(0);
        self.told.push(self.steps.len());
        let sum = |part: fn(&Losses) -> f64| {
            let untold = self.steps[before..].iter();
            untold.map(|(losses, _)| part(losses)).sum()
        };
        Ok(Losses {
            loss1: sum(|losses| losses.loss1),
            loss2: sum(|losses| losses.loss2),
            loss_full: sum(|losses| losses.loss_full),
        })
    }

    fn weights(&self) -> Result<Weights> {
        Train::weights(&self.network)
    }

    fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        self.network.set_weights(weights)
    }

    fn state(&self) -> Result<State> {
        Train::state(&self.network)
    }

    fn set_state(&mut self, state: &State) -> Result<()> {
        self.network.set_state(state)
    }

    fn average(&mut self, decay: f64) {
        if !self.has_failed {
            self.network.average(decay);
        }
    }

    fn swap_average(&mut self) {
        self.network.swap_average();
    }
}

/// Two epochs of seven steps, with a row of losses after every third and at the end.
fn drawn() -> (tempfile::TempDir, Config) {
    let (folder, config) = workplace();
    let config = Config {
        n_epoch: 2,
        steps_per_epoch: Some(7),
        log_iters: 3,
        ema: 0.9,
        ..config
    };
    (folder, config)
}

fn rows(folder: &Path) -> Vec<LossRow> {
    let mut table = csv::Reader::from_path(folder.join(LOSSES)).unwrap();
    table.deserialize().map(|row| row.unwrap()).collect()
}

#[test]
fn a_device_that_draws_is_asked_for_losses_only_when_they_are_written() {
    let (_folder, config) = drawn();
    let mut network = Drawer::new(&config);
    let mut told = vec![];
    run(&config, &mut network, &mut |event| {
        if let Event::Stepped(step) = event {
            told.push((step.stats.map(|told| told.losses), step.logged));
        }
    })
    .unwrap();
    let ends = [3, 6, 7, 10, 13, 14];
    assert_eq!((network.told.as_slice(), network.noisy), (&ends[..], 0));
    let seeds: std::collections::HashSet<_> = network.steps.iter().map(|step| step.1).collect();
    assert_eq!(seeds.len(), 14);

    let rows = rows(&config.folder());
    assert_eq!(
        rows.iter().map(|row| row.step as usize).collect::<Vec<_>>(),
        ends
    );
    let mut begin = 0;
    for (row, end) in rows.iter().zip(ends) {
        let steps = &network.steps[begin..end];
        let mean = |part: fn(&Losses) -> f64| {
            steps.iter().map(|step| part(&step.0)).sum::<f64>() / steps.len() as f64
        };
        assert_eq!(row.loss1, mean(|losses| losses.loss1));
        assert_eq!(row.loss2, mean(|losses| losses.loss2));
        assert_eq!(row.loss_full, mean(|losses| losses.loss_full));
        // From here on to the next row these are the last that are known.
        assert_eq!(told[end - 1].0.unwrap().loss1, row.loss1);
        begin = end;
    }
    assert_eq!((told[0].0, told[1].0), (None, None));
    assert_eq!(told[2].0, told[3].0);
    let logged: Vec<_> = (1..=14).filter(|step| told[step - 1].1).collect();
    assert_eq!(logged, [3, 6, 10, 13]);
}

#[test]
fn a_device_that_draws_resumes_as_if_it_had_not_been_interrupted() {
    let (_folder, config) = drawn();
    let config = Config {
        n_snapshot: 1,
        ..config
    };
    let end = |log_name: &str, stops: &[usize]| {
        let config = Config {
            log_name: log_name.into(),
            ..config.clone()
        };
        let mut start = Start::New;
        for &steps in stops.iter().chain([&usize::MAX]) {
            let mut network = Drawer::new(&config);
            let step = |event: &Event| matches!(event, Event::Stepped(_));
            let outcome = until_with(&mut network, &config, start, steps, step);
            assert_eq!(outcome == Outcome::Finished, steps == usize::MAX);
            start = Start::Resume;
        }
        let mut left = left_by(&config.folder());
        // Sums of other parts differ in their last bit.
        left.remove(LOSSES);
        (left, rows(&config.folder()))
    };
    let (expected, expected_rows) = end("whole", &[]);
    for stops in [&[1][..], &[3], &[5, 1], &[7, 4]] {
        let (left, rows) = end(&format!("part{}", stops[0]), stops);
        for (name, content) in &expected {
            assert!(left.get(name) == Some(content), "{name} of {stops:?}");
        }
        for (row, expected) in rows.iter().zip(&expected_rows) {
            assert_eq!((row.step, row.lambda), (expected.step, expected.lambda));
            let error = (row.loss_full - expected.loss_full).abs();
            assert!(error < 1e-14 * expected.loss_full, "{row:?} {expected:?}");
        }
        assert_eq!(rows.len(), expected_rows.len());
    }
}

#[test]
fn of_steps_told_together_the_one_that_is_not_finite_is_named() {
    let (folder, config) = drawn();
    let mut network = Drawer::new(&config);
    network.fail_at = Some(7 + 5);
    let error = run(&config, &mut network, &mut |_| {}).unwrap_err();
    let Error::NotFinite {
        epoch: 2,
        iteration: 5,
        images,
        checkpoint,
    } = error
    else {
        panic!("{error}")
    };
    let source = Arc::new(open_folder(&config).unwrap());
    let (dataset, _) = read_images(source, &config, &mut |_| {}).unwrap();
    let loader = Loader::new(dataset, &config).unwrap();
    assert_eq!(images, loader.names(2, 4).join(", "));
    assert_eq!(images.split(", ").count(), 2);
    // It was found at the next row.
    assert_eq!(network.steps.len(), 7 + 6);
    let checkpoint = checkpoint.unwrap();
    assert_eq!(checkpoint, folder.path().join("run/latest.safetensors"));
    checkpoint::read(&checkpoint).unwrap();
}

#[test]
fn a_device_that_draws_is_given_noise_that_is_frozen() {
    let (_folder, config) = drawn();
    let config = Config {
        frozen_noise: true,
        ..config
    };
    let mut network = Drawer::new(&config);
    run(&config, &mut network, &mut |_| {}).unwrap();
    assert_eq!((network.noisy, network.steps.len()), (14, 0));
}

#[test]
fn a_run_whose_device_fails_names_its_checkpoint() {
    let (_folder, config) = drawn();
    let mut failed = vec![];
    let mut fail = |log_name: &str, network: &mut dyn Train| {
        let config = Config {
            log_name: log_name.into(),
            n_snapshot: 1,
            ..config.clone()
        };
        let error = run(&config, network, &mut |_| {}).unwrap_err();
        let Error::Unsaved {
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
        failed.push(reason.to_string());
    };
    let mut told_at_once = Recording::new();
    told_at_once.lost_at = Some(9);
    fail("at_once", &mut told_at_once);
    let mut lost = Drawer::new(&config);
    lost.lost_at = Some(9);
    fail("drawing", &mut lost);
    let mut full = Drawer::new(&config);
    full.full_at = Some(9);
    fail("full", &mut full);
    let unplugged = "a test: it was unplugged";
    let full = "a test has not the memory for a step";
    assert_eq!(failed, [unplugged, unplugged, full]);
}

#[test]
fn outputs_and_scored_images_are_not_trained_on() {
    let (folder, mut config) = workplace();
    config.data_dir = folder.path().into();
    let mut samples = vec![];
    for _ in 0..2 {
        overwrite(&config, &mut |event| {
            if let Event::Fetched { samples: count } = event {
                samples.push(*count);
            }
        })
        .unwrap();
    }
    assert_eq!(samples, [5, 5]);
}

#[test]
fn a_users_own_files_are_not_overwritten() {
    let (_folder, config) = workplace();
    fs::create_dir_all(config.folder()).unwrap();
    let notes = config.folder().join("config.json");
    fs::write(&notes, "mine").unwrap();
    let error = run(&config, &mut Recording::new(), &mut |_| ()).unwrap_err();
    assert!(matches!(error, Error::RunExists { .. }), "{error}");
    assert_eq!(fs::read_to_string(notes).unwrap(), "mine");
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

#[test]
fn each_step_gets_fresh_noise_and_neighbours_and_its_epochs_schedule() {
    let (_folder, config) = workplace();
    let (network, _) = trained(&config);
    assert_eq!(network.steps.len(), 5 * 2);
    for (i, step) in network.steps.iter().enumerate() {
        let epoch = i / 2 + 1;
        let passed = i as f64 / 10.0;
        let moment = Moment { epoch, passed };
        assert_eq!(step.learning_rate, config.learning_rate(moment));
        assert_eq!(step.factors, config.factors(moment));
        let noisy = &step.noisy;
        assert_eq!((noisy.n, noisy.h, noisy.w, noisy.c), (2, 64, 64, 1));
        assert_eq!((step.neighbors.h, step.neighbors.w), (32, 32));
        for other in &network.steps[..i] {
            assert_ne!(other.noisy, step.noisy);
            assert_ne!(other.neighbors, step.neighbors);
        }
    }
}

/// Every image is one grey, so that what is left without it is the noise.
#[test]
fn the_noise_asked_for_is_added_and_none_when_none_is() {
    let (folder, mut config) = workplace();
    for k in 0..5 {
        let image = Image::from_bytes(64, 64, 1, &[51; 64 * 64]);
        image
            .write(&folder.path().join(format!("images/{k}.png")))
            .unwrap();
    }
    let (network, _) = trained(&config);
    let noise = network.steps.iter().flat_map(|step| &step.noisy.data);
    let variances: Vec<_> = noise.map(|x| (f64::from(*x) - 0.2).powi(2)).collect();
    let deviation = (variances.iter().sum::<f64>() / variances.len() as f64).sqrt();
    // 81,920 values: the standard error of the deviation is 0.25 %.
    assert!((deviation * 255.0 - 25.0).abs() < 0.3, "{deviation}");

    config.noise = Noise::None;
    config.steps_per_epoch = Some(2);
    config.holdout = Some(0);
    config.log_name = "real".into();
    let (network, _) = trained(&config);
    let mut values = network.steps.iter().flat_map(|step| &step.noisy.data);
    assert!(values.all(|&x| x == 51.0 / 255.0));
}

#[test]
fn a_run_depends_on_the_seed_and_not_on_threads_or_memory() {
    let (_folder, mut config) = workplace();
    let (expected, _) = trained(&config);
    config.log_name = "again".into();
    config.loader_threads = 5;
    config.cache_mb = 0;
    let (again, _) = trained(&config);
    assert!(again.steps == expected.steps);
    assert_eq!(again.weight, expected.weight);
    config.log_name = "other".into();
    config.seed += 1;
    let (other, _) = trained(&config);
    assert!(other.steps[0].noisy != expected.steps[0].noisy);
    assert!(other.steps[0].neighbors != expected.steps[0].neighbors);
}

#[test]
fn lines_come_in_the_references_order_and_are_kept_in_the_folder() {
    let (folder, config) = workplace();
    let (_, lines) = trained(&config);
    // What changes from run to run, and the scores, are checked elsewhere.
    let root = folder.path().join("run").display().to_string();
    let short: Vec<_> = lines
        .iter()
        .map(|line| {
            let line = line.replace(&root, "run");
            let end = [" psnr:", ", Time="]
                .iter()
                .filter_map(|mark| line.find(mark));
            line[..end.min().unwrap_or(line.len())].to_string()
        })
        .collect();
    let expected = "\
fetch 5 samples for training
Batchsize=2, number of epoch=5
Checkpoint saved to run/epoch_model_000.safetensors
LearningRate of Epoch 1 = 0.00015
0001 00002 Loss1=0.250000, Lambda=0.4, Loss2=0.200000, Loss_Full=0.750000
LearningRate of Epoch 2 = 7.5e-05
0002 00002 Loss1=0.250000, Lambda=0.8, Loss2=0.400000, Loss_Full=0.750000
Checkpoint saved to run/epoch_model_002.safetensors
[EVAL] BSD300:
LearningRate of Epoch 3 = 3.75e-05
0003 00002 Loss1=0.250000, Lambda=1.2, Loss2=0.600000, Loss_Full=0.750000
LearningRate of Epoch 4 = 1.875e-05
0004 00002 Loss1=0.250000, Lambda=1.6, Loss2=0.800000, Loss_Full=0.750000
Checkpoint saved to run/epoch_model_004.safetensors
[EVAL] BSD300:
LearningRate of Epoch 5 = 1.875e-05
0005 00002 Loss1=0.250000, Lambda=2.0, Loss2=1.000000, Loss_Full=0.750000
Checkpoint saved to run/epoch_model_005.safetensors
[EVAL] BSD300:";
    assert_eq!(short.join("\n"), expected);
    let log = fs::read_to_string(folder.path().join("run/train.log")).unwrap();
    assert_eq!(log.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn checkpoints_hold_the_weights_of_their_epoch_and_how_they_came_about() {
    let (folder, config) = workplace();
    let (network, _) = trained(&config);
    let checkpoint = |epoch: usize| {
        let path = format!("run/epoch_model_{epoch:03}.safetensors");
        Weights::read(&folder.path().join(path)).unwrap()
    };
    assert_eq!(checkpoint(0).tensors["nin_c.bias"].data, [1.0]);
    let last = checkpoint(5);
    assert_eq!(last.tensors["nin_c.bias"].data, [network.weight]);
    for (key, value) in [
        ("noise", "gauss25"),
        ("epoch", "5"),
        ("n_epoch", "5"),
        ("seed", "3"),
        ("lr", "0.0003"),
        ("batchsize", "2"),
        ("patchsize", "64"),
        ("samples", "5"),
        ("version", env!("CARGO_PKG_VERSION")),
    ] {
        assert_eq!(last.metadata[key], value, "{key}");
    }
}

#[test]
fn a_snapshot_is_scored_and_its_first_images_are_shown() {
    let (folder, mut config) = workplace();
    config.n_epoch = 1;
    let sets = folder.path().join("validation/BSD300/test");
    for k in 0..7 {
        write_image(&sets.join(format!("{k}.png")), 30, 20, k);
    }
    let (_, lines) = trained(&config);

    let root = folder.path().join("run/validation");
    let mut files: Vec<_> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let mut expected = vec!["A_log_BSD300.csv".to_string()];
    for index in 0..5 {
        for kind in ["clean", "denoised", "noisy"] {
            expected.push(format!("BSD300_{index:03}-001_{kind}.png"));
        }
    }
    assert_eq!(files, expected);

    let picture = |name: &str| Image::read(&root.join(name)).unwrap();
    let clean = picture("BSD300_003-001_clean.png");
    assert_eq!(clean, Image::read(&sets.join("3.png")).unwrap());
    // The network gives back what it is given.
    let noisy = picture("BSD300_003-001_noisy.png");
    assert_eq!(noisy, picture("BSD300_003-001_denoised.png"));
    assert_ne!(noisy, clean);

    let table = fs::read_to_string(root.join("A_log_BSD300.csv")).unwrap();
    let scores: Vec<_> = table.trim_end().split(',').collect();
    assert_eq!(scores[0], "1");
    let line = format!("[EVAL] BSD300: psnr:{} ssim:{}", scores[1], scores[2]);
    assert_eq!(lines.last(), Some(&line));
}

#[test]
fn a_validation_set_that_cannot_be_scored_is_an_error_before_training() {
    let (folder, config) = workplace();
    let broken = folder.path().join("validation/BSD300/test/broken.png");
    fs::write(broken, "no image").unwrap();
    let mut network = Recording::new();
    let error = run(&config, &mut network, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("broken.png"), "{error}");
    assert!(network.steps.is_empty() && !folder.path().join("run").exists());
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run() {
    let (folder, config) = workplace();
    let mut network = Recording::new();
    network.fail_at = Some(4);
    let error = run(&config, &mut network, &mut |_| {}).unwrap_err();
    let latest = folder.path().join("run/latest.safetensors");
    let Error::NotFinite {
        epoch: 2,
        iteration: 2,
        images,
        checkpoint,
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(images.split(", ").count(), 2, "{images}");
    assert!(images.contains(".png, "), "{images}");
    assert_eq!(checkpoint, Some(latest.clone()));
    checkpoint::read(&latest).unwrap();
    assert_eq!(network.steps.len(), 4);
    let spoilt = folder.path().join("run/epoch_model_002.safetensors");
    assert!(!spoilt.exists());
}

#[test]
fn a_run_that_diverges_ends_before_it_is_saved_and_does_again_when_resumed() {
    let (folder, mut config) = workplace();
    config.checkpoint_every = Span(std::time::Duration::ZERO);
    let never = AtomicBool::new(false);
    let mut network = Recording::new();
    network.loss = |step| if step < 3 { 0.25 } else { 0.26e6 };
    let mut resumed = Recording::new();
    resumed.loss = |_| 0.26e6;
    for (network, start) in [(&mut network, Start::New), (&mut resumed, Start::Resume)] {
        let error = super::run(&config, start, network, &never, &mut |_| {}).unwrap_err();
        let Error::Unsaved {
            reason,
            checkpoint,
            epoch: 2,
            iteration: 0,
        } = error
        else {
            panic!("{error}")
        };
        assert!(
            matches!(
                *reason,
                Error::Diverged {
                    epoch: 2,
                    iteration: 1,
                    loss: 0.26e6,
                    least: 0.25,
                }
            ),
            "{reason}"
        );
        let (_, progress) = checkpoint::read(&checkpoint).unwrap();
        assert_eq!((progress.epoch, progress.iteration), (2, 0));
        assert!(
            !folder
                .path()
                .join("run/epoch_model_002.safetensors")
                .exists()
        );
    }
}

#[test]
fn images_that_are_black_are_no_sign_that_a_run_diverges() {
    let (_folder, config) = workplace();
    let mut network = Recording::new();
    network.loss = |step| if step < 3 { 0.0 } else { 0.5 };
    run(&config, &mut network, &mut |_| {}).unwrap();
}

#[test]
fn a_run_that_cannot_begin_leaves_the_one_before_alone() {
    let (folder, mut config) = workplace();
    trained(&config);
    let again = |config: &Config| run(config, &mut Recording::new(), &mut |_| {});
    let error = again(&config).unwrap_err();
    assert!(matches!(error, Error::RunExists { .. }), "{error}");

    let again = |config: &Config| overwrite(config, &mut |_| {});
    let data = std::mem::replace(&mut config.data_dir, folder.path().join("nowhere"));
    again(&config).unwrap_err();
    config.data_dir = data;
    config.holdout = Some(5);
    again(&config).unwrap_err();
    config.holdout = None;
    let mut full = Drawer::new(&config);
    full.full_at = Some(0);
    let never = AtomicBool::new(false);
    let full = super::run(&config, Start::Overwrite, &mut full, &never, &mut |_| {});
    assert!(matches!(full, Err(Error::OutOfMemory { .. })), "{full:?}");
    let checkpoint = |epoch: usize| {
        let name = format!("run/epoch_model_{epoch:03}.safetensors");
        folder.path().join(name).exists()
    };
    assert!(checkpoint(5));

    config.n_epoch = 1;
    again(&config).unwrap();
    assert!(checkpoint(1) && !checkpoint(5));
}

#[test]
fn what_is_unusual_about_the_images_is_told_once() {
    let (folder, mut config) = workplace();
    fs::write(folder.path().join("images/broken.png"), "no image").unwrap();
    config.holdout = Some(1);
    config.patchsize = 128;
    let mut told = vec![];
    run(&config, &mut Recording::new(), &mut |event| {
        told.extend(match event {
            Event::Skipped { error } => Some(format!("skipped {error}")),
            Event::Padded { images, patchsize } => Some(format!("padded {images} {patchsize}")),
            Event::HeldOut { images } => Some(format!("held out {images}")),
            _ => None,
        });
    })
    .unwrap();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].contains("broken.png"));
    assert_eq!(told[1], "held out 1");
    assert_eq!(told[2], "padded 4 128");
}

/// Runs a small network until it is asked to stop, after so many events of the kinds counted.
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
    super::run(config, start, network, &stop, &mut |event| {
        if counted(event) && left > 0 {
            left -= 1;
            stop.store(left == 0, Relaxed);
        }
    })
    .unwrap()
}

/// What a run left, without what is of the clock.
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

/// With everything that has a state: an average, a held-out loss, scores, turns.
#[test]
fn a_run_that_is_interrupted_and_resumed_ends_as_one_that_is_not() {
    type Counted = fn(&Event) -> bool;
    let (folder, config) = workplace();
    let config = Config {
        n_epoch: 2,
        n_snapshot: 1,
        holdout: Some(1),
        n_feature: 2,
        data_dir: config.data_dir.clone(),
        val_dirs: config.val_dirs.clone(),
        save_model_path: config.save_model_path.clone(),
        log_iters: 3,
        steps_per_epoch: Some(4),
        batchsize: 2,
        patchsize: 64,
        n_channel: 1,
        ..Recipe::Fast.config()
    };
    let named = |name: &str| Config {
        log_name: name.into(),
        ..config.clone()
    };
    let whole = named("whole");
    assert_eq!(
        until(&whole, Start::New, usize::MAX, |_| false),
        Outcome::Finished
    );
    let expected = left_by(&whole.folder());
    assert!(expected.len() > 10, "{:?}", expected.keys());

    // After each step; and between the images of an evaluation, of which there are 2 · 3.
    let step = |event: &Event| matches!(event, Event::Stepped(_));
    let scored = |event: &Event| matches!(event, Event::Scored { .. });
    let points: [(Counted, std::ops::RangeInclusive<usize>); 2] = [(step, 1..=7), (scored, 1..=11)];
    for (k, (counted, counts)) in points.into_iter().enumerate() {
        for count in counts {
            let part = named(&format!("part{k}_{count}"));
            assert_eq!(until(&part, Start::New, count, counted), Outcome::Stopped);
            // Again at once, after a step more or within the same evaluation.
            assert_eq!(until(&part, Start::Resume, 1, counted), Outcome::Stopped);
            let end = until(&part, Start::Resume, usize::MAX, |_| false);
            assert_eq!(end, Outcome::Finished);
            let left = left_by(&part.folder());
            for (name, content) in &expected {
                let same = left.get(name) == Some(content);
                assert!(same, "{name} of {}", part.log_name);
            }
            assert_eq!(left.len(), expected.len());
        }
    }
    // A run that is over stays as it is.
    let end = until(&whole, Start::Resume, usize::MAX, |_| false);
    assert_eq!(end, Outcome::Finished);
    assert!(left_by(&whole.folder()) == expected);
    drop(folder);
}

#[test]
fn a_run_that_lost_its_checkpoint_begins_again() {
    let (_folder, config) = workplace();
    let config = Config {
        n_epoch: 1,
        ..config
    };
    until(&config, Start::New, usize::MAX, |_| false);
    let expected = left_by(&config.folder());
    fs::remove_file(config.folder().join("latest.safetensors")).unwrap();
    until(&config, Start::Resume, usize::MAX, |_| false);
    assert!(left_by(&config.folder()) == expected);
}

#[test]
fn a_run_does_not_go_on_with_other_images() {
    let (folder, config) = workplace();
    trained(&config);
    write_image(&folder.path().join("images/9.png"), 64, 80, 9);
    let never = AtomicBool::new(false);
    let error = super::run(
        &config,
        Start::Resume,
        &mut Recording::new(),
        &never,
        &mut |_| {},
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("images") && error.contains("begun with"),
        "{error}"
    );
}

#[test]
fn a_run_with_a_time_budget_ends_in_time_and_with_its_schedule() {
    let (_folder, config) = workplace();
    let config = Config {
        time_budget: Some(Span(std::time::Duration::from_millis(300))),
        val_dirs: None,
        n_snapshot: 1_000_000,
        ..config
    };
    let mut network = Recording::new();
    let (mut passed, begun) = (vec![], Instant::now());
    run(&config, &mut network, &mut |event| {
        if let Event::Stepped(step) = event {
            passed.push(step.passed);
        }
    })
    .unwrap();
    assert!(begun.elapsed().as_millis() >= 300);
    // The budget may end in a step or between two.
    assert!(passed.is_sorted() && passed.last() <= Some(&1.0));
    assert!(
        passed[..passed.len() - 1]
            .iter()
            .all(|&passed| passed < 1.0)
    );
    // The rate has fallen at each fifth that a step has met.
    let last = network.steps.last().unwrap().learning_rate;
    assert!(last <= config.lr * config.gamma, "{last}");
    let names = fs::read_dir(config.folder()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(
        names
            .filter(|name| name.starts_with("epoch_model_"))
            .count(),
        2
    );
}

#[test]
fn what_gives_nothing_new_is_reported_at_validation() {
    let (_folder, config) = workplace();
    let mut told = vec![];
    run(&config, &mut Recording::new(), &mut |event| {
        if let Event::Collapsed(collapse) = event {
            told.push(*collapse);
        }
    })
    .unwrap();
    // The network of this test gives back what it is given; there are three snapshots.
    assert_eq!(told, [crate::train::Collapse::Identity; 3]);
}

#[test]
fn images_held_out_are_validated_on_and_not_trained_on() {
    let (folder, config) = workplace();
    let config = Config {
        holdout: Some(2),
        val_dirs: None,
        ..config
    };
    let (network, lines) = trained(&config);
    assert_eq!(lines[0], "fetch 3 samples for training");
    // Of 3 images, 1 batch an epoch.
    assert_eq!(network.steps.len(), 5);
    let held_out = |line: &&String| line.starts_with("[EVAL] held out: Loss1=");
    assert_eq!(lines.iter().filter(held_out).count(), 3);
    let table = folder.path().join("run/validation/A_log_held_out.csv");
    let table = fs::read_to_string(table).unwrap();
    let epochs: Vec<_> = table.lines().map(|row| &row[..2]).collect();
    assert_eq!(epochs, ["2,", "4,", "5,"]);
    assert!(folder.path().join("run/best.safetensors").exists());
}

#[test]
fn the_newest_numbered_checkpoints_are_kept_as_asked() {
    let (folder, config) = workplace();
    trained(&Config {
        keep: 2,
        n_snapshot: 1,
        ..config
    });
    let left: Vec<_> = (0..=5)
        .filter(|epoch| {
            let name = format!("run/epoch_model_{epoch:03}.safetensors");
            folder.path().join(name).exists()
        })
        .collect();
    assert_eq!(left, [4, 5]);
}

/// Images as a camera of 12 bits gives them: 16-bit counts from 100 to 500, in blocks of 2×2 pixels.
fn counts(folder: &Path) -> Vec<f32> {
    let value = |i: usize| (100 + (i / 160 * 40 + i % 80 / 2) * 7919 % 401) as f32;
    for k in 0..5 {
        let image = Image {
            height: 64,
            width: 80,
            channels: 1,
            data: (0..64 * 80).map(|i| value(i + 160 * k) / 65535.0).collect(),
            depth: Depth::U16,
        };
        image
            .write(&folder.join(format!("images/{k}.png")))
            .unwrap();
    }
    (0..64 * 80).map(value).collect()
}

#[test]
fn the_range_of_noisy_images_is_measured_told_and_kept_with_the_weights() {
    let (folder, config) = workplace();
    counts(folder.path());
    let config = Config {
        noise: Noise::None,
        val_dirs: None,
        n_epoch: 1,
        steps_per_epoch: Some(4),
        ..config
    };
    let (network, lines) = trained(&config);
    assert_eq!(
        lines[0],
        "values from 100 to 500 (uint16) are the network's 0 to 1"
    );
    let values = || network.steps.iter().flat_map(|step| &step.noisy.data);
    assert!(values().all(|x| (-1e-6..1.0 + 1e-6).contains(x)));
    let mean = values().map(|&x| f64::from(x)).sum::<f64>() / values().count() as f64;
    assert!((mean - 0.5).abs() < 0.01, "{mean}");

    let run = folder.path().join("run");
    let settings = crate::train::folder::read_settings(&run.join("config.toml")).unwrap();
    assert_eq!(settings["range"].as_str(), Some("100,500"));
    let range = ModelRange {
        low: 100.0,
        high: 500.0,
        depth: Depth::U16,
    };
    for name in ["epoch_model_000", "epoch_model_001", "latest", "best"] {
        let weights = Weights::read(&run.join(format!("{name}.safetensors"))).unwrap();
        assert_eq!(
            ModelRange::of(&weights.metadata).unwrap(),
            Some(range),
            "{name}"
        );
    }
    // A run that goes on, or is made again by its settings, has it without a measurement.
    let settings = Config::resolve(&[settings]).unwrap();
    assert!(!settings.measures_range());
    let again = Config {
        log_name: "again".into(),
        ..settings
    };
    assert!(trained(&again).0.steps == network.steps);
}

#[test]
fn a_range_is_as_asked_for_and_with_noise_of_ours_the_types() {
    let (folder, config) = workplace();
    let counts = counts(folder.path());
    let config = Config {
        val_dirs: None,
        n_epoch: 1,
        steps_per_epoch: Some(2),
        holdout: Some(0),
        ..config
    };
    let mut ways = vec![];
    for (noise, range, expected) in [
        ("gauss25", "auto", (0.0, 65535.0)),
        ("gauss25", "percentile", (100.0, 500.0)),
        ("gauss25", "0,4095", (0.0, 4095.0)),
        ("none", "0,4095", (0.0, 4095.0)),
    ] {
        let (network, lines) = trained(&Config {
            noise: noise.parse().unwrap(),
            range: range.parse().unwrap(),
            log_name: format!("{noise}_{range}"),
            ..config.clone()
        });
        let mean = |values: &[f32]| {
            values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len() as f64
        };
        let mean_of_counts = (mean(&counts) - expected.0) / (expected.1 - expected.0);
        let found = mean(&network.steps[0].noisy.data);
        // Of 8192 values with noise of 0.1.
        assert!(
            (found - mean_of_counts).abs() < 0.01,
            "{noise} {range}: {found}"
        );
        ways.push(lines[0].starts_with("values from"));
    }
    assert_eq!(ways, [false, true, true, true]);
}

#[test]
fn images_of_several_types_have_no_common_range() {
    let (folder, config) = workplace();
    counts(folder.path());
    write_image(&folder.path().join("images/9.png"), 64, 80, 9);
    let config = Config {
        noise: Noise::None,
        val_dirs: None,
        n_epoch: 1,
        steps_per_epoch: Some(2),
        ..config
    };
    let mut told = 0;
    run(&config, &mut Recording::new(), &mut |event| {
        told += usize::from(matches!(event, Event::MixedTypes));
    })
    .unwrap();
    assert_eq!(told, 1);
    let path = folder.path().join("run/latest.safetensors");
    let metadata = Weights::read(&path).unwrap().metadata;
    assert_eq!(ModelRange::of(&metadata).unwrap(), None);
}

/// A cosmic ray of the largest value in a frame of a few hundred counts.
#[test]
fn what_is_far_beyond_the_range_does_not_reach_the_loss() {
    let (folder, config) = workplace();
    counts(folder.path());
    for k in 0..5 {
        let path = folder.path().join(format!("images/{k}.png"));
        let mut image = Image::read(&path).unwrap();
        image.data[40 * 80 + 40] = 1.0;
        image.write(&path).unwrap();
    }
    let (network, lines) = trained(&Config {
        noise: Noise::None,
        val_dirs: None,
        steps_per_epoch: Some(2),
        ..config
    });
    assert_eq!(
        lines[0],
        "values from 100 to 500 (uint16) are the network's 0 to 1"
    );
    let values = network.steps.iter().flat_map(|step| &step.noisy.data);
    assert_eq!(values.copied().fold(0.0, f32::max), 2.0);
}

#[test]
fn a_single_noisy_image_is_trained_on_and_scored() {
    let (folder, config) = workplace();
    for k in 1..5 {
        fs::remove_file(folder.path().join(format!("images/{k}.png"))).unwrap();
    }
    let config = Config {
        noise: Noise::None,
        val_dirs: None,
        n_epoch: 2,
        n_snapshot: 1,
        ..config
    };
    let (network, lines) = trained(&config);
    assert_eq!(network.steps.len(), 2 * 250);
    let scored = lines
        .iter()
        .filter(|line| line.starts_with("[EVAL] held out"));
    assert_eq!(scored.count(), 2);
    assert!(folder.path().join("run/best.safetensors").exists());
    assert!(folder.path().join("run/report.html").exists());
}

#[test]
fn a_run_whose_image_vanishes_saves_what_it_has() {
    let (folder, config) = workplace();
    let config = Config {
        cache_mb: 0,
        steps_per_epoch: Some(1000),
        loader_threads: 1,
        ..config
    };
    let mut steps = 0;
    let error = run(&config, &mut Recording::new(), &mut |event| {
        if matches!(event, Event::Stepped(_)) {
            steps += 1;
            if steps == 5 {
                fs::remove_file(folder.path().join("images/2.png")).unwrap();
            }
        }
    })
    .unwrap_err();
    let Error::Unsaved {
        reason,
        checkpoint,
        epoch: 1,
        iteration,
    } = error
    else {
        panic!("{error}")
    };
    assert!(reason.to_string().contains("2.png"), "{reason}");
    assert_eq!(iteration, steps);
    let (_, progress) = checkpoint::read(&checkpoint).unwrap();
    assert_eq!(progress.iteration, steps);
}

/// Grey images of noise, in memory.
fn noisy_images(count: usize) -> Vec<Image> {
    let image = |k: usize| {
        let samples: Vec<u8> = (0..70 * 80)
            .map(|i| ((i * 7919 + k * 31) % 251) as u8)
            .collect();
        Image::from_u8(70, 80, 1, &samples).unwrap()
    };
    (0..count).map(image).collect()
}

fn in_memory() -> Config {
    Config {
        noise: Noise::None,
        n_channel: 1,
        n_feature: 2,
        patchsize: 64,
        batchsize: 2,
        n_epoch: 2,
        steps_per_epoch: Some(3),
        holdout: Some(1),
        ema: 0.9,
        ..Config::default()
    }
}

#[test]
fn images_in_memory_make_the_model_that_a_folder_of_them_makes() {
    let folder = tempfile::tempdir().unwrap();
    let images = noisy_images(4);
    for (k, image) in images.iter().enumerate() {
        image
            .write(&folder.path().join(format!("data/{k}.png")))
            .unwrap();
    }
    let config = Config {
        data_dir: folder.path().join("data"),
        save_model_path: folder.path().into(),
        log_name: "run".into(),
        ..in_memory()
    };
    let unet = config.unet().unwrap();
    let mut network = CpuNetwork::initial(unet, config.seed);
    run(&config, &mut network, &mut |_| {}).unwrap();
    let saved = Weights::read(&folder.path().join("run/epoch_model_002.safetensors")).unwrap();

    let model = crate::train(&images, &in_memory()).unwrap();
    assert!(model.weights().tensors == saved.tensors);
    assert_eq!(model.metadata()["noise"], "none");
    let clean = model.denoise(&images[0]).unwrap();
    assert_eq!(
        (clean.height, clean.width, clean.depth),
        (70, 80, Depth::U8)
    );
}

#[test]
fn a_run_in_memory_tells_what_happens_and_can_be_ended() {
    let images = || Arc::new(crate::train::Memory::from_iter(noisy_images(4)));
    let mut steps = 0;
    let model = crate::train_with(images(), &in_memory(), &mut |event| {
        steps += usize::from(matches!(event, Event::Stepped(_)));
        if steps == 4 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
    .unwrap();
    assert_eq!((steps, model.metadata()["epoch"].as_str()), (4, "2"));
    // Before the first step there is nothing to return.
    let stopped = crate::train_with(images(), &in_memory(), &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(Error::Stopped)));
}

#[test]
fn an_image_in_memory_that_cannot_be_used_is_an_error() {
    let mut images = noisy_images(4);
    images[2] = Image::from_f32(1, 2, 1, vec![0.0, f32::NAN]).unwrap();
    let error = crate::train(&images, &in_memory()).unwrap_err();
    let want = "image 2: page 1 holds values that are not finite";
    assert_eq!(error.to_string(), want);
}
