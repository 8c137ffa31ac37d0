//! `binplz verify FILE --proof PROOF --keys KEYS`: checks a downloaded file without a network.

use std::{fs::File, path::PathBuf};

use binplz_core::{
    id::target::{PinRef, Target, Wanted},
    trust::{
        checkpoint::Checkpoint,
        leaf::{Form, Leaf},
        note::Note,
        proof::Proof,
    },
};
use binplz_signing::{Digester, Ring};
use clap::Args as ClapArgs;

use crate::check::{CheckError, Trusted, documents, read, read_bytes, wrong};

/// The arguments of `binplz verify` for a downloaded file.
#[derive(ClapArgs, Debug)]
pub(crate) struct Offline {
    /// Check the downloaded file FILE offline, with its proof (curl -o FILE.proof HOST/-/proof/TARGET)
    #[arg(long, value_name = "PROOF", requires = "keys", conflicts_with_all = ["all", "json"])]
    pub(crate) proof: Option<PathBuf>,
    /// A file with the keys to trust (curl -o KEYS HOST/-/keys)
    #[arg(long, value_name = "KEYS", requires = "proof")]
    pub(crate) keys: Option<PathBuf>,
    /// Also check that the file is this target's: tree, procps/ps, -/archive/tree
    #[arg(long = "as", value_name = "TARGET", requires = "proof")]
    pub(crate) target: Option<Target>,
    /// Also check that this is the file's provenance (curl -o PROVENANCE HOST/-/provenance/TARGET)
    #[arg(long, value_name = "PROVENANCE", requires = "proof")]
    pub(crate) provenance: Option<PathBuf>,
    /// Also check that this is the file's SBOM (curl -o SBOM HOST/-/sbom/TARGET)
    #[arg(long, value_name = "SBOM", requires = "proof")]
    pub(crate) sbom: Option<PathBuf>,
}

/// Checks that a trusted key has signed the file, that the log has the signature, and that a trusted key has signed the
/// log's checkpoint. Prints what the file is.
///
/// # Errors
/// [`CheckError`].
pub(crate) fn verify(file: PathBuf, proof: &PathBuf, keys: &PathBuf, also: &Offline) -> Result<(), CheckError> {
    let trusted = Trusted::parse(&read(keys)?)?;
    let proof: Proof = read(proof)?.parse().map_err(wrong("the proof"))?;
    let (leaf, checkpoint) = checked(&trusted, &proof)?;
    let digest = File::open(&file).and_then(Digester::of);
    let (content, blake2b) = digest.map_err(|cause| CheckError::File { path: file.clone(), cause })?;
    if content != leaf.content() || blake2b != leaf.blake2b {
        let (file, identity) = (file.display(), &leaf.identity);
        return Err(CheckError::Wrong(format!("the content of {file} differs from the signed file, {identity}")));
    }
    if let Some(target) = also.target.as_ref().filter(|target| !is_of(&leaf, target)) {
        return Err(CheckError::Wrong(format!("{} is {}, and not {target}", file.display(), leaf.identity)));
    }
    if let Some(provenance) = &also.provenance {
        documents::provenance(&trusted, &leaf, &read_bytes(provenance)?)?;
    }
    if let Some(sbom) = &also.sbom {
        documents::sbom(&leaf, &read_bytes(sbom)?)?;
    }
    let Leaf { identity, version, derivation, .. } = &leaf;
    println!("{}: {identity}, version {version}", file.display());
    println!("nixpkgs {}, derivation {derivation}", identity.nixpkgs);
    println!("signed, and entry {} of {} in the log {}", proof.index, checkpoint.size, checkpoint.origin);
    Ok(())
}

/// What a proof shows: the entry, signed by a trusted key, in the tree of a checkpoint that a trusted key has signed.
pub(super) fn checked(trusted: &Trusted, proof: &Proof) -> Result<(Leaf, Checkpoint), CheckError> {
    let Note { text, .. } = &proof.checkpoint;
    proof.checkpoint.signed_by(&trusted.log, &Ring).map_err(wrong("the checkpoint"))?;
    let checkpoint: Checkpoint = text.parse().map_err(wrong("the checkpoint"))?;
    let leaf = trusted.leaf(&String::from_utf8_lossy(&proof.extra))?;
    match proof.holds(&proof.extra) {
        Ok(true) => Ok((leaf, checkpoint)),
        _ => Err(CheckError::Wrong("the proof does not show that the log has the signature".to_owned())),
    }
}

/// Whether a leaf can be what a target leads to. Which package a program's name alone means, the service says.
pub(super) fn is_of(leaf: &Leaf, target: &Target) -> bool {
    let identity = &leaf.identity;
    let form = match &target.wanted {
        Wanted::Archive(_) => identity.form == Form::Archive,
        Wanted::Bundle { .. } => matches!(identity.form, Form::Bundle | Form::FullBundle),
        _ => identity.form == Form::Program,
    };
    let program = |name: &str| identity.program.as_ref().is_some_and(|program| program.as_str() == name);
    let package = *target.wanted.attr() == identity.package;
    let named = match &target.wanted {
        Wanted::Program(_, bin) | Wanted::Bundle { bin: Some(bin), .. } => package && program(bin.as_str()),
        Wanted::Package(attr) | Wanted::Bundle { attr, bin: None, .. } => package || program(attr.leaf()),
        Wanted::Archive(_) => package,
    };
    let nixpkgs = match &target.pin {
        Some(PinRef::Commit(start)) => identity.nixpkgs.as_str().starts_with(start),
        Some(PinRef::Name(_)) | None => true,
    };
    form && named && nixpkgs && target.system.is_none_or(|system| system == identity.system)
}
