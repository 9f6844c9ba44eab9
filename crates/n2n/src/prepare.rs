//! The dataset tool: selects training images by size and converts them to RGB JPEG.
//!
//! Training cuts patches of one size, so it needs images that are no smaller than a patch, yet not so large that
//! decoding takes longer than a step; and it needs them all in the same format.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::files;
use crate::image::{self, Encoding, Format, Image};
use crate::magnify;
pub use crate::magnify::Interpolation;

/// JPEG at the highest quality, because the training images' own noise is part of what the network learns from.
const ENCODING: Encoding = Encoding {
    format: Format::Jpeg,
    depth: None,
    quality: 100,
};

/// What to prepare, and where.
#[derive(Debug, Clone)]
pub struct Prepare {
    /// Folder of images, searched recursively.
    pub input_dir: PathBuf,
    /// Folder for the converted images; created if missing. It may lie inside `input_dir`, and then is not searched.
    pub save_dir: PathBuf,
    /// Smallest width and height to keep, in pixels.
    pub min_size: usize,
    /// Largest width and height to keep, in pixels.
    pub max_size: usize,
    /// Factor to enlarge the images by, in 1..=[`Prepare::MAX_MAGNIFICATION`].
    ///
    /// Neighbor2Neighbor trains on half-size images, whose detail is sharper than that of the images it denoises
    /// later. If the clean images are enlarged by 2 before noise is added, the two are equally sharp. Do not enlarge
    /// noisy images: neighboring pixels would share their noise.
    pub magnification: f64,
    /// How they are enlarged.
    pub interpolation: Interpolation,
}

impl Prepare {
    /// Largest factor accepted.
    pub const MAX_MAGNIFICATION: f64 = 4.0;
}

/// The result for each image, each list in the order of [`files::find`].
#[derive(Debug, Default)]
pub struct Prepared {
    /// Outputs written in this run.
    pub written: Vec<PathBuf>,
    /// Outputs of an earlier run that are still up to date.
    pub unchanged: Vec<PathBuf>,
    /// Inputs whose width or height is out of range.
    pub out_of_range: Vec<PathBuf>,
    /// Errors for inputs that could not be read; each names its file.
    pub unreadable: Vec<Error>,
}

impl Prepared {
    /// The resulting number of training images.
    pub fn kept(&self) -> usize {
        self.written.len() + self.unchanged.len()
    }

    /// The number of inputs found.
    pub fn total(&self) -> usize {
        self.kept() + self.out_of_range.len() + self.unreadable.len()
    }
}

/// Converts every image of `input_dir` whose width and height both lie in `min_size..=max_size` to RGB, enlarges it if
/// asked to, and saves it directly in `save_dir` as JPEG of quality 100 without chroma subsampling.
///
/// The name is kept, with `.jpg` for an extension that is not JPEG's. Inputs that would get the same name keep their
/// folders and their extension: `a/1.png` and `b/1.png` become `a/1.png.jpg` and `b/1.png.jpg`.
///
/// An output has the modification time of its input, and is skipped while the two agree and its size is right, even if
/// the interpolation has changed. An input that cannot be read is listed and skipped; an output that cannot be written
/// ends the run.
///
/// `progress` receives the number of finished inputs and the total, from any thread.
pub fn prepare(config: &Prepare, progress: impl Fn(usize, usize) + Sync) -> Result<Prepared> {
    if config.min_size > config.max_size {
        let expected = format!("at most max_size, {}", config.max_size);
        return Err(Error::value("min_size", expected, config.min_size));
    }
    if !(1.0..=Prepare::MAX_MAGNIFICATION).contains(&config.magnification) {
        let expected = format!("1 to {}", Prepare::MAX_MAGNIFICATION);
        return Err(Error::value(
            "magnification",
            expected,
            config.magnification,
        ));
    }
    let jobs = jobs(config)?;
    let done = AtomicUsize::new(0);
    progress(0, jobs.len());
    let outcomes: Vec<Outcome> = jobs
        .par_iter()
        .map(|job| {
            let outcome = job.run(config);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len());
            outcome
        })
        .collect::<Result<_>>()?;

    let mut prepared = Prepared::default();
    for (job, outcome) in jobs.into_iter().zip(outcomes) {
        match outcome {
            Outcome::Written => prepared.written.push(job.output),
            Outcome::Unchanged => prepared.unchanged.push(job.output),
            Outcome::OutOfRange => prepared.out_of_range.push(job.input),
            Outcome::Unreadable(error) => prepared.unreadable.push(error),
        }
    }
    Ok(prepared)
}

/// One input and the path of its output.
struct Job {
    input: PathBuf,
    output: PathBuf,
}

enum Outcome {
    Written,
    Unchanged,
    OutOfRange,
    Unreadable(Error),
}

impl Job {
    fn run(&self, config: &Prepare) -> Result<Outcome> {
        let range = config.min_size..=config.max_size;
        let (width, height) = match image::dimensions(&self.input) {
            Ok(size) => size,
            Err(error) => return Ok(Outcome::Unreadable(error)),
        };
        if !(range.contains(&width) && range.contains(&height)) {
            return Ok(Outcome::OutOfRange);
        }
        // Read before the pixels: if the input changes in the meantime, the times differ.
        let modified = modified(&self.input);
        let size = [width, height].map(|side| magnified(side, config.magnification));
        let has_other_size =
            image::dimensions(&self.output).is_ok_and(|found| [found.0, found.1] != size);
        if modified.is_some() && modified == self::modified(&self.output) && !has_other_size {
            return Ok(Outcome::Unchanged);
        }
        match Image::read(&self.input) {
            // Written as a JPEG, it would be black.
            Ok(image) if !image.data.iter().any(|value| value.is_finite()) => {
                Ok(Outcome::Unreadable(Error::Image {
                    path: self.input.clone(),
                    reason: "expected pixel values, found none that is finite".into(),
                }))
            }
            Ok(image) => {
                let image = image.with_channels(3);
                self.save(&enlarged(image, config), modified)?;
                Ok(Outcome::Written)
            }
            Err(error) => Ok(Outcome::Unreadable(error)),
        }
    }

    fn save(&self, image: &Image, modified: Option<SystemTime>) -> Result<()> {
        files::write_atomically(&self.output, |out| {
            image.encode(ENCODING, &self.output, out)?;
            // A later write would change the time again.
            out.flush().map_err(Error::io(&self.output))?;
            if let Some(modified) = modified {
                // Where times cannot be set, the image is still correct; it will only be converted again.
                let _ = out.get_ref().set_modified(modified);
            }
            Ok(())
        })
    }
}

/// A side of an image once it is enlarged.
fn magnified(side: usize, magnification: f64) -> usize {
    (side as f64 * magnification).round() as usize
}

/// An RGB image, enlarged.
fn enlarged(image: Image, config: &Prepare) -> Image {
    let size = [image.height, image.width];
    let [height, width] = size.map(|side| magnified(side, config.magnification));
    if [height, width] == [image.height, image.width] {
        return image;
    }
    magnify::magnified(&image, height, width, config.interpolation)
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|file| file.modified()).ok()
}

/// The inputs, each with a unique output path.
fn jobs(config: &Prepare) -> Result<Vec<Job>> {
    let inputs = inputs(config)?;
    // Lower-cased, because some file systems do not distinguish case.
    let name = |input: &Path| jpeg_name(input).to_ascii_lowercase();
    let mut of_this_name: HashMap<OsString, usize> = HashMap::new();
    for input in &inputs {
        *of_this_name.entry(name(input)).or_default() += 1;
    }
    let mut taken: HashMap<PathBuf, PathBuf> = HashMap::new();
    let mut jobs = Vec::with_capacity(inputs.len());
    for input in inputs {
        let output = config.save_dir.join(if of_this_name[&name(&input)] == 1 {
            jpeg_name(&input)
        } else {
            jpeg_path(&input, &config.input_dir)
        });
        if let Some(other) = taken.insert(output.clone(), input.clone()) {
            let (output, other) = (output.display(), other.display());
            return Err(Error::Image {
                path: input,
                reason: format!("would be saved as {output}, as would {other}"),
            });
        }
        jobs.push(Job { input, output });
    }
    Ok(jobs)
}

/// The images below the input folder, except outputs.
fn inputs(config: &Prepare) -> Result<Vec<PathBuf>> {
    let excluded: [&Path; 1] = [&config.save_dir];
    let inputs = files::find_outside(&config.input_dir, &image::EXTENSIONS, &excluded)?;
    if let Ok(save_dir) = fs::canonicalize(&config.save_dir) {
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        if real(&config.input_dir).starts_with(&save_dir) {
            return Err(Error::value(
                "save_dir",
                "a folder that does not contain input_dir",
                config.save_dir.display(),
            ));
        }
    }
    if inputs.is_empty() {
        return Err(image::none_in(&config.input_dir));
    }
    Ok(inputs)
}

/// The name of an input as a JPEG: `a/1.png` becomes `1.jpg`.
fn jpeg_name(input: &Path) -> OsString {
    let name = Path::new(input.file_name().unwrap_or_default());
    if is_jpeg(name) {
        name.into()
    } else {
        name.with_extension("jpg").into()
    }
}

/// The path of an input below `input_dir` as a JPEG: `a/1.png` becomes `a/1.png.jpg`.
fn jpeg_path(input: &Path, input_dir: &Path) -> OsString {
    let inside = input.strip_prefix(input_dir);
    let mut path = OsString::from(inside.expect("inputs are found below the input folder"));
    if !is_jpeg(input) {
        path.push(".jpg");
    }
    path
}

fn is_jpeg(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    extension.eq_ignore_ascii_case("jpg") || extension.eq_ignore_ascii_case("jpeg")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::image::Depth;

    /// An input folder, and a save folder that does not exist yet.
    struct Folders {
        root: tempfile::TempDir,
        config: Prepare,
    }

    impl Folders {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let config = Prepare {
                input_dir: root.path().join("input"),
                save_dir: root.path().join("saved"),
                min_size: 8,
                max_size: 16,
                magnification: 1.0,
                interpolation: Interpolation::default(),
            };
            fs::create_dir(&config.input_dir).unwrap();
            Self { root, config }
        }

        fn input(&self, name: &str) -> PathBuf {
            self.config.input_dir.join(name)
        }

        fn add(&self, name: &str, image: &Image) -> PathBuf {
            let path = self.input(name);
            image.write(&path).unwrap();
            path
        }

        fn prepare(&self) -> Prepared {
            prepare(&self.config, |_, _| ()).unwrap()
        }

        /// Paths relative to the save folder.
        fn names(&self, paths: &[PathBuf]) -> Vec<String> {
            let name = |path: &PathBuf| {
                let name = path.strip_prefix(&self.config.save_dir).unwrap();
                name.to_str().unwrap().to_owned()
            };
            paths.iter().map(name).collect()
        }

        fn saved(&self) -> Vec<String> {
            let saved = files::find(&self.config.save_dir, &image::EXTENSIONS).unwrap();
            self.names(&saved)
        }

        fn read(&self, name: &str) -> Image {
            Image::read(&self.config.save_dir.join(name)).unwrap()
        }
    }

    fn flat(width: usize, height: usize, level: u8) -> Image {
        Image::from_bytes(height, width, 1, &vec![level; height * width])
    }

    #[test]
    fn both_sides_decide_and_the_bounds_count() {
        let folders = Folders::new();
        for (name, width, height) in [
            ("a.png", 8, 16),
            ("b.png", 7, 12),
            ("c.png", 12, 7),
            ("d.png", 17, 12),
            ("e.png", 12, 17),
            ("f.png", 16, 8),
        ] {
            folders.add(name, &flat(width, height, 100));
        }
        let prepared = folders.prepare();
        assert_eq!(folders.names(&prepared.written), ["a.jpg", "f.jpg"]);
        assert_eq!(
            prepared.out_of_range,
            ["b.png", "c.png", "d.png", "e.png"].map(|name| folders.input(name))
        );
        assert_eq!((prepared.kept(), prepared.total()), (2, 6));
        assert_eq!(folders.saved(), ["a.jpg", "f.jpg"]);
    }

    #[test]
    fn every_kind_becomes_rgb_of_eight_bits_and_keeps_its_pixels() {
        let folders = Folders::new();
        let ramp: Vec<u8> = (0..8 * 9 * 3).collect();
        let color = Image::from_bytes(8, 9, 3, &ramp);
        folders.add("color.png", &color);
        folders.add("gray.JPEG", &flat(9, 8, 77));
        let deep = Image {
            depth: Depth::U16,
            ..color.clone()
        };
        folders.add("deep.png", &deep);
        folders.prepare();
        assert_eq!(folders.saved(), ["color.jpg", "deep.jpg", "gray.JPEG"]);

        assert_eq!(folders.read("gray.JPEG").to_bytes(), [77; 8 * 9 * 3]);
        for name in ["color.jpg", "deep.jpg"] {
            let saved = folders.read(name);
            assert_eq!((saved.channels, saved.depth), (3, Depth::U8));
            for (ours, original) in saved.data.iter().zip(&color.data) {
                assert!((ours - original).abs() < 4.0 / 255.0);
            }
        }
    }

    #[test]
    fn a_second_run_counts_everything_and_writes_nothing() {
        let folders = Folders::new();
        for name in ["a.png", "b/c.jpg"] {
            folders.add(name, &flat(10, 10, 50));
        }
        folders.add("large.png", &flat(20, 20, 50));
        assert_eq!(folders.prepare().written.len(), 2);

        // If an output were written again, this would be gone.
        fs::write(folders.config.save_dir.join("a.jpg"), "mark").unwrap();
        let time = modified(&folders.input("a.png")).unwrap();
        let marked = fs::File::options()
            .append(true)
            .open(folders.config.save_dir.join("a.jpg"))
            .unwrap();
        marked.set_modified(time).unwrap();

        let second = folders.prepare();
        assert_eq!(folders.names(&second.unchanged), ["a.jpg", "c.jpg"]);
        assert!(second.written.is_empty());
        assert_eq!((second.kept(), second.total()), (2, 3));
        let mark = fs::read(folders.config.save_dir.join("a.jpg")).unwrap();
        assert_eq!(mark, b"mark");
    }

    #[test]
    fn magnified_images_are_interpolated_and_made_again_when_the_factor_changes() {
        let mut folders = Folders::new();
        // A ramp, which interpolation preserves except near the edges.
        let ramp: Vec<u8> = (0..12 * 16).map(|i| 10 * (i % 16) as u8).collect();
        folders.add("a.png", &Image::from_bytes(12, 16, 1, &ramp));
        folders.prepare();
        folders.config.magnification = 2.0;
        assert_eq!(folders.names(&folders.prepare().written), ["a.jpg"]);
        let image = folders.read("a.jpg");
        assert_eq!((image.height, image.width), (24, 32));
        for x in 6..26 {
            let got = 255.0 * image.data[(12 * 32 + x) * 3];
            let expected = 10.0 * (0.5 * x as f32 - 0.25);
            assert!((got - expected).abs() < 2.0, "{x}: {got} {expected}");
        }
        assert_eq!(folders.names(&folders.prepare().unchanged), ["a.jpg"]);
        folders.config.magnification = 1.0;
        assert_eq!(folders.names(&folders.prepare().written), ["a.jpg"]);
        folders.config.magnification = 0.5;
        let error = prepare(&folders.config, |_, _| ()).unwrap_err();
        assert!(error.to_string().starts_with("magnification: "), "{error}");
    }

    #[test]
    fn a_changed_input_is_converted_again_even_when_it_is_older() {
        let folders = Folders::new();
        let path = folders.add("a.png", &flat(10, 10, 50));
        folders.add("b.png", &flat(10, 10, 50));
        folders.prepare();
        let hour = Duration::from_hours(1);
        for (level, time) in [
            (90, SystemTime::now() + hour),
            (130, SystemTime::now() - hour),
        ] {
            folders.add("a.png", &flat(10, 10, level));
            let file = fs::File::options().append(true).open(&path).unwrap();
            file.set_modified(time).unwrap();
            let prepared = folders.prepare();
            assert_eq!(folders.names(&prepared.written), ["a.jpg"]);
            assert_eq!(folders.names(&prepared.unchanged), ["b.jpg"]);
            assert_eq!(folders.read("a.jpg").to_bytes()[0], level);
        }
    }

    #[test]
    fn inputs_of_one_name_are_all_kept() {
        let folders = Folders::new();
        for (level, name) in (1..).zip([
            "1.jpg",
            "1.png",
            "a/1.PNG",
            "a/b/1.JPG",
            "a/only.png",
            "b/1.jpeg",
        ]) {
            folders.add(name, &flat(10, 10, level));
        }
        let expected = [
            "1.jpg",
            "1.png.jpg",
            "a/1.PNG.jpg",
            "a/b/1.JPG",
            // Its name is unique: .jpeg is not .jpg.
            "1.jpeg",
        ];
        folders.prepare();
        for name in expected {
            assert!(folders.saved().contains(&name.to_string()), "{name}");
        }
        assert_eq!(folders.saved().len(), 6);
        assert_eq!(folders.read("a/1.PNG.jpg").to_bytes()[0], 3);
        assert_eq!(folders.read("only.jpg").to_bytes()[0], 5);
        assert_eq!(folders.prepare().unchanged.len(), 6);
    }

    #[test]
    fn two_inputs_are_never_saved_over_each_other() {
        let folders = Folders::new();
        for name in ["1.jpg", "1.png", "1.png.jpg"] {
            folders.add(name, &flat(10, 10, 50));
        }
        let error = prepare(&folders.config, |_, _| ()).unwrap_err().to_string();
        assert!(error.contains("1.png.jpg, as would"), "{error}");
        assert!(!folders.config.save_dir.exists());
    }

    #[test]
    fn unreadable_files_are_listed_with_their_reasons_and_skipped() {
        let folders = Folders::new();
        folders.add("good.png", &flat(10, 10, 50));
        fs::write(folders.input("text.jpg"), "words").unwrap();
        let nothing = Image {
            data: vec![f32::NAN; 100],
            depth: Depth::F32,
            ..flat(10, 10, 0)
        };
        folders.add("nothing.tif", &nothing);
        // Readable only as far as its size.
        let png = fs::read(folders.add("cut.png", &flat(10, 10, 50))).unwrap();
        fs::write(folders.input("cut.png"), &png[..png.len() - 20]).unwrap();
        let prepared = folders.prepare();
        assert_eq!(folders.names(&prepared.written), ["good.jpg"]);
        let reasons: Vec<String> = prepared.unreadable.iter().map(Error::to_string).collect();
        assert_eq!(reasons.len(), 3);
        assert!(reasons[0].contains("cut.png"), "{reasons:?}");
        assert!(
            reasons[1].contains("nothing.tif: expected pixel values"),
            "{reasons:?}"
        );
        assert!(reasons[2].contains("text.jpg"), "{reasons:?}");
        assert_eq!(folders.saved(), ["good.jpg"]);
    }

    #[test]
    fn a_save_folder_inside_the_input_folder_is_not_searched() {
        let mut folders = Folders::new();
        folders.config.save_dir = folders.input("saved");
        for name in ["a.png", "x/b.png", "y/b.png"] {
            folders.add(name, &flat(10, 10, 50));
        }
        assert_eq!(folders.prepare().written.len(), 3);
        let second = folders.prepare();
        assert_eq!((second.unchanged.len(), second.total()), (3, 3));
    }

    #[test]
    fn a_save_folder_around_the_input_folder_is_refused() {
        let mut folders = Folders::new();
        folders.add("a.png", &flat(10, 10, 50));
        for save_dir in [folders.root.path().to_path_buf(), folders.input("")] {
            folders.config.save_dir = save_dir;
            let error = prepare(&folders.config, |_, _| ()).unwrap_err();
            assert!(error.to_string().starts_with("save_dir: "), "{error}");
        }
    }

    #[test]
    fn nothing_to_do_is_an_error_that_names_the_folder() {
        let mut folders = Folders::new();
        let error = prepare(&folders.config, |_, _| ()).unwrap_err();
        assert!(matches!(&error, Error::NoFiles { path, .. } if *path == folders.config.input_dir));

        folders.config.input_dir.push("missing");
        let error = prepare(&folders.config, |_, _| ()).unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if *path == folders.config.input_dir));
    }

    #[test]
    fn bounds_that_let_nothing_through_are_refused() {
        let mut folders = Folders::new();
        folders.config.min_size = 17;
        let error = prepare(&folders.config, |_, _| ()).unwrap_err();
        assert!(error.to_string().starts_with("min_size: "), "{error}");
    }

    #[test]
    fn progress_reaches_the_number_of_inputs() {
        let folders = Folders::new();
        for name in ["a.png", "b.png", "c.png"] {
            folders.add(name, &flat(10, 10, 50));
        }
        let seen = std::sync::Mutex::new(Vec::new());
        prepare(&folders.config, |done, total| {
            seen.lock().unwrap().push((done, total));
        })
        .unwrap();
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, [(0, 3), (1, 3), (2, 3), (3, 3)]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_need_not_be_utf_8() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let folders = Folders::new();
        let image = folders.add("a.png", &flat(10, 10, 50));
        let name = OsStr::from_bytes(b"caf\xE9.png");
        fs::rename(image, folders.config.input_dir.join(name)).unwrap();
        folders.prepare();
        let saved = OsStr::from_bytes(b"caf\xE9.jpg");
        assert!(folders.config.save_dir.join(saved).is_file());
    }
}
