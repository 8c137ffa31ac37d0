//! An operator's changes of the API keys.

use thiserror::Error;

use crate::{
    flow::{Tries, load_row},
    ports::{HasLedger, Ledger, Read, Unavailable},
    quota::client::{KeyChange, KeyRefused, Keys},
    row::{Row, RowKey, Swap, Version},
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
    load_keys(d).await.map(|(keys, _)| keys)
}

async fn load_keys<D: HasLedger>(d: &D) -> Result<(Keys, Version), Unavailable> {
    let (row, seen) = load_row(d, &RowKey::Keys, Read::Consistent).await?;
    Ok((row.unwrap_or_default(), seen))
}

/// Changes the keys. Idempotent.
pub(crate) async fn change<D: HasLedger>(d: &D, change: &KeyChange) -> Result<Keys, NotChanged> {
    let mut tries = Tries::default();
    loop {
        let (keys, seen) = load_keys(d).await?;
        let Some(next) = keys.changed(change, d.now())? else { return Ok(keys) };
        match d.ledger().commit(vec![Swap { seen, row: Row::Keys(next.clone()) }]).await {
            Ok(()) => return Ok(next),
            Err(error) => tries.again(error)?,
        }
    }
}
