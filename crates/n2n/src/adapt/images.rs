//! The images to adapt to: those to learn on, and those held out.

use std::sync::Arc;

use super::clock::{Event, OnEvent};
use super::held_out;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::models;
use crate::train;
use crate::train::dataset::{Dataset, Layout};
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
    let dataset = Dataset::read(images, layout, cache_mb << 20, &mut |event| {
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

/// Takes out the images that nothing is learned on; of a single image, at most a quarter.
pub(super) fn hold_out(images: &mut Dataset, seed: u64) -> Result<Dataset> {
    /// The most that is cut off the longer side of a single image, in pixels.
    const LONGEST: usize = 512;
    let count = images.len();
    if count == 1 {
        return images.take_part(LONGEST);
    }
    let drawn = images.to_hold_out((count / 20).clamp(1, 32), held_out::LONGEST, seed);
    Ok(images.take(&drawn))
}

/// The gray companion of an RGB model, if it has one and the first readable image is not RGB or has equal channels.
pub(super) fn gray_companion(model: &Model, images: &dyn Source) -> Result<Option<Model>> {
    let Some(weights) = models::gray_companion(model.weights())? else {
        return Ok(None);
    };
    let mut all = (0..images.len()).filter_map(|item| images.images(item).ok());
    // Images that cannot be read are reported later.
    let first = all.find_map(|mut images| images.find_map(Result::ok));
    if first.is_none_or(|image| image.channels == 3 && !image.is_achromatic()) {
        return Ok(None);
    }
    Model::from_weights(weights).map(Some)
}
