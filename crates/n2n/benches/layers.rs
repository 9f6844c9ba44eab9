//! Every layer of a network by itself, on the kernels it runs on: the output, the gradient
//! of the input, the gradient of the weight; the layers that are computed together, in inference and in
//! a training step; pooling and the optimizer.
//!
//! ```sh
//! cargo bench -p n2n --bench layers                            # all of it; takes minutes
//! cargo bench -p n2n --bench layers -- dec_conv1b              # rows with this in their name
//! cargo bench -p n2n --bench layers -- --save-baseline before  # then change a kernel, then:
//! cargo bench -p n2n --bench layers -- --baseline before
//! ```
//!
//! Criterion times and compares. At the end a table puts each rate beside the processor's own,
//! measured just before the layer: in multiply-adds of the direct algorithm ("effective"), and as the
//! share of the peak that the algorithm in use spends on its own multiplications. Threads are those of
//! `RAYON_NUM_THREADS`, the level that of `N2N_LEVEL`, and the architecture that of `N2N_ARCHITECTURE` (the paper's by
//! default).

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use criterion::{Criterion, Throughput};
use n2n::neighbors::PAIRS;
use n2n::unet::{self, Kind, LEAKY_SLOPE, Layer, Skip, UNet};
use n2n_kernels::adam::Adam;
use n2n_kernels::arena::Arena;
use n2n_kernels::bands::{self, First, Then};
use n2n_kernels::conv::{self, Conv, Pointwise, Size};
use n2n_kernels::tensor::{Shape, Tensor};
use n2n_kernels::upconv::{self, UpConv};
use n2n_kernels::upsample::{self, InputGradient, Upsample};
use n2n_kernels::{Epilogue, Level, Picks, peak, pool};

/// Images that are denoised, and their side.
const IMAGE: (usize, usize) = (1, 512);
/// Images that gradients are taken of, and their side: a step of 4 patches of 256 × 256.
const TRAINED: (usize, usize) = (4, 128);
/// The layers that are merged.
const MERGED: [&str; 2] = ["up1.deconv", "dec_conv1a"];

fn main() {
    let name = std::env::var("N2N_ARCHITECTURE");
    let unet = name.map_or(UNet::default(), |name| {
        unet::named(&name).expect("an architecture")
    });
    let bench = Bench::new();
    for layer in unet.layers() {
        bench.layer("output", IMAGE.0, IMAGE.1, &unet, &layer, output);
    }
    bench.first_together(&unet);
    bench.last_together(&unet);
    let (n, side) = TRAINED;
    for (what, run) in [
        ("output", output as Make),
        ("input gradient", input_gradient),
        ("weight gradient", weight_gradient),
    ] {
        // Nothing needs the gradient of the image.
        let first = usize::from(what == "input gradient");
        // The last upsampling learns with the layer after it, and the 1×1 layers learn together.
        let layers = unet.layers();
        let alone = layers[first..]
            .iter()
            .filter(|layer| layer.kind != Kind::Conv1x1 && !MERGED.contains(&layer.name));
        for layer in alone {
            bench.layer(what, n, side, &unet, layer, run);
        }
    }
    bench.learn_merged(&unet);
    bench.learn_together(&unet);
    bench.memory_bound(&unet);
    bench.print_table();
    Criterion::default().configure_from_args().final_summary();
}

/// A prepared computation.
type Run<'a> = Box<dyn FnMut() + 'a>;
type Make = for<'a> fn(Level, &'a Data) -> Run<'a>;

/// What a layer reads and writes.
struct Data {
    layer: Layer,
    channels: Vec<usize>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    inputs: Vec<Tensor>,
    output: Shape,
    /// The gradient of the output.
    gradient: Tensor,
}

impl Data {
    fn new(unet: &UNet, layer: Layer, n: usize, side: usize) -> Self {
        let output = Shape {
            n,
            h: side / layer.scale,
            w: side / layer.scale,
            c: layer.outputs,
        };
        let shrunk = if layer.kind == Kind::Up2x2 { 2 } else { 1 };
        let skip = layer.skip.map(|skip| unet.skip_channels(skip));
        let main = layer.inputs - skip.unwrap_or(0);
        let channels: Vec<usize> = std::iter::once(main).chain(skip).collect();
        let inputs = channels.iter().map(|&c| {
            tensor(Shape {
                n,
                h: output.h / shrunk,
                w: output.w / shrunk,
                c,
            })
        });
        let weights = layer.weight_shape().iter().product();
        let scale = (2.0 / layer.fan_in() as f32).sqrt();
        Self {
            layer,
            inputs: inputs.collect(),
            channels,
            weight: values(weights).map(|value| value * scale).collect(),
            bias: vec![0.0; layer.outputs],
            output,
            gradient: tensor(output),
        }
    }

    fn size(&self) -> Size {
        match self.layer.kind {
            Kind::Conv1x1 => Size::One,
            _ => Size::Three,
        }
    }

    fn conv(&self) -> Conv {
        Conv::forward(self.size(), &self.channels, &self.weight, &self.bias)
    }

    fn epilogue(&self) -> Epilogue<'static> {
        if self.layer.activation {
            Epilogue::LeakyRelu(LEAKY_SLOPE)
        } else {
            Epilogue::Store
        }
    }

    /// Multiply-adds of the direct algorithm; the same for the output and for each gradient.
    fn direct(&self) -> f64 {
        let taps = match self.layer.kind {
            Kind::Conv3x3 => 9,
            Kind::Conv1x1 | Kind::Up2x2 => 1,
        };
        (pixels(self.output) * taps * self.layer.inputs * self.layer.outputs) as f64
    }

    /// Multiply-adds of the algorithm in use, its transforms not counted.
    fn done(&self) -> f64 {
        if self.layer.kind == Kind::Conv3x3 && self.conv().is_by_winograd(self.output) {
            winograd(self.output, self.layer.inputs)
        } else {
            self.direct()
        }
    }
}

/// A layer at images of this number and side.
fn named(unet: &UNet, name: &str, (n, side): (usize, usize)) -> Data {
    let layers = unet.layers();
    let found = layers.iter().find(|layer| layer.name == name);
    Data::new(unet, *found.expect("a layer"), n, side)
}

/// The parameters of the layers that are merged.
fn pair<'a>(unet: &UNet, up: &'a Data, first: &'a Data) -> upconv::Layers<'a> {
    upconv::Layers {
        up_weight: &up.weight,
        up_bias: &up.bias,
        weight: &first.weight,
        bias: &first.bias,
        image: unet.block_channels(),
    }
}

/// What they read in addition to the small tensor.
fn side(unet: &UNet, up: &Data, first: &Data) -> Tensor {
    let mut side = Tensor::zeros(Shape {
        c: upconv::side_channels(unet.block_channels()),
        ..up.inputs[0].shape()
    });
    upconv::side(Some(&first.inputs[1]), &mut side);
    side
}

/// Multiplications of four F(4×4, 2×2): 100 per tile of 4×4 small pixels and pair of channels.
fn merged_products(up: &Data, side: usize, outputs: usize) -> f64 {
    let small = up.inputs[0].shape();
    let tiles = small.n * (small.h / 4 + 1) * (small.w / 4 + 1);
    (tiles * 100 * (small.c + side) * outputs) as f64
}

/// The group of the layers that are computed together at images of this number and side.
fn together((n, side): (usize, usize)) -> String {
    format!("together {n}x{side}x{side}")
}

/// Multiplications of F(4×4, 3×3): 36 per tile and pair of channels.
fn winograd(output: Shape, inputs: usize) -> f64 {
    let tiles = output.n * output.h.div_ceil(4) * output.w.div_ceil(4);
    (tiles * 36 * inputs * output.c) as f64
}

fn pixels(shape: Shape) -> usize {
    shape.n * shape.h * shape.w
}

/// Numbers of -0.5..0.5, the same each time.
fn values(count: usize) -> impl Iterator<Item = f32> {
    let mut state = 1_u32;
    std::iter::repeat_with(move || {
        // Knuth's linear congruential generator; its upper bits are the better ones.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    })
    .take(count)
}

fn tensor(shape: Shape) -> Tensor {
    let mut tensor = Tensor::zeros(shape);
    let values: Vec<f32> = values(pixels(shape) * shape.c).collect();
    tensor.fill_from(&values);
    tensor
}

fn output(level: Level, data: &Data) -> Run<'_> {
    let mut output = Tensor::zeros(data.output);
    let inputs: Vec<&Tensor> = data.inputs.iter().collect();
    if data.layer.kind == Kind::Up2x2 {
        let up = Upsample::forward(data.layer.inputs, &data.weight, &data.bias);
        return Box::new(move || up.run(level, inputs[0], &mut output));
    }
    let conv = data.conv();
    Box::new(move || conv.run(level, &inputs, &mut output, data.epilogue()))
}

fn input_gradient(level: Level, data: &Data) -> Run<'_> {
    let layer = &data.layer;
    let parts = match layer.skip {
        Some(Skip::Image) => 1,
        _ => data.inputs.len(),
    };
    let mut gradients: Vec<_> = data.inputs[..parts]
        .iter()
        .map(|input| Tensor::zeros(input.shape()))
        .collect();
    if layer.kind == Kind::Up2x2 {
        let up = InputGradient::new(layer.inputs, layer.outputs, &data.weight);
        return Box::new(move || {
            up.run(level, &data.gradient, &mut gradients[0], Epilogue::Store);
        });
    }
    let mut first = 0;
    let convs: Vec<_> = data.channels[..parts]
        .iter()
        .map(|&channels| {
            let of = first..first + channels;
            first += channels;
            Conv::input_gradient(data.size(), layer.outputs, layer.inputs, of, &data.weight)
        })
        .collect();
    Box::new(move || {
        for (conv, to) in convs.iter().zip(&mut gradients) {
            conv.run(level, &[&data.gradient], to, Epilogue::Store);
        }
    })
}

fn weight_gradient(level: Level, data: &Data) -> Run<'_> {
    let mut to = vec![0.0; data.weight.len()];
    if data.layer.kind == Kind::Up2x2 {
        return Box::new(move || {
            upsample::weight_gradient(level, &data.inputs[0], &data.gradient, &mut to);
        });
    }
    let channels = data.channels.iter().copied();
    let inputs: Vec<_> = data.inputs.iter().zip(channels).collect();
    let mut arena = Arena::default();
    Box::new(move || {
        let (inputs, dy) = (&inputs, &data.gradient);
        conv::weight_gradient(level, &mut arena, data.size(), inputs, dy, &mut to);
    })
}

/// Criterion, and what the table at the end needs in addition to its times.
struct Bench {
    level: Level,
    criterion: RefCell<Criterion>,
    folder: PathBuf,
    began: SystemTime,
    rows: RefCell<Vec<Row>>,
}

struct Row {
    group: String,
    name: String,
    /// Multiply-adds of the direct algorithm, and of the one in use; 0 where memory is what counts.
    direct: f64,
    done: f64,
    /// Multiply-adds per second that the processor reached just before.
    peak_per_s: f64,
}

impl Bench {
    fn new() -> Self {
        let level = match std::env::var("N2N_LEVEL") {
            Ok(name) => name.parse().expect("a level of this processor"),
            Err(_) => Level::detect(),
        };
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("criterion");
        let criterion = Criterion::default()
            .output_directory(&folder)
            .sample_size(10)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(1))
            .configure_from_args();
        Self {
            level,
            criterion: RefCell::new(criterion),
            folder,
            // File systems keep times less exactly than the clock.
            began: SystemTime::now() - Duration::from_secs(1),
            rows: RefCell::default(),
        }
    }

    fn layer(&self, what: &str, n: usize, side: usize, unet: &UNet, layer: &Layer, make: Make) {
        let group = format!("{what} {n}x{side}x{side}");
        let data = Data::new(unet, *layer, n, side);
        let mut run = make(self.level, &data);
        // Nothing needs the gradient of the image if that is the second input.
        let asked = match layer.skip {
            Some(Skip::Image) if what == "input gradient" => data.channels[0],
            _ => layer.inputs,
        };
        let part = asked as f64 / layer.inputs as f64;
        let (direct, done) = (part * data.direct(), part * data.done());
        self.time(&group, layer.name, direct, done, &mut *run);
    }

    fn time(&self, group: &str, name: &str, direct: f64, done: f64, mut run: impl FnMut()) {
        let mut peak_per_s = 0.0;
        let mut criterion = self.criterion.borrow_mut();
        let mut timed = criterion.benchmark_group(group);
        if direct > 0.0 {
            timed.throughput(Throughput::Elements(direct as u64));
        }
        timed.bench_function(name, |bencher| {
            peak_per_s = f64::max(peak_per_s, peak::multiply_adds_per_s(self.level));
            bencher.iter(&mut run);
        });
        timed.finish();
        self.rows.borrow_mut().push(Row {
            group: group.into(),
            name: name.into(),
            direct,
            done,
            peak_per_s,
        });
    }

    /// The first layers, which are computed together without gradients.
    fn first_together(&self, unet: &UNet) {
        let (first, second) = (
            named(unet, "enc_conv0", IMAGE),
            named(unet, "enc_conv1", IMAGE),
        );
        let (conv0, conv1) = (first.conv(), second.conv());
        let mut output = Tensor::zeros(pool::pooled(second.output));
        let mut arena = Arena::default();
        self.time(
            &together(IMAGE),
            "enc_conv0 .. enc_conv1, pooling",
            first.direct() + second.direct(),
            first.done() + second.done(),
            || {
                bands::run(
                    self.level,
                    (First::Conv(&conv0, &first.inputs[0]), first.epilogue()),
                    (&conv1, second.epilogue()),
                    Then::Pool,
                    &mut output,
                    &mut arena,
                );
            },
        );
    }

    /// The last layers, likewise.
    fn last_together(&self, unet: &UNet) {
        let level = self.level;
        let [up, first] = MERGED.map(|name| named(unet, name, IMAGE));
        let merged = UpConv::new(level, pair(unet, &up, &first));
        let side = side(unet, &up, &first);
        let direct = up.direct() + first.direct();
        let done = merged_products(&up, side.shape().c, first.output.c);
        let mut output = Tensor::zeros(first.output);
        self.time(
            &together(IMAGE),
            "up1.deconv .. dec_conv1a",
            direct,
            done,
            || {
                let input = &up.inputs[0];
                merged.run(level, input, &side, &mut output, first.epilogue());
            },
        );
        drop(output);

        let nin = ["nin_a", "nin_b", "nin_c"].map(|name| named(unet, name, IMAGE));
        let convs = nin.each_ref().map(Data::conv);
        let chain: Vec<_> = convs
            .iter()
            .zip(&nin)
            .map(|(conv, data)| (conv, data.epilogue()))
            .collect();
        let chained = nin.iter().map(Data::direct).sum::<f64>();
        let mut output = Tensor::zeros(nin[2].output);
        self.time(&together(IMAGE), "nin_a .. nin_c", chained, chained, || {
            conv::run_chain(level, &chain, &nin[0].inputs[0], &mut output);
        });
        drop(output);

        let second = named(unet, "dec_conv1b", IMAGE);
        let conv1b = second.conv();
        let full = nin[2].output;
        let cells = pool::pooled(full);
        let pairs = PAIRS.iter().map(|&(first, second)| [first, second]);
        let pairs: Vec<_> = pairs.cycle().take(pixels(cells)).collect();
        let picked = Shape {
            c: 2 * full.pixel_stride(),
            ..cells
        };
        let half = Then::PickedChain(&chain, Picks::new(full, &pairs));
        let mut arena = Arena::default();
        for (name, then, output, chained) in [
            ("up1.deconv .. nin_c", Then::Chain(&chain), full, chained),
            (
                "up1.deconv .. nin_c, half of the pixels",
                half,
                picked,
                chained / 2.0,
            ),
        ] {
            let mut output = Tensor::zeros(output);
            let direct = direct + second.direct() + chained;
            let done = done + second.done() + chained;
            self.time(&together(IMAGE), name, direct, done, || {
                bands::run(
                    level,
                    (
                        First::UpConv(&merged, &up.inputs[0], &side),
                        first.epilogue(),
                    ),
                    (&conv1b, second.epilogue()),
                    then,
                    &mut output,
                    &mut arena,
                );
            });
        }
    }

    /// The gradients of the merged layers.
    fn learn_merged(&self, unet: &UNet) {
        let (level, group) = (self.level, together(TRAINED));
        let [up, first] = MERGED.map(|name| named(unet, name, TRAINED));
        let (layers, input) = (pair(unet, &up, &first), &up.inputs[0]);
        let merged = UpConv::new(level, layers);
        // That of the image is not asked for.
        let of_image = unet.block_channels() as f64 / first.layer.inputs as f64;
        let direct = up.direct() + first.direct() * (1.0 - of_image);
        let mut to = Tensor::zeros(input.shape());
        let name = "up1.deconv .. dec_conv1a, input gradient";
        let tiles = pixels(Shape {
            h: input.shape().h.div_ceil(4),
            w: input.shape().w.div_ceil(4),
            ..input.shape()
        });
        let done = (tiles * 100 * input.shape().c * first.output.c) as f64;
        self.time(&group, name, direct, done, || {
            merged.input_gradient(level, &first.gradient, &mut to, Epilogue::Store);
        });
        let side = side(unet, &up, &first);
        let mut of_up = vec![0.0; up.weight.len()];
        let mut of_bias = vec![0.0; up.bias.len()];
        let mut of_weight = vec![0.0; first.weight.len()];
        let name = "up1.deconv .. dec_conv1a, weight gradients";
        let direct = up.direct() + first.direct();
        let done = merged_products(&up, side.shape().c, first.output.c);
        let (mut arena, dy) = (Arena::default(), &first.gradient);
        self.time(&group, name, direct, done, || {
            let to = upconv::Gradients {
                up_weight: &mut of_up,
                up_bias: &mut of_bias,
                weight: &mut of_weight,
            };
            UpConv::weight_gradient(level, &mut arena, layers, input, &side, dy, to);
        });
    }

    /// The 1×1 layers at the end, output, loss and gradients in one go.
    fn learn_together(&self, unet: &UNet) {
        let (n, side) = TRAINED;
        let layers = unet.layers();
        let last = layers.iter().filter(|layer| layer.kind == Kind::Conv1x1);
        let last: Vec<Data> = last.map(|layer| Data::new(unet, *layer, n, side)).collect();
        let convs: Vec<_> = last
            .iter()
            .map(|data| {
                let Layer {
                    inputs, outputs, ..
                } = data.layer;
                let (size, weight) = (data.size(), &data.weight);
                let backward = Conv::input_gradient(size, outputs, inputs, 0..inputs, weight);
                (data.conv(), backward)
            })
            .collect();
        let chain: Vec<_> = convs
            .iter()
            .zip(&last)
            .map(|((forward, backward), data)| Pointwise {
                forward,
                backward,
                slope: data.layer.activation.then_some(LEAKY_SLOPE),
            })
            .collect();
        let mut pixels = tensor(last[0].inputs[0].shape());
        let (c, stride) = (
            unet.block_channels(),
            last[last.len() - 1].output.pixel_stride(),
        );
        // Output, gradient of the input and gradient of the weight.
        let multiply_adds = 3.0 * last.iter().map(Data::direct).sum::<f64>();
        self.time(
            &together(TRAINED),
            "1×1 layers that learn",
            multiply_adds,
            multiply_adds,
            || {
                conv::learn_chain(
                    self.level,
                    &chain,
                    &mut pixels,
                    LEAKY_SLOPE,
                    |_, outputs| {
                        for pixel in outputs.chunks_exact_mut(stride) {
                            // Of constant magnitude, because the next call starts from these pixels.
                            for value in &mut pixel[..c] {
                                *value = value.signum();
                            }
                        }
                        [0.0; 2]
                    },
                );
            },
        );
    }

    /// What waits for memory and not for multiplications.
    fn memory_bound(&self, unet: &UNet) {
        let (n, side) = TRAINED;
        let group = format!("other {n}x{side}x{side}");
        let activation = tensor(Shape {
            n,
            h: side,
            w: side,
            c: unet.n_feature,
        });
        let mut pooled = Tensor::zeros(pool::pooled(activation.shape()));
        self.time(&group, "max-pooling", 0.0, 0.0, || {
            pool::max_pool(&activation, &mut pooled);
        });
        let mut gradient = Tensor::zeros(activation.shape());
        self.time(&group, "max-pooling, gradient", 0.0, 0.0, || {
            pool::max_pool_gradient(self.level, &activation, &pooled, LEAKY_SLOPE, &mut gradient);
        });
        let count = unet.parameters();
        let mut adam = Adam::new(count);
        let mut parameters: Vec<f32> = values(count).collect();
        let gradients: Vec<f32> = values(count).collect();
        self.time(&group, "Adam", 0.0, 0.0, || {
            adam.step(self.level, &mut parameters, &gradients, 1e-6);
        });
    }

    /// The rows that this process has timed, in Markdown.
    fn print_table(&self) {
        let mut group = "";
        let rows = self.rows.borrow();
        for row in rows.iter() {
            let Some(ms) = self.median_ms(row) else {
                continue;
            };
            if group.is_empty() {
                let peaks = rows.iter().map(|row| 2.0 * row.peak_per_s / 1e9);
                println!(
                    "\nlevel {}, {} threads, peak {:.0} GFLOP/s",
                    self.level,
                    rayon::current_num_threads(),
                    peaks.fold(0.0, f64::max)
                );
            }
            if group != row.group {
                group = &row.group;
                println!("\n| {group} | ms | effective GFLOP/s | GFLOP/s | of peak |");
                println!("|---|---:|---:|---:|---:|");
            }
            if row.direct > 0.0 {
                let rate = |multiply_adds: f64| 2.0 * multiply_adds / ms / 1e6;
                let share = 100.0 * row.done / (ms / 1e3) / row.peak_per_s;
                let (effective, done) = (rate(row.direct), rate(row.done));
                println!(
                    "| {} | {ms:.2} | {effective:.0} | {done:.0} | {share:.0} % |",
                    row.name
                );
            } else {
                println!("| {} | {ms:.2} | | | |", row.name);
            }
        }
    }

    /// Criterion's median, if it has timed the row since this process began.
    fn median_ms(&self, row: &Row) -> Option<f64> {
        // As Criterion names folders.
        let folder =
            |name: &str| name.replace(['/', '"', '*', '<', '>', ':', '|', '?', '\\', '^'], "_");
        let places =
            std::fs::read_dir(self.folder.join(folder(&row.group)).join(folder(&row.name)));
        let files = places
            .ok()?
            .flatten()
            .map(|place| place.path().join("estimates.json"));
        let written = |path: &PathBuf| path.metadata().and_then(|data| data.modified()).ok();
        // `new`, or the baseline that is being saved; not `change`, which holds ratios.
        let newest = files
            .filter(|path| !path.parent().is_some_and(|place| place.ends_with("change")))
            .filter(|path| written(path) >= Some(self.began))
            .max_by_key(written)?;
        let text = std::fs::read_to_string(newest).ok()?;
        let estimates: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(estimates["median"]["point_estimate"].as_f64()? / 1e6)
    }
}
