//! Manifests of bundles: what is accepted is what a writer can have meant, is written in one way only, and has no path that leads out.
//! The input is a manifest, or behind an odd byte changes of a proper one.

use binplz_launcher::manifest::{About, Entry, Frame, Kind, Manifest, Program};

use crate::input::changed;

/// A manifest with every kind of entry.
pub(crate) fn sample() -> Manifest {
    let entry = |path: &str, kind| Entry { path: path.as_bytes().to_vec(), kind };
    let file = |executable, size| Kind::File { executable, size, sha256: [7; 32] };
    Manifest {
        about: About { package: "tree".to_owned(), ..About::default() },
        programs: vec![Program { name: "tree".to_owned(), path: b"0-tree/bin/tree".to_vec() }],
        main: 0,
        launcher: [1; 32],
        frames: vec![Frame { packed: 10, sha256: [2; 32] }],
        entries: vec![
            entry("0-tree", Kind::Directory),
            entry("0-tree/bin", Kind::Directory),
            entry("0-tree/bin/tree", file(true, 100)),
            entry("0-tree/data", file(false, 200)),
            entry("0-tree/more", Kind::Same(3)),
            entry("1-link", Kind::Link(b"/etc".to_vec())),
        ],
    }
}

pub(crate) fn check(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    if kind % 2 == 0 { decode(data) } else { decode(&changed(sample().encode(), data)) }
}

/// Decodes, and checks what was accepted with other means than the decoder's.
fn decode(bytes: &[u8]) {
    let Ok(manifest) = Manifest::decode(bytes) else { return };
    assert_eq!(manifest.encode(), bytes, "there is one way to write it");
    for entry in &manifest.entries {
        let path = std::str::from_utf8(&entry.path).unwrap_or("not text");
        assert!(!path.starts_with('/') && path.split('/').all(|name| !["", ".", ".."].contains(&name)), "{path:?}");
        let above = entry.path().ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
        for above in above {
            let found = manifest.entries.iter().find(|entry| entry.path() == above);
            assert!(found.is_some_and(|found| found.kind == Kind::Directory), "{path:?} lies in no directory");
        }
    }
    assert!(manifest.main < manifest.programs.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        assert_eq!(Manifest::decode(&sample().encode()).expect("a manifest"), sample());
    }
}
