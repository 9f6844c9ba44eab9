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
    inputs: Vec<(Input, Selection)>,
    limits: Limits,
}

impl Inputs {
    /// The `inputs`, each with its selection, decoded within the limits.
    pub fn new(inputs: Vec<(Input, Selection)>, limits: Limits) -> Self {
        Self { inputs, limits }
    }

    fn name_of(&self, item: usize) -> &Path {
        let (Input::File(path) | Input::Bytes(path, _)) = &self.inputs[item].0;
        path
    }
}

impl Source for Inputs {
    fn len(&self) -> usize {
        self.inputs.len()
    }

    fn name(&self, item: usize) -> String {
        self.name_of(item).display().to_string()
    }

    fn path(&self, item: usize) -> PathBuf {
        self.name_of(item).into()
    }

    fn images(&self, item: usize) -> Result<Images<'_>> {
        let (input, selection) = &self.inputs[item];
        let reader = match input {
            Input::File(path) => Reader::open(path, self.limits)?,
            Input::Bytes(name, bytes) => Reader::from_bytes(name, Arc::clone(bytes), self.limits)?,
        };
        Ok(Box::new(image::selected(reader, selection)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let inputs = Inputs::new(inputs, Limits::default());
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
}
