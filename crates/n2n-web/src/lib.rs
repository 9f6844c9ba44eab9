//! The denoiser for JavaScript, compiled to WebAssembly.
//!
//! Several instances, each in its own worker, share the work without sharing memory. One instance holds the
//! [`Picture`], which it decodes, cuts into tiles, reassembles and encodes; each of the others holds a [`Denoiser`],
//! which runs tiles through the network. `web/engine.js` passes the tiles between them.

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod adaptation;
mod layout;
mod picture;
mod preview;

use n2n::denoise::{ModelRange, Scale};
use n2n::image::Depth;
use n2n::{DenoiseOptions, Image, Model, Region, Weights};
use wasm_bindgen::prelude::*;

pub use adaptation::{Adaptation, Adapted};
pub use picture::Picture;
pub use preview::Preview;

/// An error as a JavaScript `Error`.
fn error(error: impl std::fmt::Display) -> JsError {
    JsError::new(&error.to_string())
}

/// The name of the instruction set that the network uses: `simd128` or `relaxed-simd`.
#[wasm_bindgen]
pub fn level() -> String {
    n2n_kernels::Level::detect().to_string()
}

/// The model in a weight file.
fn decode(weights: &[u8], name: &str) -> n2n::Result<Model> {
    let (weights, _) = Weights::decode(weights, name.as_ref())?;
    let model = Model::from_weights(weights).map_err(|error| match error {
        error @ n2n::Error::Weights { .. } => error,
        other => n2n::Error::Weights {
            path: name.into(),
            reason: other.to_string(),
        },
    })?;
    match model.channels() {
        1 | 3 => Ok(model),
        other => Err(n2n::Error::Weights {
            path: name.into(),
            reason: format!("expected a model with 1 (gray) or 3 (RGB) channels, found {other}"),
        }),
    }
}

/// The index of a type in `Depth::ALL`.
fn number_of(depth: Depth) -> f64 {
    let others = Depth::ALL.iter().take_while(|&&other| other != depth);
    others.count() as f64
}

/// A part of a picture on its way to a [`Denoiser`].
#[wasm_bindgen]
#[derive(Debug, Clone)]
pub struct Tile {
    /// The part, together with the surroundings that the network sees.
    block: Image,
    /// Row and column of the block's first pixel.
    origin: (usize, usize),
    /// Height and width of the picture.
    size: (usize, usize),
    region: Region,
    scale: Scale,
}

/// Number of values in a tile's header.
const HEADER: usize = 15;

#[wasm_bindgen]
impl Tile {
    /// Everything except the samples, for [`Tile::new`] in another instance, as numbers that `f64` represents
    /// exactly.
    #[wasm_bindgen(getter)]
    pub fn header(&self) -> Vec<f64> {
        let Region {
            top,
            left,
            height,
            width,
        } = self.region;
        let integers: [usize; HEADER - 2] = [
            usize::from(self.scale.is_limit),
            self.block.height,
            self.block.width,
            self.block.channels,
            number_of(self.block.depth) as usize,
            self.origin.0,
            self.origin.1,
            self.size.0,
            self.size.1,
            top,
            left,
            height,
            width,
        ];
        let bounds = [self.scale.low, self.scale.high].map(f64::from);
        integers
            .map(|x| x as f64)
            .into_iter()
            .chain(bounds)
            .collect()
    }

    /// The samples of the block.
    #[wasm_bindgen(getter)]
    pub fn samples(&self) -> Vec<f32> {
        self.block.data.clone()
    }

    /// The tile with the given [header](Tile::header) and [samples](Tile::samples).
    ///
    /// # Errors
    /// If the header is not that of a tile.
    #[wasm_bindgen(constructor)]
    pub fn new(header: &[f64], samples: Vec<f32>) -> Result<Tile, JsError> {
        let &[
            is_limit,
            h,
            w,
            c,
            depth,
            y,
            x,
            rows,
            columns,
            top,
            left,
            height,
            width,
            low,
            high,
        ] = header
        else {
            return Err(error(format!(
                "header of a tile: expected {HEADER} numbers, found {}",
                header.len()
            )));
        };
        let depth = Depth::ALL.get(depth as usize);
        Ok(Self {
            block: Image {
                height: h as usize,
                width: w as usize,
                channels: c as usize,
                data: samples,
                depth: *depth.ok_or_else(|| {
                    error("header of a tile: expected the number of a sample type")
                })?,
            },
            origin: (y as usize, x as usize),
            size: (rows as usize, columns as usize),
            region: Region {
                top: top as usize,
                left: left as usize,
                height: height as usize,
                width: width as usize,
            },
            scale: Scale {
                low: low as f32,
                high: high as f32,
                is_limit: is_limit == 1.0,
            },
        })
    }
}

/// A network in one instance.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Denoiser(Model);

#[wasm_bindgen]
impl Denoiser {
    /// The network in a weight file: safetensors, or any other format that n2n reads. `name` is the file's name in
    /// errors.
    ///
    /// # Errors
    /// If it is not a weight file, or its network is for images other than gray or RGB.
    #[wasm_bindgen(constructor)]
    pub fn new(weights: &[u8], name: &str) -> Result<Denoiser, JsError> {
        decode(weights, name).map(Self).map_err(error)
    }

    /// Number of channels that the network processes together: 1 for gray, 3 for RGB.
    #[wasm_bindgen(getter)]
    pub fn channels(&self) -> usize {
        self.0.channels()
    }

    /// The range of values that the model was fitted to or trained on, for [`Picture::check_range`]; empty if it has
    /// none.
    ///
    /// # Errors
    /// If the metadata state an invalid range.
    pub fn range(&self) -> Result<Vec<f64>, JsError> {
        let range = ModelRange::of(self.0.metadata()).map_err(error)?;
        let numbers =
            |ModelRange { low, high, depth }| vec![low.into(), high.into(), number_of(depth)];
        Ok(range.map_or(vec![], numbers))
    }

    /// The samples of the tile's region, denoised. `strength`, 0 to 1, is the fraction of the network's change that
    /// is applied.
    ///
    /// # Errors
    /// If the tile or the strength is invalid.
    pub fn denoise(&self, tile: &Tile, strength: f32) -> Result<Vec<f32>, JsError> {
        self.denoised(tile, strength).map_err(error)
    }
}

impl Denoiser {
    fn denoised(&self, tile: &Tile, strength: f32) -> n2n::Result<Vec<f32>> {
        let model = &self.0;
        // The range that the model was trained on takes precedence over that of the picture.
        let range = ModelRange::of(model.metadata())?;
        let scale = range.map_or(tile.scale, |range| range.scale(tile.block.depth));
        let options = DenoiseOptions {
            strength,
            scale: Some(scale),
            ..DenoiseOptions::default()
        };
        let &Tile {
            ref block,
            origin,
            size,
            region,
            ..
        } = tile;
        Ok(model
            .denoise_block(block, origin, size, region, &options)?
            .data)
    }
}
