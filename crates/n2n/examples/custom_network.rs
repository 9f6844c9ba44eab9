//! A custom network: any type that implements `Denoise` can denoise images of any size, in tiles if they are large.
//!
//! ```sh
//! cargo run --release --example custom_network
//! ```
//!
//! This one computes the mean of 3×3 pixels. `n2n_gpu::GpuNetwork` and the program's second engine for ONNX files are
//! other examples. A network that also implements `Train` can be trained: see `n2n::train::fit`.

use n2n::Image;
use n2n::batch::Batch;
use n2n::denoise::denoise_in_tiles;
use n2n::network::Denoise;
use n2n::unet::Grid;

struct Mean;

impl Denoise for Mean {
    fn channels(&self) -> usize {
        1
    }

    /// It accepts any size, and sees one pixel in each direction.
    fn grid(&self) -> Grid {
        Grid {
            multiple: 1,
            halo: 1,
        }
    }

    fn denoise(&mut self, noisy: &Batch) -> n2n::Result<Batch> {
        let mut clean = noisy.clone();
        for i in 0..noisy.n {
            let (from, to) = (noisy.image(i), clean.image_mut(i));
            for y in 0..noisy.h {
                for x in 0..noisy.w {
                    let rows = y.saturating_sub(1)..(y + 2).min(noisy.h);
                    let columns = x.saturating_sub(1)..(x + 2).min(noisy.w);
                    let count = (rows.len() * columns.len()) as f32;
                    let sum: f32 = rows
                        .flat_map(|y| from[y * noisy.w..][columns.clone()].iter())
                        .sum();
                    to[y * noisy.w + x] = sum / count;
                }
            }
        }
        Ok(clean)
    }

    /// It needs no memory beyond the image and the result. These need not be counted, but 0 would mean that images
    /// should not be split.
    fn working_bytes(&self, h: usize, w: usize) -> u64 {
        8 * (h * w) as u64
    }

    fn device(&self) -> String {
        "a mean of 3x3 pixels".into()
    }
}

fn main() -> n2n::Result<()> {
    // A checkerboard of noise around a gray of 0.5.
    let (height, width) = (1000, 700);
    let data = (0..height * width).map(|i| 0.5 + 0.1 * ((i + i / width) % 2) as f32 - 0.05);
    let noisy = Image::from_f32(height, width, 1, data.collect())?;
    let clean = denoise_in_tiles(&mut Mean, &noisy.into_batch(), 200_000_000)?;
    let largest = clean
        .data
        .iter()
        .map(|x| (x - 0.5).abs())
        .fold(0.0, f32::max);
    println!("{}: at most {largest:.3} from 0.5", Mean.device());
    Ok(())
}
