//! An operator looks at the signing keys, accepts others, and adds what witnesses have cosigned.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    flow::{change_row, tlog},
    ports::{HasLedger, Unavailable},
    row::RowKey,
    trust::{
        head::{Keyring, LogHead, LogKey, NotCosigned, Offered},
        note::Note,
    },
};

/// The signing keys of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKeys {
    /// Those that sign or have signed. Empty: nothing was signed yet.
    #[serde(flatten)]
    pub keyring: Keyring,
    /// Those that the signer has instead, and that are not accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<Offered>,
    /// Those of witnesses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub witnesses: Vec<LogKey>,
    /// The last checkpoint with cosignatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnessed: Option<String>,
}

impl From<LogHead> for SigningKeys {
    fn from(head: LogHead) -> SigningKeys {
        SigningKeys {
            keyring: head.keyring(),
            offered: head.offered,
            witnesses: head.witness_keys,
            witnessed: head.witnessed.map(|tree| tree.checkpoint),
        }
    }
}

/// Why no cosignatures were added.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotAdded {
    /// The log does not take them.
    #[error(transparent)]
    NotCosigned(#[from] NotCosigned),
    /// The ledger does not answer: add them again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The keys.
///
/// # Errors
/// [`Unavailable`].
pub async fn keys<D: HasLedger>(d: &D) -> Result<SigningKeys, Unavailable> {
    Ok(tlog::head(d).await?.map(SigningKeys::from).unwrap_or_default())
}

/// Accepts the keys that the signer offers. The signer signs with them from then on.
///
/// # Errors
/// [`Unavailable`].
pub async fn accept<D: HasLedger>(d: &D) -> Result<SigningKeys, Unavailable> {
    let now = d.now();
    let accept = |head: Option<&LogHead>| {
        Ok::<_, Unavailable>(head.filter(|head| head.offered.is_some()).map(|head| head.clone().accepting(now)))
    };
    Ok(change_row(d, &RowKey::LogHead, accept).await?.row.map(SigningKeys::from).unwrap_or_default())
}

/// Adds the cosignatures of a checkpoint by these witnesses and by those that are known. The operator has checked them.
///
/// # Errors
/// [`NotAdded`].
pub async fn add_cosignatures<D: HasLedger>(d: &D, keys: &[LogKey], checkpoint: &str) -> Result<SigningKeys, NotAdded> {
    let note = checkpoint.parse::<Note>().map_err(NotCosigned::from)?;
    let add = |head: Option<&LogHead>| {
        let head = head.cloned().ok_or(NotCosigned::OtherLog)?.cosigned(keys, &note)?;
        Ok::<_, NotAdded>(Some(head))
    };
    Ok(change_row(d, &RowKey::LogHead, add).await?.row.map(SigningKeys::from).unwrap_or_default())
}
