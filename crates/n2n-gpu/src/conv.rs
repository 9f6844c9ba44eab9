//! Convolutions as WGSL: one generator for the forward pass and the input gradient of every kind of layer.
//!
//! They are implicit matrix products over tiles of pixels; no matrix of patches is stored. The inner loop is unrolled
//! by the generator, because WGSL has no way to request it, and its sums stay in registers.

use n2n::unet::LEAKY_SLOPE;

use crate::wgsl::{Bindings, LANES, PACKING, Storage, write};

/// Width and height of the tile of pixels that a workgroup of [`Conv`] computes.
pub const TILE: [usize; 2] = [16, 8];
/// Number of output channels per workgroup, in units of four.
pub const BLOCK: usize = 12;

/// What is applied to the sums of a convolution before they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Epilogue {
    Store,
    LeakyRelu,
    /// Multiplied by the slope of a `LeakyReLU`, whose output is in the buffer bound just before this convolution's.
    Slope,
    /// Added to the output buffer.
    Add,
}

/// Which results of a convolution are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Output {
    Full,
    /// Only the maximum of each 2×2 block.
    Pooled,
    /// All of them, and the pooled ones in a separate buffer.
    Both,
}

/// A convolution over pixels of `vec4`s of channels; the forward pass adds a bias.
///
/// Buffers: parameters, one or two inputs, the activation for [`Epilogue::Slope`], output, pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv {
    /// 1 for a 3×3 convolution, 0 for one with a single tap.
    pub radius: usize,
    /// Number of inputs, whose channels are concatenated.
    pub inputs: usize,
    /// Whether it maps the outputs of the layer back to its inputs.
    pub transposed: bool,
    /// Whether the layer upsamples, producing four pixels from one.
    pub up: bool,
    pub epilogue: Epilogue,
    pub output: Output,
    /// How each input is stored; a single one is listed twice.
    pub from: [Storage; 2],
    /// How the output is stored.
    pub to: Storage,
}

/// The parameters of a [`Conv`]. Channels, columns and offsets are in units of four.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConvParams {
    pub h: usize,
    pub w: usize,
    pub inputs: [usize; 2],
    pub outputs: usize,
    /// Offsets of weight and bias.
    pub weight: usize,
    pub bias: usize,
    /// Rows of the weight per tap, and the length of a row in units of four.
    pub rows: usize,
    pub columns: usize,
    /// The first row that a transposed convolution computes.
    pub first: usize,
    /// Channels, in units of four, of each of the four pixels that an upsampling layer produces from one.
    pub part: usize,
}

impl ConvParams {
    pub fn words(&self) -> Vec<u32> {
        let [k0, k1] = self.inputs;
        let blocks = self.outputs.div_ceil(BLOCK);
        [
            self.h,
            self.w,
            k0,
            k1,
            self.outputs,
            self.weight,
            self.bias,
            self.rows,
            self.columns,
            self.first,
            self.part,
            blocks,
        ]
        .map(|word| word as u32)
        .to_vec()
    }

    /// Workgroups needed for `n` images.
    pub fn groups(&self, n: usize) -> [usize; 3] {
        let [across, down] = TILE;
        [
            self.w.div_ceil(across),
            self.h.div_ceil(down),
            n * self.outputs.div_ceil(BLOCK),
        ]
    }
}

/// Each thread computes 4 × 2 pixels and two groups of four channels.
const PIXELS: [usize; 2] = [4, 2];
/// Threads per workgroup.
const THREADS: usize = TILE[0] / PIXELS[0] * (TILE[1] / PIXELS[1]) * (BLOCK / 2);

impl Conv {
    /// The kernel in WGSL.
    pub fn source(self) -> String {
        let side = 2 * self.radius + 1;
        let (across, down) = self.tile_with_halo();
        let mut sums = String::new();
        let mut load = String::new();
        for (y, x) in pixels() {
            write!(
                sums,
                "var s{y}{x}a = vec4<f32>(); var s{y}{x}b = vec4<f32>();\n"
            );
        }
        for y in 0..PIXELS[1] + 2 * self.radius {
            for x in 0..PIXELS[0] + 2 * self.radius {
                write!(
                    load,
                    "let i{y}{x} = pixels[corner + {}u];\n",
                    y * across + x
                );
            }
        }
        format!(
            "struct Params {{
                h: u32, w: u32, k0: u32, k1: u32, outputs: u32, weight: u32, bias: u32, rows: u32,
                columns: u32, first: u32, part: u32, blocks: u32,
            }}
            {bindings}
            {PACKING}
            var<workgroup> pixels: array<vec4<f32>, {area}>;
            var<workgroup> weights: array<vec4<f32>, {weight_area}>;

            @compute @workgroup_size({THREADS})
            fn main(
                @builtin(workgroup_id) group: vec3<u32>,
                @builtin(local_invocation_index) thread: u32,
            ) {{
                let image = group.z / p.blocks;
                let block = group.z % p.blocks * {BLOCK}u;
                let channel = thread / {places}u * 2u;
                let place = vec2<u32>(thread % {wide}u * {px}u, thread % {places}u / {wide}u * {py}u);
                let corner = place.y * {across}u + place.x;
                {sums}
                for (var k = 0u; k < {joined}; k++) {{
                    workgroupBarrier();
                    {pixels}
                    {weights}
                    workgroupBarrier();
                    {load}
                    {products}
                }}
                let top = group.y * {tile_y}u + place.y;
                let left = group.x * {tile_x}u + place.x;
                {stores}
            }}",
            bindings = self.bindings(),
            area = across * down,
            weight_area = side * side * 4 * BLOCK,
            places = THREADS / (BLOCK / 2),
            wide = TILE[0] / PIXELS[0],
            px = PIXELS[0],
            py = PIXELS[1],
            tile_x = TILE[0],
            tile_y = TILE[1],
            joined = if self.inputs == 2 { "p.k0 + p.k1" } else { "p.k0" },
            pixels = self.load_pixels(),
            weights = self.load_weights(),
            products = self.products(),
            stores = self.stores(),
        )
    }

    /// Width and height of a tile, including the pixels around it that the taps reach.
    fn tile_with_halo(self) -> (usize, usize) {
        (TILE[0] + 2 * self.radius, TILE[1] + 2 * self.radius)
    }

    fn bindings(self) -> Bindings {
        let mut bindings = Bindings::default();
        bindings.read("parameters", Storage::F32);
        for i in 0..self.inputs {
            bindings.read(&format!("input{i}"), self.from[i]);
        }
        if self.epilogue == Epilogue::Slope {
            bindings.read("activation", Storage::F32);
        }
        if self.output != Output::Pooled {
            bindings.write("output", self.to);
        }
        if self.output != Output::Full {
            bindings.write("pooled", self.to);
        }
        bindings
    }

    /// Loads one group of four channels of the tile and its surroundings.
    fn load_pixels(self) -> String {
        let input = |i: usize, at: &str| self.from[i].get(&format!("input{i}"), at);
        let read = if self.transposed && self.up {
            format!(
                "let tap = k / p.part;
                let row = (image * 2u * p.h + 2u * u32(y) + tap / 2u) * 2u * p.w;
                let at = (row + 2u * u32(x) + tap % 2u) * p.part + k % p.part;
                v = {};",
                input(0, "at")
            )
        } else if self.inputs == 1 {
            format!(
                "let pixel = (image * p.h + u32(y)) * p.w + u32(x);
                v = {};",
                input(0, "pixel * p.k0 + k")
            )
        } else {
            format!(
                "let pixel = (image * p.h + u32(y)) * p.w + u32(x);
                if (k < p.k0) {{
                    v = {};
                }} else {{
                    v = {};
                }}",
                input(0, "pixel * p.k0 + k"),
                input(1, "pixel * p.k1 + k - p.k0")
            )
        };
        let (across, down) = self.tile_with_halo();
        format!(
            "for (var i = thread; i < {area}u; i += {THREADS}u) {{
                let y = i32(group.y * {tile_y}u + i / {across}u) - {r};
                let x = i32(group.x * {tile_x}u + i % {across}u) - {r};
                var v = vec4<f32>();
                if (y >= 0 && y < i32(p.h) && x >= 0 && x < i32(p.w)) {{
                    {read}
                }}
                pixels[i] = v;
            }}",
            area = across * down,
            tile_x = TILE[0],
            tile_y = TILE[1],
            r = self.radius,
        )
    }

    /// Loads the weights from the current four input channels to the workgroup's output channels, tap by tap, one row
    /// per channel.
    fn load_weights(self) -> String {
        let taps = (2 * self.radius + 1).pow(2);
        if self.transposed {
            // Four rows are read and transposed, because the sums here run along the rows. The taps are taken in
            // reverse order.
            format!(
                "for (var i = thread; i < {tasks}u; i += {THREADS}u) {{
                    let tap = i / {BLOCK}u;
                    let column = block + i % {BLOCK}u;
                    var r0 = vec4<f32>(); var r1 = vec4<f32>();
                    var r2 = vec4<f32>(); var r3 = vec4<f32>();
                    if (column < p.outputs) {{
                        let row = ({last}u - tap) * p.rows + p.first + 4u * column;
                        let at = p.weight + row * p.columns + k;
                        r0 = parameters[at];
                        r1 = parameters[at + p.columns];
                        r2 = parameters[at + 2u * p.columns];
                        r3 = parameters[at + 3u * p.columns];
                    }}
                    let to = tap * {four}u + i % {BLOCK}u;
                    weights[to] = vec4<f32>(r0.x, r1.x, r2.x, r3.x);
                    weights[to + {BLOCK}u] = vec4<f32>(r0.y, r1.y, r2.y, r3.y);
                    weights[to + {two}u] = vec4<f32>(r0.z, r1.z, r2.z, r3.z);
                    weights[to + {three}u] = vec4<f32>(r0.w, r1.w, r2.w, r3.w);
                }}",
                tasks = taps * BLOCK,
                last = taps - 1,
                two = 2 * BLOCK,
                three = 3 * BLOCK,
                four = 4 * BLOCK,
            )
        } else {
            format!(
                "for (var i = thread; i < {tasks}u; i += {THREADS}u) {{
                    let row = i / {BLOCK}u;
                    let column = block + i % {BLOCK}u;
                    var v = vec4<f32>();
                    if (column < p.outputs) {{
                        let origin = (row / 4u) * p.rows + 4u * k + row % 4u;
                        v = parameters[p.weight + origin * p.columns + column];
                    }}
                    weights[i] = v;
                }}",
                tasks = taps * 4 * BLOCK,
            )
        }
    }

    /// The products for every tap, channel and pixel of a thread, unrolled.
    fn products(self) -> String {
        let side = 2 * self.radius + 1;
        let mut text = String::new();
        for tap in 0..side * side {
            for (row, lane) in (4 * tap..).zip(LANES) {
                let at = row * BLOCK;
                write!(text, "{{ let a = weights[{at}u + channel];\n");
                write!(text, "let b = weights[{}u + channel];\n", at + 1);
                for (y, x) in pixels() {
                    let value = format!("vec4<f32>(i{}{}.{lane})", y + tap / side, x + tap % side);
                    write!(text, "s{y}{x}a = fma({value}, a, s{y}{x}a);\n");
                    write!(text, "s{y}{x}b = fma({value}, b, s{y}{x}b);\n");
                }
                text.push('}');
            }
        }
        text
    }

    /// Applies bias, epilogue and pooling to a thread's sums, four channels at a time.
    fn stores(self) -> String {
        let mut text = String::new();
        for (offset, half) in ["a", "b"].iter().enumerate() {
            write!(text, "if (block + channel + {offset}u < p.outputs) {{\n");
            write!(text, "let column = block + channel + {offset}u;\n");
            let bias = if self.transposed {
                "vec4<f32>()"
            } else if self.up {
                "parameters[p.bias + column % p.part]"
            } else {
                "parameters[p.bias + column]"
            };
            write!(text, "let bias = {bias};\n");
            for (y, x) in pixels() {
                write!(text, "var v{y}{x} = s{y}{x}{half} + bias;\n");
                if self.epilogue == Epilogue::LeakyRelu {
                    write!(text, "v{y}{x} = max(v{y}{x}, {LEAKY_SLOPE} * v{y}{x});\n");
                }
                if self.output != Output::Pooled {
                    self.store(&mut text, (y, x));
                }
            }
            if self.output != Output::Full {
                for x in (0..PIXELS[0]).step_by(2) {
                    let next = x + 1;
                    let most = format!("max(max(v0{x}, v0{next}), max(v1{x}, v1{next}))");
                    write!(
                        text,
                        "if (top < p.h && left + {x}u < p.w) {{
                            let row = (image * p.h + top) / 2u * (p.w / 2u);
                            pooled[(row + (left + {x}u) / 2u) * p.outputs + column] = {};
                        }}\n",
                        self.to.held(&most)
                    );
                }
            }
            text.push_str("}\n");
        }
        text
    }

    fn store(self, text: &mut String, (y, x): (usize, usize)) {
        let at = if self.up && !self.transposed {
            format!(
                "(((image * p.h + top + {y}u) * 2u + column / p.part / 2u) * p.w + left + {x}u)
                * 2u * p.part + (column / p.part % 2u) * p.part + column % p.part"
            )
        } else {
            format!("((image * p.h + top + {y}u) * p.w + left + {x}u) * p.outputs + column")
        };
        let value = match self.epilogue {
            Epilogue::Store | Epilogue::LeakyRelu => format!("v{y}{x}"),
            Epilogue::Slope => format!(
                "v{y}{x} * select(vec4<f32>({LEAKY_SLOPE}), vec4<f32>(1.0), \
                 activation[at] > vec4<f32>())"
            ),
            Epilogue::Add => format!("{} + v{y}{x}", self.to.get("output", "at")),
        };
        write!(
            text,
            "if (top + {y}u < p.h && left + {x}u < p.w) {{
                let at = {at};
                output[at] = {};
            }}\n",
            self.to.held(&value)
        );
    }
}

/// Row and column of each of a thread's pixels.
fn pixels() -> impl Iterator<Item = (usize, usize)> {
    (0..PIXELS[1]).flat_map(|y| (0..PIXELS[0]).map(move |x| (y, x)))
}
