//! `predict` within a limit on its memory. Alone in its process, whose peak RSS is measured.

#![cfg(target_os = "linux")]

use std::fs;

use n2n::cpu::CpuNetwork;
use n2n::denoise::Options;
use n2n::image::{Encoding, Format, Image, Selection};
use n2n::predict::{Config, Event, Input, Job, Output, predict};
use n2n::system::peak_rss_mb;
use n2n::unet::named;

#[test]
fn the_limit_holds_for_the_whole_process() {
    const LIMIT: u64 = 300_000_000;
    let (height, width) = (2000, 1800);
    let folder = tempfile::tempdir().unwrap();
    let inputs = ["noisy.jpg", "noisy.png", "noisy.tif"].map(|name| folder.path().join(name));
    {
        let bytes: Vec<u8> = (0..height * width * 3)
            .map(|i| (i * 7919 % 251) as u8)
            .collect();
        let image = Image::from_bytes(height, width, 3, &bytes);
        for path in &inputs {
            image.write(path).unwrap();
        }
    }
    let jobs: Vec<Job> = inputs
        .into_iter()
        .zip([Format::Jpeg, Format::Png, Format::Tiff])
        .map(|(input, format)| Job {
            input: Input::File(input),
            output: Output::File(
                folder
                    .path()
                    .join("clean")
                    .with_extension(format.extensions()[0]),
            ),
            residual: None,
            compare: None,
            reference: None,
            encoding: Encoding::new(format),
            selection: Selection::default(),
        })
        .collect();
    let mut network = CpuNetwork::initial(named("fast").unwrap(), 1);
    let config = Config {
        options: Options {
            max_bytes: LIMIT,
            ..Options::default()
        },
        ..Config::default()
    };
    // The peak is measured anew (man 5 proc).
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let mut in_tiles = 0;
    predict(&mut network, &jobs, &config, |event| {
        if let Event::Ended { result, .. } = event {
            in_tiles += usize::from(result.unwrap().network_pixels > (height * width) as u64);
        }
    });
    assert_eq!(in_tiles, jobs.len());
    let peak = peak_rss_mb().unwrap() * f64::from(1 << 20);
    assert!(peak <= LIMIT as f64, "{peak} bytes");
}
