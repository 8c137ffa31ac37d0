//! Charges a new build to a client's allowance (rate limit).

use crate::{
    flow::{AdvanceError, load_row, operator::keys, request::denial::Denial},
    ports::{HasLedger, Read},
    quota::client::{Allowance, Asker, Client},
    row::{Row, RowKey, Swap},
};

/// A client whose allowance pays for a new build.
#[derive(Clone, Debug)]
pub(crate) struct Charge {
    client: Client,
    /// Builds that it may have started in a day.
    most: u32,
}

impl Charge {
    /// The client's charge; `None` if it has no limit.
    ///
    /// # Errors
    /// [`Denial`]: the API key is unknown, or the ledger does not answer.
    pub(crate) async fn to<D: HasLedger>(d: &D, asker: &Asker<'_>) -> Result<Option<Charge>, Denial> {
        let (client, most) = match asker.key {
            None => (Client::from(asker.address), d.policy().client_builds),
            Some(secret) => match keys::load(d).await?.find(secret) {
                Some((name, key)) => (Client::Key(name.clone()), key.builds),
                None => return Err(Denial::UnknownKey),
            },
        };
        Ok(most.map(|most| Charge { client, most }))
    }

    /// The swap that charges one build, for the commit that starts it.
    pub(crate) async fn swap<D: HasLedger>(&self, d: &D) -> Result<Swap, AdvanceError> {
        let key = RowKey::Allowance(self.client.clone());
        let (row, seen) = load_row::<D, Allowance>(d, &key, Read::Consistent).await?;
        let row = row.unwrap_or_else(|| Allowance::untouched(self.client.clone(), d.now()));
        Ok(Swap { seen, row: Row::Allowance(row.one_more(self.most, d.now())?) })
    }
}
