//! `n2n export`

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use n2n::batch::Batch;
use n2n::cpu::CpuNetwork;
use n2n::denoise::{ModelRange, Transform};
use n2n::network::Denoise;
use n2n::weights::Weights;
use n2n::{Error, Range, files, models, package};

use crate::args::{self, ExportFormat};
use crate::progress::Progress;
use crate::rten_engine::{self, RtenModel};
use crate::ui::Ui;

/// How far apart two engines may be, relative to the largest value. Both compute in `f32`, in different orders, which
/// causes differences of about 1e-6.
const TOLERANCE: f32 = 1e-4;

/// Images that the ONNX file is checked with: number, and height and width in cells of the network's grid.
const SIZES: [(usize, usize, usize); 2] = [(1, 2, 3), (2, 4, 4)];

/// Runs the command. Nothing is written before the ONNX model has been checked.
pub fn run(args: &args::Export, ui: Ui) -> anyhow::Result<ExitCode> {
    let mut weights = models::load(Some(&args.model_path))?;
    // Wrong tensors are reported once, whatever is to be written.
    let mut network = CpuNetwork::from_weights(&weights)
        .with_context(|| args.model_path.display().to_string())?;
    network.set_level(args.processor.level());
    if let Some(license) = &args.license {
        weights.metadata.insert("license".into(), license.clone());
    }
    if !weights.metadata.contains_key("license") {
        ensure!(
            !args.format.contains(&ExportFormat::Bioimageio),
            "the model states no license, which a bioimage.io package requires; set one with --license"
        );
        ui.note("note: the model states no license; set one with --license");
    }

    if Transform::of(&weights.metadata)
        .with_context(|| args.model_path.display().to_string())?
        .is_some()
    {
        ui.note(
            "note: the model has a transform around its network, which other engines must apply \
             too; see docs/deploy.md",
        );
    }

    // Before anything is written, because not every model can be packaged.
    let packages = packages(args, &weights)?;
    let onnx = args.save_dir.join("model.onnx");
    let safetensors = args.save_dir.join("model.safetensors");
    if args.format.contains(&ExportFormat::Onnx) {
        let bytes = weights.encode_onnx()?;
        if rten_engine::BUILT_IN {
            let model = RtenModel::from_bytes(bytes.clone(), &onnx)?;
            let mut progress = Progress::new(ui, "image");
            let difference = difference(&mut network, &model, &mut |done, total| {
                progress.show(done as f64, total, "comparing rten and n2n");
            })
            .with_context(|| format!("{} was not written", onnx.display()))?;
            drop(progress);
            ui.result(format_args!(
                "rten and n2n differ by at most {difference:.1e} of the largest value"
            ))?;
        } else {
            ui.warn(format!(
                "{} was not checked: this build of n2n has no rten",
                onnx.display()
            ));
        }
        files::write_atomically(&onnx, |file| {
            file.write_all(&bytes).map_err(Error::io(&onnx))
        })?;
        ui.result(onnx.display())?;
    }
    if args.format.contains(&ExportFormat::Safetensors) {
        weights.write_as(&safetensors, args.dtype.into())?;
        ui.result(safetensors.display())?;
    }
    for (path, package) in packages {
        files::write_atomically(&path, |file| {
            file.write_all(&package).map_err(Error::io(&path))
        })?;
        ui.result(path.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The packages that were asked for, and their paths.
fn packages(args: &args::Export, weights: &Weights) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
    let name = args.model_path.file_stem().unwrap_or_default();
    let name = name.to_string_lossy();
    let mut packages = vec![];
    if args.format.contains(&ExportFormat::Bioimageio) {
        let package = package::bioimageio(weights, &name, range(args, weights)?)?;
        packages.push((format!("{name}.bioimageio.zip"), package));
    }
    if args.format.contains(&ExportFormat::Darktable) {
        packages.push((
            format!("{name}.dtmodel"),
            package::darktable(weights, &name)?,
        ));
    }
    let path = |(file, package)| (args.save_dir.join(file), package);
    Ok(packages.into_iter().map(path).collect())
}

/// The range of a package, in the units of images.
fn range(args: &args::Export, weights: &Weights) -> anyhow::Result<Option<(f32, f32)>> {
    match args.range {
        Some(Range::Between(low, high)) => Ok(Some((low, high))),
        Some(other) => bail!("--range: expected MIN,MAX, found {other}"),
        None => Ok(ModelRange::of(&weights.metadata)?.map(|range| (range.low, range.high))),
    }
}

/// The largest difference between the two engines over the images of [`SIZES`], relative to the
/// largest value; an error if it is above [`TOLERANCE`] or not a number.
fn difference(
    ours: &mut dyn Denoise,
    theirs: &RtenModel,
    observe: &mut dyn FnMut(usize, usize),
) -> anyhow::Result<f32> {
    let mut worst = 0.0_f32;
    let multiple = ours.grid().multiple;
    for (done, (n, rows, columns)) in SIZES.into_iter().enumerate() {
        observe(done, SIZES.len());
        let (h, w) = (rows * multiple, columns * multiple);
        let noisy = images(n, h, w, ours.channels());
        let (ours, theirs) = (ours.denoise(&noisy)?, theirs.run(&noisy)?);
        let shape = |batch: &Batch| [batch.n, batch.h, batch.w, batch.c];
        ensure!(
            shape(&ours) == shape(&theirs),
            "for images of {:?} (n, h, w, c) rten gives {:?}",
            shape(&ours),
            shape(&theirs)
        );
        let largest = ours
            .data
            .iter()
            .fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
        for (a, b) in ours.data.iter().zip(&theirs.data) {
            let relative = (a - b).abs() / largest;
            ensure!(
                relative <= TOLERANCE,
                "for images of [{n}, {h}, {w}] (n, h, w) rten gives {b}, n2n gives {a}; \
                 expected a difference of at most {TOLERANCE:e} times the largest value, {largest}"
            );
            worst = worst.max(relative);
        }
    }
    Ok(worst)
}

/// Noise from 0 to 1, the same each time.
fn images(n: usize, h: usize, w: usize, c: usize) -> Batch {
    let mut state = 1_u32;
    let value = || {
        // Knuth's linear congruential generator; its upper bits are the better ones.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let values = std::iter::repeat_with(value).take(n * h * w * c).collect();
    Batch::new(n, h, w, c, values)
}

#[cfg(all(test, feature = "rten"))]
mod tests {
    use std::path::Path;

    use n2n::unet::UNet;

    use super::*;

    fn network(n_feature: usize, n_channel: usize, seed: u64) -> CpuNetwork {
        CpuNetwork::initial(UNet::new(n_feature, n_channel).unwrap(), seed)
    }

    fn in_rten(network: &CpuNetwork) -> RtenModel {
        let bytes = network.weights().encode_onnx().unwrap();
        RtenModel::from_bytes(bytes, Path::new("model.onnx")).unwrap()
    }

    #[test]
    fn rten_computes_the_same_network() {
        for (n_feature, n_channel) in [(1, 3), (5, 1), (8, 2)] {
            let mut network = network(n_feature, n_channel, 1);
            let model = in_rten(&network);
            let difference = difference(&mut network, &model, &mut |_, _| {}).unwrap();
            assert!(difference < 1e-5, "{difference} at F = {n_feature}");
        }
    }

    #[test]
    fn rten_computes_networks_in_blocks_of_pixels() {
        for (n_depth, pixel_shuffle) in [(4, 2), (5, 2), (2, 3)] {
            let unet = UNet {
                n_depth,
                head_width: 10,
                pixel_shuffle,
                ..UNet::new(4, 3).unwrap()
            };
            let mut network = CpuNetwork::initial_scaled(unet, 1.0, 1);
            let model = in_rten(&network);
            let difference = difference(&mut network, &model, &mut |_, _| {}).unwrap();
            assert!(difference < 1e-5, "{difference} of {unet}");
        }
    }

    #[test]
    fn other_weights_are_found_out() {
        let model = in_rten(&network(2, 3, 2));
        let error = difference(&mut network(2, 3, 1), &model, &mut |_, _| {}).unwrap_err();
        assert!(
            error.to_string().contains("for images of [1, 64, 96]"),
            "{error}"
        );
    }

    #[test]
    fn values_that_overflow_do_not_count_as_agreement() {
        let network = network(2, 1, 1);
        let mut weights = network.weights();
        for tensor in weights.tensors.values_mut() {
            tensor.data.fill(1e30);
        }
        let mut network = CpuNetwork::from_weights(&weights).unwrap();
        let model = in_rten(&network);
        assert!(difference(&mut network, &model, &mut |_, _| {}).is_err());
    }

    #[test]
    fn an_image_the_network_cannot_take_is_rtens_error() {
        let model = in_rten(&network(1, 3, 1));
        let error = model.run(&Batch::zeros(1, 33, 32, 3)).unwrap_err();
        assert!(format!("{error:#}").contains("[1, 3, 33, 32]"), "{error:#}");
    }
}
