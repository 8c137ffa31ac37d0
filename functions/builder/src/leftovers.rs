//! Store paths in a program's bytes that the program may miss on another machine.
//!
//! Many static programs contain a store path harmlessly: a prefix under which nothing exists. A path that exists in the
//! built closure (figlet's fonts) counts: on another machine its data is missing.

use std::{collections::BTreeSet, os::unix::ffi::OsStrExt, path::Path};

use binplz_core::objects::needs::Data;
use memchr::memmem;

use crate::closure::{Closure, Way};

/// The longest path that is checked.
const PATH_MAX: usize = 1024;
/// The most paths that are checked: a program full of store paths must not cost minutes.
const TRIES: usize = 4096;
/// The longest name of a variable, with the byte that ends it.
const VARIABLE_MAX: usize = 16;

/// A scan over a program's bytes, in pieces.
pub(crate) struct Leftovers<'a> {
    closure: &'a Closure,
    /// The start of every store path.
    start: Vec<u8>,
    /// The end of the last piece, which may be the start of a path.
    carried: Vec<u8>,
    tried: BTreeSet<String>,
    found: Found,
}

/// What a program's bytes contain.
#[derive(Default)]
pub(crate) struct Found {
    /// Store paths of the closure, in order.
    pub(crate) paths: BTreeSet<String>,
    /// Names of variables by which the environment can name another place for data.
    pub(crate) variables: BTreeSet<&'static str>,
}

impl<'a> Leftovers<'a> {
    /// A scan for paths of that closure.
    pub(crate) fn new(closure: &'a Closure) -> Leftovers<'a> {
        let mut start = closure.store().as_os_str().as_bytes().to_vec();
        start.push(b'/');
        Leftovers { closure, start, carried: Vec::new(), tried: BTreeSet::new(), found: Found::default() }
    }

    /// Scans the next piece.
    pub(crate) fn scan(&mut self, piece: &[u8]) {
        let mut bytes = std::mem::take(&mut self.carried);
        bytes.extend_from_slice(piece);
        self.note_variables(&bytes);
        let mut at = 0;
        while let Some(start) = memmem::find(&bytes[at..], &self.start).map(|found| at + found) {
            let length = path_length(&bytes[start..]);
            if start + length == bytes.len() && length < PATH_MAX {
                // The path may continue in the next piece.
                self.carried = bytes.split_off(start);
                return;
            }
            self.consider(&bytes[start..start + length]);
            at = start + length;
        }
        let rest = bytes.len().saturating_sub(self.start.len().max(VARIABLE_MAX)).max(at);
        self.carried = bytes.split_off(rest);
    }

    /// All that was found.
    pub(crate) fn end(mut self) -> Found {
        let last = std::mem::take(&mut self.carried);
        if last.starts_with(&self.start) {
            self.consider(&last[..path_length(&last)]);
        }
        self.found
    }

    /// A name is a string of its own, or the end of one: linkers store both once.
    fn note_variables(&mut self, bytes: &[u8]) {
        let names = Data::ALL.into_iter().filter_map(|data| Some(data.variable()?.0));
        for name in names {
            if !self.found.variables.contains(name) && memmem::find(bytes, &[name.as_bytes(), b"\0"].concat()).is_some()
            {
                self.found.variables.insert(name);
            }
        }
    }

    fn consider(&mut self, path: &[u8]) {
        let path = String::from_utf8_lossy(path);
        // Text may follow a path: "see /nix/store/HASH-x/share."
        let path = path.trim_end_matches(['/', '.']);
        if self.tried.len() < TRIES
            && self.tried.insert(path.to_owned())
            && matches!(self.closure.resolve(Path::new(path)), Way::To(_))
        {
            self.found.paths.insert(path.to_owned());
        }
    }
}

/// The length of the path at the start of these bytes: store paths, and the files that packages put into them, use this
/// alphabet.
fn path_length(bytes: &[u8]) -> usize {
    let path = |byte: &&u8| byte.is_ascii_alphanumeric() || b"/+-._?=@~".contains(byte);
    bytes.iter().take(PATH_MAX).take_while(path).count()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What is in `bytes`, scanned in pieces of that size.
    fn found(closure: &Closure, bytes: &[u8], piece: usize) -> Found {
        let mut leftovers = Leftovers::new(closure);
        bytes.chunks(piece).for_each(|piece| leftovers.scan(piece));
        leftovers.end()
    }

    #[test]
    fn a_path_counts_when_it_exists_in_the_closure_however_the_bytes_are_cut() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = dir.path().to_str().expect("text");
        for name in ["aaa-figlet/share/fonts", "bbb-other/share"] {
            fs::create_dir_all(dir.path().join(name)).expect("a directory");
        }
        let closure = Closure::new(dir.path(), [format!("{store}/aaa-figlet").as_str()]);
        let bytes = format!(
            "\0{store}/aaa-figlet/share/fonts\0PATH={store}/aaa-figlet/etc:{store}/aaa-figlet/share:\
             {store}/bbb-other/share {store}/aaa-figlet/share/fonts/%s {store}/aaa-figlet/share/../../bbb-other"
        );
        let bytes = bytes + "\0NIX_SSL_CERT_FILE\0MAGIC \0";
        let paths = BTreeSet::from([format!("{store}/aaa-figlet/share"), format!("{store}/aaa-figlet/share/fonts")]);
        for piece in 1..=bytes.len() {
            let found = found(&closure, bytes.as_bytes(), piece);
            assert_eq!(found.paths, paths, "in pieces of {piece}");
            assert_eq!(found.variables, BTreeSet::from(["SSL_CERT_FILE"]), "in pieces of {piece}");
        }
    }
}
