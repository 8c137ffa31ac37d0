//! An operator looks at the signing keys, and accepts others.

use serde::{Deserialize, Serialize};

use crate::{
    flow::{change_row, tlog},
    ports::{HasLedger, Unavailable},
    row::RowKey,
    trust::head::{Keyring, LogHead, Offered},
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
}

impl From<LogHead> for SigningKeys {
    fn from(head: LogHead) -> SigningKeys {
        SigningKeys { keyring: head.keyring(), offered: head.offered }
    }
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
