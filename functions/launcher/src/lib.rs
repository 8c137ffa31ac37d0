//! Bundles: a package, and all that it needs at run time, in one executable file.
//!
//! A bundle is the launcher, a static ELF program, with an additional section, `.binplz`. The section has frames of compressed files,
//! the manifest that describes them, and a footer. `strip` keeps this section. A truncated file lacks the table that names the section.
//! Readers trust only bytes that the hashes confirm, and accept only paths that cannot lead out of their directory.

mod cursor;
mod elf;
pub mod manifest;
pub mod read;

#[cfg(feature = "write")]
pub mod pack;
#[cfg(feature = "write")]
pub mod trim;

pub mod error;
mod unpack;

pub mod cache;
pub mod enter;
pub mod start;
