//! Offers to other builds what this one has built for its package: the compilers and libraries, and not the package itself, which
//! nobody else realises. The builder packs and describes them; whether they come into the cache is decided by somebody else, who
//! believes nothing of it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Write},
    process::Stdio,
};

use binplz_cache::Packer;
use binplz_core::{
    artifact::ObjectName,
    narinfo::{Content, Narinfo, StoreDir, StoreName},
    protocol::{Phase, Upload},
};
use thiserror::Error;

use crate::{
    drv,
    lease::{Body, CallError, Weight},
    log::sha256,
    scratch::Scratch,
    shop::Shop,
};

/// Most store paths that are offered: two outputs for each derivation that there may be.
const MOST: usize = 4000;
/// Bytes that are packed at a time.
const PIECE: usize = 1 << 20;

/// A store path that this build will make.
pub(crate) struct ToOffer {
    /// Where its store is.
    dir: StoreDir,
    /// Which.
    pub(crate) path: StoreName,
    /// By which derivation.
    deriver: StoreName,
}

/// What these derivations will make that others may need: not what is downloaded, which is to be had elsewhere, nor the package
/// itself. What another path needs stands before it.
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

    fn full(&self) -> String {
        format!("{}/{}", self.dir, self.path)
    }
}

/// Offers what there is by now, and says how many paths that were. What goes wrong is told in the log, and is no failure of the build.
pub(crate) fn offer(shop: &Shop, to_offer: &[ToOffer], most: u64, scratch: &Scratch) -> u32 {
    if to_offer.is_empty() {
        return 0;
    }
    shop.board.update(|progress| progress.phase = Phase::Uploading);
    let (mut offered, mut bytes) = (0, 0);
    let made = made(shop, to_offer);
    for one in &made {
        shop.board.update(|progress| progress.step = Some(format!("{}, for other builds", one.path.name())));
        match offer_one(shop, one, most - bytes, scratch) {
            Ok(size) => (offered, bytes) = (offered + 1, bytes + size),
            Err(why) => {
                shop.log.say(&format!("{} is not offered to other builds: {why}", one.path.name()));
                if !matches!(why, NotOffered::TooLarge) {
                    break;
                }
            }
        }
    }
    if offered > 0 {
        shop.log.say(&format!("offered to other builds: {offered} store paths, {bytes} bytes"));
    }
    offered
}

/// Those that the store has by now.
fn made<'a>(shop: &Shop, to_offer: &'a [ToOffer]) -> Vec<&'a ToOffer> {
    let paths: Vec<String> = to_offer.iter().map(ToOffer::full).collect();
    let query = ["--check-validity", "--print-invalid"].into_iter().chain(paths.iter().map(String::as_str));
    let Ok(Ok(missing)) = shop.nix.ask("nix-store", &query.map(OsStr::new).collect::<Vec<_>>()) else {
        return Vec::new();
    };
    let missing: Vec<&str> = missing.lines().collect();
    to_offer.iter().zip(&paths).filter(|(_, path)| !missing.contains(&path.as_str())).map(|(one, _)| one).collect()
}

/// Why a path is not offered.
#[derive(Debug, Error)]
enum NotOffered {
    /// Packed, it is more than what is left of what may be offered. Another one may be less.
    #[error("it is too large")]
    TooLarge,
    /// Whatever it is, it would go wrong again.
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
        NotOffered::Other(error.to_string())
    }
}

impl From<String> for NotOffered {
    fn from(why: String) -> NotOffered {
        NotOffered::Other(why)
    }
}

/// Packs a path, and uploads it: the file first, for whoever finds a narinfo looks for its file. How many bytes that came to.
fn offer_one(shop: &Shop, one: &ToOffer, most: u64, scratch: &Scratch) -> Result<u64, NotOffered> {
    let file = scratch.file();
    let (packed, nar) = pack(shop, one, File::create(&file)?, most)?;
    let (size, references) = (packed.size, references(shop, one)?);
    let upload = Upload { name: ObjectName::Nar(packed.sha256.clone()), size, sha256: packed.sha256.clone() };
    shop.lease.store(Weight::Work, &upload, Body::File(&file))?;
    // Room for the next one.
    fs::remove_file(&file)?;
    let narinfo = Narinfo { path: one.path.clone(), packed, nar, references, deriver: Some(one.deriver.clone()) };
    let text = narinfo.text(&one.dir).into_bytes();
    let name = ObjectName::Narinfo(one.path.hash.clone());
    let upload = Upload { name, size: text.len() as u64, sha256: sha256(&text) };
    shop.lease.store(Weight::Work, &upload, Body::Bytes(&text))?;
    Ok(size)
}

fn references(shop: &Shop, one: &ToOffer) -> Result<Vec<StoreName>, NotOffered> {
    let path = one.full();
    let told = shop.nix.ask("nix-store", &["-q", "--references", &path].map(OsStr::new))??;
    let name = |path: &str| path.strip_prefix(&format!("{}/", one.dir))?.parse().ok();
    let names: Option<Vec<StoreName>> = told.lines().map(name).collect();
    let mut references = names.ok_or_else(|| format!("it names what is no store path: {told}"))?;
    references.sort();
    Ok(references)
}

/// Packs a path as Nix dumps it, and tells the file and its content.
fn pack(shop: &Shop, one: &ToOffer, file: File, most: u64) -> Result<(Content, Content), NotOffered> {
    let mut dump = shop.nix.child("nix-store", &["--dump".into(), one.full().into()]);
    let mut dump = dump.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    // A child whose pipe is closed ends by itself.
    let packed = dump.stdout.take().map(|pipe| copy(shop, pipe, Packer::new(file, most)));
    let ended = dump.wait()?;
    match packed {
        Some(Err(why)) => Err(why),
        Some(Ok(packed)) if ended.success() => Ok(packed),
        _ => Err(format!("nix-store --dump: {ended}").into()),
    }
}

fn copy(shop: &Shop, mut pipe: impl Read, mut packer: Packer<File>) -> Result<(Content, Content), NotOffered> {
    let mut piece = vec![0; PIECE];
    loop {
        if shop.nix.stop().why().is_some() {
            return Err(CallError::Stopped.into());
        }
        match pipe.read(&mut piece) {
            Ok(0) => return Ok(packer.finish()?),
            Ok(n) => packer.write_all(&piece[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}
