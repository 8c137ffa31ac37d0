//! Searches packages. Reads only.

use std::ops::Range;

use futures_util::future::join_all;
use serde::Serialize;

use crate::{
    build::failure::Failure,
    flow::{
        operator::pins,
        request::{
            catalogue::{self, Opened, Scope},
            denial::Denial,
        },
    },
    id::{
        key::{Attr, PinName, Rev, System},
        target::{Search, Target, Wanted},
    },
    nixpkgs::catalogue::{About, Entry, Resolution},
    ports::{Catalogue, HasCatalogues, HasLedger, HasStore, Store},
    telemetry,
};

/// Most packages in an answer.
pub const MOST: usize = 20;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Results {
    /// What was looked for.
    pub query: String,
    /// For which system.
    pub system: System,
    /// Under which pin.
    pub pin: PinName,
    /// In which nixpkgs.
    pub nixpkgs: Rev,
    /// No catalogue has the text, and that of the commit is not complete: the text was taken for an attribute, and may
    /// not exist.
    pub by_attribute: bool,
    /// What was found is not from a complete catalogue of the commit: there may be more, and a package may differ.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
    /// Nothing matches; these have similar names.
    pub near: bool,
    /// The best first.
    pub packages: Vec<Listing>,
}

impl Results {
    /// What was found, in a sentence.
    pub fn headline(&self) -> String {
        let Results { query, packages, .. } = self;
        let headline = match (packages.len(), self.near) {
            _ if query.is_empty() => "Type a part of a name, or words of a description".to_owned(),
            (0, _) => format!("No package matches {query}"),
            _ if self.by_attribute => {
                format!("The catalogue of this commit is not built yet, so it is unknown whether {query} is a package")
            }
            (_, true) => format!("No package matches {query}; did you mean one of these?"),
            (1, _) => "1 package".to_owned(),
            (MOST, _) => format!("The first {MOST} packages"),
            (count, _) => format!("{count} packages"),
        };
        let so_far = self.incomplete && !query.is_empty();
        if so_far { headline + " so far: the catalogue of this commit is not complete yet" } else { headline }
    }
}

/// A package in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// Its attribute.
    pub package: Attr,
    /// What to ask for.
    pub target: String,
    /// Its programs that can be requested, the main one first; empty if they are unknown.
    pub programs: Vec<String>,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// One line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Why it can not be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What to ask for instead: its bundle, which may be had all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
}

/// Most of a package's programs that a list tells.
const PROGRAMS_MAX: usize = 6;

/// Looks for packages by a part of a name, then by words of their descriptions; where nothing matches, by nearly that name.
///
/// # Errors
/// [`Denial`]: it names a nixpkgs that is not served, or a backend does not answer.
pub async fn search<D: HasLedger + HasStore + HasCatalogues>(d: &D, asked: &Search) -> Result<Results, Denial> {
    let pins = pins::load(d).await?;
    let found = pins.find(asked.pin.as_ref(), asked.system.unwrap_or(d.system())).map_err(Denial::Unserved)?;
    let mut results = Results {
        query: asked.text.clone(),
        system: found.system,
        pin: found.pin.clone(),
        nixpkgs: found.rev.clone(),
        by_attribute: false,
        incomplete: false,
        near: false,
        packages: Vec::new(),
    };
    let spelled = |attr: &Attr| {
        let wanted = Wanted::Package(attr.clone());
        Target { wanted, system: asked.system, pin: asked.pin.clone() }
    };
    let (mut decided, mut entries) = (None, Vec::new());
    for opened in catalogue::open(d, &found).await? {
        entries = opened.search(d, &asked.text, found.system).await;
        if !entries.is_empty() || opened.scope == Scope::Whole {
            decided = Some(opened);
            break;
        }
    }
    let Some(opened) = decided else {
        results.by_attribute = true;
        results.packages = asked
            .text
            .parse()
            .ok()
            .map(|attr| listing(&attr, &spelled, &[], About::default(), None))
            .into_iter()
            .collect();
        return Ok(results);
    };
    results.incomplete = opened.scope != Scope::Whole;
    if entries.is_empty()
        && let Ok(attr) = asked.text.parse()
    {
        entries = near(&opened.catalogue, attr, found.system);
        results.near = !entries.is_empty();
    }
    let abouts = abouts(d, &opened, &entries).await;
    results.packages = entries
        .iter()
        .zip(abouts)
        .map(|(entry, about)| {
            let programs: Vec<String> = entry
                .main
                .iter()
                .chain(entry.programs.iter().filter(|bin| Some(*bin) != entry.main.as_ref()))
                .take(PROGRAMS_MAX)
                .map(ToString::to_string)
                .collect();
            listing(&entry.attr, &spelled, &programs, about, entry.refused.as_ref())
        })
        .collect();
    Ok(results)
}

impl<C: Catalogue> Opened<C> {
    /// The packages that match a text: by their names, then by their descriptions.
    async fn search<D: HasStore>(&self, d: &D, text: &str, system: System) -> Vec<Entry> {
        let mut entries = self.catalogue.search(text, system, MOST);
        if entries.len() < MOST {
            let blocks = blocks(d, self, &self.catalogue.words(text)).await.into_iter().flatten().collect::<Vec<_>>();
            let others = self.catalogue.search_words(text, &blocks, system, MOST);
            let new = others.into_iter().filter(|one| entries.iter().all(|entry| entry.attr != one.attr));
            let new = new.take(MOST - entries.len()).collect::<Vec<_>>();
            entries.extend(new);
        }
        entries.into_iter().map(|entry| self.told(entry)).collect()
    }

    /// A package, as far as the catalogue is evidence of it.
    pub(crate) fn told(&self, entry: Entry) -> Entry {
        match self.scope {
            // What refused it may be gone in this commit.
            Scope::Former => Entry { refused: None, ..entry },
            Scope::Whole | Scope::TopLevel => entry,
        }
    }
}

fn listing(
    attr: &Attr,
    spelled: &impl Fn(&Attr) -> Target,
    programs: &[String],
    about: About,
    refused: Option<&Failure>,
) -> Listing {
    let target = spelled(attr);
    let has_bundle = refused.is_some_and(|failure| failure.kind.leaves_ordinary());
    Listing {
        package: attr.clone(),
        target: target.to_string(),
        bundle: target.bundle().filter(|_| has_bundle).map(|bundle| bundle.to_string()),
        programs: programs.to_vec(),
        version: about.version,
        description: about.description,
        refused: refused.map(Failure::sentence),
    }
}

/// Packages of nearly that name, or with a program of nearly that name.
fn near(catalogue: &impl Catalogue, attr: Attr, system: System) -> Vec<Entry> {
    let Resolution::Unknown { near } = catalogue.resolve(&Wanted::Package(attr), system) else { return Vec::new() };
    let means = |wanted| match catalogue.resolve(wanted, system) {
        Resolution::Found { attr, .. } | Resolution::Choice { attr, .. } | Resolution::Refused { attr, .. } => {
            catalogue.entry(&attr, system)
        }
        Resolution::NoSuchProgram { .. } | Resolution::Unknown { .. } => None,
    };
    near.iter().filter_map(means).collect()
}

/// Blocks of the details file, in their order. A block that cannot be read is `None`: a list without it is better than no list.
async fn blocks<D: HasStore>(d: &D, opened: &Opened<impl Catalogue>, ranges: &[Range<u64>]) -> Vec<Option<Vec<u8>>> {
    let read = async |range: &Range<u64>| match d.store().part(&opened.details, range.clone()).await {
        Ok(block) => block,
        Err(error) => {
            d.warn(telemetry::About::Build(&opened.details.key), "a catalogue's details were not read", &error);
            None
        }
    };
    join_all(ranges.iter().map(read)).await
}

/// The descriptions of packages, in their order: each block of the details file is read once. Packages of a block that cannot be
/// read have empty descriptions.
pub(crate) async fn abouts<D: HasStore>(d: &D, opened: &Opened<impl Catalogue>, entries: &[Entry]) -> Vec<About> {
    let mut ranges: Vec<_> = entries.iter().map(|entry| entry.details.clone()).collect();
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup();
    let blocks = blocks(d, opened, &ranges).await;
    let about = |entry: &Entry| {
        let at = ranges.binary_search_by_key(&entry.details.start, |range| range.start).ok()?;
        opened.catalogue.about(blocks[at].as_deref()?, &entry.attr)
    };
    entries.iter().map(|entry| about(entry).unwrap_or_default()).collect()
}
