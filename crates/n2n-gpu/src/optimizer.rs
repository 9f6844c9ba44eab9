//! The optimizers as passes: Adam, and Muon for the weights of hidden layers.
//!
//! Muon ([`n2n_kernels::muon`]) replaces the momentum of each matrix with the nearest orthogonal one. On the device, a
//! layer's weight is that matrix with its rows and columns permuted, perhaps transposed, and padded with zeros; the
//! orthogonal matrix is the same, permuted, transposed and padded likewise. So Muon works on the device's layout as it
//! is. Each pass covers all matrices.

use n2n::network::Optimizer;
use n2n::unet::{Kind, UNet};
use n2n_kernels::muon::{COEFFICIENTS, ITERATIONS, MOMENTUM, SCALE};

use crate::graph::{Graph, Id, Pass};
use crate::kernel::Kernel;
use crate::layout::Layout;
use crate::passes::{Shared, line, with_step};

/// Side of the tiles of `wgsl/muon_product.wgsl`.
const TILE: usize = 32;

/// The buffers that an update works on, with one value per parameter.
#[derive(Debug, Clone, Copy)]
pub struct State {
    pub parameters: Id,
    pub gradients: Id,
    /// Adam's first moments; for weights that Muon updates, its momentum.
    pub first: Id,
    /// Adam's second moments.
    pub second: Id,
}

/// One update of all parameters.
pub fn update(
    graph: &mut Graph,
    optimizer: Optimizer,
    (unet, layout): (&UNet, &Layout),
    state: State,
    shared: Shared,
) {
    let matrices = match optimizer {
        Optimizer::Adam => vec![],
        Optimizer::Muon => matrices(unet, layout),
    };
    adam(graph, &others(&matrices, layout.len), state, shared);
    if !matrices.is_empty() {
        muon(graph, &matrices, layout.len, state, shared);
    }
}

/// A layer's weight on the device, in row-major order.
#[derive(Debug, Clone, Copy)]
struct Matrix {
    /// Index of its first value.
    at: usize,
    rows: usize,
    columns: usize,
    /// The factor on the learning rate.
    scale: f32,
}

impl Matrix {
    fn len(self) -> usize {
        self.rows * self.columns
    }

    fn shorter(self) -> usize {
        self.rows.min(self.columns)
    }
}

/// The weights of all layers but the first and the last.
fn matrices(unet: &UNet, layout: &Layout) -> Vec<Matrix> {
    let layers = unet.layers();
    let hidden = 1..layers.len().saturating_sub(1);
    hidden
        .map(|i| {
            let (place, [first, second, height, width]) =
                (&layout.places[i], layers[i].weight_shape());
            let taps = match layers[i].kind {
                Kind::Conv3x3 => 9,
                Kind::Conv1x1 | Kind::Up2x2 => 1,
            };
            let longer = first.max(second * height * width);
            Matrix {
                at: 4 * place.weight,
                rows: taps * place.rows(),
                columns: 4 * place.columns,
                scale: SCALE * (longer as f32).sqrt(),
            }
        })
        .collect()
}

/// The ranges of the parameters beside the matrices: first index and length.
fn others(matrices: &[Matrix], len: usize) -> Vec<[usize; 2]> {
    let starts = std::iter::once(0).chain(matrices.iter().map(|matrix| matrix.at + matrix.len()));
    let ends = matrices.iter().map(|matrix| matrix.at).chain([len]);
    starts
        .zip(ends)
        .map(|(start, end)| [start, end - start])
        .collect()
}

fn adam(graph: &mut Graph, ranges: &[[usize; 2]], state: State, shared: Shared) {
    let longest = ranges.iter().map(|[_, len]| len / 4).max().unwrap_or(0);
    let [x, y, _] = line(longest);
    let source = format!(
        "const RANGES = {}u;\n{}",
        ranges.len(),
        include_str!("wgsl/adam.wgsl")
    );
    let fours = |&[start, len]: &[usize; 2]| [start as u32 / 4, len as u32 / 4, 0, 0];
    graph.push(Pass {
        kernel: Kernel::Text(with_step(&source)),
        params: ranges.iter().flat_map(fours).collect(),
        buffers: vec![
            shared.step,
            state.parameters,
            state.gradients,
            state.first,
            state.second,
            shared.losses,
        ],
        groups: [x, y, ranges.len()],
    });
}

fn muon(graph: &mut Graph, matrices: &[Matrix], len: usize, state: State, shared: Shared) {
    let largest = |of: fn(&Matrix) -> usize| matrices.iter().map(of).max().unwrap_or(0);
    let shorter = largest(|matrix| matrix.shorter());
    let muon = Muon {
        params: matrices
            .iter()
            .flat_map(|m| {
                [
                    m.at as u32,
                    m.rows as u32,
                    m.columns as u32,
                    m.scale.to_bits(),
                ]
            })
            .collect(),
        definitions: definitions(matrices.len(), shorter),
        count: matrices.len(),
        whole: [
            largest(|matrix| matrix.columns),
            largest(|matrix| matrix.rows),
        ],
        square: [shorter; 2],
    };
    let mut whole = || graph.temporary(4 * len as u64);
    let (direction, orthogonal) = (whole(), whole());
    let scales = graph.temporary(4 * matrices.len() as u64);

    let [x, y, _] = line(largest(|matrix| matrix.len()));
    let elementwise = [x, y, matrices.len()];
    let momentum = vec![state.gradients, state.first, direction, shared.losses];
    muon.push(
        graph,
        include_str!("wgsl/muon_direction.wgsl"),
        momentum,
        elementwise,
    );
    let norm = include_str!("wgsl/muon_norm.wgsl");
    muon.push(graph, norm, vec![direction, scales], [matrices.len(), 1, 1]);
    // The first iterations scale the matrix; its result has the right scale.
    let [first, second] = ITERATIONS;
    muon.iterate(graph, first, direction, orthogonal, Some(scales));
    muon.iterate(graph, second, orthogonal, direction, None);
    let update = vec![shared.step, direction, state.parameters, shared.losses];
    muon.push(
        graph,
        include_str!("wgsl/muon_update.wgsl"),
        update,
        elementwise,
    );
}

/// What the passes of Muon share.
struct Muon {
    params: Vec<u32>,
    definitions: String,
    count: usize,
    /// The most columns and rows of a matrix.
    whole: [usize; 2],
    /// Those of the square matrices of the iteration.
    square: [usize; 2],
}

impl Muon {
    fn push(&self, graph: &mut Graph, source: &str, buffers: Vec<Id>, groups: [usize; 3]) {
        graph.push(Pass {
            kernel: Kernel::Text(with_step(&format!("{}{source}", self.definitions))),
            params: self.params.clone(),
            buffers,
            groups,
        });
    }

    /// A product, with the factors that `source` defines.
    fn product(
        &self,
        graph: &mut Graph,
        source: &str,
        buffers: Vec<Id>,
        [columns, rows]: [usize; 2],
    ) {
        let source = source.to_owned() + include_str!("wgsl/muon_product.wgsl");
        let groups = [columns.div_ceil(TILE), rows.div_ceil(TILE), self.count];
        self.push(graph, &source, buffers, groups);
    }

    /// `to` becomes the result of some iterations on `x`, which is divided by its norm first if there are `scales`: a
    /// polynomial of the small matrix `A = XXᵀ`, times X.
    fn iterate(&self, graph: &mut Graph, iterations: usize, x: Id, to: Id, scales: Option<Id>) {
        let scaled = |source: &str, binding: usize| match scales {
            None => format!("fn scale_of(m: u32) -> f32 {{ return 1.0; }}\n{source}"),
            Some(_) => format!(
                "@group(0) @binding({binding}) var<storage, read> scales: array<f32>;\n\
                 fn scale_of(m: u32) -> f32 {{ return scales[m]; }}\n{source}"
            ),
        };
        let mut gram = self.new_squares(graph);
        let source = scaled(include_str!("wgsl/muon_gram.wgsl"), 3);
        let buffers = [x, gram].into_iter().chain(scales).collect();
        self.product(graph, &source, buffers, self.square);
        let mut polynomial = None;
        for i in 0..iterations {
            // B = aI + bA + cA².
            let by = self.multiply(graph, gram, gram, true);
            if i + 1 < iterations {
                let half = self.multiply(graph, by, gram, false);
                gram = self.multiply(graph, half, by, false);
            }
            polynomial = Some(match polynomial {
                None => by,
                Some(polynomial) => self.multiply(graph, by, polynomial, false),
            });
        }
        let polynomial = polynomial.expect("at least one iteration");
        let source = scaled(include_str!("wgsl/muon_apply.wgsl"), 4);
        let buffers = [polynomial, x, to].into_iter().chain(scales).collect();
        self.product(graph, &source, buffers, self.whole);
    }

    /// The products of square matrices; or the polynomials of `a`, which `b` then equals.
    fn multiply(&self, graph: &mut Graph, a: Id, b: Id, polynomial: bool) -> Id {
        let result = self.new_squares(graph);
        let source = include_str!("wgsl/muon_square.wgsl");
        let source = format!("const POLYNOMIAL = {polynomial};\n{source}");
        self.product(graph, &source, vec![a, b, result], self.square);
        result
    }

    /// A square matrix for each matrix.
    fn new_squares(&self, graph: &mut Graph) -> Id {
        let [side, _] = self.square;
        graph.temporary(4 * (self.count * side * side) as u64)
    }
}

/// What the sources of Muon refer to, for so many matrices with a shorter side of at most `side`.
fn definitions(count: usize, side: usize) -> String {
    let [a, b, c] = COEFFICIENTS;
    format!(
        "const MOMENTUM = {MOMENTUM:?}f;\n\
         const COEFFICIENTS = vec3<f32>({a:?}f, {b:?}f, {c:?}f);\n\
         // Per matrix: the index of its first value, rows, columns, and the bits of the factor on the learning rate.\n\
         struct Params {{ matrices: array<vec4<u32>, {count}u> }}\n\
         fn square_at(m: u32, i: u32, j: u32) -> u32 {{ return (m * {side}u + i) * {side}u + j; }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_has_one_optimizer() {
        for (f, c) in [(48, 3), (1, 1), (5, 4)] {
            let unet = UNet::new(f, c).unwrap();
            let layout = Layout::new(&unet);
            let matrices = matrices(&unet, &layout);
            let mut covered = vec![0; layout.len];
            let ranges = others(&matrices, layout.len);
            let of_muon = matrices.iter().map(|matrix| [matrix.at, matrix.len()]);
            for [start, len] in ranges.into_iter().chain(of_muon) {
                assert!(start % 4 == 0 && len % 4 == 0);
                covered[start..start + len]
                    .iter_mut()
                    .for_each(|times| *times += 1);
            }
            assert!(covered.iter().all(|&times| times == 1), "F = {f}, C = {c}");
        }
    }
}
