//! Which images a command denoises, and where each result goes.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use n2n::{files, image};

/// An image and where its result goes.
pub struct Job {
    /// The image.
    pub input: PathBuf,
    /// Its result.
    pub output: PathBuf,
}

/// How to treat a file in a folder of images that has the name of another file's result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// As an image like the others.
    Image,
    /// As the result of an earlier run, which this one continues.
    Results,
}

/// What the result of an image is called.
pub trait Naming {
    /// The name for the image at a path.
    fn name(&self, image: &Path, stem: OsString) -> OsString;
}

/// `<name>_denoise.png`
pub struct AsPng;

impl Naming for AsPng {
    fn name(&self, _: &Path, mut stem: OsString) -> OsString {
        stem.push("_denoise.png");
        stem
    }
}

/// The jobs for images and for folders of images. Each image occurs once; those of a folder are sorted and keep their
/// path relative to it.
///
/// No result replaces an input or the result of another.
pub fn jobs<'a>(
    inputs: impl IntoIterator<Item = &'a PathBuf>,
    save_dir: &Path,
    naming: &impl Naming,
    earlier: Earlier,
) -> anyhow::Result<Vec<Job>> {
    let mut jobs = vec![];
    for input in inputs {
        if input.is_dir() {
            let mut found = vec![];
            for image in images(input, save_dir)? {
                let below = image.strip_prefix(input).expect("found below the folder");
                found.push(Job::new(&image, below, save_dir, naming)?);
            }
            if earlier == Earlier::Results {
                // Results of an earlier run, next to their images.
                let results: HashSet<PathBuf> = found.iter().map(|job| real(&job.output)).collect();
                found.retain(|job| !results.contains(&real(&job.input)));
            }
            jobs.append(&mut found);
        } else {
            let name = Path::new(input.file_name().unwrap_or_default());
            jobs.push(Job::new(input, name, save_dir, naming)?);
        }
    }
    reject_collisions(jobs)
}

impl Job {
    /// The job of an image; `below` is its place in the folder of the results.
    fn new(
        input: &Path,
        below: &Path,
        save_dir: &Path,
        naming: &impl Naming,
    ) -> anyhow::Result<Self> {
        let stem = below.file_stem().with_context(|| {
            format!(
                "{}: expected an image or a folder of images",
                input.display()
            )
        })?;
        let name = naming.name(input, stem.to_os_string());
        Ok(Self {
            input: input.to_path_buf(),
            output: save_dir.join(below.with_file_name(name)),
        })
    }
}

/// The files that the patterns match, in order. An existing file whose name looks like a pattern stands for itself.
pub fn expanded<'a>(inputs: impl IntoIterator<Item = &'a PathBuf>) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = vec![];
    for input in inputs {
        let pattern = input.to_str().filter(|text| text.contains(['*', '?', '[']));
        match pattern {
            Some(pattern) if !input.exists() => {
                let before = found.len();
                for path in glob::glob(pattern).with_context(|| pattern.to_string())? {
                    found.push(path?);
                }
                if found.len() == before {
                    bail!("{pattern}: no file matches this pattern");
                }
            }
            _ => found.push(input.clone()),
        }
    }
    Ok(found)
}

/// The images among the inputs and in folders among them, to be denoised in place: each is its own output.
pub fn in_place<'a>(inputs: impl IntoIterator<Item = &'a PathBuf>) -> anyhow::Result<Vec<Job>> {
    let mut jobs: Vec<Job> = vec![];
    for input in inputs {
        let images = if input.is_dir() {
            images(input, Path::new(""))?
        } else {
            vec![input.clone()]
        };
        jobs.extend(images.into_iter().map(|image| Job {
            output: image.clone(),
            input: image,
        }));
    }
    let mut seen = HashSet::new();
    jobs.retain(|job| seen.insert(real(&job.input)));
    Ok(jobs)
}

/// The images of a folder, searched recursively, except the results of an earlier run in a folder below it.
fn images(folder: &Path, save_dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let images = files::find_outside(folder, &image::EXTENSIONS, &[save_dir])?;
    if images.is_empty() {
        return Err(image::none_in(folder).into());
    }
    Ok(images)
}

/// Refuses to write a result over an input, or over the result of another.
fn reject_collisions(jobs: Vec<Job>) -> anyhow::Result<Vec<Job>> {
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
                "{} and {} would both be written to {}; use separate output folders",
                other.display(),
                job.input.display(),
                job.output.display()
            ),
        }
    }
    Ok(kept)
}

/// Refuses a report or a model that would replace one of the files `taken`. `files` are flags with what they name.
pub fn reject_replacing<'a>(
    files: &[(&str, Option<&Path>)],
    taken: impl IntoIterator<Item = &'a Path>,
) -> anyhow::Result<()> {
    if files.iter().all(|(_, file)| file.is_none()) {
        return Ok(());
    }
    let taken: HashSet<_> = taken.into_iter().map(real).collect();
    for (flag, file) in files {
        if let Some(file) = file.filter(|file| taken.contains(&real(file))) {
            bail!(
                "{flag}: {} is an image or its result and would be overwritten; \
                 choose another name",
                file.display()
            );
        }
    }
    Ok(())
}

/// The canonical path; if it does not exist, that of its folder and its name.
fn real(path: &Path) -> PathBuf {
    let in_folder = || {
        let folder = path.parent()?;
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        Some(folder.canonicalize().ok()?.join(path.file_name()?))
    };
    let found = path.canonicalize().ok();
    found
        .or_else(in_folder)
        .unwrap_or_else(|| path.to_path_buf())
}
