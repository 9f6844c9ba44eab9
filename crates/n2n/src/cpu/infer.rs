//! Inference: the rows in order, each tensor given back as soon as nothing needs it. Poolings are
//! taken on the way, and the 1×1 layers at the end run as one chain, so that the largest tensors
//! are never made.

use n2n_kernels::conv;
use n2n_kernels::tensor::{Shape, Tensor};

use super::{CpuNetwork, Packed, epilogue};
use crate::batch::Batch;
use crate::unet::{Kind, Skip};

impl CpuNetwork {
    /// Denoises a batch whose size the caller has checked.
    pub(super) fn infer(&mut self, noisy: &Batch) -> Batch {
        self.pack();
        let image = self.upload(noisy);
        let mut pools = vec![];
        let mut current = None;
        let mut i = 0;
        while i < self.layers.len() {
            let layer = self.layers[i];
            let skip = match layer.skip {
                Some(Skip::Pool(_)) => pools.pop(),
                Some(Skip::Image) | None => None,
            };
            let main = current.as_ref().unwrap_or(&image);
            let chained = self.layers[i..]
                .iter()
                .take_while(|l| l.kind == Kind::Conv1x1)
                .count();
            let output = match (layer.skip, &skip) {
                _ if chained > 1 => self.run_chain(i..i + chained, main),
                (Some(Skip::Image), _) => self.run_layer(i, &[main, &image], layer.pool),
                (_, Some(pool)) => self.run_layer(i, &[main, pool], layer.pool),
                _ => self.run_layer(i, &[main], layer.pool),
            };
            // A pooling's output is kept for the decoder if the decoder reads it.
            match current.replace(output) {
                Some(used) if i > 0 && self.layers[i - 1].pool && self.is_skipped_to(i - 1) => {
                    pools.push(used);
                }
                Some(used) => self.arena.give(used),
                None => {}
            }
            if let Some(skip) = skip {
                self.arena.give(skip);
            }
            i += chained.max(1);
        }
        let output = current.expect("the network has layers");
        let mut denoised = Batch::zeros(noisy.n, noisy.h, noisy.w, noisy.c);
        output.copy_to(&mut denoised.data);
        self.arena.give(output);
        self.arena.give(image);
        denoised
    }

    /// Runs 1×1 layers one after another.
    fn run_chain(&mut self, rows: std::ops::Range<usize>, input: &Tensor) -> Tensor {
        let layers = &self.layers[rows.clone()];
        let packed = &self
            .packed
            .as_ref()
            .expect("packed before the layers are run")[rows];
        let chain: Vec<_> = layers
            .iter()
            .zip(packed)
            .map(|(layer, packed)| match packed {
                Packed::Conv(conv) => (conv, epilogue(layer)),
                Packed::Up(_) => unreachable!("a 1×1 convolution"),
            })
            .collect();
        let outputs = layers[layers.len() - 1].outputs;
        let mut output = self.arena.take(Shape {
            c: outputs,
            ..input.shape()
        });
        conv::run_chain(self.level, &chain, input, &mut output);
        output
    }

    /// Whether a later row reads the pooling after row `i`.
    fn is_skipped_to(&self, i: usize) -> bool {
        let pool = self.layers[..=i].iter().filter(|layer| layer.pool).count();
        self.layers
            .iter()
            .any(|layer| layer.skip == Some(Skip::Pool(pool)))
    }
}
