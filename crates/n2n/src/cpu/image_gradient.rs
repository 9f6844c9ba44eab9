//! The gradient of a loss on the network's output with respect to its input. The weights do not change.

use n2n_kernels::conv::{self, Position};
use n2n_kernels::tensor::{Shape, Tensor};

use super::learn::Wanted;
use super::{CpuNetwork, epilogue, in_pool, shape};
use crate::batch::Batch;
use crate::error::Result;
use crate::network;

impl CpuNetwork {
    /// The gradient of a loss on the network's output with respect to its input `images`.
    ///
    /// `loss` is called once with the network's output for `images`, and returns the gradient of the loss with respect
    /// to that output; both have the shape of `images`. Height and width must be multiples of the network's
    /// [grid](crate::unet::UNet::grid).
    ///
    /// ```
    /// use n2n::batch::Batch;
    /// use n2n::cpu::CpuNetwork;
    /// use n2n::unet::UNet;
    ///
    /// let mut network = CpuNetwork::initial(UNet::new(4, 1)?, 1);
    /// let images = Batch::zeros(1, 32, 32, 1);
    /// // The loss is half of the sum of the squares of the output, whose gradient is the output.
    /// let gradient = network.image_gradient(&images, |output| output.clone())?;
    /// assert_eq!(gradient.data.len(), 32 * 32);
    /// # Ok::<(), n2n::Error>(())
    /// ```
    ///
    /// # Errors
    /// Images whose size or number of channels the network does not accept.
    ///
    /// # Panics
    /// If `loss` returns a batch of another shape.
    pub fn image_gradient(
        &mut self,
        images: &Batch,
        loss: impl FnOnce(&Batch) -> Batch + Send,
    ) -> Result<Batch> {
        network::check_images(&self.unet, images)?;
        self.keep_memory_for(images);
        Ok(in_pool(|| self.gradient_of_images(images, loss)))
    }

    fn gradient_of_images(&mut self, images: &Batch, loss: impl FnOnce(&Batch) -> Batch) -> Batch {
        let mut tape = self.forward(images);
        let mut pixels = tape.outputs.pop().expect("layers before the 1×1 layers");
        let output = self.run_head(&pixels);
        let output = self.download(output);
        let gradient = loss(&output);
        assert_eq!(shape(&gradient), shape(images), "shape of the gradient");

        let gradient = self.in_blocks(gradient);
        let Batch { h, w, c, .. } = gradient;
        let stride = shape(&gradient).pixel_stride();
        self.learn_head(&mut pixels, |Position { n, y, x }, outputs| {
            let from = &gradient.data[((n * h + y) * w + x) * c..];
            let pixels = outputs.chunks_exact_mut(stride);
            for (to, from) in pixels.zip(from.chunks_exact(c)) {
                to[..c].copy_from_slice(from);
            }
            [0.0; 2]
        });
        let mut of_images = self.upload(&Batch::zeros(images.n, images.h, images.w, images.c));
        self.backward(tape, pixels, Wanted::Image(&mut of_images));
        self.download(of_images)
    }

    /// The output of the 1×1 layers at the end, from that of the layer before them.
    fn run_head(&mut self, pixels: &Tensor) -> Tensor {
        let rows = self.head()..self.layers.len();
        let mut output = self.arena.take(Shape {
            c: self.unet.block_channels(),
            ..pixels.shape()
        });
        let chain: Vec<_> = rows
            .map(|i| {
                let conv = self.packed.conv(&self.parameters, i);
                (conv, epilogue(&self.layers[i]))
            })
            .collect();
        conv::run_chain(self.level, &chain, pixels, &mut output);
        output
    }
}
