//! Golden files with random damage, through everything that reads and writes images. A short run for every
//! format is part of the tests; a long one, of one format and from other files, is started like this:
//!
//! ```sh
//! N2N_MUTATE=tiff N2N_MUTATE_SECONDS=3600 N2N_MUTATE_SEEDS=folder \
//!     cargo test --release -p n2n --test mutations -- --ignored --nocapture
//! ```
//!
//! `fuzz/` does the same with coverage feedback, and needs `cargo-fuzz`.

use std::io::Cursor;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{env, fs};

use n2n::image::{Encoding, Format, Limits, Pages, Reader, write_pages};

const LIMITS: Limits = Limits {
    pixels: 1 << 18,
    samples: 1 << 20,
};

/// What one input may take: far more than any does.
const MOST_TIME: Duration = Duration::from_secs(20);
const MOST_MEMORY: u64 = 1 << 30;

/// Places in our own code that panicked. Panics of decoders are caught, and the file is refused.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Reads up to 64 pages in pieces of rows, and writes them again, in their format and as TIFF.
fn use_image(bytes: &[u8]) {
    let open = || Reader::from_bytes(Path::new("mutated"), bytes, LIMITS);
    let Ok(mut reader) = open() else { return };
    let (mut rows, mut wide) = (Vec::new(), Vec::new());
    for _ in 0..64 {
        let Ok(Some(page)) = reader.next_page() else {
            break;
        };
        let mut left = page.height;
        while left > 0 {
            let count = left.min(97);
            left -= count;
            rows.clear();
            wide.clear();
            let is_wide = page.depth.is_wide() && !page.metadata.pass_through;
            let read = if is_wide {
                reader.read_wide(count, &mut wide)
            } else {
                reader.read_rows(count, &mut rows)
            };
            if read.is_err() {
                return;
            }
            assert_eq!(rows.len() + wide.len(), count * page.row_len());
        }
    }
    for format in [None, Some(Format::Tiff)] {
        let Ok(mut reader) = open() else { return };
        let format = format.unwrap_or(reader.format().written());
        let mut out = Cursor::new(Vec::new());
        let _ = write_pages(
            &mut reader,
            Encoding::new(format),
            Path::new("out"),
            &mut out,
        );
    }
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// One to a few random changes: bits, bytes, numbers of both byte orders, pieces cut out, doubled, zeroed or
/// taken from another file. Most are in the first kilobyte, where headers are.
fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    const NUMBERS: [u64; 12] = [
        0,
        1,
        2,
        7,
        8,
        16,
        0x7F,
        0xFF,
        0x7FFF,
        0xFFFF,
        0x7FFF_FFFF,
        0xFFFF_FFFF,
    ];
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        if bytes.is_empty() {
            return bytes;
        }
        let end = if random.below(3) > 0 {
            bytes.len().min(1024)
        } else {
            bytes.len()
        };
        let at = random.below(end);
        match random.below(9) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            kind @ 2..=4 => {
                let size = [2, 4, 4][kind - 2].min(bytes.len() - at);
                let number = match random.below(3) {
                    0 => random.next() >> random.below(64),
                    _ => NUMBERS[random.below(NUMBERS.len())],
                };
                let mut number = number.to_le_bytes()[..size].to_vec();
                if random.below(2) == 0 {
                    number.reverse();
                }
                bytes[at..at + size].copy_from_slice(&number);
            }
            5 => bytes.truncate(at),
            6 => {
                let length = random.below((bytes.len() - at).min(64));
                bytes.drain(at..at + length);
            }
            7 => {
                let length = random.below((bytes.len() - at).min(64));
                let piece = bytes[at..at + length].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                let piece = &other[from..other.len().min(from + random.below(128))];
                let to = (at + piece.len()).min(bytes.len());
                bytes.splice(at..to, piece.iter().copied());
            }
        }
    }
    bytes
}

/// The files of a folder that are of a format.
fn seeds(folder: &Path, format: Format) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.sort();
    let files = paths.iter().filter_map(|path| fs::read(path).ok());
    let is_seed = |bytes: &Vec<u8>| {
        let found = Format::of_source(&mut Cursor::new(bytes));
        bytes.len() < 100_000 && found.is_ok_and(|found| found == Some(format))
    };
    files.filter(is_seed).collect()
}

/// The most memory that this process has used, in bytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// The time that this thread has been running, which other work on the machine does not lengthen; elsewhere than
/// on Linux, the time since `start`.
fn running_time(start: Instant) -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split_whitespace().next().and_then(|n| n.parse().ok());
    nanoseconds.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

/// Runs until a number of inputs or a time is reached; returns how many inputs there were.
fn run(format: Format, seeds: &[Vec<u8>], inputs: u64, time: Duration, seed: u64) -> u64 {
    let name = format!("{format:?}");
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mutated.{name}"));
    let mut random = Random(seed);
    let start = Instant::now();
    let mut done = 0;
    while done < inputs && start.elapsed() < time {
        let bytes = mutate(seeds, &mut random);
        // A crash leaves it behind.
        fs::write(&kept, &bytes).unwrap();
        let begun = running_time(start);
        let result = panic::catch_unwind(|| use_image(&bytes));
        let took = running_time(start).saturating_sub(begun);
        let own = std::mem::take(&mut *PANICS.lock().unwrap());
        let peak = peak_memory();
        assert!(
            result.is_ok() && own.is_empty() && took < MOST_TIME && peak < MOST_MEMORY,
            "{}: panics {own:?}, {took:?}, a peak of {peak} bytes",
            kept.display()
        );
        done += 1;
    }
    let _ = fs::remove_file(&kept);
    done
}

/// Notes panics in this crate, and says nothing of those in others.
fn watch_panics() {
    panic::set_hook(Box::new(|about| {
        let place = about
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        if !place.contains("/registry/") && !place.contains("/rustc/") {
            PANICS.lock().unwrap().push(place);
        }
    }));
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/images")
}

#[test]
fn damaged_files_of_every_format_never_panic_nor_take_much_time_or_memory() {
    watch_panics();
    for format in Format::ALL {
        let seeds = seeds(&golden(), format);
        assert!(!seeds.is_empty(), "{format:?}");
        run(format, &seeds, 100, Duration::from_secs(20), 1);
    }
}

#[test]
#[ignore = "runs as long as it is told"]
fn of_one_format_for_a_long_time() {
    watch_panics();
    let wanted = env::var("N2N_MUTATE").expect("N2N_MUTATE: a format's extension");
    let format = Format::of_name(Path::new(&format!("a.{wanted}"))).expect("a format's extension");
    let seconds = env::var("N2N_MUTATE_SECONDS")
        .ok()
        .and_then(|n| n.parse().ok());
    let folder = env::var("N2N_MUTATE_SEEDS").map_or_else(|_| golden(), PathBuf::from);
    let seed = env::var("N2N_MUTATE_SEED")
        .ok()
        .and_then(|n| n.parse().ok());
    let seeds = seeds(&folder, format);
    let time = Duration::from_secs(seconds.unwrap_or(600));
    let done = run(format, &seeds, u64::MAX, time, seed.unwrap_or(7));
    println!(
        "{format:?}: {done} inputs from {} files, {:.0} s of CPU time",
        seeds.len(),
        running_time(Instant::now()).as_secs_f64()
    );
}
