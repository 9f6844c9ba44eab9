//! Finds the state dict in a pickled object: the object itself, or the only entry of a training checkpoint that
//! contains tensors.

use std::collections::BTreeSet;

use super::pickle::{Id, Pickle, Value};

/// Names and values of the state dict. Its values are those that `is_tensor` accepts, and possibly others.
pub(super) fn entries<'a>(
    pickle: &Pickle<'a>,
    is_tensor: impl Fn(Id) -> bool,
) -> Result<Vec<(&'a str, Id)>, String> {
    let Value::Dict(items) = pickle.get(pickle.root) else {
        return Err(pickle.get(pickle.root).instead_of("a dict of tensors"));
    };
    let holds_tensors = |items: &[(Id, Id)]| items.iter().any(|&(_, value)| is_tensor(value));
    if holds_tensors(items) {
        return named(pickle, items);
    }

    // Each distinct dict is searched once, however often it is referenced.
    let mut seen = BTreeSet::new();
    let mut candidates = vec![];
    for &(key, value) in items {
        if let Value::Dict(nested) = pickle.get(value)
            && seen.insert(value)
            && holds_tensors(nested)
        {
            candidates.push((pickle.str(key)?, nested));
        }
    }
    match candidates.as_slice() {
        [(_, nested)] => named(pickle, nested),
        [] => Err("the file contains a dict without tensors".into()),
        several => {
            let keys: Vec<_> = several.iter().map(|(key, _)| format!("{key:?}")).collect();
            Err(format!(
                "several entries could be the weights ({}); save only one of them",
                keys.join(", ")
            ))
        }
    }
}

fn named<'a>(pickle: &Pickle<'a>, items: &[(Id, Id)]) -> Result<Vec<(&'a str, Id)>, String> {
    items
        .iter()
        .map(|&(key, value)| Ok((pickle.str(key)?, value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::pickle;

    /// The names found in a pickle; `None` stands for a tensor.
    fn names(pickle: &[u8]) -> Result<Vec<String>, String> {
        let pickle = pickle::parse(pickle).unwrap();
        let is_tensor = |id| matches!(pickle.get(id), Value::None);
        let entries = entries(&pickle, is_tensor)?;
        Ok(entries.iter().map(|(name, _)| (*name).to_owned()).collect())
    }

    #[test]
    fn tensors_at_the_top_come_before_those_below() {
        // {"a": t, "b": 1}
        assert_eq!(
            names(b"\x80\x04}\x8c\x01aNs\x8c\x01bK\x01s."),
            Ok(vec!["a".into(), "b".into()])
        );
        // {"m": {"a": t}, "b": t}
        let both = b"\x80\x04}\x8c\x01m}\x8c\x01aNss\x8c\x01bNs.";
        assert_eq!(names(both), Ok(vec!["m".into(), "b".into()]));
    }

    #[test]
    fn one_entry_with_tensors_is_taken_and_several_are_not_guessed_between() {
        // {"e": 3, "m": {"a": t}}
        let one = b"\x80\x04}\x8c\x01eK\x03s\x8c\x01m}\x8c\x01aNss.";
        assert_eq!(names(one), Ok(vec!["a".into()]));
        // {"m": {"a": t}, "n": {"a": t}}
        let two = b"\x80\x04}\x8c\x01m}\x8c\x01aNss\x8c\x01n}\x8c\x01aNss.";
        let error = names(two).unwrap_err();
        assert!(error.contains("\"m\", \"n\""), "{error}");
        // {"m": d, "n": d} with d = {"a": t}
        let same = b"\x80\x04}\x8c\x01m}\x94\x8c\x01aNss\x8c\x01nh\0s.";
        assert_eq!(names(same), Ok(vec!["a".into()]));
    }

    #[test]
    fn anything_else_is_an_error() {
        for (pickle, part) in [
            (b"\x80\x04].".as_slice(), "found a list"),
            (b"\x80\x04}.", "without tensors"),
            (
                b"\x80\x04}\x8c\x01m}\x8c\x01n}\x8c\x01aNsss.",
                "without tensors",
            ),
            (b"\x80\x04}K\x01Ns.", "expected a string, found an int"),
        ] {
            let error = names(pickle).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
