//! A model fitted to a picture: [`n2n::adapt`].

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use js_sys::Function;
use n2n::adapt::{Budget, Config, Event, Inputs, adapt};
use n2n::image::{Limits, Selection};
use n2n::predict::Input;
use n2n::weights::DType;
use n2n::{Error, Model};
use wasm_bindgen::prelude::*;

use crate::{decode, error};

/// What a picture may allocate within the four gigabytes of WebAssembly: while it is surveyed, it is held as `f32` in
/// addition to its own samples and a copy.
const LIMITS: Limits = Limits {
    pixels: 1 << 26,
    samples: 1 << 28,
};

/// Points of the learning curve.
const POINTS: usize = 20;

/// Models, one of which is fitted to a picture on the calling thread.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct Adaptation {
    models: Vec<Model>,
}

/// A fitted model.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Adapted(n2n::adapt::Adapted);

#[wasm_bindgen]
impl Adaptation {
    /// No models yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the model in a weight file. The first one is the model to improve on; the others, which need the same
    /// number of channels, are tried as starting points.
    ///
    /// # Errors
    /// If it is not a weight file, or its network is for images other than gray or RGB.
    pub fn add_model(&mut self, weights: &[u8], name: &str) -> Result<(), JsError> {
        self.models.push(decode(weights, name).map_err(error)?);
        Ok(())
    }

    /// Fits a copy of one of the models to the pages of a file for about `seconds` seconds, not counting the first and
    /// the last comparison. `on_event` is called with the fraction of the time that has passed, and from time to time
    /// also with the held-out loss.
    ///
    /// # Errors
    /// If there is no model, or the picture cannot be learned from.
    pub fn run(
        &self,
        bytes: Vec<u8>,
        name: &str,
        seconds: f64,
        on_event: &Function,
    ) -> Result<Adapted, JsError> {
        let time = Duration::try_from_secs_f64(seconds).map_err(error)?;
        let tell = |passed: f64, loss: Option<f64>| {
            // An exception in the callback has nowhere to go.
            let _ = on_event.call2(&JsValue::NULL, &passed.into(), &loss.into());
        };
        self.fit(bytes, name, Budget::Time(time), &tell)
            .map(Adapted)
            .map_err(error)
    }
}

impl Adaptation {
    fn fit(
        &self,
        bytes: Vec<u8>,
        name: &str,
        budget: Budget,
        tell: &dyn Fn(f64, Option<f64>),
    ) -> n2n::Result<n2n::adapt::Adapted> {
        let config = Config {
            budget,
            curve_points: POINTS,
            ..Config::default()
        };
        let models: Vec<_> = self.models.iter().collect();
        let input = Input::Bytes(name.into(), bytes.into());
        let images = Arc::new(Inputs::new(vec![(input, Selection::default())], LIMITS, 1));
        let mut unusable = None;
        let result = adapt(&models, images, &config, &mut |event| {
            match event {
                Event::Progress(passed) => tell(passed, None),
                Event::HeldOut { passed, loss } => tell(passed, Some(loss)),
                Event::Skipped { error } => {
                    unusable = Some(match error {
                        Error::Image { reason, .. } => reason.clone(),
                        other => other.to_string(),
                    });
                    return ControlFlow::Break(());
                }
                _ => {}
            }
            ControlFlow::Continue(())
        });
        match (result, unusable) {
            (Err(Error::Stopped), Some(reason)) => Err(Error::Image {
                path: name.into(),
                reason,
            }),
            (result, _) => result,
        }
    }
}

#[wasm_bindgen]
impl Adapted {
    /// The weights as a safetensors file, for `n2n predict --model-path` and [`Denoiser`](crate::Denoiser).
    ///
    /// # Errors
    /// If the weights cannot be written.
    pub fn weights(&self) -> Result<Vec<u8>, JsError> {
        self.0.model.weights().encode(DType::F32).map_err(error)
    }

    /// What was chosen, and how the held-out loss changed, in one line.
    #[wasm_bindgen(getter)]
    pub fn summary(&self) -> String {
        self.0.to_string()
    }

    /// Whether the model differs from the first one given.
    #[wasm_bindgen(getter)]
    pub fn is_new(&self) -> bool {
        let adapted = &self.0;
        adapted.model_index > 0
            || adapted.range_changed
            || adapted.has_transform
            || adapted.is_fine_tuned
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use n2n::Weights;
    use n2n::cpu::CpuNetwork;
    use n2n::unet::UNet;

    use super::*;

    /// A PGM of 16 bits: a ramp with noise that grows along it.
    fn noisy(height: usize, width: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let mut file = format!("P5\n{width} {height}\n65535\n").into_bytes();
        for i in 0..height * width {
            let signal = 100.0 + (i % width) as f32;
            let noise = (0..4).map(|_| uniform()).sum::<f32>();
            let sample = (400.0 + signal + signal.sqrt() * noise).round() as u16;
            file.extend(sample.to_be_bytes());
        }
        file
    }

    #[test]
    fn a_model_is_fitted_to_a_file_and_returned_as_one() {
        let network = CpuNetwork::initial_scaled(UNet::new(4, 1).unwrap(), 1.0, 1);
        let mut adaptation = Adaptation::new();
        let weights = network.weights().encode(DType::F32).unwrap();
        adaptation.add_model(&weights, "untrained").ok().unwrap();
        let told = RefCell::new(vec![]);
        let adapted = adaptation.fit(
            noisy(160, 128),
            "a.pgm",
            Budget::Steps(40),
            &|passed, loss| {
                told.borrow_mut().push((passed, loss));
            },
        );
        let adapted = Adapted(adapted.unwrap());
        assert!(adapted.is_new(), "{}", adapted.summary());
        let told = told.into_inner();
        assert!(told.is_sorted_by_key(|of| of.0) && told.iter().any(|of| of.1.is_some()));
        let file = adapted.weights().ok().unwrap();
        let (weights, _) = Weights::decode(&file, "fitted".as_ref()).unwrap();
        assert_eq!(weights.metadata["adapted"], adapted.summary());
    }

    #[test]
    fn a_picture_that_cannot_be_learned_from_is_an_error() {
        let weights = CpuNetwork::initial(UNet::new(4, 1).unwrap(), 1).weights();
        let mut adaptation = Adaptation::new();
        let weights = weights.encode(DType::F32).unwrap();
        adaptation.add_model(&weights, "untrained").ok().unwrap();
        let mut broken = noisy(64, 64);
        broken.truncate(1000);
        let fit = adaptation.fit(broken, "a.pgm", Budget::Steps(1), &|_, _| {});
        let error = fit.unwrap_err().to_string();
        assert!(error.starts_with("a.pgm: not a readable image"), "{error}");
    }
}
