//! A source of the images in files and streams, restricted to the pages that will be denoised.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Result;
use crate::image::{self, Limits, Reader, Selection};
use crate::predict::Input;
use crate::train::source::{Images, Source};

/// Files and streams, and which of their pages and channels to use.
#[derive(Debug)]
pub struct Inputs {
    items: Vec<(Input, Selection)>,
    limits: Limits,
    model_channels: usize,
}

impl Inputs {
    /// The `items`, each an input with its selection, decoded within the limits, for a model that denoises
    /// `model_channels` channels as one image: an image with exactly that many channels is used whole, including
    /// channels that are not selected.
    pub fn new(items: Vec<(Input, Selection)>, limits: Limits, model_channels: usize) -> Self {
        Self {
            items,
            limits,
            model_channels,
        }
    }

    fn name_of(&self, item: usize) -> &Path {
        self.items[item].0.name()
    }
}

impl Source for Inputs {
    fn len(&self) -> usize {
        self.items.len()
    }

    fn name(&self, item: usize) -> String {
        self.name_of(item).display().to_string()
    }

    fn path(&self, item: usize) -> PathBuf {
        self.name_of(item).into()
    }

    fn images(&self, item: usize) -> Result<Images<'_>> {
        let (input, selection) = &self.items[item];
        let reader = match input {
            Input::File(path) => Reader::open(path, self.limits)?,
            Input::Bytes(name, bytes) => Reader::from_bytes(name, Arc::clone(bytes), self.limits)?,
        };
        Ok(Box::new(image::selected(
            reader,
            input.name(),
            selection,
            self.model_channels,
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;

    /// An ImageJ stack of channels: `tests/golden/images/make_tiff.py`.
    #[test]
    fn pages_that_are_not_to_be_denoised_are_not_learned_from() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/golden/images/hyperstack_imagej.tif");
        let values = |pages: Option<&str>, channels: Option<&str>| {
            let selection = Selection {
                pages: pages.map(|pages| pages.parse().unwrap()),
                channels: channels.map(|channels| channels.parse().unwrap()),
            };
            let inputs = vec![(Input::File(path.clone()), selection)];
            let inputs = Inputs::new(inputs, Limits::default(), 1);
            let images: Result<Vec<_>> = inputs.images(0).unwrap().collect();
            let images = images.unwrap().into_iter();
            images.map(|image| image.data[0]).collect::<Vec<_>>()
        };
        let all = values(None, None);
        assert!(all.len() > 3);
        assert_eq!(values(Some("2-3"), None), all[1..3]);
        let one = values(None, Some("2"));
        assert!(!one.is_empty() && one.len() < all.len());
        assert!(one.iter().all(|value| all.contains(value)));
    }

    #[test]
    fn channels_that_are_not_to_be_denoised_are_not_learned_from() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("two.tif");
        let image = Image::from_u16(1, 2, 2, &[1, 1000, 2, 2000]).unwrap();
        image.write(&path).unwrap();
        let values = |channels: &str, model_channels: usize| -> Result<Vec<f32>> {
            let selection = Selection {
                pages: None,
                channels: Some(channels.parse()?),
            };
            let inputs = vec![(Input::File(path.clone()), selection)];
            let inputs = Inputs::new(inputs, Limits::default(), model_channels);
            let images = inputs.images(0)?.collect::<Result<Vec<_>>>()?;
            let values = images.iter().flat_map(|image| &image.data);
            Ok(values.map(|x| (x * 65535.0).round()).collect())
        };
        assert_eq!(values("1", 1).unwrap(), [1.0, 2.0]);
        assert_eq!(values("2-", 3).unwrap(), [1000.0, 2000.0]);
        assert_eq!(values("1-", 1).unwrap(), [1.0, 2.0, 1000.0, 2000.0]);
        // The model sees both, whichever of them is kept.
        assert_eq!(values("2", 2).unwrap(), [1.0, 1000.0, 2.0, 2000.0]);
        let error = values("9", 1).unwrap_err().to_string();
        assert!(
            error.ends_with("it has 1 page and 2 channels; asked for: channel 9"),
            "{error}"
        );
    }
}
