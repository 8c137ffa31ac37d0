//! Failed dependencies: recorded when a build fails by one, checked before a build begins, and cleared by an operator.

use crate::{
    build::{
        Build,
        failed_dependencies::{FailedDependencies, FailedDependency},
        failure::Failure,
    },
    flow::{change_row, load_row},
    id::key::{DrvHash, System},
    objects::artifact::AttemptPrefix,
    ports::{HasLedger, Read, Unavailable},
    row::RowKey,
};

async fn change<D: HasLedger>(
    d: &D,
    system: System,
    change: impl Fn(&FailedDependencies) -> Option<FailedDependencies>,
) -> Result<(), Unavailable> {
    let change = |row: Option<&FailedDependencies>| {
        Ok::<_, Unavailable>(change(row.unwrap_or(&FailedDependencies::none(system))))
    };
    change_row(d, &RowKey::FailedDependencies(system), change).await.map(drop)
}

/// Records a dependency whose permanent failure ended a build.
///
/// # Errors
/// [`Unavailable`]: another build will record it.
pub(crate) async fn note<D: HasLedger>(d: &D, ended: &Build) -> Result<(), Unavailable> {
    // Most builds end otherwise, and cost no read here.
    if ended.dependency().is_none() {
        return Ok(());
    }
    change(d, ended.key.system, |failed_dependencies| failed_dependencies.after(ended, d.now())).await
}

/// How one of these fails, and whose log tells of it, if that is known.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn among<D: HasLedger>(
    d: &D,
    system: System,
    dependencies: &[DrvHash],
) -> Result<Option<(Failure, AttemptPrefix)>, Unavailable> {
    if dependencies.is_empty() {
        return Ok(None);
    }
    let (row, _) = load_row::<D, FailedDependencies>(d, &RowKey::FailedDependencies(system), Read::Consistent).await?;
    let known = row.as_ref().and_then(|row| row.among(dependencies, d.now()));
    Ok(known.map(|(failure, prefix)| (failure.clone(), prefix.clone())))
}

/// Lets the dependency go that a build has failed by: an operator wants that build tried again.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn clear<D: HasLedger>(d: &D, failed: &Build) -> Result<(), Unavailable> {
    let Some(drv) = failed.dependency() else { return Ok(()) };
    change(d, failed.key.system, |failed_dependencies| failed_dependencies.cleared(drv)).await
}

/// All that are remembered.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn all<D: HasLedger>(d: &D) -> Result<Vec<FailedDependency>, Unavailable> {
    let mut all = Vec::new();
    for system in System::ALL {
        let (row, _) =
            load_row::<D, FailedDependencies>(d, &RowKey::FailedDependencies(system), Read::Consistent).await?;
        all.extend(row.map_or(Vec::new(), |row| row.all(d.now())));
    }
    Ok(all)
}

/// Clears one dependency: packages that need it are built again. Returns whether it was remembered.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn clear_one<D: HasLedger>(d: &D, drv: &DrvHash) -> Result<bool, Unavailable> {
    let known = all(d).await?.into_iter().any(|known| known.drv == *drv);
    for system in System::ALL {
        change(d, system, |failed_dependencies| failed_dependencies.cleared(drv)).await?;
    }
    Ok(known)
}
