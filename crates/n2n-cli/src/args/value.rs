//! The checks of values that several flags share.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Arg, ArgAction};
use n2n::{Error, image};

/// Parses a value with the library's own parser, and words its error like the other checks here.
pub(super) fn named<T: FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| match error {
        Error::Value { expected, .. } => format!("expected {expected}"),
        error => error.to_string(),
    })
}

/// A file to write that is not an image. The name of an image is most likely that of an input, which would be lost.
pub(super) fn no_image() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| {
        if image::is_supported(&path) {
            Err("expected the name of a file to write, found the name of an image")
        } else if path == Path::new("-") {
            Err("expected the name of a file to write")
        } else {
            Ok(path)
        }
    })
}

pub(super) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number of at least 1".into()),
        Ok(number) => Ok(number),
    }
}

/// More threads than any machine has would take minutes to start.
pub(super) fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=1024) => Ok(number),
        _ => Err("expected a whole number from 1 to 1024".into()),
    }
}

/// All images of a batch are in memory together.
pub(super) fn batch_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=1024) => Ok(number),
        _ => Err("expected a whole number from 1 to 1024".into()),
    }
}

pub(super) fn seed(text: &str) -> Result<u64, String> {
    let number = text.parse();
    number.map_err(|_| format!("expected a whole number from 0 to {}", u64::MAX))
}

/// A number of at least 0: a factor, or a fraction whose upper limit the settings check.
pub(super) fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number >= 0.0 && number.is_finite() => Ok(number),
        _ => Err("expected a number of at least 0".into()),
    }
}

pub(super) fn number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err("expected a number".into()),
    }
}

pub(super) fn positive_number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("expected a number above 0".into()),
    }
}

pub(super) fn patch_size(text: &str) -> Result<usize, String> {
    match positive(text) {
        Ok(size) if size % 64 == 0 && size <= 4096 => Ok(size),
        _ => Err(
            "expected a multiple of 64 from 64 to 4096 (the network sees patches of half \
                  this size, which must be a multiple of 32)"
                .into(),
        ),
    }
}

/// The value name of flags that are true or false.
pub(super) const BOOL: &str = "BOOL";

/// Lets a [`BOOL`] flag without a value mean true.
pub(super) fn optional_value(flag: Arg) -> Arg {
    if flag.get_value_names() == Some(&[BOOL.into()]) {
        let flag = flag.action(ArgAction::Set).num_args(0..=1);
        flag.default_missing_value("true")
    } else {
        flag
    }
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Ok(true),
        "false" | "f" | "0" => Ok(false),
        _ => Err("expected True or False".into()),
    }
}

/// A number of bytes, with a unit if not bytes: `800MB`, `1.5GiB`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let expected = || "expected a number of bytes, such as 800MB, 2GB or 1.5GiB".to_string();
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: f64 = match text[number.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => f64::from(1 << 10),
        "mib" => f64::from(1 << 20),
        "gib" => f64::from(1 << 30),
        "tib" => f64::from(1 << 30) * 1024.0,
        _ => return Err(expected()),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok((number * unit) as u64),
        _ => Err(expected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        for (text, want) in [
            ("1000", 1000),
            ("800MB", 800_000_000),
            ("1.5GiB", 1_610_612_736),
            ("2 gb", 2_000_000_000),
        ] {
            assert_eq!(bytes(text), Ok(want), "{text}");
        }
        for text in ["", "GB", "0", "-1GB", "1XB", "nan", "infGB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
