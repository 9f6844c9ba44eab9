#![no_main]

//! Every format through the limits, as `n2n predict` reads it: page by page, in pieces of rows. Then
//! the file is written again.

use std::io::Cursor;
use std::path::Path;
use std::{panic, process};

use n2n::image::{Encoding, Format, Limits, Pages, Reader, write_pages};

/// Ends the run at panics in this project. Those of decoders are caught, and the file is refused.
fn watch_panics() {
    panic::set_hook(Box::new(|about| {
        let place = about.location().map(ToString::to_string).unwrap_or_default();
        if !place.contains("/registry/") && !place.contains("/rustc/") {
            eprintln!("{about}");
            process::abort();
        }
    }));
}

libfuzzer_sys::fuzz_target!(init: watch_panics(), |bytes: &[u8]| {
    let limits = Limits {
        pixels: 1 << 20,
        samples: 1 << 22,
    };
    let open = || Reader::from_bytes(Path::new("fuzz"), bytes, limits);
    let Ok(mut reader) = open() else { return };
    let (mut rows, mut wide) = (Vec::new(), Vec::new());
    for _ in 0..64 {
        let Ok(Some(page)) = reader.next_page() else { break };
        let mut left = page.height;
        while left > 0 {
            let count = left.min(97);
            left -= count;
            rows.clear();
            wide.clear();
            let (read, values) = if page.depth.is_wide() && !page.metadata.pass_through {
                let read = reader.read_wide(count, &mut wide);
                (read, wide.len())
            } else {
                let read = reader.read_rows(count, &mut rows);
                (read, rows.len())
            };
            if read.is_err() {
                return;
            }
            assert_eq!(values, count * page.row_len());
        }
    }
    for format in [None, Some(Format::Tiff)] {
        let Ok(mut reader) = open() else { return };
        let format = format.unwrap_or(reader.format().written());
        let mut out = Cursor::new(Vec::new());
        let _ = write_pages(&mut reader, Encoding::new(format), Path::new("fuzz"), &mut out);
    }
});
