//! The images to adapt to: those to learn on, and those held out.

use std::sync::Arc;

use super::clock::{Event, OnEvent};
use super::held_out;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::model::Model;
use crate::models::{self, GRAY_KEY};
use crate::train;
use crate::train::dataset::Dataset;
use crate::train::layout::Layout;
use crate::train::source::Source;

/// The images, converted to the number of channels of the model; those that cannot be used are reported.
pub(super) fn read(
    images: Arc<dyn Source>,
    channels: usize,
    cache_mb: usize,
    on_event: &mut OnEvent,
) -> Result<Dataset> {
    let mut stopped = false;
    // As a gray model denoises them.
    let layout = match channels {
        1 => Layout::Independent,
        channels => Layout::Together(channels),
    };
    let cache_bytes = cache_mb.saturating_mul(1 << 20);
    let dataset = Dataset::read(images, layout, cache_bytes, &mut |event| {
        if let train::Event::Skipped { error } = event {
            stopped |= on_event(Event::Skipped { error }).is_break();
        }
    });
    if stopped {
        Err(Error::Stopped)
    } else {
        Ok(dataset)
    }
}

/// Removes and returns the images to hold out: one in twenty or, of a single image, at most a quarter.
pub(super) fn hold_out(images: &mut Dataset, seed: u64) -> Result<Dataset> {
    /// The longest strip that is cut off a single image, in pixels.
    const LONGEST: usize = 512;
    let count = images.len();
    if count == 1 {
        return images.take_part(LONGEST);
    }
    let drawn = images.to_hold_out((count / 20).clamp(1, 32), held_out::LONGEST, seed);
    Ok(images.take(&drawn))
}

/// The gray companions of RGB models, each with the index of the first model that has it. None unless the first model
/// has one and all images are gray, including RGB images with equal channels: a companion would denoise the channels of
/// other RGB images one by one.
pub(super) fn gray_companions(
    models: &[&Model],
    images: &dyn Source,
) -> Result<Vec<(usize, Model)>> {
    let name = |model: &Model| model.metadata().get(GRAY_KEY).cloned();
    let mut companions = Vec::new();
    for (index, model) in models.iter().enumerate() {
        let is_known = models[..index]
            .iter()
            .any(|before| name(before) == name(model));
        if is_known {
            continue;
        }
        match models::gray_companion(model.weights())? {
            Some(weights) => companions.push((index, Model::from_weights(weights)?)),
            None if index == 0 => return Ok(companions),
            None => {}
        }
    }
    // Images that cannot be read are reported later.
    let items = (0..images.len()).filter_map(|item| images.images(item).ok());
    let mut readable = items
        .flat_map(|pages| pages.map_while(Result::ok))
        .peekable();
    let is_color = |image: Image| image.channels == 3 && !image.is_achromatic();
    if readable.peek().is_none() || readable.any(is_color) {
        companions.clear();
    }
    Ok(companions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::source::{Folder, Memory};

    #[test]
    #[cfg(feature = "models")]
    fn gray_companions_are_used_only_if_no_image_is_in_color() {
        let models = ["gauss5_50_fast", "gauss25", "poisson30", "poisson5_50"];
        let models = models.map(|name| Model::load(name).unwrap());
        let models = models.each_ref();
        let gray = Image::from_u8(2, 2, 1, &[1, 2, 3, 4]).unwrap();
        let gray_rgb = Image::from_u8(1, 1, 3, &[7, 7, 7]).unwrap();
        let color = Image::from_u8(1, 1, 3, &[7, 8, 9]).unwrap();
        for (images, expected) in [
            (vec![&gray], vec![(0, 1), (2, 1)]),
            (vec![&gray_rgb, &gray], vec![(0, 1), (2, 1)]),
            (vec![&color], vec![]),
            (vec![&gray, &color], vec![]),
            (vec![&color, &gray], vec![]),
            (vec![&gray_rgb, &gray, &color], vec![]),
            (vec![], vec![]),
        ] {
            let images: Vec<_> = images.into_iter().cloned().collect();
            let companions = gray_companions(&models, &Memory::from(&images[..])).unwrap();
            let found = companions.iter().map(|(i, model)| (*i, model.channels()));
            assert_eq!(found.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn images_are_kept_however_large_the_limit_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let image = Image::from_u8(2, 2, 1, &[1, 2, 3, 4]).unwrap();
        image.write(&path).unwrap();
        let source = Arc::new(Folder::of_files(vec![path.clone()]));
        let go_on = &mut |_: Event| std::ops::ControlFlow::Continue(());
        let images = read(source, 1, 1 << (usize::BITS - 20), go_on).unwrap();
        std::fs::remove_file(path).unwrap();
        assert!(images.image(0).is_ok());
    }
}
