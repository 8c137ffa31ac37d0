//! Reads the transparency log: for requests, and for the signer.

use crate::{
    build::Made,
    flow::load_row,
    id::key::BuildKey,
    ports::{HasLedger, HasStore, Read, Store, Unavailable},
    row::RowKey,
    trust::{
        head::{LogHead, LogName, Logged},
        tile::TileName,
    },
};

/// The log's head; `None`: there is no log.
///
/// # Errors
/// [`Unavailable`].
pub async fn head<D: HasLedger>(d: &D) -> Result<Option<LogHead>, Unavailable> {
    Ok(load_row(d, &RowKey::LogHead, Read::Consistent).await?.0)
}

/// Whether the log has what a build has made.
pub(crate) async fn is_logged<D: HasLedger>(d: &D, key: &BuildKey, made: &Made) -> Result<bool, Unavailable> {
    Ok(logged(d, key).await?.is_some_and(|logged| logged.lease == made.lease))
}

/// What the log has of a build.
pub(crate) async fn logged<D: HasLedger>(d: &D, key: &BuildKey) -> Result<Option<Logged>, Unavailable> {
    Ok(load_row(d, &RowKey::Logged(key.clone()), Read::Consistent).await?.0)
}

/// An object of the log; where it is gone, the same part of the full one that has replaced it.
pub(crate) async fn tile<D: HasStore>(d: &D, name: &TileName) -> Result<Vec<u8>, Unavailable> {
    for stored in [*name, name.full()] {
        if let Some(bytes) = d.store().log_object(&LogName::Tile(stored)).await? {
            return Ok(name.cut(bytes));
        }
    }
    Err(Unavailable::new("log", format!("{name} is missing")))
}
