//! A shelf is looked through, page by page: what lies there is looked at, and nothing is decided by it.

use crate::{
    ports::{HasLedger, Ledger, Unavailable},
    row::{Listed, StatusIndex},
};

/// How many builds are looked at in one go.
const PAGE: usize = 50;

/// How far a shelf has been looked through.
#[derive(Debug)]
pub(crate) struct Walk {
    status_index: StatusIndex,
    after: Option<Listed>,
    over: bool,
}

impl Walk {
    /// From its first build on.
    pub(crate) fn along(status_index: StatusIndex) -> Walk {
        Walk { status_index, after: None, over: false }
    }

    /// The next builds; `None`: those were all.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(crate) async fn next<D: HasLedger>(&mut self, d: &D) -> Result<Option<Vec<Listed>>, Unavailable> {
        if self.over {
            return Ok(None);
        }
        let page = d.ledger().list(self.status_index, self.after.as_ref(), PAGE).await?;
        self.over = page.len() < PAGE;
        self.after = page.last().cloned();
        Ok(Some(page))
    }
}
