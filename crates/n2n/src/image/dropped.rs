//! What a format cannot store of a page's metadata.

use super::metadata::Metadata;
use super::{Format, jpeg, tiff};
use crate::words::listed;

impl Metadata {
    /// Notes to the user on what is lost if the page is written in `format`.
    pub fn notes_for(&self, format: Format) -> Vec<String> {
        let mut notes = self.notes.clone();
        let mut lost = Vec::new();
        let takes_exif = matches!(
            format,
            Format::Png | Format::Jpeg | Format::Tiff | Format::WebP | Format::Dng
        );
        if !takes_exif {
            if self.icc.is_some() {
                lost.push("the color profile");
            }
            if self.exif.is_some() {
                lost.push("Exif");
            }
            if self.description.is_some() && format != Format::Pnm {
                lost.push("the description");
            }
        }
        let keeps_resolution = match format {
            Format::Png | Format::Jpeg | Format::Tiff | Format::Bmp | Format::Dng => true,
            Format::WebP => self.exif.as_deref().is_some_and(tiff::states_resolution),
            _ => false,
        };
        if self.resolution.is_some() && !keeps_resolution {
            lost.push("the resolution");
        }
        if self
            .native
            .as_ref()
            .is_some_and(|native| native.format() != format && native.has_private())
        {
            lost.push("metadata specific to the source format");
        }
        if let Some(xmp) = &self.xmp
            && !keeps_xmp(format, xmp)
        {
            lost.push("XMP");
        }
        if !lost.is_empty() {
            notes.push(format!(
                "{format} cannot store everything; dropped: {}",
                listed(&lost)
            ));
        }
        notes
    }
}

/// Whether a format can hold an XMP packet of another one.
fn keeps_xmp(format: Format, xmp: &str) -> bool {
    match format {
        Format::Png | Format::Tiff => true,
        Format::Jpeg => xmp.len() <= jpeg::MOST_XMP,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::metadata::{Resolution, ResolutionUnit};
    use super::*;

    #[test]
    fn what_is_lost_is_listed_under_the_name_of_the_format() {
        let notes = |metadata: Metadata, format| metadata.notes_for(format);
        let icc = Metadata {
            icc: Some(vec![1]),
            ..Metadata::default()
        };
        let all = Metadata {
            exif: Some(vec![1]),
            description: Some("cells".into()),
            resolution: Some(Resolution {
                x: 300.0,
                y: 300.0,
                unit: ResolutionUnit::Inch,
            }),
            ..icc.clone()
        };
        assert_eq!(
            notes(icc.clone(), Format::Tga),
            ["TGA cannot store everything; dropped: the color profile"]
        );
        assert_eq!(
            notes(all, Format::OpenExr),
            [
                "OpenEXR cannot store everything; dropped: the color profile, Exif, the description and the resolution"
            ]
        );
        assert!(notes(icc, Format::Png).is_empty());
    }
}
