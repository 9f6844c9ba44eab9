//! The shipped models, compiled into the program so that it can denoise without any other file.
//!
//! They are in crates of their own, which the feature `models`, on by default, depends on. Without that feature, there
//! are none.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::weights::{Format, Weights};

/// A shipped model.
#[derive(Debug, Clone, Copy)]
pub struct Shipped {
    /// The name that selects it.
    pub name: &'static str,
    /// The noise it is for, and was trained with, perhaps beside weaker noise.
    pub noise: &'static str,
    /// Its trade-off between quality and speed.
    pub quality: Quality,
    /// Channels of the images that it was trained on: 3 for RGB, 1 for gray.
    pub channels: usize,
    /// The gray model for the same kind of noise, which denoises single channels for an RGB model; `None` for gray
    /// models.
    pub gray: Option<&'static str>,
    /// The PSNR in dB on BSD300 and Kodak with that noise, by the paper's protocol; `None` for gray models, which the
    /// protocol does not cover.
    pub scores: Option<[f64; 2]>,
    /// One line on its purpose.
    pub description: &'static str,
    bytes: &'static [u8],
}

/// The trade-off between quality and speed. Models of a quality have the architecture of the same name in
/// [`ARCHITECTURES`](crate::unet::ARCHITECTURES), and [`Quality::Best`] the paper's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    /// The paper's network.
    Best,
    /// The architecture `fast`.
    Fast,
    /// The architecture `faster`.
    Faster,
    /// The architecture `fastest`.
    Fastest,
}

impl Quality {
    /// All qualities, the best first.
    pub const ALL: [Self; 4] = [Self::Best, Self::Fast, Self::Faster, Self::Fastest];

    /// The name that selects it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Fast => "fast",
            Self::Faster => "faster",
            Self::Fastest => "fastest",
        }
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Quality {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|quality| quality.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::value("quality", format!("one of {names}"), name)
        })
    }
}

/// A row per model: its name (also that of its file), noise, quality, channels, gray companion, scores, description and
/// bytes.
#[cfg(feature = "models")]
macro_rules! shipped {
    ($($name:literal, $noise:literal, $quality:ident, $channels:literal, $gray:expr, $scores:expr, $description:literal, $bytes:expr;)*) => {
        &[$(Shipped {
            name: $name,
            noise: $noise,
            quality: Quality::$quality,
            channels: $channels,
            gray: $gray,
            scores: $scores,
            description: $description,
            bytes: $bytes,
        }),*]
    };
}

/// All shipped models.
#[cfg(feature = "models")]
pub static SHIPPED: &[Shipped] = {
    use n2n_models_gauss::{GAUSS5_50, GAUSS5_50_FAST, GAUSS5_50_GRAY, GAUSS25};
    use n2n_models_poisson::{POISSON5_50, POISSON5_50_GRAY, POISSON30};

    const GAUSS: Option<&str> = Some(GRAY);
    const POISSON: Option<&str> = Some("poisson5_50_gray");

    shipped![
        "gauss5_50", "gauss5_50", Best, 3, GAUSS, Some([30.92, 32.10]),
            "RGB, Gaussian noise of any level up to 50", GAUSS5_50;
        "gauss5_50_fast", "gauss5_50", Fast, 3, GAUSS, Some([30.59, 31.64]),
            "like gauss5_50, at a sixth of the cost", GAUSS5_50_FAST;
        "gauss25", "gauss25", Best, 3, GAUSS, Some([30.91, 31.99]),
            "RGB, Gaussian noise of level 25", GAUSS25;
        "poisson30", "poisson30", Best, 3, POISSON, Some([30.16, 31.31]),
            "RGB, Poisson noise of λ 30", POISSON30;
        "poisson5_50", "poisson5_50+gauss0_30", Best, 3, POISSON, Some([29.55, 30.80]),
            "RGB, Poisson noise of any λ from 5 to 50, with or without read noise", POISSON5_50;
        "gauss5_50_gray", "gauss5_50", Best, 1, None, None,
            "gray, Gaussian noise of any level up to 50", GAUSS5_50_GRAY;
        "poisson5_50_gray", "poisson5_50+gauss0_30", Best, 1, None, None,
            "gray, Poisson noise of any λ from 5 to 50, with or without read noise", POISSON5_50_GRAY;
    ]
};

/// All shipped models: none without the feature `models`.
#[cfg(not(feature = "models"))]
pub static SHIPPED: &[Shipped] = &[];

/// The default model.
pub const DEFAULT: &str = "gauss5_50";

/// The gray companion of [`DEFAULT`].
pub const GRAY: &str = "gauss5_50_gray";

/// The key in the metadata of an RGB model's weights that names its gray companion, a shipped model.
pub const GRAY_KEY: &str = "gray_model";

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
            if let Some(gray) = shipped.gray {
                weights.metadata.insert(GRAY_KEY.into(), gray.into());
            }
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

/// The weights of the gray model that denoises single channels for an RGB model with the given `weights`, if their
/// metadata name a shipped one under [`GRAY_KEY`].
///
/// An RGB model expects noise that differs between the channels, and removes little from a gray image.
pub fn gray_companion(weights: &Weights) -> Result<Option<Weights>> {
    let name = weights.metadata.get(GRAY_KEY);
    let is_named = |shipped: &&Shipped| {
        shipped.channels == 1 && Some(shipped.name) == name.map(String::as_str)
    };
    let Some(shipped) = SHIPPED.iter().find(is_named) else {
        return Ok(None);
    };
    if weights.architecture()?.n_channel != 3 {
        return Ok(None);
    }
    let (weights, _) = Weights::decode(shipped.bytes, Path::new(shipped.name))?;
    Ok(Some(weights))
}

/// The name of the shipped model with the given quality that was trained for the same noise and channels as the model
/// `name`.
///
/// # Errors
/// No shipped model has that name, or none for its noise has this quality.
pub fn of_quality(name: &str, quality: Quality) -> Result<&'static str> {
    let shipped = SHIPPED.iter().find(|shipped| shipped.name == name);
    let model = shipped.ok_or_else(|| {
        let names: Vec<_> = SHIPPED.iter().map(|shipped| shipped.name).collect();
        let expected = format!("a shipped model ({})", names.join(", "));
        Error::value("the model to choose a quality for", expected, name)
    })?;
    let siblings: Vec<_> = SHIPPED
        .iter()
        .filter(|shipped| (shipped.noise, shipped.channels) == (model.noise, model.channels))
        .collect();
    let found = siblings.iter().find(|sibling| sibling.quality == quality);
    found.map(|sibling| sibling.name).ok_or_else(|| {
        let qualities: Vec<_> = siblings.iter().map(|other| other.quality.name()).collect();
        let what = format!("quality of {name}");
        Error::value(what, qualities.join(" or "), quality)
    })
}

/// The names of the other shipped models of the same quality and channels as `name`; none if that is not a shipped model.
pub fn others(name: &str) -> impl Iterator<Item = &'static str> {
    let shipped = SHIPPED.iter().find(|shipped| shipped.name == name);
    let others = SHIPPED.iter().filter(move |other| {
        shipped.is_some_and(|shipped| {
            other.name != shipped.name
                && (other.quality, other.channels) == (shipped.quality, shipped.channels)
        })
    });
    others.map(|other| other.name)
}

#[cfg(all(test, feature = "models"))]
mod tests {
    use super::*;
    use crate::noise::Noise;
    use crate::unet::{self, UNet};

    #[test]
    fn every_shipped_model_is_a_network_and_says_its_noise() {
        for shipped in SHIPPED {
            let weights = load(Some(Path::new(shipped.name))).unwrap();
            let unet = weights.architecture().unwrap();
            let expected = match shipped.quality {
                Quality::Best => UNet::default(),
                quality => unet::named(quality.name()).unwrap(),
            };
            let expected = UNet {
                n_channel: shipped.channels,
                ..expected
            };
            assert_eq!(unet, expected, "{}", shipped.name);
            let noise: Noise = shipped.noise.parse().unwrap();
            let trained: Noise = weights.metadata["noise"].parse().unwrap();
            assert_eq!(noise.poisson, trained.poisson, "{}", shipped.name);
            assert_eq!(noise.gauss.is_some(), trained.gauss.is_some());
            if let (Some(noise), Some(trained)) = (noise.gauss, trained.gauss) {
                assert!(trained.min <= noise.min && trained.max == noise.max);
            }
            assert_eq!(weights.metadata["license"], LICENSE);
        }
    }

    #[test]
    fn without_a_name_it_is_the_default() {
        let named = load(Some(Path::new(DEFAULT))).unwrap();
        assert_eq!(load(None).unwrap(), named);
    }

    #[test]
    fn models_for_one_noise_are_found_by_their_quality() {
        for shipped in SHIPPED {
            let best = of_quality(shipped.name, Quality::Best).unwrap();
            let gray = if shipped.channels == 1 { "_gray" } else { "" };
            let noise = shipped.noise.split('+').next().unwrap();
            assert_eq!(best, format!("{noise}{gray}"));
            assert_eq!(of_quality(best, shipped.quality).unwrap(), shipped.name);
        }
        for quality in Quality::ALL {
            assert_eq!(quality.name().parse::<Quality>().unwrap(), quality);
            assert_eq!(
                quality == Quality::Best,
                unet::named(quality.name()).is_err()
            );
        }
        let error = of_quality("weights.pth", Quality::Fast).unwrap_err();
        assert!(
            error.to_string().contains("a shipped model (gauss5_50"),
            "{error}"
        );
        assert!("90".parse::<Quality>().is_err());
    }

    #[test]
    fn the_others_are_of_the_same_quality_and_channels() {
        let others = others("gauss5_50").collect::<Vec<_>>();
        assert!(others.contains(&"poisson30") && !others.contains(&"gauss5_50"));
        for other in others {
            assert_eq!(
                load(Some(Path::new(other)))
                    .unwrap()
                    .architecture()
                    .unwrap(),
                UNet::default()
            );
        }
        assert_eq!(super::others("gauss26").count(), 0);
    }

    #[test]
    fn shipped_rgb_models_have_a_gray_companion_that_files_of_them_keep() {
        for shipped in SHIPPED {
            let weights = load(Some(Path::new(shipped.name))).unwrap();
            let gray = gray_companion(&weights).unwrap();
            assert_eq!(gray.is_some(), shipped.channels == 3, "{}", shipped.name);
            // Perhaps for other levels, but for the same kind of noise.
            if let Some(gray) = gray {
                let is_poisson =
                    |weights: &Weights| weights.metadata["noise"].starts_with("poisson");
                assert_eq!(is_poisson(&gray), is_poisson(&weights), "{}", shipped.name);
            }
        }
        let mut weights = load(None).unwrap();
        let bytes = weights.encode(crate::weights::DType::F16).unwrap();
        let (kept, _) = Weights::decode(&bytes, Path::new("kept")).unwrap();
        let gray = gray_companion(&kept).unwrap().unwrap();
        assert_eq!(gray.architecture().unwrap().n_channel, 1);
        // A name that a later version may know is none here.
        weights.metadata.insert(GRAY_KEY.into(), "other".into());
        assert_eq!(gray_companion(&weights).unwrap(), None);
    }

    #[test]
    fn a_file_comes_before_a_name_and_a_wrong_name_lists_the_choices() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(DEFAULT);
        std::fs::write(&file, "not weights").unwrap();
        let error = load(Some(&file)).unwrap_err().to_string();
        assert!(error.contains("found a file that starts with"), "{error}");
        let error = load(Some(folder.path())).unwrap_err().to_string();
        assert!(
            error.contains("expected a weight file, found a folder"),
            "{error}"
        );
        let error = load(Some(Path::new("nowhere"))).unwrap_err().to_string();
        assert!(
            error.contains("neither a file nor a shipped model")
                && error.contains("shipped models: gauss5_50"),
            "{error}"
        );
    }
}
