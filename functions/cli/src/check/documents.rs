//! The documents on a signed file: its provenance and its SBOM.

use binplz_core::{
    id::key::Sha256,
    trust::{
        leaf::{Documents, Leaf},
        provenance::Stated,
    },
};
use binplz_signing::Ring;

use crate::check::{CheckError, Trusted, wrong};

/// Whether an envelope is the one that the file's entry names, signed by a trusted key, and about this file and its SBOM.
pub(super) fn provenance(trusted: &Trusted, leaf: &Leaf, envelope: &[u8]) -> Result<(), CheckError> {
    let named = named(leaf)?;
    is_named(leaf, "provenance", envelope, &named.provenance)?;
    let stated = Stated::open(envelope, &trusted.artifacts, &Ring).map_err(wrong("the provenance"))?;
    if !stated.subjects.contains(&leaf.sha256) || stated.derivation != leaf.derivation || stated.sbom != named.sbom {
        return Err(CheckError::Wrong(format!("the provenance is not about {}", leaf.identity)));
    }
    Ok(())
}

/// Whether an SBOM is the one that the file's entry names.
pub(super) fn sbom(leaf: &Leaf, sbom: &[u8]) -> Result<(), CheckError> {
    is_named(leaf, "SBOM", sbom, &named(leaf)?.sbom)
}

fn named(leaf: &Leaf) -> Result<&Documents, CheckError> {
    let none = || CheckError::Wrong(format!("the entry of {} names no documents", leaf.identity));
    leaf.documents.as_ref().ok_or_else(none)
}

fn is_named(leaf: &Leaf, what: &str, document: &[u8], named: &Sha256) -> Result<(), CheckError> {
    match Sha256::of(document) == *named {
        true => Ok(()),
        false => Err(CheckError::Wrong(format!(
            "the {what} is not the one that the signed entry of {} names",
            leaf.identity
        ))),
    }
}
