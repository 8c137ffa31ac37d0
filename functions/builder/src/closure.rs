//! The closure of a build's output, and a way to follow links without leaving it.
//!
//! A package with `bin/x -> /etc/shadow` builds without an error. So links are followed component by component, and a
//! file is opened only after its whole path is known to lie below a store path of the closure. Store paths never
//! change, so a resolved path stays valid.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    io::ErrorKind,
    path::{Component, Path, PathBuf},
};

/// The most links on one path, as in the kernel.
const LINKS_MAX: usize = 40;

/// Store paths, all of one store.
pub(crate) struct Closure {
    store: PathBuf,
    names: BTreeSet<OsString>,
}

/// The end of a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// An existing path in the closure that is not a link.
    To(PathBuf),
    /// A path outside of the closure.
    Out,
    /// A path that does not exist.
    Nowhere,
}

impl Closure {
    /// The closure of these store paths below the directory `store`.
    pub(crate) fn new<'a>(store: &Path, paths: impl IntoIterator<Item = &'a str>) -> Closure {
        let paths = paths.into_iter().map(Path::new).filter(|path| path.parent() == Some(store));
        let names = paths.filter_map(Path::file_name).map(OsStr::to_owned).collect();
        Closure { store: store.to_owned(), names }
    }

    /// Its store paths, in order.
    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.names.iter().map(|name| self.store.join(name))
    }

    /// The store's directory.
    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    /// Follows every link of a path.
    pub(crate) fn resolve(&self, path: &Path) -> Way {
        let Ok(below) = path.strip_prefix(&self.store) else { return Way::Out };
        // The components that are left, the last one first.
        let mut ahead: Vec<OsString> = parts(below);
        let mut here = self.store.clone();
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            if part == ".." {
                if here == self.store || !here.pop() {
                    return Way::Out;
                }
                continue;
            }
            if here == self.store && !self.names.contains(&part) {
                return Way::Out;
            }
            here.push(part);
            let kind = match fs::symlink_metadata(&here) {
                Ok(metadata) => metadata.file_type(),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return Way::Out,
                Err(_) => return Way::Nowhere,
            };
            if kind.is_symlink() {
                links += 1;
                let Ok(target) = fs::read_link(&here) else { return Way::Nowhere };
                if links > LINKS_MAX {
                    return Way::Nowhere;
                }
                here.pop();
                if target.is_absolute() {
                    let Ok(below) = target.strip_prefix(&self.store) else { return Way::Out };
                    here.clone_from(&self.store);
                    ahead.extend(parts(below));
                } else {
                    ahead.extend(parts(&target));
                }
            } else if !ahead.is_empty() && !kind.is_dir() {
                return Way::Nowhere;
            }
        }
        if here == self.store { Way::Out } else { Way::To(here) }
    }
}

fn parts(path: &Path) -> Vec<OsString> {
    let part = |part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().rev().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A store with `a` and `b` in the closure and `c` outside of it.
    fn store() -> (tempfile::TempDir, Closure) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = dir.path().join("store");
        for name in ["a/bin", "a/lib", "b/bin", "c/bin"] {
            fs::create_dir_all(store.join(name)).expect("a directory");
        }
        for name in ["a/bin/x", "b/bin/y", "c/bin/z", "../secret"] {
            fs::write(store.join(name), name).expect("a file");
        }
        let paths = ["a", "b"].map(|name| store.join(name).to_string_lossy().into_owned());
        let closure = Closure::new(&store, paths.iter().map(String::as_str));
        (dir, closure)
    }

    #[test]
    fn links_are_followed_within_the_closure_only() {
        let (_dir, closure) = store();
        let store = closure.store().to_owned();
        let way = |target: &str| {
            let link = store.join("a/bin/link");
            drop(fs::remove_file(&link));
            symlink(target, &link).expect("a link");
            closure.resolve(&link)
        };
        let to = |path: &str| Way::To(store.join(path));
        assert_eq!(way("x"), to("a/bin/x"));
        assert_eq!(way("../../b/bin/y"), to("b/bin/y"));
        assert_eq!(way(&store.join("b/bin/y").to_string_lossy()), to("b/bin/y"));
        for out in
            ["/etc/shadow", "../../c/bin/z", "../../../secret", "../../..", "../..", "../../../../../../../etc/passwd"]
        {
            assert_eq!(way(out), Way::Out, "{out}");
        }
        assert_eq!(way(&store.join("../secret").to_string_lossy()), Way::Out);
        assert_eq!(way(&store.join("c/bin/z").to_string_lossy()), Way::Out);
        for nowhere in ["missing", "link", "x/y", "../lib/missing/../../bin/x"] {
            assert_eq!(way(nowhere), Way::Nowhere, "{nowhere}");
        }
    }

    #[test]
    fn a_directory_on_the_way_may_be_a_link_that_leads_out() {
        let (_dir, closure) = store();
        let store = closure.store().to_owned();
        symlink("/etc", store.join("a/etc")).expect("a link");
        symlink("../b/bin", store.join("a/sbin")).expect("a link");
        assert_eq!(closure.resolve(&store.join("a/etc/passwd")), Way::Out);
        assert_eq!(closure.resolve(&store.join("a/sbin/y")), Way::To(store.join("b/bin/y")));
        // `..` behind a link is the parent of the link's target, as in the kernel.
        assert_eq!(closure.resolve(&store.join("a/sbin/../bin/y")), Way::To(store.join("b/bin/y")));
    }
}
