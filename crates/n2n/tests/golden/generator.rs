//! The numbers of `tests/golden/generator.py`, made again: the weights and inputs of the fixtures,
//! which store neither. That file defines every rule here.

use n2n::batch::Batch;
use n2n::neighbors::Neighbors;
use n2n::unet::UNet;
use n2n::weights::Weights;

const IMAGES: u64 = 100;
const PAIRS: u64 = 200;

/// The weights of the network of `seed`.
pub fn weights(seed: u64, unet: &UNet) -> Weights {
    let mut parameters = Vec::with_capacity(unet.parameters());
    for (layer, stream) in unet.layers().iter().zip((0..).step_by(2)) {
        let scale = (6.0 / layer.fan_in() as f64).sqrt();
        let count = layer.weight_shape().iter().product();
        parameters.extend(uniform(seed, stream, -scale, scale).take(count));
        parameters.extend(uniform(seed, stream + 1, -0.1, 0.1).take(layer.outputs));
    }
    Weights::from_parameters(unet, &parameters)
}

/// The noisy images of `seed`.
pub fn images(seed: u64, n: usize, h: usize, w: usize, c: usize) -> Batch {
    let pixels = uniform(seed, IMAGES, -0.2, 1.2).take(n * h * w * c);
    Batch::new(n, h, w, c, pixels.collect())
}

/// The draw of step `step`, counted from 1, for `batch`.
pub fn pairs(seed: u64, step: u64, batch: &Batch) -> Neighbors {
    let (n, h, w) = (batch.n, batch.h / 2, batch.w / 2);
    let pairs = bits(seed, PAIRS + step).map(|z| (z >> 61) as u8);
    Neighbors {
        n,
        h,
        w,
        pairs: pairs.take(n * h * w).collect(),
    }
}

/// Values of [low, high).
fn uniform(seed: u64, stream: u64, low: f64, high: f64) -> impl Iterator<Item = f32> {
    bits(seed, stream).map(move |z| {
        let u = (z >> 40) as f64 / f64::from(1 << 24);
        (u * (high - low) + low) as f32
    })
}

/// `SplitMix64`.
fn bits(seed: u64, stream: u64) -> impl Iterator<Item = u64> {
    let mut state = seed << 32 | stream;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    })
}

#[test]
fn the_generator_gives_the_published_values_of_splitmix64() {
    let first: Vec<u64> = bits(0, 1_234_567).take(3).collect();
    assert_eq!(
        first,
        [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423
        ]
    );
}
