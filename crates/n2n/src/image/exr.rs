//! OpenEXR: floats, channels with names. Decoded as a whole.

use std::io::{Cursor, Read as _, Seek, Write};
use std::sync::Arc;

use ::exr::block::chunk::{CompressedBlock, CompressedScanLineBlock, CompressedTileBlock};
use ::exr::compression::Compression;
use ::exr::meta::attribute::{LevelMode, SampleType};
use ::exr::meta::header::{Header, ImageAttributes, LayerAttributes};
use ::exr::meta::{BlockDescription, MetaData};
use ::exr::prelude::{
    AnyChannel, AnyChannels, FlatSamples, Image, Layer, ReadChannels, ReadLayers, Text, Vec2,
    WritableImage, f16, read,
};
use ::image::metadata::Orientation;

use super::decode::{Decode, Decoded, Fault, Limits, Source, Whole, check_samples};
use super::encode::{Encoded, Raster, Refused};
use super::metadata::{Metadata, Native};
use super::page::{Color, Page};
use super::simple::OnePage;
use super::{Depth, Format};

/// Metadata that is copied from file to file.
#[derive(Debug, Clone)]
struct Attributes {
    image: ImageAttributes,
    layer: LayerAttributes,
    /// Names and types of the channels, in the order of a pixel's samples.
    channels: Vec<(Text, SampleType)>,
    encoding: ::exr::prelude::Encoding,
}

impl Native for Attributes {
    fn format(&self) -> Format {
        Format::OpenExr
    }
}

/// Reads an OpenEXR file.
pub(super) fn decoder(source: Box<dyn Source>, limits: Limits) -> Decoded<Box<dyn Decode>> {
    let mut bytes = Vec::new();
    source.take(4 * limits.samples).read_to_end(&mut bytes)?;
    let mut behind = bytes.as_slice();
    let claimed = MetaData::read_from_buffered(&mut behind, false)?;
    let level = level(&bytes[..bytes.len() - behind.len()]);
    let [header] = claimed.headers.as_slice() else {
        let layers = claimed.headers.len();
        return Err(Fault::new(format!("it has {layers} layers; expected one")));
    };
    if header.deep {
        return Err(Fault::new("it contains deep data, which is not supported"));
    }
    let has_levels = matches!(
        header.blocks,
        BlockDescription::Tiles(tiles) if tiles.level_mode != LevelMode::Singular
    );
    let channels = &header.channels.list;
    let Vec2(width, height) = header.layer_size;
    check_samples(limits, height, width, channels.len())?;
    if channels
        .iter()
        .any(|channel| channel.sampling != Vec2(1, 1))
    {
        return Err(Fault::new(
            "some of its channels differ in size, which is not supported",
        ));
    }
    check_lossy(&bytes, header)?;
    let image = read()
        .no_deep_data()
        .largest_resolution_level()
        .all_channels()
        .first_valid_layer()
        .all_attributes()
        .non_parallel()
        .from_buffered(Cursor::new(&bytes))?;
    let layer = image.layer_data;
    let found = layer.channel_data.list;
    if layer.size != Vec2(width, height) {
        return Err(Fault::new(
            "the size of its layer differs from the declared one",
        ));
    }
    let names: Vec<(String, bool)> = found
        .iter()
        .map(|channel| {
            let is_integer = matches!(channel.sample_data, FlatSamples::U32(_));
            (channel.name.to_string(), is_integer)
        })
        .collect();
    let (order, color, extra) = order(&names);
    if color.channels() == 0 {
        return Err(Fault::new("it has only transparency and integer channels"));
    }
    let floats = samples(&found, &order, height * width)?;
    let kind = |samples: &FlatSamples| match samples {
        FlatSamples::F16(_) => SampleType::F16,
        FlatSamples::F32(_) => SampleType::F32,
        FlatSamples::U32(_) => SampleType::U32,
    };
    let attributes = Attributes {
        image: image.attributes,
        layer: layer.attributes,
        channels: order
            .iter()
            .map(|&from| (found[from].name.clone(), kind(&found[from].sample_data)))
            .collect(),
        encoding: ::exr::prelude::Encoding {
            // Lossy compressions would lose information a second time.
            compression: match layer.encoding.compression {
                Compression::B44
                | Compression::B44A
                | Compression::DWAA(_)
                | Compression::DWAB(_) => Compression::ZIP16,
                other => other,
            },
            ..layer.encoding
        },
    };
    let page = Page {
        height,
        width,
        color,
        extra,
        depth: Depth::F32,
        orientation: Orientation::NoTransforms,
        metadata: Metadata {
            native: Some(Arc::new(attributes)),
            notes: notes(has_levels, level, layer.encoding.compression),
            ..Metadata::default()
        },
    };
    Ok(Box::new(OnePage {
        whole: Whole::from_floats(page.row_len(), floats),
        page: Some(page),
    }))
}

/// Notes to the user on what is dropped.
fn notes(has_levels: bool, level: Option<f32>, compression: Compression) -> Vec<String> {
    let mut notes = Vec::new();
    if has_levels {
        notes.push("dropped: its smaller versions (mip levels)".into());
    }
    if let Some(level) = level {
        let reason = match compression {
            Compression::DWAA(_) | Compression::DWAB(_) => "; the result is compressed with ZIP",
            _ => ", which the image does not use",
        };
        notes.push(format!(
            "dropped: the compression level {level} of DWA{reason}"
        ));
    }
    notes
}

/// The level of DWA in a header. The decoder drops it if the compression is another.
fn level(header: &[u8]) -> Option<f32> {
    // The name of the attribute, its type and the length of its value.
    const ATTRIBUTE: &[u8] = b"dwaCompressionLevel\0float\0\x04\0\0\0";
    let at = header
        .windows(ATTRIBUTE.len())
        .position(|window| window == ATTRIBUTE)?;
    let value = header[at + ATTRIBUTE.len()..].first_chunk()?;
    Some(f32::from_le_bytes(*value))
}

/// Rejects chunks in DWAA or DWAB that declare more than their pixels can need, because the decoder allocates it.
fn check_lossy(bytes: &[u8], header: &Header) -> Decoded<()> {
    let (Compression::DWAA(_) | Compression::DWAB(_)) = header.compression else {
        return Ok(());
    };
    let chunks = ::exr::block::read(Cursor::new(bytes), false)?.all_chunks(false)?;
    for chunk in chunks {
        let block = chunk?.compressed_block;
        let place = header.get_block_data_indices(&block)?;
        let Vec2(width, height) = header.get_absolute_block_pixel_coordinates(place)?.size;
        let (CompressedBlock::ScanLine(CompressedScanLineBlock {
            compressed_pixels_le: data,
            ..
        })
        | CompressedBlock::Tile(CompressedTileBlock {
            compressed_pixels_le: data,
            ..
        })) = block
        else {
            continue;
        };
        let per_pixel = header.channels.bytes_per_pixel;
        if data.len() == width * height * per_pixel {
            // Stored as it is.
            continue;
        }
        // Pixels are padded to blocks of 8×8, and run-length coding can make bytes longer.
        let most = (4 * (width + 8) * (height + 8) * per_pixel) as u64;
        // The first counter is a version, the last a method.
        let mut counters = data.as_chunks().0.iter().skip(1).take(9);
        if counters.any(|&counter| u64::from_le_bytes(counter) > most) {
            return Err(Fault::new("its compressed pixels are damaged"));
        }
    }
    Ok(())
}

/// The samples of all pixels, the channels in this order.
fn samples(found: &[AnyChannel<FlatSamples>], order: &[usize], pixels: usize) -> Decoded<Vec<f32>> {
    let mut floats = vec![0.0; pixels * found.len()];
    for (at, &from) in order.iter().enumerate() {
        let to = floats.iter_mut().skip(at).step_by(found.len());
        match &found[from].sample_data {
            FlatSamples::F16(values) => to.zip(values).for_each(|(to, from)| *to = from.to_f32()),
            FlatSamples::F32(values) => to.zip(values).for_each(|(to, from)| *to = *from),
            // What `f32` holds exactly.
            FlatSamples::U32(values) if values.iter().all(|&value| value <= 1 << 24) => {
                to.zip(values).for_each(|(to, from)| *to = *from as f32);
            }
            FlatSamples::U32(_) => {
                return Err(Fault::new(format!(
                    "its channel {} contains integers beyond 16777216",
                    found[from].name
                )));
            }
        }
    }
    Ok(floats)
}

/// The order of the channels (given with whether they hold integers) as samples of a pixel, the meaning of the first
/// ones, and the number of the others. Integers identify objects and the like, and are not colors.
fn order(names: &[(String, bool)]) -> (Vec<usize>, Color, usize) {
    let at = |name: &str| names.iter().position(|found| found.0 == name && !found.1);
    let (mut order, color) = match (at("R"), at("G"), at("B"), at("Y")) {
        (Some(r), Some(g), Some(b), _) => (vec![r, g, b], Color::Rgb),
        (None, None, None, Some(y)) => (vec![y], Color::Gray),
        _ => {
            let is_band = |&i: &usize| Some(i) != at("A") && !names[i].1;
            let bands: Vec<usize> = (0..names.len()).filter(is_band).collect();
            let count = bands.len();
            (bands, Color::Bands(count))
        }
    };
    let rest = (0..names.len())
        .filter(|i| !order.contains(i))
        .collect::<Vec<_>>();
    let extra = rest.len();
    order.extend(rest);
    (order, color, extra)
}

/// Writes the page as OpenEXR; its channels keep their names and types if it came from an OpenEXR file, and otherwise
/// get the usual ones.
pub(super) fn write(raster: &Raster, out: &mut (impl Write + Seek)) -> Encoded<()> {
    let page = &raster.page;
    let samples = page.samples();
    let native = page.metadata.native::<Attributes>();
    let native = native.filter(|attributes| attributes.channels.len() == samples);
    let name = |at: usize| match (page.color, at) {
        (Color::Gray, 0) => "Y".into(),
        (Color::Rgb, 0) => "R".into(),
        (Color::Rgb, 1) => "G".into(),
        (Color::Rgb, 2) => "B".into(),
        (color, at) if at == color.channels() => "A".into(),
        (_, at) => format!("band{at:03}"),
    };
    let channels = (0..samples).map(|at| {
        let values = raster.samples.iter().skip(at).step_by(samples).copied();
        let (name, kind) = match native {
            Some(attributes) => attributes.channels[at].clone(),
            None => (Text::from(name(at).as_str()), SampleType::F32),
        };
        AnyChannel::new(
            name,
            match kind {
                SampleType::F16 => FlatSamples::F16(values.map(f16::from_f32).collect()),
                SampleType::U32 => FlatSamples::U32(values.map(|value| value as u32).collect()),
                SampleType::F32 => FlatSamples::F32(values.collect()),
            },
        )
    });
    let layer = Layer::new(
        Vec2(page.width, page.height),
        native.map_or_else(LayerAttributes::default, |found| found.layer.clone()),
        native.map_or(::exr::prelude::Encoding::FAST_LOSSLESS, |found| {
            found.encoding
        }),
        AnyChannels::sort(channels.collect()),
    );
    let mut image = Image::from_layer(layer);
    if let Some(found) = native {
        image.attributes = found.image.clone();
    }
    image
        .write()
        .non_parallel()
        .to_buffered(out)
        .map_err(|error| match error {
            ::exr::error::Error::Io(error) => Refused::Io(error),
            error => Refused::Page(error.to_string()),
        })
}
