//! What is to be done: the images, where their results go, and how they are encoded.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use n2n::files;
use n2n::image::{Depth, Encoding, Format, Limits, Reader, Selection};
use n2n::predict::{self, Input, Output};

use crate::args;
use crate::jobs::{self, Earlier, Job, Naming};

/// What is to be done.
pub(super) struct Plan {
    pub(super) jobs: Vec<predict::Job>,
    /// Number of images left out because their results exist.
    pub(super) skipped: usize,
    /// All images, including those that are left out or belong to another shard; empty if the jobs are all there is.
    pub(super) images: Vec<Input>,
}

pub(super) fn jobs(args: &args::Predict) -> anyhow::Result<Plan> {
    let inputs: Vec<&PathBuf> = args.inputs.iter().chain(&args.image_path).collect();
    if inputs.iter().any(|input| is_stream(input)) {
        if inputs.len() > 1
            || args.in_place
            || args.residual
            || args.compare
            || args.shard.is_some()
        {
            bail!(
                "-: standard input cannot be combined with other inputs or outputs, or with \
                   --shard; its result goes to standard output"
            );
        }
        return Ok(Plan {
            jobs: vec![stream(args)?],
            skipped: 0,
            images: vec![],
        });
    }
    let inputs = jobs::expanded(inputs)?;
    let pipes = Pipes::read(&inputs, args)?;
    let found = if args.in_place {
        jobs::in_place(&inputs)?
    } else {
        // Results that other shards have written by now do not count as images; otherwise, each shard would number the
        // images differently.
        let earlier = if args.skip_existing || args.shard.is_some() {
            Earlier::Results
        } else {
            Earlier::Image
        };
        jobs::jobs(&inputs, &args.save_dir, &Named(args, &pipes), earlier)?
    };
    let images = if args.skip_existing || args.shard.is_some() {
        let inputs = found.iter().map(|job| job.input.clone());
        inputs.map(|input| pipes.input(input)).collect()
    } else {
        vec![]
    };
    let mut jobs = Vec::with_capacity(found.len());
    let mut skipped = 0;
    let mut outputs = HashMap::new();
    for (place, job) in found.into_iter().enumerate() {
        if args.shard.is_some_and(|shard| !shard.has(place)) {
            continue;
        }
        if args.skip_existing && job.output.exists() {
            skipped += 1;
            continue;
        }
        let job = predict_job(args, &pipes, job)?;
        for output in [&job.residual, &job.compare].into_iter().flatten() {
            if let Some(other) = outputs.insert(output.clone(), job.input.clone()) {
                let (other, this) = (name(&other), name(&job.input));
                bail!(
                    "{other} and {this} would both be written to {}",
                    output.display()
                );
            }
        }
        jobs.push(job);
    }
    for job in &jobs {
        let result = path(&job.output).and_then(|output| outputs.get(output));
        if let Some(other) = result {
            bail!(
                "the result of {} and another output of {} would have the same name",
                name(&job.input),
                name(other)
            );
        }
        if let Input::File(input) = &job.input
            && outputs.contains_key(input)
        {
            bail!(
                "{}: an output would replace this input; choose another --save-dir",
                input.display()
            );
        }
    }
    Ok(Plan {
        jobs,
        skipped,
        images,
    })
}

fn predict_job(
    args: &args::Predict,
    pipes: &Pipes,
    Job { input, output }: Job,
) -> anyhow::Result<predict::Job> {
    let beside = |kind: &str| {
        let mut name = output.file_stem().unwrap_or_default().to_os_string();
        let suffix = args.suffix.as_str();
        // The kind replaces the suffix, if there is one.
        if let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(suffix))
            && !args.in_place
        {
            name = OsString::from(stem);
        }
        name.push(kind);
        if let Some(extension) = output.extension() {
            name.push(".");
            name.push(extension);
        }
        output.with_file_name(name)
    };
    let reference = match &args.reference {
        Some(folder) if folder.is_dir() => input.file_name().map(|name| folder.join(name)),
        other => other.clone(),
    };
    let format = match args.format {
        Some(format) => format.get(),
        None => pipes.written(&input),
    };
    Ok(predict::Job {
        residual: args.residual.then(|| beside("_residual")),
        compare: args.compare.then(|| beside("_compare")),
        reference,
        encoding: encoding(args, format)?,
        selection: selection(args),
        input: pipes.input(input),
        output: Output::File(output),
    })
}

fn encoding(args: &args::Predict, format: Format) -> anyhow::Result<Encoding> {
    let depth = args.depth.map(args::ImageDepth::get);
    if let Some(depth) = depth.filter(|depth| !format.depths().contains(depth)) {
        bail!("--depth: {format} does not support {}", bits(depth));
    }
    Ok(Encoding {
        format,
        depth,
        quality: args.jpeg_quality,
    })
}

fn is_stream(input: &Path) -> bool {
    input == Path::new("-")
}

/// Standard input, read whole.
fn stream(args: &args::Predict) -> anyhow::Result<predict::Job> {
    let bytes = all_of(io::stdin(), args).context("standard input")?;
    let format = match args.format {
        Some(format) => format.get(),
        None => Reader::from_bytes(Path::new("-"), bytes.as_slice(), limits(args))?
            .format()
            .written_for(&mut bytes.as_slice())?,
    };
    Ok(predict::Job {
        input: Input::Bytes("-".into(), bytes.into()),
        output: Output::Memory,
        residual: None,
        compare: None,
        reference: None,
        encoding: encoding(args, format)?,
        selection: selection(args),
    })
}

/// A stream to its end, within the memory that may be used.
fn all_of(stream: impl Read, args: &args::Predict) -> anyhow::Result<Vec<u8>> {
    let (mut bytes, most) = (Vec::new(), args.max_memory());
    stream
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        bail!("expected at most {most} bytes; raise --max-memory");
    }
    Ok(bytes)
}

/// The contents of inputs that are pipes, which can be read only once.
struct Pipes(HashMap<PathBuf, Arc<[u8]>>);

impl Pipes {
    fn read(inputs: &[PathBuf], args: &args::Predict) -> anyhow::Result<Self> {
        let mut read = HashMap::new();
        for input in inputs.iter().filter(|input| files::is_device(input)) {
            let name = || input.display().to_string();
            if args.in_place {
                bail!(
                    "{}: --in-place cannot replace a pipe; use --save-dir",
                    name()
                );
            }
            let pipe = File::open(input).with_context(name)?;
            let bytes = all_of(pipe, args).with_context(name)?;
            read.insert(input.clone(), bytes.into());
        }
        Ok(Self(read))
    }

    fn input(&self, path: PathBuf) -> Input {
        match self.0.get(&path) {
            Some(bytes) => Input::Bytes(path, Arc::clone(bytes)),
            None => Input::File(path),
        }
    }

    /// The format that an image is written in, determined by its content, whatever its name. If it cannot be read, its
    /// name decides, and the error is reported when it is the image's turn.
    fn written(&self, image: &Path) -> Format {
        fn of(mut source: impl BufRead + Seek) -> io::Result<Option<Format>> {
            let found = Format::of_source(&mut source)?;
            source.rewind()?;
            found
                .map(|found| found.written_for(&mut source))
                .transpose()
        }
        let found = match self.0.get(image) {
            Some(bytes) => of(Cursor::new(bytes)),
            None => File::open(image).and_then(|file| of(BufReader::new(file))),
        };
        found
            .ok()
            .flatten()
            .or_else(|| Some(Format::of_name(image)?.written()))
            .unwrap_or(Format::Png)
    }
}

pub(super) fn selection(args: &args::Predict) -> Selection {
    Selection {
        pages: args.pages.clone(),
        channels: args.channel.clone(),
    }
}

/// `<name><suffix>` and the extension of the format.
struct Named<'a>(&'a args::Predict, &'a Pipes);

impl Naming for Named<'_> {
    fn name(&self, image: &Path, mut stem: OsString) -> OsString {
        stem.push(&self.0.suffix);
        stem.push(".");
        let kept = image.extension();
        match self.0.format.map(args::ImageFormat::get) {
            Some(format) => stem.push(format.extensions()[0]),
            None => match (kept, self.1.written(image)) {
                (Some(kept), format) if Format::of_name(image) == Some(format) => stem.push(kept),
                (_, format) => stem.push(format.extensions()[0]),
            },
        }
        stem
    }
}

pub(super) fn path(output: &Output) -> Option<&Path> {
    match output {
        Output::File(path) => Some(path),
        Output::Memory => None,
    }
}

pub(super) fn name(input: &Input) -> String {
    match input {
        Input::File(path) => path.display().to_string(),
        Input::Bytes(name, _) => name.display().to_string(),
    }
}

/// Each sample takes four bytes in memory, besides what it is decoded from, so no more samples fit than a quarter of
/// the limit in bytes.
pub(super) fn limits(args: &args::Predict) -> Limits {
    Limits {
        pixels: args.max_pixels,
        samples: Limits::default().samples.max(args.max_memory() / 4),
    }
}

/// The type of samples, in words.
pub(super) fn bits(depth: Depth) -> &'static str {
    match depth {
        Depth::U8 => "8 bits",
        Depth::I8 => "8 bits, signed",
        Depth::U16 => "16 bits",
        Depth::I16 => "16 bits, signed",
        Depth::U32 => "32 bits",
        Depth::I32 => "32 bits, signed",
        Depth::F32 => "32-bit floats",
        Depth::F64 => "64-bit floats",
    }
}
