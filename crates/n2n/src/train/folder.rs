//! The folder of a run:
//!
//! ```text
//! config.toml                       the settings; below them the program and the machine
//! train.log                         the lines of the training log
//! losses.csv                        losses, rates and speed, every `log_iters` steps and at the end of an epoch
//! latest.safetensors                what the run is resumed from
//! best.safetensors                  the weights of the best snapshot
//! epoch_model_000.safetensors       the weights before training, then of every snapshot
//! validation/A_log_BSD300.csv       epoch,psnr,ssim of every snapshot
//! validation/A_log_held_out.csv     epoch,loss1,loss2,loss_full[,sure] of every snapshot
//! validation/BSD300_000-100_….png   clean, noisy and denoised: image 0, epoch 100
//! events.out.tfevents.n2n           the curves and pictures, for TensorBoard
//! report.html                       the curves and pictures, on a page
//! .lock                             held by the process that trains
//! ```
//!
//! Logs are append-only; everything else is written whole or not at all. A checkpoint records the length of each log; a
//! run that resumes from it truncates the logs to those lengths, so that they equal those of an uninterrupted run.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use toml::Table;

use crate::error::{Error, Result};
use crate::eval::report::SetScore;
use crate::files;
use crate::network::Losses;
use crate::system;
use crate::train::config::Config;
use crate::train::tensorboard;

/// The settings of a run.
pub const CONFIG: &str = "config.toml";
/// The lines of the training log.
pub const LOG: &str = "train.log";
/// The table of losses.
pub const LOSSES: &str = "losses.csv";
/// The curves for `TensorBoard`.
pub const EVENTS: &str = "events.out.tfevents.n2n";
/// The page.
const PAGE: &str = "report.html";
/// The checkpoint that the run is resumed from.
const LATEST: &str = "latest.safetensors";
/// The weights of the best snapshot.
const BEST: &str = "best.safetensors";
/// The held-out losses.
pub const HELD_OUT: &str = "validation/A_log_held_out.csv";

/// Parts of a configuration file that record its origin and are not settings.
const ABOUT: [&str; 2] = ["program", "machine"];

/// The suffixes of the pictures of a validation image.
const PICTURES: [&str; 3] = ["clean", "noisy", "denoised"];

/// What to do if the folder already contains a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Return an error.
    New,
    /// Remove it and start a new run.
    Overwrite,
    /// Resume it.
    Resume,
}

/// The path of the checkpoint that the run in a folder is resumed from, whether or not it exists.
pub fn latest(folder: &Path) -> PathBuf {
    folder.join(LATEST)
}

/// A run's folder, locked by this process.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: File,
}

/// Reads the settings in a configuration file, such as that of a run.
pub fn read_settings(path: &Path) -> Result<Table> {
    /// Maximum length of a file of settings: a wrong file is not read into memory.
    const MOST: u64 = 1 << 20;
    let length = fs::metadata(path).map_err(Error::io(path))?.len();
    let wrong = |reason: String| Error::Settings {
        path: path.into(),
        reason,
    };
    if length > MOST {
        return Err(wrong(format!(
            "expected at most {MOST} bytes, found {length}"
        )));
    }
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    let mut settings: Table = text
        .parse()
        .map_err(|error: toml::de::Error| wrong(error.to_string().trim_end().into()))?;
    settings.retain(|name, _| !ABOUT.contains(&name));
    Ok(settings)
}

/// The settings of the run in a folder, for [`Start::Resume`], with the folder's current path.
pub fn settings_of_run(folder: &Path) -> Result<Table> {
    let path = folder.join(CONFIG);
    if !path.is_file() {
        return Err(Error::NoFiles {
            path: folder.into(),
            expected: format!("expected a run folder, found no {CONFIG}"),
        });
    }
    let mut settings = read_settings(&path)?;
    // `results/mine/` and `.` have names too.
    let real = fs::canonicalize(folder).map_err(Error::io(folder))?;
    let (parent, name) = match (folder.parent(), folder.file_name()) {
        (Some(parent), Some(name)) => (parent, name),
        _ => (
            real.parent().unwrap_or(&real),
            real.file_name().unwrap_or_default(),
        ),
    };
    for (key, value) in [("save_model_path", parent.as_os_str()), ("log_name", name)] {
        let value = value.to_str().ok_or_else(|| {
            Error::value("folder of a run", "a name in Unicode", folder.display())
        })?;
        settings.insert(key.into(), value.into());
    }
    Ok(settings)
}

impl RunFolder {
    /// Rejects a folder that another process is training in; with [`Start::New`], one that already contains a run; and
    /// with [`Start::Resume`], one that has lost the checkpoint to resume from. Changes nothing.
    pub fn check(config: &Config, start: Start) -> Result<()> {
        let path = config.folder();
        if path.join(".lock").exists() {
            lock(&path)?;
        }
        refuse_lost(&path, start)?;
        refuse_existing(&path, start)
    }

    /// Creates and locks the folder, and removes what an interrupted write has left. With [`Start::Overwrite`], removes
    /// the files of an earlier run; with [`Start::Resume`], changes nothing else.
    pub fn open(config: &Config, device: &str, start: Start) -> Result<Self> {
        let path = config.folder();
        let validation = path.join("validation");
        fs::create_dir_all(&validation).map_err(Error::io(&validation))?;
        let lock = lock(&path)?;
        let folder = Self { path, _lock: lock };
        let interrupted = |name: &str| name.starts_with(".n2n-") && name.ends_with(".partial");
        for unfinished in matching(&folder.path, interrupted)?
            .into_iter()
            .chain(matching(&validation, interrupted)?)
        {
            fs::remove_file(&unfinished).map_err(Error::io(&unfinished))?;
        }
        if start != Start::Resume {
            // Another process may have started a run there since the check.
            refuse_existing(&folder.path, start)?;
            for old in leftovers(&folder.path)? {
                fs::remove_file(&old).map_err(Error::io(&old))?;
            }
            folder.write_settings(config, device)?;
        }
        Ok(folder)
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the run is resumed from.
    pub fn latest(&self) -> PathBuf {
        latest(&self.path)
    }

    /// The weights of the best snapshot.
    pub fn best(&self) -> PathBuf {
        self.path.join(BEST)
    }

    /// The report, an HTML page.
    pub fn page(&self) -> PathBuf {
        self.path.join(PAGE)
    }

    /// The checkpoint of an epoch.
    pub fn checkpoint(&self, epoch: usize) -> PathBuf {
        self.path.join(checkpoint_name(epoch))
    }

    /// Removes numbered checkpoints, the oldest first, until `count` are left.
    pub fn keep(&self, count: usize) -> Result<()> {
        let numbered = numbered(&self.path)?;
        for old in &numbered[..numbered.len().saturating_sub(count)] {
            fs::remove_file(old).map_err(Error::io(old))?;
        }
        Ok(())
    }

    /// Appends to a log of the run.
    pub fn append(&self, log: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(log);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(bytes))
            .map_err(Error::io(path))
    }

    /// Whether a log is empty.
    pub fn is_empty(&self, log: &str) -> bool {
        fs::metadata(self.path.join(log)).map_or(true, |found| found.len() == 0)
    }

    /// The length of every log.
    pub fn log_lengths(&self) -> Result<BTreeMap<String, u64>> {
        let mut lengths = BTreeMap::new();
        for path in logs(&self.path)? {
            let length = fs::metadata(&path).map_err(Error::io(&path))?.len();
            lengths.insert(self.name_of(&path), length);
        }
        Ok(lengths)
    }

    /// Waits until every log is on the disk, so that no checkpoint outlives the lines that it follows.
    pub fn sync_logs(&self) -> Result<()> {
        for path in logs(&self.path)? {
            let file = OpenOptions::new().append(true).open(&path);
            file.and_then(|file| file.sync_all())
                .map_err(Error::io(&path))?;
        }
        Ok(())
    }

    /// Truncates every log to an earlier length. One that is shorter, as after a power failure, is truncated to its
    /// last complete line, so that the next one does not continue half a line.
    pub fn cut_logs(&self, lengths: &BTreeMap<String, u64>) -> Result<()> {
        for path in logs(&self.path)? {
            let name = self.name_of(&path);
            let length = lengths.get(&name).copied().unwrap_or(0);
            let cut = |file: File| {
                let found = file.metadata()?.len();
                if found >= length {
                    return file.set_len(length);
                }
                let content = fs::read(&path)?;
                let complete = match name.as_str() {
                    EVENTS => tensorboard::complete(&content),
                    _ => content
                        .iter()
                        .rposition(|&byte| byte == b'\n')
                        .map_or(0, |end| end + 1),
                };
                file.set_len(complete as u64)
            };
            let file = OpenOptions::new().write(true).open(&path);
            file.and_then(cut).map_err(Error::io(&path))?;
        }
        Ok(())
    }

    fn name_of(&self, path: &Path) -> String {
        let name = path.strip_prefix(&self.path).unwrap_or(path);
        name.to_string_lossy().replace('\\', "/")
    }

    /// Adds the scores of an epoch to the table of their set.
    pub fn record_scores(&self, score: &SetScore, epoch: usize) -> Result<()> {
        let row = format!("{epoch},{:?},{:?}\n", score.psnr_db, score.ssim);
        self.append(
            &format!("validation/A_log_{}.csv", score.set.name()),
            row.as_bytes(),
        )
    }

    /// Adds the held-out losses of an epoch, and the estimated error if there is one, to their table.
    pub fn record_held_out(&self, losses: &Losses, sure: Option<f64>, epoch: usize) -> Result<()> {
        let Losses {
            loss1,
            loss2,
            loss_full,
        } = losses;
        let sure = sure.map(|sure| format!(",{sure:?}")).unwrap_or_default();
        let row = format!("{epoch},{loss1:?},{loss2:?},{loss_full:?}{sure}\n");
        self.append(HELD_OUT, row.as_bytes())
    }

    /// The pictures of a validation image: clean, noisy, denoised.
    pub fn pictures(&self, set: &str, index: usize, epoch: usize) -> [PathBuf; 3] {
        PICTURES.map(|kind| {
            self.path
                .join(format!("validation/{set}_{index:03}-{epoch:03}_{kind}.png"))
        })
    }

    fn write_settings(&self, config: &Config, device: &str) -> Result<()> {
        let about = |items: &[(&str, &str)]| {
            let items = items.iter().map(|&(key, value)| (key.into(), value.into()));
            toml::Value::Table(items.collect())
        };
        let threads = rayon::current_num_threads().to_string();
        let [program, machine] = [
            about(&[("version", env!("CARGO_PKG_VERSION")), ("device", device)]),
            about(&[
                ("os", &system::os_version()),
                ("processor", &system::processor()),
                ("threads", &threads),
            ]),
        ];
        let mut text = toml::to_string(config).expect("numbers, strings and booleans");
        let about: Table = ABOUT
            .map(String::from)
            .into_iter()
            .zip([program, machine])
            .collect();
        text += "\n";
        text += &about.to_string();
        let path = self.path.join(CONFIG);
        files::write_atomically(&path, |file| {
            file.write_all(text.as_bytes()).map_err(Error::io(&path))
        })
    }
}

/// Starting again would overwrite what is left of the run. The weights before training, which are written first, do not
/// count: losing them loses nothing.
fn refuse_lost(path: &Path, start: Start) -> Result<()> {
    let (latest, best) = (latest(path), path.join(BEST));
    if start != Start::Resume || latest.exists() {
        return Ok(());
    }
    let trained = |path: &PathBuf| !path.ends_with(checkpoint_name(0));
    let newest = numbered(path)?.into_iter().rfind(trained);
    match newest.or_else(|| best.exists().then_some(best)) {
        None => Ok(()),
        Some(newest) => Err(Error::NoCheckpoint {
            path: latest,
            newest,
        }),
    }
}

fn refuse_existing(path: &Path, start: Start) -> Result<()> {
    if start == Start::New && !leftovers(path)?.is_empty() {
        return Err(Error::RunExists { path: path.into() });
    }
    Ok(())
}

/// Locks a folder until the file is closed, which the system does when the process ends.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.map_err(Error::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::RunLocked {
            path: folder.into(),
        }),
        Err(TryLockError::Error(error)) => Err(Error::io(&path)(error)),
    }
}

/// The logs of a run.
fn logs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = matching(folder, |name| [LOG, LOSSES, EVENTS].contains(&name))?;
    found.extend(matching(&folder.join("validation"), is_table)?);
    Ok(found)
}

/// The checkpoints and validation files of an earlier run.
///
/// Lists only names that a run writes, or wrote in an earlier version (`config.json`), so that no other file in the
/// folder is ever removed.
fn leftovers(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut old = matching(folder, |name| {
        let named = [
            CONFIG,
            LOG,
            LOSSES,
            EVENTS,
            PAGE,
            LATEST,
            BEST,
            "config.json",
        ];
        named.contains(&name) || is_checkpoint(name)
    })?;
    old.extend(matching(&folder.join("validation"), |name| {
        let picture = PICTURES.iter().any(|kind| {
            name.strip_suffix(&format!("_{kind}.png"))
                .and_then(|stem| stem.rsplit_once('_'))
                .and_then(|(_, numbers)| numbers.split_once('-'))
                .is_some_and(|(index, epoch)| is_number(index) && is_number(epoch))
        });
        is_table(name) || picture
    })?);
    Ok(old)
}

fn checkpoint_name(epoch: usize) -> String {
    format!("epoch_model_{epoch:03}.safetensors")
}

/// The numbered checkpoints, the oldest first.
fn numbered(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = matching(folder, is_checkpoint)?;
    // Names grow beyond 999 epochs.
    found.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    Ok(found)
}

fn is_checkpoint(name: &str) -> bool {
    name.strip_prefix("epoch_model_")
        .and_then(|rest| rest.strip_suffix(".safetensors"))
        .is_some_and(is_number)
}

fn is_table(name: &str) -> bool {
    name.starts_with("A_log_") && name.strip_suffix(".csv").is_some()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The files directly in a folder whose names match; empty if the folder does not exist.
fn matching(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
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

    fn open(config: &Config, start: Start) -> Result<RunFolder> {
        RunFolder::check(config, start)?;
        RunFolder::open(config, "a test", start)
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
    fn settings_can_be_read_back_wherever_the_folder_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        config.seed = u64::MAX;
        drop(open(&config, Start::New).unwrap());
        let path = folder.path().join("run/config.toml");
        let settings = read_settings(&path).unwrap();
        assert_eq!(Config::resolve(&[settings]).unwrap(), config);
        let text = fs::read_to_string(path).unwrap();
        for about in [env!("CARGO_PKG_VERSION"), "a test", "[machine]", "threads"] {
            assert!(text.contains(about), "{text}");
        }

        fs::rename(folder.path().join("run"), folder.path().join("moved")).unwrap();
        let settings = settings_of_run(&folder.path().join("moved/")).unwrap();
        config.log_name = "moved".into();
        assert_eq!(Config::resolve(&[settings]).unwrap(), config);
        let error = settings_of_run(folder.path()).unwrap_err();
        assert!(matches!(error, Error::NoFiles { .. }), "{error}");
    }

    #[test]
    fn a_folder_that_holds_a_run_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let run = open(&config, Start::New).unwrap();
        let checkpoint = run.checkpoint(0);
        drop(run);
        // Settings and a log alone also count as a run: they may be a user's own files.
        let error = open(&config, Start::New).unwrap_err();
        assert!(matches!(error, Error::RunExists { .. }));
        fs::write(&checkpoint, "weights").unwrap();
        let error = open(&config, Start::New).unwrap_err();
        assert!(matches!(error, Error::RunExists { .. }));
        assert_eq!(fs::read_to_string(checkpoint).unwrap(), "weights");
    }

    #[test]
    fn of_two_that_train_in_a_folder_the_second_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let run = open(&config, Start::New).unwrap();
        for start in [Start::New, Start::Overwrite, Start::Resume] {
            let error = RunFolder::check(&config, start).unwrap_err();
            assert!(matches!(error, Error::RunLocked { .. }), "{error}");
            let error = RunFolder::open(&config, "a test", start).unwrap_err();
            assert!(matches!(error, Error::RunLocked { .. }), "{error}");
        }
        drop(run);
        open(&config, Start::Resume).unwrap();
    }

    #[test]
    fn overwriting_removes_what_a_run_wrote_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let run = open(&config, Start::New).unwrap();
        run.append(LOG, b"a line").unwrap();
        for path in [
            run.checkpoint(0),
            run.checkpoint(1000),
            run.latest(),
            run.best(),
        ] {
            fs::write(path, "").unwrap();
        }
        run.record_scores(&score(28.65, 0.8), 1).unwrap();
        for picture in run.pictures("BSD300", 4, 100) {
            fs::write(picture, "").unwrap();
        }
        let partial = folder.path().join("run/.n2n-abc.partial");
        fs::write(&partial, "half a checkpoint").unwrap();
        drop(run);
        let mine = [
            "run/epoch_model_best.safetensors",
            "run/notes.txt",
            "run/validation/holiday_clean.png",
            "run/validation/table.csv",
        ];
        for name in mine {
            fs::write(folder.path().join(name), "").unwrap();
        }

        open(&config, Start::Overwrite).unwrap();
        let mut left: Vec<_> = files::find(folder.path(), &["safetensors", "png", "csv", "txt"])
            .unwrap()
            .into_iter()
            .map(|path| path.strip_prefix(folder.path()).unwrap().to_path_buf())
            .collect();
        left.sort();
        assert_eq!(left, mine.map(PathBuf::from));
        assert!(!partial.exists() && !folder.path().join("run/train.log").exists());
    }

    #[test]
    fn logs_are_cut_to_what_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let run = open(&config(folder.path()), Start::New).unwrap();
        run.append(LOG, b"one\n").unwrap();
        run.record_scores(&score(28.0, 0.8), 1).unwrap();
        let lengths = run.log_lengths().unwrap();
        run.append(LOG, b"two\n").unwrap();
        run.record_scores(&score(29.0, 0.9), 2).unwrap();
        run.append(LOSSES, b"step\n").unwrap();
        run.cut_logs(&lengths).unwrap();
        let read = |log: &str| fs::read_to_string(folder.path().join("run").join(log)).unwrap();
        assert_eq!(read(LOG), "one\n");
        assert_eq!(read("validation/A_log_BSD300.csv"), "1,28.0,0.8\n");
        assert_eq!(read(LOSSES), "");
    }

    #[test]
    fn a_log_that_has_lost_its_end_is_cut_to_its_last_complete_line() {
        let folder = tempfile::tempdir().unwrap();
        let run = open(&config(folder.path()), Start::New).unwrap();
        let records = [tensorboard::header(), tensorboard::header()].concat();
        run.append(EVENTS, &records).unwrap();
        run.append(LOG, b"one\ntwo\n").unwrap();
        run.append(LOSSES, b"step,epoch\n1,1\n").unwrap();
        run.record_scores(&score(28.0, 0.8), 1).unwrap();
        run.sync_logs().unwrap();
        let lengths = run.log_lengths().unwrap();
        let path = |log: &str| folder.path().join("run").join(log);
        for (log, lost) in [(LOG, 1), (LOSSES, 9), (EVENTS, 1)] {
            let file = OpenOptions::new().write(true).open(path(log)).unwrap();
            file.set_len(lengths[log] - lost).unwrap();
        }
        run.cut_logs(&lengths).unwrap();
        assert_eq!(fs::read(path(LOG)).unwrap(), b"one\n");
        assert_eq!(fs::read(path(LOSSES)).unwrap(), b"");
        assert_eq!(
            fs::read(path(EVENTS)).unwrap(),
            records[..records.len() / 2]
        );
        let scores = fs::read(path("validation/A_log_BSD300.csv")).unwrap();
        assert_eq!(scores, b"1,28.0,0.8\n");
    }

    #[test]
    fn the_newest_checkpoints_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let run = open(&config(folder.path()), Start::New).unwrap();
        for epoch in [0, 1, 2, 999, 1000] {
            fs::write(run.checkpoint(epoch), "").unwrap();
        }
        run.keep(2).unwrap();
        let left = [0, 1, 2, 999, 1000].map(|epoch| run.checkpoint(epoch).exists());
        assert_eq!(left, [false, false, false, true, true]);
    }

    #[test]
    fn files_are_named_as_the_reference_names_them() {
        let folder = tempfile::tempdir().unwrap();
        let run = open(&config(folder.path()), Start::New).unwrap();
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
