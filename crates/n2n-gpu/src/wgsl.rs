//! What the generators of WGSL share.

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

/// Declarations of the bindings: the numbers first, then buffers of `vec4`s in order.
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
    pub fn read(&mut self, name: &str) {
        self.declare(name, "read");
    }

    pub fn write(&mut self, name: &str) {
        self.declare(name, "read_write");
    }

    fn declare(&mut self, name: &str, access: &str) {
        let binding = self.next;
        self.next += 1;
        write!(
            self.text,
            "@group(0) @binding({binding}) var<storage, {access}> {name}: array<vec4<f32>>;\n"
        );
    }
}

impl Display for Bindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
