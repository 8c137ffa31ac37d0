//! An operator's changes of the API keys.

use thiserror::Error;

use crate::{
    flow::{change_row, load_row},
    ports::{HasLedger, Read, Unavailable},
    quota::client::{KeyChange, KeyRefused, Keys},
    row::RowKey,
};

/// Why the keys were not changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum NotChanged {
    /// The change is not legal.
    #[error(transparent)]
    Refused(#[from] KeyRefused),
    /// The ledger does not answer: make the change again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The keys, as they are now.
pub(crate) async fn load<D: HasLedger>(d: &D) -> Result<Keys, Unavailable> {
    Ok(load_row(d, &RowKey::Keys, Read::Consistent).await?.0.unwrap_or_default())
}

/// Changes the keys. Idempotent.
pub(crate) async fn change<D: HasLedger>(d: &D, change: &KeyChange) -> Result<Keys, NotChanged> {
    let changed = |keys: Option<&Keys>| keys.cloned().unwrap_or_default().changed(change, d.now());
    let changed = change_row(d, &RowKey::Keys, |keys| changed(keys).map_err(NotChanged::from)).await?;
    Ok(changed.row.unwrap_or_default())
}
