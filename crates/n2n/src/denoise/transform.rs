//! A transform of values around a network: it makes the noise equally strong at every brightness before the network,
//! and is undone after it.
//!
//! Both directions are piecewise linear functions, given by knots, on the scale on which the [range](super::Scale) of
//! the images is 0..1. They need not be inverses of each other: the inverse of a mean is not the mean of the inverses.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::network::Denoise;
use crate::unet::Grid;

/// An increasing piecewise linear map from values to those that the network sees, and a map back. Beyond the knots,
/// both are extended as straight lines.
#[derive(Debug, Clone, PartialEq)]
pub struct Transform {
    knots: Vec<Knot>,
}

/// A knot of a [`Transform`]: a value, what it maps to for the network, and what that maps back to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Knot {
    /// The value, on the scale on which the range of the images is 0..1.
    pub value: f32,
    /// What the network sees in its place.
    pub network: f32,
    /// What `network` maps back to in the result.
    pub back: f32,
}

impl Transform {
    const KEY: &str = "transform";
    /// Maximum number of knots accepted from a file.
    const MOST: usize = 1 << 12;

    /// The transform through at least two knots.
    ///
    /// # Errors
    /// Fewer than two knots, or more than 4,096; non-finite values; knots whose `value` and `network` do not increase.
    pub fn new(knots: Vec<Knot>) -> Result<Self> {
        let finite = |knot: &Knot| {
            let Knot {
                value,
                network,
                back,
            } = knot;
            value.is_finite() && network.is_finite() && back.is_finite()
        };
        let rising = |pair: &[Knot]| {
            let [a, b] = [pair[0], pair[1]];
            let (value, network) = (b.value - a.value, b.network - a.network);
            value > 0.0 && network > 0.0 && value.is_finite() && network.is_finite()
        };
        let count = (2..=Self::MOST).contains(&knots.len());
        if count && knots.iter().all(finite) && knots.windows(2).all(rising) {
            return Ok(Self { knots });
        }
        let expected = format!("2 to {} knots, finite and rising", Self::MOST);
        let got = match knots.as_slice() {
            [] => "none".into(),
            [first, .., last] => format!("{} from {first:?} to {last:?}", knots.len()),
            [only] => format!("{only:?} alone"),
        };
        Err(Error::value("knots of the transform", expected, got))
    }

    /// The map `value · slope + shift`, and back.
    pub(crate) fn linear(slope: f32, shift: f32) -> Self {
        let knot = |value: f32| Knot {
            value,
            network: value * slope + shift,
            back: value,
        };
        Self {
            knots: vec![knot(0.0), knot(1.0)],
        }
    }

    /// The knots, in increasing order.
    pub fn knots(&self) -> &[Knot] {
        &self.knots
    }

    /// What the network sees in place of a value.
    pub fn to_network(&self, value: f32) -> f32 {
        self.interpolate(value, |knot| knot.value, |knot| knot.network)
    }

    /// Maps a value of the network's result back.
    pub fn from_network(&self, value: f32) -> f32 {
        self.interpolate(value, |knot| knot.network, |knot| knot.back)
    }

    fn interpolate(&self, at: f32, from: impl Fn(&Knot) -> f32, to: impl Fn(&Knot) -> f32) -> f32 {
        let inner = &self.knots[1..self.knots.len() - 1];
        let right = 1 + inner.partition_point(|knot| from(knot) <= at);
        let (a, b) = (&self.knots[right - 1], &self.knots[right]);
        let share = (at - from(a)) / (from(b) - from(a));
        to(a) + share * (to(b) - to(a))
    }

    /// The transform in the metadata of weights; `None` if they do not state one.
    ///
    /// # Errors
    /// Text that is not a transform.
    pub fn of(metadata: &BTreeMap<String, String>) -> Result<Option<Self>> {
        let Some(text) = metadata.get(Self::KEY) else {
            return Ok(None);
        };
        let knot = |text: &str| {
            let mut numbers = text.split(',').map(|number| number.parse().ok());
            let mut next = || numbers.next().flatten();
            let knot = Knot {
                value: next()?,
                network: next()?,
                back: next()?,
            };
            numbers.next().is_none().then_some(knot)
        };
        let knots = text.split(' ').take(Self::MOST + 1).map(knot);
        let knots: Option<Vec<_>> = knots.collect();
        let knots = knots.ok_or_else(|| {
            Error::value(
                "transform in the metadata of the model",
                "knots of three numbers each, such as 0,0.1,0 1,0.9,1",
                text.chars().take(60).collect::<String>(),
            )
        })?;
        Self::new(knots).map(Some)
    }

    /// The transform as a metadata entry.
    pub fn entry(&self) -> (&'static str, String) {
        let knots = self.knots.iter().map(|knot| {
            let Knot {
                value,
                network,
                back,
            } = knot;
            format!("{value},{network},{back}")
        });
        (Self::KEY, knots.collect::<Vec<_>>().join(" "))
    }

    /// The network with this transform around it.
    pub fn around(self, network: Box<dyn Denoise>) -> Box<dyn Denoise> {
        Box::new(Transformed {
            network,
            transform: self,
        })
    }

    /// `network`, with the transform of the metadata around it if they state one.
    ///
    /// # Errors
    /// Those of [`Self::of`].
    pub fn place(
        metadata: &BTreeMap<String, String>,
        network: Box<dyn Denoise>,
    ) -> Result<Box<dyn Denoise>> {
        Ok(match Self::of(metadata)? {
            Some(transform) => transform.around(network),
            None => network,
        })
    }
}

/// A network with a transform around it.
struct Transformed {
    network: Box<dyn Denoise>,
    transform: Transform,
}

/// Number of values that a thread maps at a time.
const AT_ONCE: usize = 1 << 12;

impl Denoise for Transformed {
    fn channels(&self) -> usize {
        self.network.channels()
    }

    fn grid(&self) -> Grid {
        self.network.grid()
    }

    fn denoise(&mut self, noisy: &Batch) -> Result<Batch> {
        let transform = &self.transform;
        let mut seen = noisy.clone();
        seen.data.par_chunks_mut(AT_ONCE).for_each(|values| {
            for value in values {
                *value = transform.to_network(*value);
            }
        });
        let mut denoised = self.network.denoise(&seen)?;
        denoised.data.par_chunks_mut(AT_ONCE).for_each(|values| {
            for value in values {
                *value = transform.from_network(*value);
            }
        });
        Ok(denoised)
    }

    fn reserve(&mut self, h: usize, w: usize) -> Result<()> {
        self.network.reserve(h, w)
    }

    fn working_bytes(&self, h: usize, w: usize) -> u64 {
        let copy = (h * w * self.channels() * size_of::<f32>()) as u64;
        self.network.working_bytes(h, w).saturating_add(copy)
    }

    fn device(&self) -> String {
        self.network.device()
    }

    fn fork(&self) -> Option<Box<dyn Denoise>> {
        let network = self.network.fork()?;
        Some(self.transform.clone().around(network))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::fake::Fake;

    fn knot([value, network, back]: [f32; 3]) -> Knot {
        Knot {
            value,
            network,
            back,
        }
    }

    fn bent() -> Transform {
        let knots = [[0.0, 0.5, 0.25], [0.5, 2.5, 0.5], [1.0, 3.0, 1.5]];
        Transform::new(knots.map(knot).to_vec()).unwrap()
    }

    #[test]
    fn values_lie_on_the_lines_between_knots_and_beyond() {
        let transform = bent();
        for (value, network) in [
            (-0.5, -1.5),
            (0.0, 0.5),
            (0.25, 1.5),
            (0.5, 2.5),
            (0.75, 2.75),
            (3.0, 5.0),
        ] {
            assert_eq!(transform.to_network(value), network, "{value}");
        }
        for (network, back) in [
            (-1.5, 0.0),
            (0.5, 0.25),
            (1.5, 0.375),
            (2.75, 1.0),
            (4.0, 3.5),
        ] {
            assert_eq!(transform.from_network(network), back, "{network}");
        }
    }

    #[test]
    fn a_network_sees_one_side_and_the_result_has_the_other() {
        let network = Fake::new(1, |x| 2.0 * x);
        let mut around = bent().around(Box::new(network));
        let denoised = around.denoise(&Batch::new(1, 32, 32, 1, vec![0.25; 1024]));
        // 0.25 is 1.5 to the network, which makes 3.0 of it, which stands for 1.5.
        assert_eq!(denoised.unwrap().data, vec![1.5; 1024]);
    }

    #[test]
    fn metadata_hold_it_to_the_bit() {
        let knots = (0..128_i16).map(|i| {
            let x = f32::from(i) / 127.0;
            knot([x * x * 3.0 + x - 1.0, x + 0.1 * x.sin(), 1.0 / (x + 0.3)])
        });
        let transform = Transform::new(knots.collect()).unwrap();
        let (key, text) = transform.entry();
        let metadata = BTreeMap::from([(key.to_string(), text)]);
        assert_eq!(Transform::of(&metadata).unwrap(), Some(transform));
        assert_eq!(Transform::of(&BTreeMap::new()).unwrap(), None);
    }

    #[test]
    fn what_is_no_transform_is_refused() {
        for text in [
            "",
            "0,0,0",
            "0,0,0 1,1",
            "0,0,0 1,1,1,1",
            "0,0,0 1,x,1",
            "0,0,0 1,1,inf",
            "0,0,0 1,1,NaN",
            "1,0,0 0,1,1",
            "0,1,0 1,1,1",
            "-3e38,0,0 3e38,1,1",
        ] {
            let metadata = BTreeMap::from([(Transform::KEY.to_string(), text.to_string())]);
            let error = Transform::of(&metadata).unwrap_err().to_string();
            assert!(error.contains("transform"), "{text}: {error}");
        }
    }
}
