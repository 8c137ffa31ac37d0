//! Classifies the store paths in a program by what lies there: a program that it runs, data that it reads, or nothing that it
//! could miss.
//!
//! The rules follow the directories that the GNU coding standards and the Filesystem Hierarchy Standard give to kinds of
//! files. A prefix (`PREFIX/share`), a header or a manual in a program is only mentioned. The classification errs towards
//! a need: a program may do without the file that it looks for.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use binplz_core::objects::needs::{Data, NEEDS_MAX, Need};

use crate::{
    closure::{Closure, Way},
    leftovers::Found,
};

/// The most entries of a directory tree that are looked at.
const ENTRIES_MAX: usize = 2000;
/// How deep they may lie.
const DEPTH_MAX: usize = 6;

/// Directories whose files no program needs to run: for compilers, for people, or with a translation of its messages.
const IDLE: [&str; 24] = [
    "aclocal",
    "appdata",
    "applications",
    "bash-completion",
    "bash_completion.d",
    "cmake",
    "doc",
    "fish",
    "gtk-doc",
    "help",
    "icons",
    "include",
    "info",
    "installed-tests",
    "licenses",
    "locale",
    "man",
    "metainfo",
    "nix-support",
    "pkgconfig",
    "src",
    "systemd",
    "vala",
    "zsh",
];
/// Files that only compilers read.
const COMPILED: [&str; 10] = ["a", "c", "cc", "cpp", "h", "hpp", "la", "o", "pc", "rs"];
/// Files with a font.
const FONTS: [&str; 9] = ["bdf", "flf", "otb", "otf", "pcf", "pfb", "psf", "tlf", "ttf"];

/// The program whose paths are classified.
pub(crate) struct Subject<'a> {
    /// The closure of its package.
    pub(crate) closure: &'a Closure,
    /// The store paths of its package's outputs.
    pub(crate) outputs: &'a [&'a Path],
    /// Its file.
    pub(crate) file: &'a Path,
}

impl Subject<'_> {
    /// What the program needs of the store paths in it.
    pub(crate) fn needs(&self, found: &Found) -> Vec<Need> {
        let needs = found.paths.iter().filter_map(|path| self.need(path, |name| found.variables.contains(name)));
        together(needs.collect())
    }

    /// What the program needs of the value that its wrapper gives to a variable.
    pub(crate) fn needs_of_variable(&self, name: &str, value: &str) -> Vec<Need> {
        let store = self.closure.store().to_string_lossy();
        if !value.contains(&*store) {
            return vec![Need::Variable { name: name.to_owned(), value: value.to_owned() }];
        }
        value.split([':', ' ']).filter_map(|path| self.need(path, |known| known == name)).collect()
    }

    /// What the program needs of a path; `reads` tells whether it reads a variable.
    fn need(&self, path: &str, reads: impl Fn(&str) -> bool) -> Option<Need> {
        let path = path.to_owned();
        Some(match self.used(&path)? {
            Use::Program => Need::Program { path },
            Use::Data(data) => {
                let settable = data.variable().is_some_and(|(name, _)| reads(name));
                Need::Data { data, path, settable }
            }
        })
    }

    /// `None`: the path is only mentioned.
    fn used(&self, path: &str) -> Option<Use> {
        let Way::To(target) = self.closure.resolve(Path::new(path)) else { return None };
        if target == self.file {
            return None;
        }
        // The names below the store path; a link's own path says what it is for.
        let below = Path::new(path).strip_prefix(self.closure.store()).ok()?;
        let names: Vec<&str> = below.iter().skip(1).filter_map(|name| name.to_str()).collect();
        if names.iter().take(2).any(|name| IDLE.contains(name)) {
            return None;
        }
        if target.is_dir() { self.directory(&target, &names) } else { file(&target, &names) }
    }

    fn directory(&self, target: &Path, names: &[&str]) -> Option<Use> {
        let tree = Tree::of(target);
        match names {
            // Where things were installed. What is read of it has a path of its own.
            [] | ["lib" | "lib64" | "share" | "etc" | "var"] => None,
            // Programs know where they themselves are installed.
            ["bin" | "sbin"] if self.outputs.iter().any(|output| target.starts_with(output)) => None,
            ["bin" | "sbin" | "libexec", ..] => tree.programs.then_some(Use::Program),
            _ if tree.files.is_empty() => None,
            _ => Some(Use::Data(tree.files.iter().find_map(|file| by_name(names, file)).unwrap_or(Data::Files))),
        }
    }
}

/// Requirements in order, without repetitions: of one kind of data that a variable can name, one path is enough.
pub(crate) fn together(mut needs: Vec<Need>) -> Vec<Need> {
    needs.sort();
    needs.dedup_by(|next, one| match (&*next, &mut *one) {
        (Need::Data { data: next, settable: too, .. }, Need::Data { data, settable, .. })
            if next == data && data.variable().is_some() =>
        {
            *settable |= too;
            true
        }
        (next, one) => next == one,
    });
    needs.truncate(NEEDS_MAX);
    needs
}

/// What a program does with a path.
enum Use {
    Program,
    Data(Data),
}

fn file(target: &Path, names: &[&str]) -> Option<Use> {
    let name = target.file_name()?.to_string_lossy();
    let extension = Path::new(&*name).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if COMPILED.contains(&extension) {
        return None;
    }
    if let Some(data) = by_name(names, &name) {
        return Some(Use::Data(data));
    }
    let library = name.contains(".so.") || extension == "so";
    Some(if !library && is_program(target) { Use::Program } else { Use::Data(Data::Files) })
}

/// The kind of data of a file, by its name and the directories above it.
fn by_name(above: &[&str], file: &str) -> Option<Data> {
    let extension = Path::new(file).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let below = |name: &str| above.contains(&name);
    if below("terminfo") {
        Some(Data::Terminfo)
    } else if file == "magic" || extension == "mgc" {
        Some(Data::Magic)
    } else if below("ssl") || below("pki") || file.starts_with("ca-bundle") || file.starts_with("ca-certificates") {
        Some(Data::Certificates)
    } else if below("fonts") || FONTS.contains(&extension) {
        Some(Data::Fonts)
    } else {
        None
    }
}

/// Whether an existing file is executable, and a script or an ELF file.
fn is_program(file: &Path) -> bool {
    let executable =
        fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0);
    let mut start = Vec::new();
    executable
        && File::open(file).and_then(|file| file.take(4).read_to_end(&mut start)).is_ok()
        && (start.starts_with(b"#!") || start == b"\x7fELF")
}

/// What lies below a directory. Links are not followed.
#[derive(Default)]
struct Tree {
    files: Vec<String>,
    programs: bool,
}

impl Tree {
    fn of(top: &Path) -> Tree {
        let mut tree = Tree::default();
        let mut ahead = vec![(top.to_owned(), 0)];
        let mut left = ENTRIES_MAX;
        while let Some((directory, depth)) = ahead.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let Some(less) = left.checked_sub(1) else { return tree };
                left = less;
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && depth < DEPTH_MAX => ahead.push((entry.path(), depth + 1)),
                    Ok(kind) if kind.is_dir() => {}
                    Ok(kind) => {
                        // A link in a store leads to a file, as a rule.
                        tree.programs = tree.programs || kind.is_symlink() || is_program(&entry.path());
                        tree.files.push(entry.file_name().to_string_lossy().into_owned());
                    }
                    Err(_) => {}
                }
            }
        }
        tree
    }
}
