//! Every kernel at every level against the f64 loops of `reference`, over sizes around the register
//! tile and odd channel counts, and the same bits for any number of threads.

use n2n_kernels::adam::{Adam, BETA1, BETA2, EPSILON};
use n2n_kernels::bands::{self, First, Then};
use n2n_kernels::conv::{self, Conv, Pointwise, Position, Size};
use n2n_kernels::pool;
use n2n_kernels::reference;
use n2n_kernels::tensor::{Arena, Shape, Tensor};
use n2n_kernels::upconv::{self, Layers, UpConv};
use n2n_kernels::upsample::{self, InputGradient, Upsample};
use n2n_kernels::{Epilogue, Level, Picks};

/// Heights and widths: one, around the tile of 4 pixels, several tiles and a remainder.
const SIZES: [(usize, usize); 9] = [
    (1, 1),
    (1, 3),
    (3, 1),
    (4, 5),
    (5, 4),
    (7, 9),
    (2, 14),
    (4, 4),
    (12, 8),
];
/// Input and output channels around the vectors of 8 and the panels of 24, of 48 at AVX-512.
const CHANNELS: [(usize, usize); 10] = [
    (1, 1),
    (3, 8),
    (8, 3),
    (4, 7),
    (9, 24),
    (47, 25),
    (5, 48),
    (13, 41),
    (9, 49),
    (21, 97),
];

/// Pseudo-random values in -1..1, the same everywhere.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn tensor(shape: Shape, values: &[f32]) -> Tensor {
    let mut tensor = Tensor::zeros(shape);
    tensor.fill_from(values);
    tensor
}

fn read(tensor: &Tensor) -> Vec<f32> {
    let Shape { n, h, w, c } = tensor.shape();
    let mut values = vec![f32::NAN; n * h * w * c];
    tensor.copy_to(&mut values);
    let sum: f64 = tensor.as_slice().iter().map(|v| f64::from(v.abs())).sum();
    let inside: f64 = values.iter().map(|v| f64::from(v.abs())).sum();
    assert!(
        (sum - inside).abs() <= 1e-9 * inside,
        "border and padding stay zero"
    );
    values
}

/// Compares with a bound that follows from the arithmetic: a sum of `terms` products of values
/// below 1 has an error of at most `terms · ε` for each unit of its sum of magnitudes, itself at
/// most `terms`; sums are far from their worst case, hence the root.
fn assert_close(got: &[f32], want: &[f64], terms: usize, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let bound = 4.0
        * f64::from(f32::EPSILON)
        * (terms as f64 + 1.0).sqrt()
        * (terms as f64).sqrt().max(1.0);
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs();
        assert!(
            error <= bound,
            "{what}, value {i}: got {got}, want {want}, bound {bound:e}"
        );
    }
}

/// The RMS of the gaps over that of the values wanted.
fn relative(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let gaps = got
        .iter()
        .zip(want)
        .map(|(&g, w)| (f64::from(g) - w).powi(2));
    (gaps.sum::<f64>() / want.iter().map(|w| w * w).sum::<f64>()).sqrt()
}

fn for_every_case(test: impl Fn(Level, Shape, usize)) {
    for level in Level::available() {
        for (h, w) in SIZES {
            for (c, outputs) in CHANNELS {
                test(level, Shape { n: 2, h, w, c }, outputs);
            }
        }
    }
}

#[test]
fn convolutions_match_the_definition() {
    for (size, k) in [(Size::One, 1), (Size::Three, 3)] {
        for_every_case(|level, shape, outputs| {
            let what = format!("{level} {size:?} {shape:?} -> {outputs}");
            let count = shape.n * shape.h * shape.w;
            let (x, w, b) = (
                values(count * shape.c, 1),
                values(outputs * shape.c * k * k, 2),
                values(outputs, 3),
            );
            let conv = Conv::forward(size, &[shape.c], &w, &b);
            let mut y = Tensor::zeros(Shape {
                c: outputs,
                ..shape
            });
            let input = tensor(shape, &x);
            conv.run(level, &[&input], &mut y, Epilogue::Store);
            let want = reference::conv(&wide(&x), shape, &wide(&w), &wide(&b), k);
            let terms = shape.c * k * k + 1;
            assert_close(&read(&y), &want, terms, &what);

            conv.run(level, &[&input], &mut y, Epilogue::LeakyRelu(0.2));
            assert_close(&read(&y), &reference::leaky_relu(&want, 0.2), terms, &what);

            let twice: Vec<f64> = want.iter().map(|v| 2.0 * v).collect();
            conv.run(level, &[&input], &mut y, Epilogue::Store);
            conv.run(level, &[&input], &mut y, Epilogue::Add);
            assert_close(&read(&y), &twice, 2 * terms, &what);

            let twice = reference::leaky_relu(&twice, 0.2);
            conv.run(level, &[&input], &mut y, Epilogue::Store);
            conv.run(level, &[&input], &mut y, Epilogue::AddLeakyRelu(0.2));
            assert_close(&read(&y), &twice, 2 * terms, &what);
        });
    }
}

/// Sizes up to 70, odd or even, of channel counts of real networks: a sample that is the same in every run,
/// forward, with pooling on the way, and all gradients.
#[test]
fn convolutions_of_any_shape_match_the_definition() {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut below = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit as u64) as usize
    };
    let channels = [1, 3, 4, 8, 16, 47, 48, 64, 96];
    let mut cases = 0;
    while cases < 60 {
        let (n, h, w) = (1 + below(3), 1 + below(70), 1 + below(70));
        let (c, outputs) = (channels[below(9)], channels[below(9)]);
        let size = [Size::One, Size::Three][below(2)];
        let k = if size == Size::One { 1 } else { 3 };
        // The definition takes its time.
        if n * h * w * c * outputs * k * k > 4_000_000 {
            continue;
        }
        cases += 1;
        let shape = Shape { n, h, w, c };
        let (count, full) = (
            n * h * w,
            Shape {
                c: outputs,
                ..shape
            },
        );
        let (x, dy) = (values(count * c, 1), values(count * outputs, 3));
        let (weight, bias) = (values(outputs * c * k * k, 2), values(outputs, 4));
        let want = reference::conv(&wide(&x), shape, &wide(&weight), &wide(&bias), k);
        let (dx, dw, db) =
            reference::conv_gradients(&wide(&x), shape, &wide(&weight), &wide(&dy), outputs, k);
        let leaky = reference::leaky_relu(&want, 0.2);
        let places = reference::max_pool_indices(&leaky, full);
        let pooled: Vec<f64> = places.iter().map(|&at| leaky[at]).collect();
        for level in Level::available() {
            let what = format!("{level} {size:?} {shape:?} -> {outputs}");
            let (input, gradient) = (tensor(shape, &x), tensor(full, &dy));
            let conv = Conv::forward(size, &[c], &weight, &bias);
            let mut y = Tensor::zeros(full);
            conv.run(level, &[&input], &mut y, Epilogue::Store);
            assert_close(&read(&y), &want, c * k * k + 1, &what);
            let mut y = Tensor::zeros(pool::pooled(full));
            let (epilogue, arena) = (Epilogue::LeakyRelu(0.2), &mut Arena::default());
            conv.run_pooled(level, &[&input], &mut y, epilogue, arena);
            assert_close(&read(&y), &pooled, c * k * k + 1, &what);

            let back = Conv::input_gradient(size, outputs, c, 0..c, &weight);
            let mut got = Tensor::zeros(shape);
            back.run(level, &[&gradient], &mut got, Epilogue::Store);
            assert_close(&read(&got), &dx, outputs * k * k, &what);
            let mut got = vec![f32::NAN; weight.len()];
            conv::weight_gradient(
                level,
                &mut Arena::default(),
                size,
                &[(&input, c)],
                &gradient,
                &mut got,
            );
            assert_close(&got, &dw, count, &what);
            let mut got = vec![f32::NAN; outputs];
            conv::bias_gradient(&gradient, &mut got);
            assert_close(&got, &db, count, &what);
        }
    }
}

#[test]
fn pooling_on_the_way_is_pooling_afterwards() {
    for_every_case(|level, shape, outputs| {
        if shape.h < 2 || shape.w < 2 {
            return;
        }
        let x = values(shape.n * shape.h * shape.w * shape.c, 1);
        let (w, b) = (values(outputs * shape.c * 9, 2), values(outputs, 3));
        let conv = Conv::forward(Size::Three, &[shape.c], &w, &b);
        let (input, epilogue) = (tensor(shape, &x), Epilogue::LeakyRelu(0.2));
        let full = Shape {
            c: outputs,
            ..shape
        };
        let mut before = Tensor::zeros(full);
        conv.run(level, &[&input], &mut before, epilogue);
        let mut want = Tensor::zeros(pool::pooled(full));
        pool::max_pool(&before, &mut want);
        let mut got = Tensor::zeros(pool::pooled(full));
        conv.run_pooled(level, &[&input], &mut got, epilogue, &mut Arena::default());
        // The bias is added and the slope applied after the choice instead of before: the same.
        assert_close(&read(&got), &wide(&read(&want)), 1, "pooled");
    });
}

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

#[test]
fn a_concatenated_input_needs_no_copy() {
    for level in Level::available() {
        // Directly, and with whole tiles and 18 outputs by Winograd's algorithm where the inputs
        // are enough.
        let channels = [(8, 8), (5, 3), (24, 1), (3, 47), (13, 8)];
        let sizes = [((5, 6), 7), ((8, 4), 18)];
        for ((h, w), outputs, (first, second)) in sizes
            .iter()
            .flat_map(|(size, outputs)| channels.map(|c| (*size, *outputs, c)))
        {
            let shape = Shape {
                n: 1,
                h,
                w,
                c: first + second,
            };
            let pixels = h * w;
            let x = values(pixels * shape.c, 1);
            let (w, b) = (values(outputs * shape.c * 9, 2), values(outputs, 3));
            let part = |begin: usize, c: usize| {
                let part: Vec<f32> = x
                    .chunks_exact(shape.c)
                    .flat_map(|p| p[begin..begin + c].to_vec())
                    .collect();
                tensor(Shape { c, ..shape }, &part)
            };
            let (a, c) = (part(0, first), part(first, second));
            let mut y = Tensor::zeros(Shape {
                c: outputs,
                ..shape
            });
            Conv::forward(Size::Three, &[first, second], &w, &b).run(
                level,
                &[&a, &c],
                &mut y,
                Epilogue::Store,
            );
            let want = reference::conv(&wide(&x), shape, &wide(&w), &wide(&b), 3);
            assert_close(&read(&y), &want, shape.c * 9 + 1, "concatenation");

            let dy = values(pixels * outputs, 4);
            let dy = tensor(
                Shape {
                    c: outputs,
                    ..shape
                },
                &dy,
            );
            let mut whole = vec![0.0; w.len()];
            let mut parts = vec![0.0; w.len()];
            let joined = tensor(shape, &x);
            conv::weight_gradient(
                level,
                &mut Arena::default(),
                Size::Three,
                &[(&joined, shape.c)],
                &dy,
                &mut whole,
            );
            conv::weight_gradient(
                level,
                &mut Arena::default(),
                Size::Three,
                &[(&a, first), (&c, second)],
                &dy,
                &mut parts,
            );
            assert_close(
                &parts,
                &wide(&whole),
                pixels,
                "weight gradient of a concatenation",
            );
        }
    }
}

#[test]
fn gradients_of_convolutions_match_the_definition() {
    for (size, k) in [(Size::One, 1), (Size::Three, 3)] {
        for_every_case(|level, shape, outputs| {
            let what = format!("{level} {size:?} {shape:?} -> {outputs}");
            let count = shape.n * shape.h * shape.w;
            let out = Shape {
                c: outputs,
                ..shape
            };
            let (x, w, dy) = (
                values(count * shape.c, 1),
                values(outputs * shape.c * k * k, 2),
                values(count * outputs, 3),
            );
            let (dx, dw, db) =
                reference::conv_gradients(&wide(&x), shape, &wide(&w), &wide(&dy), outputs, k);
            let (input, dy) = (tensor(shape, &x), tensor(out, &dy));

            let mut got = Tensor::zeros(shape);
            let back = Conv::input_gradient(size, outputs, shape.c, 0..shape.c, &w);
            back.run(level, &[&dy], &mut got, Epilogue::Store);
            assert_close(&read(&got), &dx, outputs * k * k, &what);

            back.run(level, &[&dy], &mut got, Epilogue::Slope(&input, 0.2));
            let sloped: Vec<f64> = dx
                .iter()
                .zip(&x)
                .map(|(d, &x)| if x > 0.0 { *d } else { 0.2 * d })
                .collect();
            assert_close(&read(&got), &sloped, outputs * k * k, &what);

            let mut got = vec![f32::NAN; w.len()];
            conv::weight_gradient(
                level,
                &mut Arena::default(),
                size,
                &[(&input, shape.c)],
                &dy,
                &mut got,
            );
            assert_close(&got, &dw, count, &what);

            let mut got = vec![f32::NAN; outputs];
            conv::bias_gradient(&dy, &mut got);
            assert_close(&got, &db, count, &what);
        });
    }
}

#[test]
fn sums_over_many_tiles_match_the_definition() {
    // More tiles than a block of the filter gradient holds, the last block and its last share
    // partly filled; channels of several panels.
    let shape = Shape {
        n: 3,
        h: 40,
        w: 44,
        c: 20,
    };
    let (count, outputs) = (3 * 40 * 44, 57);
    let (x, w, dy) = (
        values(count * 20, 1),
        values(outputs * 20 * 9, 2),
        values(count * outputs, 3),
    );
    let (dx, dw, _) =
        reference::conv_gradients(&wide(&x), shape, &wide(&w), &wide(&dy), outputs, 3);
    for level in Level::available() {
        let (input, dy) = (
            tensor(shape, &x),
            tensor(
                Shape {
                    c: outputs,
                    ..shape
                },
                &dy,
            ),
        );
        let mut got = vec![f32::NAN; w.len()];
        conv::weight_gradient(
            level,
            &mut Arena::default(),
            Size::Three,
            &[(&input, 20)],
            &dy,
            &mut got,
        );
        assert_close(&got, &dw, count, "weight gradient");
        let mut got = Tensor::zeros(shape);
        Conv::input_gradient(Size::Three, outputs, 20, 0..20, &w).run(
            level,
            &[&dy],
            &mut got,
            Epilogue::Store,
        );
        assert_close(&read(&got), &dx, outputs * 9, "input gradient");
    }
}

#[test]
fn the_input_gradient_of_some_channels_is_that_part_of_the_whole() {
    // By Winograd's algorithm in the second case.
    for (level, (w, outputs)) in Level::available()
        .into_iter()
        .flat_map(|level| [(level, (6, 5)), (level, (8, 17))])
    {
        let shape = Shape {
            n: 1,
            h: 4,
            w,
            c: 41,
        };
        let (weight, dy) = (values(outputs * 41 * 9, 1), values(4 * w * outputs, 2));
        let dy = tensor(
            Shape {
                c: outputs,
                ..shape
            },
            &dy,
        );
        let gradient = |of: std::ops::Range<usize>| {
            let mut dx = Tensor::zeros(Shape {
                c: of.len(),
                ..shape
            });
            Conv::input_gradient(Size::Three, outputs, 41, of, &weight).run(
                level,
                &[&dy],
                &mut dx,
                Epilogue::Store,
            );
            read(&dx)
        };
        let whole = gradient(0..41);
        let want: Vec<f32> = whole
            .chunks_exact(41)
            .flat_map(|p| p[19..].to_vec())
            .collect();
        assert_close(
            &gradient(19..41),
            &wide(&want),
            outputs * 9,
            "part of the gradient",
        );
    }
}

#[test]
fn memory_that_held_other_values_leaves_no_trace() {
    for level in Level::available() {
        for (h, w) in [(1, 1), (5, 6), (4, 8)] {
            for (c, outputs) in [(3, 9), (17, 18)] {
                let shape = Shape { n: 2, h, w, c };
                let (out, up) = (
                    Shape {
                        c: outputs,
                        ..shape
                    },
                    Shape {
                        h: 2 * h,
                        w: 2 * w,
                        c: outputs,
                        n: 2,
                    },
                );
                let mut dirty = Arena::default();
                for used in [out, up] {
                    let used = Shape {
                        w: used.w + 1,
                        c: used.c + 8,
                        ..used
                    };
                    let nan = vec![f32::NAN; used.n * used.h * used.w * used.c];
                    dirty.give(tensor(used, &nan));
                }
                let input = tensor(shape, &values(2 * h * w * c, 1));
                let (weight, bias) = (values(outputs * c * 9, 2), values(outputs, 3));
                let conv = Conv::forward(Size::Three, &[c], &weight, &bias);
                let upsample = Upsample::forward(c, &weight[..outputs * c * 4], &bias);
                let run = |arena: &mut Arena| {
                    let (mut y, mut bigger) = (arena.take(out), arena.take(up));
                    conv.run(level, &[&input], &mut y, Epilogue::LeakyRelu(0.2));
                    upsample.run(level, &input, &mut bigger);
                    (read(&y), read(&bigger))
                };
                assert_eq!(
                    run(&mut dirty),
                    run(&mut Arena::default()),
                    "{level} {shape:?}"
                );
            }
        }
    }
}

#[test]
#[should_panic(expected = "larger than memory")]
fn a_shape_whose_size_wraps_is_refused() {
    Tensor::zeros(Shape {
        n: 1,
        h: 1,
        w: 1 << 61,
        c: 8,
    });
}

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

#[test]
fn an_upsampling_merged_with_the_convolution_after_it_is_both() {
    for level in Level::available() {
        // One tile and less, its ends, several tiles and a remainder.
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
                let (up_weight, up_bias) = (values(inputs * mid * 4, 3), values(mid, 4));
                let (weight, bias) = (values(outputs * (mid + image) * 9, 5), values(outputs, 6));
                let layers = Layers {
                    up_weight: &up_weight,
                    up_bias: &up_bias,
                    weight: &weight,
                    bias: &bias,
                    image,
                };
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

                let doubled =
                    reference::upsample(&wide(&x), small, &wide(&up_weight), &wide(&up_bias));
                let joined: Vec<f64> = doubled
                    .chunks_exact(mid)
                    .zip(picture.chunks_exact(image))
                    .flat_map(|(up, image)| [up.to_vec(), wide(image)].concat())
                    .collect();
                let joined_shape = full(mid + image);
                let want = reference::conv(&joined, joined_shape, &wide(&weight), &wide(&bias), 3);
                let want = reference::leaky_relu(&want, 0.2);
                // Each doubled value is a sum of `inputs` products, and nine times `mid` of them are summed.
                let terms = 9 * (mid * (inputs + 1) + image) + 1;
                assert_close(&read(&got), &want, terms, &what);
            }
        }
    }
}

/// By the definition, the gradients of an upsampling and the convolution after it: of the input, which a
/// `LeakyReLU` gave, of the first one's weight and bias, and of the second one's weight.
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

/// The gradients of a merged pair are those of the two layers, one after the other; on any number of threads
/// to the bit.
#[test]
fn gradients_of_an_upsampling_merged_with_a_convolution_are_those_of_both() {
    let slope = 0.2;
    for level in Level::available() {
        // One tile and less, its ends, and more tiles than a block of the filter gradient holds.
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
                let (up_weight, up_bias) = (values(inputs * mid * 4, 3), values(mid, 4));
                let (weight, bias) = (values(outputs * (mid + image) * 9, 5), values(outputs, 6));
                let dy = values(4 * pixels * outputs, 7);

                let layers = Layers {
                    up_weight: &up_weight,
                    up_bias: &up_bias,
                    weight: &weight,
                    bias: &bias,
                    image,
                };
                let gradients = |threads: usize| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                    pool.build().unwrap().install(|| {
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
                        let mut of_up = vec![f32::NAN; up_weight.len()];
                        let mut of_bias = vec![f32::NAN; mid];
                        let mut of_conv = vec![f32::NAN; weight.len()];
                        let to = upconv::Gradients {
                            up_weight: &mut of_up,
                            up_bias: &mut of_bias,
                            weight: &mut of_conv,
                        };
                        UpConv::weight_gradient(
                            level,
                            &mut Arena::default(),
                            layers,
                            &input,
                            &side,
                            &gradient,
                            to,
                        );
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

/// The gradient of the first weight of a merged pair from 8 to `channels` channels, of `n` images.
fn merged_weight_gradient(n: usize, channels: usize) -> Vec<f32> {
    let (up_weight, up_bias) = (values(8 * 8 * 4, 1), values(8, 2));
    let (weight, bias) = (values(9 * 8 * 9, 3), values(9, 4));
    let layers = Layers {
        up_weight: &up_weight,
        up_bias: &up_bias,
        weight: &weight,
        bias: &bias,
        image: 0,
    };
    let shape = |h, w, c| Shape { n, h, w, c };
    let input = tensor(shape(3, 5, 8), &values(n * 15 * 8, 5));
    let gradient = tensor(shape(6, 10, channels), &values(n * 60 * channels, 6));
    let mut side = Tensor::zeros(shape(3, 5, 1));
    upconv::side(None, &mut side);
    let (mut of_up, mut of_bias, mut of_weight) = (vec![1.0; 256], vec![1.0; 8], vec![1.0; 648]);
    let to = upconv::Gradients {
        up_weight: &mut of_up,
        up_bias: &mut of_bias,
        weight: &mut of_weight,
    };
    UpConv::weight_gradient(
        Level::detect(),
        &mut Arena::default(),
        layers,
        &input,
        &side,
        &gradient,
        to,
    );
    of_up
}

#[test]
fn no_image_has_no_gradient() {
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

/// Heights below, at and above those of a band, and of several; the results are those of the layers one
/// after the other, to the last bit.
#[test]
fn layers_in_bands_are_the_layers_whole() {
    let (level, leaky) = (Level::detect(), Epilogue::LeakyRelu(0.2));
    let weights = |outputs: usize, inputs: usize, area: usize, seed| {
        let weight = values(outputs * inputs * area, seed);
        (weight, values(outputs, seed + 1))
    };
    let conv = |size, outputs, inputs, area, seed| {
        let (weight, bias) = weights(outputs, inputs, area, seed);
        Conv::forward(size, &[inputs], &weight, &bias)
    };
    let (up_weight, up_bias) = (values(17 * 10 * 4, 3), values(10, 4));
    let (weight, bias) = weights(18, 13, 9, 5);
    let layers = Layers {
        up_weight: &up_weight,
        up_bias: &up_bias,
        weight: &weight,
        bias: &bias,
        image: 3,
    };
    let first = conv(Size::Three, 18, 3, 9, 7);
    let upconv = UpConv::new(level, layers);
    let second = conv(Size::Three, 21, 18, 9, 9);
    let tail = [conv(Size::One, 9, 21, 1, 11), conv(Size::One, 3, 9, 1, 13)];
    let chain = tail.each_ref().map(|conv| (conv, leaky));

    let threads = rayon::ThreadPoolBuilder::new().num_threads(2);
    threads.build().unwrap().install(|| {
        for (n, h, w) in [
            (1, 4, 6),
            (2, 30, 6),
            (1, 32, 900),
            (1, 72, 514),
            (3, 106, 600),
        ] {
            let shape = |c| Shape { n, h, w, c };
            let small = |c| Shape {
                n,
                h: h / 2,
                w: w / 2,
                c,
            };
            let image = tensor(shape(3), &values(n * h * w * 3, 1));
            let from = tensor(small(17), &values(n * h * w / 4 * 17, 2));
            let mut side = Tensor::zeros(small(upconv::side_channels(3)));
            upconv::side(Some(&image), &mut side);

            let arena = &mut Arena::default();
            let (mut got, mut want) = (Tensor::zeros(small(21)), Tensor::zeros(small(21)));
            let mut between = Tensor::zeros(shape(18));
            first.run(level, &[&image], &mut between, leaky);
            second.run_pooled(level, &[&between], &mut want, leaky, arena);
            let of = First::Conv(&first, &image);
            let second_layer = (&second, leaky);
            bands::run(
                level,
                (of, leaky),
                second_layer,
                Then::Pool,
                &mut got,
                arena,
            );
            assert_eq!(read(&got), read(&want), "pooled, {n} of {h}x{w}");

            let (mut got, mut want) = (Tensor::zeros(shape(3)), Tensor::zeros(shape(3)));
            let mut after = Tensor::zeros(shape(21));
            upconv.run(level, &from, &side, &mut between, leaky);
            second.run(level, &[&between], &mut after, leaky);
            conv::run_chain(level, &chain, &after, &mut want);
            let of = First::UpConv(&upconv, &from, &side);
            let then = Then::Chain(&chain);
            // Memory that held other values, as in every call but the first.
            bands::run(level, (of, leaky), second_layer, then, &mut got, arena);
            bands::run(level, (of, leaky), second_layer, then, &mut got, arena);
            let want = read(&want);
            assert_eq!(read(&got), want, "a chain, {n} of {h}x{w}");

            // Two pixels of each cell, whose channels lie side by side, each up to a whole vector.
            let cells = (0..n * (h / 2) * (w / 2)).map(|i| i * 5 + i / 7);
            let pairs: Vec<_> = cells
                .map(|i| [i % 4, (i / 3) % 4].map(|p| p as u8))
                .collect();
            let mut got = Tensor::zeros(small(16));
            let then = Then::PickedChain(&chain, Picks::new(shape(3), &pairs));
            bands::run(level, (of, leaky), second_layer, then, &mut got, arena);
            let picked = read(&got);
            for (cell, pair) in pairs.iter().enumerate() {
                let (row, x) = (cell / (w / 2), cell % (w / 2));
                for (k, &number) in pair.iter().enumerate() {
                    let (y, x) = (
                        2 * row + usize::from(number / 2),
                        2 * x + usize::from(number % 2),
                    );
                    let from = (y * w + x) * 3;
                    let got = &picked[cell * 16 + 8 * k..][..8];
                    assert_eq!(
                        got[..3],
                        want[from..from + 3],
                        "pixel {number} of cell {cell}"
                    );
                    assert_eq!(got[3..], [0.0; 5], "padding");
                }
            }
        }
    });
}

/// 1×1 layers that learn, some with a `LeakyReLU`, from the output of another.
struct Learning {
    size: (usize, usize, usize),
    /// Of the input, then of each layer's output.
    channels: Vec<usize>,
    /// Of each layer.
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
        // Of a size that keeps what lies between the layers of the order of 1, for the bound.
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

    /// The gradient of the input, the gradients of each layer's weight and bias, and Σ (y − t)² and Σ y, of
    /// whose sum these are gradients; by loops in f64.
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
        // To the gradient of what went into a `LeakyReLU`, by what came out.
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

    /// The same by the kernel.
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
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let mut pixels = tensor(Shape { n, h, w, c }, &self.input);
            let (gradients, losses) = conv::learn_chain(level, &layers, &mut pixels, 0.2, loss);
            (read(&pixels), gradients, losses)
        })
    }
}

/// Rows are shorter and longer than the pixels that are taken together, and batches have more and fewer rows
/// than there are parts.
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

/// One layer alone, a `LeakyReLU` after the last one, none between two, and outputs of several vectors and of
/// several panels.
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

/// Holds the kernel on one thread against the definition; returns what it gives.
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

/// A 3×3 convolution of 16 channels whose sums end so.
fn end_with(epilogue: Epilogue, side: usize) {
    let shape = Shape {
        n: 1,
        h: side,
        w: side,
        c: 16,
    };
    let conv = Conv::forward(Size::Three, &[16], &values(16 * 16 * 9, 1), &[0.0; 16]);
    let (input, mut output) = (Tensor::zeros(shape), Tensor::zeros(shape));
    conv.run(Level::detect(), &[&input], &mut output, epilogue);
}

#[test]
#[should_panic(expected = "slope of the LeakyReLU")]
fn a_direct_convolution_refuses_a_slope_that_turns_values_round() {
    end_with(Epilogue::LeakyRelu(1.5), 1);
}

#[test]
#[should_panic(expected = "slope of the LeakyReLU")]
fn winograds_algorithm_refuses_a_slope_that_turns_values_round() {
    end_with(Epilogue::AddLeakyRelu(1.5), 16);
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
    // Divided by the root of a sum's terms, so that what lies between the layers stays of the order of 1.
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
            // The pixels picked, each with the zeros that fill its last vector.
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
                // The most that any of the layers sums.
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

#[test]
fn pooling_takes_the_greatest_and_its_gradient_goes_there() {
    for (h, w) in [(2, 2), (4, 6), (5, 7), (3, 2)] {
        let shape = Shape { n: 2, h, w, c: 11 };
        // Few distinct values, so that blocks have ties and zeros.
        let x: Vec<f32> = values(2 * h * w * 11, 1)
            .iter()
            .map(|v| (v * 2.0).round() / 2.0)
            .collect();
        let input = tensor(shape, &x);
        let indices = reference::max_pool_indices(&wide(&x), shape);
        let mut y = Tensor::zeros(pool::pooled(shape));
        pool::max_pool(&input, &mut y);
        assert_eq!(read(&y), indices.iter().map(|&i| x[i]).collect::<Vec<_>>());

        let dy = values(indices.len(), 2);
        let mut want = vec![0.0; x.len()];
        for (&i, &dy) in indices.iter().zip(&dy) {
            want[i] = if x[i] > 0.0 { dy } else { 0.2 * dy };
        }
        for level in Level::available() {
            // Memory that held other values, which an odd row or column must not keep.
            let mut dx = tensor(shape, &vec![7.0; x.len()]);
            pool::max_pool_gradient(level, &input, &tensor(y.shape(), &dy), 0.2, &mut dx);
            assert_eq!(read(&dx), want, "{level}");
        }
    }
}

#[test]
fn adam_follows_the_paper() {
    for level in Level::available() {
        let start = values(20_000, 1);
        let (mut got, mut adam) = (start.clone(), Adam::new(start.len()));
        let (mut want, mut m, mut v) =
            (wide(&start), vec![0.0; start.len()], vec![0.0; start.len()]);
        for step in 1..=5 {
            let gradient = values(start.len(), 10 + step);
            adam.step(level, &mut got, &gradient, 3e-4);
            for (i, &g) in gradient.iter().enumerate() {
                let g = f64::from(g);
                m[i] = BETA1 * m[i] + (1.0 - BETA1) * g;
                v[i] = BETA2 * v[i] + (1.0 - BETA2) * g * g;
                let m_hat = m[i] / (1.0 - BETA1.powi(step as i32));
                let v_hat: f64 = v[i] / (1.0 - BETA2.powi(step as i32));
                want[i] -= 3e-4 * m_hat / (v_hat.sqrt() + EPSILON);
            }
        }
        assert_close(&got, &want, 1, "Adam");
    }
}

/// Shapes that the direct algorithm and Winograd's serve; the latter in 45 tiles, so that the
/// threads share them unevenly.
#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    for level in Level::available() {
        for (h, w) in [(13, 17), (12, 20)] {
            let one = convolve_on_threads(1, level, h, w);
            for threads in [2, 3, 7] {
                assert_eq!(
                    one,
                    convolve_on_threads(threads, level, h, w),
                    "{level}, {h}×{w}, {threads} threads"
                );
            }
        }
    }
}

/// Output and gradients (of input, weight and bias) of a convolution from 21 to 50 channels.
fn convolve_on_threads(threads: usize, level: Level, h: usize, w: usize) -> [Vec<f32>; 4] {
    let (n, inputs, outputs) = (3, 21, 50);
    let count = n * h * w;
    let weights = values(outputs * inputs * 9, 2);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    pool.install(|| {
        let input = tensor(Shape { n, h, w, c: inputs }, &values(count * inputs, 1));
        let mut output = Tensor::zeros(Shape {
            n,
            h,
            w,
            c: outputs,
        });
        let dy = tensor(output.shape(), &values(count * outputs, 4));
        Conv::forward(Size::Three, &[inputs], &weights, &values(outputs, 3)).run(
            level,
            &[&input],
            &mut output,
            Epilogue::LeakyRelu(0.2),
        );
        let mut dx = Tensor::zeros(input.shape());
        Conv::input_gradient(Size::Three, outputs, inputs, 0..inputs, &weights).run(
            level,
            &[&dy],
            &mut dx,
            Epilogue::Slope(&input, 0.2),
        );
        let (mut dw, mut db) = (vec![0.0; weights.len()], vec![0.0; outputs]);
        conv::weight_gradient(
            level,
            &mut Arena::default(),
            Size::Three,
            &[(&input, inputs)],
            &dy,
            &mut dw,
        );
        conv::bias_gradient(&dy, &mut db);
        [read(&output), read(&dx), dw, db]
    })
}
