//! A part of the signer: the provenance of a build, stated of what the signer has read, and signed.

use std::collections::BTreeMap;

use crate::{
    flow::operator::pins,
    id::key::Sha256,
    objects::{
        artifact::{AttemptPrefix, Manifest, ObjectName},
        content::Content,
        inventory::Inventory,
        materials::Materials,
        stored::Integrity,
    },
    ports::{HasLedger, HasStore, KeyUse, MESSAGE_MAX, Signer, Store, Unavailable},
    telemetry::About,
    trust::{
        head::LogName,
        leaf::{Artifact, Documents},
        minisign::PublicKey,
        provenance::{Facts, Level, envelope, pae},
    },
};

/// Writes the signed provenance of artifacts whose bytes are what they must be, and returns the documents on each content.
/// There are none for a build of an earlier version. The inner error is an object of the build that is not as it must be.
///
/// # Errors
/// [`Unavailable`].
pub(super) async fn attest<D: HasLedger + HasStore, S: Signer>(
    d: &D,
    signer: &S,
    by: &PublicKey,
    prefix: &AttemptPrefix,
    (manifest, inventory): (&Manifest, &Inventory),
    artifacts: &[Artifact],
) -> Result<Result<BTreeMap<Sha256, Documents>, (ObjectName, Integrity)>, Unavailable> {
    let mut documents = BTreeMap::new();
    let (Some(expected), Some(sbom)) =
        (inventory.content(&ObjectName::Materials), inventory.content(&ObjectName::Sbom))
    else {
        return Ok(Ok(documents));
    };
    let bad = |integrity| Ok(Err((ObjectName::Materials, integrity)));
    let Some(json) = d.store().read(&prefix.object(ObjectName::Materials)).await? else {
        return bad(Integrity::Missing);
    };
    let Some(materials) = Some(&json)
        .filter(|json| Content::of(json) == expected)
        .and_then(|json| serde_json::from_slice::<Materials>(json).ok())
    else {
        return bad(Integrity::OtherContent);
    };
    let pins = pins::load(d).await?;
    let facts = Facts {
        origin: d.origin(),
        level: Level::of(d.policy()),
        key: &prefix.key,
        nixpkgs: pins.nixpkgs(&prefix.key.rev),
        manifest,
        builder: &materials.builder,
        materials: &expected.sha256,
        sbom: &sbom.sha256,
    };
    for statement in facts.statements(artifacts) {
        let message = pae(&statement.payload);
        if message.len() > MESSAGE_MAX {
            let why = "its statement is too long to be signed";
            d.warn(About::Attempt(&prefix.key, &prefix.lease), "an artifact has no provenance", &why);
            continue;
        }
        let signature = signer.sign(KeyUse::Artifacts, &message).await?;
        let envelope = envelope(&statement.payload, by, &signature);
        let provenance = Sha256::of(&envelope);
        signer.write(&LogName::Provenance(provenance.clone()), envelope).await?;
        let of = |content| (content, Documents { provenance: provenance.clone(), sbom: sbom.sha256.clone() });
        documents.extend(statement.contents.into_iter().map(of));
    }
    Ok(Ok(documents))
}
