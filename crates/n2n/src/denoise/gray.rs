//! A network for RGB and one for single channels, as one network.
//!
//! An RGB network expects noise that differs between the channels. If a gray image is repeated in all three, the noise
//! is the same in each, which the network takes for detail: it removes almost nothing. Single channels therefore need
//! a network of their own.

use crate::batch::Batch;
use crate::error::Result;
use crate::network::Denoise;
use crate::unet::Grid;

/// A network that passes batches with one channel to a gray network.
pub struct WithGray {
    color: Box<dyn Denoise>,
    gray: Box<dyn Denoise>,
    /// Whether the last batch had one channel.
    was_gray: bool,
}

impl WithGray {
    /// Uses `color` for batches with its number of channels, and `gray`, a network with one channel, for batches with
    /// one channel.
    pub fn new(color: Box<dyn Denoise>, gray: Box<dyn Denoise>) -> Self {
        Self {
            color,
            gray,
            was_gray: false,
        }
    }
}

impl Denoise for WithGray {
    fn channels(&self) -> usize {
        self.color.channels()
    }

    fn takes_gray(&self) -> bool {
        true
    }

    /// Its cells are whole numbers of both networks' cells, and its halo covers both halos.
    fn grid(&self) -> Grid {
        self.color.grid().join(self.gray.grid())
    }

    fn denoise(&mut self, noisy: &Batch) -> Result<Batch> {
        let is_gray = noisy.c == 1;
        let (network, other) = if is_gray {
            (&mut self.gray, &mut self.color)
        } else {
            (&mut self.color, &mut self.gray)
        };
        if is_gray != self.was_gray {
            self.was_gray = is_gray;
            // A fork has no scratch memory yet, so that only one of the two holds some.
            if let Some(fresh) = other.fork() {
                *other = fresh;
            }
        }
        network.denoise(noisy)
    }

    fn reserve(&mut self, h: usize, w: usize) -> Result<()> {
        self.color.reserve(h, w)?;
        self.gray.reserve(h, w)
    }

    fn working_bytes(&self, h: usize, w: usize) -> u64 {
        let color = self.color.working_bytes(h, w);
        color.max(self.gray.working_bytes(h, w))
    }

    fn device(&self) -> String {
        self.color.device()
    }

    fn fork(&self) -> Option<Box<dyn Denoise>> {
        let (color, gray) = (self.color.fork()?, self.gray.fork()?);
        Some(Box::new(Self::new(color, gray)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::fake::Fake;

    #[test]
    fn single_channels_go_to_the_gray_network() {
        let color = Fake::new(3, |x| x + 1.0);
        let gray = Fake::new(1, |x| x - 1.0);
        let mut both = WithGray::new(Box::new(color), Box::new(gray));
        assert!(both.channels() == 3 && both.takes_gray());
        for (c, value) in [(3, 1.0), (1, -1.0), (1, -1.0), (3, 1.0)] {
            let denoised = both.denoise(&Batch::zeros(1, 32, 32, c)).unwrap();
            assert!(denoised.data.iter().all(|&x| x == value), "{c}");
        }
    }

    #[test]
    fn the_grid_is_one_on_which_both_networks_are_exact() {
        let grid = |multiple, halo| Grid { multiple, halo };
        assert_eq!(grid(32, 128).join(grid(64, 64)), grid(64, 128));
        assert_eq!(grid(16, 80).join(grid(64, 64)), grid(64, 128));
        assert_eq!(grid(32, 128).join(grid(32, 128)), grid(32, 128));
        // 96 is the smallest multiple of both, and 192 the smallest of its multiples that holds both halos.
        assert_eq!(grid(48, 192).join(grid(32, 128)), grid(96, 192));
        assert_eq!(grid(32, 128).join(grid(48, 100)), grid(96, 192));
    }
}
