//! Two consecutive layers, band by band.

use n2n_kernels::arena::Arena;
use n2n_kernels::bands::{self, First, Then};
use n2n_kernels::conv::{self, Conv, Size};
use n2n_kernels::tensor::{Shape, Tensor};
use n2n_kernels::upconv::{self, Layers, UpConv};
use n2n_kernels::{Epilogue, Level, Picks};

use crate::{on_threads, read, tensor, values};

/// Heights below, at and above that of a band, and of several bands; the results equal those of the layers run one
/// after the other, bit for bit.
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

    on_threads(2, || {
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

            // Two pixels of each cell, whose channels are adjacent, each padded to a whole vector.
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

/// Merged layers that are added to a convolution of another tensor, as where the decoder reads a pooling.
#[test]
fn sums_in_bands_are_the_sums_whole() {
    let (level, leaky) = (Level::detect(), Epilogue::LeakyRelu(0.2));
    let add = Epilogue::AddLeakyRelu(0.2);
    let conv = |outputs: usize, inputs: usize, seed| {
        let weight = values(outputs * inputs * 9, seed);
        Conv::forward(Size::Three, &[inputs], &weight, &values(outputs, seed + 1))
    };
    let layers = Layers {
        up_weight: &values(17 * 10 * 4, 3),
        up_bias: &values(10, 4),
        weight: &values(18 * 10 * 9, 5),
        bias: &values(18, 6),
        image: 0,
    };
    let upconv = UpConv::new(level, layers);
    let (plus, second) = (conv(18, 19, 7), conv(21, 18, 9));
    on_threads(2, || {
        for (n, h, w) in [(1, 4, 6), (2, 30, 6), (1, 72, 514), (3, 106, 600)] {
            let shape = |c| Shape { n, h, w, c };
            let small = |c| Shape {
                n,
                h: h / 2,
                w: w / 2,
                c,
            };
            let from = tensor(small(17), &values(n * h * w / 4 * 17, 1));
            let other = tensor(shape(19), &values(n * h * w * 19, 2));
            let mut side = Tensor::zeros(small(upconv::side_channels(0)));
            upconv::side(None, &mut side);

            let mut between = Tensor::zeros(shape(18));
            let mut want = Tensor::zeros(shape(21));
            plus.run(level, &[&other], &mut between, Epilogue::Store);
            upconv.run(level, &from, &side, &mut between, add);
            second.run(level, &[&between], &mut want, leaky);

            let arena = &mut Arena::default();
            let mut got = Tensor::zeros(shape(21));
            let of = First::UpConvPlus(&upconv, &from, &side, (&plus, &other));
            // The second time in memory that held other values.
            for _ in 0..2 {
                let second = (&second, leaky);
                bands::run(level, (of, add), second, Then::Store, &mut got, arena);
                assert_eq!(read(&got), read(&want), "{n} of {h}x{w}");
            }
        }
    });
}
