//! The network as passes: its layers forward, and backward with the gradients of all parameters.

use n2n::neighbors::{PAIRS, Target};
use n2n::network::CleanBatch;
use n2n::noise::{Levels, Noise};
use n2n::unet::{Kind, LEAKY_SLOPE, Layer, Skip, UNet};

use crate::conv::{Conv, ConvParams, Epilogue, Output};
use crate::correlation::{Correlation, CorrelationParams};
use crate::graph::{Graph, Id, Pass};
use crate::kernel::Kernel;
use crate::layout::{Layout, Place, fours};
use crate::wgsl::Storage;

/// Number of workgroups that keep a large device busy.
const BUSY: usize = 1024;
/// Maximum number of copies of a layer's gradient.
const MAX_SPLITS: usize = 64;

/// Pixels on the device: `n` images of `h` × `w` pixels, with the given number of channel groups of four.
#[derive(Debug, Clone, Copy)]
pub struct Pixels {
    pub id: Id,
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub fours: usize,
    pub storage: Storage,
}

impl Pixels {
    pub fn kept(graph: &mut Graph, n: usize, h: usize, w: usize, fours: usize) -> Self {
        let bytes = Storage::F32.bytes() * (n * h * w * fours) as u64;
        Self {
            id: graph.kept(bytes),
            n,
            h,
            w,
            fours,
            storage: Storage::F32,
        }
    }

    fn temporary(graph: &mut Graph, [n, h, w]: [usize; 3], fours: usize, storage: Storage) -> Self {
        let bytes = storage.bytes() * (n * h * w * fours) as u64;
        Self {
            id: graph.temporary(bytes),
            n,
            h,
            w,
            fours,
            storage,
        }
    }

    /// Number of values, padding included.
    pub fn len(&self) -> usize {
        4 * self.n * self.h * self.w * self.fours
    }
}

/// The results of a forward pass that the gradients need.
pub struct Tape {
    image: Pixels,
    /// The output of each layer before pooling, except where only the pooled output is needed.
    outputs: Vec<Option<Pixels>>,
    pools: Vec<Pixels>,
}

/// The network over one set of parameters.
pub struct Passes<'a> {
    pub unet: UNet,
    pub layout: &'a Layout,
    pub parameters: Id,
    /// How the pixels between layers are stored; f32 when gradients are computed.
    pub storage: Storage,
}

impl Tape {
    /// The output of the last layer, which a forward pass for gradients keeps.
    pub fn output(&self) -> Pixels {
        let last = self.outputs.last().copied().flatten();
        last.expect("the network has layers")
    }
}

impl Passes<'_> {
    /// Runs the network on images.
    pub fn denoise(&self, graph: &mut Graph, image: Pixels, result: Pixels) {
        let blocks = self.to_blocks(graph, image);
        if self.unet.pixel_shuffle == 1 {
            self.forward(graph, blocks, Some(result));
            return;
        }
        let denoised = like(graph, blocks);
        self.forward(graph, blocks, Some(denoised));
        self.move_blocks(graph, include_str!("wgsl/to_pixels.wgsl"), denoised, result);
    }

    /// Converts images to the layout of the first layer: space-to-depth, if the network has it.
    pub fn to_blocks(&self, graph: &mut Graph, image: Pixels) -> Pixels {
        let block = self.unet.pixel_shuffle;
        if block == 1 {
            return image;
        }
        let shape = [image.n, image.h / block, image.w / block];
        let fours = fours(self.unet.block_channels());
        let blocks = Pixels::temporary(graph, shape, fours, Storage::F32);
        self.move_blocks(graph, include_str!("wgsl/to_blocks.wgsl"), image, blocks);
        blocks
    }

    /// Converts the last layer's output to images: depth-to-space, if the network has it.
    pub fn to_pixels(&self, graph: &mut Graph, blocks: Pixels) -> Pixels {
        let block = self.unet.pixel_shuffle;
        if block == 1 {
            return blocks;
        }
        let shape = [blocks.n, block * blocks.h, block * blocks.w];
        let image = Pixels::temporary(graph, shape, image_fours(&self.unet), Storage::F32);
        self.move_blocks(graph, include_str!("wgsl/to_pixels.wgsl"), blocks, image);
        image
    }

    fn move_blocks(&self, graph: &mut Graph, source: &str, from: Pixels, to: Pixels) {
        let UNet {
            n_channel,
            pixel_shuffle,
            ..
        } = self.unet;
        graph.push(Pass {
            kernel: Kernel::Text(source.into()),
            params: words([
                from.h.min(to.h),
                from.w.min(to.w),
                pixel_shuffle,
                n_channel,
                image_fours(&self.unet),
                fours(self.unet.block_channels()),
            ]),
            buffers: vec![from.id, to.id],
            groups: [to.w.div_ceil(64), to.h, to.n],
        });
    }

    /// Runs the layers of the network on `image`. With `result`, the last layer writes there, and only what later layers
    /// read is stored; without it, everything is kept for the gradients.
    pub fn forward(&self, graph: &mut Graph, image: Pixels, result: Option<Pixels>) -> Tape {
        let layers = self.unet.layers();
        let mut tape = Tape {
            image,
            outputs: vec![],
            pools: vec![],
        };
        for (i, (layer, place)) in layers.iter().zip(&self.layout.places).enumerate() {
            let inputs = self.inputs(&tape, i);
            let Pixels { n, h, w, .. } = inputs[0];
            let up = layer.kind == Kind::Up2x2;
            let grown = if up { 2 } else { 1 };
            let full = (!layer.pool || result.is_none()).then(|| match result {
                Some(result) if i + 1 == layers.len() => result,
                _ => {
                    let shape = [n, grown * h, grown * w];
                    Pixels::temporary(graph, shape, place.outputs, self.storage)
                }
            });
            let pooled = layer
                .pool
                .then(|| Pixels::temporary(graph, [n, h / 2, w / 2], place.outputs, self.storage));
            let conv = Conv {
                radius: usize::from(layer.kind == Kind::Conv3x3),
                inputs: inputs.len(),
                transposed: false,
                up,
                epilogue: if layer.activation {
                    Epilogue::LeakyRelu
                } else {
                    Epilogue::Store
                },
                output: match (full, pooled) {
                    (_, None) => Output::Full,
                    (None, _) => Output::Pooled,
                    _ => Output::Both,
                },
                from: [inputs[0].storage, inputs[inputs.len() - 1].storage],
                to: full.or(pooled).map_or(self.storage, |to| to.storage),
            };
            let params = ConvParams {
                h,
                w,
                inputs: place.inputs,
                outputs: place.columns,
                weight: place.weight,
                bias: place.bias,
                rows: place.rows(),
                columns: place.columns,
                first: 0,
                part: place.outputs,
            };
            let to: Vec<Id> = [full, pooled]
                .into_iter()
                .flatten()
                .map(|to| to.id)
                .collect();
            self.convolve(graph, conv, params, &inputs, &to);
            tape.outputs.push(full);
            tape.pools.extend(pooled);
        }
        tape
    }

    fn convolve(
        &self,
        graph: &mut Graph,
        conv: Conv,
        params: ConvParams,
        inputs: &[Pixels],
        to: &[Id],
    ) {
        let inputs_of = inputs.iter().map(|input| input.id);
        graph.push(Pass {
            kernel: Kernel::Conv(conv),
            params: params.words(),
            buffers: std::iter::once(self.parameters)
                .chain(inputs_of)
                .chain(to.iter().copied())
                .collect(),
            groups: params.groups(inputs[0].n),
        });
    }

    /// The inputs of layer `i`: the layer above (pooled, if it pools), then the skip.
    fn inputs(&self, tape: &Tape, i: usize) -> Vec<Pixels> {
        let layers = self.unet.layers();
        let main = match i.checked_sub(1) {
            None => tape.image,
            Some(above) if layers[above].pool => tape.pools[self.pools_before(i) - 1],
            Some(above) => tape.outputs[above].expect("written, because it is not pooled"),
        };
        let skip = layers[i].skip.map(|skip| match skip {
            Skip::Pool(k) => tape.pools[k - 1],
            Skip::Image => tape.image,
        });
        std::iter::once(main).chain(skip).collect()
    }

    /// Number of poolings before layer `i`.
    fn pools_before(&self, i: usize) -> usize {
        let layers = self.unet.layers();
        layers[..i].iter().filter(|layer| layer.pool).count()
    }

    /// Fills `gradients` from the gradient of the network's output; records in `losses` if one is not finite.
    pub fn backward(
        &self,
        graph: &mut Graph,
        tape: &Tape,
        output: Pixels,
        (gradients, losses): (Id, Id),
    ) {
        let layers = self.unet.layers();
        // Gradients of the poolings' outputs, from the decoder layers that read them.
        let mut skipped: Vec<Option<Pixels>> = vec![None; tape.pools.len()];
        // The gradient of the layer's output before its activation.
        let mut gradient = output;
        for (i, (layer, place)) in layers.iter().zip(&self.layout.places).enumerate().rev() {
            let inputs = self.inputs(tape, i);
            weight_gradient(
                graph,
                (layer, place),
                &inputs,
                gradient,
                (gradients, losses),
            );
            let Some(above) = i.checked_sub(1) else { break };

            if let Some(Skip::Pool(k)) = layer.skip {
                let to = like(graph, inputs[1]);
                let first = 4 * place.inputs[0];
                self.back(
                    graph,
                    (layer, place),
                    first,
                    gradient,
                    (to, None),
                    Epilogue::Store,
                );
                skipped[k - 1] = Some(to);
            }
            let pooled = layers[above].pool.then(|| self.pools_before(i) - 1);
            let (to, epilogue) = match pooled.and_then(|k| skipped[k].take()) {
                Some(to) => (to, Epilogue::Add),
                None if pooled.is_none() && layers[above].activation => {
                    (like(graph, inputs[0]), Epilogue::Slope)
                }
                None => (like(graph, inputs[0]), Epilogue::Store),
            };
            let activation = (epilogue == Epilogue::Slope).then_some(inputs[0]);
            self.back(
                graph,
                (layer, place),
                0,
                gradient,
                (to, activation),
                epilogue,
            );
            gradient = if pooled.is_some() {
                let full = tape.outputs[above].expect("kept for the gradients");
                pool_gradient(graph, full, to)
            } else {
                to
            };
        }
    }

    /// The gradient of the input channels from row `first` of the weight on.
    fn back(
        &self,
        graph: &mut Graph,
        (layer, place): (&Layer, &Place),
        first: usize,
        gradient: Pixels,
        (to, activation): (Pixels, Option<Pixels>),
        epilogue: Epilogue,
    ) {
        let up = layer.kind == Kind::Up2x2;
        let conv = Conv {
            radius: usize::from(layer.kind == Kind::Conv3x3),
            inputs: 1,
            transposed: true,
            up,
            epilogue,
            output: Output::Full,
            from: [Storage::F32; 2],
            to: Storage::F32,
        };
        let params = ConvParams {
            h: to.h,
            w: to.w,
            inputs: [place.columns, 0],
            outputs: to.fours,
            weight: place.weight,
            bias: 0,
            rows: place.rows(),
            columns: place.columns,
            first,
            part: place.outputs,
        };
        let buffers: Vec<Id> = activation.iter().map(|a| a.id).chain([to.id]).collect();
        self.convolve(graph, conv, params, &[gradient], &buffers);
    }
}

/// Fills the gradients of a layer's weight and bias.
fn weight_gradient(
    graph: &mut Graph,
    (layer, place): (&Layer, &Place),
    inputs: &[Pixels],
    gradient: Pixels,
    (gradients, losses): (Id, Id),
) {
    let correlation = Correlation {
        radius: usize::from(layer.kind == Kind::Conv3x3),
        up: layer.kind == Kind::Up2x2,
    };
    let Pixels { n, h, w, .. } = inputs[0];
    let mut params = CorrelationParams {
        n,
        h,
        w,
        inputs: place.inputs[0],
        columns: place.columns,
        first: 0,
        rows: place.rows(),
        part: place.outputs,
        stride: place.len,
        splits: 1,
    };
    let [x, y, _] = params.groups(correlation);
    params.splits = (BUSY / (x * y)).clamp(1, params.strips().min(MAX_SPLITS));
    let partial = graph.temporary(16 * (params.splits * params.stride) as u64);
    for (input, first) in inputs.iter().zip([0, 4 * place.inputs[0]]) {
        params.inputs = input.fours;
        params.first = first;
        graph.push(Pass {
            kernel: Kernel::Correlation(correlation),
            params: params.words(),
            buffers: vec![input.id, gradient.id, partial],
            groups: params.groups(correlation),
        });
    }
    let pixels = gradient.n * gradient.h * gradient.w;
    graph.push(Pass {
        kernel: Kernel::Text(include_str!("wgsl/sum_columns.wgsl").into()),
        params: words([
            pixels,
            gradient.fours,
            place.bias - place.weight,
            params.stride,
            params.splits,
        ]),
        buffers: vec![gradient.id, partial],
        groups: [gradient.fours.div_ceil(8), params.splits, 1],
    });
    graph.push(Pass {
        kernel: Kernel::Text(with_step(include_str!("wgsl/sum_copies.wgsl"))),
        params: words([place.weight, params.stride, params.splits]),
        buffers: vec![partial, gradients, losses],
        groups: line(params.stride),
    });
}

fn like(graph: &mut Graph, pixels: Pixels) -> Pixels {
    let Pixels { n, h, w, .. } = pixels;
    Pixels::temporary(graph, [n, h, w], pixels.fours, pixels.storage)
}

fn pool_gradient(graph: &mut Graph, activation: Pixels, pooled: Pixels) -> Pixels {
    let to = like(graph, activation);
    let constants = format!("const LEAKY_SLOPE = {LEAKY_SLOPE:?}f;\n");
    graph.push(Pass {
        kernel: Kernel::Text(constants + include_str!("wgsl/pool_gradient.wgsl")),
        params: words([pooled.h, pooled.w, pooled.fours]),
        buffers: vec![activation.id, pooled.id, to.id],
        groups: [(pooled.w * pooled.fours).div_ceil(64), pooled.h, pooled.n],
    });
    to
}

/// Buffers that the passes of a training step share in addition to the network's own.
#[derive(Debug, Clone, Copy)]
pub struct Shared {
    /// The parameters of the step: `wgsl/step.wgsl`.
    pub step: Id,
    pub losses: Id,
}

/// Draws noisy patches from clean ones, and the pairs of neighbors on them.
pub fn draw(
    graph: &mut Graph,
    shared: Shared,
    batch: &CleanBatch,
    clean: Id,
    (noisy, pairs): (Pixels, Id),
) {
    let Noise { poisson, gauss } = batch.noise;
    // A level of 0 means none.
    let bounds = |levels: Option<Levels>| levels.map_or([0.0; 2], |Levels { min, max }| [min, max]);
    let bytes = matches!(batch.pixels, n2n::network::Pixels::U8(_));
    let mut params = words([
        noisy.n,
        noisy.h,
        batch.c,
        noisy.fours,
        usize::from(bytes),
        usize::from(batch.augment),
    ]);
    for levels in [poisson, gauss.map(Levels::to_unit_scale)] {
        params.extend(bounds(levels).map(|level| (level as f32).to_bits()));
    }
    graph.push(Pass {
        kernel: Kernel::Text(
            with_step(include_str!("wgsl/random.wgsl")) + include_str!("wgsl/draw_noise.wgsl"),
        ),
        params,
        buffers: vec![shared.step, clean, noisy.id],
        groups: [noisy.w.div_ceil(64), noisy.h, noisy.n],
    });
    let cells = noisy.n * noisy.h * noisy.w / 4;
    graph.push(Pass {
        kernel: Kernel::Text(
            with_step(include_str!("wgsl/random.wgsl")) + include_str!("wgsl/draw_pairs.wgsl"),
        ),
        params: words([cells]),
        buffers: vec![shared.step, pairs],
        groups: line(cells),
    });
}

/// The network's input: the first neighbors of `noisy`.
pub fn sub_sample(graph: &mut Graph, noisy: Pixels, pairs: Id) -> Pixels {
    let (h, w) = (noisy.h / 2, noisy.w / 2);
    let half = Pixels::temporary(graph, [noisy.n, h, w], noisy.fours, Storage::F32);
    graph.push(Pass {
        kernel: Kernel::Text(with_step(include_str!("wgsl/sub_sample.wgsl"))),
        params: words([h, w, noisy.fours]),
        buffers: vec![noisy.id, pairs, half.id],
        groups: [w.div_ceil(64), h, noisy.n],
    });
    half
}

/// The patches whose turn it is, as many as `taken` holds.
pub fn take_patches(graph: &mut Graph, shared: Shared, patches: Pixels, taken: Pixels) {
    let len = patches.h * patches.w * patches.fours;
    let [x, y, _] = line(len);
    graph.push(Pass {
        kernel: Kernel::Text(with_step(include_str!("wgsl/take_patches.wgsl"))),
        params: words([len, patches.n]),
        buffers: vec![shared.step, patches.id, taken.id],
        groups: [x, y, taken.n],
    });
}

/// The losses, and the gradient of the network's output. `denoised` may hold fewer patches than `noisy`: those whose
/// turn it is.
pub fn loss(
    graph: &mut Graph,
    shared: Shared,
    output: Pixels,
    (channels, target): (usize, Target),
    (noisy, denoised, pairs): (Pixels, Pixels, Id),
) -> Pixels {
    let gradient = like(graph, output);
    let cells = output.n * output.h * output.w;
    let groups = cells.div_ceil(1024);
    let sums = graph.temporary(8 * groups as u64);
    graph.push(Pass {
        kernel: Kernel::Text(with_step(include_str!("wgsl/loss.wgsl"))),
        params: words([
            output.h,
            output.w,
            channels,
            output.fours,
            cells,
            noisy.n,
            denoised.n,
            usize::from(target == Target::Mean),
        ]),
        buffers: vec![
            shared.step,
            output.id,
            noisy.id,
            denoised.id,
            pairs,
            gradient.id,
            sums,
        ],
        groups: [groups, 1, 1],
    });
    graph.push(Pass {
        kernel: Kernel::Text(with_step(include_str!("wgsl/sum_losses.wgsl"))),
        params: words([groups]),
        buffers: vec![sums, shared.losses],
        groups: [1, 1, 1],
    });
    gradient
}

/// A pass over all parameters, with one of the sources in `wgsl/`; `buffers` are its buffers, the step's parameters
/// first.
pub fn over_parameters(graph: &mut Graph, layout: &Layout, source: &str, buffers: Vec<Id>) {
    graph.push(Pass {
        kernel: Kernel::Text(with_step(source)),
        params: words([layout.len / 4]),
        buffers,
        groups: line(layout.len / 4),
    });
}

fn words<const N: usize>(numbers: [usize; N]) -> Vec<u32> {
    numbers.map(|number| number as u32).to_vec()
}

/// Workgroups of 64 threads for `items` items, numbered by `item_of` in `wgsl/step.wgsl`.
pub fn line(items: usize) -> [usize; 3] {
    let groups = items.div_ceil(64);
    [groups.min(1 << 10), groups.div_ceil(1 << 10), 1]
}

/// A source, preceded by the definitions that the passes of a step share.
pub fn with_step(source: &str) -> String {
    use n2n_kernels::adam::{BETA1, BETA2, EPSILON};
    let pairs = PAIRS.iter().rev().fold(0, |packed, &(first, second)| {
        packed << 4 | u32::from(second) << 2 | u32::from(first)
    });
    format!(
        "const PAIRS = {pairs}u;\nconst BETA1 = {BETA1:?}f;\nconst BETA2 = {BETA2:?}f;\n\
         const EPSILON = {EPSILON:?}f;\n{}\n{source}",
        include_str!("wgsl/step.wgsl")
    )
}

/// Number of channel groups of four in the network's images.
pub fn image_fours(unet: &UNet) -> usize {
    fours(unet.n_channel)
}
