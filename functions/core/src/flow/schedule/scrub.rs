//! The scrub: compares the objects of all ready builds and served rows with what they must be. An object that is missing
//! or damaged is taken out of service and built anew ([`crate::flow::integrity`]).
//!
//! It reads all rows twice: first the builds, and then the served rows, which requests may have written from a build
//! while its flaw was not known yet. It works step by step, so that its caller sets the pace. One that dies begins anew.

use std::collections::HashMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::{
    build::{Build, State},
    flow::{
        integrity::{self, Flaw},
        load_build,
    },
    id::key::BuildKey,
    nixpkgs::served::Served,
    objects::{artifact::AttemptPrefix, stored::Integrity},
    ports::{Cursor, HasBell, HasLedger, HasStore, Inspect, Ledger, Unavailable},
    row::Row,
    telemetry::About,
};

/// How many rows are read per page where no pace is set.
const PAGE: usize = 250;
/// How many builds of a page are compared concurrently: of a store that answers over a network, a hundred thousand in some
/// minutes.
const AT_ONCE: usize = 32;

/// The result of a scrub.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Ready builds that were looked at.
    pub builds: u64,
    /// Bytes of objects that were compared.
    pub bytes: u64,
    /// Objects that are missing or damaged.
    pub found: Vec<Found>,
}

/// An object that is missing or damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The build that needs it.
    pub build: BuildKey,
    /// The object's path in the store.
    pub object: String,
    /// What is wrong with it.
    pub what: Integrity,
    /// Whether the build is made again; for its log alone it is not.
    pub rebuilt: bool,
}

/// A scrub under way.
#[derive(Debug, Default)]
pub struct Scrub {
    next: Next,
    /// The flaws of the attempts that were looked at; builds may share one.
    known: HashMap<AttemptPrefix, Vec<Flaw>>,
    /// Whether served rows of other attempts are compared, too.
    others: bool,
    report: Report,
}

/// The rows that come next, behind a position.
#[derive(Debug)]
enum Next {
    Builds(Option<Cursor>),
    Served(Option<Cursor>),
    Done,
}

impl Default for Next {
    fn default() -> Next {
        Next::Builds(None)
    }
}

/// Compares the objects of one build, or of all.
///
/// # Errors
/// [`Unavailable`]: run it again.
pub async fn verify<D: HasLedger + HasBell + HasStore<Store: Inspect>>(
    d: &D,
    of: Option<&BuildKey>,
) -> Result<Report, Unavailable> {
    let mut scrub = match of {
        None => Scrub::all(),
        Some(key) => {
            let mut scrub = Scrub { next: Next::Served(None), ..Scrub::default() };
            scrub.look_at_build(d, &load_build(d, key).await?.0).await?;
            if scrub.report.found.is_empty() {
                scrub.next = Next::Done;
            }
            scrub
        }
    };
    while scrub.step(d, PAGE).await? {}
    Ok(scrub.report)
}

impl Scrub {
    /// A scrub of all rows, before its first step.
    pub fn all() -> Scrub {
        Scrub { others: true, ..Scrub::default() }
    }

    /// What it has found so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Looks at up to `rows` rows; returns whether there are more.
    ///
    /// # Errors
    /// [`Unavailable`]: call it again; the same rows come next.
    pub async fn step<D: HasLedger + HasBell + HasStore<Store: Inspect>>(
        &mut self,
        d: &D,
        rows: usize,
    ) -> Result<bool, Unavailable> {
        self.next = match &self.next {
            Next::Builds(after) => {
                let page = d.ledger().scan(after.as_ref(), rows).await?;
                let builds = page.rows.into_iter().filter_map(|(row, _)| Build::try_from(row).ok());
                let builds: Vec<_> = builds.collect();
                self.compare(d, builds.iter().filter_map(Build::prefix)).await?;
                for build in builds {
                    self.look_at_build(d, &build).await?;
                }
                page.next.map_or(Next::Served(None), |next| Next::Builds(Some(next)))
            }
            Next::Served(after) => {
                let page = d.ledger().scan(after.as_ref(), rows).await?;
                for (row, _) in page.rows {
                    if let Row::Served(served) = row {
                        self.look_at_served(d, &served).await?;
                    }
                }
                page.next.map_or(Next::Done, |next| Next::Served(Some(next)))
            }
            Next::Done => Next::Done,
        };
        Ok(!matches!(self.next, Next::Done))
    }

    /// Compares the objects of attempts that were not looked at.
    async fn compare<D: HasStore<Store: Inspect>>(
        &mut self,
        d: &D,
        prefixes: impl Iterator<Item = AttemptPrefix>,
    ) -> Result<(), Unavailable> {
        let new: Vec<_> = prefixes.filter(|prefix| !self.known.contains_key(prefix)).collect();
        let compared = stream::iter(new).map(|prefix| async move {
            let (flaws, bytes) = integrity::flaws(d, &prefix).await?;
            Ok((prefix, flaws, bytes))
        });
        let compared: Vec<_> = compared.buffered(AT_ONCE).try_collect().await?;
        for (prefix, flaws, bytes) in compared {
            self.report.bytes += bytes;
            self.known.insert(prefix, flaws);
        }
        Ok(())
    }

    async fn look_at_build<D: HasLedger + HasBell + HasStore<Store: Inspect>>(
        &mut self,
        d: &D,
        build: &Build,
    ) -> Result<(), Unavailable> {
        let State::Ready(made) = &build.state else { return Ok(()) };
        let prefix = made.prefix(&build.key);
        self.compare(d, std::iter::once(prefix.clone())).await?;
        self.report.builds += 1;
        for flaw in self.known.get(&prefix).into_iter().flatten() {
            let Flaw { object, integrity } = flaw;
            if flaw.spoils() {
                integrity::withdraw(d, &build.key, flaw).await?;
            } else {
                d.warn(
                    About::Attempt(&prefix.key, &prefix.lease),
                    "a log is damaged; to make it again, run binplz rebuild",
                    flaw,
                );
            }
            let found = Found {
                build: build.key.clone(),
                object: object.to_string(),
                what: *integrity,
                rebuilt: flaw.spoils(),
            };
            self.report.found.push(found);
        }
        Ok(())
    }

    async fn look_at_served<D: HasLedger + HasBell + HasStore<Store: Inspect>>(
        &mut self,
        d: &D,
        served: &Served,
    ) -> Result<(), Unavailable> {
        let prefix = served.object.prefix();
        let integrity = match self.known.get(&prefix) {
            _ if served.lost => return Ok(()),
            // Its build was looked at, and served rows say what its inventory says.
            Some(flaws) => flaws.iter().find(|flaw| flaw.object == served.object).map(|flaw| flaw.integrity),
            // An earlier attempt's, which is served until its successor is built.
            None if self.others => {
                let stored = d.store().digest(&served.object).await?;
                self.report.bytes += stored.as_ref().map_or(0, |stored| stored.size);
                Some(Integrity::of(stored.as_ref(), &served.content()))
            }
            None => None,
        };
        let Some(what) = integrity.filter(|integrity| *integrity != Integrity::Intact) else { return Ok(()) };
        integrity::withdraw_served(d, served, what).await?;
        if !self.known.contains_key(&prefix) {
            let (build, object) = (prefix.key, served.object.to_string());
            self.report.found.push(Found { build, object, what, rebuilt: true });
        }
        Ok(())
    }
}
