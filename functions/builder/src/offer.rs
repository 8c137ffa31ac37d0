//! Offers to other builds the dependencies that this build has built: compilers and libraries, but not the package
//! itself, which no other build realises. The builder packs and describes them; the promoter decides what enters the
//! cache, without trusting the builder.
//!
//! Each dependency is offered as soon as it is built, while the build goes on: a compiler takes an hour, and the
//! machine may be taken away.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Write},
    sync::mpsc::Receiver,
};

use binplz_core::{
    build::protocol::{DependencyBuilt, DependencyRequest, Job, Upload},
    id::key::DrvHash,
    objects::{
        artifact::ObjectName,
        content::Content,
        narinfo::{Narinfo, StoreDir, StoreName},
    },
};
use binplz_nar::Packer;
use thiserror::Error;

use crate::{
    context::BuildContext,
    drv,
    lease::{Body, CallError, CallPriority},
    scratch::Scratch,
};

/// The most store paths that are offered: two outputs for each of the most derivations.
const MOST: usize = 4000;
/// Size of one read, in bytes.
const PIECE: usize = 1 << 20;

/// A store path that this build will make.
#[derive(Clone)]
pub(crate) struct ToOffer {
    /// Its store directory.
    dir: StoreDir,
    /// The path.
    pub(crate) path: StoreName,
    /// Its derivation.
    deriver: StoreName,
}

/// The paths of a package, which are offered if other builds need it.
pub(crate) fn paths_of(package: &str) -> Vec<ToOffer> {
    needed_by_others(&[package.to_owned()], "")
}

/// The paths of these derivations that other builds may need: not downloads, which are available elsewhere, nor the
/// package itself. A path stands behind those that it needs.
pub(crate) fn needed_by_others(to_build: &[String], package: &str) -> Vec<ToOffer> {
    let of = |drv: &String| {
        let outputs = drv::outputs(drv).unwrap_or_default().into_iter().filter(|output| !output.fixed);
        outputs.filter_map(|output| ToOffer::new(&output.path, drv)).collect::<Vec<_>>()
    };
    to_build.iter().filter(|drv| *drv != package).flat_map(of).take(MOST).collect()
}

impl ToOffer {
    fn new(path: &str, drv: &str) -> Option<ToOffer> {
        let (dir, name) = path.rsplit_once('/')?;
        let (_, deriver) = drv.rsplit_once('/')?;
        Some(ToOffer { dir: dir.parse().ok()?, path: name.parse().ok()?, deriver: deriver.parse().ok()? })
    }

    /// The derivation that makes it.
    fn drv(&self) -> Option<DrvHash> {
        self.deriver.hash.as_str().parse().ok()
    }

    fn is_of(&self, drv: &DrvHash) -> bool {
        self.deriver.hash.as_str() == drv.as_str()
    }

    fn full(&self) -> String {
        format!("{}/{}", self.dir, self.path)
    }
}

/// What the build does.
pub(crate) enum Built {
    /// It begins to build these derivations, by their paths.
    Ours(Vec<String>),
    /// One more derivation may be built.
    Some,
    /// All those that it has begun to build are built, or one has failed.
    Done,
}

/// Offers those of these paths that this build makes, each after it was built, until nothing more is built. Returns how
/// many were offered. Errors go to the log, and do not fail the build. The endpoint learns which derivations others can
/// have, and which they cannot.
pub(crate) fn offer(
    context: &BuildContext,
    job: &Job,
    to_offer: &[ToOffer],
    scratch: &Scratch,
    built: Receiver<Built>,
) -> u32 {
    let (left, building, refused) = Default::default();
    let shares = job.cache.is_some();
    let most = job.limits.cache_bytes;
    let mut offers =
        Offers { context, shares, most, scratch, left, building, refused, has_given_up: false, offered: 0, bytes: 0 };
    while let Ok(first) = built.recv() {
        let mut more = false;
        for signal in [first].into_iter().chain(built.try_iter()) {
            match signal {
                Built::Ours(drvs) => drvs.iter().for_each(|drv| offers.add(drv, to_offer)),
                Built::Done => {
                    offers.round();
                    offers.report(true);
                }
                // Several signals count as one.
                Built::Some => more = true,
            }
        }
        if more {
            offers.round();
            offers.report(false);
        }
    }
    if offers.offered > 0 {
        context.log.say(&format!("offered to other builds: {} store paths, {} bytes", offers.offered, offers.bytes));
    }
    offers.offered
}

/// How many derivations of these paths are built.
pub(crate) fn built(context: &BuildContext, paths: &[ToOffer]) -> u32 {
    let made = made(context, &paths.iter().collect::<Vec<_>>());
    made.iter().map(|one| &one.deriver).collect::<BTreeSet<_>>().len() as u32
}

/// Those of these paths that the store has by now.
fn made<'a>(context: &BuildContext, of: &[&'a ToOffer]) -> Vec<&'a ToOffer> {
    if of.is_empty() {
        return Vec::new();
    }
    let paths: Vec<String> = of.iter().map(|one| one.full()).collect();
    let Some(missing) = context.nix.missing(&paths) else { return Vec::new() };
    of.iter().zip(&paths).filter(|(_, path)| !missing.contains(*path)).map(|(one, _)| *one).collect()
}

/// The paths that are still to be offered.
struct Offers<'a> {
    context: &'a BuildContext,
    /// Whether there is a cache.
    shares: bool,
    /// The most bytes of all offers.
    most: u64,
    scratch: &'a Scratch,
    left: Vec<&'a ToOffer>,
    /// The derivations of which the endpoint has not heard.
    building: Vec<DrvHash>,
    /// Derivations of which a path is not offered.
    refused: Vec<DrvHash>,
    has_given_up: bool,
    offered: u32,
    bytes: u64,
}

impl<'a> Offers<'a> {
    /// This derivation is going to be built.
    fn add(&mut self, drv: &str, to_offer: &'a [ToOffer]) {
        let Ok(hash) = DrvHash::of_path(drv) else { return };
        let before = self.left.len();
        self.left.extend(to_offer.iter().filter(|one| one.is_of(&hash)));
        if self.left.len() == before {
            self.refused.push(hash.clone());
        }
        self.building.push(hash);
    }

    /// Offers the paths that were built since the last round.
    fn round(&mut self) {
        let made = if self.has_given_up { Vec::new() } else { made(self.context, &self.left) };
        for one in made {
            match offer_one(self.context, one, self.most - self.bytes, self.scratch) {
                Ok(size) => (self.offered, self.bytes) = (self.offered + 1, self.bytes + size),
                // The reason was reported by the stop, or cannot be reported any more.
                Err(NotOffered::Stopped) => return,
                Err(why) => {
                    self.context.log.say(&format!("{} is not offered to other builds: {why}", one.path.name()));
                    self.refused.extend(one.drv());
                    if !matches!(why, NotOffered::TooLarge) {
                        self.has_given_up = true;
                        return;
                    }
                }
            }
            self.left.retain(|left| left.path != one.path);
        }
    }

    /// Reports the derivations that are offered; if all are `done`, also those that are not.
    fn report(&mut self, done: bool) {
        let offered = |drv: &DrvHash| !self.left.iter().any(|one| one.is_of(drv)) && !self.refused.contains(drv);
        let (ended, building): (Vec<_>, Vec<_>) = self.building.drain(..).partition(|drv| done || offered(drv));
        let built: Vec<_> = ended.into_iter().map(|drv| DependencyBuilt { offered: offered(&drv), drv }).collect();
        self.building = building;
        if done {
            self.left.clear();
        }
        if self.shares && !built.is_empty() {
            // Others wait until this attempt ends, if this fails.
            let _ = self.context.lease.dependencies(&DependencyRequest { built, ..DependencyRequest::default() });
        }
    }
}

/// Why a path is not offered.
#[derive(Debug, Error)]
enum NotOffered {
    /// Its packed size exceeds what is left of the limit. A later path may be smaller.
    #[error("it is too large")]
    TooLarge,
    /// The builder stops.
    #[error("the builder ends")]
    Stopped,
    /// Another failure, which a retry would repeat.
    #[error("{0}")]
    Other(String),
}

impl From<io::Error> for NotOffered {
    fn from(error: io::Error) -> NotOffered {
        match error.kind() {
            io::ErrorKind::FileTooLarge => NotOffered::TooLarge,
            _ => NotOffered::Other(error.to_string()),
        }
    }
}

impl From<CallError> for NotOffered {
    fn from(error: CallError) -> NotOffered {
        match error {
            CallError::Stopped => NotOffered::Stopped,
            error => NotOffered::Other(error.to_string()),
        }
    }
}

impl From<String> for NotOffered {
    fn from(why: String) -> NotOffered {
        NotOffered::Other(why)
    }
}

/// Packs a path and uploads it: the file before the narinfo, since a reader of the narinfo expects its file. Returns
/// the bytes.
fn offer_one(context: &BuildContext, one: &ToOffer, most: u64, scratch: &Scratch) -> Result<u64, NotOffered> {
    let file = scratch.file();
    let (packed, nar) = pack(context, one, File::create(&file)?, most)?;
    let (size, references) = (packed.size, references(context, one)?);
    let upload = Upload { name: ObjectName::Nar(packed.sha256.clone()), size, sha256: packed.sha256.clone() };
    context.lease.store(CallPriority::Work, &upload, Body::File(&file))?;
    // Makes room for the next file.
    fs::remove_file(&file)?;
    let narinfo = Narinfo { path: one.path.clone(), packed, nar, references, deriver: Some(one.deriver.clone()) };
    let text = narinfo.text(&one.dir).into_bytes();
    let name = ObjectName::Narinfo(one.path.hash.clone());
    context.lease.store_bytes(CallPriority::Work, name, &text)?;
    Ok(size)
}

fn references(context: &BuildContext, one: &ToOffer) -> Result<Vec<StoreName>, NotOffered> {
    let path = one.full();
    let told = context.nix.ask("nix-store", &["-q", "--references", &path].map(OsStr::new))??;
    let name = |path: &str| path.strip_prefix(&format!("{}/", one.dir))?.parse().ok();
    let names: Option<Vec<StoreName>> = told.lines().map(name).collect();
    let mut references = names.ok_or_else(|| format!("it refers to an invalid store path: {told}"))?;
    references.sort();
    Ok(references)
}

/// Packs a path in Nix's archive format; returns the measures of the file and of its content.
fn pack(context: &BuildContext, one: &ToOffer, file: File, most: u64) -> Result<(Content, Content), NotOffered> {
    let dump = ["--dump".into(), one.full().into()];
    let (packed, ended) =
        context.nix.listen("nix-store", &dump, |pipe| copy(context, pipe, Packer::new(file, most)))?;
    match packed {
        Ok(packed) if ended.success() => Ok(packed),
        Ok(_) => Err(format!("nix-store --dump: {ended}").into()),
        Err(why) => Err(why),
    }
}

fn copy(
    context: &BuildContext,
    mut pipe: impl Read,
    mut packer: Packer<File>,
) -> Result<(Content, Content), NotOffered> {
    let mut piece = vec![0; PIECE];
    loop {
        if context.nix.stop().why().is_some() {
            return Err(NotOffered::Stopped);
        }
        match pipe.read(&mut piece) {
            Ok(0) => return Ok(packer.finish()?),
            Ok(n) => packer.write_all(&piece[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}
