//! TIFF and BigTIFF: any number of pages and of channels, and nearly any type of sample; read a row, or a row of strips
//! or tiles, at a time.
//!
//! This module reads and writes the container and assembles decoded strips and tiles; most codecs are crates.
//! `docs/decisions/0013-our-own-tiff.md` says why.

mod axes;
mod codec;
mod directory;
pub(super) mod dng;
mod layout;
mod rows;
mod sample;
mod tag;
mod unpack;
mod write;

use std::collections::HashSet;
use std::io::Cursor;
use std::sync::Arc;

use ::image::metadata::Orientation;

pub(super) use directory::{Field, Order};
pub(super) use write::write;

use self::axes::Axes;
use self::directory::{Container, Directory, Output};
use self::layout::Layout;
use self::rows::Rows;
use self::tag::photometric;
use super::decode::{Decode, Decoded, Fault, Limits, Source, check_pixels};
use super::metadata::{Metadata, Native, Resolution, ResolutionUnit};
use super::page::{Color, Page};
use super::{Depth, Format};

/// Metadata that is copied from page to page.
#[derive(Debug, Clone)]
struct Tags {
    order: Order,
    is_big: bool,
    compression: u16,
    photometric: u16,
    planar: bool,
    /// Whether its pages are returned inverted.
    white_is_zero: bool,
    /// The meaning of the samples after the color.
    extra_samples: Vec<u16>,
    fields: Vec<Field>,
    exif: Vec<Field>,
    gps: Vec<Field>,
    /// For a mask or a thumbnail: all of it, as stored.
    verbatim: Option<Verbatim>,
}

impl Native for Tags {
    fn format(&self) -> Format {
        Format::Tiff
    }

    fn has_private(&self) -> bool {
        /// Texts, the maker, the resolution, the color profile and so on.
        const COMMON: [u16; 20] = [
            254, 269, 270, 271, 272, 274, 280, 281, 282, 283, 285, 286, 287, 296, 297, 305, 306,
            315, 33432, 34675,
        ];
        self.fields.iter().any(|field| !COMMON.contains(&field.tag))
    }
}

/// A directory with its strips or tiles as stored.
#[derive(Debug, Clone)]
struct Verbatim {
    fields: Vec<Field>,
    offsets: u16,
    chunks: Vec<Vec<u8>>,
}

/// Tags that describe how pixels are stored, that hold file offsets, or that would be wrong for changed pixels. All
/// others are copied, known or not.
const NOT_COPIED: [u16; 60] = [
    255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 284, 288, 289, 290, 291,
    292, 293, 317, 320, 322, 323, 324, 325, 326, 327, 328, 330, 338, 339, 340, 341, 347, 512, 513,
    514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 34665, 34853, 40965,
    // The layers of Photoshop, which it shows in place of the pixels; then places in the file, by MetaMorph, Zeiss and
    // Olympus.
    37724, 33628, 33629, 33630, 33631, 34412, 33471, 33560,
];

struct TiffPages {
    file: Container<Box<dyn Source>>,
    limits: Limits,
    /// The offset of the next directory.
    next: u64,
    seen: HashSet<u64>,
    axes: Option<Axes>,
    /// Number of pages returned so far, excluding masks and thumbnails.
    given: usize,
    /// The current page, and its rows if it can be decoded.
    page: Option<Page>,
    rows: Option<Rows>,
}

/// Starts to read a TIFF.
pub(super) fn decoder(source: Box<dyn Source>, limits: Limits) -> Decoded<Box<dyn Decode>> {
    let file = Container::open(source)?;
    Ok(Box::new(TiffPages {
        next: file.first,
        file,
        limits,
        seen: HashSet::new(),
        axes: None,
        given: 0,
        page: None,
        rows: None,
    }))
}

impl Decode for TiffPages {
    fn next_page(&mut self) -> Decoded<Option<Page>> {
        let another = self.rows.as_mut().is_some_and(Rows::next_frame);
        let mut page = if another && let Some(mut page) = self.page.take() {
            // The description of the first frame applies to all of them.
            page.metadata.description = None;
            page.metadata.notes.clear();
            page.metadata.change_native(|tags: &mut Tags| {
                tags.fields.retain(|field| field.tag != tag::DESCRIPTION);
            });
            page
        } else {
            match self.next_directory()? {
                Some(page) => page,
                None => return Ok(None),
            }
        };
        if !page.metadata.pass_through {
            page.metadata.position = self.axes.as_ref().map(|axes| axes.position(self.given));
            self.given += 1;
        }
        self.page = Some(page.clone());
        Ok(Some(page))
    }

    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Decoded<()> {
        match (&mut self.rows, &self.page) {
            (Some(source), _) => source.read_rows(&mut self.file, count, rows),
            // What is only copied need not be understood.
            (None, Some(page)) => {
                rows.resize(rows.len() + count * page.row_len(), 0.0);
                Ok(())
            }
            (None, None) => Err(Fault::new("no page has been begun")),
        }
    }

    fn read_wide(&mut self, count: usize, rows: &mut Vec<f64>) -> Decoded<()> {
        match &mut self.rows {
            Some(source) => source.read_wide(&mut self.file, count, rows),
            None => Err(Fault::new("no page has been begun")),
        }
    }
}

impl TiffPages {
    /// The page of the next directory.
    fn next_directory(&mut self) -> Decoded<Option<Page>> {
        (self.page, self.rows) = (None, None);
        if self.next == 0 {
            return Ok(None);
        }
        let is_first = self.seen.is_empty();
        if !self.seen.insert(self.next) {
            return Err(Fault::new("its list of pages is circular"));
        }
        let directory = self.file.directory(self.next)?;
        self.next = directory.next;
        let is_auxiliary = self.is_auxiliary(&directory)?;
        if is_first && is_auxiliary && directory.has(tag::SUB_IFDS) {
            return Err(Fault::new(
                "it is a raw photograph that is not DNG; convert it to DNG, for example with Adobe DNG \
                 Converter or dnglab",
            ));
        }
        let pass_through = is_auxiliary && (self.given > 0 || self.is_image_ahead()?);
        let mut page = if pass_through {
            self.auxiliary_page(&directory)?
        } else {
            let (page, layout) = describe(&mut self.file, &directory, self.limits)?;
            self.rows = Some(Rows::new(layout));
            page
        };
        if is_first {
            page.metadata.file_samples = Some(self.file_samples(directory.clone()));
            let words = page.metadata.description.as_deref();
            self.axes = words.and_then(Axes::of_description);
            self.find_frames(&directory, &mut page)?;
        }
        Ok(Some(page))
    }

    /// An upper bound on the number of samples of all pages; the first page has this directory.
    fn file_samples(&mut self, mut directory: Directory) -> u64 {
        let mut sum = 0_u64;
        let mut seen = HashSet::new();
        loop {
            let mut number = |tag, default| match self.file.number(&directory, tag) {
                Ok(Some(number)) => number,
                _ => default,
            };
            let is_packed = number(tag::COMPRESSION, 1) != u64::from(codec::compression::NONE);
            let color = number(tag::PHOTOMETRIC, 1);
            let has_palette = color == u64::from(photometric::PALETTE);
            // Its chroma may be stored for every second pixel only.
            let is_ycbcr = color == u64::from(photometric::YCBCR);
            if sum == 0 && !is_packed && !has_palette && !is_ycbcr {
                // All that the file can hold. Stacks of many pages are rarely compressed, so that their directories
                // need not be read one by one.
                let bits = number(tag::BITS_PER_SAMPLE, 1).max(1);
                return self.file.bytes.saturating_mul(8) / bits;
            }
            let samples = number(tag::WIDTH, 0)
                .saturating_mul(number(tag::LENGTH, 0))
                .saturating_mul(number(tag::SAMPLES_PER_PIXEL, 1))
                .saturating_mul(if has_palette { 3 } else { 1 });
            sum = sum.saturating_add(samples);
            if directory.next == 0 || !seen.insert(directory.next) {
                return sum;
            }
            directory = match self.file.directory(directory.next) {
                Ok(next) => next,
                Err(_) => return sum,
            };
        }
    }

    /// Whether a directory describes a mask or a smaller version of another image.
    fn is_auxiliary(&mut self, directory: &Directory) -> Decoded<bool> {
        const SMALLER: u64 = 1;
        const MASK: u64 = 4;
        let kind = self.file.number(directory, tag::NEW_SUBFILE_TYPE)?;
        let old = self.file.number(directory, tag::SUBFILE_TYPE)?;
        Ok(kind.unwrap_or(0) & (SMALLER | MASK) != 0 || old == Some(2))
    }

    /// Whether an image follows that is neither a mask nor a smaller version of another.
    fn is_image_ahead(&mut self) -> Decoded<bool> {
        let (mut at, mut seen) = (self.next, self.seen.clone());
        while at != 0 && seen.insert(at) {
            let directory = self.file.directory(at)?;
            if !self.is_auxiliary(&directory)? {
                return Ok(true);
            }
            at = directory.next;
        }
        Ok(false)
    }

    /// A mask or thumbnail, as stored.
    fn auxiliary_page(&mut self, directory: &Directory) -> Decoded<Page> {
        let verbatim = Verbatim::of(&mut self.file, directory)?;
        let mut page = match describe(&mut self.file, directory, self.limits) {
            Ok((page, layout)) => {
                self.rows = Some(Rows::new(layout));
                page
            }
            Err(_) => self.undecoded(directory)?,
        };
        page.metadata.pass_through = true;
        page.metadata
            .change_native(|tags: &mut Tags| tags.verbatim = Some(verbatim));
        Ok(page)
    }

    /// A page whose pixels are not supported.
    fn undecoded(&mut self, directory: &Directory) -> Decoded<Page> {
        let mut side = |tag| {
            let side = self.file.number(directory, tag)?;
            Ok::<_, Fault>(side.unwrap_or(0) as usize)
        };
        let (width, height) = (side(tag::WIDTH)?, side(tag::LENGTH)?);
        check_pixels(self.limits, height, width)?;
        let tags = Tags {
            order: self.file.order,
            is_big: self.file.is_big,
            compression: codec::compression::NONE,
            photometric: photometric::BLACK_IS_ZERO,
            planar: false,
            white_is_zero: false,
            extra_samples: Vec::new(),
            fields: Vec::new(),
            exif: Vec::new(),
            gps: Vec::new(),
            verbatim: None,
        };
        Ok(Page {
            height,
            width,
            color: Color::Gray,
            extra: 0,
            depth: Depth::U8,
            orientation: Orientation::NoTransforms,
            metadata: Metadata {
                native: Some(Arc::new(tags)),
                ..Metadata::default()
            },
        })
    }

    /// Images after the first that have no directory of their own: stacks of ImageJ and tifffile beyond 4 GB, and those
    /// of `MetaMorph`.
    fn find_frames(&mut self, directory: &Directory, page: &mut Page) -> Decoded<()> {
        if self.next != 0 {
            return Ok(());
        }
        let words = page.metadata.description.clone().unwrap_or_default();
        let uic = directory.count(tag::UIC2);
        let page_samples = (page.height * page.row_len()) as u64;
        let frames = axes::frames_behind_one_directory(&words, page_samples).unwrap_or(uic);
        if frames < 2 {
            return Ok(());
        }
        let Some(rows) = &mut self.rows else {
            return Ok(());
        };
        rows.set_frames(frames, self.file.bytes)?;
        page.metadata.change_native(|tags: &mut Tags| {
            // Written again, every frame has a directory.
            for field in &mut tags.fields {
                if field.tag == tag::DESCRIPTION {
                    let words = words.replace(", \"truncated\": true", "");
                    *field = Field::text(tag::DESCRIPTION, &words);
                }
            }
        });
        if uic > 1 {
            page.metadata
                .notes
                .push("dropped: the times and positions of the planes (MetaMorph)".into());
        }
        Ok(())
    }
}

impl Verbatim {
    /// Maximum number of bytes kept of one.
    const MOST: u64 = 256 << 20;

    fn of(file: &mut Container<Box<dyn Source>>, directory: &Directory) -> Decoded<Self> {
        let tiled = directory.has(tag::TILE_OFFSETS);
        let (offsets, counts) = if tiled {
            (tag::TILE_OFFSETS, tag::TILE_BYTE_COUNTS)
        } else {
            (tag::STRIP_OFFSETS, tag::STRIP_BYTE_COUNTS)
        };
        let places = file.numbers(directory, offsets)?.unwrap_or_default();
        let lengths = file.numbers(directory, counts)?.unwrap_or_default();
        let mut left = Self::MOST;
        let mut chunks = Vec::with_capacity(places.len());
        for (&place, &length) in places.iter().zip(&lengths) {
            left = left.checked_sub(length).ok_or_else(|| {
                Fault::new("one of its masks or thumbnails takes more than 256 MB")
            })?;
            chunks.push(file.read(place, length as usize)?);
        }
        let fields = fields(
            file,
            directory,
            &[offsets, tag::SUB_IFDS, tag::EXIF, tag::GPS],
        );
        Ok(Self {
            fields,
            offsets,
            chunks,
        })
    }
}

/// The fields of a directory, except some; those that cannot be read are skipped, because they do not concern the
/// pixels.
fn fields<S: std::io::BufRead + std::io::Seek>(
    file: &mut Container<S>,
    directory: &Directory,
    but: &[u16],
) -> Vec<Field> {
    /// Maximum number of bytes copied from one directory.
    const MOST: usize = 64 << 20;
    let mut left = MOST;
    let mut found = Vec::new();
    for tag in directory.tags().filter(|tag| !but.contains(tag)) {
        if let Ok(Some(field)) = file.field(directory, tag)
            && let Some(rest) = left.checked_sub(field.bytes.len())
            && !field.bytes.is_empty()
        {
            left = rest;
            found.push(field);
        }
    }
    found
}

/// The fields of the directory that a tag of another points to.
fn sub_fields<S: std::io::BufRead + std::io::Seek>(
    file: &mut Container<S>,
    directory: &Directory,
    tag: u16,
) -> Decoded<Vec<Field>> {
    let Some(at) = file.number(directory, tag)? else {
        return Ok(Vec::new());
    };
    let found = file.directory(at)?;
    Ok(fields(file, &found, &[tag::INTEROPERABILITY]))
}

/// Notes to the user on what is dropped from a directory; `is_kept` says which tags are not dropped.
fn dropped(directory: &Directory, is_kept: impl Fn(u16) -> bool) -> Vec<String> {
    const KNOWN: [(u16, &str); 5] = [
        (tag::SUB_IFDS, "its smaller versions (SubIFDs)"),
        (37724, "the Photoshop layers"),
        (34412, "the Zeiss LSM description of the stack"),
        (33471, "the Olympus settings"),
        (33560, "the Olympus SIS description"),
    ];
    let known = KNOWN.iter().filter(|(tag, _)| directory.has(*tag));
    let mut notes: Vec<String> = known.map(|(_, what)| format!("dropped: {what}")).collect();
    let should_be_kept =
        |tag: &u16| !NOT_COPIED.contains(tag) || [tag::EXIF, tag::GPS].contains(tag);
    let lost: Vec<String> = directory
        .tags()
        .filter(should_be_kept)
        .filter(|&tag| !is_kept(tag))
        .map(|tag| tag.to_string())
        .collect();
    if !lost.is_empty() {
        let lost = lost.join(", ");
        notes.push(format!(
            "dropped: tags that have no values or unreadable ones: {lost}"
        ));
    }
    notes
}

/// The description in a directory, and how its rows are read.
fn describe(
    file: &mut Container<Box<dyn Source>>,
    directory: &Directory,
    limits: Limits,
) -> Decoded<(Page, Layout)> {
    let nodata = nodata(file, directory)?;
    let layout = Layout::of(file, directory, limits, nodata)?;
    if layout.photometric == photometric::CFA {
        return Err(Fault::new(
            "it is the mosaic of a camera's sensor, which is supported only in DNG",
        ));
    }
    let extra_samples = file.numbers(directory, tag::EXTRA_SAMPLES)?;
    let extra_samples: Vec<u16> = extra_samples
        .unwrap_or_default()
        .iter()
        .map(|&kind| kind as u16)
        .collect();
    let inks = file.number(directory, tag::NUMBER_OF_INKS)?.unwrap_or(4);
    let (color, extra) = colors(&layout, &extra_samples, inks as usize);
    let mut copied = fields(file, directory, &NOT_COPIED);
    let (exif, gps) = (
        sub_fields(file, directory, tag::EXIF),
        sub_fields(file, directory, tag::GPS),
    );
    let mut notes = dropped(directory, |tag| match tag {
        tag::EXIF => exif.is_ok(),
        tag::GPS => gps.is_ok(),
        tag => copied.iter().any(|field| field.tag == tag),
    });
    if layout.given != layout.samples {
        // tifffile's description is about the palette indices.
        let is_shape = |field: &Field| {
            field
                .words()
                .is_some_and(|words| words.starts_with("{\"shape\":"))
        };
        copied.retain(|field| field.tag != tag::DESCRIPTION || !is_shape(field));
    }
    let words = copied.iter().find(|field| field.tag == tag::DESCRIPTION);
    let words = words.and_then(Field::words).unwrap_or_default();
    if layout.planar && (color, extra) == (Color::Rgb, 1) && axes::are_four_planes(&words) {
        notes.push(
            "its four planes are marked as red, green, blue and transparency, so the fourth is \
             only copied; if they are four images of a stack, mark them as gray (tifffile: \
             photometric='minisblack')"
                .into(),
        );
    }
    let is_predicted = matches!(file.number(directory, tag::PREDICTOR), Ok(Some(2..)));
    if is_predicted && layout.compression() == codec::compression::NONE {
        notes
            .push("its predictor is ignored, as by libtiff: the samples are not compressed".into());
    }
    let tags = Tags {
        order: file.order,
        is_big: file.is_big,
        compression: layout.compression(),
        photometric: layout.photometric,
        planar: layout.planar,
        white_is_zero: layout.white_is_zero,
        extra_samples,
        exif: exif.unwrap_or_default(),
        gps: gps.unwrap_or_default(),
        fields: copied,
        verbatim: None,
    };
    let find = |tag| tags.fields.iter().find(|field| field.tag == tag);
    let page = Page {
        height: layout.height,
        width: layout.width,
        color,
        extra,
        depth: layout.sample.depth(),
        orientation: find(tag::ORIENTATION)
            .and_then(Field::numbers)
            .and_then(|numbers| u8::try_from(*numbers.first()?).ok())
            .and_then(Orientation::from_exif)
            .unwrap_or(Orientation::NoTransforms),
        metadata: Metadata {
            icc: find(tag::ICC).map(|field| field.bytes.clone()),
            exif: exif_block(&tags),
            resolution: resolution(&tags.fields),
            description: find(tag::DESCRIPTION).and_then(Field::words),
            nodata,
            notes,
            native: Some(Arc::new(tags)),
            ..Metadata::default()
        },
    };
    Ok((page, layout))
}

/// The value that marks missing samples, as GDAL writes it.
fn nodata(file: &mut Container<Box<dyn Source>>, directory: &Directory) -> Decoded<Option<f64>> {
    let field = file.field(directory, tag::GDAL_NODATA)?;
    let words = field.and_then(|field| field.words());
    let value = words.and_then(|words| words.trim().parse::<f64>().ok());
    let most = f64::from(f32::MAX);
    Ok(value.filter(|value| !value.is_nan()).map(|value| {
        // The lowest float is often written with few digits.
        if (value.abs() / most - 1.0).abs() < 1e-4 {
            most.copysign(value)
        } else {
            value
        }
    }))
}

/// The meaning of a pixel's first samples, and the number of the others.
fn colors(layout: &Layout, extra_samples: &[u16], inks: usize) -> (Color, usize) {
    let samples = layout.given;
    // Samples that are not declared to be transparency count as color channels.
    let kinds = extra_samples.iter().rev();
    let extra = kinds
        .take_while(|&&kind| kind != 0)
        .count()
        .min(samples - 1);
    let is_rgb = matches!(
        layout.photometric,
        photometric::RGB | photometric::YCBCR | photometric::PALETTE | photometric::LINEAR_RAW
    );
    let least = match layout.photometric {
        photometric::SEPARATED => inks,
        _ if is_rgb => 3,
        _ => 1,
    };
    let extra = extra.min(samples.saturating_sub(least));
    let color = match samples - extra {
        1 => Color::Gray,
        3 if is_rgb => Color::Rgb,
        bands => Color::Bands(bands),
    };
    (color, extra)
}

fn resolution(fields: &[Field]) -> Option<Resolution> {
    let find = |tag| fields.iter().find(|field| field.tag == tag);
    let (x, y) = (
        find(tag::X_RESOLUTION)?.ratio()?,
        find(tag::Y_RESOLUTION)?.ratio()?,
    );
    let unit = find(tag::RESOLUTION_UNIT).and_then(Field::numbers);
    let unit = match unit.and_then(|unit| unit.first().copied()).unwrap_or(2) {
        2 => ResolutionUnit::Inch,
        3 => ResolutionUnit::Centimeter,
        _ => ResolutionUnit::None,
    };
    Some(Resolution { x, y, unit })
}

/// Whether an Exif block states a resolution.
pub(super) fn states_resolution(exif: &[u8]) -> bool {
    let fields = Container::open(Cursor::new(exif)).and_then(|mut exif| {
        let directory = exif.directory(exif.first)?;
        Ok(fields(&mut exif, &directory, &NOT_COPIED))
    });
    fields.is_ok_and(|fields| resolution(&fields).is_some())
}

/// The description of a page as an Exif block, for formats that can hold one.
fn exif_block(tags: &Tags) -> Option<Vec<u8>> {
    /// Description, maker, model, software, date, artist, copyright, orientation (Exif 2.32, 4.6.4).
    const OF_IMAGE: [u16; 8] = [270, 271, 272, 274, 305, 306, 315, 33432];
    if tags.exif.is_empty() && tags.gps.is_empty() {
        return None;
    }
    let mut block = Cursor::new(Vec::new());
    let mut write = || {
        let mut out = Output::new(&mut block, tags.order, false)?;
        let fields = tags.fields.iter();
        let fields = fields.filter(|field| OF_IMAGE.contains(&field.tag));
        let mut fields: Vec<Field> = fields.cloned().collect();
        for (tag, sub) in [(tag::EXIF, &tags.exif), (tag::GPS, &tags.gps)] {
            if !sub.is_empty() {
                let at = out.sub_directory(sub.clone())?;
                fields.push(Field::longs(tag, [at as u32]));
            }
        }
        out.directory(fields)
    };
    write().ok().map(|()| block.into_inner())
}
