//! Two consecutive layers at the full size of the image, band by band.

use n2n_kernels::bands::{self, First, Layers, Small, Then, Up};
use n2n_kernels::conv::{self, Conv, Size};
use n2n_kernels::tensor::{Arena, Shape, Tensor};
use n2n_kernels::upconv::{self, UpConv};
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
    let layers = upconv::Layers {
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
            let of = |first| Layers {
                first: (first, leaky),
                second: (&second, leaky),
            };
            let layers = of(First::Conv(&first, &image));
            bands::run(level, &layers, Then::Pool, &mut got, arena);
            assert_eq!(read(&got), read(&want), "pooled, {n} of {h}x{w}");

            let (mut got, mut want) = (Tensor::zeros(shape(3)), Tensor::zeros(shape(3)));
            let mut after = Tensor::zeros(shape(21));
            upconv.run(level, &from, &side, &mut between, leaky);
            second.run(level, &[&between], &mut after, leaky);
            conv::run_chain(level, &chain, &after, &mut want);
            let up = Up {
                conv: &upconv,
                small: Small::Stored(&from),
                side: &side,
                skip: None,
            };
            let layers = of(First::UpConv(up));
            let then = Then::Chain(&chain);
            // Memory that held other values, as in every call but the first.
            bands::run(level, &layers, then, &mut got, arena);
            bands::run(level, &layers, then, &mut got, arena);
            let want = read(&want);
            assert_eq!(read(&got), want, "a chain, {n} of {h}x{w}");

            // Two pixels of each cell, whose channels are adjacent, each padded to a whole vector.
            let cells = (0..n * (h / 2) * (w / 2)).map(|i| i * 5 + i / 7);
            let pairs: Vec<_> = cells
                .map(|i| [i % 4, (i / 3) % 4].map(|p| p as u8))
                .collect();
            let mut got = Tensor::zeros(small(16));
            let then = Then::PickedChain(&chain, Picks::new(shape(3), &pairs));
            bands::run(level, &layers, then, &mut got, arena);
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

/// The layers of two resolutions, the lower ones with a skip connection, through windows: bit for bit what they give one
/// after another.
#[test]
fn layers_of_two_resolutions_in_bands_are_the_layers_whole() {
    let (level, leaky) = (Level::detect(), Epilogue::LeakyRelu(0.2));
    let conv = |size, outputs: usize, inputs: usize, area: usize, seed| {
        let weight = values(outputs * inputs * area, seed);
        Conv::forward(size, &[inputs], &weight, &values(outputs, seed + 1))
    };
    let merged = |inputs: usize, mid: usize, image: usize, outputs: usize, seed| {
        let layers = upconv::Layers {
            up_weight: &values(inputs * mid * 4, seed),
            up_bias: &values(mid, seed + 1),
            weight: &values(outputs * (mid + image) * 9, seed + 2),
            bias: &values(outputs, seed + 3),
            image,
        };
        UpConv::new(level, layers)
    };
    let (lower, upper) = (merged(17, 9, 0, 18, 1), merged(20, 10, 3, 18, 5));
    let skip = conv(Size::Three, 18, 13, 9, 9);
    let seconds = [
        conv(Size::Three, 20, 18, 9, 11),
        conv(Size::Three, 21, 18, 9, 13),
    ];
    let tail = [conv(Size::One, 9, 21, 1, 15), conv(Size::One, 3, 9, 1, 17)];
    let chain = tail.each_ref().map(|conv| (conv, leaky));

    for threads in [1, 2] {
        on_threads(threads, || {
            for (n, h, w) in [
                (1, 12, 16),
                (2, 32, 12),
                (1, 36, 900),
                (1, 100, 516),
                (1, 520, 1028),
                (3, 108, 600),
            ] {
                let of = |divisor: usize, c| Shape {
                    n,
                    h: h / divisor,
                    w: w / divisor,
                    c,
                };
                let random = |shape: Shape, seed| {
                    let Shape { n, h, w, c } = shape;
                    tensor(shape, &values(n * h * w * c, seed))
                };
                let image = random(of(1, 3), 21);
                let from = random(of(4, 17), 22);
                let pool = random(of(2, 13), 23);
                let side = |image: Option<&Tensor>, shape| {
                    let mut side = Tensor::zeros(shape);
                    upconv::side(image, &mut side);
                    side
                };
                let lower_side = side(None, of(4, upconv::side_channels(0)));
                let upper_side = side(Some(&image), of(2, upconv::side_channels(3)));

                let add = Epilogue::AddLeakyRelu(0.2);
                let mut between = Tensor::zeros(of(2, 18));
                skip.run(level, &[&pool], &mut between, Epilogue::Store);
                lower.run(level, &from, &lower_side, &mut between, add);
                let mut half = Tensor::zeros(of(2, 20));
                seconds[0].run(level, &[&between], &mut half, leaky);
                let mut between = Tensor::zeros(of(1, 18));
                upper.run(level, &half, &upper_side, &mut between, leaky);
                let mut after = Tensor::zeros(of(1, 21));
                seconds[1].run(level, &[&between], &mut after, leaky);
                let mut want = Tensor::zeros(of(1, 3));
                conv::run_chain(level, &chain, &after, &mut want);

                let layers = |conv, small, side, skip, epilogue, second| Layers {
                    first: (
                        First::UpConv(Up {
                            conv,
                            small,
                            side,
                            skip,
                        }),
                        epilogue,
                    ),
                    second: (second, leaky),
                };
                let small = Small::Stored(&from);
                let skip = Some((&skip, &pool));
                let below = layers(&lower, small, &lower_side, skip, add, &seconds[0]);
                let small = Small::Layers(Box::new(below));
                let both = layers(&upper, small, &upper_side, None, leaky, &seconds[1]);
                let (mut got, arena) = (Tensor::zeros(of(1, 3)), &mut Arena::default());
                for _ in 0..2 {
                    bands::run(level, &both, Then::Chain(&chain), &mut got, arena);
                }
                assert_eq!(read(&got), read(&want), "{threads} threads, {n} of {h}x{w}");
            }
        });
    }
}
