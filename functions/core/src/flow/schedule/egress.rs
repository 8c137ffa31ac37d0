//! What is served costs money as it leaves. Where the operator has set a ceiling, somebody counts, and beyond it no program is
//! served until the next day.

use crate::{
    build::policy::Policy,
    flow::{change_limits, load_limits},
    id::time::Timestamp,
    objects::stored::Location,
    ports::{DownloadStats, HasDownloadStats, HasLedger, Read, Unavailable},
    telemetry::{About, Signal},
};

/// Counts what was served today, writes it down for whoever hands programs out, and tells where it is as much as may be. Again for as
/// long as it is, so that an alarm lasts as long.
///
/// Where nobody can say how much it was, it is what it was thought to be: a ceiling that is not watched stops nobody.
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
        Err(error) => d.warn(About::Service, "nobody knows how much was served", &error),
    }
    let (limits, _) = load_limits(d, Read::Consistent).await?;
    if let Some(egress) = limits.egress(d.policy(), d.now()).filter(|egress| egress.until.is_some()) {
        d.emit(About::Service, Signal::Exceeded(egress));
    }
    Ok(())
}

/// When programs are served again, where they are not any more. It takes a read, where there is a ceiling.
pub(crate) async fn shut<D: HasLedger>(d: &D) -> Result<Option<Timestamp>, Unavailable> {
    match d.policy().egress_bytes {
        Some(_) => Ok(load_limits(d, Read::Eventual).await?.0.shut(d.policy(), d.now())),
        None => Ok(None),
    }
}

/// Where a program is, for a redirect. What a CDN keeps is followed without our hearing of it: so under a ceiling none is kept.
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
