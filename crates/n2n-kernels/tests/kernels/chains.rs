//! 1×1 convolutions one after another, including picked pixels and training.

use n2n_kernels::arena::Arena;
use n2n_kernels::bands::{self, First, Then};
use n2n_kernels::conv::{self, Conv, Pointwise, Position, Size};
use n2n_kernels::pool;
use n2n_kernels::reference;
use n2n_kernels::tensor::{Shape, Tensor};
use n2n_kernels::{Epilogue, Level, Picks};

use crate::{assert_close, on_threads, read, tensor, values, wide};

#[test]
fn a_chain_of_1x1_convolutions_is_one_after_another() {
    for level in Level::available() {
        for (h, w) in [(1, 1), (3, 47), (2, 48), (1, 49), (1, 101)] {
            for channels in [&[3, 8][..], &[24, 96, 3], &[17, 9, 31, 5]] {
                let shape = Shape {
                    n: 2,
                    h,
                    w,
                    c: channels[0],
                };
                let input = tensor(shape, &values(2 * h * w * channels[0], 1));
                let convs: Vec<Conv> = channels
                    .windows(2)
                    .map(|pair| {
                        let (w, b) = (values(pair[0] * pair[1], 2), values(pair[1], 3));
                        Conv::forward(Size::One, &[pair[0]], &w, &b)
                    })
                    .collect();
                let chain: Vec<_> = convs
                    .iter()
                    .map(|conv| (conv, Epilogue::LeakyRelu(0.2)))
                    .collect();
                let mut want = tensor(shape, &read(&input));
                for ((conv, epilogue), c) in chain.iter().zip(&channels[1..]) {
                    let mut next = Tensor::zeros(Shape { c: *c, ..shape });
                    conv.run(level, &[&want], &mut next, *epilogue);
                    want = next;
                }
                let mut got = Tensor::zeros(want.shape());
                conv::run_chain(level, &chain, &input, &mut got);
                assert_eq!(read(&got), read(&want), "{level} {h}x{w} {channels:?}");
            }
        }
    }
}

/// 1×1 layers in training, some with a `LeakyReLU`, whose input is the output of a `LeakyReLU`.
struct Learning {
    size: (usize, usize, usize),
    /// Channels of the input, then of each layer's output.
    channels: Vec<usize>,
    /// The slope of each layer.
    slopes: Vec<Option<f32>>,
    input: Vec<f32>,
    weights: Vec<Vec<f32>>,
    biases: Vec<Vec<f32>>,
    target: Vec<f32>,
}

impl Learning {
    fn new((n, h, w): (usize, usize, usize), channels: &[usize], slopes: &[Option<f32>]) -> Self {
        let count = n * h * w;
        let mut input = values(count * channels[0], 1);
        for value in &mut input {
            *value = if *value > 0.0 { *value } else { 0.2 * *value };
        }
        // Scaled so that intermediate values stay of order 1, for the error bound.
        let pairs = channels.windows(2).zip(2..);
        let weight = |(pair, seed): (&[usize], u64)| {
            let weight = values(pair[0] * pair[1], seed);
            weight.iter().map(|w| w / pair[0] as f32).collect()
        };
        Self {
            size: (n, h, w),
            channels: channels.to_vec(),
            slopes: slopes.to_vec(),
            input,
            weights: pairs.clone().map(weight).collect(),
            biases: pairs
                .map(|(pair, seed)| values(pair[1], seed + 3))
                .collect(),
            target: values(count * channels[slopes.len()], 9),
        }
    }

    /// Input and output channels of a layer.
    fn pair(&self, i: usize) -> [usize; 2] {
        [self.channels[i], self.channels[i + 1]]
    }

    /// The gradient of the input, the gradients of each layer's weight and bias, and Σ (y − t)² and Σ y, whose sum
    /// these are gradients of; computed by f64 loops.
    fn definition(&self) -> (Vec<f64>, Vec<[Vec<f64>; 2]>, [f64; 2]) {
        let (n, h, w) = self.size;
        let shape = |c| Shape { n, h, w, c };
        let layers = self.slopes.len();
        let mut outputs = vec![wide(&self.input)];
        for (i, slope) in self.slopes.iter().enumerate() {
            let (weight, bias) = (wide(&self.weights[i]), wide(&self.biases[i]));
            let y = reference::conv(&outputs[i], shape(self.channels[i]), &weight, &bias, 1);
            outputs.push(match slope {
                Some(slope) => reference::leaky_relu(&y, f64::from(*slope)),
                None => y,
            });
        }
        let last = &outputs[layers];
        let pairs = || last.iter().zip(&self.target);
        let errors: Vec<f64> = pairs().map(|(&y, &t)| y - f64::from(t)).collect();
        let losses = [
            errors.iter().map(|error| error * error).sum(),
            last.iter().sum(),
        ];
        let mut dy: Vec<f64> = errors.iter().map(|error| 2.0 * error + 1.0).collect();
        // Maps the gradient of a `LeakyReLU`'s output to that of its input, given the output.
        let sloped = |dy: Vec<f64>, y: &[f64], slope: f32| -> Vec<f64> {
            let pairs = dy.into_iter().zip(y);
            pairs
                .map(|(g, &y)| if y > 0.0 { g } else { g * f64::from(slope) })
                .collect()
        };
        let mut gradients = vec![];
        for i in (0..layers).rev() {
            if let Some(slope) = self.slopes[i] {
                dy = sloped(dy, &outputs[i + 1], slope);
            }
            let (input, weight) = (&outputs[i], wide(&self.weights[i]));
            let [inputs, outputs] = self.pair(i);
            let (dx, dw, db) =
                reference::conv_gradients(input, shape(inputs), &weight, &dy, outputs, 1);
            gradients.insert(0, [dw, db]);
            dy = dx;
        }
        (sloped(dy, &outputs[0], 0.2), gradients, losses)
    }

    /// The same, computed by the kernel.
    fn kernel(&self, level: Level, threads: usize) -> (Vec<f32>, Vec<conv::Gradients>, [f64; 2]) {
        let (n, h, w) = self.size;
        let convs = (0..self.slopes.len()).map(|i| {
            let [inputs, outputs] = self.pair(i);
            let weight = &self.weights[i];
            (
                Conv::forward(Size::One, &[inputs], weight, &self.biases[i]),
                Conv::input_gradient(Size::One, outputs, inputs, 0..inputs, weight),
            )
        });
        let convs: Vec<_> = convs.collect();
        let layers = convs.iter().zip(&self.slopes);
        let layers = layers.map(|((forward, backward), &slope)| Pointwise {
            forward,
            backward,
            slope,
        });
        let layers: Vec<_> = layers.collect();
        let loss = |Position { n, y, x }: Position, outputs: &mut [f32]| {
            let c = self.channels[self.slopes.len()];
            let targets = self.target[((n * h + y) * w + x) * c..].chunks_exact(c);
            let mut sums = [0.0; 2];
            let pixels = outputs.chunks_exact_mut(c.next_multiple_of(8));
            for (pixel, target) in pixels.zip(targets) {
                for (value, &target) in pixel.iter_mut().zip(target) {
                    let error = f64::from(*value) - f64::from(target);
                    sums[0] += error * error;
                    sums[1] += f64::from(*value);
                    *value = (2.0 * error + 1.0) as f32;
                }
            }
            sums
        };
        let c = self.channels[0];
        on_threads(threads, || {
            let mut pixels = tensor(Shape { n, h, w, c }, &self.input);
            let (gradients, losses) = conv::learn_chain(level, &layers, &mut pixels, 0.2, loss);
            (read(&pixels), gradients, losses)
        })
    }
}

/// Rows are shorter and longer than the run of pixels that is processed together, and batches have more and fewer
/// rows than there are parts.
#[test]
fn a_chain_that_learns_matches_the_definition_on_any_number_of_threads() {
    let (channels, slopes) = ([25, 17, 51, 3], [Some(0.2), Some(0.2), None]);
    for level in Level::available() {
        for size in [(1, 1, 1), (2, 3, 5), (1, 19, 64), (3, 7, 131)] {
            let learning = Learning::new(size, &channels, &slopes);
            let got = assert_learns(level, &learning);
            for threads in [2, 3, 7] {
                assert!(
                    got == learning.kernel(level, threads),
                    "{level} {size:?} {threads}"
                );
            }
        }
    }
}

/// A single layer, a `LeakyReLU` after the last one, none between two, and outputs of several vectors and of several
/// panels.
#[test]
fn a_chain_that_learns_may_have_any_layers() {
    let leaky = Some(0.2);
    let chains: [(&[usize], &[Option<f32>]); 5] = [
        (&[9, 3], &[None]),
        (&[13, 11], &[Some(0.3)]),
        (&[25, 17, 20], &[leaky, leaky]),
        (&[8, 24, 9, 16], &[None, leaky, None]),
        (&[10, 5, 59], &[leaky, Some(0.5)]),
    ];
    for level in Level::available() {
        for (channels, slopes) in chains {
            for size in [(1, 1, 1), (2, 17, 3), (1, 2, 67)] {
                assert_learns(level, &Learning::new(size, channels, slopes));
            }
        }
    }
}

/// Compares the kernel on one thread with the definition; returns the kernel's result.
fn assert_learns(level: Level, learning: &Learning) -> (Vec<f32>, Vec<conv::Gradients>, [f64; 2]) {
    let (size, channels) = (learning.size, &learning.channels);
    let widest = *channels.iter().max().unwrap();
    let terms = 4 * size.0 * size.1 * size.2;
    let outputs = channels[learning.slopes.len()].div_ceil(3);
    let (want_dx, want, want_losses) = learning.definition();
    let got = learning.kernel(level, 1);
    let (dx, gradients, losses) = &got;
    for (got, want) in losses.iter().zip(want_losses) {
        let error = (got - want).abs();
        assert!(
            error <= 1e-6 * (outputs * terms) as f64,
            "{level} {size:?} {channels:?}: a loss is off by {error}"
        );
    }
    let what = |of: &str, i| format!("{level} {size:?} {channels:?}, {of} {i}");
    assert_close(dx, &want_dx, widest, &what("gradient of the input", 0));
    assert_eq!(gradients.len(), want.len());
    for (i, (got, [dw, db])) in gradients.iter().zip(&want).enumerate() {
        assert_close(&got.weight, dw, terms, &what("weight", i));
        assert_close(&got.bias, db, terms, &what("bias", i));
    }
    got
}

#[test]
#[should_panic(expected = "a chain of at least one")]
fn a_chain_of_no_layer_that_learns_is_refused() {
    learn_from_a_pixel(&[]);
}

#[test]
#[should_panic(expected = "a layer's gradient")]
fn a_chain_that_learns_refuses_the_gradient_of_some_inputs() {
    let (weight, bias) = (values(15, 1), values(5, 2));
    learn_from_a_pixel(&[Pointwise {
        forward: &Conv::forward(Size::One, &[3], &weight, &bias),
        backward: &Conv::input_gradient(Size::One, 5, 3, 0..2, &weight),
        slope: None,
    }]);
}

#[test]
#[should_panic(expected = "slope of the LeakyReLU")]
fn a_chain_that_learns_refuses_a_slope_that_hides_signs() {
    let (weight, bias) = (values(15, 1), values(5, 2));
    learn_from_a_pixel(&[Pointwise {
        forward: &Conv::forward(Size::One, &[3], &weight, &bias),
        backward: &Conv::input_gradient(Size::One, 5, 3, 0..3, &weight),
        slope: Some(-0.2),
    }]);
}

fn learn_from_a_pixel(layers: &[Pointwise]) {
    let shape = Shape {
        n: 1,
        h: 1,
        w: 1,
        c: 3,
    };
    let (level, mut pixels) = (Level::detect(), Tensor::zeros(shape));
    conv::learn_chain(level, layers, &mut pixels, 0.2, |_, _| [0.0; 2]);
}

/// Odd sizes, whose last row and column belong to no cell, and outputs of more than one vector.
#[test]
fn a_picked_chain_matches_the_definition() {
    let leaky = Epilogue::LeakyRelu(0.2);
    // Divided by the square root of the number of terms, so that intermediate values stay of order 1.
    let layer = |outputs: usize, inputs: usize, area: usize, seed| {
        let weight = values(outputs * inputs * area, seed);
        let root = ((inputs * area + 1) as f32).sqrt();
        let bias = values(outputs, seed + 1);
        [weight, bias].map(|values| values.iter().map(|v| v / root).collect::<Vec<_>>())
    };
    let [w0, b0] = layer(18, 3, 9, 2);
    let [w1, b1] = layer(21, 18, 9, 4);
    for (n, h, w) in [(2, 7, 13), (1, 33, 21), (1, 8, 9)] {
        let shape = |c| Shape { n, h, w, c };
        let x = values(n * h * w * 3, 1);
        let cells = (0..n * (h / 2) * (w / 2)).map(|i| i * 5 + i / 7);
        let pairs: Vec<_> = cells
            .map(|i| [i % 4, (i / 3) % 4].map(|p| p as u8))
            .collect();
        for c in [9, 17] {
            let [w2, b2] = layer(c, 21, 1, 6);
            let mut want = wide(&x);
            for (from, weight, bias, k) in [(3, &w0, &b0, 3), (18, &w1, &b1, 3), (21, &w2, &b2, 1)]
            {
                want = reference::conv(&want, shape(from), &wide(weight), &wide(bias), k);
                want = reference::leaky_relu(&want, 0.2);
            }
            // The picked pixels, each with the zeros that fill its last vector.
            let padded = c.next_multiple_of(8);
            let mut picked = vec![];
            for (cell, pair) in pairs.iter().enumerate() {
                let (row, x) = (cell / (w / 2), cell % (w / 2));
                let (image, y) = (row / (h / 2), row % (h / 2));
                for &number in pair {
                    let (y, x) = (
                        2 * y + usize::from(number / 2),
                        2 * x + usize::from(number % 2),
                    );
                    let from = ((image * h + y) * w + x) * c;
                    picked.extend(&want[from..from + c]);
                    picked.resize(picked.len() + padded - c, 0.0);
                }
            }

            let convs = [
                Conv::forward(Size::Three, &[3], &w0, &b0),
                Conv::forward(Size::Three, &[18], &w1, &b1),
                Conv::forward(Size::One, &[21], &w2, &b2),
            ];
            for level in Level::available() {
                let mut got = Tensor::zeros(Shape {
                    c: 2 * padded,
                    ..pool::pooled(shape(c))
                });
                let image = tensor(shape(3), &x);
                bands::run(
                    level,
                    (First::Conv(&convs[0], &image), leaky),
                    (&convs[1], leaky),
                    Then::PickedChain(&[(&convs[2], leaky)], Picks::new(shape(3), &pairs)),
                    &mut got,
                    &mut Arena::default(),
                );
                let what = format!("{level}, {n} of {h}x{w}, {c} channels");
                // The largest number of terms summed by any of the layers.
                assert_close(&read(&got), &picked, 18 * 9 + 1, &what);
            }
        }
    }
}

#[test]
#[should_panic(expected = "a pair for each cell")]
fn picks_of_another_number_of_cells_are_refused() {
    let images = Shape {
        n: 2,
        h: 5,
        w: 4,
        c: 3,
    };
    Picks::new(images, &[[0, 1]; 9]);
}

#[test]
#[should_panic(expected = "a pixel of the cell")]
fn a_pick_beyond_the_cell_is_refused() {
    let images = Shape {
        n: 1,
        h: 2,
        w: 4,
        c: 3,
    };
    Picks::new(images, &[[0, 1], [3, 4]]);
}
