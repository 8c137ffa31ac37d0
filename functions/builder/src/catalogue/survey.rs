//! Evaluates all attributes of a set: first the set itself, then its attributes, then those of the sets in it, level by
//! level.

use std::collections::HashMap;

use binplz_catalogue::{Obstacle, Record, Standing};
use binplz_core::id::key::Attr;

use crate::{
    catalogue::{evaluator::Path, found::Found, of_set, workers::Workers},
    context::Ending,
};

/// What a survey hands over as it goes.
#[derive(Debug)]
pub(crate) enum Surveyed {
    /// The record of an attribute. Those of a level come in any order.
    Record(Record),
    /// The record of an attribute that an earlier attempt has evaluated.
    Known(Record),
    /// All attributes with so many components are evaluated: 1 for the top level. With the counts so far.
    Level(usize, Counts),
}

/// The counts of a survey. Every name is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Attributes with a record: packages, and attributes whose evaluation failed.
    pub(crate) attrs: usize,
    /// Those of them that ran out of time or memory.
    pub(crate) exhausting: usize,
    /// Sets that were entered.
    pub(crate) sets: usize,
    /// Attributes that are neither packages nor sets to enter.
    pub(crate) others: usize,
    /// Names that no request can contain.
    pub(crate) unaskable: usize,
}

/// Evaluates a whole set, which has at most `most` attributes. `take` receives all that is found.
///
/// `known` are records of an earlier attempt at the same set: their attributes are not evaluated again. `take` receives
/// those of attributes that the set has, and so all records of an attempt without interruption.
///
/// # Errors
/// [`Ending`], if something other than an attribute fails, or the error of `take`.
pub(crate) fn survey(
    workers: &Workers,
    most: usize,
    known: &[Record],
    take: &mut impl FnMut(Surveyed) -> Result<(), Ending>,
) -> Result<Counts, Ending> {
    let known: HashMap<&Attr, &Record> = known.iter().map(|record| (&record.attr, record)).collect();
    let system = workers.evaluator.system;
    let mut counts = Counts::default();
    let mut level = vec![Path::new()];
    for depth in 0.. {
        let mut next = Vec::new();
        workers.evaluate(level, |path, found| {
            match (found, attr_of(&path)) {
                (Found::Other, _) => counts.others += 1,
                (Found::Set { names, unread }, _) => {
                    counts.sets += usize::from(depth > 0);
                    counts.unaskable += unread;
                    next.extend(inside(&path, names, &mut counts.unaskable));
                    if counts.attrs + next.len() > most {
                        let set = path.join(".");
                        return Err(of_set(&format!(
                            "there are more than {most} attributes: does {set} contain itself?"
                        )));
                    }
                }
                (Found::Attribute(about, standing), Some(attr)) => {
                    counts.add(&standing);
                    take(Surveyed::Record(Record { attr, system, about, standing }))?;
                }
                (Found::Attribute(_, standing), None) => return Err(no_set(&standing)),
            }
            Ok(())
        })?;
        if depth > 0 {
            take(Surveyed::Level(depth, counts))?;
        }
        if next.is_empty() {
            break;
        }
        level = Vec::new();
        for path in next {
            match attr_of(&path).and_then(|attr| known.get(&attr).copied()) {
                Some(record) if record.system == system => {
                    counts.add(&record.standing);
                    take(Surveyed::Known(record.clone()))?;
                }
                _ => level.push(path),
            }
        }
    }
    Ok(counts)
}

impl Counts {
    fn add(&mut self, standing: &Standing) {
        self.attrs += 1;
        let exhausting = matches!(standing, Standing::Refused { why: Obstacle::Endless | Obstacle::OutOfMemory, .. });
        self.exhausting += usize::from(exhausting);
    }
}

/// Why the set itself cannot be evaluated.
fn no_set(standing: &Standing) -> Ending {
    let said = match standing {
        Standing::Refused { why, detail } => why.failure(detail.as_deref()).detail,
        Standing::Buildable { .. } => None,
    };
    of_set(&format!("the set cannot be evaluated: {}", said.as_deref().unwrap_or("it is a package")))
}

/// The paths of the names in a set that can be requested.
fn inside(set: &Path, names: Vec<String>, unaskable: &mut usize) -> Vec<Path> {
    // The mark by which a set asks to be entered, not an attribute.
    let names = names.into_iter().filter(|name| name != "recurseForDerivations");
    let all: Vec<Path> = names.map(|name| set.iter().cloned().chain([name]).collect()).collect();
    let (askable, others): (Vec<Path>, Vec<Path>) = all.into_iter().partition(|path| attr_of(path).is_some());
    *unaskable += others.len();
    askable
}

/// The attribute's name, if a request can contain it. In Nix a component may contain a dot, here it may not.
fn attr_of(path: &Path) -> Option<Attr> {
    if path.iter().any(|part| part.contains('.')) { None } else { path.join(".").parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(parts: &str) -> Path {
        parts.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn only_names_that_a_request_can_have_are_followed() {
        let mut unaskable = 0;
        let names = ["tree", "pkgsCross", "3.3", "recurseForDerivations", "@angular/cli", "_7zz"].map(str::to_owned);
        assert_eq!(inside(&path("a"), names.into(), &mut unaskable), [path("a tree"), path("a _7zz")]);
        assert_eq!(unaskable, 3);
        assert_eq!(inside(&path("a b c d"), vec!["e".to_owned()], &mut unaskable), Vec::<Path>::new());
    }
}
