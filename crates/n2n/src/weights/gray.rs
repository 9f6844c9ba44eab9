//! A model for grayscale images, made from one for color.

use super::{Tensor, Weights};
use crate::error::Result;
use crate::unet::Skip;

impl Weights {
    /// A network whose result for a grayscale image is that of this one for the image in `C` equal channels, averaged
    /// over the channels; a better start for training on grayscale images than random weights.
    ///
    /// The layers that see the image add up their weights over its channels; the last layer averages its outputs. The
    /// result has one channel, and of the metadata only the sizes.
    ///
    /// # Errors
    /// Tensors that are not those of a network.
    #[allow(clippy::missing_panics_doc, reason = "the tensors have been checked")]
    pub fn to_gray(&self) -> Result<Self> {
        let unet = self.architecture()?;
        let (c, layers) = (unet.n_channel, unet.layers());
        let sizes = unet.non_default_sizes();
        let mut gray = Self {
            tensors: self.tensors.clone(),
            metadata: sizes.map(|(k, v)| (k.into(), v.to_string())).collect(),
        };
        // Of the channels of a block, the C of a pixel are next to each other (`Batch::space_to_depth`).
        let places = unet.pixel_shuffle * unet.pixel_shuffle;
        for (i, layer) in layers.iter().enumerate() {
            let weight = gray.tensors.get_mut(&format!("{}.weight", layer.name));
            let weight = weight.expect("a network's tensors");
            if i == 0 || layer.skip == Some(Skip::Image) {
                // The image's channels are the last.
                let before = layer.inputs - c * places;
                *weight = sum_of_inputs(weight, before, c, places);
            } else if i + 1 == layers.len() {
                *weight = mean_of_outputs(weight, c, places);
                let bias = gray.tensors.get_mut(&format!("{}.bias", layer.name));
                let bias = bias.expect("a network's tensors");
                *bias = mean_of_outputs(bias, c, places);
            }
        }
        Ok(gray)
    }
}

/// `[out, before + places · c, kh, kw]` with the last inputs summed over `c`.
fn sum_of_inputs(weight: &Tensor, before: usize, c: usize, places: usize) -> Tensor {
    let taps: usize = weight.shape[2..].iter().product();
    let mut data = vec![];
    for row in weight.data.chunks_exact((before + c * places) * taps) {
        let (others, image) = row.split_at(before * taps);
        data.extend(others);
        for pixel in image.chunks_exact(c * taps) {
            data.extend((0..taps).map(|tap| pixel.iter().skip(tap).step_by(taps).sum::<f32>()));
        }
    }
    let mut shape = weight.shape.clone();
    shape[1] = before + places;
    Tensor { shape, data }
}

/// `[places · c, …]` averaged over `c`.
fn mean_of_outputs(tensor: &Tensor, c: usize, places: usize) -> Tensor {
    let row = tensor.data.len() / (places * c);
    let mut data = Vec::with_capacity(places * row);
    for pixel in tensor.data.chunks_exact(c * row) {
        data.extend((0..row).map(|i| pixel.iter().skip(i).step_by(row).sum::<f32>() / c as f32));
    }
    let mut shape = tensor.shape.clone();
    shape[0] = places;
    Tensor { shape, data }
}

#[cfg(test)]
mod tests {
    use crate::batch::Batch;
    use crate::cpu::CpuNetwork;
    use crate::network::Denoise;
    use crate::unet::UNet;

    #[test]
    fn a_gray_network_gives_the_mean_of_what_the_color_one_gives() {
        for pixel_shuffle in [1, 2] {
            let unet = UNet {
                n_feature: 5,
                n_depth: 3,
                head_width: 7,
                pixel_shuffle,
                ..UNet::default()
            };
            let mut color = CpuNetwork::initial_scaled(unet, 1.0, 3);
            let weights = color.weights().to_gray().unwrap();
            let expected = UNet {
                n_channel: 1,
                ..unet
            };
            assert_eq!(weights.architecture().unwrap(), expected);
            let mut gray = CpuNetwork::from_weights(&weights).unwrap();

            let value = |i: usize| (i * i % 101) as f32 / 100.0;
            let image = Batch::new(1, 64, 64, 1, (0..64 * 64).map(value).collect());
            let data = image.data.iter().flat_map(|&value| [value; 3]);
            let replicated = Batch::new(1, 64, 64, 3, data.collect());
            let of_color = color.denoise(&replicated).unwrap();
            let of_gray = gray.denoise(&image).unwrap();
            for (got, rgb) in of_gray.data.iter().zip(of_color.data.chunks_exact(3)) {
                let expected = (rgb[0] + rgb[1] + rgb[2]) / 3.0;
                assert!((got - expected).abs() < 1e-5, "{got} {expected}");
            }
        }
    }
}
