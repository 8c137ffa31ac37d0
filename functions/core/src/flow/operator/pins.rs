//! Pins: read, changed, and the served rows under a changed meaning marked stale.
//!
//! A hit reads no pin, only a served row that is not stale. So a change of the pins is followed at once by marking the
//! rows that mean another nixpkgs by now. A request that had read the pins before may write such a row later; so every
//! sweep marks again while a change [settles](crate::nixpkgs::pins::SETTLING), and until one has marked all rows after
//! that. A row that is marked without need costs its next request a read of the build, after which it is written anew.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use thiserror::Error;

use crate::{
    flow::{change_row, load_row, request::catalogue, ring},
    nixpkgs::{
        pins::{Change, PinRefusal, Pinned, Pins, Programs},
        served::{Served, ServedKey},
    },
    objects::artifact::AttemptPrefix,
    ports::{HasBell, HasLedger, Ledger, Read, Unavailable},
    row::RowKey,
};

/// How many rows are read, and marked, per page.
const PAGE: usize = 64;

/// Why the pins were not changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotChanged {
    /// The change is not legal.
    #[error(transparent)]
    Refused(#[from] PinRefusal),
    /// The ledger does not answer: make the change again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The current pins. Read consistently each time, since a hit does not need them: every later reader sees a change
/// before its rows are marked.
///
/// # Errors
/// [`Unavailable`].
pub async fn load<D: HasLedger>(d: &D) -> Result<Pins, Unavailable> {
    let (row, _) = load_row(d, &RowKey::Pins, Read::Consistent).await?;
    Ok(row.unwrap_or_else(|| d.first_pins().clone()))
}

/// Changes the pins, marks the served rows under their old meaning stale, and requests the new catalogues. Idempotent.
///
/// # Errors
/// [`NotChanged`]. If unavailable, the pins may have changed, and some rows may be marked; a sweep does the rest.
pub async fn change<D: HasLedger + HasBell>(d: &D, change: &Change) -> Result<Pins, NotChanged> {
    let changed = |pins: Option<&Pins>| pins.unwrap_or(d.first_pins()).changed(change, d.now());
    let changed = change_row(d, &RowKey::Pins, |pins| changed(pins).map_err(NotChanged::from)).await?;
    let pins = changed.row.unwrap_or_else(|| d.first_pins().clone());
    mark(d, &pins).await?;
    if let Change::Add(_, rev, _, Some(Programs::Stored(_))) | Change::Move(_, rev, _, Some(Programs::Stored(_))) =
        change
    {
        catalogue::renew(d, rev).await?;
    }
    catalogue::ask_for_all(d, &pins).await?;
    // Builds may wait for the tarball that was uploaded with this.
    ring(d).await;
    Ok(pins)
}

/// Writes the first pins of a new deployment, marks served rows that late requests have written since a change, and
/// requests catalogues that are missing or may be retried.
///
/// # Errors
/// [`Unavailable`]: run it again.
pub(crate) async fn settle<D: HasLedger + HasBell>(d: &D) -> Result<(), Unavailable> {
    let began = d.now();
    let first = |pins: Option<&Pins>| Ok::<_, Unavailable>(pins.is_none().then(|| d.first_pins().clone()));
    let pins = change_row(d, &RowKey::Pins, first).await?.row.unwrap_or_else(|| d.first_pins().clone());
    // If it takes too long to mark all, catalogues are asked for nevertheless.
    catalogue::ask_for_all(d, &pins).await?;
    mark(d, &pins).await?;
    if let Some(marked) = pins.marked(began) {
        // Of pins that have changed meanwhile, not all rows are marked.
        let same = |now: Option<&Pins>| Ok::<_, Unavailable>((now == Some(&pins)).then(|| marked.clone()));
        change_row(d, &RowKey::Pins, same).await?;
    }
    Ok(())
}

async fn mark<D: HasLedger>(d: &D, pins: &Pins) -> Result<(), Unavailable> {
    for left in pins.lately_left() {
        let meant = |asked: &ServedKey| pins.resolve(&asked.target(), asked.system()).is_ok_and(|now| now.is(left));
        mark_all(d, left, |asked| !meant(asked), |_| true).await?;
    }
    let withheld: BTreeSet<_> = pins.lately_withheld().collect();
    if !withheld.is_empty() {
        // The requested name does not show the package: only the rows do.
        for (name, pin) in pins.all() {
            let pinned = Pinned { pin: name.clone(), rev: pin.rev.clone() };
            mark_all(d, &pinned, |_| true, |served| withheld.contains(&served.attr)).await?;
        }
    }
    Ok(())
}

/// Marks the served rows of an attempt's objects, which are served until their successors are built.
pub(crate) async fn mark_objects<D: HasLedger>(d: &D, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
    for (name, pin) in load(d).await?.all() {
        let pinned = Pinned { pin: name.clone(), rev: pin.rev.clone() };
        let of_it = |served: &Served| served.object.key == prefix.key && served.object.lease == prefix.lease;
        mark_all(d, &pinned, |_| true, of_it).await?;
    }
    Ok(())
}

/// Marks fresh served rows under `pinned` whose key and content match.
async fn mark_all<D: HasLedger>(
    d: &D,
    pinned: &Pinned,
    asked_so: impl Fn(&ServedKey) -> bool,
    says_so: impl Fn(&Served) -> bool,
) -> Result<(), Unavailable> {
    let mut after = None;
    loop {
        let page = d.ledger().list_served(pinned, after.as_ref(), PAGE).await?;
        let rows = page.iter().filter(|asked| asked_so(asked));
        try_join_all(rows.map(|asked| mark_one(d, asked, |served| served.pinned() == *pinned && says_so(served))))
            .await?;
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.clone()),
            _ => return Ok(()),
        }
    }
}

/// Marks a served row, if its content matches.
async fn mark_one<D: HasLedger>(d: &D, asked: &ServedKey, such: impl Fn(&Served) -> bool) -> Result<(), Unavailable> {
    let marked = |served: Option<&Served>| {
        let fresh = served.filter(|served| served.is_listed() && such(served));
        Ok::<_, Unavailable>(fresh.map(|served| Served { stale: true, ..served.clone() }))
    };
    change_row(d, &RowKey::Served(asked.clone()), marked).await.map(drop)
}
