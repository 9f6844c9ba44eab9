//! The training loop: Algorithm 1 of the paper, epoch by epoch.

use std::path::Path;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::neighbors::Neighbors;
use crate::network::{LossFactors, Losses, Network};
use crate::train::config::Config;
use crate::train::dataset::Dataset;
use crate::train::event::{Event, Step};
use crate::train::folder::RunFolder;
use crate::train::loader::Loader;
use crate::train::random::{Purpose, stream};
use crate::train::validation::Validation;

/// Trains `network` by `config` and leaves checkpoints, scores and a log in the run's folder.
///
/// `observe` is told everything that happens. With the same configuration, images, initial weights
/// and device the run is the same to the last bit.
pub fn run(
    config: &Config,
    network: &mut dyn Network,
    observe: &mut dyn FnMut(&Event),
) -> Result<()> {
    config.check()?;
    RunFolder::check(config)?;
    let loader = open_loader(config, network, observe)?;
    let mut run = Run::begin(config, network, &loader, observe)?;
    run.save(network, 0)?;

    for epoch in 1..=config.n_epoch {
        let learning_rate = config.learning_rate(epoch);
        let factors = config.factors(epoch);
        run.tell(&Event::EpochBegan {
            epoch,
            learning_rate,
        })?;

        for (iteration, clean) in (1..).zip(loader.epoch(epoch)?) {
            let clean = clean?;
            let started = Instant::now();
            let rng = |purpose| stream(config.seed, purpose, epoch, iteration);
            let noisy = config.noise.corrupt(&clean, &mut rng(Purpose::Noise));
            let neighbors = Neighbors::draw(&noisy, &mut rng(Purpose::Neighbors));
            let losses = network.step(&noisy, &neighbors, factors, learning_rate)?;
            run.record(epoch, iteration, losses, factors, started)?;
        }

        if config.is_snapshot(epoch) {
            run.save(network, epoch)?;
            run.validate(network, epoch)?;
        }
    }
    Ok(())
}

fn open_loader(
    config: &Config,
    network: &dyn Network,
    observe: &mut dyn FnMut(&Event),
) -> Result<Loader> {
    let channels = network.architecture().n_channel;
    if !matches!(channels, 1 | 3) {
        return Err(Error::value(
            "n_channel",
            "3 (RGB) or 1 (grey), as images have",
            channels,
        ));
    }
    // Neither an earlier run's pictures nor the images that runs are scored on are for training.
    let (run, scored) = (config.folder(), Validation::folder(config));
    let excluded: [&Path; 2] = [&run, &scored];
    let dataset = Dataset::open(
        &config.data_dir,
        &excluded,
        channels,
        config.cache_bytes,
        observe,
    )?;
    let loader = Loader::new(dataset, config)?;
    let images = loader.padded();
    if images > 0 {
        observe(&Event::Padded {
            images,
            patchsize: config.patchsize,
        });
    }
    Ok(loader)
}

/// A run under way: everything around the mathematics.
struct Run<'a> {
    config: &'a Config,
    samples: usize,
    validation: Option<Validation>,
    folder: RunFolder,
    observe: &'a mut dyn FnMut(&Event),
}

impl<'a> Run<'a> {
    fn begin(
        config: &'a Config,
        network: &dyn Network,
        loader: &Loader,
        observe: &'a mut dyn FnMut(&Event),
    ) -> Result<Self> {
        // Last, for it may remove an earlier run: nothing is known by now to stand in the way.
        let validation = Validation::find(config, observe)?;
        let folder = RunFolder::create(config, network.architecture())?;
        let samples = loader.samples();
        let mut run = Self {
            config,
            samples,
            validation,
            folder,
            observe,
        };
        run.tell(&Event::Fetched { samples })?;
        run.tell(&Event::Began {
            batchsize: config.batchsize,
            n_epoch: config.n_epoch,
            iterations: loader.iterations(),
        })?;
        Ok(run)
    }

    /// Logs an event, then shows it.
    fn tell(&mut self, event: &Event) -> Result<()> {
        if let Some(line) = event.line() {
            self.folder.log(&line)?;
        }
        (self.observe)(event);
        Ok(())
    }

    fn record(
        &mut self,
        epoch: usize,
        iteration: usize,
        losses: Losses,
        factors: LossFactors,
        started: Instant,
    ) -> Result<()> {
        if !losses.loss_full.is_finite() {
            return Err(Error::NotFinite { epoch, iteration });
        }
        self.tell(&Event::Stepped(Step {
            epoch,
            iteration,
            losses,
            lambda: factors.lambda,
            elapsed_s: started.elapsed().as_secs_f64(),
            logged: iteration.is_multiple_of(self.config.log_iters),
        }))
    }

    fn save(&mut self, network: &dyn Network, epoch: usize) -> Result<()> {
        let config = self.config;
        let mut weights = network.weights();
        weights.metadata.extend(
            [
                ("noise", config.noise.to_string()),
                ("epoch", epoch.to_string()),
                ("n_epoch", config.n_epoch.to_string()),
                ("seed", config.seed.to_string()),
                ("lr", config.lr.to_string()),
                ("init_scale", config.init_scale.to_string()),
                ("batchsize", config.batchsize.to_string()),
                ("patchsize", config.patchsize.to_string()),
                ("samples", self.samples.to_string()),
                ("version", env!("CARGO_PKG_VERSION").to_string()),
            ]
            .map(|(key, value)| (key.to_string(), value)),
        );
        let path = self.folder.checkpoint(epoch);
        weights.write(&path)?;
        self.tell(&Event::Saved { path })
    }

    fn validate(&mut self, network: &mut dyn Network, epoch: usize) -> Result<()> {
        let Some(validation) = &self.validation else {
            return Ok(());
        };
        let score = validation.score(network, epoch, &self.folder, self.observe)?;
        self.tell(&Event::Evaluated(score))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::batch::Batch;
    use crate::image::{Depth, Image};
    use crate::noise::Noise;
    use crate::unet::UNet;
    use crate::weights::{Tensor, Weights};

    /// Stands in for a device: writes down what it is asked, and keeps one number that every step
    /// changes for its weights.
    struct Recording {
        weight: f32,
        steps: Vec<Asked>,
        fail_at: Option<usize>,
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
            }
        }
    }

    impl Network for Recording {
        fn architecture(&self) -> UNet {
            UNet::new(1, 1).unwrap()
        }

        fn denoise(&mut self, noisy: &Batch) -> Result<Batch> {
            Ok(noisy.clone())
        }

        fn step(
            &mut self,
            noisy: &Batch,
            neighbors: &Neighbors,
            factors: LossFactors,
            learning_rate: f64,
        ) -> Result<Losses> {
            self.steps.push(Asked {
                noisy: noisy.clone(),
                neighbors: neighbors.clone(),
                factors,
                learning_rate,
            });
            self.weight = self.weight * 0.9 + noisy.data[0];
            let failed = self.fail_at == Some(self.steps.len());
            Ok(Losses {
                loss1: 0.25,
                loss2: 0.5 * factors.lambda,
                loss_full: if failed { f64::NAN } else { 0.75 },
            })
        }

        fn weights(&self) -> Weights {
            let tensors = self.architecture().tensors().into_iter().map(|spec| {
                let data = vec![self.weight; spec.len()];
                let shape = spec.shape;
                (spec.name, Tensor { shape, data })
            });
            Weights {
                tensors: tensors.collect(),
                ..Weights::default()
            }
        }

        fn set_weights(&mut self, _: &Weights) -> Result<()> {
            unreachable!("training starts from the weights it is given")
        }
    }

    #[test]
    fn outputs_and_scored_images_are_not_trained_on() {
        let (folder, mut config) = workplace();
        config.data_dir = folder.path().into();
        let mut samples = vec![];
        for _ in 0..2 {
            config.overwrite = true;
            run(&config, &mut Recording::new(), &mut |event| {
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
            val_dirs: folder.path().join("validation"),
            save_model_path: folder.path().into(),
            log_name: "run".into(),
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
            assert_eq!(step.learning_rate, config.learning_rate(epoch));
            assert_eq!(step.factors, config.factors(epoch));
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
        config.cache_bytes = 0;
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
        let expected = Error::NotFinite {
            epoch: 2,
            iteration: 2,
        };
        assert_eq!(error.to_string(), expected.to_string());
        assert_eq!(network.steps.len(), 4);
        let spoilt = folder.path().join("run/epoch_model_002.safetensors");
        assert!(!spoilt.exists());
    }

    #[test]
    fn a_run_that_cannot_begin_leaves_the_one_before_alone() {
        let (folder, mut config) = workplace();
        trained(&config);
        let again = |config: &Config| run(config, &mut Recording::new(), &mut |_| {});
        let error = again(&config).unwrap_err();
        assert!(matches!(error, Error::RunExists { .. }), "{error}");

        config.overwrite = true;
        let data = std::mem::replace(&mut config.data_dir, folder.path().join("nowhere"));
        again(&config).unwrap_err();
        config.data_dir = data;
        config.batchsize = 6;
        again(&config).unwrap_err();
        assert!(
            folder
                .path()
                .join("run/epoch_model_005.safetensors")
                .exists()
        );

        config.batchsize = 5;
        config.n_epoch = 1;
        again(&config).unwrap();
        assert!(
            folder
                .path()
                .join("run/epoch_model_001.safetensors")
                .exists()
        );
        assert!(
            !folder
                .path()
                .join("run/epoch_model_005.safetensors")
                .exists()
        );
    }

    #[test]
    fn what_is_unusual_about_the_images_is_told_once() {
        let (folder, mut config) = workplace();
        fs::write(folder.path().join("images/broken.png"), "no image").unwrap();
        config.val_dirs = folder.path().join("nowhere");
        config.patchsize = 128;
        let mut told = vec![];
        run(&config, &mut Recording::new(), &mut |event| {
            told.extend(match event {
                Event::Skipped { error } => Some(format!("skipped {error}")),
                Event::Padded { images, patchsize } => Some(format!("padded {images} {patchsize}")),
                Event::Unvalidated { folder } => Some(format!("unvalidated {}", folder.display())),
                _ => None,
            });
        })
        .unwrap();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].contains("broken.png"));
        assert_eq!(told[1], "padded 5 128");
        assert!(told[2].contains("nowhere"));
    }
}
