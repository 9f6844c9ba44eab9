//! The axes of a stack of pages: channels, slices and time points, as ImageJ, OME-TIFF and tifffile state them in the
//! description of the first page.

use super::super::metadata::Position;

/// The axes along which pages are stacked, the fastest first, each with its length.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axes(Vec<(Axis, usize)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    Time,
    Slice,
    Channel,
    /// Anything else: only its length counts.
    Other,
}

impl Axes {
    /// The axes in the description of the first page; `None` if it does not state any.
    pub(super) fn of_description(words: &str) -> Option<Self> {
        if words.starts_with("ImageJ=") {
            let count = |name: &str| value(words, name).unwrap_or(1).max(1) as usize;
            return Some(Self(vec![
                (Axis::Channel, count("channels")),
                (Axis::Slice, count("slices")),
                (Axis::Time, count("frames")),
            ]));
        }
        if words.contains("<OME") {
            return Self::of_ome(words);
        }
        Self::of_json(words)
    }

    fn of_ome(xml: &str) -> Option<Self> {
        let pixels = xml
            .split("Pixels")
            .find(|part| part.contains("DimensionOrder"))?;
        let pixels = pixels.split('>').next()?;
        let attribute = |name: &str| {
            let at = pixels.find(&format!(" {name}="))? + name.len() + 2;
            let mut value = pixels[at..].chars();
            let quote = value.next()?;
            value.as_str().split(quote).next()
        };
        let count = |name| attribute(name).and_then(|count| count.parse::<usize>().ok());
        let order = attribute("DimensionOrder")?.strip_prefix("XY")?;
        // Several samples of a pixel are channels that share a page.
        let samples = xml.split("SamplesPerPixel=\"").nth(1);
        let samples = samples.and_then(|text| text.split('"').next()?.parse::<usize>().ok());
        let axes = order.chars().map(|axis| match axis {
            'T' => Some((Axis::Time, count("SizeT")?)),
            'Z' => Some((Axis::Slice, count("SizeZ")?)),
            'C' => Some((Axis::Channel, count("SizeC")? / samples.unwrap_or(1).max(1))),
            _ => None,
        });
        axes.collect::<Option<Vec<_>>>().map(Self)
    }

    /// `{"shape": [5, 2, 40, 50], "axes": "ZCYX"}`
    fn of_json(words: &str) -> Option<Self> {
        let json: serde_json::Value = serde_json::from_str(words.trim()).ok()?;
        let names = json.get("axes")?.as_str()?;
        let shape = json.get("shape")?.as_array()?;
        let before = names.find("YX")?;
        if names.len() != shape.len() {
            return None;
        }
        let axes = names[..before]
            .bytes()
            .zip(shape)
            .rev()
            .map(|(name, count)| {
                let axis = match name {
                    b'T' => Axis::Time,
                    b'Z' => Axis::Slice,
                    b'C' => Axis::Channel,
                    _ => Axis::Other,
                };
                Some((axis, count.as_u64()? as usize))
            });
        axes.collect::<Option<Vec<_>>>().map(Self)
    }

    /// The position of page `index`.
    pub(super) fn position(&self, index: usize) -> Position {
        let mut position = Position::default();
        let mut rest = index;
        for &(axis, count) in &self.0 {
            let at = rest % count.max(1);
            rest /= count.max(1);
            match axis {
                Axis::Time => position.time = at,
                Axis::Slice => position.slice = at,
                Axis::Channel => position.channel = at,
                Axis::Other => {}
            }
        }
        position
    }
}

/// The number after `name=` at the start of a line.
fn value(words: &str, name: &str) -> Option<u64> {
    let line = words.lines().find_map(|line| line.strip_prefix(name));
    line?.strip_prefix('=')?.trim().parse().ok()
}

/// Whether tifffile was given an array of four planes. That may be a stack of four images, which tifffile marks as RGB
/// with transparency, or an actual image in RGB with transparency; the description does not say which.
pub(super) fn are_four_planes(words: &str) -> bool {
    let json: Option<serde_json::Value> = serde_json::from_str(words.trim()).ok();
    let shape = json.as_ref().and_then(|json| json.get("shape")?.as_array());
    shape.is_some_and(|shape| shape.len() == 3 && shape[0] == 4)
}

/// The number of images, each with this many samples, that a file with a single directory is said to hold.
pub(super) fn frames_behind_one_directory(words: &str, samples: u64) -> Option<u64> {
    if words.starts_with("ImageJ=") {
        return value(words, "images");
    }
    let json: serde_json::Value = serde_json::from_str(words.trim()).ok()?;
    json.get("truncated")?.as_bool().filter(|is| *is)?;
    let shape = json.get("shape")?.as_array()?.iter();
    let all = shape
        .map(serde_json::Value::as_u64)
        .try_fold(1_u64, |product, count| product.checked_mul(count?))?;
    Some(all / samples.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(words: &str, count: usize) -> Vec<(usize, usize, usize)> {
        let axes = Axes::of_description(words).unwrap();
        let positions = (0..count).map(|i| axes.position(i));
        positions
            .map(|at| (at.time, at.slice, at.channel))
            .collect()
    }

    #[test]
    fn channels_of_imagej_come_first_then_slices_then_frames() {
        let words = "ImageJ=1.53\nimages=8\nchannels=2\nslices=2\nframes=2\nhyperstack=true\n";
        let expected = [
            (0, 0, 0),
            (0, 0, 1),
            (0, 1, 0),
            (0, 1, 1),
            (1, 0, 0),
            (1, 0, 1),
            (1, 1, 0),
            (1, 1, 1),
        ];
        assert_eq!(positions(words, 8), expected);
    }

    #[test]
    fn ome_names_the_order() {
        let words = "<?xml version=\"1.0\"?><OME><Image><Pixels ID=\"Pixels:0\" \
                     DimensionOrder=\"XYZTC\" Type=\"uint16\" SizeX=\"5\" SizeY=\"4\" SizeC=\"2\" \
                     SizeZ=\"2\" SizeT=\"1\"><Channel SamplesPerPixel=\"1\"/></Pixels></Image></OME>";
        assert_eq!(
            positions(words, 4),
            [(0, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)]
        );
    }

    /// Fuzzing found the first: a quote of several bytes.
    #[test]
    fn attributes_without_quotes_are_not_numbers() {
        for size in ["\u{FFFD}\"2\"", "", "2", "\"2"] {
            let words = format!(
                "<OME><Pixels DimensionOrder=\"XYZTC\" SizeC=\"1\" SizeZ=\"1\" SizeT={size}></OME>"
            );
            let axes = Axes::of_description(&words);
            assert_eq!(axes.is_some(), size == "\"2", "{size}");
        }
    }

    #[test]
    fn the_axes_of_tifffile_are_listed_slowest_first() {
        let words = "{\"shape\": [2, 3, 40, 50], \"axes\": \"CZYX\"}";
        let expected = [
            (0, 0, 0),
            (0, 1, 0),
            (0, 2, 0),
            (0, 0, 1),
            (0, 1, 1),
            (0, 2, 1),
        ];
        assert_eq!(positions(words, 6), expected);
        assert!(Axes::of_description("a cat").is_none());
    }

    #[test]
    fn four_planes_are_told_from_four_samples() {
        assert!(are_four_planes("{\"shape\": [4, 40, 50]}"));
        for words in [
            "{\"shape\": [40, 50, 4]}",
            "{\"shape\": [4, 40]}",
            "four",
            "",
        ] {
            assert!(!are_four_planes(words), "{words}");
        }
    }

    #[test]
    fn frames_without_directories_are_counted() {
        let frames = |words| frames_behind_one_directory(words, 40 * 50);
        assert_eq!(
            frames("{\"shape\": [6, 40, 50], \"truncated\": true}"),
            Some(6)
        );
        assert_eq!(frames("{\"shape\": [6, 40, 50]}"), None);
        assert_eq!(frames("ImageJ=1.11a\nimages=6\nslices=6\n"), Some(6));
        assert_eq!(frames("ImageJ=1.11a\n"), None);
    }
}
