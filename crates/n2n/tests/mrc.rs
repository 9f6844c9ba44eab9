//! Stacks of electron microscopes, which `tests/golden/images/make_mrc.py` made with mrcfile, compared with the
//! formula of their samples.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use n2n::image::{Color, Depth, Encoding, Format, Limits, Page, Pages, Reader, write_pages};

const SECTIONS: usize = 3;

const FILES: [(&str, Depth); 6] = [
    ("stack_i1.mrc", Depth::I8),
    ("stack_i2.mrc", Depth::I16),
    ("stack_u2.mrc", Depth::U16),
    ("stack_f4.mrc", Depth::F32),
    ("stack_f2.mrc", Depth::F32),
    ("stack_imod.mrc", Depth::U8),
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/images")
        .join(name)
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(golden(name)).unwrap()
}

fn pages(bytes: Vec<u8>) -> n2n::Result<Vec<(Page, Vec<f32>)>> {
    let mut reader = Reader::from_bytes(Path::new("a.mrc"), bytes, Limits::default())?;
    let mut pages = vec![];
    while let Some(page) = reader.next_page()? {
        let mut rows = vec![];
        reader.read_rows(3, &mut rows)?;
        reader.read_rows(page.height - 3, &mut rows)?;
        pages.push((page, rows));
    }
    Ok(pages)
}

fn copy(bytes: Vec<u8>, encoding: Encoding) -> n2n::Result<Vec<u8>> {
    let mut reader = Reader::from_bytes(Path::new("a"), bytes, Limits::default())?;
    let mut out = Cursor::new(vec![]);
    write_pages(&mut reader, encoding, Path::new("b"), &mut out)?;
    Ok(out.into_inner())
}

fn sample(depth: Depth, i: usize, section: usize) -> f32 {
    let number = 7919 * i + 104_729 * section;
    match depth {
        Depth::U8 => (number % 256) as f32 / 255.0,
        Depth::I8 => (number % 256) as f32 - 128.0,
        Depth::I16 => (number % 65536) as f32 - 32768.0,
        Depth::U16 => (number % 65536) as f32 / 65535.0,
        _ => (7919 * i % 1009) as f32 / 64.0 - 2.0,
    }
}

fn float(header: &[u8], at: usize) -> f32 {
    let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
    if header[212] == 0x11 {
        f32::from_be_bytes(bytes)
    } else {
        f32::from_le_bytes(bytes)
    }
}

#[test]
fn every_mode_and_byte_order_gives_the_samples_that_were_written() {
    for (name, depth) in FILES {
        let pages = pages(read(name)).unwrap();
        assert_eq!(pages.len(), SECTIONS, "{name}");
        for (section, (page, rows)) in pages.iter().enumerate() {
            assert_eq!((page.height, page.width), (7, 10));
            assert_eq!((page.color, page.depth), (Color::Gray, depth), "{name}");
            assert_eq!(page.metadata.position.unwrap().slice, section);
            for (i, &value) in rows.iter().enumerate() {
                let want = sample(depth, i, section);
                let tolerance = if name == "stack_f2.mrc" { 0.005 } else { 0.0 };
                assert!(
                    (value - want).abs() <= tolerance,
                    "{name}, {i}: {value}, not {want}"
                );
            }
        }
    }
}

#[test]
fn a_copy_has_every_sample_and_header() {
    for (name, _) in FILES {
        let bytes = read(name);
        let copied = copy(bytes.clone(), Encoding::new(Format::Mrc)).unwrap();
        if name == "stack_f2.mrc" {
            // Half floats become floats.
            assert_eq!(copied[12..16], [2, 0, 0, 0]);
            assert!(pages(copied).unwrap()[2].1 == pages(bytes).unwrap()[2].1);
            continue;
        }
        // Except for what the header says about the values, which mrcfile rounds differently.
        let said = |bytes: &[u8]| [76, 80, 84, 216].map(|at| float(bytes, at));
        if name != "stack_imod.mrc" {
            for (ours, theirs) in said(&copied).into_iter().zip(said(&bytes)) {
                let close = 1e-6 * theirs.abs().max(1.0);
                assert!(
                    (ours - theirs).abs() <= close,
                    "{name}: {ours}, not {theirs}"
                );
            }
        }
        let mut expected = bytes;
        for at in [76, 80, 84, 216] {
            expected[at..at + 4].copy_from_slice(&copied[at..at + 4]);
        }
        assert!(copied == expected, "{name}");
    }
}

#[test]
fn other_formats_become_stacks_and_stacks_others() {
    let tiff = read("imagej_u16_stack.tif");
    let mrc = copy(tiff.clone(), Encoding::new(Format::Mrc)).unwrap();
    let (before, after) = (pages(tiff).unwrap(), pages(mrc).unwrap());
    assert_eq!((before.len(), after.len()), (3, 3));
    for ((_, before), (page, after)) in before.iter().zip(&after) {
        assert_eq!(page.depth, Depth::U16);
        assert!(before == after);
    }
    for (name, _) in FILES {
        let tiff = copy(read(name), Encoding::new(Format::Tiff)).unwrap();
        let same = pages(tiff)
            .unwrap()
            .into_iter()
            .zip(pages(read(name)).unwrap());
        for ((page, rows), (before, expected)) in same {
            assert_eq!(page.depth, before.depth, "{name}");
            assert!(rows == expected, "{name}");
        }
    }
    // Bytes go into 16 bits, wide integers into floats.
    for (name, depth) in [("grey.tga", Depth::U16), ("large_u32.tif", Depth::F32)] {
        let mrc = pages(copy(read(name), Encoding::new(Format::Mrc)).unwrap()).unwrap();
        let before = pages(read(name)).unwrap();
        assert_eq!(mrc[0].0.depth, depth, "{name}");
        assert!(mrc[0].1 == before[0].1, "{name}");
    }
    let said = copy(read("rgb.tga"), Encoding::new(Format::Mrc)).unwrap_err();
    assert!(
        said.to_string()
            .contains("gray pages of one size: expected 10x7"),
        "{said}"
    );
}

#[test]
fn what_is_no_image_of_these_modes_is_named_and_damage_never_panics() {
    let refused = |mode: u8| {
        let mut bytes = read("stack_i2.mrc");
        bytes[12] = mode;
        pages(bytes).map(|_| ()).unwrap_err().to_string()
    };
    assert!(
        refused(4)
            .contains("an MRC of mode 4, complex numbers; supported modes: 0, 1, 2, 6 and 12")
    );
    assert!(refused(2).contains("the file ends before the image does"));
    for (name, _) in FILES {
        let bytes = read(name);
        for length in (212..bytes.len()).step_by(13) {
            assert!(
                pages(bytes[..length].to_vec()).is_err(),
                "{name}, {length} bytes"
            );
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xFF;
            let _ = pages(damaged);
        }
    }
}

#[test]
fn unsigned_bytes_are_written_only_where_no_other_depth_is_asked_for() {
    for (asked, depth, mode) in [
        (None, Depth::U8, 0),
        (Some(Depth::U8), Depth::U8, 0),
        (Some(Depth::U16), Depth::U16, 6),
        (Some(Depth::F32), Depth::F32, 2),
    ] {
        let encoding = Encoding {
            depth: asked,
            ..Encoding::new(Format::Mrc)
        };
        let copied = copy(read("stack_imod.mrc"), encoding).unwrap();
        assert_eq!(copied[12..16], [mode, 0, 0, 0]);
        for (section, (page, rows)) in pages(copied).unwrap().iter().enumerate() {
            assert_eq!(page.depth, depth);
            for (i, &value) in rows.iter().enumerate() {
                assert_eq!(value, sample(Depth::U8, i, section), "{depth:?}, {i}");
            }
        }
    }
}

#[test]
fn a_picture_that_lies_on_its_side_becomes_upright() {
    let mut lying = read("strip_u8_grey.tif");
    // The unit of the resolution, tag 296, becomes the orientation 6: a quarter turn clockwise makes it upright.
    let unit = lying
        .windows(4)
        .position(|entry| entry == [0x28, 1, 3, 0])
        .unwrap();
    lying[unit..unit + 10].copy_from_slice(&[0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0]);
    let (page, rows) = pages(copy(lying, Encoding::new(Format::Mrc)).unwrap())
        .unwrap()
        .remove(0);
    assert_eq!((page.height, page.width), (10, 7));
    for (i, &value) in rows.iter().enumerate() {
        let (y, x) = (i / 7, i % 7);
        assert_eq!(value, sample(Depth::U8, (6 - x) * 10 + y, 0), "({y}, {x})");
    }
}

#[test]
fn the_first_page_states_the_samples_of_all() {
    for (name, _) in FILES {
        let (page, _) = pages(read(name)).unwrap().remove(0);
        assert_eq!(page.metadata.file_samples, Some(7 * 10 * 3), "{name}");
    }
}
