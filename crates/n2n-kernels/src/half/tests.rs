//! Against the f64 loops of `reference`, on values that bfloat16 holds exactly.

use super::*;
use crate::reference;
use crate::tensor::Shape;

/// What memory that is used again may hold.
const NAN: u16 = 0x7fc0;

/// Pseudo-random multiples of 1/32 in −1..1: exact in bfloat16, as are their products in `f32`.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 58) as f32 / 32.0 - 1.0
    })
    .take(count)
    .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn units() -> Vec<Units> {
    let found = Units::detect();
    std::iter::once(Units::portable()).chain(found).collect()
}

/// A tensor of given values, by a 1×1 convolution of neighborhoods that picks their middle.
fn tensor(units: Units, values: &[f32], shape: Shape) -> Tensor {
    let mut neighborhoods = Tensor::zeros(Tensor::of_neighborhoods(shape));
    neighborhoods.fill_from_neighborhoods(values, shape, 0..shape.h);
    let c = shape.c;
    let pick = |_, _, channel, output| f32::from(channel == 4 * c + output);
    let conv = Conv::new(&[Source::Pixel(9 * c)], &vec![0.0; c], 1.0, pick);
    let mut tensor = Tensor::zeros(shape);
    conv.run(units, &[&neighborhoods], &mut tensor, 0..shape.h);
    assert_eq!(tensor.to_values(), values);
    tensor
}

/// Sums are exact to `f32`; what is stored is rounded to eight bits.
fn assert_rounded(got: &[f32], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let bound = want.abs() / 256.0 + 1e-5;
        assert!(
            (f64::from(got) - want).abs() <= bound,
            "{what}: {got} is not {want} at {i}"
        );
    }
}

/// Numbers of images, heights and widths; fewer under Miri, where one tile takes a second.
const SHAPES: &[(usize, usize, usize)] = if cfg!(miri) {
    &[(1, 1, 2)]
} else {
    &[(1, 1, 1), (2, 3, 5), (1, 7, 33), (1, 9, 64), (3, 2, 31)]
};

#[test]
fn convolutions_of_two_tensors_match_the_definition() {
    for units in units() {
        for (i, &(n, h, w)) in SHAPES.iter().enumerate() {
            for (a, b, outputs) in [(1, 3, 2), (32, 16, 48), (33, 5, 16), (48, 40, 70)] {
                let seed = 10 * i as u64;
                let what = format!("{units:?} {n}x{h}x{w}: {a} + {b} to {outputs}");
                let shape = Shape { n, h, w, c: a + b };
                let x = values(n * h * w * (a + b), seed + 1);
                let weight = values(outputs * (a + b) * 9, seed + 2);
                let bias = values(outputs, seed + 3);
                let sum = reference::conv(&wide(&x), shape, &wide(&weight), &wide(&bias), 3);
                let want = reference::leaky_relu(&sum, 0.25);
                let part = |from: usize, c: usize| -> Tensor {
                    let pixels = x.chunks_exact(a + b);
                    let values: Vec<f32> = pixels
                        .flat_map(|pixel| &pixel[from..][..c])
                        .copied()
                        .collect();
                    tensor(units, &values, Shape { c, ..shape })
                };
                let sources = [Source::Neighborhood(a), Source::Neighborhood(b)];
                let conv = Conv::new(&sources, &bias, 0.25, |s, t, c, o| {
                    weight[(o * (a + b) + s * a + c) * 9 + t]
                });
                let mut output = Tensor::zeros(Shape {
                    c: outputs,
                    ..shape
                });
                conv.run(units, &[&part(0, a), &part(a, b)], &mut output, 0..h);
                assert_rounded(&output.to_values(), &want, &what);
                // Again, in memory that held something else.
                let mut used = Tensor::zeros(Shape { c: 160, ..shape });
                used.fill_with(NAN);
                output = used.reshaped(output.shape(), h);
                conv.run(units, &[&part(0, a), &part(a, b)], &mut output, 0..h);
                assert_rounded(&output.to_values(), &want, &what);
                let mut pooled = Tensor::zeros(crate::pool::pooled(output.shape()));
                pooled.fill_from_max_pool(&output, 0..h / 2);
                let places =
                    reference::max_pool_indices(&wide(&output.to_values()), output.shape());
                let all = output.to_values();
                let want: Vec<f32> = places.into_iter().map(|at| all[at]).collect();
                assert_eq!(pooled.to_values(), want, "{what}");
            }
        }
    }
}

#[test]
fn neighborhoods_make_a_3x3_convolution_a_1x1_one() {
    for units in units() {
        for &(n, h, w) in SHAPES {
            for (c, outputs) in [(1, 5), (3, 48), (12, 20)] {
                let shape = Shape { n, h, w, c };
                let (x, bias) = (values(n * h * w * c, 1), values(outputs, 2));
                let weight = values(outputs * c * 9, 3);
                let want = reference::conv(&wide(&x), shape, &wide(&weight), &wide(&bias), 3);
                let mut used = Tensor::zeros(Shape { c: 160, ..shape });
                used.fill_with(NAN);
                let mut input = used.reshaped(Tensor::of_neighborhoods(shape), h);
                input.fill_from_neighborhoods(&x, shape, 0..h);
                let conv = Conv::new(&[Source::Pixel(9 * c)], &bias, 1.0, |_, _, k, o| {
                    weight[(o * c + k % c) * 9 + k / c]
                });
                let mut output = Tensor::zeros(Shape {
                    c: outputs,
                    ..shape
                });
                conv.run(units, &[&input], &mut output, 0..h);
                assert_rounded(&output.to_values(), &want, &format!("{units:?} {shape:?}"));
            }
        }
    }
}

#[test]
fn transposed_convolutions_match_the_definition() {
    for units in units() {
        for &(n, h, w) in SHAPES {
            for (c, outputs) in [(3, 5), (32, 48), (48, 16)] {
                let shape = Shape { n, h, w, c };
                let (x, bias) = (values(n * h * w * c, 1), values(outputs, 2));
                let weight = values(outputs * c * 4, 3);
                let at = |i, j, c, o| weight[((c * outputs + o) * 2 + i) * 2 + j];
                let up = UpConv::new(c, &bias, at);
                let mut output = Tensor::zeros(Shape {
                    n,
                    h: 2 * h,
                    w: 2 * w,
                    c: outputs,
                });
                up.run(units, &tensor(units, &x, shape), &mut output, 0..2 * h);
                let want = reference::upsample(&wide(&x), shape, &wide(&weight), &wide(&bias));
                assert_rounded(&output.to_values(), &want, &format!("{units:?} {shape:?}"));
            }
        }
    }
}

/// The values between the layers of a chain are rounded, as they are between layers that run one by one.
#[test]
fn a_chain_is_one_convolution_after_another() {
    for units in units() {
        for &(n, h, w) in SHAPES {
            for (c, middle, block, outputs) in [(16, 33, 1, 3), (40, 96, 2, 12), (32, 32, 1, 50)] {
                let shape = Shape { n, h, w, c };
                let x = tensor(units, &values(n * h * w * c, 1), shape);
                let layer = |source, inputs: usize, outputs, slope, seed| {
                    let weight = values(outputs * inputs * 9, seed);
                    let bias = values(outputs, seed + 1);
                    Conv::new(&[source], &bias, slope, move |_, t, c, o| {
                        weight[(o * inputs + c) * 9 + t] / 16.0
                    })
                };
                let first = layer(Source::Neighborhood(c), c, middle, 0.25, 2);
                let pixel = Source::Pixel(middle);
                let rest = [
                    layer(pixel, middle, middle, 0.25, 4),
                    layer(pixel, middle, outputs, 1.0, 6),
                ];
                let mut got = vec![f32::NAN; n * h * w * outputs];
                run_chain(units, (&first, &rest), &[&x], &mut got, block, 0..h);

                let mut from = x;
                for conv in std::iter::once(&first).chain(&rest) {
                    let mut to = Tensor::zeros(Shape {
                        c: conv.outputs(),
                        ..shape
                    });
                    conv.run(units, &[&from], &mut to, 0..h);
                    from = to;
                }
                let want = wide(&from.to_values());
                // Depth-to-space: values[(y, i, x, j, k)] from pixel (y, x), channel (i, j, k).
                let (run, mut blocks) = (outputs / block, vec![f64::NAN; want.len()]);
                for (pixel, values) in want.chunks_exact(outputs).enumerate() {
                    let (row, x) = (pixel / w, pixel % w);
                    for (k, &value) in values.iter().enumerate() {
                        blocks[(row * block + k / run) * w * run + x * run + k % run] = value;
                    }
                }
                assert_rounded(
                    &got,
                    &blocks,
                    &format!("{units:?} {shape:?} in blocks of {block}"),
                );
            }
        }
    }
}

/// A window that slides down images taller than itself gives every row the value that it has in the whole, bit for bit,
/// the rows at the upper and lower border too.
#[test]
fn layers_in_windows_are_the_layers_whole() {
    for units in units() {
        for (n, h, w, band) in [(1, 2, 3, 4), (2, 10, 5, 4), (1, 22, 33, 6), (1, 12, 40, 12)] {
            let shape = |c| Shape { n, h, w, c };
            let small = Shape {
                n,
                h: h / 2,
                w: w.div_ceil(2),
                c: 33,
            };
            let shape = |c| Shape {
                w: 2 * small.w,
                ..shape(c)
            };
            let conv = |source, inputs: usize, outputs: usize, seed| {
                let weight = values(outputs * inputs * 9, seed);
                let bias = values(outputs, seed + 1);
                Conv::new(&[source], &bias, 0.25, move |_, t, c, o| {
                    weight[(o * inputs + c) * 9 + t] / 8.0
                })
            };
            let from = tensor(units, &values(n * small.h * small.w * 33, 1), small);
            let weight = values(33 * 20 * 4, 2);
            let up = UpConv::new(33, &values(20, 3), |i, j, c, o| {
                weight[((c * 20 + o) * 2 + i) * 2 + j] / 8.0
            });
            let second = conv(Source::Neighborhood(20), 20, 40, 4);
            let tail = [conv(Source::Pixel(40), 40, 3, 6)];
            let mut doubled = Tensor::zeros(shape(20));
            let mut after = Tensor::zeros(shape(40));
            let mut pooled = Tensor::zeros(crate::pool::pooled(shape(40)));
            let mut want = vec![f32::NAN; n * h * 2 * small.w * 3];
            up.run(units, &from, &mut doubled, 0..h);
            second.run(units, &[&doubled], &mut after, 0..h);
            pooled.fill_from_max_pool(&after, 0..h / 2);
            run_chain(units, (&second, &tail), &[&doubled], &mut want, 1, 0..h);

            // Memory that held something else.
            let window = |c, rows| {
                let mut used = Tensor::zeros(Shape { c: 160, ..shape(c) });
                used.fill_with(NAN);
                let len = Tensor::len_of(shape(c), rows);
                let mut used = if used.capacity() < len {
                    Tensor::window(shape(c), rows)
                } else {
                    used
                };
                used.fill_with(NAN);
                used.reshaped(shape(c), rows)
            };
            let (mut ahead, mut behind) = (window(20, band + 3), window(40, band + 2));
            let mut got = Tensor::zeros(pooled.shape());
            let mut chained = vec![f32::NAN; want.len()];
            let (mut ready, mut done) = (0, 0);
            while done < h {
                let begin = ready;
                ready = (ready + band).min(h);
                up.run(units, &from, &mut ahead, begin..ready);
                let begin = done;
                done = if ready == h { h } else { ready - 2 };
                behind.slide(begin..begin);
                second.run(units, &[&ahead], &mut behind, begin..done);
                got.fill_from_max_pool(&behind, begin / 2..done / 2);
                run_chain(
                    units,
                    (&second, &tail),
                    &[&ahead],
                    &mut chained,
                    1,
                    begin..done,
                );
                if done < h {
                    ahead.slide(done - 1..ready);
                }
            }
            assert_eq!(
                got.to_values(),
                pooled.to_values(),
                "{units:?} {n} of {h}x{w}"
            );
            assert_eq!(chained, want, "{units:?} {n} of {h}x{w}");
        }
    }
}

/// Rows that are no longer in a window are not silently taken for zeros.
#[test]
#[should_panic(expected = "rows")]
fn a_row_above_the_window_is_refused() {
    let shape = Shape {
        n: 1,
        h: 9,
        w: 2,
        c: 1,
    };
    let conv = Conv::new(&[Source::Neighborhood(1)], &[0.0], 1.0, |_, _, _, _| 1.0);
    let mut window = Tensor::window(shape, 4);
    window.slide(2..4);
    conv.run(
        Units::portable(),
        &[&window],
        &mut Tensor::zeros(shape),
        2..5,
    );
}

#[test]
fn rounding_is_to_the_nearest_and_ties_go_to_even() {
    use crate::arch::tiles::{from_half, to_half};
    let round = |value| from_half(to_half(value));
    for (value, want) in [
        (1.0, 1.0),
        (-0.5, -0.5),
        (1.0 + 1.0 / 256.0, 1.0),
        (1.0 + 3.0 / 256.0, 1.0 + 4.0 / 256.0),
        (f32::MAX, f32::INFINITY),
        (f32::NEG_INFINITY, f32::NEG_INFINITY),
    ] {
        assert_eq!(round(value), want, "{value}");
    }
    assert!(round(f32::NAN).is_nan());
}
