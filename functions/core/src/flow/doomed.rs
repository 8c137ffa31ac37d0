//! What is known of dependencies that fail: noted when a build ends so, looked at before one begins, and let go by an operator.

use crate::{
    artifact::Home,
    build::Build,
    doomed::Doomed,
    failure::Failure,
    flow::{Tries, load_row},
    key::{DrvHash, System},
    ports::{Deployment, Ledger, Read, Row, RowKey, Swap, Unavailable, Version},
};

async fn load<D: Deployment>(d: &D, system: System) -> Result<(Doomed, Version), Unavailable> {
    let (row, version) = load_row(d, &RowKey::Doomed(system), Read::Consistent).await?;
    Ok((row.unwrap_or_else(|| Doomed::none(system)), version))
}

async fn change<D: Deployment>(
    d: &D,
    system: System,
    change: impl Fn(&Doomed) -> Option<Doomed>,
) -> Result<(), Unavailable> {
    let mut tries = Tries::default();
    loop {
        let (doomed, seen) = load(d, system).await?;
        let Some(next) = change(&doomed) else { return Ok(()) };
        match d.ledger().commit(vec![Swap { seen, row: Row::Doomed(next) }]).await {
            Ok(()) => return Ok(()),
            Err(error) => tries.again(error)?,
        }
    }
}

/// Notes how a build has ended, where that was by a dependency that fails for good.
///
/// # Errors
/// [`Unavailable`]: others will come to it.
pub(crate) async fn note<D: Deployment>(d: &D, ended: &Build) -> Result<(), Unavailable> {
    // Nothing is read for the many that end otherwise.
    if ended.dependency().is_none() {
        return Ok(());
    }
    change(d, ended.key.system, |doomed| doomed.after(ended, d.now())).await
}

/// How one of these fails, and whose log tells of it, if that is known.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn among<D: Deployment>(
    d: &D,
    system: System,
    dependencies: &[DrvHash],
) -> Result<Option<(Failure, Home)>, Unavailable> {
    if dependencies.is_empty() {
        return Ok(None);
    }
    let (doomed, _) = load(d, system).await?;
    Ok(doomed.among(dependencies).map(|(failure, home)| (failure.clone(), home.clone())))
}

/// Lets the dependency go that a build has failed by: an operator wants that build tried again.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn pardon<D: Deployment>(d: &D, failed: &Build) -> Result<(), Unavailable> {
    let Some(drv) = failed.dependency() else { return Ok(()) };
    change(d, failed.key.system, |doomed| doomed.pardoned(drv)).await
}
