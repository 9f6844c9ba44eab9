//! What the targets have in common.

use std::path::Path;

use n2n::weights::Weights;

/// Reads weights as a file of them is read, whatever its form, and fits them to a network.
pub fn read_weights(bytes: &[u8]) {
    if let Ok((weights, _)) = Weights::decode(bytes, Path::new("fuzz"))
        && let Ok(unet) = weights.architecture()
    {
        let _ = weights.to_parameters(&unet);
    }
}
