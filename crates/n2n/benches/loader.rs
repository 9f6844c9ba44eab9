//! Clean patches per second, from JPEGs: what a device that draws noise itself can be fed.
//!
//! ```sh
//! cargo bench -p n2n --bench loader                    # all of it, a minute
//! cargo bench -p n2n --bench loader -- decoded         # rows with this in their name
//! ```
//!
//! The images are made on the spot, of the size of a usual photograph in `ImageNet`. `decoded` are cut
//! from images that are kept in memory, `from files` from images that are decoded at every visit.

use std::hint::black_box;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use n2n::image::Image;
use n2n::network::SampleKind;
use n2n::train::Config;
use n2n::train::dataset::Dataset;
use n2n::train::loader::Loader;

/// Images, their height and their width.
const IMAGES: (usize, usize, usize) = (64, 375, 500);
/// Patches per batch, and their side.
const BATCH: (usize, usize) = (32, 256);

fn main() {
    let folder = tempfile::tempdir().expect("a folder for the images");
    write_images(folder.path());
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    let cores = available_parallelism().map_or(1, usize::from);
    for (what, cache_mb) in [("decoded", 1024), ("from files", 0)] {
        let mut group = criterion.benchmark_group(what);
        let twice = |threads: &usize| Some(2 * threads);
        for threads in std::iter::successors(Some(1), twice).take_while(|&n| n <= cores) {
            let loader = loader(folder.path(), threads, cache_mb);
            // One batch from each thread: a single one may have been made during the wait for another.
            group.throughput(Throughput::Elements((threads * BATCH.0) as u64));
            group.bench_function(format!("{threads} threads"), |bencher| {
                bencher.iter_custom(|rounds| time(&loader, threads, rounds as usize));
            });
        }
        group.finish();
    }
    criterion.final_summary();
}

/// The time of this many rounds, each with one batch from each thread, once all threads are at work.
fn time(loader: &Loader, threads: usize, rounds: usize) -> Duration {
    let samples = loader.samples(SampleKind::Clean, 1, 0, Config::MAX_EPOCHS);
    let mut samples = samples.expect("threads");
    let mut take = |batches: usize| {
        for sample in samples.by_ref().take(batches) {
            black_box(sample.expect("a batch"));
        }
    };
    take(threads);
    let start = Instant::now();
    take(threads * rounds);
    start.elapsed()
}

fn loader(folder: &Path, threads: usize, cache_mb: usize) -> Loader {
    let config = Config {
        data_dir: folder.into(),
        batchsize: BATCH.0,
        patchsize: BATCH.1,
        loader_threads: threads,
        cache_mb,
        ..Config::default()
    };
    let dataset = Dataset::open(folder, &[], 3, cache_mb << 20, &mut |_| {}).expect("images");
    Loader::new(dataset, &config).expect("enough of them")
}

/// Waves of several lengths under a little noise, so that a JPEG of them is about as long, and as slow
/// to decode, as one of a photograph.
fn write_images(folder: &Path) {
    let (count, height, width) = IMAGES;
    for k in 0..count {
        let mut bytes = Vec::with_capacity(height * width * 3);
        for y in 0..height {
            for x in 0..width {
                for c in 0..3 {
                    let wave = |length: f64| {
                        ((x + k * c) as f64 / length).sin() * (y as f64 / length).cos()
                    };
                    let noise = ((x * 7919 + y * 104_729 + k * 31) % 17) as f64;
                    let value = 120.0 + 50.0 * wave(60.0) + 30.0 * wave(11.0) + noise;
                    bytes.push(value as u8);
                }
            }
        }
        let image = Image::from_bytes(height, width, 3, &bytes);
        let path = folder.join(format!("{k:02}.jpg"));
        image.write(&path).expect("room for the images");
    }
}
