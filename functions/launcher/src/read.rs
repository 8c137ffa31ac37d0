//! Reading a bundle: its section, its footer, its manifest, its frames. Nothing is decoded before its hash was compared.

use std::{fmt::Write, fs::File, io};

use sha2::{Digest, Sha256};
use thiserror::Error;
use zstd_safe::DCtx;

use crate::{
    cursor::Cursor,
    elf,
    manifest::{FRAME, Hash, Kind, Manifest},
};

/// The beginning of the footer: the format and its version.
pub(crate) const MAGIC: &[u8; 16] = b"binplz-bundle-1\n";
/// The footer: [`MAGIC`], the manifest's compressed and its own size in 32 bits each, the SHA-256 of the compressed manifest.
pub(crate) const FOOTER: usize = 56;
/// The largest manifest, packed or not.
pub(crate) const MANIFEST_MAX: usize = 64 << 20;
/// The largest compressed frame: zstd adds this little to bytes that it cannot compress.
pub(crate) const PACKED_MAX: usize = FRAME + FRAME / 128;

/// Why a bundle cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// There is no section.
    #[error("this file contains no bundle: a program such as patchelf or upx has changed it. Download it again")]
    NoBundle,
    /// It ends before something that it should have.
    #[error("this file is cut off: download it again")]
    Cut,
    /// Another version wrote it, or no proper writer did.
    #[error("this bundle is malformed: {0}")]
    Malformed(&'static str),
    /// A hash is another one.
    #[error("this file is damaged ({0} has another sha256): download it again")]
    Damaged(&'static str),
    /// The system's word.
    #[error("the bundle cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// An opened bundle, whose manifest has been checked.
#[derive(Debug)]
pub struct Bundle {
    file: File,
    /// Where the frames begin.
    frames: u64,
    /// The hash of the compressed manifest, which names all that is in the bundle.
    pub id: Hash,
    /// What is in it.
    pub manifest: Manifest,
}

impl Bundle {
    /// Opens a bundle and reads its manifest.
    ///
    /// # Errors
    /// Everything that [`ReadError`] lists but damaged frames.
    pub fn open(file: File) -> Result<Self, ReadError> {
        let (bundle, manifest_at) = Self::read(file, Manifest::decode)?;
        let frames: u64 = bundle.manifest.frames.iter().map(|frame| u64::from(frame.packed)).sum();
        if bundle.frames.checked_add(frames) != Some(manifest_at) {
            return Err(ReadError::Malformed("its frames do not fill its section"));
        }
        Ok(bundle)
    }

    /// Opens a bundle without the entries of its manifest.
    pub(crate) fn open_head(file: File) -> Result<Self, ReadError> {
        Ok(Self::read(file, Manifest::decode_head)?.0)
    }

    /// Opens a bundle, and says where its manifest begins.
    fn read(file: File, decoded: fn(&[u8]) -> Result<Manifest, ReadError>) -> Result<(Self, u64), ReadError> {
        let (at, size) = elf::section(&file)?;
        let footer_at = at.checked_add(size).and_then(|end| end.checked_sub(FOOTER as u64)).ok_or(ReadError::Cut)?;
        let mut footer = [0; FOOTER];
        elf::read(&file, &mut footer, footer_at)?;
        let mut footer = Cursor(&footer);
        if footer.array()? != *MAGIC {
            return Err(ReadError::Malformed("its footer is that of another version"));
        }
        let (packed, unpacked, id) = (footer.u32()? as usize, footer.u32()? as usize, footer.array()?);
        if packed > MANIFEST_MAX || unpacked > MANIFEST_MAX {
            return Err(ReadError::Malformed("its manifest is too large"));
        }
        let manifest_at = footer_at.checked_sub(packed as u64).ok_or(ReadError::Cut)?;
        let mut bytes = vec![0; packed];
        elf::read(&file, &mut bytes, manifest_at)?;
        if sha256(&bytes) != id {
            return Err(ReadError::Damaged("its manifest"));
        }
        let mut manifest = vec![0; unpacked];
        decode(&mut DCtx::create(), &bytes, &mut manifest)?;
        Ok((Self { file, frames: at, id, manifest: decoded(&manifest)? }, manifest_at))
    }

    /// The id in hexadecimal: the name of what is unpacked from it.
    #[must_use]
    pub fn name(&self) -> String {
        self.id.iter().fold(String::new(), |mut text, byte| {
            // A string can always be written to.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Reads the content of all files, frame by frame.
    #[must_use]
    pub fn frames(&self) -> Frames<'_> {
        Frames {
            bundle: self,
            at: self.frames,
            next: 0,
            packed: Vec::new(),
            unpacked: Vec::new(),
            taken: 0,
            decoder: DCtx::create(),
        }
    }

    /// Compares the content of each file with its hash.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] if it is another one.
    pub fn check_content(&self) -> Result<(), ReadError> {
        let mut frames = self.frames();
        for entry in &self.manifest.entries {
            let Kind::File { size, sha256, .. } = entry.kind else { continue };
            let (mut left, mut hash) = (size, Sha256::new());
            while left > 0 {
                let bytes = frames.take(left)?;
                hash.update(bytes);
                left -= bytes.len() as u64;
            }
            if hash.finalize()[..] != sha256 {
                return Err(ReadError::Damaged("a file in it"));
            }
        }
        Ok(())
    }

    /// Compares the launcher in front with the one that was packed.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] if it is another one.
    pub fn check_launcher(&self) -> Result<(), ReadError> {
        if loaded(&self.file)? == self.manifest.launcher { Ok(()) } else { Err(ReadError::Damaged("its launcher")) }
    }
}

/// The frames of a bundle, one after the other.
pub struct Frames<'a> {
    bundle: &'a Bundle,
    at: u64,
    next: usize,
    packed: Vec<u8>,
    unpacked: Vec<u8>,
    taken: usize,
    decoder: DCtx<'static>,
}

impl Frames<'_> {
    /// The next bytes of the content: at least one, and at most `most`.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] before anything is decoded, or what reading the file says; asking for more than there is.
    pub fn take(&mut self, most: u64) -> Result<&[u8], ReadError> {
        if self.taken == self.unpacked.len() {
            self.advance()?;
        }
        let left = self.unpacked.len() - self.taken;
        let from = self.taken;
        self.taken += usize::try_from(most).map_or(left, |most| most.min(left));
        Ok(&self.unpacked[from..self.taken])
    }

    /// Reads the next frame.
    fn advance(&mut self) -> Result<(), ReadError> {
        let manifest = &self.bundle.manifest;
        let frame = manifest.frames.get(self.next).ok_or(ReadError::Malformed("it has less content than files"))?;
        self.packed.resize(frame.packed as usize, 0);
        self.unpacked.resize(manifest.frame_size(self.next), 0);
        elf::read(&self.bundle.file, &mut self.packed, self.at)?;
        if sha256(&self.packed) != frame.sha256 {
            return Err(ReadError::Damaged("a part of it"));
        }
        decode(&mut self.decoder, &self.packed, &mut self.unpacked)?;
        self.at += u64::from(frame.packed);
        self.next += 1;
        self.taken = 0;
        Ok(())
    }
}

/// The hash of what is loaded of a launcher: all that runs. `strip` leaves it as it is.
///
/// # Errors
/// If the file is no launcher, or cannot be read.
pub fn loaded(launcher: &File) -> Result<Hash, ReadError> {
    elf::loaded(launcher)
}

/// Fills `to`, exactly, with what is in `from`.
fn decode(decoder: &mut DCtx, from: &[u8], to: &mut [u8]) -> Result<(), ReadError> {
    match decoder.decompress(to, from) {
        Ok(length) if length == to.len() => Ok(()),
        _ => Err(ReadError::Malformed("it cannot be decompressed")),
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}
