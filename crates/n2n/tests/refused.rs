//! Files of kinds that are not supported: each is refused with a message that `docs/formats.md` lists, and
//! every message listed there is one that a file here causes.

use std::collections::BTreeMap;
use std::path::Path;

use n2n::image::{Limits, Pages, Reader};

/// What is said of a file.
fn reason(bytes: Vec<u8>) -> String {
    let read = || {
        let mut reader = Reader::from_bytes(Path::new("a"), bytes, Limits::default())?;
        while let Some(page) = reader.next_page()? {
            reader.read_rows(page.height, &mut vec![])?;
        }
        n2n::Result::Ok(())
    };
    let error = read().unwrap_err().to_string();
    let reason = error.strip_prefix("a: not a readable image: ");
    reason.unwrap_or_else(|| panic!("{error}")).to_string()
}

fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/images");
    std::fs::read(folder.join(name)).unwrap()
}

/// A file that starts with `mark` at an offset.
fn marked(offset: usize, mark: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; offset];
    bytes.extend(mark);
    bytes.resize(512, 0);
    bytes
}

/// A TIFF of 4×4 black pixels of 8 bits, but for these tags of 16-bit values.
fn tiff(changes: &[(u16, &[u16])]) -> Vec<u8> {
    let mut tags = BTreeMap::from([
        (256, vec![4]),
        (257, vec![4]),
        (258, vec![8]),
        (259, vec![1]),
        (262, vec![1]),
        (273, vec![8]),
        (277, vec![1]),
        (278, vec![4]),
        (279, vec![256]),
    ]);
    tags.extend(changes.iter().map(|(tag, values)| (*tag, values.to_vec())));
    let mut bytes = b"II*\0\x08\x01\0\0".to_vec();
    bytes.resize(8 + 256, 0);
    bytes.extend((tags.len() as u16).to_le_bytes());
    let end_of_directory = bytes.len() + 12 * tags.len() + 4;
    let mut behind = vec![];
    for (tag, values) in tags {
        bytes.extend(
            [tag, 3, values.len() as u16, 0]
                .map(u16::to_le_bytes)
                .concat(),
        );
        let words = values.iter().flat_map(|value| value.to_le_bytes());
        if values.len() <= 2 {
            let mut words: Vec<u8> = words.collect();
            words.resize(4, 0);
            bytes.extend(words);
        } else {
            bytes.extend(((end_of_directory + behind.len()) as u32).to_le_bytes());
            behind.extend(words);
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(behind);
    bytes
}

/// A DNG of 4×4 pixels.
fn dng(changes: &[(u16, &[u16])]) -> Vec<u8> {
    let mosaic: [(u16, &[u16]); 3] = [(50706, &[1, 6]), (262, &[32803]), (33421, &[2, 2])];
    tiff(&[&mosaic[..], changes].concat())
}

/// A file with the first `from` replaced by `to`.
fn changed(name: &str, from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = golden(name);
    let at = bytes.windows(from.len()).position(|window| window == from);
    bytes.splice(at.unwrap()..at.unwrap() + from.len(), to.iter().copied());
    bytes
}

/// A BMP of 4×4 pixels with a header of this size, so many bits a pixel, and a compression.
fn bitmap(size: u8, bits: u8, compression: u8, pixels: &[u8]) -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    bytes.resize(14 + usize::from(size), 0);
    bytes[10] = 14 + size;
    for (at, value) in [
        (0, size),
        (4, 4),
        (8, 4),
        (12, 1),
        (14, bits),
        (16, compression),
    ] {
        bytes[14 + at] = value;
    }
    bytes.extend(pixels);
    bytes
}

/// The head of the scan of `photo.jpg`.
const SCAN: &[u8] = &[0xFF, 0xDA, 0, 12, 3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0];

/// The head of a scan of one component.
fn scan(component: u8, tables: u8) -> Vec<u8> {
    vec![0xFF, 0xDA, 0, 8, 1, component, tables, 0, 63, 0]
}

/// An MRC of another mode.
fn mrc(mode: u8) -> Vec<u8> {
    let mut bytes = golden("stack_f2.mrc");
    bytes[12] = mode;
    bytes
}

/// One file for every kind.
fn files() -> Vec<Vec<u8>> {
    let mut files = vec![
        marked(0, b"\0\0\0\x20ftypavif"),
        marked(0, b"\0\0\0\x20ftypheic"),
        marked(0, b"\0\0\0\x18ftypcrx "),
        marked(128, b"DICM"),
        marked(0, b"\0\0\0\x0CJXL \r\n\x87\n"),
        marked(0, &[0xFF, 0x0A]),
        marked(0, b"II\xBC\x01"),
        marked(0, b"ZISRAWFILE"),
        marked(0, &[0xDA, 0xCE, 0xBE, 0x0A]),
        marked(0, b"\x70\0\0\0\x20\0\0\0\x2A"),
        marked(0, b"FUJIFILMCCD-RAW"),
        marked(0, b"IIU\0"),
        marked(0, b"IIRO"),
        marked(0, b"FOVb"),
        marked(0, b"8BPS"),
        marked(0, b"SIMPLE  ="),
        marked(0, b"\x89HDF\r\n\x1A\n"),
        marked(0, b"\x93NUMPY"),
        // Start of frame: arithmetic, lossless with JFIF and with two components, hierarchical coding, and 12 bits.
        changed("photo.jpg", &[0xFF, 0xC0], &[0xFF, 0xC9]),
        changed("photo.jpg", &[0xFF, 0xC0], &[0xFF, 0xC3]),
        changed(
            "lossless_u12.jpg",
            &[12, 0, 7, 0, 10, 1],
            &[12, 0, 7, 0, 10, 2],
        ),
        changed("photo.jpg", &[0xFF, 0xC0], &[0xFF, 0xC5]),
        changed(
            "photo.jpg",
            &[0xFF, 0xC0, 0, 17, 8],
            &[0xFF, 0xC1, 0, 17, 12],
        ),
        golden("gap.jpg"),
        // A scan of luma alone; and one for each component, where chroma has half the rows.
        changed("photo.jpg", SCAN, &scan(1, 0)),
        changed(
            "photo.jpg",
            SCAN,
            &[scan(1, 0), scan(2, 0x11), scan(3, 0x11)].concat(),
        ),
        // Two compressions of OS/2; a PNG of 16 bits in the place of pixels.
        bitmap(64, 1, 3, b""),
        bitmap(64, 24, 4, b""),
        bitmap(40, 0, 5, &golden("rgb16.png")),
        // The capabilities, and the bits of the only component.
        changed(
            "grey.jp2",
            &[0xFF, 0x51, 0, 41, 0, 0],
            &[0xFF, 0x51, 0, 41, 0x40, 0],
        ),
        changed("grey_u12.jp2", &[0, 1, 11, 1, 1], &[0, 1, 19, 1, 1]),
        [golden("grey.jp2"), b"\0\0\0\x08jp2c".to_vec()].concat(),
        golden("layers.exr"),
        golden("deep.exr"),
        golden("large_id.exr"),
        // A channel's name, type, a flag, and its sampling across and down.
        changed(
            "dwaa.exr",
            b"B\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0",
            b"B\0\x01\0\0\0\0\0\0\0\x02\0\0\0\x02\0\0\0",
        ),
        tiff(&[(258, &[1]), (259, &[3]), (292, &[1])]),
        tiff(&[(258, &[12]), (259, &[7])]),
        tiff(&[(259, &[6])]),
        tiff(&[(32997, &[2])]),
        tiff(&[(262, &[8])]),
        tiff(&[(262, &[32844])]),
        tiff(&[(262, &[32803])]),
        tiff(&[(258, &[64])]),
        tiff(&[(258, &[64]), (339, &[6])]),
        tiff(&[(258, &[12]), (339, &[2])]),
        tiff(&[(277, &[2]), (258, &[8, 16])]),
        tiff(&[(277, &[3]), (258, &[16]), (262, &[6])]),
        tiff(&[
            (277, &[3]),
            (262, &[6]),
            (284, &[2]),
            (273, &[8, 8, 8]),
            (279, &[16, 4, 4]),
        ]),
        tiff(&[(254, &[1]), (330, &[8])]),
        dng(&[(33421, &[6, 6]), (33422, &[0, 1])]),
        dng(&[(50711, &[2])]),
        dng(&[(258, &[32])]),
        dng(&[(259, &[34892])]),
        dng(&[(259, &[52546])]),
        mrc(4),
        mrc(101),
    ];
    // CCITT, JBIG, NeXT, ThunderScan, SGI, LERC, PNG, JPEG XR, JPEG XL, EER, and one that nobody knows.
    let compressions = [
        2, 9, 10, 34661, 32766, 32771, 32809, 34676, 34887, 34933, 34934, 22610, 50002, 65000,
        54321,
    ];
    files.extend(compressions.map(|method| tiff(&[(259, &[method])])));
    files
}

/// Whether a message is the one listed, where `…` stands for anything.
fn is_listed(message: &str, listed: &str) -> bool {
    let Some((start, mut rest)) = listed.split_once('…') else {
        return message == listed;
    };
    let Some(mut message) = message.strip_prefix(start) else {
        return false;
    };
    while let Some((piece, behind)) = rest.split_once('…') {
        let Some((_, after)) = message.split_once(piece) else {
            return false;
        };
        (message, rest) = (after, behind);
    }
    message.ends_with(rest)
}

#[test]
fn every_refusal_is_documented_in_the_words_of_the_program() {
    let page = include_str!("../../../docs/formats.md");
    let (_, section) = page.split_once("\n## Refused\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section
        .lines()
        .filter(|line| line.starts_with("| ") && line.ends_with("` |"));
    let listed: Vec<&str> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
    assert!(listed.len() > 30, "{} rows", listed.len());

    let messages: Vec<String> = files().into_iter().map(reason).collect();
    let unlisted: Vec<_> = messages
        .iter()
        .filter(|message| !listed.iter().any(|row| is_listed(message, row)))
        .collect();
    let stale: Vec<_> = listed
        .iter()
        .filter(|row| !messages.iter().any(|message| is_listed(message, row)))
        .collect();
    assert!(
        unlisted.is_empty() && stale.is_empty(),
        "not in docs/formats.md: {unlisted:#?}\nonly there: {stale:#?}"
    );
}
