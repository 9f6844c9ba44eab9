//! Weight gradients as WGSL.

use crate::conv::BLOCK;
use crate::wgsl::{Bindings, LANES, Storage, write};

/// Width and height of the strips of pixels that a workgroup processes one after another.
pub const STRIP: [usize; 2] = [16, 2];

/// The gradient of a weight: for each tap, the products of every input channel of a pixel and every output gradient
/// that the pixel contributes to, summed over the pixels.
///
/// A workgroup handles some channels of both and every `splits`-th strip of pixels. Its sums go into one copy of the
/// layer in `partial`, which it shares with the workgroups of the other channels; the copies are added later, always in
/// the same order.
///
/// Buffers: input, gradient, partial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Correlation {
    pub radius: usize,
    /// Whether the layer upsamples, so that each pixel uses the gradients of four output pixels.
    pub up: bool,
}

/// The parameters of a [`Correlation`]. Channels, columns and lengths are in units of four.
#[derive(Debug, Clone, Copy)]
pub struct CorrelationParams {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    /// Channels of the input, and of the gradient (for all four pixels).
    pub inputs: usize,
    pub columns: usize,
    /// The weight row of the input's first channel, and the number of rows per tap.
    pub first: usize,
    pub rows: usize,
    /// Channels of each of the four pixels of `up`.
    pub part: usize,
    /// Length of a copy of the layer, and the number of copies.
    pub stride: usize,
    pub splits: usize,
}

impl CorrelationParams {
    /// Strips of pixels to sum over.
    pub fn strips(&self) -> usize {
        self.n * self.w.div_ceil(STRIP[0]) * self.h.div_ceil(STRIP[1])
    }

    pub fn words(&self) -> Vec<u32> {
        let (across, strips) = (self.w.div_ceil(STRIP[0]), self.strips());
        [
            self.h,
            self.w,
            self.inputs,
            self.columns,
            self.first,
            self.rows,
            self.part,
            self.stride,
            self.splits,
            across,
            strips,
        ]
        .map(|word| word as u32)
        .to_vec()
    }

    pub fn groups(&self, correlation: Correlation) -> [usize; 3] {
        [
            self.inputs.div_ceil(correlation.channels()),
            self.columns.div_ceil(BLOCK),
            self.splits,
        ]
    }
}

impl Correlation {
    /// Input channels per workgroup, in units of four.
    pub fn channels(self) -> usize {
        if self.radius == 0 { 8 } else { 4 }
    }

    /// The kernel in WGSL.
    pub fn source(self) -> String {
        let r = self.radius;
        let side = 2 * r + 1;
        let channels = self.channels();
        let threads = BLOCK * channels * side;
        let (across, down) = (STRIP[0] + 2 * r, STRIP[1] + 2 * r);
        let mut bindings = Bindings::default();
        bindings.read("input0", Storage::F32);
        bindings.read("gradient", Storage::F32);
        bindings.write("partial", Storage::F32);
        format!(
            "struct Params {{
                h: u32, w: u32, inputs: u32, columns: u32, first: u32, rows: u32, part: u32,
                stride: u32, splits: u32, across: u32, strips: u32,
            }}
            {bindings}
            var<workgroup> pixels: array<vec4<f32>, {pixel_area}>;
            var<workgroup> slopes: array<vec4<f32>, {slope_area}>;

            @compute @workgroup_size({threads})
            fn main(
                @builtin(workgroup_id) group: vec3<u32>,
                @builtin(local_invocation_index) thread: u32,
            ) {{
                let column = thread % {BLOCK}u;
                let channel = thread / {BLOCK}u % {channels}u;
                let row = thread / {per_row}u;
                {sums}
                for (var strip = group.z; strip < p.strips; strip += p.splits) {{
                    let left = strip % p.across * {strip_x}u;
                    let down = (p.h + {strip_y}u - 1u) / {strip_y}u;
                    let top = strip / p.across % down * {strip_y}u;
                    let image = strip / p.across / down;
                    workgroupBarrier();
                    for (var i = thread; i < {pixel_area}u; i += {threads}u) {{
                        let k = group.x * {channels}u + i % {channels}u;
                        let y = i32(top + i / {pixel_row}u) - {r};
                        let x = i32(left + i / {channels}u % {across}u) - {r};
                        var v = vec4<f32>();
                        if (k < p.inputs && y >= 0 && y < i32(p.h) && x >= 0 && x < i32(p.w)) {{
                            v = input0[((image * p.h + u32(y)) * p.w + u32(x)) * p.inputs + k];
                        }}
                        pixels[i] = v;
                    }}
                    for (var i = thread; i < {slope_area}u; i += {threads}u) {{
                        let column = group.y * {BLOCK}u + i % {BLOCK}u;
                        let y = top + i / {slope_row}u;
                        let x = left + i / {BLOCK}u % {strip_x}u;
                        var v = vec4<f32>();
                        if (column < p.columns && y < p.h && x < p.w) {{
                            {read}
                        }}
                        slopes[i] = v;
                    }}
                    workgroupBarrier();
                    {products}
                }}
                let k = group.x * {channels}u + channel;
                let to = group.y * {BLOCK}u + column;
                if (k < p.inputs && to < p.columns) {{
                    let tap = row * {side}u;
                    let at = group.z * p.stride + (tap * p.rows + p.first + 4u * k) * p.columns + to;
                    {stores}
                }}
            }}",
            pixel_area = across * down * channels,
            pixel_row = across * channels,
            slope_area = STRIP[0] * STRIP[1] * BLOCK,
            slope_row = STRIP[0] * BLOCK,
            per_row = BLOCK * channels,
            strip_x = STRIP[0],
            strip_y = STRIP[1],
            sums = self.each(|x, _, lane| format!("var s{x}{lane} = vec4<f32>();\n")),
            read = if self.up {
                "let tap = column / p.part;
                let row = (image * 2u * p.h + 2u * y + tap / 2u) * 2u * p.w;
                v = gradient[(row + 2u * x + tap % 2u) * p.part + column % p.part];"
            } else {
                "v = gradient[((image * p.h + y) * p.w + x) * p.columns + column];"
            },
            products = self.products(),
            stores = self.each(|x, row, lane| {
                format!("partial[at + ({x}u * p.rows + {row}u) * p.columns] = s{x}{lane};\n")
            }),
        )
    }

    /// Generates text for every sum of a thread: each tap of a row, each channel of a group of four.
    fn each(self, text: impl Fn(usize, usize, &str) -> String) -> String {
        let taps = 0..=2 * self.radius;
        taps.flat_map(|x| (0..4).map(move |row| (x, row)))
            .map(|(x, row)| text(x, row, LANES[row]))
            .collect()
    }

    /// The products of a strip. Along a row, the inputs that the taps need shift by one.
    fn products(self) -> String {
        let channels = self.channels();
        let last = 2 * self.radius;
        let mut first = String::new();
        let mut shift = String::new();
        for x in 0..last {
            write!(
                first,
                "var i{x} = pixels[(at + {x}u) * {channels}u + channel];\n"
            );
            write!(shift, "i{x} = i{};\n", x + 1);
        }
        let sums = self.each(|x, _, lane| {
            format!("s{x}{lane} = fma(vec4<f32>(i{x}.{lane}), g, s{x}{lane});\n")
        });
        let [strip_x, strip_y] = STRIP;
        format!(
            "for (var y = 0u; y < {strip_y}u; y++) {{
                let at = (y + row) * {across}u;
                {first}
                for (var x = 0u; x < {strip_x}u; x++) {{
                    let i{last} = pixels[(at + x + {last}u) * {channels}u + channel];
                    let g = slopes[(y * {strip_x}u + x) * {BLOCK}u + column];
                    {sums}
                    {shift}
                }}
            }}",
            across = strip_x + last,
        )
    }
}
