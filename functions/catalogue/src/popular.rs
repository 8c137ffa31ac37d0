//! Which packages people request most: `infra/popular.txt`, compiled in. A new service has no counts of its own, and a
//! package's count would not say which of its programs was requested.

use std::{collections::HashMap, sync::LazyLock};

/// The place of each package in the list, from 0.
static PLACES: LazyLock<HashMap<&str, usize>> =
    LazyLock::new(|| attrs().enumerate().map(|(place, attr)| (attr, place)).collect());

/// The lines without their comments.
fn attrs() -> impl Iterator<Item = &'static str> {
    let lines = include_str!("../../../infra/popular.txt").lines();
    lines.map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|attr| !attr.is_empty())
}

/// A package's place among the most requested; the first is 0. Packages that are not listed come last.
pub(crate) fn place(attr: &str) -> usize {
    PLACES.get(attr).copied().unwrap_or(usize::MAX)
}

/// Whether a package of that name is listed.
pub(crate) fn is_listed(name: &[u8]) -> bool {
    str::from_utf8(name).is_ok_and(|name| PLACES.contains_key(name))
}

#[cfg(test)]
mod tests {
    use binplz_core::id::key::Attr;

    use super::*;

    #[test]
    fn every_line_is_a_package_and_none_is_there_twice() {
        let attrs: Vec<Attr> = attrs().map(|line| line.parse().expect(line)).collect();
        let places: Vec<usize> = attrs.iter().map(|attr| place(attr.as_str())).collect();
        assert_eq!(places, (0..attrs.len()).collect::<Vec<_>>());
        assert_eq!(place("not-listed"), usize::MAX);
    }
}
