//! The catalogue of a nixpkgs: an index that resolves every name without running Nix.
//!
//! A builder passes the evaluated attributes ([`Record`]) and the known programs to a [`Writer`], which makes two files.
//! The *lookup* file needs no parsing ([`Lookup::open`]), and answers in microseconds through
//! [`binplz_core::ports::Catalogue`]. The *details* file has the descriptions that pages show, in compressed blocks that
//! readers read one at a time ([`details::read`]), and an index of their words (`words.rs`).
//!
//! The lookup file consists of `binplz lookup `, the format's number, a checksum (CRC-32) of the rest, the
//! length of a header, the header as JSON, and the sections. The header gives the place of each section (`lookup.rs`):
//! two lists of sorted names (`names.rs`), and columns of numbers that are as narrow as their largest one (`bytes.rs`).
//! Numbers are little-endian.
//!
//! A builder may be interrupted, so it stores its records in parts ([`part`]). The next builder continues from these.
//!
//! A process that answers requests keeps the catalogues that it has read ([`Opened`]).
//!
//! No input makes a reader panic: the checksum detects accidental damage, and every later read is checked too.

mod bytes;
mod names;
mod near;
mod pairs;
mod popular;

pub mod details;
mod drv;
mod lookup;
mod opened;
mod record;
mod resolve;
mod search;
mod words;

mod layout;
mod writer;

pub mod part;

pub use binplz_core::nixpkgs::catalogue::About;
pub use bytes::TooLarge;
pub use lookup::{BadCatalogue, Lookup, Lost, Package};
pub use opened::{Open, Opened};
pub use record::{Obstacle, Record, Standing};
pub use writer::{Files, Twice, Writer};
