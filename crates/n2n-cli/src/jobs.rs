//! Which images a command denoises, and where each result goes: `<name>_denoise.png`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use n2n::{files, image};

/// An image and where its result goes.
pub struct Job {
    /// The image.
    pub input: PathBuf,
    /// A PNG.
    pub output: PathBuf,
}

/// The jobs of images and of folders of images, each image once, those of a folder sorted and with
/// their place below it.
///
/// No result replaces an input or the result of another.
pub fn jobs<'a>(
    inputs: impl IntoIterator<Item = &'a PathBuf>,
    save_dir: &Path,
) -> anyhow::Result<Vec<Job>> {
    let mut jobs = vec![];
    for input in inputs {
        if input.is_dir() {
            for image in images(input, save_dir)? {
                let below = image.strip_prefix(input).expect("found below the folder");
                jobs.push(Job::new(&image, below, save_dir)?);
            }
        } else {
            let name = Path::new(input.file_name().unwrap_or_default());
            jobs.push(Job::new(input, name, save_dir)?);
        }
    }
    without_losses(jobs)
}

impl Job {
    /// The job of an image; `below` is its place in the folder of the results.
    fn new(input: &Path, below: &Path, save_dir: &Path) -> anyhow::Result<Self> {
        let stem = below.file_stem().with_context(|| {
            format!(
                "{}: expected an image or a folder of images",
                input.display()
            )
        })?;
        let mut name = stem.to_os_string();
        name.push("_denoise.png");
        Ok(Self {
            input: input.to_path_buf(),
            output: save_dir.join(below.with_file_name(name)),
        })
    }
}

/// The images of a folder, searched recursively, but for the results of an earlier run in a folder
/// below it.
fn images(folder: &Path, save_dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let images = files::find_outside(folder, &image::EXTENSIONS, &[save_dir])?;
    if images.is_empty() {
        return Err(image::none_in(folder).into());
    }
    Ok(images)
}

/// Refuses to write a result over an input, or over the result of another.
fn without_losses(jobs: Vec<Job>) -> anyhow::Result<Vec<Job>> {
    let inputs: HashMap<PathBuf, PathBuf> = jobs
        .iter()
        .map(|job| (real(&job.input), job.input.clone()))
        .collect();
    let mut outputs: HashMap<PathBuf, PathBuf> = HashMap::new();
    let mut kept = Vec::with_capacity(jobs.len());
    for job in jobs {
        if let Some(input) = inputs.get(&real(&job.output)) {
            bail!(
                "{}: the result of {} would replace this input; choose another --save-dir",
                input.display(),
                job.input.display()
            );
        }
        match outputs.insert(job.output.clone(), job.input.clone()) {
            None => kept.push(job),
            // The same image, named twice.
            Some(other) if real(&other) == real(&job.input) => {}
            Some(other) => bail!(
                "{} and {} would both become {}; denoise them into folders of their own",
                other.display(),
                job.input.display(),
                job.output.display()
            ),
        }
    }
    Ok(kept)
}

/// The path without links and detours; of what is not there, the path itself.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}
