//! Trust: what is signed, and the transparency log of it. Formats are public ones; each file has one.
//!
//! An [entry](leaf) of the log is the [`minisign`] signature of one artifact, whose signed comment says what it is.
//! Entries lie in [tiles](tile), which make a [Merkle tree](merkle); a [`checkpoint`], which is a signed [`note`], names its size
//! and root. A [proof] shows offline that an entry is in it. [`head`] has the log's rows. A leaf also names the build's
//! [`provenance`] and its [`sbom`] by their sha256.

pub mod checkpoint;
pub mod head;
pub mod leaf;
pub mod merkle;
pub mod minisign;
pub mod note;
pub mod proof;
pub mod provenance;
pub mod sbom;
pub mod tile;
