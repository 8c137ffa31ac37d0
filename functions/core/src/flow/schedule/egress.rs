//! The egress ceiling: if the operator has set one, sweeps count downloads, and beyond it downloads stop until the next
//! day.

use crate::{
    build::policy::Policy,
    flow::{change_limits, load_limits},
    id::time::Timestamp,
    objects::stored::Location,
    ports::{DownloadStats, HasDownloadStats, HasLedger, Read, Unavailable},
    telemetry::{About, Signal},
};

/// Counts today's downloads, stores the count for requests to read, and signals if the ceiling is reached. It signals
/// again at each count, so that an alarm lasts as long.
///
/// If the count is unavailable, the last one stays: an unwatched ceiling stops no download.
///
/// # Errors
/// [`Unavailable`]: the ledger does not answer.
pub(crate) async fn count<D: HasLedger + HasDownloadStats>(d: &D) -> Result<(), Unavailable> {
    if d.policy().egress_bytes.is_none() {
        return Ok(());
    }
    let today = d.now().day();
    match d.download_stats().served(today.start()).await {
        Ok(traffic) => drop(change_limits(d, |limits| limits.counted(today, traffic.bytes)).await?),
        Err(error) => d.warn(About::Service, "the egress of today is unknown", &error),
    }
    let (limits, _) = load_limits(d, Read::Consistent).await?;
    if let Some(egress) = limits.egress(d.policy(), d.now()).filter(|egress| egress.until.is_some()) {
        d.emit(About::Service, Signal::Exceeded(egress));
    }
    Ok(())
}

/// When downloads resume, if they have stopped. With a ceiling, this takes a read.
pub(crate) async fn shut<D: HasLedger>(d: &D) -> Result<Option<Timestamp>, Unavailable> {
    match d.policy().egress_bytes {
        Some(_) => Ok(load_limits(d, Read::Eventual).await?.0.shut(d.policy(), d.now())),
        None => Ok(None),
    }
}

/// The location of a program, for a redirect. Redirects that a CDN caches are not counted, so with a ceiling none may
/// be cached.
pub(crate) fn counted(policy: &Policy, at: Location) -> Location {
    match (at, policy.egress_bytes) {
        (Location::Cdn(url), Some(_)) => Location::Store(url),
        (at, _) => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_a_ceiling_no_redirect_is_kept_by_a_cdn() {
        let (url, of) =
            ("https://cdn.example/x".to_owned(), |egress_bytes| Policy { egress_bytes, ..Policy::default() });
        assert_eq!(counted(&of(None), Location::Cdn(url.clone())), Location::Cdn(url.clone()));
        assert_eq!(counted(&of(Some(1)), Location::Cdn(url.clone())), Location::Store(url.clone()));
        assert_eq!(counted(&of(Some(1)), Location::Store(url.clone())), Location::Store(url));
    }
}
