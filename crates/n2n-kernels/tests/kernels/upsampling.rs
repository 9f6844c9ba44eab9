//! Transposed convolutions, by themselves and merged with the convolution after them.

use n2n_kernels::arena::Arena;
use n2n_kernels::reference;
use n2n_kernels::tensor::{Shape, Tensor};
use n2n_kernels::upconv::{self, Layers, UpConv};
use n2n_kernels::upsample::{self, InputGradient, Upsample};
use n2n_kernels::{Epilogue, Level};

use crate::{assert_close, for_every_case, on_threads, read, relative, tensor, values, wide};

#[test]
fn transposed_convolutions_match_the_definition() {
    for_every_case(|level, shape, outputs| {
        let what = format!("{level} {shape:?} -> {outputs}");
        let count = shape.n * shape.h * shape.w;
        let (x, w, b) = (
            values(count * shape.c, 1),
            values(shape.c * outputs * 4, 2),
            values(outputs, 3),
        );
        let input = tensor(shape, &x);
        let out = Shape {
            h: 2 * shape.h,
            w: 2 * shape.w,
            c: outputs,
            ..shape
        };
        let mut y = Tensor::zeros(out);
        Upsample::forward(shape.c, &w, &b).run(level, &input, &mut y);
        let want = reference::upsample(&wide(&x), shape, &wide(&w), &wide(&b));
        assert_close(&read(&y), &want, shape.c + 1, &what);

        let dy = values(4 * count * outputs, 4);
        let (dx, dw) =
            reference::upsample_gradients(&wide(&x), shape, &wide(&w), &wide(&dy), outputs);
        let dy = tensor(out, &dy);
        let mut got = Tensor::zeros(shape);
        InputGradient::new(shape.c, outputs, &w).run(level, &dy, &mut got, Epilogue::Store);
        assert_close(&read(&got), &dx, 4 * outputs, &what);
        let mut got = vec![f32::NAN; w.len()];
        upsample::weight_gradient(level, &input, &dy, &mut got);
        assert_close(&got, &dw, count, &what);
    });
}

/// The parameters of an upsampling and of the convolution after it.
struct Both {
    up_weight: Vec<f32>,
    up_bias: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    image: usize,
}

impl Both {
    /// From `inputs` to `mid` channels, and from these and the channels of an image to `outputs`.
    fn new(inputs: usize, mid: usize, image: usize, outputs: usize) -> Self {
        Self {
            up_weight: values(inputs * mid * 4, 3),
            up_bias: values(mid, 4),
            weight: values(outputs * (mid + image) * 9, 5),
            bias: values(outputs, 6),
            image,
        }
    }

    fn layers(&self) -> Layers<'_> {
        Layers {
            up_weight: &self.up_weight,
            up_bias: &self.up_bias,
            weight: &self.weight,
            bias: &self.bias,
            image: self.image,
        }
    }
}

#[test]
fn an_upsampling_merged_with_the_convolution_after_it_is_both() {
    for level in Level::available() {
        // One tile or less, its edges, several tiles and a remainder.
        for (h, w) in [(1, 1), (3, 4), (4, 3), (5, 9), (2, 13)] {
            for (inputs, mid, image, outputs) in [(1, 1, 1, 1), (2, 3, 3, 9), (17, 8, 4, 33)] {
                let what = format!("{level} {h}x{w} {inputs} {mid} {image} {outputs}");
                let small = Shape {
                    n: 2,
                    h,
                    w,
                    c: inputs,
                };
                let full = |c| Shape {
                    n: 2,
                    h: 2 * h,
                    w: 2 * w,
                    c,
                };
                let (x, picture) = (values(2 * h * w * inputs, 1), values(8 * h * w * image, 2));
                let both = Both::new(inputs, mid, image, outputs);
                let layers = both.layers();
                let mut side = Tensor::zeros(Shape {
                    c: upconv::side_channels(image),
                    ..small
                });
                upconv::side(Some(&tensor(full(image), &picture)), &mut side);
                let mut got = Tensor::zeros(full(outputs));
                UpConv::new(level, layers).run(
                    level,
                    &tensor(small, &x),
                    &side,
                    &mut got,
                    Epilogue::LeakyRelu(0.2),
                );

                let (up_weight, up_bias) = (wide(layers.up_weight), wide(layers.up_bias));
                let doubled = reference::upsample(&wide(&x), small, &up_weight, &up_bias);
                let joined: Vec<f64> = doubled
                    .chunks_exact(mid)
                    .zip(picture.chunks_exact(image))
                    .flat_map(|(up, image)| [up.to_vec(), wide(image)].concat())
                    .collect();
                let joined_shape = full(mid + image);
                let (weight, bias) = (wide(layers.weight), wide(layers.bias));
                let want = reference::conv(&joined, joined_shape, &weight, &bias, 3);
                let want = reference::leaky_relu(&want, 0.2);
                // Each upsampled value is a sum of `inputs` products, and nine times `mid` of them are added.
                let terms = 9 * (mid * (inputs + 1) + image) + 1;
                assert_close(&read(&got), &want, terms, &what);
            }
        }
    }
}

/// The gradients of an upsampling and the convolution after it, by the definition: of the input, which is the output
/// of a `LeakyReLU`, of the first weight and bias, and of the second weight.
fn gradients_of_both(
    layers: Layers,
    small: Shape,
    x: &[f32],
    picture: &[f32],
    dy: &[f32],
    slope: f64,
) -> [Vec<f64>; 4] {
    let (mid, image, outputs) = (layers.up_bias.len(), layers.image, layers.bias.len());
    let (x64, up_weight) = (wide(x), wide(layers.up_weight));
    let doubled = reference::upsample(&x64, small, &up_weight, &wide(layers.up_bias));
    let mut joined = vec![];
    for (i, up) in doubled.chunks_exact(mid).enumerate() {
        joined.extend_from_slice(up);
        joined.extend(wide(&picture[i * image..][..image]));
    }
    let shape = Shape {
        h: 2 * small.h,
        w: 2 * small.w,
        c: mid + image,
        ..small
    };
    let weight = wide(layers.weight);
    let (of_joined, of_weight, _) =
        reference::conv_gradients(&joined, shape, &weight, &wide(dy), outputs, 3);
    let pixels = of_joined.chunks_exact(mid + image);
    let of_doubled: Vec<f64> = pixels.flat_map(|pixel| pixel[..mid].to_vec()).collect();
    let (of_input, of_up) =
        reference::upsample_gradients(&x64, small, &up_weight, &of_doubled, mid);
    let of_input = std::iter::zip(of_input, x)
        .map(|(d, &x)| if x > 0.0 { d } else { slope * d })
        .collect();
    let mut of_bias = vec![0.0; mid];
    for pixel in of_doubled.chunks_exact(mid) {
        for (sum, value) in of_bias.iter_mut().zip(pixel) {
            *sum += value;
        }
    }
    [of_input, of_up, of_bias, of_weight]
}

/// The gradients of both layers' parameters except the second bias, computed by the merged pair and written over NaN.
fn weight_gradients(
    level: Level,
    layers: Layers,
    input: &Tensor,
    side: &Tensor,
    dy: &Tensor,
) -> [Vec<f32>; 3] {
    let mut up_weight = vec![f32::NAN; layers.up_weight.len()];
    let mut up_bias = vec![f32::NAN; layers.up_bias.len()];
    let mut weight = vec![f32::NAN; layers.weight.len()];
    let to = upconv::Gradients {
        up_weight: &mut up_weight,
        up_bias: &mut up_bias,
        weight: &mut weight,
    };
    UpConv::weight_gradient(level, &mut Arena::default(), layers, input, side, dy, to);
    [up_weight, up_bias, weight]
}

#[test]
fn gradients_of_an_upsampling_merged_with_a_convolution_are_those_of_both() {
    let slope = 0.2;
    for level in Level::available() {
        // One tile or less, its edges, and more tiles than a block of the filter gradient holds.
        for (h, w) in [(1, 1), (3, 4), (4, 3), (5, 9), (2, 13), (32, 60)] {
            for (inputs, mid, image, outputs) in [(1, 1, 0, 1), (2, 3, 3, 9), (17, 8, 4, 33)] {
                if h * w > 200 && inputs != 2 {
                    continue;
                }
                let what = format!("{level} {h}x{w} {inputs} {mid} {image} {outputs}");
                let (n, pixels) = (2, 2 * h * w);
                let small = Shape { n, h, w, c: inputs };
                let full = |c| Shape {
                    n,
                    h: 2 * h,
                    w: 2 * w,
                    c,
                };
                let (x, picture) = (values(pixels * inputs, 1), values(4 * pixels * image, 2));
                let both = Both::new(inputs, mid, image, outputs);
                let dy = values(4 * pixels * outputs, 7);

                let layers = both.layers();
                let gradients = |threads: usize| {
                    on_threads(threads, || {
                        let (input, gradient) = (tensor(small, &x), tensor(full(outputs), &dy));
                        let mut side = Tensor::zeros(Shape {
                            c: upconv::side_channels(image),
                            ..small
                        });
                        let picture = (image > 0).then(|| tensor(full(image), &picture));
                        upconv::side(picture.as_ref(), &mut side);
                        let mut of_input = Tensor::zeros(small);
                        let epilogue = Epilogue::Slope(&input, slope as f32);
                        let pair = UpConv::new(level, layers);
                        pair.input_gradient(level, &gradient, &mut of_input, epilogue);
                        let [of_up, of_bias, of_conv] =
                            weight_gradients(level, layers, &input, &side, &gradient);
                        [read(&of_input), of_up, of_bias, of_conv]
                    })
                };
                let got = gradients(1);
                let want = gradients_of_both(layers, small, &x, &picture, &dy, slope);
                let names = ["input", "first weight", "first bias", "second weight"];
                for (i, want) in want.iter().enumerate() {
                    let error = relative(&got[i], want);
                    assert!(error < 1e-5, "{what}, {}: {error:e}", names[i]);
                }
                for threads in [2, 3, 7] {
                    assert_eq!(got, gradients(threads), "{what}, {threads} threads");
                }
            }
        }
    }
}

/// The gradient of the first weight of a merged pair from 8 to 9 channels, for `n` images and an output gradient of
/// `channels` channels.
fn merged_weight_gradient(n: usize, channels: usize) -> Vec<f32> {
    let both = Both::new(8, 8, 0, 9);
    let shape = |h, w, c| Shape { n, h, w, c };
    let input = tensor(shape(3, 5, 8), &values(n * 15 * 8, 5));
    let gradient = tensor(shape(6, 10, channels), &values(n * 60 * channels, 6));
    let mut side = Tensor::zeros(shape(3, 5, 1));
    upconv::side(None, &mut side);
    let [of_up, ..] = weight_gradients(Level::detect(), both.layers(), &input, &side, &gradient);
    of_up
}

#[test]
fn an_empty_batch_gives_a_zero_gradient() {
    assert!(
        merged_weight_gradient(1, 9)
            .iter()
            .any(|&value| value != 0.0)
    );
    assert_eq!(merged_weight_gradient(0, 9), [0.0; 256]);
}

#[test]
#[should_panic(expected = "shape of the output's gradient")]
fn a_gradient_of_other_channels_is_refused() {
    merged_weight_gradient(1, 17);
}
