//! What the names of nixpkgs stand for: looked up, changed, and what is served under another meaning marked.
//!
//! A hit knows no pin: it is a served row that nobody has marked stale. So whoever changes the pins marks, right after, the rows
//! that mean another nixpkgs by now. A request that had looked at the pins before may write such a row after that; so every
//! sweep marks again, for as long as a change [settles](crate::pins::SETTLING). A row that is marked without need costs the
//! next request for it a look at the build, which writes it anew.

use futures_util::future::try_join_all;
use thiserror::Error;

use crate::{
    flow::Tries,
    pins::{Change, Pinned, Pins, Refused},
    ports::{Deployment, Ledger, Read, Row, RowKey, Swap, Unavailable, Version},
    served::{Served, ServedKey},
};

/// How many rows are looked at, and marked, at once.
const PAGE: usize = 64;

/// Why the pins were not changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotChanged {
    /// It would not be right.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The ledger does not answer: make the change again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The pins as they are now. Read anew each time, for it is not on a hit's way: so whoever marks rows is seen by all who come after.
///
/// # Errors
/// [`Unavailable`].
pub async fn load<D: Deployment>(d: &D) -> Result<Pins, Unavailable> {
    load_row(d).await.map(|(pins, _)| pins)
}

async fn load_row<D: Deployment>(d: &D) -> Result<(Pins, Version), Unavailable> {
    match d.ledger().load(&RowKey::Pins, Read::Consistent).await? {
        Some((Row::Pins(pins), version)) => Ok((pins, version)),
        Some(_) => Err(Unavailable::new("ledger", "another row lies where the pins should")),
        None => Ok((d.first_pins().clone(), Version(0))),
    }
}

/// Changes the pins, and marks what is served under their old meaning. The same change again is well.
///
/// # Errors
/// [`NotChanged`]. Unavailable: perhaps it is changed, and some rows are marked; a sweep marks the others.
pub async fn change<D: Deployment>(d: &D, change: &Change) -> Result<Pins, NotChanged> {
    let mut tries = Tries::default();
    let pins = loop {
        let (pins, seen) = load_row(d).await?;
        let Some(next) = pins.changed(change, d.now())? else { break pins };
        match d.ledger().commit(vec![Swap { seen, row: Row::Pins(next.clone()) }]).await {
            Ok(()) => break next,
            Err(error) => tries.again(error)?,
        }
    };
    mark(d, &pins).await?;
    Ok(pins)
}

/// Writes the first pins down where nobody has, and marks what late requests have written since a change.
///
/// # Errors
/// [`Unavailable`]: run it again.
pub(crate) async fn settle<D: Deployment>(d: &D) -> Result<(), Unavailable> {
    let (pins, seen) = load_row(d).await?;
    if seen == Version(0) {
        let written = d.ledger().commit(vec![Swap { seen, row: Row::Pins(pins) }]).await;
        // Somebody else has, or the next sweep will.
        return written.or_else(|error| Tries::default().again(error));
    }
    mark(d, &pins).await
}

async fn mark<D: Deployment>(d: &D, pins: &Pins) -> Result<(), Unavailable> {
    for left in pins.lately_left(d.now()) {
        let mut after = None;
        loop {
            let page = d.ledger().list_served(left, after.as_ref(), PAGE).await?;
            let meant = |asked: &&ServedKey| {
                let resolved = pins.resolve(&asked.target(), asked.system());
                resolved.is_ok_and(|now| (&now.pin, &now.key.rev) == (&left.pin, &left.rev))
            };
            try_join_all(page.iter().filter(|asked| !meant(asked)).map(|asked| mark_one(d, asked, left))).await?;
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.clone()),
                _ => break,
            }
        }
    }
    Ok(())
}

/// Marks a row, if it still is what the list said.
async fn mark_one<D: Deployment>(d: &D, asked: &ServedKey, left: &Pinned) -> Result<(), Unavailable> {
    let mut tries = Tries::default();
    loop {
        match d.ledger().load(&RowKey::Served(asked.clone()), Read::Consistent).await? {
            Some((Row::Served(served), seen)) if !served.stale && served.pinned() == *left => {
                let row = Row::Served(Served { stale: true, ..served });
                match d.ledger().commit(vec![Swap { seen, row }]).await {
                    Ok(()) => return Ok(()),
                    Err(error) => tries.again(error)?,
                }
            }
            _ => return Ok(()),
        }
    }
}
