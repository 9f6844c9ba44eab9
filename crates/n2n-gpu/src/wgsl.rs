//! Code that the WGSL generators share.

use std::fmt::{self, Display};

/// The components of a vector.
pub const LANES: [&str; 4] = ["x", "y", "z", "w"];

/// Adds formatted text to a `String`, which cannot fail.
macro_rules! write {
    ($to:expr, $($text:tt)*) => {
        $to.push_str(&format!($($text)*))
    };
}
pub(crate) use write;

/// How groups of four values are stored in a buffer. All arithmetic is in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Storage {
    F32,
    /// Rounded to half precision. WGSL can pack two halves into a word on any device, so no optional feature is
    /// needed.
    F16,
}

impl Storage {
    /// Bytes of four values.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 16,
            Self::F16 => 8,
        }
    }

    /// An expression for the group of four at an index of the buffer `name`.
    pub fn get(self, name: &str, index: &str) -> String {
        match self {
            Self::F32 => format!("{name}[{index}]"),
            Self::F16 => format!("unpack({name}[{index}])"),
        }
    }

    /// An expression for `value` in the form in which the buffer stores it.
    pub fn held(self, value: &str) -> String {
        match self {
            Self::F32 => value.into(),
            Self::F16 => format!("pack({value})"),
        }
    }

    fn element(self) -> &'static str {
        match self {
            Self::F32 => "vec4<f32>",
            Self::F16 => "vec2<u32>",
        }
    }
}

/// Functions that [`Storage::F16`] calls. WGSL does not define how packing handles values beyond the range of halves.
pub const PACKING: &str = "
fn unpack(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}
fn pack(values: vec4<f32>) -> vec2<u32> {
    let v = clamp(values, vec4<f32>(-65504.0), vec4<f32>(65504.0));
    return vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw));
}
";

/// Declarations of the bindings: the parameters first, then the buffers of groups of four, in order.
pub struct Bindings {
    text: String,
    next: usize,
}

impl Default for Bindings {
    fn default() -> Self {
        Self {
            text: "@group(0) @binding(0) var<uniform> p: Params;\n".into(),
            next: 1,
        }
    }
}

impl Bindings {
    pub fn read(&mut self, name: &str, storage: Storage) {
        self.declare(name, "read", storage);
    }

    pub fn write(&mut self, name: &str, storage: Storage) {
        self.declare(name, "read_write", storage);
    }

    fn declare(&mut self, name: &str, access: &str, storage: Storage) {
        let binding = self.next;
        self.next += 1;
        let element = storage.element();
        write!(
            self.text,
            "@group(0) @binding({binding}) var<storage, {access}> {name}: array<{element}>;\n"
        );
    }
}

impl Display for Bindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
