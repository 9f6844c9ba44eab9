//! The folder of a run:
//!
//! ```text
//! config.json                       the settings, the seed, the program's version
//! train.log                         the lines of the training log
//! epoch_model_000.safetensors       the weights before training, then of every snapshot
//! validation/A_log_BSD300.csv       epoch,psnr,ssim of every snapshot
//! validation/BSD300_000-100_….png   clean, noisy and denoised: image 0, epoch 100
//! ```

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::files;
use crate::report::SetScore;
use crate::train::config::Config;
use crate::unet::UNet;

/// The kinds of pictures of a validation image, as their files are named.
const PICTURES: [&str; 3] = ["clean", "noisy", "denoised"];

/// A run's folder, made for it.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    log: File,
}

impl RunFolder {
    /// Refuses a folder that already holds a run, unless `overwrite`. Changes nothing.
    pub fn check(config: &Config) -> Result<()> {
        let path = config.folder();
        if config.overwrite || leftovers(&path)?.is_empty() {
            Ok(())
        } else {
            Err(Error::RunExists { path })
        }
    }

    /// Makes the folder, after [`RunFolder::check`]; what an earlier run wrote there is removed.
    pub fn create(config: &Config, unet: UNet) -> Result<Self> {
        Self::check(config)?;
        let path = config.folder();
        for old in leftovers(&path)? {
            fs::remove_file(&old).map_err(Error::io(&old))?;
        }
        let validation = path.join("validation");
        fs::create_dir_all(&validation).map_err(Error::io(&validation))?;
        write_settings(&path.join("config.json"), config, unet)?;
        let log = path.join("train.log");
        let log = File::create(&log).map_err(Error::io(&log))?;
        Ok(Self { path, log })
    }

    /// Adds a line to the training log.
    pub fn log(&mut self, line: &str) -> Result<()> {
        let path = self.path.join("train.log");
        writeln!(self.log, "{line}").map_err(Error::io(path))
    }

    /// The checkpoint of an epoch.
    pub fn checkpoint(&self, epoch: usize) -> PathBuf {
        self.path
            .join(format!("epoch_model_{epoch:03}.safetensors"))
    }

    /// Adds the scores of an epoch to the table of their set.
    pub fn record_scores(&self, score: &SetScore, epoch: usize) -> Result<()> {
        let path = self
            .path
            .join(format!("validation/A_log_{}.csv", score.set.name()));
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut table| writeln!(table, "{epoch},{:?},{:?}", score.psnr_db, score.ssim))
            .map_err(Error::io(path))
    }

    /// The pictures of a validation image: clean, noisy, denoised.
    pub fn pictures(&self, set: &str, index: usize, epoch: usize) -> [PathBuf; 3] {
        PICTURES.map(|kind| {
            self.path
                .join(format!("validation/{set}_{index:03}-{epoch:03}_{kind}.png"))
        })
    }
}

/// What an earlier run left: its checkpoints and its validation files.
///
/// Only names a run writes are listed, so that nothing else in the folder is ever removed.
fn leftovers(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut old = matching(folder, |name| {
        let record = matches!(name, "config.json" | "train.log");
        record || is_numbered(name, "epoch_model_", ".safetensors")
    })?;
    old.extend(matching(&folder.join("validation"), |name| {
        let table = name.starts_with("A_log_") && name.strip_suffix(".csv").is_some();
        let picture = PICTURES.iter().any(|kind| {
            name.strip_suffix(&format!("_{kind}.png"))
                .and_then(|stem| stem.rsplit_once('_'))
                .and_then(|(_, numbers)| numbers.split_once('-'))
                .is_some_and(|(index, epoch)| is_number(index) && is_number(epoch))
        });
        table || picture
    })?);
    Ok(old)
}

fn is_numbered(name: &str, prefix: &str, suffix: &str) -> bool {
    name.strip_prefix(prefix)
        .and_then(|rest| rest.strip_suffix(suffix))
        .is_some_and(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The files straight inside a folder with a name that is looked for; none without the folder.
fn matching(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(Error::io(folder)(error)),
    };
    let mut found = vec![];
    for entry in entries {
        let path = entry.map_err(Error::io(folder))?.path();
        if path
            .file_name()
            .and_then(OsStr::to_str)
            .is_some_and(&is_wanted)
        {
            found.push(path);
        }
    }
    Ok(found)
}

fn write_settings(path: &Path, config: &Config, unet: UNet) -> Result<()> {
    #[derive(Serialize)]
    struct Settings<'a> {
        version: &'static str,
        n_feature: usize,
        n_channel: usize,
        #[serde(flatten)]
        config: &'a Config,
    }
    let settings = Settings {
        version: env!("CARGO_PKG_VERSION"),
        n_feature: unet.n_feature,
        n_channel: unet.n_channel,
        config,
    };
    files::write_atomically(path, |file| {
        serde_json::to_writer_pretty(&mut *file, &settings)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(file))
            .map_err(Error::io(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Set;

    fn config(folder: &Path) -> Config {
        Config {
            save_model_path: folder.into(),
            log_name: "run".into(),
            ..Config::default()
        }
    }

    fn score(psnr_db: f64, ssim: f64) -> SetScore {
        SetScore {
            set: Set::Bsd300,
            images: 2,
            repeats: 3,
            psnr_db,
            ssim,
        }
    }

    #[test]
    fn settings_can_be_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        config.seed = u64::MAX;
        RunFolder::create(&config, UNet::default()).unwrap();
        let text = fs::read_to_string(folder.path().join("run/config.json")).unwrap();
        let settings: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(settings["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(settings["noisetype"], "gauss25");
        assert_eq!(settings["seed"], u64::MAX);
        assert_eq!(settings["n_feature"], 48);
        assert_eq!(settings["lr"], 3e-4);
    }

    #[test]
    fn a_folder_that_holds_a_run_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let run = RunFolder::create(&config, UNet::default()).unwrap();
        // Its settings and its log alone are a run's, or a user's own files.
        let error = RunFolder::create(&config, UNet::default()).unwrap_err();
        assert!(matches!(error, Error::RunExists { .. }));
        fs::write(run.checkpoint(0), "weights").unwrap();
        let error = RunFolder::create(&config, UNet::default()).unwrap_err();
        assert!(matches!(error, Error::RunExists { .. }));
        assert_eq!(fs::read_to_string(run.checkpoint(0)).unwrap(), "weights");
    }

    #[test]
    fn overwriting_removes_what_a_run_wrote_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        let mut run = RunFolder::create(&config, UNet::default()).unwrap();
        run.log("a line").unwrap();
        fs::write(run.checkpoint(0), "").unwrap();
        fs::write(run.checkpoint(1000), "").unwrap();
        run.record_scores(&score(28.65, 0.8), 1).unwrap();
        for picture in run.pictures("BSD300", 4, 100) {
            fs::write(picture, "").unwrap();
        }
        let mine = [
            "run/epoch_model_best.safetensors",
            "run/notes.txt",
            "run/validation/holiday_clean.png",
            "run/validation/table.csv",
        ];
        for name in mine {
            fs::write(folder.path().join(name), "").unwrap();
        }

        config.overwrite = true;
        RunFolder::create(&config, UNet::default()).unwrap();
        let mut left: Vec<_> = files::find(folder.path(), &["safetensors", "png", "csv", "txt"])
            .unwrap()
            .into_iter()
            .map(|path| path.strip_prefix(folder.path()).unwrap().to_path_buf())
            .collect();
        left.sort();
        assert_eq!(left, mine.map(PathBuf::from));
        let log = fs::read_to_string(folder.path().join("run/train.log")).unwrap();
        assert_eq!(log, "");
    }

    #[test]
    fn files_are_named_as_the_reference_names_them() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(&config(folder.path()), UNet::default()).unwrap();
        let root = folder.path().join("run");
        assert_eq!(run.checkpoint(7), root.join("epoch_model_007.safetensors"));
        assert_eq!(
            run.pictures("BSD300", 0, 100),
            ["clean", "noisy", "denoised"]
                .map(|kind| root.join(format!("validation/BSD300_000-100_{kind}.png")))
        );
        run.record_scores(&score(28.65, 0.8), 1).unwrap();
        run.record_scores(&score(29.5, 0.85), 2).unwrap();
        let table = fs::read_to_string(root.join("validation/A_log_BSD300.csv")).unwrap();
        assert_eq!(table, "1,28.65,0.8\n2,29.5,0.85\n");
    }
}
