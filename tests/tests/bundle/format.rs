//! What a bundle's file contains, and what the writer leaves out.

use std::{
    cell::Cell,
    fs::{self, File},
    io::ErrorKind,
    process::Command,
};

use binplz_launcher::{
    manifest::{About, Kind},
    read::Bundle,
    trim::Trim,
};

use crate::cache::run;
use crate::fixture::{DATA, FIXTURE, HERE, OTHER, TOOLS, about, noise, scratch};

#[test]
fn equal_inputs_make_equal_bytes_and_the_reported_size_and_hash_are_those_of_the_file() {
    let dir = scratch();
    let pack = |name: &str, about: &About, trim| FIXTURE.pack(HERE, about, trim, &dir.path().join(name));
    let (one, two) = (pack("one", &about(HERE), Trim::Usual), pack("two", &about(HERE), Trim::Usual));
    let read = |name: &str| fs::read(dir.path().join(name)).expect("a bundle");
    assert!(one == two && read("one") == read("two"));
    assert_eq!(one.bytes, read("one").len() as u64);
    assert_eq!(one.sha256[..], sha2::Sha256::digest(read("one"))[..]);
    let other = pack("other", &About { version: "2".to_owned(), ..about(HERE) }, Trim::Usual);
    assert_ne!(one.sha256, other.sha256);
}

#[test]
fn a_directory_of_a_hundred_megabytes_is_unpacked_as_it_was_packed() {
    let dir = scratch();
    let (data, bundle) = (dir.path().join(OTHER), dir.path().join("tools"));
    fs::create_dir(&data).expect("a directory");
    noise(&data.join("0"), 1 << 20);
    let block = fs::read(data.join("0")).expect("a block");
    for n in 0..10_u8 {
        // Other bytes than those of the other files, and not frame after frame the same.
        let blocks = (0..10).map(|m| [&block[usize::from(n * 10 + m)..], &[n, m][..]].concat());
        fs::write(data.join(n.to_string()), blocks.collect::<Vec<_>>().concat()).expect("a file");
    }
    FIXTURE.pack_with(vec![data.clone()], HERE, &about(HERE), Trim::Usual, &|| true, &bundle).expect("a bundle");
    let says = |arguments: &[&str]| {
        let out = run(Command::new(&bundle).args(arguments).env("XDG_CACHE_HOME", dir.path())).expect("it runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    };
    for n in 0..10 {
        let printed = says(&["print", &format!("/nix/store/{OTHER}/{n}")]);
        assert!(printed == fs::read(data.join(n.to_string())).expect("a file"), "{n}");
    }
    assert!(String::from_utf8_lossy(&says(&["--binplz-verify"])).contains("the unpacked files are intact"));
}

#[test]
fn packing_ends_before_its_next_file_or_frame_once_it_may_not_go_on() {
    let dir = scratch();
    let asked = |most: usize| {
        let (count, to) = (Cell::new(0), dir.path().join(most.to_string()));
        let go_on = || count.replace(count.get() + 1) < most;
        let packed = FIXTURE.pack_with(Vec::new(), HERE, &about(HERE), Trim::Usual, &go_on, &to);
        (packed.map_err(|error| error.kind()), count.get())
    };
    let (packed, all) = asked(usize::MAX);
    let files = packed.expect("a bundle").files;
    // One for each entry, the two frames, and the end of them.
    assert_eq!(all, files + 3);
    for most in [0, 5, files, files + 1, files + 2] {
        assert_eq!(asked(most), (Err(ErrorKind::TimedOut), most + 1));
    }
}

#[test]
fn manual_pages_are_left_out_unless_all_is_wanted_and_equal_files_are_there_once() {
    let dir = scratch();
    let open = |name: &str, trim| {
        let path = dir.path().join(name);
        FIXTURE.pack(HERE, &about(HERE), trim, &path);
        Bundle::open(File::open(path).expect("a file")).expect("a bundle").manifest
    };
    let (usual, full) = (open("usual", Trim::Usual), open("full", Trim::Nothing));
    let page = format!("{TOOLS}/share/man/man1/probe.1");
    assert!(usual.entry(page.as_bytes()).is_none() && full.entry(page.as_bytes()).is_some());
    assert!(usual.entry(format!("{DATA}/certs/ca.crt").as_bytes()).is_some());
    let same = usual.entries.iter().filter(|entry| matches!(entry.kind, Kind::Same(_))).count();
    assert_eq!(same, 50, "the copies of the probe");
    assert_eq!(usual.programs.len(), 55);
}

use sha2::Digest;
