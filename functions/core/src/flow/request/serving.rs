//! The file that a target means, and of several packages with a program the one that can serve it.

use crate::{
    build::{Build, State},
    flow::{
        load_build, manifest_of,
        request::{
            denial::Denial,
            resolve::{self, Resolved},
        },
    },
    id::{
        key::{Attr, Bin, Sha256},
        target::{Target, Wanted},
    },
    nixpkgs::served::Notes,
    objects::{
        artifact::{Main, Manifest, Program, Verdict},
        content::Content,
    },
    ports::{HasCatalogues, HasLedger, HasStore},
};

/// Resolves a client's target to a build. A package whose program cannot be served, as far as is known, yields to the next one with
/// that program. If none can be, it is the first of them.
///
/// # Errors
/// [`Denial`]: the target leads to no build, or a backend does not answer.
pub(crate) async fn of<D: HasLedger + HasStore + HasCatalogues>(d: &D, target: &Target) -> Result<Resolved, Denial> {
    Ok(next(d, target, &mut Vec::new()).await?.0)
}

/// The same after the packages `tried`, to which it adds those that it has passed over; and the build's row.
///
/// # Errors
/// As [`of`].
pub(super) async fn next<D: HasLedger + HasStore + HasCatalogues>(
    d: &D,
    target: &Target,
    tried: &mut Vec<Attr>,
) -> Result<(Resolved, Build), Denial> {
    loop {
        let resolved = resolve::without(d, target, tried).await?;
        let (build, _) = load_build(d, &resolved.key).await?;
        // Only one package has it, or all have been tried. (A program that is requested of its package yields to none.)
        let alone = tried.is_empty() && resolved.others.is_empty();
        if alone || tried.contains(&resolved.attr) || serves(d, &target.wanted, &resolved, &build).await? {
            return Ok((resolved, build));
        }
        tried.push(resolved.attr);
    }
}

/// Whether nothing speaks against a package's program: it is not built, or is in its manifest.
async fn serves<D: HasStore>(d: &D, wanted: &Wanted, resolved: &Resolved, build: &Build) -> Result<bool, Denial> {
    let State::Ready(made) = &build.state else { return Ok(true) };
    Ok(match manifest_of(d, &resolved.key, made).await? {
        Ok((manifest, _)) => file(wanted, &resolved.attr, &manifest).is_ok(),
        Err(_) => true,
    })
}

/// A file to serve.
pub(crate) struct File {
    pub(crate) name: Bin,
    pub(crate) sha256: Sha256,
    pub(crate) size: u64,
    pub(crate) notes: Notes,
}

/// The file that a target means.
pub(crate) fn file(wanted: &Wanted, attr: &Attr, manifest: &Manifest) -> Result<File, Denial> {
    if wanted.is_archive() {
        let (Some(Content { sha256, size }), Ok(name)) = (&manifest.archive, wanted.file_name().parse()) else {
            return Err(Denial::NoArchive(attr.clone()));
        };
        return Ok(File { name, sha256: sha256.clone(), size: *size, notes: Notes::default() });
    }
    let program = choose(wanted, attr, manifest)?;
    let (name, notes) = (program.bin.clone(), Notes::of(manifest, program));
    match &program.verdict {
        Verdict::Static { sha256, size, .. } => Ok(File { name, sha256: sha256.clone(), size: *size, notes }),
        Verdict::Refused { why } => Err(Denial::NotStatic(attr.clone(), name, why.clone())),
    }
}

/// The manifest decides, and overrides the catalogue. A path that is not the package's own names one of its programs.
fn choose<'a>(wanted: &Wanted, attr: &Attr, manifest: &'a Manifest) -> Result<&'a Program, Denial> {
    let names = || manifest.by_name().into_iter().map(|program| program.bin.clone()).collect::<Vec<_>>();
    let program = match wanted {
        Wanted::Program(_, bin) | Wanted::Bundle { bin: Some(bin), .. } => bin.as_str(),
        Wanted::Package(name) | Wanted::Bundle { attr: name, .. } if name != attr => name.as_str(),
        Wanted::Package(_) | Wanted::Archive(_) | Wanted::Bundle { .. } => {
            return match manifest.main(attr.leaf()) {
                Main::Program(program) => Ok(program),
                Main::Many => {
                    let servable = |program: &&Program| matches!(program.verdict, Verdict::Static { .. });
                    let servable = manifest.by_name().into_iter().filter(servable).map(|program| program.bin.clone());
                    Err(Denial::Ambiguous(servable.filter_map(|bin| wanted.with(attr.clone(), bin)).collect()))
                }
                Main::Missing(declared) => {
                    let (attr, declared, programs) = (attr.clone(), declared.to_owned(), names());
                    Err(Denial::MainMissing { attr, declared, programs })
                }
                Main::None => Err(Denial::NoPrograms(attr.clone())),
            };
        }
    };
    manifest.program(program).ok_or_else(|| {
        let (attr, program, programs) = (attr.clone(), program.to_owned(), names());
        Denial::NoSuchProgram { attr, program, programs }
    })
}
