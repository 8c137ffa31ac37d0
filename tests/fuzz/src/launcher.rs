//! Files of bundles: a proper one, with bytes changed behind an odd byte, or any bytes. What is opened has the manifest that its hash
//! names; reading all of it ends.

use std::{
    fs::File,
    io::{Seek, Write},
};

use binplz_launcher::{
    manifest::{About, Entry, Kind, Manifest, Program},
    read::{Bundle, loaded},
};
use sha2::{Digest, Sha256};

use crate::input::changed;

pub(crate) fn check(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    let bytes = if kind % 2 == 0 { data.to_vec() } else { changed(sample(), data) };
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&bytes).and_then(|()| file.rewind()).expect("it is written");
    if let Ok(hash) = loaded(&file) {
        assert_eq!(loaded(&file).ok(), Some(hash));
    }
    open(file, &bytes);
}

fn open(file: File, bytes: &[u8]) {
    let Ok(bundle) = Bundle::open(file) else { return };
    assert_eq!(bundle.name().len(), 64);
    assert!(bytes.windows(32).any(|window| window == bundle.id), "its footer has the id");
    let frames: u64 = bundle.manifest.frames.iter().map(|frame| u64::from(frame.packed)).sum();
    assert!(frames < bytes.len() as u64, "the frames are in the file");
    let _ = bundle.check_launcher();
    if bundle.check_content().is_ok() {
        assert!(bundle.manifest.unpacked() == 0 || frames > 0);
    }
}

/// The smallest bundle: an ELF file without a launcher, with a link and no frames.
fn sample() -> Vec<u8> {
    let entry = |path: &str, kind| Entry { path: path.as_bytes().to_vec(), kind };
    let manifest = Manifest {
        about: About::default(),
        programs: vec![Program { name: "a".to_owned(), path: b"0-a/a".to_vec() }],
        main: 0,
        launcher: Sha256::digest([]).into(),
        frames: Vec::new(),
        entries: vec![entry("0-a", Kind::Directory), entry("0-a/a", Kind::Link(b"b".to_vec()))],
    };
    let manifest = manifest.encode();
    // A frame of zstd with one block as it is (RFC 8878): magic, a size in one byte, the block's header.
    let size = u8::try_from(manifest.len()).expect("it is small");
    let block = (u32::from(size) << 3 | 1).to_le_bytes();
    let packed = [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, size], &block[..3], &manifest].concat();
    let lengths = [packed.len() as u32, manifest.len() as u32].map(u32::to_le_bytes).concat();
    let footer = [b"binplz-bundle-1\n".as_slice(), &lengths, &Sha256::digest(&packed)].concat();
    let section = [packed, footer].concat();
    let names = b"\0.binplz\0";
    let (at, names_at) = (64_u64, 64 + section.len() as u64);
    let header = |name: u32, offset: u64, size: usize| {
        let mut header = [0; 64];
        header[..4].copy_from_slice(&name.to_le_bytes());
        header[24..32].copy_from_slice(&offset.to_le_bytes());
        header[32..40].copy_from_slice(&(size as u64).to_le_bytes());
        header
    };
    let mut elf = [0; 64];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[40..48].copy_from_slice(&(names_at + names.len() as u64).to_le_bytes());
    // The sizes of a program header and of a section header; two sections, of which the first has the names.
    elf[54] = 56;
    elf[58] = 64;
    elf[60] = 2;
    let headers = [header(0, names_at, names.len()), header(1, at, section.len())].concat();
    [elf.as_slice(), &section, names, &headers].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_bundle_is_one() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&sample()).and_then(|()| file.rewind()).expect("it is written");
        let bundle = Bundle::open(file).expect("a bundle");
        assert!(bundle.check_launcher().is_ok() && bundle.check_content().is_ok());
    }
}
