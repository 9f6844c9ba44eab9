use std::path::Path;

use super::*;
use crate::error::Error;
use crate::train::source::Memory;
use crate::{files, image};

fn write_gray(path: &Path, height: usize, width: usize, value: f32) {
    let image = Image {
        height,
        width,
        channels: 1,
        data: vec![value; height * width],
        depth: Depth::U8,
    };
    image.write(path).unwrap();
}

/// Channel `c` of page `p` is 10 p + c everywhere; a channel of the second page is not all numbers.
#[test]
fn each_channel_is_an_image_where_that_is_asked_for() {
    let page = |p: usize| {
        let values = (0..6 * 6 * 4).map(|i| (10 * p + i % 4) as f32);
        Image::from_f32(6, 6, 4, values.collect()).unwrap()
    };
    let mut broken = page(1);
    broken.data[4 * 7 + 2] = f32::NAN;
    let images = Arc::new(Memory::from(&[page(0), broken][..]));
    for cache in [0, 1 << 20] {
        let mut skipped = vec![];
        let read = |layout: Layout, skipped: &mut Vec<String>| {
            Dataset::read(images.clone(), layout, cache, &mut |event| {
                if let Event::Skipped { error } = event {
                    skipped.push(error.to_string());
                }
            })
        };
        let dataset = read(Layout::Independent, &mut skipped);
        let values: Vec<_> = (0..dataset.len())
            .map(|index| {
                let mut value = [0.0; 4];
                dataset.image(index).unwrap().crop(1, 1, 2, &mut value);
                value
            })
            .collect();
        let want = [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 13.0];
        assert_eq!(values, want.map(|value| [value; 4]));
        assert_eq!(dataset.channels(), 1);
        let names: HashSet<_> = (0..7).map(|index| dataset.name(index)).collect();
        assert_eq!(names.len(), 7, "{names:?}");
        assert!(
            skipped.len() == 1 && skipped[0].contains("channel 3"),
            "{skipped:?}"
        );
        let together = read(Layout::Together(4), &mut skipped);
        assert_eq!((together.len(), together.channels()), (1, 4));
        // Neither gray nor RGB.
        assert!(read(Layout::Together(3), &mut skipped).is_empty());
    }
}

#[test]
fn repaired_images_are_the_same_from_memory_and_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let samples = (0..64 * 64_u32).map(|i| (300 + i.wrapping_mul(2_654_435_761) % 41) as u16);
    let mut image = Image::from_u16(64, 64, 1, &samples.collect::<Vec<_>>()).unwrap();
    image.data[64 * 20 + 31] = 1.0;
    image.write(&folder.path().join("a.tif")).unwrap();
    let value = |cache: usize| {
        let mut dataset = Dataset::open(folder.path(), &[], 1, cache, &mut |_| {}).unwrap();
        let repaired = dataset.repair("hot-pixels,rows".parse().unwrap()).unwrap();
        assert_eq!(repaired.hot_pixels, usize::from(cache > 0));
        let mut values = vec![0.0; 64 * 64];
        dataset.image(0).unwrap().crop(0, 0, 64, &mut values);
        values
    };
    assert!(value(1 << 20)[64 * 20 + 31] < 0.01);
    assert!(value(1 << 20) == value(0));
}

/// The gray of an RGB pixel lies between two bytes, and is rounded in memory.
#[test]
fn converted_images_are_repaired_the_same_from_memory_and_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = (0..64 * 64 * 3_u32).map(|i| {
        let row_offset = if i / (64 * 3) == 20 { 30 } else { 0 };
        100 + row_offset + (i.wrapping_mul(2_654_435_761) >> 8) as u8 % 41
    });
    let image = Image::from_bytes(64, 64, 3, &bytes.collect::<Vec<_>>());
    image.write(&folder.path().join("a.png")).unwrap();
    let values = |cache: usize| {
        let mut dataset = Dataset::open(folder.path(), &[], 1, cache, &mut |_| {}).unwrap();
        dataset.repair("rows".parse().unwrap()).unwrap();
        let mut values = vec![0.0; 64 * 64];
        dataset.image(0).unwrap().crop(0, 0, 64, &mut values);
        values
    };
    let (kept, decoded) = (values(1 << 20), values(0));
    // The offset of a row is the same for all of its pixels, so their differences are whole bytes, as in memory.
    for pixel in decoded[64 * 20..64 * 21].windows(2) {
        let steps = (pixel[1] - pixel[0]) * 255.0;
        assert!((steps - steps.round()).abs() < 1e-3, "{steps}");
    }
    assert!(kept == decoded);
}

#[test]
fn unreadable_files_are_reported_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    write_gray(&folder.path().join("a.png"), 3, 5, 0.2);
    std::fs::write(folder.path().join("b.jpg"), "not an image").unwrap();
    std::fs::write(folder.path().join("notes.txt"), "not meant to be one").unwrap();
    write_gray(&folder.path().join("c.png"), 7, 2, 0.4);
    // A header that promises more than the file holds.
    let whole = std::fs::read(folder.path().join("a.png")).unwrap();
    std::fs::write(folder.path().join("d.png"), &whole[..whole.len() / 2]).unwrap();

    let mut skipped = vec![];
    let dataset = Dataset::open(folder.path(), &[], 3, 0, &mut |event| {
        if let Event::Skipped { error } = event {
            skipped.push(error.to_string());
        }
    })
    .unwrap();
    assert_eq!(dataset.sizes().collect::<Vec<_>>(), [(3, 5), (7, 2)]);
    assert_eq!(skipped.len(), 2);
    assert!(skipped[0].contains("b.jpg") && skipped[1].contains("d.png"));

    let mut crop = [0.0; 3];
    dataset.image(1).unwrap().crop(0, 0, 1, &mut crop);
    assert_eq!(crop, [102.0 / 255.0; 3]);
}

#[test]
fn of_a_stack_only_the_page_with_a_value_that_is_no_number_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    let mut images = (0..3).map(|page| {
        let mut data = vec![page as f32; 12];
        if page == 1 {
            data[5] = f32::NAN;
        }
        Image {
            height: 3,
            width: 4,
            channels: 1,
            data,
            depth: Depth::F32,
        }
    });
    write_stack(&path, &mut images);
    let mut skipped = vec![];
    let dataset = Dataset::open(folder.path(), &[], 1, 0, &mut |event| {
        if let Event::Skipped { error } = event {
            skipped.push(error.to_string());
        }
    })
    .unwrap();
    assert_eq!(
        [dataset.name(0), dataset.name(1)],
        ["stack.tif", "stack.tif page 3"]
    );
    assert!(
        skipped.len() == 1 && skipped[0].contains("page 2"),
        "{skipped:?}"
    );
    let mut pixel = [0.0];
    dataset.image(1).unwrap().crop(0, 0, 1, &mut pixel);
    assert_eq!(pixel, [2.0]);
}

/// Images as the pages of a file.
fn write_stack(path: &Path, images: &mut dyn Iterator<Item = Image>) {
    struct Stack<'a> {
        images: &'a mut dyn Iterator<Item = Image>,
        rows: Vec<f32>,
    }
    impl image::Pages for Stack<'_> {
        fn next_page(&mut self) -> Result<Option<image::Page>> {
            let Some(image) = self.images.next() else {
                return Ok(None);
            };
            self.rows = image.data.clone();
            image::OfImage::new(&image).next_page()
        }

        fn read_rows(&mut self, _: usize, rows: &mut Vec<f32>) -> Result<()> {
            rows.append(&mut self.rows);
            Ok(())
        }
    }
    let mut stack = Stack {
        images,
        rows: vec![],
    };
    let encoding = image::Encoding::of_name(path).unwrap();
    files::write_atomically(path, |out| {
        image::write_pages(&mut stack, encoding, path, out)
    })
    .unwrap();
}

#[test]
fn of_a_single_image_a_part_can_be_taken() {
    for (height, width, side, expected) in [
        (300, 200, 128, [(225, 200), (75, 200)]),
        (200, 300, 64, [(200, 236), (200, 64)]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let data = (0..height * width).map(|i| i as f32);
        let image = Image {
            height,
            width,
            channels: 1,
            data: data.collect(),
            depth: Depth::F32,
        };
        image.write(&folder.path().join("a.tif")).unwrap();
        for cache_bytes in [0, 1 << 20] {
            let mut left = Dataset::open(folder.path(), &[], 1, cache_bytes, &mut |_| {}).unwrap();
            let taken = left.take_part(side).unwrap();
            let sizes = [&left, &taken].map(|part| part.sizes().next().unwrap());
            assert_eq!(sizes, expected);
            assert_ne!(left.fingerprint(), taken.fingerprint());
            let first = [&left, &taken].map(|part| {
                let mut pixel = [0.0];
                part.image(0).unwrap().crop(0, 0, 1, &mut pixel);
                pixel[0]
            });
            let cut = if height > width { 225 * 200 } else { 236 };
            assert_eq!(first, [0.0, cut as f32]);
        }
    }
}

#[test]
fn images_are_decoded_once_as_far_as_the_limit_goes() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.png", "b.png", "c.png"] {
        write_gray(&folder.path().join(name), 10, 10, 0.5);
    }
    let dataset = Dataset::open(folder.path(), &[], 1, 250, &mut |_| {}).unwrap();
    std::fs::remove_dir_all(folder.path()).unwrap();
    let kept = (0..3).filter(|&index| dataset.image(index).is_ok());
    assert_eq!(kept.count(), 2);
}

#[test]
fn images_in_memory_are_those_of_a_folder_and_are_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let mut memory = Memory::default();
    for (name, height, width) in [("a.png", 3, 5), ("b.png", 7, 2)] {
        write_gray(&folder.path().join(name), height, width, 0.4);
        memory.push(name, &Image::read(&folder.path().join(name)).unwrap());
    }
    let memory = Arc::new(memory);
    for channels in [1, 3] {
        let files = Dataset::open(folder.path(), &[], channels, 0, &mut |_| {}).unwrap();
        let read = Dataset::read(memory.clone(), channels, 0, &mut |_| {});
        assert_eq!(read.fingerprint(), files.fingerprint());
        for index in 0..2 {
            let (one, other) = (read.image(index).unwrap(), files.image(index).unwrap());
            assert_eq!(*one.image, *other.image);
            assert_eq!(matches!(one.image, Cow::Borrowed(_)), channels == 1);
        }
    }
}

#[test]
fn images_in_memory_that_cannot_be_trained_on_are_reported_by_name() {
    let mut memory = Memory::default();
    memory.push("nan", &Image::from_f32(1, 1, 1, vec![f32::NAN]).unwrap());
    memory.push("two", &Image::from_f32(1, 1, 2, vec![0.0; 2]).unwrap());
    memory.push("good", &Image::from_f32(1, 1, 3, vec![0.0; 3]).unwrap());
    let mut skipped = vec![];
    let dataset = Dataset::read(Arc::new(memory), 1, 0, &mut |event| {
        if let Event::Skipped { error } = event {
            skipped.push(error.to_string());
        }
    });
    assert_eq!((dataset.len(), dataset.name(0)), (1, "good"));
    assert!(skipped[0].starts_with("nan: page 1 contains values that are not finite"));
    assert!(skipped[1].starts_with("two: page 1 has 2 channels; expected 1"));
}

/// `imagej_u16_stack.tif` is a stack of gray pages.
#[test]
fn each_page_of_a_stack_is_an_image() {
    let fixtures = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/images"
    ));
    let stack = fixtures.join("imagej_u16_stack.tif");
    let pages: Vec<_> = image::images(&stack).unwrap().map(Result::unwrap).collect();
    assert!(pages.len() > 1);
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(&stack, folder.path().join("stack.tif")).unwrap();
    for cache_bytes in [0, 1 << 20] {
        let dataset = Dataset::open(folder.path(), &[], 1, cache_bytes, &mut |_| {}).unwrap();
        assert_eq!(dataset.len(), pages.len());
        for (index, page) in pages.iter().enumerate() {
            assert_eq!(*dataset.image(index).unwrap().image, Packed::from(page));
        }
        assert_eq!(
            (dataset.name(0), dataset.name(1)),
            ("stack.tif", "stack.tif page 2")
        );
    }
}

#[test]
fn images_are_known_by_their_path_below_the_folder_and_their_size() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Dataset::open(folder.path(), &[], 1, 0, &mut |_| {}).unwrap();
    write_gray(&folder.path().join("b/a.png"), 10, 10, 0.5);
    write_gray(&folder.path().join("c.png"), 10, 10, 0.5);
    let mut dataset = open();
    assert_eq!((dataset.name(0), dataset.name(1)), ("b/a.png", "c.png"));
    let before = dataset.fingerprint();
    write_gray(&folder.path().join("c.png"), 10, 11, 0.5);
    assert_ne!(open().fingerprint(), before);
    write_gray(&folder.path().join("c.png"), 10, 10, 0.6);
    assert_eq!(open().fingerprint(), before);

    let taken = dataset.take(&[1]);
    assert_eq!((taken.len(), taken.name(0)), (1, "c.png"));
    assert_eq!((dataset.len(), dataset.name(0)), (1, "b/a.png"));
}

#[test]
fn a_folder_without_images_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.txt"), "").unwrap();
    let error = Dataset::open(folder.path(), &[], 3, 0, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::NoFiles { .. }), "{error}");
}
