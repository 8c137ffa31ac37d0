//! The few bytes of a 64-bit little-endian ELF file that a bundle adds to, and is found by. By hand: the crate `object` would
//! lay the file out anew, where this only appends, and is larger than the rest of the reader.

use std::{fs::File, io, os::unix::fs::FileExt};

use sha2::{Digest, Sha256};

use crate::{manifest::Hash, read::ReadError};

/// The section's name.
const NAME: &[u8] = b".binplz\0";
/// The size of the file's header, of a program header and of a section header.
const HEADER: usize = 64;
const SEGMENT: usize = 56;
const SECTION: usize = 64;
/// The largest launcher, and the most that its tables have.
const LOADED_MAX: u64 = 16 << 20;
const NAMES_MAX: u64 = 64 << 10;

/// Where the tables are.
struct Header {
    segments: u64,
    sections: u64,
    segment_count: u16,
    section_count: u16,
    names: u16,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap_or_default())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap_or_default())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default())
}

fn header(file: &File) -> Result<Header, ReadError> {
    let mut bytes = [0; HEADER];
    read(file, &mut bytes, 0)?;
    let sizes = (u16_at(&bytes, 54) as usize, u16_at(&bytes, 58) as usize);
    if !bytes.starts_with(b"\x7fELF\x02\x01") || sizes != (SEGMENT, SECTION) {
        return Err(ReadError::NoBundle);
    }
    Ok(Header {
        segments: u64_at(&bytes, 32),
        sections: u64_at(&bytes, 40),
        segment_count: u16_at(&bytes, 56),
        section_count: u16_at(&bytes, 60),
        names: u16_at(&bytes, 62),
    })
}

/// Fills `bytes` from the file; one that ends before that is cut.
pub(crate) fn read(file: &File, bytes: &mut [u8], at: u64) -> Result<(), ReadError> {
    file.read_exact_at(bytes, at).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => ReadError::Cut,
        _ => error.into(),
    })
}

fn table(file: &File, at: u64, count: u16, size: usize) -> Result<Vec<u8>, ReadError> {
    let mut bytes = vec![0; usize::from(count) * size];
    read(file, &mut bytes, at)?;
    Ok(bytes)
}

/// The headers of all sections, and the one that has their names.
fn sections(file: &File, header: &Header) -> Result<(Vec<u8>, Vec<u8>), ReadError> {
    let sections = table(file, header.sections, header.section_count, SECTION)?;
    let at = usize::from(header.names) * SECTION;
    let names = sections.get(at..at + SECTION).ok_or(ReadError::NoBundle)?;
    let (offset, size) = (u64_at(names, 24), u64_at(names, 32));
    if size > NAMES_MAX {
        return Err(ReadError::NoBundle);
    }
    let mut names = vec![0; usize::try_from(size).map_err(|_| ReadError::NoBundle)?];
    read(file, &mut names, offset)?;
    Ok((sections, names))
}

/// The offset and the size of the bundle's section.
pub(crate) fn section(file: &File) -> Result<(u64, u64), ReadError> {
    let (sections, names) = sections(file, &header(file)?)?;
    let named = |section: &&[u8]| names.get(u32_at(section, 0) as usize..).is_some_and(|name| name.starts_with(NAME));
    let found = sections.chunks_exact(SECTION).find(named).ok_or(ReadError::NoBundle)?;
    Ok((u64_at(found, 24), u64_at(found, 32)))
}

/// The hash of what is loaded from the file when it runs. The file's header is not in it: it says where sections are.
pub(crate) fn loaded(file: &File) -> Result<Hash, ReadError> {
    const LOAD: u32 = 1;
    let header = header(file)?;
    let (mut hash, mut left) = (Sha256::new(), LOADED_MAX);
    for segment in table(file, header.segments, header.segment_count, SEGMENT)?.chunks_exact(SEGMENT) {
        let (offset, size) = (u64_at(segment, 8), u64_at(segment, 32));
        if u32_at(segment, 0) != LOAD {
            continue;
        }
        left = left.checked_sub(size).ok_or(ReadError::Malformed("its launcher is too large"))?;
        let skipped = (HEADER as u64).saturating_sub(offset).min(size);
        let mut bytes = vec![0; usize::try_from(size - skipped).unwrap_or_default()];
        read(file, &mut bytes, offset + skipped)?;
        hash.update(&bytes);
    }
    Ok(hash.finalize().into())
}

/// Names the last `size` bytes of `file`, which begin at `offset` after a launcher, as the bundle's section. Its header and new copies of
/// the others and of their names follow it.
#[cfg(feature = "write")]
pub(crate) fn add_section(file: &File, offset: u64, size: u64) -> Result<(), ReadError> {
    let header = header(file)?;
    let (mut sections, mut names) = sections(file, &header)?;
    let (end, name) = (offset + size, names.len() as u32);
    names.extend(NAME);
    let mut added = [0; SECTION];
    added[0..4].copy_from_slice(&name.to_le_bytes());
    added[4..8].copy_from_slice(&1_u32.to_le_bytes()); // PROGBITS, of no address
    added[24..32].copy_from_slice(&offset.to_le_bytes());
    added[32..40].copy_from_slice(&size.to_le_bytes());
    added[48..56].copy_from_slice(&1_u64.to_le_bytes());
    sections.extend(added);
    let moved = usize::from(header.names) * SECTION;
    sections[moved + 24..moved + 32].copy_from_slice(&end.to_le_bytes());
    sections[moved + 32..moved + 40].copy_from_slice(&(names.len() as u64).to_le_bytes());
    names.resize(names.len().next_multiple_of(8), 0);
    file.write_all_at(&names, end)?;
    let table = end + names.len() as u64;
    file.write_all_at(&sections, table)?;
    file.write_all_at(&table.to_le_bytes(), 40)?;
    file.write_all_at(&(header.section_count + 1).to_le_bytes(), 60)?;
    Ok(())
}
