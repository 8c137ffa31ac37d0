//! An object that is missing or damaged is taken out of service at once, and built anew.
//!
//! Its build's row goes from `Ready` to `Queued`: first that of the build that made the object, since others would
//! borrow it again, then that of the build that has borrowed it. A served row of the object is marked lost. Each step
//! may be repeated, and a flow that dies between two of them is followed by the next check, which finds the same flaw.

use std::fmt;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    build::Event,
    flow::{AdvanceError, advance, change_row, load_build, ring},
    id::key::{BuildKey, Product},
    nixpkgs::served::Served,
    objects::{
        artifact::{AttemptPrefix, ObjectName, ObjectPath},
        inventory::Inventory,
        stored::Integrity,
    },
    ports::{HasBell, HasLedger, HasStore, Inspect, Store, Unavailable},
    row::RowKey,
    telemetry::About,
};

/// How many objects of an attempt are read concurrently.
const AT_ONCE: usize = 4;

/// An object that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The object.
    pub object: ObjectPath,
    /// What is wrong with it.
    pub integrity: Integrity,
}

impl Flaw {
    /// Whether its build must be made again. A log is missed by its readers only.
    pub fn spoils(&self) -> bool {
        self.object.name != ObjectName::WholeLog
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.object, self.integrity)
    }
}

/// The inventory below a prefix, or what is wrong with its file.
pub(crate) async fn inventory<D: HasStore>(
    d: &D,
    prefix: &AttemptPrefix,
) -> Result<Result<Inventory, Integrity>, Unavailable> {
    inventory_in(d.store(), prefix).await
}

/// The same, of a store.
pub(crate) async fn inventory_in<S: Store>(
    store: &S,
    prefix: &AttemptPrefix,
) -> Result<Result<Inventory, Integrity>, Unavailable> {
    let Some(json) = store.read(&prefix.object(ObjectName::Manifest)).await? else {
        return Ok(Err(Integrity::Missing));
    };
    Ok(Inventory::from_json(&json, &prefix.key.product).map_err(|_| Integrity::OtherContent))
}

/// Compares an object that a client downloads with its inventory. One that is missing or damaged is withdrawn; an object
/// that no inventory lists is taken for intact.
///
/// # Errors
/// [`Unavailable`].
pub async fn check<D: HasLedger + HasStore + HasBell>(d: &D, object: &ObjectPath) -> Result<Integrity, Unavailable> {
    let prefix = object.prefix();
    let (object, integrity) = match inventory(d, &prefix).await? {
        Ok(inventory) => match inventory.content(&object.name) {
            Some(content) => (object.clone(), d.store().glance(object, &content).await?),
            None => return Ok(Integrity::Intact),
        },
        Err(_) if load_build(d, &prefix.key).await?.0.prefix().as_ref() != Some(&prefix) => {
            return Ok(Integrity::Intact);
        }
        Err(integrity) => (prefix.object(ObjectName::Manifest), integrity),
    };
    let flaw = Flaw { object, integrity };
    if integrity != Integrity::Intact && flaw.spoils() {
        withdraw(d, &prefix.key, &flaw).await?;
    }
    Ok(integrity)
}

/// Compares every object of a ready build with its inventory, by reading each one.
pub(crate) async fn flaws<D: HasStore<Store: Inspect>>(
    d: &D,
    prefix: &AttemptPrefix,
) -> Result<(Vec<Flaw>, u64), Unavailable> {
    let (mut flaws, mut bytes) = (Vec::new(), 0);
    let mut found = |object, integrity| flaws.push(Flaw { object, integrity });
    let inventory = match inventory(d, prefix).await? {
        Ok(inventory) => inventory,
        // An earlier version wrote none for catalogues.
        Err(Integrity::Missing) if prefix.key.product == Product::Catalogue => {
            for name in [ObjectName::Lookup, ObjectName::Details] {
                let object = prefix.object(name);
                if d.store().size(&object).await?.is_none() {
                    found(object, Integrity::Missing);
                }
            }
            return Ok((flaws, bytes));
        }
        Err(integrity) => {
            found(prefix.object(ObjectName::Manifest), integrity);
            return Ok((flaws, bytes));
        }
    };
    let entries = stream::iter(inventory.entries().collect::<Vec<_>>());
    let compared = entries.map(|entry| async move {
        let object = prefix.object(entry.name);
        let stored = d.store().digest(&object).await?;
        Ok((object, entry.content, stored))
    });
    let compared: Vec<_> = compared.buffered(AT_ONCE).try_collect().await?;
    for (object, content, stored) in compared {
        bytes += stored.as_ref().map_or(0, |stored| stored.size);
        match Integrity::of(stored.as_ref(), &content) {
            Integrity::Intact => {}
            integrity => found(object, integrity),
        }
    }
    Ok((flaws, bytes))
}

/// Takes the flawed object of a build out of service, and has the build made again.
///
/// # Errors
/// [`Unavailable`]: part of it may be done; the next check finds the flaw again.
pub(crate) async fn withdraw<D: HasLedger + HasBell>(d: &D, key: &BuildKey, flaw: &Flaw) -> Result<(), Unavailable> {
    let prefix = flaw.object.prefix();
    d.warn(About::Attempt(&prefix.key, &prefix.lease), "an object is taken out of service and built again", flaw);
    anew(d, key, &prefix).await
}

/// Has a build made again whose objects have that prefix.
///
/// # Errors
/// As for [`withdraw`].
pub(crate) async fn anew<D: HasLedger + HasBell>(
    d: &D,
    key: &BuildKey,
    prefix: &AttemptPrefix,
) -> Result<(), Unavailable> {
    let borrower = Some(key).filter(|key| **key != prefix.key);
    for key in std::iter::once(&prefix.key).chain(borrower) {
        match advance(d, key, &Event::Withdraw { prefix: prefix.clone() }).await {
            // It is not ready any more, or with other objects.
            Ok(_) | Err(AdvanceError::Illegal(_) | AdvanceError::LimitExceeded(_)) => {}
            Err(AdvanceError::Unavailable(error)) => return Err(error),
        }
    }
    ring(d).await;
    Ok(())
}

/// Takes the object of a served row out of service: its build, and then the row.
///
/// # Errors
/// As for [`withdraw`].
pub(crate) async fn withdraw_served<D: HasLedger + HasBell>(
    d: &D,
    served: &Served,
    integrity: Integrity,
) -> Result<(), Unavailable> {
    withdraw(d, &served.key(), &Flaw { object: served.object.clone(), integrity }).await?;
    mark_lost(d, served).await
}

/// Marks a served row lost, if it is still of that object.
pub(crate) async fn mark_lost<D: HasLedger>(d: &D, lost: &Served) -> Result<(), Unavailable> {
    let marked = |served: Option<&Served>| {
        let same = served.filter(|served| !served.lost && served.object == lost.object);
        Ok::<_, Unavailable>(same.map(|served| Served { lost: true, ..served.clone() }))
    };
    change_row(d, &RowKey::Served(lost.asked.clone()), marked).await.map(drop)
}
