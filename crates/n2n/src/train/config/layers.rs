//! Settings by name: how layers of them are merged.

use toml::{Table, Value};

use super::{Config, Recipe};
use crate::error::{Error, Result};
use crate::unet;

impl Config {
    /// Merges `layers`, each of which overrides the one before. The first overrides the defaults of a recipe: the one
    /// that the last layer with a `recipe` names or, if none has one, the paper's.
    ///
    /// # Errors
    /// An unknown name, a value of the wrong type, and the errors of [`Self::check`].
    pub fn resolve(layers: &[Table]) -> Result<Self> {
        let named = layers.iter().rev().find_map(|layer| layer.get("recipe"));
        let recipe = match named {
            None => Recipe::Paper,
            Some(name) => name.clone().try_into().map_err(|_| {
                let names = Recipe::ALL.map(|recipe| recipe.config().recipe.name());
                Error::value("recipe", names.join(" or "), name)
            })?,
        };
        let mut settings = recipe.config().to_table();
        for layer in layers {
            settings.extend(with_sizes(layer.clone())?);
        }
        let is_told = |name: &str| layers.iter().any(|layer| layer.contains_key(name));
        // The recipe's rate is for random weights.
        if recipe == Recipe::Fast && is_told("init_from") && !is_told("lr") {
            settings.insert("lr".into(), Value::Float(Recipe::FINE_TUNING_RATE));
        }
        // A separate channel is a gray image.
        if !is_told("n_channel")
            && settings.get("channels").and_then(Value::as_str) == Some("independent")
        {
            settings.insert("n_channel".into(), Value::Integer(1));
        }
        let config: Self = settings.try_into().map_err(|error: toml::de::Error| {
            let text = error.to_string();
            Error::value("settings", "valid settings", text.trim_end())
        })?;
        config.check()?;
        Ok(config)
    }

    /// The settings by name.
    #[allow(clippy::missing_panics_doc, reason = "it never does")]
    pub fn to_table(&self) -> Table {
        Table::try_from(self).expect("settings are numbers, strings and booleans")
    }
}

impl Recipe {
    fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Fast => "fast",
        }
    }
}

/// Replaces `architecture` in a layer of settings by the sizes it stands for; sizes that the layer also gives
/// explicitly win.
fn with_sizes(mut layer: Table) -> Result<Table> {
    let Some(name) = layer.remove("architecture") else {
        return Ok(layer);
    };
    let unet = match &name {
        Value::String(name) => unet::named(name)?,
        other => return Err(Error::value("architecture", "a name", other)),
    };
    for (size, value) in unet.sizes() {
        // The number of channels belongs to the images, not to the architecture.
        if size != "n_channel" {
            layer
                .entry(size)
                .or_insert_with(|| Value::Integer(value as i64));
        }
    }
    Ok(layer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoise::Range;
    use crate::neighbors::Target;
    use crate::network::Optimizer;
    use crate::train::config::{LambdaSchedule, LrSchedule};

    #[test]
    fn a_later_layer_counts_more_and_a_recipe_least() {
        let resolve = |layers: &[&str]| {
            let layers: Vec<_> = layers.iter().map(|text| text.parse().unwrap()).collect();
            Config::resolve(&layers)
        };
        assert_eq!(resolve(&[]).unwrap(), Config::default());
        let config = resolve(&["lr = 1\nn_feature = 8", "recipe = 'fast'\nlr = 2"]).unwrap();
        assert_eq!((config.lr, config.n_feature, config.ema), (2.0, 8, 0.999));
        assert_eq!(config.recipe, Recipe::Fast);
        let rate = |layers: &[&str]| resolve(layers).unwrap().lr;
        assert_eq!(rate(&["recipe = 'fast'"]), 1e-3);
        assert_eq!(rate(&["recipe = 'fast'", "init_from = 'gauss25'"]), 3e-4);
        assert_eq!(
            rate(&["recipe = 'fast'\nlr = 2", "init_from = 'gauss25'"]),
            2.0
        );
        assert_eq!(rate(&["init_from = 'gauss25'"]), Config::default().lr);
        for (text, named) in [
            ("recipe = 'slow'", "paper or fast"),
            ("learning_rate = 1", "learning_rate"),
            ("lr = 'fast'", "lr"),
            ("noisetype = 'pink'", "gaussS"),
            ("time_budget = 'soon'", "30m"),
            ("n_epoch = 0", "n_epoch"),
            ("range = '5'", "MIN,MAX"),
        ] {
            let error = resolve(&[text]).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn settings_are_written_and_read_back_with_every_value() {
        let changed = Config {
            val_dirs: Some("sets".into()),
            range: Range::Between(-0.1, 4095.0),
            holdout: Some(3),
            steps_per_epoch: Some(50),
            time_budget: Some("1h 30m".parse().unwrap()),
            keep: 2,
            accumulate: 3,
            optimizer: Optimizer::Muon,
            target: Target::Mean,
            regularized_patches: Some(1),
            half: true,
            lr_schedule: LrSchedule::Trapezoid,
            lambda_schedule: LambdaSchedule::Constant,
            init_from: Some("gauss5_50".into()),
            teacher: Some("gauss25".into()),
            seed: u64::MAX,
            lr: 1.0 / 3.0,
            ..Recipe::Fast.config()
        };
        for config in [Config::default(), Recipe::Fast.config(), changed] {
            let text = toml::to_string(&config).unwrap();
            let table = text.parse().unwrap();
            assert_eq!(Config::resolve(&[table]).unwrap(), config, "{text}");
        }
    }
}
