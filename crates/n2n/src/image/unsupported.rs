//! Formats that are recognized only to say what to convert them to.

/// Why a file that starts with these bytes is not read, and what to do; `None` for unknown files. 132 bytes are enough.
pub(super) fn reason(start: &[u8]) -> Option<String> {
    let (what, advice) = found(start)?;
    Some(format!("{what} is not supported; {advice}"))
}

const TO_DNG: &str = "convert it to DNG, for example with Adobe DNG Converter or dnglab";
const TO_OME_TIFF: &str = "convert it to OME-TIFF, for example with Bio-Formats' bfconvert, or read it with \
                           bioio and denoise the array with the Python package";

fn found(start: &[u8]) -> Option<(&'static str, &'static str)> {
    let at = |offset: usize, mark: &[u8]| {
        start
            .get(offset..)
            .is_some_and(|rest| rest.starts_with(mark))
    };
    if at(4, b"ftyp") {
        return of_brand(start.get(8..12)?);
    }
    Some(if at(128, b"DICM") {
        (
            "DICOM",
            "convert it to TIFF, or read it with pydicom and denoise the array with the Python package",
        )
    } else if at(0, b"\0\0\0\x0CJXL \r\n\x87\n") || at(0, &[0xFF, 0x0A]) {
        ("JPEG XL", "convert it to PNG, for example with djxl")
    } else if at(0, b"II\xBC\x01") || at(0, b"II\xBC\0") {
        ("JPEG XR", "convert it to TIFF, for example with JxrDecApp")
    } else if at(0, b"ZISRAWFILE") {
        ("Zeiss CZI", TO_OME_TIFF)
    } else if at(0, &[0xDA, 0xCE, 0xBE, 0x0A]) || at(16, b"ND2 FILE SIGNATURE") {
        ("Nikon ND2", TO_OME_TIFF)
    } else if at(0, b"\x70\0\0\0") && at(8, b"\x2A") {
        ("Leica LIF", TO_OME_TIFF)
    } else if at(0, b"FUJIFILMCCD-RAW") {
        ("Fujifilm RAF", TO_DNG)
    } else if at(0, b"IIU\0") {
        ("Panasonic RW2", TO_DNG)
    } else if at(0, b"IIRO") || at(0, b"IIRS") || at(0, b"MMOR") {
        ("Olympus ORF", TO_DNG)
    } else if at(0, b"FOVb") {
        ("Sigma X3F", TO_DNG)
    } else if at(0, b"8BPS") {
        ("Photoshop PSD", "save it as TIFF")
    } else if at(0, b"SIMPLE  =") {
        (
            "FITS",
            "convert it to TIFF with floats, or read it with astropy and denoise the array with the Python \
             package",
        )
    } else if at(0, b"\x89HDF\r\n\x1A\n") {
        (
            "HDF5",
            "read it with h5py and denoise the array with the Python package",
        )
    } else if at(0, b"\x93NUMPY") {
        (
            "NumPy's NPY",
            "load it with numpy and denoise the array with the Python package",
        )
    } else {
        return None;
    })
}

/// Files of the ISO base media format, by their major brand.
fn of_brand(brand: &[u8]) -> Option<(&'static str, &'static str)> {
    Some(match brand {
        b"avif" | b"avis" => ("AVIF", "convert it to PNG, for example with avifdec"),
        b"heic" | b"heix" | b"hevc" | b"heim" | b"heis" | b"mif1" | b"msf1" => {
            ("HEIF", "convert it to PNG, for example with heif-dec")
        }
        b"crx " => ("Canon CR3", TO_DNG),
        _ => return None,
    })
}
