//! The shipped models, compiled into the program so that it can denoise without any other file.

use std::path::Path;

use crate::error::{Error, Result};
use crate::weights::{Format, Weights};

/// A shipped model.
#[derive(Debug, Clone, Copy)]
pub struct Shipped {
    /// The name that selects it.
    pub name: &'static str,
    /// One line on its purpose.
    pub description: &'static str,
    /// The noise it was trained with.
    pub noise: &'static str,
    bytes: &'static [u8],
}

/// All shipped models.
pub const SHIPPED: &[Shipped] = &[
    Shipped {
        name: "gauss5_50",
        description: "RGB, Gaussian noise of any level from 5 to 50",
        noise: "gauss5_50",
        bytes: include_bytes!("../models/gauss5_50.safetensors"),
    },
    Shipped {
        name: "gauss25",
        description: "RGB, Gaussian noise of level 25",
        noise: "gauss25",
        bytes: include_bytes!("../models/gauss25.safetensors"),
    },
    Shipped {
        name: "poisson30",
        description: "RGB, Poisson noise of λ 30",
        noise: "poisson30",
        bytes: include_bytes!("../models/poisson30.safetensors"),
    },
    Shipped {
        name: "poisson5_50",
        description: "RGB, Poisson noise of any λ from 5 to 50",
        noise: "poisson5_50",
        bytes: include_bytes!("../models/poisson5_50.safetensors"),
    },
];

/// The default model.
pub const DEFAULT: &str = "gauss5_50";

/// The license of the shipped models, which is that of the program; stored in their metadata as `license`.
pub const LICENSE: &str = env!("CARGO_PKG_LICENSE");

/// The weights of `model`: a file or the name of a shipped model; if `None`, [`DEFAULT`].
pub fn load(model: Option<&Path>) -> Result<Weights> {
    load_with_format(model).map(|(weights, _)| weights)
}

/// [`load`], which also returns the format of the file.
pub fn load_with_format(model: Option<&Path>) -> Result<(Weights, Format)> {
    let model = model.unwrap_or(Path::new(DEFAULT));
    // A run folder may have the name of a model.
    if model.exists() && !model.is_dir() {
        return Weights::read_with_format(model);
    }
    match SHIPPED
        .iter()
        .find(|shipped| Path::new(shipped.name) == model)
    {
        None if model.is_dir() => Err(Error::Weights {
            path: model.to_path_buf(),
            reason: "expected a weight file, found a folder".into(),
        }),
        Some(shipped) => {
            let (mut weights, format) = Weights::decode(shipped.bytes, model)?;
            weights.metadata.insert("license".into(), LICENSE.into());
            Ok((weights, format))
        }
        None => Err(Error::UnknownModel {
            name: model.display().to_string(),
            shipped: SHIPPED
                .iter()
                .map(|shipped| shipped.name)
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_model_is_a_network_and_says_its_noise() {
        for shipped in SHIPPED {
            let weights = load(Some(Path::new(shipped.name))).unwrap();
            weights.architecture().unwrap();
            assert_eq!(weights.metadata["noise"], shipped.noise);
            assert_eq!(weights.metadata["license"], LICENSE);
        }
    }

    #[test]
    fn without_a_name_it_is_the_default() {
        let named = load(Some(Path::new(DEFAULT))).unwrap();
        assert_eq!(load(None).unwrap(), named);
    }

    #[test]
    fn a_file_comes_before_a_name_and_a_wrong_name_lists_the_choices() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(DEFAULT);
        std::fs::write(&file, "not weights").unwrap();
        let error = load(Some(&file)).unwrap_err().to_string();
        assert!(error.contains("found a file that begins with"), "{error}");
        let error = load(Some(folder.path())).unwrap_err().to_string();
        assert!(
            error.contains("expected a weight file, found a folder"),
            "{error}"
        );
        let error = load(Some(Path::new("nowhere"))).unwrap_err().to_string();
        assert!(
            error.contains("no such file") && error.contains("shipped: gauss5_50"),
            "{error}"
        );
    }
}
