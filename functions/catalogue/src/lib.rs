//! The catalogue of a nixpkgs: what every name in it means, without asking Nix.
//!
//! A builder passes a [`Writer`] the evaluated attributes ([`Record`]) and the known programs; the result is two files.
//! The *lookup* file is used as it lies in memory ([`Lookup::open`]) and answers in microseconds, through
//! [`binplz_core::ports::Catalogue`]. The *details* file has the descriptions that pages show, in compressed blocks
//! that are read one at a time ([`details::read`]).
//!
//! The lookup file consists of `binplz lookup `, the format's number, a checksum (CRC-32) of all that follows, the
//! length of a header, the header as JSON, and the sections. The header gives the place of each section (`lookup.rs`):
//! two lists of sorted names (`names.rs`), and columns of numbers that are as narrow as their largest one (`bytes.rs`).
//! Numbers are little-endian.
//!
//! A builder that may be interrupted stores the records so far in parts ([`part`]), and its successor continues from them.
//!
//! A process that answers requests keeps the catalogues that it has read ([`Opened`]).
//!
//! No input makes a reader panic: the checksum detects accidents, and every later read is checked all the same.

mod bytes;
mod names;
mod near;
mod popular;

pub mod details;
mod drv;
mod lookup;
mod opened;
mod record;
mod resolve;
mod search;

mod layout;
mod writer;

pub mod part;

pub use binplz_core::nixpkgs::catalogue::About;
pub use bytes::TooLarge;
pub use lookup::{BadCatalogue, Lookup, Lost, Package};
pub use opened::{Open, Opened};
pub use record::{Obstacle, Record, Standing};
pub use writer::{Files, Twice, Writer};
