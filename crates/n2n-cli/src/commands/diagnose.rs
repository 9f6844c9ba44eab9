//! `n2n diagnose`

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use n2n::diagnose::{self, Diagnosis, Finding, Frame, Options};
use n2n::error::{Error, Result};
use n2n::files;
use n2n::image::{self, Format, Limits, Pages, Reader};

use crate::args;
use crate::jobs;
use crate::progress::Progress;
use crate::ui::{Ui, counted};

/// Maximum number of pixels analyzed, over all images, in each channel.
const PIXELS: usize = 16_000_000;

/// Runs the command. A file that cannot be read is reported, and the others are analyzed.
pub fn run(args: &args::Diagnose, ui: Ui) -> anyhow::Result<ExitCode> {
    for path in args.json.iter().chain(&args.html) {
        files::check_writable(path)?;
    }
    if args.json.is_some() && args.json == args.html {
        bail!("--json and --html name the same file");
    }
    let inputs = jobs::expanded(&args.inputs)?;
    let mut paths = vec![];
    for job in jobs::in_place(&inputs)? {
        paths.push(job.input);
    }
    jobs::reject_replacing(
        &[
            ("--json", args.json.as_deref()),
            ("--html", args.html.as_deref()),
        ],
        paths.iter().map(PathBuf::as_path),
    )?;
    let all = paths.len();
    let paths = spread(paths, args.max_images);
    let inputs = look(&paths, args.max_images, ui);
    let Inputs {
        frames, mut errors, ..
    } = inputs;
    if frames.is_empty() && errors.len() == 1 {
        return Err(errors.remove(0).into());
    }
    for error in &errors {
        ui.error(error);
    }
    if frames.is_empty() {
        bail!("none of the {} images can be read", paths.len());
    }
    if paths.len() < all {
        ui.note(format_args!(
            "note: using {} of {all} files; raise --max-images for more",
            paths.len()
        ));
    }
    if inputs.left_out > 0 {
        ui.note(format_args!(
            "note: skipping {} with a different number of channels than the first",
            counted(inputs.left_out, "image")
        ));
    }
    if !inputs.whole {
        ui.note("note: large images; using only their middles");
    }
    let options = Options {
        offset: args.offset,
        ..Options::default()
    };
    let diagnosis = diagnose::diagnose(&frames, &options)?;
    for line in lines(&diagnosis, &frames, inputs.jpeg) {
        ui.result(line)?;
    }
    if let Some(path) = &args.json {
        write_json(path, &diagnosis, &inputs.files)?;
    }
    if let Some(path) = &args.html {
        let title = match args.inputs.as_slice() {
            [input] => input.display().to_string(),
            inputs => format!("{} and {} more", inputs[0].display(), inputs.len() - 1),
        };
        let page = diagnose::page(&title, &diagnosis, &frames, &remedy)?;
        files::write_atomically(path, |out| {
            out.write_all(page.as_bytes()).map_err(Error::io(path))
        })?;
    }
    Ok(if errors.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// At most `most` of the paths, evenly spaced.
fn spread(paths: Vec<PathBuf>, most: usize) -> Vec<PathBuf> {
    let count = paths.len();
    let kept = |i: usize| count <= most || (i * most) / count != ((i + 1) * most) / count;
    (paths.into_iter().enumerate())
        .filter(|(i, _)| kept(*i))
        .map(|(_, path)| path)
        .collect()
}

/// What was read.
struct Inputs {
    frames: Vec<Frame>,
    /// For each file, its path and how many of its images were analyzed.
    files: Vec<(PathBuf, usize)>,
    /// Whether any of the files is a JPEG.
    jpeg: bool,
    /// Whether all images were analyzed as a whole.
    whole: bool,
    /// Number of images skipped because their number of channels differs.
    left_out: usize,
    /// What could not be read.
    errors: Vec<Error>,
}

fn look(paths: &[PathBuf], most: usize, ui: Ui) -> Inputs {
    let quota = (most / paths.len().max(1)).max(1);
    // A pipe cannot be read twice.
    let is_pipe = |path: &Path| path.metadata().is_ok_and(|found| !found.is_file());
    let mut counts = vec![];
    let mut jpeg = false;
    for path in paths.iter().filter(|path| !is_pipe(path)) {
        match pages(path, quota) {
            Ok((count, format)) => {
                counts.push(count);
                jpeg |= format == Format::Jpeg;
            }
            // The error is reported when the file is read.
            Err(_) => counts.push(1),
        }
    }
    let side = ((PIXELS / counts.iter().sum::<usize>().max(1)) as f64).sqrt() as usize;
    let mut inputs = Inputs {
        frames: vec![],
        files: vec![],
        jpeg,
        whole: true,
        left_out: 0,
        errors: vec![],
    };
    let mut progress = Progress::new(ui, "file");
    for (done, path) in paths.iter().enumerate() {
        progress.show(done as f64, paths.len(), &path.display().to_string());
        let mut count = 0;
        if is_pipe(path) {
            inputs.errors.push(Error::Image {
                path: path.clone(),
                reason: "expected a file, found a pipe or a device; save it as a file first".into(),
            });
            continue;
        }
        let result: Result<()> = image::images(path).and_then(|images| {
            for image in images.take(quota) {
                let frame = Frame::from(&image?);
                let channels = inputs
                    .frames
                    .first()
                    .map_or(frame.channels, |first| first.channels);
                if frame.channels == channels {
                    // If one side is shorter than `side`, the other may be longer, for the same number of pixels.
                    let pixels = side * side;
                    let whole = frame.height * frame.width <= pixels;
                    let height = frame
                        .height
                        .min((pixels / frame.width.min(side).max(1)).max(side));
                    let width = frame.width.min(pixels / height.max(1));
                    inputs.whole &= whole;
                    inputs.frames.push(if whole {
                        frame
                    } else {
                        frame.middle(height, width)
                    });
                    count += 1;
                } else {
                    inputs.left_out += 1;
                }
            }
            Ok(())
        });
        if let Err(error) = result {
            inputs.errors.push(error);
        }
        inputs.files.push((path.clone(), count));
    }
    inputs
}

/// How many images a file has, counted up to `most`, and its format.
fn pages(path: &Path, most: usize) -> Result<(usize, Format)> {
    let mut reader = Reader::open(path, Limits::default())?;
    let mut count = 0;
    while count < most && reader.next_image()?.is_some() {
        count += 1;
    }
    Ok((count, reader.format()))
}

fn lines(diagnosis: &Diagnosis, frames: &[Frame], jpeg: bool) -> Vec<String> {
    let (height, width) = (frames[0].height, frames[0].width);
    let alike = frames
        .iter()
        .all(|frame| (frame.height, frame.width) == (height, width));
    let size = if alike {
        format!(" of {width}x{height}")
    } else {
        String::new()
    };
    let mut lines = vec![format!(
        "{}{size}, {}, {}",
        counted(diagnosis.images, "image"),
        counted(diagnosis.channels, "channel"),
        diagnosis.values
    )];
    lines.extend(diagnosis.summary());
    let findings = diagnosis.findings();
    for finding in &findings {
        let mark = match finding.severity() {
            diagnose::Severity::Warning => "warning",
            diagnose::Severity::Note => "note",
        };
        lines.push(format!("\n{mark}: {finding}"));
        lines.extend(remedy(finding).map(|remedy| format!("  -> {remedy}")));
    }
    if jpeg && !diagnosis.jpeg.found {
        lines.push(
            "\nnote: There are JPEGs among the files. Their blocks are not visible, but \
             compression may have changed the noise.\n  -> Train on raw or lossless files if you \
             have them."
                .into(),
        );
    }
    if findings.is_empty() {
        lines.push(
            "\nNo obstacles found. Train with: n2n train --noisetype none --recipe fast".into(),
        );
    }
    lines
}

/// What can be done about a finding, with the flags of this program.
pub fn remedy(finding: &Finding) -> Option<String> {
    let text = match finding {
        Finding::Correlated { .. } => {
            "If possible, train on raw data from before the processing that spread the noise. \
             Otherwise train on pixels that are farther apart: n2n train --noisetype none \
             --neighbor-distance auto"
                .into()
        }
        Finding::Demosaiced { .. } => {
            "Train on the raw mosaic, with its four color planes as separate images and \
             --n-channel 1."
                .into()
        }
        Finding::Mosaic { .. } => {
            "Split each image into its four color planes (every second pixel of every \
             second row) and train on them with --n-channel 1."
                .into()
        }
        Finding::JpegBlocks { .. } => {
            "Train on raw or lossless files, or with --neighbor-distance auto.".into()
        }
        Finding::Lines { .. } => {
            "Remove them with --repair rows,columns (or one of the two) in training and in \
             prediction, or subtract the mean of dark frames first."
                .into()
        }
        Finding::HotPixels { fixed: 0, .. } => {
            "They are not denoised. If that matters, use --repair hot-pixels in training and in \
             prediction, which replaces them with the median of their neighbors."
                .into()
        }
        Finding::HotPixels { .. } => {
            "Correct them with a dark frame, or use --repair hot-pixels to replace them with the \
             median of their neighbors; otherwise they remain in the result."
                .into()
        }
        Finding::Clipped { .. } => {
            "Save images with a black level above the noise, as the camera gives them, \
             without background subtraction."
                .into()
        }
        Finding::Saturated { .. } => "Reduce the exposure if these pixels matter.".into(),
        Finding::NotFinite { .. } => "Replace them: training skips images with such values.".into(),
        Finding::Coarse { .. } => "Save images with a higher bit depth.".into(),
        Finding::NothingMeasured => {
            "Inspect one image at full size, and provide more images.".into()
        }
        _ => return None,
    };
    Some(text)
}

fn write_json(
    path: &Path,
    diagnosis: &Diagnosis,
    inputs: &[(PathBuf, usize)],
) -> anyhow::Result<()> {
    let findings: Vec<_> = diagnosis
        .findings()
        .iter()
        .map(|finding| {
            let mut entry = serde_json::to_value(finding)?;
            entry["severity"] = serde_json::to_value(finding.severity())?;
            entry["text"] = finding.to_string().into();
            entry["remedy"] = remedy(finding).into();
            Ok(entry)
        })
        .collect::<serde_json::Result<_>>()?;
    let inputs: Vec<_> = inputs
        .iter()
        .map(|(path, images)| serde_json::json!({"path": path.display().to_string(), "images": images}))
        .collect();
    let report = serde_json::json!({
        "files": inputs,
        "summary": diagnosis.summary(),
        "findings": findings,
        "diagnosis": diagnosis,
    });
    files::write_atomically(path, |out| {
        serde_json::to_writer_pretty(out, &report).map_err(|error| Error::io(path)(error.into()))
    })?;
    Ok(())
}
