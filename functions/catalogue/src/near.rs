//! Near names: one or two typing errors away from the requested name. A typing error is a letter too many, too few,
//! replaced, or swapped with its neighbour (the edit distance called optimal string alignment), ignoring case.
//!
//! The names are walked in order, with the table of distances kept for the prefix that they share. As soon as no entry
//! of a row is within reach, all names with that prefix are skipped.

use crate::names::Names;

/// The most typing errors.
const REACH: usize = 2;
/// Names up to this length have too many neighbours: one typing error.
const SHORT: usize = 3;
/// The relevant part of a row of the table: the diagonal, and [`REACH`] to both sides.
const WIDTH: usize = 2 * REACH + 1;
/// The longest name.
const LONGEST: usize = 256;
/// A distance out of reach.
const FAR: u8 = 1 + REACH as u8;

type Row = [u8; WIDTH];

/// A near name, ordered from near to far.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Near {
    slips: u8,
    /// People seldom mistype the first letter.
    other_start: bool,
    /// The name.
    pub(crate) name: String,
    /// The list that contains it: several lists may contain the same name.
    pub(crate) list: usize,
    /// Its rank there.
    pub(crate) rank: usize,
}

/// A search for the nearest names of one query.
pub(crate) struct Search {
    query: Vec<u8>,
    reach: u8,
    most: usize,
    found: Vec<Near>,
}

impl Search {
    /// Searches for up to `most` names near `query`.
    pub(crate) fn new(query: &str, most: usize) -> Search {
        let query = query.to_ascii_lowercase().into_bytes();
        let reach = if query.len() <= SHORT { 1 } else { FAR - 1 };
        Search { query, reach, most, found: Vec::new() }
    }

    /// The names, the nearest first.
    pub(crate) fn into_found(self) -> Vec<Near> {
        self.found
    }

    /// Walks a list of names, and takes those that `may` accepts.
    pub(crate) fn walk(&mut self, names: &Names, body: &[u8], list: usize, may: impl Fn(usize) -> bool) {
        let mut rows = [[FAR; WIDTH]; LONGEST + 1];
        rows[0] = self.first_row();
        let mut name = [0; LONGEST];
        // The length of the prefix whose rows are known, and of the shortest prefix out of reach.
        let (mut known, mut dead) = (0, usize::MAX);
        for (rank, entry) in names.all(body).enumerate() {
            if entry.shared >= dead {
                continue;
            }
            // A damaged entry may claim to share more than there was.
            let mut depth = entry.shared.min(known);
            dead = usize::MAX;
            for &letter in entry.rest.iter().take(LONGEST - depth) {
                name[depth] = letter;
                depth += 1;
                let (before, here) = rows.split_at_mut(depth);
                self.next_row(before, &name[..depth], &mut here[0]);
                if here[0].iter().all(|slips| *slips > self.reach) {
                    dead = depth;
                    break;
                }
            }
            known = depth;
            if dead == usize::MAX {
                self.take(&rows[depth], &name[..depth], list, rank, &may);
            }
        }
    }

    /// The distances of the empty prefix: all letters must be added.
    fn first_row(&self) -> Row {
        let mut row = [FAR; WIDTH];
        for (added, slips) in row[REACH..].iter_mut().enumerate() {
            *slips = u8::try_from(added).unwrap_or(FAR);
        }
        row
    }

    /// The distances between a prefix and all prefixes of the query: place `p` of row `i` belongs to the first `i + p -
    /// REACH` letters.
    fn next_row(&self, before: &[Row], prefix: &[u8], row: &mut Row) {
        let depth = prefix.len();
        let letter = prefix[depth - 1].to_ascii_lowercase();
        let last = &before[depth - 1];
        for place in 0..WIDTH {
            row[place] = FAR;
            let Some(end) = (depth + place).checked_sub(REACH).filter(|end| *end <= self.query.len()) else { continue };
            if end == 0 {
                row[place] = u8::try_from(depth).unwrap_or(FAR).min(FAR);
                continue;
            }
            let wanted = self.query[end - 1];
            let mut slips = last[place] + u8::from(wanted != letter);
            if place + 1 < WIDTH {
                slips = slips.min(last[place + 1] + 1);
            }
            if place > 0 {
                slips = slips.min(row[place - 1] + 1);
            }
            if end > 1 && depth > 1 {
                let crossed = wanted == prefix[depth - 2].to_ascii_lowercase() && self.query[end - 2] == letter;
                slips = slips.min(before[depth - 2][place] + if crossed { 1 } else { FAR });
            }
            row[place] = slips.min(FAR);
        }
    }

    /// Keeps a name, if it is one of the nearest so far.
    fn take(&mut self, row: &Row, name: &[u8], list: usize, rank: usize, may: &impl Fn(usize) -> bool) {
        let Some(&slips) = (self.query.len() + REACH).checked_sub(name.len()).and_then(|place| row.get(place)) else {
            return;
        };
        if slips > self.reach || !may(rank) {
            return;
        }
        let Ok(name) = str::from_utf8(name) else { return };
        if self.found.iter().any(|found| found.name == name) {
            return;
        }
        let other_start = name.bytes().next().map(|b| b.to_ascii_lowercase()) != self.query.first().copied();
        let near = Near { slips, other_start, name: name.to_owned(), list, rank };
        let at = self.found.partition_point(|found| *found < near);
        self.found.insert(at, near);
        self.found.truncate(self.most);
        // With enough names, only a nearer one than the last of them can replace one.
        if let Some(last) = self.found.get(self.most - 1) {
            self.reach = last.slips;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bytes::Body;

    fn near(query: &str, names: &[&str]) -> Vec<String> {
        let mut names = names.to_vec();
        names.sort_unstable();
        names.dedup();
        let mut body = Body::default();
        let written = Names::write(names.into_iter(), &mut body).expect("small");
        let mut search = Search::new(query, 5);
        search.walk(&written, &body.into_bytes(), 0, |_| true);
        search.into_found().into_iter().map(|near| near.name).collect()
    }

    /// The same distance from its definition: the whole table, for two words.
    fn slips(a: &str, b: &str) -> usize {
        let (a, b) = (a.to_ascii_lowercase().into_bytes(), b.to_ascii_lowercase().into_bytes());
        let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 0..=a.len() {
            for j in 0..=b.len() {
                table[i][j] = match (i, j) {
                    (0, n) | (n, 0) => n,
                    _ => {
                        let other = usize::from(a[i - 1] != b[j - 1]);
                        let least = (table[i - 1][j] + 1).min(table[i][j - 1] + 1).min(table[i - 1][j - 1] + other);
                        let crossed = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                        if crossed { least.min(table[i - 2][j - 2] + 1) } else { least }
                    }
                };
            }
        }
        table[a.len()][b.len()]
    }

    #[test]
    fn a_slip_is_a_letter_more_less_other_or_swapped_and_capitals_are_none() {
        let names = ["ripgrep", "tree", "xxHash", "imagemagick", "jq", "jo", "git"];
        for (query, found) in [
            ("ripgreep", vec!["ripgrep"]),
            ("rigrep", vec!["ripgrep"]),
            ("imagemagik", vec!["imagemagick"]),
            ("gti", vec!["git"]),
            ("TREE", vec!["tree"]),
            ("xxhsah", vec!["xxHash"]),
            ("jp", vec!["jo", "jq"]),
            ("ab", vec![]),
            ("qqqqqqqq", vec![]),
        ] {
            assert_eq!(near(query, &names), found, "{query}");
        }
    }

    #[test]
    fn the_nearest_comes_first_and_there_are_five() {
        let names = ["tree", "trees", "free", "tre", "tee", "treex", "three", "trxxe"];
        assert_eq!(near("tree", &names), ["tree", "tee", "three", "tre", "trees"]);
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_the_whole_table_says(
            query in "[abC]{1,7}", names in prop::collection::btree_set("[abcA]{1,8}", 1..60),
        ) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let reach = if query.len() <= SHORT { 1 } else { REACH };
            let within = names.iter().map(|name| slips(&query, name)).filter(|slips| *slips <= reach);
            let mut expected: Vec<usize> = within.collect();
            expected.sort_unstable();
            expected.truncate(5);
            let found: Vec<usize> = near(&query, &names).iter().map(|name| slips(&query, name)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
