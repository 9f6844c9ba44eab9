//! Selected pages and channels of stacks.

use super::*;

#[test]
fn pages_and_channels_that_are_not_chosen_are_copied() {
    let folder = workplace();
    for name in ["hyperstack_imagej.tif", "planes_f32_bands.tif"] {
        fs::copy(golden(name), folder.path().join(name)).unwrap();
    }
    let changed = |name: &str, args: &[&str]| {
        let all: Vec<&str> = ["predict", name, "--suffix=", "--quiet"]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        n2n(&folder, &all).success();
        let (before, after) = (
            pages(&golden(name)),
            pages(&folder.path().join("output").join(name)),
        );
        assert_eq!(before.len(), after.len());
        before.into_iter().zip(after)
    };
    let pages_changed = |args: &[&str]| -> Vec<usize> {
        changed("hyperstack_imagej.tif", args)
            .enumerate()
            .filter(|(_, (before, after))| before.1 != after.1)
            .map(|(at, _)| at)
            .collect()
    };
    assert_eq!(pages_changed(&["--pages=2,11-"]), [1, 10, 11]);
    // Channels of this stack are every other page.
    assert_eq!(pages_changed(&["--channel=2"]), [1, 3, 5, 7, 9, 11]);
    assert_eq!(pages_changed(&["--channel=2", "--pages=1-4"]), [1, 3]);
    // Here they are samples of a pixel.
    let (before, after) = changed("planes_f32_bands.tif", &["--channel=2,5"])
        .next()
        .unwrap();
    for channel in 0..5 {
        let samples =
            |rows: &[f32]| -> Vec<f32> { rows.iter().skip(channel).step_by(5).copied().collect() };
        let is_same = samples(&before.1) == samples(&after.1);
        assert_eq!(is_same, channel != 1 && channel != 4, "channel {channel}");
    }
    n2n(&folder, &["predict", "a.png", "--pages=0"])
        .code(2)
        .stderr(contains("numbers and ranges, counted from 1"));
    fs::remove_dir_all(folder.path().join("output")).unwrap();
    for (name, args, found) in [
        (
            "a.png",
            "--pages=2",
            "1 page and 3 channels; asked for: page 2",
        ),
        (
            "a.png",
            "--channel=4-",
            "1 page and 3 channels; asked for: channel 4-",
        ),
        (
            "hyperstack_imagej.tif",
            "--pages=13,99",
            "12 pages and 2 channels; asked for: page 13,99",
        ),
        (
            "hyperstack_imagej.tif",
            "--channel=3",
            "12 pages and 2 channels; asked for: channel 3",
        ),
        (
            "planes_f32_bands.tif",
            "--channel=9",
            "1 page and 5 channels; asked for: channel 9",
        ),
    ] {
        let found = format!("{name}: nothing in it is selected: it has {found}");
        let before = fs::read(folder.path().join(name)).unwrap();
        for more in ["--suffix=", "--in-place"] {
            n2n(&folder, &["predict", name, args, more])
                .code(1)
                .stderr(contains(&found));
        }
        n2n(&folder, &["predict", name, args, "--adapt=1"])
            .code(1)
            .stderr(contains(&found));
        assert!(fs::read(folder.path().join(name)).unwrap() == before);
        let left = fs::read_dir(folder.path().join("output"));
        assert_eq!(left.map_or(0, Iterator::count), 0, "{name} {args}");
    }
    // A page of a stack in a format of one page.
    n2n(
        &folder,
        &[
            "predict",
            "hyperstack_imagej.tif",
            "--pages=3",
            "--format=png",
            "--strength=0",
        ],
    )
    .success();
    let third = &pages(&golden("hyperstack_imagej.tif"))[2].1;
    let png = folder.path().join("output/hyperstack_imagej_denoise.png");
    assert_eq!(&pages(&png)[0].1, third);
}
