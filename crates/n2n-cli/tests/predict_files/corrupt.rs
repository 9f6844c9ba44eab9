//! `n2n corrupt`.

use super::*;

#[test]
fn corrupted_images_are_noisy_by_as_much_as_was_asked_for() {
    let folder = workplace();
    let flat = Image {
        depth: Depth::U16,
        data: vec![0.5; 64 * 64 * 3],
        ..Image::from_bytes(64, 64, 3, &[0; 64 * 64 * 3])
    };
    flat.write(&folder.path().join("flat.png")).unwrap();
    let corrupt = |out: &str, seed: &str| {
        n2n(
            &folder,
            &[
                "corrupt",
                "flat.png",
                "--noisetype=gauss25",
                seed,
                "-o",
                out,
            ],
        )
        .success()
        .stdout(format!("{out}\n"));
        Image::read(&folder.path().join(out)).unwrap()
    };
    let (one, two) = (
        corrupt("one.png", "--seed=1"),
        corrupt("two.tif", "--seed=2"),
    );
    for noisy in [&one, &two] {
        assert_eq!(noisy.depth, Depth::U16);
        let square: f32 = noisy.data.iter().map(|x| (x * 255.0 - 127.5).powi(2)).sum();
        let deviation = (square / noisy.data.len() as f32).sqrt();
        // Five standard errors of the deviation of 12,288 draws.
        assert!(
            (deviation - 25.0).abs() < 5.0 * 25.0 / (2.0 * 12288.0_f32).sqrt(),
            "{deviation}"
        );
    }
    assert_ne!(one.data, two.data);
    assert_eq!(corrupt("again.png", "--seed=1").data, one.data);
    n2n(&folder, &["corrupt", "flat.png", "-o", "one.png"])
        .code(1)
        .stderr(contains("one.png already exists"));
    // Every page has noise of its own.
    fs::copy(
        golden("imagej_u16_stack.tif"),
        folder.path().join("stack.tif"),
    )
    .unwrap();
    n2n(&folder, &["corrupt", "stack.tif", "-o", "noisy.tif"]).success();
    let pages = |name: &str| -> Vec<Image> {
        let images = images(&folder.path().join(name)).unwrap();
        images.map(Result::unwrap).collect()
    };
    let noise: Vec<Vec<f32>> = pages("noisy.tif")
        .iter()
        .zip(pages("stack.tif"))
        .map(|(noisy, clean)| {
            noisy
                .data
                .iter()
                .zip(clean.data)
                .map(|(a, b)| a - b)
                .collect()
        })
        .collect();
    assert_eq!(noise.len(), 3);
    assert!(noise[0] != noise[1] && noise[1] != noise[2]);
}

#[test]
fn noise_is_scaled_to_the_range_and_leaves_nan() {
    let folder = workplace();
    let mut image = Image::from_bytes(64, 64, 1, &[0; 4096]);
    image.depth = Depth::F32;
    image.data = (0..4096).map(|i| (i % 2) as f32 * 1000.0).collect();
    image.data[7] = f32::NAN;
    image.write(&folder.path().join("wide.tif")).unwrap();
    for noise in ["gauss25", "poisson30"] {
        let out = format!("{noise}.tif");
        n2n(
            &folder,
            &["corrupt", "wide.tif", "--noisetype", noise, "-o", &out],
        )
        .success();
        let made = Image::read(&folder.path().join(&out)).unwrap();
        assert!(made.data[7].is_nan(), "{noise}");
        let pairs = made
            .data
            .iter()
            .zip(&image.data)
            .filter(|(_, x)| x.is_finite());
        let mean_square = pairs.map(|(y, x)| f64::from(y - x).powi(2)).sum::<f64>() / 4095.0;
        // σ = 25/255 of 1000; of Poisson noise √(1/30) of 1000 in the bright half.
        let want = if noise == "gauss25" { 98.0 } else { 129.0 };
        assert!(
            (mean_square.sqrt() - want).abs() < 0.1 * want,
            "{noise}: {}",
            mean_square.sqrt()
        );
    }
}
