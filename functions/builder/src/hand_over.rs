//! Uploads the static programs and the archive to the store, and writes the manifest.

use std::{collections::HashSet, path::PathBuf};

use binplz_core::{
    build::protocol::{Phase, Upload},
    objects::{
        artifact::{Manifest, ObjectName, Verdict},
        content::Content,
    },
};

use crate::{
    context::{BuildContext, Ending},
    evaluate::Package,
    lease::{Body, CallPriority},
    programs::Found,
};

/// How many upload URLs are requested at once: enough to be quick, few enough not to expire before their turn.
const BATCH: usize = 50;

/// Uploads every static program exactly as it was inspected: the store refuses bytes of another hash. Programs of the
/// same content are one upload, and none if the store has it.
pub(crate) fn hand_over(
    context: &BuildContext,
    package: Package,
    found: Vec<Found>,
    archive: Option<(Content, PathBuf)>,
) -> Result<Manifest, Ending> {
    context.progress_channel.update(|progress| progress.phase = Phase::Uploading);
    let mut contents = HashSet::new();
    let uploads: Vec<_> = found
        .iter()
        .filter_map(|found| match (&found.program.verdict, &found.file) {
            (Verdict::Static { sha256, size, .. }, Some(file)) if contents.insert(sha256) => {
                let name = ObjectName::Program(found.program.bin.clone());
                Some((Upload { name, size: *size, sha256: sha256.clone() }, file))
            }
            _ => None,
        })
        .chain(archive.iter().map(|(Content { sha256, size }, file)| {
            (Upload { name: ObjectName::Archive, size: *size, sha256: sha256.clone() }, file)
        }))
        .collect();
    for batch in uploads.chunks(BATCH) {
        let asked: Vec<Upload> = batch.iter().map(|(upload, _)| upload.clone()).collect();
        let grants = context.lease.grants(CallPriority::Work, &asked)?;
        for ((upload, file), grant) in batch.iter().zip(grants).filter(|(_, grant)| !grant.stored) {
            context.lease.store_granted(CallPriority::Work, upload, Some(grant), Body::File(file))?;
        }
    }
    Ok(Manifest {
        declared: package.declared(),
        pname: package.pname,
        version: package.version,
        drv_path: package.drv,
        archive: archive.map(|(content, _)| content),
        bundle: None,
        outputs: package.outputs.all,
        installed: package.outputs.installed,
        programs: found.into_iter().map(|found| found.program).collect(),
    })
}
