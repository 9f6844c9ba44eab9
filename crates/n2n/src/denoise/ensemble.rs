//! The mean over the eight flips and turns of an image. Unless trained to treat them alike, a network makes different
//! errors in each; averaging reduces the errors at eight times the cost.

use crate::batch::Batch;
use crate::dihedral::Dihedral;
use crate::error::Result;

/// The flips and turns, in the order in which their results are added; the last bit of a sum depends on it.
const TURNS: [Dihedral; 8] = [
    Dihedral(0),
    Dihedral(1),
    Dihedral(2),
    Dihedral(3),
    Dihedral(4),
    Dihedral(6),
    Dihedral(5),
    Dihedral(7),
];

/// The mean of `run` over the eight flips and turns of a single image, each turned back.
pub(super) fn mean_over_turns(
    image: &Batch,
    mut run: impl FnMut(&Batch) -> Result<Batch>,
) -> Result<Batch> {
    let mut mean = Batch::zeros(1, image.h, image.w, image.c);
    for turn in TURNS {
        let denoised = laid(&run(&laid(image, turn))?, turn.inverse());
        for (mean, value) in mean.data.iter_mut().zip(&denoised.data) {
            *mean += value / 8.0;
        }
    }
    Ok(mean)
}

/// A single image, flipped or turned.
fn laid(image: &Batch, way: Dihedral) -> Batch {
    let (h, w) = way.size((image.h, image.w));
    Batch::new(1, h, w, image.c, way.apply(&image.data, (image.h, image.w)))
}
