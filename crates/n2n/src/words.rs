//! Lists, counts and values in sentences.

/// The items with commas between them, and "and" before the last.
pub fn listed(items: &[impl AsRef<str>]) -> String {
    let items: Vec<_> = items.iter().map(AsRef::as_ref).collect();
    match items.as_slice() {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}

/// `1 image`, `2 images`, `2 patches`.
pub fn counted(count: usize, item: &str) -> String {
    let ending = match count {
        1 => "",
        _ if item.ends_with("tch") => "es",
        _ => "s",
    };
    format!("{count} {item}{ending}")
}

/// Formats a value, with an exponent if it would otherwise be long.
pub fn shown(value: f32) -> String {
    if value == 0.0 || (1e-4..1e9).contains(&value.abs()) {
        value.to_string()
    } else {
        format!("{value:e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn and_comes_before_the_last() {
        assert_eq!(listed(&[] as &[&str]), "");
        assert_eq!(listed(&["rows"]), "rows");
        assert_eq!(listed(&["rows", "columns"]), "rows and columns");
        assert_eq!(
            listed(&["pixels", "rows", "columns"]),
            "pixels, rows and columns"
        );
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(1, "patch"), "1 patch");
        assert_eq!(counted(4, "patch"), "4 patches");
        assert_eq!(counted(0, "epoch"), "0 epochs");
        assert_eq!(counted(2, "image"), "2 images");
    }
}
