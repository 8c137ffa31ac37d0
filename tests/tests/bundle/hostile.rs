//! Bundles that no proper writer makes. The launcher, which its user trusts more than the bundle as long as it runs none of its
//! programs, writes nothing outside its directory for them.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use binplz_launcher::{
    manifest::{Entry, Frame, Kind, Manifest, Program},
    pack::seal,
    read::{Bundle, loaded},
};
use sha2::{Digest, Sha256};

use crate::fixture::{HERE, about, launcher, scratch};

/// A manifest of one program, which is fine.
fn manifest() -> Manifest {
    let launcher = loaded(&File::open(launcher(HERE)).expect("the launcher")).expect("its hash");
    let path = b"0-p/run".to_vec();
    let file = Kind::File { executable: true, size: 0, sha256: Sha256::digest(b"").into() };
    Manifest {
        about: about(HERE),
        programs: vec![Program { name: "run".to_owned(), path: path.clone() }],
        main: 0,
        launcher,
        frames: Vec::new(),
        entries: vec![Entry { path: b"0-p".to_vec(), kind: Kind::Directory }, Entry { path, kind: file }],
    }
}

/// Writes the frames and the manifest as they are.
fn write(manifest: &[u8], frames: &[u8], to: &Path) {
    let mut output = File::options().read(true).write(true).create(true).truncate(true).open(to).expect("a file");
    let offset = output.write(&fs::read(launcher(HERE)).expect("the launcher")).expect("a file").next_multiple_of(16);
    output.seek(SeekFrom::Start(offset as u64)).expect("a file");
    output.write_all(frames).expect("a file");
    seal(manifest, 1, offset as u64, &mut output).expect("a bundle");
    output.set_permissions(fs::Permissions::from_mode(0o755)).expect("a mode");
}

fn entry(path: &str, kind: Kind) -> Entry {
    Entry { path: path.as_bytes().to_vec(), kind }
}

/// Manifests that would lead a trusting reader astray, each by one change.
fn hostile(outside: &Path) -> Vec<(&'static str, Manifest)> {
    let file = || Kind::File { executable: false, size: 0, sha256: [0; 32] };
    let link = |to: &Path| Kind::Link(to.as_os_str().as_encoded_bytes().to_vec());
    let with = |more: Vec<Entry>| {
        let mut all = manifest();
        all.entries.extend(more);
        all
    };
    let absolute = outside.join("absolute");
    vec![
        ("an absolute path", with(vec![entry(absolute.to_str().expect("text"), file())])),
        ("a path that goes up", with(vec![entry("1-q", Kind::Directory), entry("1-q/../../../../out", file())])),
        ("the directory above", with(vec![entry("..", Kind::Directory)])),
        ("a file below a link", with(vec![entry("1-q", link(outside)), entry("1-q/below", file())])),
        ("a directory below a link", with(vec![entry("1-q", link(outside)), entry("1-q/below", Kind::Directory)])),
        ("a file below a file", with(vec![entry("1-q", file()), entry("1-q/below", file())])),
        ("a file in no directory", with(vec![entry("1-q/below", file())])),
        ("one path twice", with(vec![entry("1-q", link(outside)), entry("1-q", file())])),
        ("a path before its directory", with(vec![entry("2-r/file", file()), entry("2-r", Kind::Directory)])),
        ("the launcher's own marker", with(vec![entry(".binplz-1", file())])),
        ("an empty name", with(vec![entry("1-q", Kind::Directory), entry("1-q//file", file())])),
        ("a name with a zero", with(vec![entry("1-q\0", file())])),
        ("another name for a later file", with(vec![entry("1-q", Kind::Same(3)), entry("1-r", file())])),
        ("another name for a link", with(vec![entry("1-q", link(outside)), entry("1-r", Kind::Same(2))])),
        ("another name for nothing", with(vec![entry("1-q", Kind::Same(usize::MAX))])),
        ("a file of more bytes than there are", {
            with(vec![entry("1-q", Kind::File { executable: false, size: 1 << 39, sha256: [0; 32] })])
        }),
        ("sizes that overflow", {
            let large = || Kind::File { executable: false, size: u64::MAX, sha256: [0; 32] };
            with(vec![entry("1-q", large()), entry("1-r", large())])
        }),
        ("frames beyond the file", {
            let mut all = with(vec![entry("1-q", Kind::File { executable: false, size: 1, sha256: [0; 32] })]);
            all.frames = vec![Frame { packed: 16 << 20, sha256: [0; 32] }];
            all
        }),
        ("a program outside", {
            let mut all = manifest();
            all.programs[0].path = b"../../bin/sh".to_vec();
            all
        }),
        ("a program that is a directory", {
            let mut all = manifest();
            all.programs[0].path = b"0-p".to_vec();
            all
        }),
        ("no program", {
            let mut all = manifest();
            all.main = 1;
            all
        }),
        ("a program with a path for a name", {
            let mut all = manifest();
            all.programs[0].name = "../run".to_owned();
            all
        }),
        ("a terminal's commands in a name", {
            let mut all = manifest();
            all.about.version = "\u{1b}[2J".to_owned();
            all
        }),
    ]
}

#[test]
fn a_hostile_manifest_is_refused_before_any_file_is_written() {
    let dir = scratch();
    let (outside, cache, bundle) = (dir.path().join("outside"), dir.path().join("cache"), dir.path().join("bundle"));
    fs::create_dir(&outside).expect("a directory");
    write(&manifest().encode(), &[], &bundle);
    Bundle::open(File::open(&bundle).expect("a file")).expect("without a change it is fine");
    for (what, manifest) in hostile(&outside) {
        write(&manifest.encode(), &[], &bundle);
        let extracted = dir.path().join("extracted");
        for arguments in
            [vec![], vec!["--binplz-extract".into(), extracted.clone()], vec![PathBuf::from("--binplz-verify")]]
        {
            let out = Command::new("sh")
                .arg("-c")
                .arg("exec \"$@\"")
                .arg("sh")
                .arg(&bundle)
                .args(&arguments)
                .env("XDG_CACHE_HOME", &cache)
                .output();
            let out = out.expect("it runs");
            let said = String::from_utf8_lossy(&out.stderr);
            assert!(out.status.code() == Some(125) && said.contains("malformed"), "{what}: {out:?}");
        }
        let empty = |dir: &Path| fs::read_dir(dir).is_ok_and(|mut files| files.next().is_none());
        assert!(empty(&outside) && empty(&cache.join("binplz")) && !extracted.exists(), "{what}");
    }
}

#[test]
fn content_that_is_not_what_the_manifest_says_is_refused_and_leaves_nothing() {
    let dir = scratch();
    let (cache, bundle) = (dir.path().join("cache"), dir.path().join("bundle"));
    let zeros = vec![0; 1000];
    let mut good = Vec::with_capacity(100);
    zstd(&zeros, &mut good);
    let mut large = Vec::with_capacity(4000);
    zstd(&vec![0; 16 << 20], &mut large);
    for (what, bytes) in [
        ("no frame of zstd", vec![7; 100]),
        ("more than there should be", large),
        ("a frame that is cut", good[..good.len() - 1].to_vec()),
    ] {
        let mut manifest = manifest();
        let sha256 = Sha256::digest(&zeros).into();
        manifest.entries.push(entry("1-q", Kind::File { executable: false, size: 1000, sha256 }));
        manifest.frames = vec![Frame { packed: bytes.len() as u32, sha256: Sha256::digest(&bytes).into() }];
        write(&manifest.encode(), &bytes, &bundle);
        let out = Command::new("sh")
            .args(["-c", "exec \"$0\""])
            .arg(&bundle)
            .env("XDG_CACHE_HOME", &cache)
            .output()
            .expect("it runs");
        assert!(
            out.status.code() == Some(125) && String::from_utf8_lossy(&out.stderr).contains("decompress"),
            "{what}: {out:?}"
        );
        let left: Vec<_> =
            fs::read_dir(cache.join("binplz")).expect("the cache").map(|one| one.expect("one").file_name()).collect();
        assert!(left.iter().all(|name| name.to_string_lossy().ends_with(".lock")), "{what}: {left:?}");
    }
}

/// As the program does it.
fn zstd(bytes: &[u8], to: &mut Vec<u8>) {
    let mut zstd = Command::new("zstd")
        .args(["-q", "-c"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("zstd runs");
    zstd.stdin.take().expect("its input").write_all(bytes).expect("a pipe");
    to.extend(zstd.wait_with_output().expect("zstd ends").stdout);
}
