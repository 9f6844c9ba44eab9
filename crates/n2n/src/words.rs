//! Lists and counts in sentences.

/// The items with commas between them, and "and" before the last.
pub fn listed(items: &[impl AsRef<str>]) -> String {
    let items: Vec<_> = items.iter().map(AsRef::as_ref).collect();
    match items.as_slice() {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}

/// `1 image`, `2 images`.
pub fn counted(count: usize, item: &str) -> String {
    format!("{count} {item}{}", if count == 1 { "" } else { "s" })
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
}
