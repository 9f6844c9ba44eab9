//! Convolutions of 3×3 and 1×1, forward and gradients.

use n2n_kernels::arena::Arena;
use n2n_kernels::conv::{self, Conv, Size};
use n2n_kernels::pool;
use n2n_kernels::reference;
use n2n_kernels::tensor::{Shape, Tensor};
use n2n_kernels::upsample::Upsample;
use n2n_kernels::{Epilogue, Level};

use crate::{assert_close, for_every_case, on_threads, read, tensor, values, wide};

/// The gradient of a convolution's weight, written over NaN.
fn weight_gradient(level: Level, size: Size, inputs: &[(&Tensor, usize)], dy: &Tensor) -> Vec<f32> {
    let area = match size {
        Size::One => 1,
        Size::Three => 9,
    };
    let total: usize = inputs.iter().map(|(_, channels)| channels).sum();
    let mut gradient = vec![f32::NAN; dy.shape().c * total * area];
    let arena = &mut Arena::default();
    conv::weight_gradient(level, arena, size, inputs, dy, &mut gradient);
    gradient
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

/// A fixed sample of sizes up to 70, odd and even, and of channel counts of real networks: forward, with pooling, and
/// all gradients.
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
        // The definition is slow.
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
            let got = weight_gradient(level, size, &[(&input, c)], &gradient);
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
        // The bias is added and the slope applied after the maximum instead of before, with the same result.
        assert_close(&read(&got), &wide(&read(&want)), 1, "pooled");
    });
}

#[test]
fn a_concatenated_input_needs_no_copy() {
    for level in Level::available() {
        // Computed directly, and by Winograd's algorithm with whole tiles and 18 outputs if there are enough inputs.
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
            let joined = tensor(shape, &x);
            let whole = weight_gradient(level, Size::Three, &[(&joined, shape.c)], &dy);
            let parts = weight_gradient(level, Size::Three, &[(&a, first), (&c, second)], &dy);
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

            let got = weight_gradient(level, size, &[(&input, shape.c)], &dy);
            assert_close(&got, &dw, count, &what);

            let mut got = vec![f32::NAN; outputs];
            conv::bias_gradient(&dy, &mut got);
            assert_close(&got, &db, count, &what);
        });
    }
}

#[test]
fn sums_over_many_tiles_match_the_definition() {
    // More tiles than a block of the filter gradient holds, with the last block and its last share only partly
    // filled; channels of several panels.
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
        let got = weight_gradient(level, Size::Three, &[(&input, 20)], &dy);
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
    // The second case uses Winograd's algorithm.
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

/// A 3×3 convolution of 16 channels with the given epilogue.
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
fn a_direct_convolution_refuses_a_slope_above_1() {
    end_with(Epilogue::LeakyRelu(1.5), 1);
}

#[test]
#[should_panic(expected = "slope of the LeakyReLU")]
fn winograds_algorithm_refuses_a_slope_above_1() {
    end_with(Epilogue::AddLeakyRelu(1.5), 16);
}

/// Shapes for the direct and for Winograd's algorithm; the latter has 45 tiles, so that the threads share them
/// unevenly.
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
    on_threads(threads, || {
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
        let mut db = vec![0.0; outputs];
        let dw = weight_gradient(level, Size::Three, &[(&input, inputs)], &dy);
        conv::bias_gradient(&dy, &mut db);
        [read(&output), read(&dx), dw, db]
    })
}
