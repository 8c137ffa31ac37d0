//! Trust: signatures of artifacts, and the transparency log of these signatures. All formats are public; each file has one.
//!
//! An [entry](leaf) of the log is the [`minisign`] signature of one artifact. Its signed comment describes the artifact.
//! [Tiles](tile) hold the entries and make a [Merkle tree](merkle). A [`checkpoint`], which is a signed [`note`], has the tree's size and
//! root. A [proof] shows offline that an entry is in the tree. [`head`] has the log's rows. An entry also names the build's
//! [`provenance`] and [`sbom`] by their sha256.

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
