//! What nobody works on any more ends here: leases that are over, and rings that were lost.

use crate::{
    build::Event,
    flow::{Halt, advance, settle},
    ports::{Deployment, Launcher, Ledger, Shelf, Unavailable},
    time::Timestamp,
};

/// How many leases are looked at in one go.
const PAGE: usize = 50;

/// Ends every lease whose time is over, then rings, in case a ring was lost. Returns when the next lease would be over.
///
/// # Errors
/// [`Unavailable`]: the ledger does not answer; run it again.
pub async fn sweep<D: Deployment>(d: &D) -> Result<Option<Timestamp>, Unavailable> {
    let mut after = None;
    let next = 'pages: loop {
        let page = d.ledger().list(Shelf::Building, after.as_ref(), PAGE).await?;
        for listed in &page {
            if listed.at > d.now() {
                break 'pages Some(listed.at);
            }
            match advance(d, &listed.key, &Event::Lapse).await {
                Ok(lapsed) => {
                    if let Some(lease) = lapsed.before.lease().filter(|_| lapsed.after.lease().is_none())
                        && let Err(error) = d.launcher().stop(lease).await
                    {
                        d.note("the builder of a lapsed lease was not stopped", &error);
                    }
                }
                Err(Halt::Unavailable(error)) => return Err(error),
                Err(Halt::Illegal(_) | Halt::Full(_)) => {}
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.clone()),
            _ => break None,
        }
    };
    settle::ring(d).await;
    Ok(next)
}
