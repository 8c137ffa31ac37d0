//! What must hold for any input of each parser.
//!
//! A [`Target`] is a function that takes any bytes, and panics if a promise is broken. `cargo test` runs it on the corpus and
//! on changed inputs of it, `scripts/fuzz` under libFuzzer. Beyond the absence of panics, a target promises that what is
//! accepted is printed as it was, or lies within the documented bounds, or is what another parser reads.

mod input;

mod key;
mod path;
mod target;
mod text;
mod value;

mod lease;
mod manifest;
mod materials;
mod nar;
mod narinfo;
mod segments;

mod backup;
mod prices;
mod row;

mod merkle;
mod note;
mod tile;

mod catalogue;
mod part;

mod bundle;
mod launcher;

mod drv;
mod elf;
mod internal_json;
mod wrapper;

#[cfg(feature = "aws")]
mod event;

/// A parser with what must hold for any input of it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is also that of its directory in `corpus/`.
    pub name: &'static str,
    /// Panics if a promise is broken.
    pub check: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "target", check: target::check },
    Target { name: "key", check: key::check },
    Target { name: "path", check: path::check },
    Target { name: "text", check: text::check },
    Target { name: "value", check: value::check },
    Target { name: "manifest", check: manifest::check },
    Target { name: "materials", check: materials::check },
    Target { name: "narinfo", check: narinfo::check },
    Target { name: "nar", check: nar::check },
    Target { name: "segments", check: segments::check },
    Target { name: "lease", check: lease::check },
    Target { name: "row", check: row::check },
    Target { name: "backup", check: backup::check },
    Target { name: "prices", check: prices::check },
    Target { name: "note", check: note::check },
    Target { name: "tile", check: tile::check },
    Target { name: "merkle", check: merkle::check },
    Target { name: "catalogue", check: catalogue::check },
    Target { name: "part", check: part::check },
    Target { name: "bundle", check: bundle::check },
    Target { name: "launcher", check: launcher::check },
    Target { name: "internal-json", check: internal_json::check },
    Target { name: "drv", check: drv::check },
    Target { name: "elf", check: elf::check },
    Target { name: "wrapper", check: wrapper::check },
    #[cfg(feature = "aws")]
    Target { name: "event", check: event::check },
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
