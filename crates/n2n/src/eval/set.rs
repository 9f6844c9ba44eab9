//! The test sets of the paper: their names, folders and numbers of repeats.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

/// A test set of the paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// The 100 test images of the Berkeley segmentation data set.
    Bsd300,
    /// The 24 images of the Kodak photo CD.
    Kodak,
    /// The 14 images commonly used to test super-resolution.
    Set14,
}

impl Set {
    /// Every set.
    pub const ALL: [Self; 3] = [Self::Bsd300, Self::Kodak, Self::Set14];

    /// Its name in folders and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bsd300 => "BSD300",
            Self::Kodak => "Kodak",
            Self::Set14 => "Set14",
        }
    }

    /// The folder of its images, inside the folder that contains the sets.
    pub fn folder(self, val_dirs: &Path) -> PathBuf {
        match self {
            Self::Bsd300 => val_dirs.join("BSD300").join("test"),
            Self::Kodak | Self::Set14 => val_dirs.join(self.name()),
        }
    }

    /// The paper's number of passes over it.
    pub fn repeats(self) -> usize {
        match self {
            Self::Bsd300 => 3,
            Self::Kodak => 10,
            Self::Set14 => 20,
        }
    }

    /// Number of images in the complete set. A folder with a different number is scored too, but its score is not
    /// comparable with published ones.
    pub fn images(self) -> usize {
        match self {
            Self::Bsd300 => 100,
            Self::Kodak => 24,
            Self::Set14 => 14,
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Set {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let named = Self::ALL.into_iter().find(|set| set.name() == text);
        named.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::value("set", format!("one of {names}"), text)
        })
    }
}

impl Serialize for Set {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
