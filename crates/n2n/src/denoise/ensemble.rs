//! The mean over the eight flips and rotations of an image. A network makes different errors in each, unless it was
//! trained to treat them alike; averaging reduces the errors at eight times the cost.

use crate::batch::Batch;
use crate::dihedral::Dihedral;
use crate::error::Result;

/// The flips and rotations, in the order in which their results are added; the last bit of a sum depends on it.
const SYMMETRIES: [Dihedral; 8] = [
    Dihedral(0),
    Dihedral(1),
    Dihedral(2),
    Dihedral(3),
    Dihedral(4),
    Dihedral(6),
    Dihedral(5),
    Dihedral(7),
];

/// The mean of `run` over the eight flips and rotations of a single image, each undone.
pub(super) fn mean_over_symmetries(
    image: &Batch,
    mut run: impl FnMut(&Batch) -> Result<Batch>,
) -> Result<Batch> {
    let mut mean = Batch::zeros(1, image.h, image.w, image.c);
    for symmetry in SYMMETRIES {
        let denoised = applied(&run(&applied(image, symmetry))?, symmetry.inverse());
        for (mean, value) in mean.data.iter_mut().zip(&denoised.data) {
            *mean += value / 8.0;
        }
    }
    Ok(mean)
}

/// A single image, flipped or rotated.
fn applied(image: &Batch, symmetry: Dihedral) -> Batch {
    let (h, w) = symmetry.size((image.h, image.w));
    Batch::new(
        1,
        h,
        w,
        image.c,
        symmetry.apply(&image.data, (image.h, image.w)),
    )
}
