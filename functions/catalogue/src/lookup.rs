//! The lookup file, used as it lies in memory: opening it checks its checksum and the presence of its sections, and
//! unpacks nothing.

use std::{collections::BTreeMap, fmt, ops::Range, sync::OnceLock};

use binplz_core::id::key::{Attr, Bin, DrvHash, Rev, System};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    bytes::{Column, Span},
    details,
    drv::{self, DRV_BYTES},
    names::Names,
    pairs::Pairs,
    record::Obstacle,
    words::Words,
    writer::place,
};

/// The start of the file.
pub(crate) const MAGIC: &[u8; 14] = b"binplz lookup ";
/// The format that this code reads and writes.
pub(crate) const FORMAT: u16 = 1;
/// The fixed part: magic, format, checksum of all that follows, the header's length.
const FIXED: usize = MAGIC.len() + 2 + 4 + 4;

/// The header, as JSON. Ranks are those of `attrs` and `programs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// The revision of the nixpkgs.
    pub(crate) rev: Rev,
    /// Attribute paths.
    pub(crate) attrs: Names,
    /// Program names.
    pub(crate) programs: Names,
    /// By evaluated system, for each attribute: 0 if it is buildable, else the number of its obstacle.
    pub(crate) standings: BTreeMap<System, Column>,
    /// By system, for each attribute: its derivation's hash in 20 bytes; zeros if it is unknown.
    pub(crate) drvs: BTreeMap<System, Span>,
    /// For each attribute: 1 + the rank of its main program; 0 if none is known.
    pub(crate) mains: Column,
    /// Of each attribute, where its programs begin in `ships`; and where the last one's end.
    pub(crate) ships_from: Column,
    /// Programs: twice the rank, plus 1 where it is known to be nothing that can be served.
    pub(crate) ships: Column,
    /// For each program, the start of its packages in `shippers`; and the end of the last one's.
    pub(crate) shippers_from: Column,
    /// Packages, the best first: four times the rank, plus the [`Tier`].
    pub(crate) shippers: Column,
    /// The attributes with a reason: twice an attribute's rank, plus the system's number.
    pub(crate) reasons: Column,
    /// The index of each reason's text.
    pub(crate) reason_texts: Column,
    /// The start of each text; and the end of the last one.
    pub(crate) texts_from: Column,
    /// The texts.
    pub(crate) texts: Span,
    /// The start of each block of the details file; and the end of the last one.
    pub(crate) blocks: Column,
    /// The index of words. Catalogues of release 0.1.0 have none.
    #[serde(default)]
    pub(crate) words: Option<Words>,
}

/// How strongly a package is associated with a program, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// The program is its main program.
    Main,
    /// The program has the package's name.
    Namesake,
    /// The package ships it among others.
    Other,
    /// The package's file of that name cannot be served, for example a script.
    Useless,
}

/// Why a file cannot be read as a catalogue.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadCatalogue {
    /// The file is not a catalogue.
    #[error("not a catalogue")]
    Foreign,
    /// Another version of binplz wrote it.
    #[error("this catalogue has format {0}, but this binplz reads format {FORMAT}: build it again")]
    Format(u16),
    /// The file is truncated or changed.
    #[error("this catalogue is damaged")]
    Damaged,
}

/// An open catalogue. `B` holds the file's bytes: a vector, a slice, a mapped file.
#[derive(Debug)]
pub struct Lookup<B> {
    bytes: B,
    body_at: usize,
    header: Header,
    pairs: OnceLock<[Pairs; 2]>,
}

/// The record of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its main program, if one is known.
    pub main: Option<Bin>,
    /// Its programs; empty if they are unknown.
    pub programs: Vec<Bin>,
    /// Its derivations, as far as they are known.
    pub drvs: BTreeMap<System, DrvHash>,
}

/// An attribute that could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The attribute.
    pub attr: Attr,
    /// The system.
    pub system: System,
    /// The obstacle.
    pub why: Obstacle,
    /// Nix's error.
    pub detail: Option<String>,
}

/// `exa x86_64-linux throws: 'exa' has been replaced by 'eza'`.
impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = self.why.failure(self.detail.as_deref()).detail.unwrap_or_default();
        write!(f, "{} {} {}: {said}", self.attr, self.system, self.why)
    }
}

impl<B: AsRef<[u8]>> Lookup<B> {
    /// Opens a catalogue.
    ///
    /// # Errors
    /// [`BadCatalogue`], if this code cannot read it.
    pub fn open(bytes: B) -> Result<Lookup<B>, BadCatalogue> {
        let all = bytes.as_ref();
        let (magic, behind) = all.split_first_chunk().ok_or(BadCatalogue::Foreign)?;
        if magic != MAGIC {
            return Err(BadCatalogue::Foreign);
        }
        let (format, behind) = behind.split_first_chunk().ok_or(BadCatalogue::Damaged)?;
        let format = u16::from_le_bytes(*format);
        if format != FORMAT {
            return Err(BadCatalogue::Format(format));
        }
        let (sum, behind) = behind.split_first_chunk().ok_or(BadCatalogue::Damaged)?;
        if u32::from_le_bytes(*sum) != crc32fast::hash(behind) {
            return Err(BadCatalogue::Damaged);
        }
        let (length, behind) = behind.split_first_chunk().ok_or(BadCatalogue::Damaged)?;
        let length = u32::from_le_bytes(*length) as usize;
        let header = behind.get(..length).ok_or(BadCatalogue::Damaged)?;
        let header: Header = serde_json::from_slice(header).map_err(|_| BadCatalogue::Damaged)?;
        let lookup = Lookup { body_at: FIXED + length, bytes, header, pairs: OnceLock::new() };
        if lookup.is_whole() { Ok(lookup) } else { Err(BadCatalogue::Damaged) }
    }

    /// Writes the file of a header and its sections.
    pub(crate) fn file(header: &Header, body: &[u8]) -> Vec<u8> {
        let header = serde_json::json!(header).to_string();
        let length = u32::try_from(header.len()).unwrap_or(u32::MAX).to_le_bytes();
        let behind = [length.as_slice(), header.as_bytes(), body].concat();
        let sum = crc32fast::hash(&behind).to_le_bytes();
        [MAGIC.as_slice(), &FORMAT.to_le_bytes(), &sum, &behind].concat()
    }

    /// Whether all sections are long enough. Their content is checked when it is read.
    fn is_whole(&self) -> bool {
        let (header, body) = (&self.header, self.body());
        let (attrs, programs) = (header.attrs.count(), header.programs.count());
        let columns = [
            (&header.mains, attrs),
            (&header.ships_from, attrs + 1),
            (&header.ships, header.ships.count()),
            (&header.shippers_from, programs + 1),
            (&header.shippers, header.shippers.count()),
            (&header.reasons, header.reasons.count()),
            (&header.reason_texts, header.reasons.count()),
            (&header.texts_from, header.texts_from.count()),
            (&header.blocks, attrs.div_ceil(details::BLOCK) + 1),
        ];
        let standings = header.standings.values().map(|column| (column, attrs));
        header.attrs.is_whole(body)
            && header.programs.is_whole(body)
            && columns
                .into_iter()
                .chain(standings)
                .all(|(column, count)| column.count() == count && column.is_whole(body))
            && header.drvs.values().all(|span| span.of(body).is_some_and(|drvs| drvs.len() == attrs * DRV_BYTES))
            && header.texts.of(body).is_some()
            && header.words.as_ref().is_none_or(|words| words.is_whole(body, attrs))
    }

    /// The sections.
    pub(crate) fn body(&self) -> &[u8] {
        self.bytes.as_ref().get(self.body_at..).unwrap_or_default()
    }

    /// The header.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// The pairs of letters in the attributes and in the programs' names.
    pub(crate) fn pairs(&self) -> &[Pairs; 2] {
        self.pairs
            .get_or_init(|| [&self.header.attrs, &self.header.programs].map(|names| Pairs::of(names, self.body())))
    }

    /// The revision of the nixpkgs.
    pub fn rev(&self) -> &Rev {
        &self.header.rev
    }

    /// The file's size in bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.as_ref().len()
    }

    /// The number of attributes, lost ones included.
    pub fn attrs(&self) -> usize {
        self.header.attrs.count()
    }

    /// The number of program names.
    pub fn programs(&self) -> usize {
        self.header.programs.count()
    }

    /// The range of the details file that holds a package's block, for [`details::read`].
    pub fn details(&self, attr: &Attr) -> Option<Range<u64>> {
        let rank = self.header.attrs.rank(self.body(), attr.as_str())?;
        let range = self.header.blocks.range(self.body(), rank / details::BLOCK)?;
        Some(range.start as u64..range.end as u64)
    }

    /// The record of a package; `None` if there is no such attribute.
    pub fn package(&self, attr: &Attr) -> Option<Package> {
        let rank = self.header.attrs.rank(self.body(), attr.as_str())?;
        let drvs = System::ALL.into_iter().filter_map(|system| Some((system, self.drv(rank, system)?)));
        Some(Package {
            main: self.main(rank),
            programs: self.ships(rank).filter_map(|(program, _)| self.program(program)).collect(),
            drvs: drvs.collect(),
        })
    }

    /// All attributes by name, each with its obstacle on a system; `None`: it is buildable, or was not evaluated.
    pub fn standings(&self, system: System) -> impl Iterator<Item = (Attr, Option<Obstacle>)> {
        (0..self.attrs()).filter_map(move |rank| Some((self.attr(rank)?, self.obstacle(rank, system))))
    }

    /// The attributes that could not be evaluated, by name.
    pub fn lost(&self) -> impl Iterator<Item = Lost> {
        (0..self.attrs()).flat_map(move |rank| {
            System::ALL.into_iter().filter_map(move |system| {
                let why = self.obstacle(rank, system).filter(|why| why.is_loss())?;
                Some(Lost { attr: self.attr(rank)?, system, why, detail: self.reason(rank, system).map(str::to_owned) })
            })
        })
    }

    /// The attribute of a rank.
    pub(crate) fn attr(&self, rank: usize) -> Option<Attr> {
        self.header.attrs.name(self.body(), rank)?.parse().ok()
    }

    /// The program of a rank.
    pub(crate) fn program(&self, rank: usize) -> Option<Bin> {
        self.header.programs.name(self.body(), rank)?.parse().ok()
    }

    /// Why a package cannot be built on a system. `None` if it is buildable, or was not evaluated.
    pub(crate) fn obstacle(&self, attr: usize, system: System) -> Option<Obstacle> {
        let number = self.header.standings.get(&system)?.get(self.body(), attr)? as usize;
        Obstacle::ALL.get(number.checked_sub(1)?).copied()
    }

    /// The reason of an obstacle.
    pub(crate) fn reason(&self, attr: usize, system: System) -> Option<&str> {
        let (header, body) = (&self.header, self.body());
        let at = header.reasons.search(body, reason_key(attr, system)?)?;
        let text = header.texts_from.range(body, header.reason_texts.get(body, at)? as usize)?;
        str::from_utf8(header.texts.of(body)?.get(text)?).ok()
    }

    /// A package's derivation.
    pub(crate) fn drv(&self, attr: usize, system: System) -> Option<DrvHash> {
        let drvs = self.header.drvs.get(&system)?.of(self.body())?;
        drv::unpack(drvs.get(attr * DRV_BYTES..)?.first_chunk()?)
    }

    /// A package's main program.
    pub(crate) fn main(&self, attr: usize) -> Option<Bin> {
        self.program((self.header.mains.get(self.body(), attr)? as usize).checked_sub(1)?)
    }

    /// A package's programs, by rank, and whether each may be servable.
    pub(crate) fn ships(&self, attr: usize) -> impl Iterator<Item = (usize, bool)> {
        let range = self.header.ships_from.range(self.body(), attr).unwrap_or(0..0);
        let entries = range.map_while(|at| self.header.ships.get(self.body(), at));
        entries.map(|entry| (entry as usize / 2, entry % 2 == 0))
    }

    /// The packages that ship a program, the best first.
    pub(crate) fn shippers(&self, program: usize) -> impl Iterator<Item = (usize, Tier)> {
        let range = self.header.shippers_from.range(self.body(), program).unwrap_or(0..0);
        let entries = range.map_while(|at| self.header.shippers.get(self.body(), at));
        entries.map(|entry| {
            let tier = [Tier::Main, Tier::Namesake, Tier::Other, Tier::Useless][entry as usize % 4];
            (entry as usize / 4, tier)
        })
    }
}

/// The key by which a reason is found.
pub(crate) fn reason_key(attr: usize, system: System) -> Option<u32> {
    u32::try_from(attr * System::ALL.len() + place(system)).ok()
}
