//! Charges a new build to a client's allowance (rate limit).

use crate::{
    answer::problem::Problem,
    flow::{AdvanceError, load_row, operator::keys},
    ports::{HasLedger, Read, Unavailable},
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
    /// A [`Problem`] inside, for an unknown API key.
    pub(crate) async fn to<D: HasLedger>(
        d: &D,
        asker: &Asker<'_>,
    ) -> Result<Result<Option<Charge>, Problem>, Unavailable> {
        let (client, most) = match asker.key {
            None => (Client::from(asker.address), d.policy().client_builds),
            Some(secret) => match keys::load(d).await?.find(secret) {
                Some((name, key)) => (Client::Key(name.clone()), key.builds),
                None => return Ok(Err(Problem::unknown_key())),
            },
        };
        Ok(Ok(most.map(|most| Charge { client, most })))
    }

    /// The swap that charges one build, for the commit that starts it.
    pub(crate) async fn swap<D: HasLedger>(&self, d: &D) -> Result<Swap, AdvanceError> {
        let key = RowKey::Allowance(self.client.clone());
        let (row, seen) = load_row::<D, Allowance>(d, &key, Read::Consistent).await?;
        let row = row.unwrap_or_else(|| Allowance::untouched(self.client.clone(), d.now()));
        Ok(Swap { seen, row: Row::Allowance(row.one_more(self.most, d.now())?) })
    }
}
