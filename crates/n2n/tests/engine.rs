//! The whole network on the kernels, against the same layers computed in f64 with the loops of
//! `n2n_kernels::reference`: outputs, losses and every gradient; and the same bits on any number of threads.

use n2n::batch::Batch;
use n2n::cpu::{CpuNetwork, Level};
use n2n::neighbors::Neighbors;
use n2n::network::{Denoise, LossFactors, Train};
use n2n::unet::{Kind, LEAKY_SLOPE, Layer, Skip, UNet};
use n2n::weights::Weights;
use n2n_kernels::reference;
use n2n_kernels::tensor::Shape;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// The most a forward pass may err, root mean square relative to the output's.
const FORWARD: f64 = 5e-6;
/// The same for the gradient of a tensor.
const GRADIENT: f64 = 1e-5;

#[test]
fn outputs_of_the_papers_network_are_those_of_f64_to_within_rounding() {
    let unet = UNet::default();
    let noisy = noise(2, 32, 64, 3);
    let want = Reference::new(&network(unet, Level::Scalar)).outputs(&noisy);
    for level in Level::available() {
        let got = network(unet, level).denoise(&noisy).unwrap();
        let (error, size) = relative(&got.data, &want);
        println!("{level}: error {error:.2e} of outputs of {size:.2}");
        assert!((0.1..10.0).contains(&size), "outputs of order 1: {size}");
        assert!(error <= FORWARD, "{level}: {error:e}");
    }
}

/// Images large enough that upsamplings are merged with the layers after them, and several bands high.
#[test]
fn large_images_take_the_other_paths_to_the_same_outputs() {
    let unet = UNet::new(8, 3).unwrap();
    let mut network = network(unet, Level::detect());
    let noisy = noise(4, 256, 32, 3);
    let got = network.denoise(&noisy).unwrap();
    let (error, _) = relative(&got.data, &Reference::new(&network).outputs(&noisy));
    assert!(error <= FORWARD, "{error:e}");
}

#[test]
fn any_width_any_channels_any_batch_is_right() {
    for (f, c, n, h, w) in [
        (1, 1, 1, 32, 32),
        (1, 4, 2, 32, 64),
        (8, 1, 3, 32, 32),
        (47, 3, 1, 32, 64),
        (48, 4, 1, 32, 32),
        (64, 1, 1, 32, 32),
    ] {
        let (unet, noisy) = (UNet::new(f, c).unwrap(), noise(n, h, w, c));
        let want = Reference::new(&network(unet, Level::Scalar)).outputs(&noisy);
        for level in Level::available() {
            let got = network(unet, level).denoise(&noisy).unwrap();
            let (error, _) = relative(&got.data, &want);
            let what = format!("{level}, n_feature {f}, {n} of {h}x{w}x{c}");
            assert!(error <= FORWARD, "{what}: {error:e}");
        }
    }
}

/// A network of other sizes than the paper's.
fn sized(n_feature: usize, n_channel: usize, [n_depth, head_width, r]: [usize; 3]) -> UNet {
    UNet {
        n_depth,
        head_width,
        pixel_shuffle: r,
        ..UNet::new(n_feature, n_channel).unwrap()
    }
}

#[test]
fn networks_of_other_depths_and_heads_and_in_blocks_of_pixels_are_right() {
    for (unet, n, h, w) in [
        (sized(8, 3, [4, 16, 2]), 2, 64, 96),
        // Merged layers and bands.
        (sized(24, 3, [4, 40, 2]), 1, 512, 256),
        (sized(5, 1, [1, 7, 3]), 2, 24, 36),
        (sized(16, 4, [2, 24, 1]), 1, 32, 20),
        (sized(3, 1, [3, 96, 4]), 1, 64, 32),
    ] {
        let noisy = noise(n, h, w, unet.n_channel);
        let want = Reference::new(&network(unet, Level::Scalar)).outputs(&noisy);
        for level in Level::available() {
            let got = network(unet, level).denoise(&noisy).unwrap();
            let (error, _) = relative(&got.data, &want);
            assert!(error <= FORWARD, "{level}, {unet}: {error:e}");
        }
    }
}

#[test]
fn losses_and_gradients_match_the_chain_rule_in_f64() {
    let factors = LossFactors {
        lambda1: 1.0,
        lambda2: 1.0,
        lambda: 0.7,
    };
    for (unet, n, h, w) in [
        (UNet::new(20, 3).unwrap(), 1, 64, 64),
        (UNet::new(7, 4).unwrap(), 1, 128, 64),
        (sized(20, 3, [4, 24, 2]), 1, 64, 128),
        (sized(6, 1, [2, 9, 3]), 2, 24, 48),
    ] {
        let noisy = noise(n, h, w, unet.n_channel);
        let neighbors = Neighbors::draw(&noisy, &mut ChaCha8Rng::seed_from_u64(3));
        let reference = Reference::new(&network(unet, Level::Scalar));
        let (losses, want) = reference.step(&noisy, &neighbors, factors);
        for level in Level::available() {
            let mut network = network(unet, level);
            let got = network.step(&noisy, &neighbors, factors, 1e-4).unwrap();
            for (got, want) in [(got.loss1, losses[0]), (got.loss2, losses[1])] {
                assert!((got - want).abs() <= 1e-5 * want, "{level}: {got} {want}");
            }
            let gradients = network.gradients();
            for (spec, want) in unet.tensors().iter().zip(&want) {
                let got = values(&gradients, &spec.name);
                let (error, size) = relative(&got, want);
                let what = format!("{level}, {unet}, {}", spec.name);
                assert!(
                    size > 0.0 && error <= GRADIENT,
                    "{what}: {error:e} of {size:e}"
                );
            }
        }
    }
}

/// The loss is half of the mean squared distance from a target.
///
/// The gradient jumps where an activation passes 0 or a pooling takes another pixel. In some images rounding decides
/// such a case; hence there are three images, at least one of which has to be right everywhere.
#[test]
fn the_gradient_of_the_image_matches_the_chain_rule_in_f64() {
    let shuffled = UNet {
        n_feature: 6,
        n_channel: 2,
        n_depth: 3,
        head_width: 8,
        pixel_shuffle: 2,
    };
    for (unet, n, h, w) in [
        (UNet::new(5, 4).unwrap(), 1, 32, 32),
        (UNet::new(8, 1).unwrap(), 2, 32, 64),
        (UNet::new(20, 3).unwrap(), 1, 32, 32),
        (shuffled, 1, 32, 48),
    ] {
        let (c, block) = (unet.n_channel, unet.pixel_shuffle);
        let reference = Reference::new(&network(unet, Level::Scalar));
        let target = 0.3;
        let images: Vec<_> = (0..3)
            .map(|k| {
                let mut images = noise(n, h, w, c);
                images.data.rotate_left(100 * k);
                let tape = reference.forward(&images);
                let count = images.data.len() as f64;
                let output = tape.outputs.last().unwrap();
                let of_output = output.data.iter().map(|v| (v - target) / count).collect();
                let of_input = Map {
                    data: reference.backward(&tape, of_output).1,
                    ..tape.inputs[0].clone()
                };
                let want = pixels_of(&of_input, block).data;
                (images, pixels_of(output, block).data, want)
            })
            .collect();
        for level in Level::available() {
            let mut network = network(unet, level);
            let weights = network.weights();
            let what = format!("{level}, {unet}, {n} of {h}x{w}");
            let errors = images.iter().map(|(images, output, want)| {
                let got = network.image_gradient(images, |given| {
                    let (error, _) = relative(&given.data, output);
                    assert!(error <= FORWARD, "{what}: {error:e}");
                    let count = given.data.len() as f32;
                    let of_output = given.data.iter().map(|v| (v - target as f32) / count);
                    Batch::new(n, h, w, c, of_output.collect())
                });
                let (error, size) = relative(&got.unwrap().data, want);
                assert!(size > 0.0 && error <= 0.1, "{what}: {error:e}");
                error
            });
            let best = errors.fold(f64::INFINITY, f64::min);
            println!("{what}: {best:.1e}");
            assert!(best <= GRADIENT, "{what}: {best:e}");
            assert!(network.weights() == weights);
        }
    }
}

/// What the loss changes by when the image does, without the chain rule: differences in f64.
#[test]
fn the_gradient_of_the_image_is_what_differences_say() {
    let (unet, images) = (UNet::new(2, 1).unwrap(), noise(1, 32, 32, 1));
    let mut network = network(unet, Level::detect());
    let reference = Reference::new(&network);
    let gradient = network.image_gradient(&images, Clone::clone).unwrap();
    let size = (gradient.data.iter().map(|g| g * g).sum::<f32>() / 1024.0).sqrt();
    // Half of the sum of the squares, when one pixel moves by what is exact in f32.
    let step = 1.0 / f64::from(1 << 16);
    let loss = |at: usize, sign: f64| {
        let mut moved = images.clone();
        moved.data[at] += (sign * step) as f32;
        let squares = reference.outputs(&moved);
        squares.iter().map(|v| v * v / 2.0).sum::<f64>()
    };
    let mut errors = [0, 333, 1023, 528, 47, 799, 512].map(|at| {
        let want = (loss(at, 1.0) - loss(at, -1.0)) / (2.0 * step);
        (gradient.data[at] - want as f32).abs() / size
    });
    errors.sort_by(f32::total_cmp);
    // Few of them step over a kink of the network.
    assert!(errors[4] <= 2e-3, "{errors:?}");
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let factors = LossFactors {
        lambda1: 1.0,
        lambda2: 1.0,
        lambda: 2.0,
    };
    let run = |threads: usize, level: Level| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let mut network = network(UNet::new(17, 3).unwrap(), level);
            let mut bits = vec![];
            for step in 0..2 {
                // Large enough for the last layers to be merged while training.
                let noisy = noise(2, 128, 256, 3);
                let neighbors = Neighbors::draw(&noisy, &mut ChaCha8Rng::seed_from_u64(step));
                let losses = network.step(&noisy, &neighbors, factors, 1e-3).unwrap();
                bits.push(losses.loss_full.to_bits());
            }
            let gradient = network.image_gradient(&noise(1, 128, 160, 3), Clone::clone);
            bits.extend(
                gradient
                    .unwrap()
                    .data
                    .iter()
                    .map(|v| u64::from(v.to_bits())),
            );
            let denoised = network.denoise(&noise(1, 256, 160, 3)).unwrap();
            bits.extend(denoised.data.iter().map(|v| u64::from(v.to_bits())));
            for spec in network.architecture().tensors() {
                let weights = values(&network.weights(), &spec.name);
                bits.extend(weights.iter().map(|v| u64::from(v.to_bits())));
            }
            bits
        })
    };
    for level in Level::available() {
        let one = run(1, level);
        for threads in [2, 3, 7] {
            assert!(one == run(threads, level), "{level}, {threads} threads");
        }
    }
}

/// A network whose outputs are of order 1, biases included.
fn network(unet: UNet, level: Level) -> CpuNetwork {
    let mut network = CpuNetwork::initial_scaled(unet, 1.0, 5);
    network.set_level(level);
    let mut state = 9;
    let mut parameters = vec![];
    for spec in unet.tensors() {
        let mut tensor = values(&network.weights(), &spec.name);
        if spec.name.ends_with("bias") {
            tensor.fill_with(|| 0.2 * random(&mut state) - 0.1);
        }
        parameters.extend(tensor);
    }
    let weights = Weights::from_parameters(&unet, &parameters);
    network.set_weights(&weights).unwrap();
    network
}

/// The values of a tensor of weights.
fn values(weights: &Weights, name: &str) -> Vec<f32> {
    weights.tensors[name].data.clone()
}

fn random(state: &mut u64) -> f32 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 40) as f32 / (1 << 24) as f32
}

fn noise(n: usize, h: usize, w: usize, c: usize) -> Batch {
    let mut state = 7;
    let mut batch = Batch::zeros(n, h, w, c);
    batch.data.fill_with(|| random(&mut state));
    batch
}

/// The root mean square of the difference relative to that of `want`, and that of `want` itself.
fn relative(got: &[f32], want: &[f64]) -> (f64, f64) {
    assert_eq!(got.len(), want.len());
    let mean = |sum: f64| (sum / want.len() as f64).sqrt();
    let pairs = got.iter().zip(want);
    let error = mean(pairs.map(|(&g, w)| (f64::from(g) - w).powi(2)).sum());
    let size = mean(want.iter().map(|w| w * w).sum());
    (error / size, size)
}

/// The layers of the network in f64.
struct Reference {
    unet: UNet,
    layers: Vec<Layer>,
    /// Weight and bias of each layer.
    parameters: Vec<(Vec<f64>, Vec<f64>)>,
}

/// An activation.
#[derive(Clone)]
struct Map {
    shape: Shape,
    data: Vec<f64>,
}

/// What a forward pass leaves for the chain rule.
struct Tape {
    /// Each layer's inputs, joined.
    inputs: Vec<Map>,
    /// Each layer's output, before pooling.
    outputs: Vec<Map>,
}

impl Reference {
    fn new(network: &CpuNetwork) -> Self {
        let unet = network.architecture();
        let weights = network.weights();
        let wide = |name: String| -> Vec<f64> {
            values(&weights, &name).into_iter().map(f64::from).collect()
        };
        let layers = unet.layers();
        let parameters = layers
            .iter()
            .map(|layer| {
                let weight = wide(format!("{}.weight", layer.name));
                (weight, wide(format!("{}.bias", layer.name)))
            })
            .collect();
        Self {
            unet,
            layers,
            parameters,
        }
    }

    fn outputs(&self, noisy: &Batch) -> Vec<f64> {
        let images = (0..noisy.n).into_par_iter().map(|i| {
            let image = noisy.image(i).to_vec();
            let image = Batch::new(1, noisy.h, noisy.w, noisy.c, image);
            let output = self.forward(&image).outputs.pop().unwrap();
            pixels_of(&output, self.unet.pixel_shuffle).data
        });
        images.collect::<Vec<_>>().concat()
    }

    fn forward(&self, noisy: &Batch) -> Tape {
        let image = Map {
            shape: Shape {
                n: noisy.n,
                h: noisy.h,
                w: noisy.w,
                c: noisy.c,
            },
            data: noisy.data.iter().map(|&v| f64::from(v)).collect(),
        };
        let image = blocks_of(&image, self.unet.pixel_shuffle);
        let mut tape = Tape {
            inputs: vec![],
            outputs: vec![],
        };
        let mut pools: Vec<Map> = vec![];
        let mut current = image.clone();
        for (layer, (weight, bias)) in self.layers.iter().zip(&self.parameters) {
            let input = match layer.skip {
                None => current,
                Some(Skip::Pool(k)) => join(&current, &pools[k - 1]),
                Some(Skip::Image) => join(&current, &image),
            };
            let data = match layer.kind {
                Kind::Conv3x3 => reference::conv(&input.data, input.shape, weight, bias, 3),
                Kind::Conv1x1 => reference::conv(&input.data, input.shape, weight, bias, 1),
                Kind::Up2x2 => reference::upsample(&input.data, input.shape, weight, bias),
            };
            let data = if layer.activation {
                reference::leaky_relu(&data, f64::from(LEAKY_SLOPE))
            } else {
                data
            };
            let times = if layer.kind == Kind::Up2x2 { 2 } else { 1 };
            let output = Map {
                shape: Shape {
                    n: input.shape.n,
                    h: times * input.shape.h,
                    w: times * input.shape.w,
                    c: layer.outputs,
                },
                data,
            };
            current = output.clone();
            if layer.pool {
                let places = reference::max_pool_indices(&output.data, output.shape);
                current = Map {
                    shape: n2n_kernels::pool::pooled(output.shape),
                    data: places.iter().map(|&at| output.data[at]).collect(),
                };
                pools.push(current.clone());
            }
            tape.inputs.push(input);
            tape.outputs.push(output);
        }
        tape
    }

    /// Loss1, Loss2, and the gradient of every tensor.
    fn step(
        &self,
        noisy: &Batch,
        neighbors: &Neighbors,
        factors: LossFactors,
    ) -> ([f64; 2], Vec<Vec<f64>>) {
        let (input, target) = neighbors.sub_sample(noisy);
        // The sub-sampler moves values and rounds none, so that one in f32 serves.
        let narrow = |data: Vec<f64>| data.into_iter().map(|v| v as f32).collect();
        let (n, h, w, c) = (noisy.n, noisy.h, noisy.w, noisy.c);
        let denoised = Batch::new(n, h, w, c, narrow(self.outputs(noisy)));
        let (first, second) = neighbors.sub_sample(&denoised);
        let tape = self.forward(&input);
        let block = self.unet.pixel_shuffle;
        let output = pixels_of(tape.outputs.last().unwrap(), block);
        let count = output.data.len() as f64;
        let (mut losses, mut gradient) = ([0.0; 2], vec![]);
        for (i, value) in output.data.iter().enumerate() {
            let diff = value - f64::from(target.data[i]);
            let gap = diff - (f64::from(first.data[i]) - f64::from(second.data[i]));
            losses[0] += diff * diff / count;
            losses[1] += factors.lambda * gap * gap / count;
            let slope = factors.lambda1 * diff + factors.lambda2 * factors.lambda * gap;
            gradient.push(2.0 * slope / count);
        }
        let gradient = Map {
            data: gradient,
            ..output
        };
        let gradient = blocks_of(&gradient, block).data;
        (losses, self.backward(&tape, gradient).0)
    }

    /// The gradient of every tensor, and of the image.
    fn backward(&self, tape: &Tape, gradient: Vec<f64>) -> (Vec<Vec<f64>>, Vec<f64>) {
        let mut tensors = vec![];
        let mut image = vec![0.0; tape.inputs[0].data.len()];
        // The gradient of each pooling's output, as far as it is known.
        let mut pools: Vec<Vec<f64>> = vec![];
        for (layer, output) in self.layers.iter().zip(&tape.outputs) {
            if layer.pool {
                pools.push(vec![0.0; output.data.len() / 4]);
            }
        }
        let mut pool = pools.len();
        let mut gradient = gradient;
        for (i, layer) in self.layers.iter().enumerate().rev() {
            let (input, output) = (&tape.inputs[i], &tape.outputs[i]);
            if layer.pool {
                pool -= 1;
                for (sum, value) in pools[pool].iter_mut().zip(&gradient) {
                    *sum += value;
                }
                gradient = vec![0.0; output.data.len()];
                let places = reference::max_pool_indices(&output.data, output.shape);
                for (&at, value) in places.iter().zip(&pools[pool]) {
                    gradient[at] += value;
                }
            }
            if layer.activation {
                for (gradient, &value) in gradient.iter_mut().zip(&output.data) {
                    *gradient *= if value > 0.0 {
                        1.0
                    } else {
                        f64::from(LEAKY_SLOPE)
                    };
                }
            }
            let (weight, bias) = &self.parameters[i];
            let (outputs, k) = (
                layer.outputs,
                if layer.kind == Kind::Conv3x3 { 3 } else { 1 },
            );
            let (before, of_weight, of_bias) = if layer.kind == Kind::Up2x2 {
                let (before, of_weight) = reference::upsample_gradients(
                    &input.data,
                    input.shape,
                    weight,
                    &gradient,
                    outputs,
                );
                let mut of_bias = vec![0.0; bias.len()];
                for pixel in gradient.chunks_exact(outputs) {
                    for (sum, value) in of_bias.iter_mut().zip(pixel) {
                        *sum += value;
                    }
                }
                (before, of_weight, of_bias)
            } else {
                reference::conv_gradients(&input.data, input.shape, weight, &gradient, outputs, k)
            };
            tensors.push(of_bias);
            tensors.push(of_weight);
            // The channels of the skip, and the rest, which are those of the layer above.
            let skipped = layer.skip.map_or(0, |skip| self.unet.skip_channels(skip));
            let main = input.shape.c - skipped;
            gradient = vec![];
            for (at, pixel) in before.chunks_exact(input.shape.c).enumerate() {
                gradient.extend_from_slice(&pixel[..main]);
                if let Some(Skip::Pool(k)) = layer.skip {
                    pools[k - 1][at * skipped..][..skipped].copy_from_slice(&pixel[main..]);
                } else if layer.skip == Some(Skip::Image) {
                    image[at * skipped..][..skipped].copy_from_slice(&pixel[main..]);
                }
            }
        }
        for (sum, value) in image.iter_mut().zip(&gradient) {
            *sum += value;
        }
        tensors.reverse();
        (tensors, image)
    }
}

/// Where the value of a pixel's channel is in the pixel of a block: the operator `SpaceToDepth` of ONNX.
fn places(shape: Shape, block: usize) -> impl Iterator<Item = usize> {
    let Shape { n, h, w, c } = shape;
    (0..n * h * w * c).map(move |i| {
        let (image, y, x, k) = (i / (h * w * c), i / (w * c) % h, i / c % w, i % c);
        let row = image * (h / block) + y / block;
        let pixel = row * (w / block) + x / block;
        pixel * c * block * block + (y % block * block + x % block) * c + k
    })
}

fn blocks_of(pixels: &Map, block: usize) -> Map {
    let Shape { n, h, w, c } = pixels.shape;
    let mut data = vec![0.0; pixels.data.len()];
    for (at, &value) in places(pixels.shape, block).zip(&pixels.data) {
        data[at] = value;
    }
    let shape = Shape {
        n,
        h: h / block,
        w: w / block,
        c: c * block * block,
    };
    Map { shape, data }
}

fn pixels_of(blocks: &Map, block: usize) -> Map {
    let Shape { n, h, w, c } = blocks.shape;
    let shape = Shape {
        n,
        h: h * block,
        w: w * block,
        c: c / (block * block),
    };
    let data = places(shape, block).map(|at| blocks.data[at]).collect();
    Map { shape, data }
}

fn join(first: &Map, second: &Map) -> Map {
    let pixels = first
        .data
        .chunks_exact(first.shape.c)
        .zip(second.data.chunks_exact(second.shape.c));
    Map {
        shape: Shape {
            c: first.shape.c + second.shape.c,
            ..first.shape
        },
        data: pixels.flat_map(|(a, b)| [a, b].concat()).collect(),
    }
}
