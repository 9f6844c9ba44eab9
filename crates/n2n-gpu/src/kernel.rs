//! What a pass computes: a generated kernel, or the text of one.

use crate::conv::Conv;
use crate::correlation::Correlation;

/// What a pass computes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kernel {
    Conv(Conv),
    Correlation(Correlation),
    /// The source text itself.
    Text(String),
}

impl Kernel {
    /// The kernel's WGSL source.
    pub fn source(&self) -> String {
        match self {
            Self::Conv(conv) => conv.source(),
            Self::Correlation(correlation) => correlation.source(),
            Self::Text(text) => text.clone(),
        }
    }
}
