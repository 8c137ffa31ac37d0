//! What people really type, and what they then have: the binary, a stub, a line with the reason, or nothing. In every case it
//! is run.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use binplz_tests::{
    gate::Gate,
    server::{Server, demo_set, fresh_set},
};

use super::{client, sh, text};

/// What a file turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Saved {
    Binary,
    Stub,
    /// One line of shell, which says why there is no binary.
    Line,
    /// No file, or an empty one.
    Nothing,
}
use Saved::{Binary, Line, Nothing, Stub};

/// How a target stands, and what is then saved by
///
/// - `curl`, without `-L`,
/// - `curl -L`,
/// - `wget`, GNU's and busybox's.
///
/// With curl's `-f` it is the same, but nothing instead of an error's line (300 is none). `-o`, `>`, `-O`, `--retry`, `-C -`, and wget's `-O` and `-c` change
/// nothing.
const TABLE: [(State, [Saved; 3]); 7] = [
    (State::Hit, [Stub, Binary, Binary]),
    (State::Miss, [Stub, Stub, Stub]),
    (State::Building, [Stub, Stub, Stub]),
    (State::Failed, [Line, Line, Nothing]),
    (State::Unknown, [Line, Line, Nothing]),
    (State::OverLimit, [Line, Line, Nothing]),
    (State::ManyPrograms, [Line, Line, Line]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// 302
    Hit,
    /// 202: this very request starts the build
    Miss,
    /// 202
    Building,
    /// 422
    Failed,
    /// 404
    Unknown,
    /// 503: tried as often as may be, and resting
    OverLimit,
    /// 300
    ManyPrograms,
}

/// One way to save: a line of shell, in which URL stands for the URL, and the file that it saves; "" is the URL's own name.
struct Way {
    line: String,
    file: &'static str,
    /// Its column of the table.
    column: usize,
    /// curl's `-f`.
    fails: bool,
}

/// Every combination; of those that tell curl what to do with errors only the plain one, where `few`.
fn ways(few: bool) -> Vec<Way> {
    let mut curls = vec![PathBuf::from("curl")];
    curls.extend(other_curls());
    let mut ways = Vec::new();
    for curl in curls {
        for (column, follow) in [(0, ""), (1, "-L")] {
            for (file, output) in [("f", "-o f"), ("f", "> f"), ("", "-O")] {
                for resume in ["", "-C -"] {
                    for (fails, errors) in [(false, ""), (true, "-f")] {
                        // It waits for nothing that takes longer.
                        for retry in ["", "--retry 2 --retry-max-time 1"] {
                            if few && (fails || !retry.is_empty()) {
                                continue;
                            }
                            // curl 7.74 sleeps for all of Retry-After, longer than that.
                            if !retry.is_empty() && curl.to_string_lossy().contains("bullseye") {
                                continue;
                            }
                            let line = format!("{} -s {errors} {follow} {resume} {retry} URL {output}", curl.display());
                            ways.push(Way { line, file, column, fails });
                        }
                    }
                }
            }
        }
    }
    let mut wgets =
        ["wget -q", "wget -q --retry-on-http-error=503 -t 1", "busybox wget -q"].map(str::to_owned).to_vec();
    let old = [("busybox-static", "/bin/busybox", " wget -q"), ("wget", "/usr/bin/wget", " -q")];
    wgets.extend(old.iter().filter_map(|(package, program, options)| {
        Some(format!("{}{options}", client("bullseye", package, program)?.display()))
    }));
    for (file, output) in [("f", "-O f"), ("f", "-O - > f"), ("", "")] {
        for resume in ["", "-c"] {
            for client in &wgets {
                ways.push(Way { line: format!("{client} {resume} {output} URL"), file, column: 2, fails: false });
            }
        }
    }
    ways
}

/// Debian's newest curl, and an old one (7.74).
fn other_curls() -> impl Iterator<Item = PathBuf> {
    ["sid", "bullseye"].into_iter().filter_map(|suite| client(suite, "curl", "/usr/bin/curl"))
}

/// Does something with each, a few at a time; the results in their order.
fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(usize, &T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(n) else { return done };
            done.push((n, work(n, item)));
        }
    };
    let mut all: Vec<(usize, R)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a cell")).collect()
    });
    all.sort_by_key(|(n, _)| *n);
    all.into_iter().map(|(_, result)| result).collect()
}

/// A cell of the table, tried.
struct Cell {
    state: State,
    line: String,
    dir: PathBuf,
    file: PathBuf,
    saved: Saved,
}

/// Saves `target` in a directory of its own, and looks at what it got.
fn save(server: &Server, home: &Path, state: State, way: &Way, target: &str) -> Cell {
    let dir = tempfile::tempdir_in(home).expect("a directory").keep();
    let line = way.line.replace("URL", &format!("'{}/{target}'", server.origin()));
    sh(&dir, &line);
    let name = if way.file.is_empty() { target } else { way.file };
    let names: Vec<_> = fs::read_dir(&dir).expect("a directory").map(|e| e.expect("an entry").file_name()).collect();
    assert!(names.iter().all(|n| n == name), "{state:?} {line}: {names:?}");
    let content = fs::read(dir.join(name)).unwrap_or_default();
    let saved = match content.as_slice() {
        b"" => Nothing,
        elf if elf.starts_with(b"\x7fELF") => Binary,
        stub if stub.starts_with(b"#!/bin/sh\n") => Stub,
        line if line.starts_with(b"printf ") && line.iter().filter(|byte| **byte == b'\n').count() == 1 => Line,
        other => panic!("{state:?} {line}: garbage: {}", text(other)),
    };
    let expected = TABLE.iter().find(|(listed, _)| *listed == state).expect("a row").1[way.column];
    let expected = if way.fails && expected == Line && state != State::ManyPrograms { Nothing } else { expected };
    assert_eq!(saved, expected, "{state:?} {line}");
    Cell { state, line, file: dir.join(name), dir, saved }
}

/// Runs what was saved. `binary`: what it is, or should become; `says`: what that says first.
fn run(cell: &Cell, binary: &[u8], says: &str) {
    let Cell { state, line, dir, file, saved } = cell;
    let here = format!("{state:?} {line}");
    if *saved == Nothing && !file.exists() {
        return;
    }
    let name = file.file_name().expect("a name").to_string_lossy();
    let out = sh(dir, &format!("chmod +x '{name}'; './{name}' --version"));
    let (said, told) = (text(&out.stdout), text(&out.stderr));
    match saved {
        Binary | Stub => {
            assert!(out.status.success() && said.starts_with(says), "{here}: {told}");
            assert!(fs::read(file).expect("the file") == binary, "{here}");
        }
        Line => {
            assert_eq!((out.status.code(), said.as_str()), (Some(1), ""), "{here}: {told}");
            assert!(told.starts_with("binplz: ") && told.lines().count() == 1, "{here}: {told}");
        }
        Nothing => assert_eq!((said, told), (String::new(), String::new()), "{here}"),
    }
    assert_eq!(fs::read_dir(dir).expect("a directory").count(), 1, "{here}");
}

#[test]
fn whatever_is_typed_what_is_saved_is_the_binary_or_a_stub_or_a_line_or_nothing() {
    let gate = Gate::new("gated");
    let (few, all) = (ways(true), ways(false));
    // All of these are `tree`, under names that were not requested yet.
    let misses: String = (0..few.len()).map(|n| format!("  miss{n} = pkgs.tree;\n")).collect();
    let set = fresh_set(&(misses + &gate.package()));
    let home = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(
        set.path(),
        &home.path().join("data"),
        &["--attempts", "1", "--cool-down", "3600", "--jobs", "4"],
    );
    let home = home.path();

    for (target, status) in [
        ("tree", 302),
        ("failing.compileError", 422),
        ("failing.nosuch", 404),
        ("failing.diskFull", 503),
        ("moreutils", 300),
    ] {
        assert_eq!(server.settled(target).status, status, "{target}");
    }
    let tree = server.download("tree");
    assert_eq!(server.get("/failing.gated").status, 202);
    gate.arrived();

    let mut cells = Vec::new();
    for (state, target) in [
        (State::Hit, "tree"),
        (State::Failed, "failing.compileError"),
        (State::Unknown, "failing.nosuch"),
        (State::OverLimit, "failing.diskFull"),
        (State::ManyPrograms, "moreutils"),
    ] {
        cells.extend(each(&all, |_, way| save(&server, home, state, way, target)));
    }
    let building = each(&all, |_, way| save(&server, home, State::Building, way, "failing.gated"));
    cells.extend(each(&few, |n, way| save(&server, home, State::Miss, way, &format!("failing.miss{n}"))));
    each(&cells, |_, cell| run(cell, &tree, "tree v2.1.0"));
    gate.open();
    assert_eq!(server.settled("failing.gated").status, 302);
    let gated = server.download("failing.gated");
    each(&building, |_, cell| run(cell, &gated, "<./"));
    let count = |saved| cells.iter().chain(&building).filter(|cell| cell.saved == saved).count();
    eprintln!(
        "the matrix: {} cells; {:?}",
        cells.len() + building.len(),
        [Binary, Stub, Line, Nothing].map(|s| (s, count(s)))
    );
}

/// Going on with a file that is there already: `curl -C -` and `wget -c` append what comes to it.
#[test]
fn whatever_a_download_goes_on_with_becomes_the_binary_or_stays_as_it_was() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), &home.path().join("data"), &[]);
    for (target, status) in [("tree", 302), ("failing.compileError", 422)] {
        assert_eq!(server.settled(target).status, status, "{target}");
    }
    let (stub, binary) = (server.get("/tree").body, server.download("tree"));
    let half = &binary[..binary.len() / 2];
    let mut clients = vec!["curl -s".to_owned(), "curl -sf".to_owned()];
    clients.extend(other_curls().map(|curl| format!("{} -s", curl.display())));
    let mut tries: Vec<(String, &[u8], &[u8])> = Vec::new();
    for curl in &clients {
        for (before, after) in [(half, &binary[..]), (&binary, &binary)] {
            tries.push((format!("{curl} -L -C - -o f URL/tree"), before, after));
            tries.push((format!("{curl} -C - -o f URL/tree"), before, before));
            tries.push((format!("{curl} -L -C - -o f URL/failing.compileError"), before, before));
        }
        tries.push((format!("{curl} -C - -o f URL/tree"), &stub, &stub));
    }
    for wget in ["wget -q", "busybox wget -q"] {
        tries.push((format!("{wget} -c -O f URL/tree"), half, &binary));
        tries.push((format!("{wget} -c -O f URL/tree"), &binary, &binary));
        tries.push((format!("{wget} -c -O f URL/failing.compileError"), half, half));
    }
    each(&tries, |_, (line, before, after)| {
        let dir = tempfile::tempdir_in(home.path()).expect("a directory");
        fs::write(dir.path().join("f"), before).expect("a file");
        sh(dir.path(), &line.replace("URL", &server.origin()));
        let seen = fs::read(dir.path().join("f")).expect("the file");
        assert!(
            seen == *after,
            "{line} of {} made {} bytes of {}: {}",
            before.len(),
            seen.len(),
            after.len(),
            text(&seen)
        );
    });
    // The rest of the binary behind a stub is a stub still: it ends before it.
    for client in ["curl -sL -C -", "wget -q -c", "busybox wget -q -c"] {
        let output = if client.starts_with("curl") { "-o" } else { "-O" };
        for shell in ["dash", "bash", "busybox sh"] {
            let dir = tempfile::tempdir_in(home.path()).expect("a directory");
            fs::write(dir.path().join("f"), &stub).expect("a file");
            let out = sh(dir.path(), &format!("{client} {output} f {}/tree; {shell} ./f --version", server.origin()));
            assert!(text(&out.stdout).starts_with("tree v2.1.0"), "{client} {shell}: {}", text(&out.stderr));
            assert!(fs::read(dir.path().join("f")).expect("the file") == binary, "{client} {shell}");
        }
    }
}
