//! 1×1 convolutions one after another, some pixels at a time, so that intermediate results stay in cache.

use super::TapConv;
use crate::Level;
use crate::epilogue::Epilogue;
use crate::memory::Memory;

/// Pixels that go through a chain together: two buffers of 96 channels and a panel of weights fit in the L1 cache.
const PIXELS: usize = 24;

/// 1×1 convolutions, each with its epilogue.
pub(crate) struct Chain<'a> {
    convs: Vec<(&'a TapConv, Epilogue<'a>)>,
    inputs: usize,
    outputs: usize,
}

impl<'a> Chain<'a> {
    /// # Panics
    /// If there is no convolution, one has more than one tap or input, an epilogue reads the output's tensor, or the
    /// channels of consecutive convolutions do not match.
    pub fn new(convs: Vec<(&'a TapConv, Epilogue<'a>)>) -> Self {
        let mut channels: Option<(usize, usize)> = None;
        for (conv, epilogue) in &convs {
            let (inputs, outputs) = conv.as_pointwise().expect("a 1×1 convolution");
            assert!(
                matches!(epilogue, Epilogue::Store | Epilogue::LeakyRelu(_)),
                "epilogue"
            );
            if let Some((_, before)) = channels {
                assert_eq!(inputs, before, "input channels");
            }
            epilogue.check();
            channels = Some((channels.map_or(inputs, |(first, _)| first), outputs));
        }
        let (inputs, outputs) = channels.expect("a chain of at least one");
        Self {
            convs,
            inputs,
            outputs,
        }
    }

    /// Number of input channels.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of output channels.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// [`Chain::outputs`], padded to whole vectors.
    pub fn padded_outputs(&self) -> usize {
        self.convs
            .last()
            .map_or(0, |(conv, _)| conv.padded_outputs())
    }

    /// Maps `count` pixels, `stride` floats apart, to adjacent pixels padded to whole vectors; `between` is memory
    /// for the intermediate results.
    pub fn run(
        &self,
        level: Level,
        pixels: &[f32],
        stride: usize,
        count: usize,
        to: &mut [f32],
        between: &mut Memory,
    ) {
        let (last, first) = self.convs.split_last().expect("checked when made");
        let widths = first.iter().map(|(conv, _)| conv.padded_outputs());
        let half = PIXELS * widths.max().unwrap_or(0);
        let (even, odd) = between.at_least(2 * half).split_at_mut(half);
        let to_stride = last.0.padded_outputs();
        for x in (0..count).step_by(PIXELS) {
            let count = PIXELS.min(count - x);
            let mut from_stride = stride;
            for (i, (conv, epilogue)) in first.iter().enumerate() {
                let (before, after) = if i % 2 == 0 {
                    (&*odd, &mut *even)
                } else {
                    (&*even, &mut *odd)
                };
                let floats = if i == 0 {
                    &pixels[x * stride..]
                } else {
                    before
                };
                conv.run_pixels(level, floats, from_stride, count, after, *epilogue);
                from_stride = conv.padded_outputs();
            }
            let floats = match first.len() {
                0 => &pixels[x * stride..],
                n if n % 2 == 1 => &*even,
                _ => &*odd,
            };
            let to = &mut to[x * to_stride..];
            last.0
                .run_pixels(level, floats, from_stride, count, to, last.1);
        }
    }
}
