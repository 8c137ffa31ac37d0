//! What a bundle leaves out, unless it is asked for in full.

use std::path::Path;

/// Which files of the closure a bundle has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// All but those that [`DOCUMENTED`] lists.
    Usual,
    /// All.
    Nothing,
}

/// What [`Trim::Usual`] leaves out, for people. If the closure has a linker (`bin/ld`), headers and static libraries stay.
pub const DOCUMENTED: &[&str] = &[
    "manual pages, info pages and other documentation (share/man, share/info, share/doc, share/gtk-doc, share/devhelp)",
    "translations of messages (share/locale)",
    "headers (include) and static libraries (*.a, *.la, *.o)",
    "the sources of locales (share/i18n) and the zones of share/zoneinfo/right and share/zoneinfo/posix",
    "the tests of Python's own library, and the texts of Perl's manual (*.pod)",
];

/// Whether the `path` below a store path, of a file or directory, is left out.
pub(crate) fn left_out(path: &str, has_linker: bool) -> bool {
    let first = |dir: &str| path == dir || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str()).unwrap_or("");
    let documentation = ["share/man", "share/info", "share/doc", "share/gtk-doc", "share/devhelp", "man", "doc"];
    let data = ["share/locale", "share/i18n", "share/zoneinfo/right", "share/zoneinfo/posix"];
    documentation.into_iter().chain(data).any(first)
        || extension == "pod"
        || (!has_linker && (first("include") || ["a", "la", "o"].contains(&extension)))
        || is_python_test(path)
}

/// `lib/python3.11/test`, and the tests of packages that are part of Python.
fn is_python_test(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("lib/python") else { return false };
    let Some((version, below)) = rest.split_once('/') else { return false };
    let numbers = version.chars().all(|c| c.is_ascii_digit() || c == '.');
    numbers && ["test", "idlelib/idle_test", "lib2to3/tests", "unittest/test", "distutils/tests"].contains(&below)
}
