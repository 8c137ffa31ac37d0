//! What a catalogue could not evaluate, grouped by error. Reads only.

use std::{cmp::Reverse, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use crate::{
    flow::{
        operator::pins,
        request::{
            catalogue::{self, Opened, Scope},
            denial::Denial,
        },
    },
    id::{
        key::{Attr, PinName, Rev, System},
        target::PinRef,
    },
    nixpkgs::catalogue::{Census, Lost},
    ports::{Catalogue, HasCatalogues, HasLedger},
};

/// The most examples of an error.
const EXAMPLES: usize = 3;

/// A catalogue in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The pin.
    pub pin: PinName,
    /// Its commit.
    pub nixpkgs: Rev,
    /// The system.
    pub system: System,
    /// The attributes in the catalogue; each is buildable, refused or lost.
    pub attributes: usize,
    /// Attributes that nixpkgs refuses.
    pub refused: usize,
    /// Attributes that could not be evaluated.
    pub lost: usize,
    /// Their errors, the most frequent first.
    pub errors: Vec<LossGroup>,
}

/// The lost attributes with the same error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossGroup {
    /// The first line of the error.
    pub error: String,
    /// How many attributes have it.
    pub count: usize,
    /// Up to three of them, the first by name.
    pub examples: Vec<Attr>,
}

/// Summarises the catalogue of a pin (`None`: the default) on a system (`None`: the deployment's); `None` if it is not
/// built yet.
///
/// # Errors
/// [`Denial`]: the pin does not exist, or a backend does not answer.
pub(crate) async fn census<D: HasLedger + HasCatalogues>(
    d: &D,
    pin: Option<PinName>,
    system: Option<System>,
) -> Result<Option<Summary>, Denial> {
    let pin = pin.map(PinRef::Name);
    let found = pins::load(d).await?.find(pin.as_ref(), system.unwrap_or(d.system())).map_err(Denial::Unserved)?;
    let opened = catalogue::open(d, &found).await?.into_iter().find(|opened| opened.scope == Scope::Whole);
    let Some(Opened { catalogue, .. }) = opened else { return Ok(None) };
    let Census { attributes, refused, lost } = catalogue.census(found.system);
    Ok(Some(Summary {
        pin: found.pin,
        nixpkgs: found.rev,
        system: found.system,
        attributes,
        refused,
        lost: lost.len(),
        errors: grouped(lost),
    }))
}

/// Groups attributes, which come in order of their names, by error; the most frequent errors come first.
pub fn grouped(lost: Vec<Lost>) -> Vec<LossGroup> {
    let mut groups = BTreeMap::<String, LossGroup>::new();
    for Lost { attr, error } in lost {
        let group = groups.entry(error.clone()).or_insert(LossGroup { error, count: 0, examples: Vec::new() });
        group.count += 1;
        if group.examples.len() < EXAMPLES {
            group.examples.push(attr);
        }
    }
    let mut groups: Vec<LossGroup> = groups.into_values().collect();
    // Stable: equally frequent ones stay in alphabetical order.
    groups.sort_by_key(|group| Reverse(group.count));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_grouped_the_most_frequent_first_with_a_few_examples() {
        let lost = [("a", "y"), ("b", "z"), ("c", "x"), ("d", "z"), ("e", "z"), ("f", "z")];
        let lost = lost.map(|(attr, error)| Lost { attr: attr.parse().expect("a name"), error: error.to_owned() });
        let told = grouped(lost.into()).into_iter().map(|LossGroup { error, count, examples }| {
            format!("{count} {error} {}", examples.iter().map(ToString::to_string).collect::<String>())
        });
        assert_eq!(told.collect::<Vec<_>>(), ["4 z bde", "1 x c", "1 y a"]);
    }
}
