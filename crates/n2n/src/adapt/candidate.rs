//! Candidates, each a network behind a transform, and which of them denoises the images best.

use super::held_out::{HeldOut, Losses};
use crate::cpu::{CpuNetwork, Level};
use crate::denoise::{ModelRange, Range, Scale, Transform};
use crate::error::Result;
use crate::model::Model;
use crate::network::Denoise;
use crate::train::dataset::Dataset;

/// A network behind a transform, and its losses.
pub(super) struct Candidate {
    pub(super) transform: Transform,
    pub(super) losses: Losses,
}

impl Candidate {
    pub(super) fn new(
        network: &CpuNetwork,
        transform: Transform,
        held_out: &HeldOut,
    ) -> Result<Self> {
        let losses = held_out.losses(&mut *around(network, &transform))?;
        Ok(Self { transform, losses })
    }
}

/// A network behind a transform.
pub(super) fn around(network: &CpuNetwork, transform: &Transform) -> Box<dyn Denoise> {
    let network = network.fork().expect("networks on the CPU fork");
    transform.clone().around(network)
}

/// A linear function of values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Line {
    pub(super) slope: f64,
    pub(super) offset: f64,
}

impl Line {
    pub(super) const IDENTITY: Self = Self {
        slope: 1.0,
        offset: 0.0,
    };

    /// Maps values scaled by `range` to those that the model would see if it were used without that range.
    pub(super) fn usual(model: &Model, images: &Dataset, range: ModelRange) -> Self {
        let scale = model.scale(Range::Auto, range.depth, Some(images.survey()));
        let (own, usual) = (range.scale(range.depth), scale.unwrap_or(Scale::UNIT));
        let span = f64::from(usual.high - usual.low);
        Self {
            slope: f64::from(own.high - own.low) / span,
            offset: f64::from(own.low - usual.low) / span,
        }
    }

    pub(super) fn transform(self) -> Transform {
        Transform::linear(self.slope as f32, self.offset as f32)
    }
}

/// The network of a model.
pub(super) fn network_of(model: &Model, level: Level) -> Result<CpuNetwork> {
    let mut network = CpuNetwork::from_weights(model.weights())?;
    network.set_level(level);
    Ok(network)
}

/// The index of the best model before any learning, and its line. A model counts as better than the ones before it only
/// if its loss is lower by more than chance would explain. `best` is the first model's, and is replaced with the
/// chosen model's.
pub(super) fn choose(
    models: &[&Model],
    usual: Line,
    held_out: &HeldOut,
    level: Level,
    best: &mut Candidate,
) -> Result<(usize, Line)> {
    let mut chosen = (0, usual);
    for (place, &model) in models.iter().enumerate() {
        let is_fitted = Transform::of(model.metadata())?.is_some()
            || ModelRange::of(model.metadata())?.is_some();
        // Another model's range is that of other images.
        if place > 0 && is_fitted {
            continue;
        }
        let network = network_of(model, level)?;
        for line in [usual, Line::IDENTITY] {
            let candidate = Candidate::new(&network, line.transform(), held_out)?;
            if candidate.losses.are_significantly_lower_than(&best.losses) {
                *best = candidate;
                chosen = (place, line);
            }
        }
    }
    Ok(chosen)
}
