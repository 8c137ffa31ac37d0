//! Earlier builds, for the builder of a catalogue: the programs that packages turned out to have. A package of another
//! nixpkgs probably has the same ones; a build of this nixpkgs decides in the end.

use std::collections::BTreeSet;

use crate::{
    build::protocol::{Built, Looked},
    flow::{
        integrity,
        lease::job::{Bearer, Denied, admit},
        load_build,
    },
    id::key::Product,
    objects::inventory::Inventory,
    ports::{HasLedger, HasStore, Ledger},
    row::StatusIndex,
};

/// How many of the latest builds are searched.
const BACK: usize = 2000;
/// Packages per answer.
const PAGE: usize = 25;

/// The next packages after those that the builder has read.
///
/// # Errors
/// [`Denied`].
pub async fn built<D: HasLedger + HasStore>(d: &D, bearer: &Bearer, seen: Looked) -> Result<Built, Denied> {
    admit(d, bearer).await?;
    if bearer.key.product != Product::Catalogue {
        return Err(Denied::Forbidden("only the builder of a catalogue may list earlier builds"));
    }
    let mut names = BTreeSet::new();
    let latest = d.ledger().latest(StatusIndex::Ready, BACK).await?;
    let keys = latest.into_iter().map(|listed| listed.key).filter(|key| key.system == bearer.key.system);
    // Each package once, by its latest build.
    let mut keys = keys.filter_map(|key| match &key.product {
        Product::Package(attr) => names.insert(attr.clone()).then(|| (attr.clone(), key.clone())),
        Product::Bundle { .. } | Product::Catalogue => None,
    });
    let mut packages = Vec::new();
    for (attr, key) in keys.by_ref().skip(seen.packages).take(PAGE) {
        // The list may lag: a build that is no longer ready is skipped.
        let Some(prefix) = load_build(d, &key).await?.0.prefix() else { continue };
        // One that is missing or damaged is found and rebuilt elsewhere.
        let Ok(Inventory { manifest: Some(manifest), .. }) = integrity::inventory(d, &prefix).await? else { continue };
        packages.push((attr, manifest));
    }
    let next = keys.next().map(|_| Looked { packages: seen.packages + PAGE });
    Ok(Built { packages, next })
}
