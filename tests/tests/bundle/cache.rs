//! First starts that are interrupted, and files that change afterwards: no start runs anything else than what was packed.

use std::{
    fs::{self, File, FileTimes},
    io::{self, ErrorKind},
    os::unix::{
        fs::{FileExt, PermissionsExt, symlink},
        process::ExitStatusExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::SystemTime,
};

use binplz_launcher::{cache::ALL_LOOKED_AT, manifest::Kind, read::Bundle, trim::Trim};
use binplz_tests::server::write_program;

use crate::fixture::{DATA, FIXTURE, HERE, OTHER, PLUGIN, TOOLS, about, bundle, open_to_all, scratch, tool};

const HELLO: &str = "hello from /nix/store/11111111111111111111111111111111-tools-1.0/bin/probe\n";

fn start(bundle: &Path, cache: &Path) -> Command {
    let mut command = Command::new(bundle);
    command.arg("hello").env("XDG_CACHE_HOME", cache);
    command
}

/// Runs a file that this test has just written. A process that another test starts may hold it open until it has become a program.
pub(crate) fn run(command: &mut Command) -> io::Result<Output> {
    loop {
        match command.output() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => thread::yield_now(),
            done => return done,
        }
    }
}

fn assert_hello(out: &Output) {
    assert_eq!((String::from_utf8_lossy(&out.stdout), out.status.code()), (HELLO.into(), Some(0)), "{out:?}");
}

/// The bundle's directory in a cache, and that it is the only one.
fn unpacked(cache: &Path) -> PathBuf {
    let name = Bundle::open(File::open(bundle()).expect("the bundle")).expect("a bundle").name();
    let names = fs::read_dir(cache.join("binplz")).expect("the cache").map(|one| one.expect("one").file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().expect("text")).collect();
    names.sort();
    assert_eq!(names, [name.clone(), format!("{name}.lock")]);
    cache.join("binplz").join(name)
}

#[test]
fn a_first_start_that_is_killed_anywhere_is_made_up_for_by_the_next() {
    // Every kind of step: directories, files, their content, links, the stamp, the two renames; the last ones come after all files.
    let points = [
        ("mkdir", 1),
        ("mkdir", 4),
        ("open", 12),
        ("openat", 20),
        ("write", 3),
        ("write", 200),
        ("symlink", 1),
        ("link", 20),
        ("utimensat", 5),
        ("rename", 1),
        ("rename", 2),
        ("flock", 1),
        ("unshare", 1),
        ("mount", 1),
        ("execve", 2),
    ];
    let dir = scratch();
    let mut killed = 0;
    for (number, (call, nth)) in points.into_iter().enumerate() {
        let cache = dir.path().join(number.to_string());
        let mut strace = Command::new("strace");
        strace
            .args(["-o", "/dev/null", "-e"])
            .arg(format!("inject=?{call},?{call}at,?{call}at2:signal=KILL:when={nth}"));
        let out = strace.arg(bundle()).arg("hello").env("XDG_CACHE_HOME", &cache).output().expect("strace runs");
        if out.status.signal() == Some(9) {
            killed += 1;
        } else {
            assert_hello(&out);
        }
        assert_hello(&start(bundle(), &cache).output().expect("it runs"));
        unpacked(&cache);
    }
    assert!(killed >= 10, "only {killed} of the points were reached");
}

#[test]
fn ten_first_starts_at_once_unpack_once() {
    let dir = scratch();
    let starts: Vec<_> = (0..10)
        .map(|_| start(bundle(), dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs"))
        .collect();
    for start in starts {
        assert_hello(&start.wait_with_output().expect("it ends"));
    }
    let dir = unpacked(dir.path());
    // Once: a second time would have begun with another directory.
    assert_eq!(fs::read_dir(dir).expect("a directory").count(), 3, "store, root, stamp");
}

#[test]
fn on_a_full_disk_one_sentence_says_so_and_nothing_stays() {
    let dir = scratch();
    let script = "mount -t tmpfs -o size=8m none \"$1\" && XDG_CACHE_HOME=$1 \"$2\"; echo $?; ls \"$1/binplz\"; mount -o remount,size=99m \"$1\"; XDG_CACHE_HOME=$1 \"$2\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(dir.path()).arg(bundle());
    let out = command.output().expect("it runs");
    let (said, error) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(error.lines().count() == 1 && error.contains("No space left on device"), "{error}");
    let lines: Vec<_> = said.lines().collect();
    assert!(lines.len() == 3 && lines[0] == "125" && lines[1].ends_with(".lock") && said.ends_with(HELLO), "{said}");
}

#[test]
fn a_read_only_cache_serves_what_it_has_and_is_not_trusted_with_less() {
    let dir = scratch();
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && XDG_CACHE_HOME=$1 exec \"$2\" hello";
    let read_only = || {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(dir.path()).arg(bundle());
        command.output().expect("it runs")
    };
    assert_hello(&start(bundle(), dir.path()).output().expect("it runs"));
    assert_hello(&read_only());
    fs::remove_file(unpacked(dir.path()).join("stamp")).expect("a stamp");
    assert_hello(&read_only());
    flip(&unpacked(dir.path()).join("store").join(TOOLS).join("bin/probe"), 100);
    let out = read_only();
    assert!(out.status.code() == Some(125) && String::from_utf8_lossy(&out.stderr).contains("Read-only"), "{out:?}");
}

/// Changes a byte, and leaves what `ls` shows as it was.
fn flip(path: &Path, at: u64) {
    let modified = fs::metadata(path).expect("a file").modified().expect("a time");
    let mode = fs::metadata(path).expect("a file").permissions();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("a mode");
    let file = File::options().read(true).write(true).open(path).expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], at).expect("a byte");
    file.set_times(FileTimes::new().set_modified(modified)).expect("a time");
    fs::set_permissions(path, mode).expect("a mode");
}

#[test]
fn what_has_changed_in_the_cache_is_unpacked_again_before_anything_runs() {
    let dir = scratch();
    let first = start(bundle(), dir.path()).output().expect("it runs");
    assert_hello(&first);
    type Change = fn(&Path);
    let changes: &[(&str, Change)] = &[
        ("a program", |store| flip(&store.join(TOOLS).join("bin/probe"), 5000)),
        ("data", |store| flip(&store.join(DATA).join("large"), 16 << 20)),
        ("a removed file", |store| fs::remove_file(store.join(DATA).join("certs/ca.crt")).expect("a file")),
        ("an added file", |store| fs::write(store.join(DATA).join("certs/more.crt"), "x").expect("a file")),
        ("an added store path", |store| fs::write(store.join("more"), "x").expect("a file")),
        ("a link", |store| {
            fs::remove_file(store.join(TOOLS).join("bin/sibling")).expect("a link");
            symlink("/bin/sh", store.join(TOOLS).join("bin/sibling")).expect("a link");
        }),
        ("a mode", |store| {
            fs::set_permissions(store.join(TOOLS).join("bin/probe"), fs::Permissions::from_mode(0o4755))
                .expect("a mode");
        }),
        ("a time", |store| {
            let file = File::open(store.join(DATA).join("certs/ca.crt")).expect("a file");
            file.set_times(FileTimes::new().set_modified(SystemTime::now())).expect("a time");
        }),
        ("a file in the place of a link", |store| {
            fs::remove_file(store.join(TOOLS).join("bin/sibling")).expect("a link");
            fs::copy("/bin/sh", store.join(TOOLS).join("bin/sibling")).expect("a file");
        }),
    ];
    // A new directory does not have it.
    let mark = |dir: &Path| dir.join("mark");
    for (what, change) in changes {
        let unpacked_before = unpacked(dir.path());
        fs::write(mark(&unpacked_before), "").expect("a mark");
        change(&unpacked_before.join("store"));
        // Beside the store paths, nothing is looked at by each start: a new run of the machine, or the option, looks at all.
        if *what == "an added store path" {
            fs::remove_file(unpacked_before.join("stamp")).expect("a stamp");
        }
        let verified = Command::new(bundle()).arg("--binplz-verify").env("XDG_CACHE_HOME", dir.path()).output();
        assert_eq!(verified.expect("it runs").status.code(), Some(125), "{what}");
        assert_hello(&start(bundle(), dir.path()).output().expect("it runs"));
        assert!(!mark(&unpacked(dir.path())).exists(), "{what} was not found");
        let verified = Command::new(bundle()).arg("--binplz-verify").env("XDG_CACHE_HOME", dir.path()).output();
        assert!(verified.expect("it runs").status.success(), "{what}");
    }
    // A touched file that is as it was is only read.
    let before = unpacked(dir.path());
    fs::remove_file(before.join("stamp")).expect("a stamp");
    fs::write(mark(&before), "").expect("a mark");
    assert_hello(&start(bundle(), dir.path()).output().expect("it runs"));
    assert!(mark(&before).exists() && before.join("stamp").exists());
}

#[test]
fn of_very_many_files_a_start_looks_at_programs_libraries_and_names_and_verifying_looks_at_all() {
    let dir = scratch();
    let (many, bundle, cache) = (dir.path().join(OTHER), dir.path().join("tools"), dir.path().join("cache"));
    fs::create_dir(&many).expect("a directory");
    for n in 0..ALL_LOOKED_AT {
        fs::write(many.join(n.to_string()), n.to_string()).expect("a file");
    }
    FIXTURE.pack_with(vec![many], HERE, &about(HERE), Trim::Usual, &|| true, &bundle).expect("a bundle");
    let name = Bundle::open(File::open(&bundle).expect("the bundle")).expect("a bundle").name();
    let (unpacked, mark) = (cache.join("binplz").join(&name), cache.join("binplz").join(name).join("mark"));
    // Whether the next start unpacks again.
    let found = |change: &dyn Fn(&Path)| {
        assert_hello(&run(&mut start(&bundle, &cache)).expect("it runs"));
        fs::write(&mark, "").expect("a mark");
        change(&unpacked);
        assert_hello(&run(&mut start(&bundle, &cache)).expect("it runs"));
        !mark.exists()
    };
    let data = Path::new("store").join(OTHER);
    assert!(!found(&|_| {}));
    assert!(found(&|at| flip(&at.join("store").join(TOOLS).join("bin/probe"), 5000)), "a program");
    assert!(found(&|at| flip(&at.join("store").join(PLUGIN).join("lib/plugin.so"), 5000)), "a library");
    assert!(found(&|at| fs::remove_file(at.join(&data).join("7")).expect("a file")), "a removed file");
    assert!(found(&|at| fs::write(at.join(&data).join("more"), "").expect("a file")), "an added file");
    let replace = |at: &Path| fs::rename(at.join("stamp"), at.join(&data).join("7")).expect("a file");
    assert!(found(&replace), "a replaced file");
    // What is written into a file of data is found by reading all: when asked for, and after a boot, which has another stamp.
    assert!(!found(&|at| flip(&at.join(&data).join("7"), 0)));
    let verified = Command::new(&bundle).arg("--binplz-verify").env("XDG_CACHE_HOME", &cache).status();
    assert_eq!(verified.expect("it runs").code(), Some(125));
    assert!(found(&|at| fs::remove_file(at.join("stamp")).expect("a stamp")));
}

#[test]
fn clean_removes_all_that_was_unpacked() {
    let dir = scratch();
    assert_hello(&start(bundle(), dir.path()).output().expect("it runs"));
    let clean =
        Command::new(bundle()).arg("--binplz-clean").env("XDG_CACHE_HOME", dir.path()).output().expect("it runs");
    assert!(clean.status.success(), "{clean:?}");
    assert_eq!(fs::read_dir(dir.path().join("binplz")).expect("the cache").count(), 0);
}

#[test]
fn a_cache_that_another_user_can_write_to_is_not_used() {
    let user = |home: &Path, user: &str| {
        let mut command = Command::new(tool("inside"));
        command.args(["/", user]).arg(bundle()).arg("--binplz-info").env_clear().env("HOME", home);
        String::from_utf8(command.output().expect("it runs").stdout).expect("text")
    };
    let own = scratch();
    let home = own.path().join("home");
    fs::create_dir(&home).expect("a directory");
    std::os::unix::fs::chown(&home, Some(1234), Some(1234)).expect("an owner");
    let in_home = format!("cache     {}/.cache/binplz/", home.display());
    assert!(user(&home, "1234").contains(&in_home));
    // Root with a user's HOME, as sudo may have it; and another user.
    for other in ["0", "4321"] {
        let said = user(&home, other);
        assert!(said.contains(&format!("cache     /tmp/binplz-{other}/")), "{said}");
        let _ = fs::remove_dir(format!("/tmp/binplz-{other}"));
    }
    // One that is open to all, and a link to it.
    open_to_all(&home.join(".cache/binplz"));
    assert!(!user(&home, "1234").contains(&in_home));
    // The directory of all users: one that another user has made before, in each way.
    let shared = PathBuf::from("/tmp/binplz-1234");
    let _ = fs::remove_dir(&shared);
    symlink(own.path(), &shared).expect("a link");
    let out = Command::new(tool("inside")).args(["/", "1234"]).arg(bundle()).env_clear().output().expect("it runs");
    fs::remove_file(&shared).expect("a link");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(125) && said.contains("Set XDG_CACHE_HOME"), "{out:?}");
    fs::create_dir(&shared).expect("a directory");
    let out = Command::new(tool("inside")).args(["/", "1234"]).arg(bundle()).env_clear().output().expect("it runs");
    fs::remove_dir(&shared).expect("a directory");
    assert!(out.status.code() == Some(125) && String::from_utf8_lossy(&out.stderr).contains("another user"), "{out:?}");
}

/// Where the parts of the bundle's file begin and end.
fn boundaries(file: &[u8]) -> Vec<(&'static str, usize)> {
    let bundle = Bundle::open(File::open(bundle()).expect("the bundle")).expect("a bundle");
    let magic = file.windows(16).rposition(|part| part == b"binplz-bundle-1\n").expect("a footer");
    let manifest = magic - u32::from_le_bytes(file[magic + 16..magic + 20].try_into().expect("4 bytes")) as usize;
    let frames: Vec<usize> = bundle.manifest.frames.iter().map(|frame| frame.packed as usize).collect();
    assert!(frames.len() >= 2 && bundle.manifest.entries.iter().any(|entry| matches!(entry.kind, Kind::Same(_))));
    let begin = manifest - frames.iter().sum::<usize>();
    let table = u64::from_le_bytes(file[40..48].try_into().expect("8 bytes")) as usize;
    vec![
        ("the header", 0),
        ("the launcher", 64),
        ("the first frame", begin),
        ("the second frame", begin + frames[0]),
        ("the manifest", manifest),
        ("the footer", magic),
        ("the names", magic + 56),
        ("the table", table),
        ("the end", file.len()),
    ]
}

#[test]
fn a_file_that_is_cut_at_any_boundary_says_so_and_runs_nothing() {
    let dir = scratch();
    let (cache, cut) = (dir.path().join("cache"), dir.path().join("cut"));
    let file = fs::read(bundle()).expect("the bundle");
    for (what, at) in &boundaries(&file)[2..] {
        for length in [at - 1, *at, at + 1] {
            if length >= file.len() {
                continue;
            }
            write_program(&cut, &file[..length]);
            let out = run(&mut start(&cut, &cache)).expect("it runs");
            let said = String::from_utf8_lossy(&out.stderr);
            assert!(
                out.status.code() == Some(125) && said == "cut: this file is cut off: download it again\n",
                "{what}: {out:?}"
            );
        }
    }
    assert!(!cache.exists());
}

#[test]
fn a_flipped_byte_in_any_part_of_the_file_is_found_before_anything_runs() {
    let dir = scratch();
    let (cache, flipped) = (dir.path().join("cache"), dir.path().join("flipped"));
    let file = fs::read(bundle()).expect("the bundle");
    let all = boundaries(&file);
    for part in all.windows(2) {
        let ((what, from), (_, to)) = (part[0], part[1]);
        for at in (0..8).map(|n| from + (to - from - 1) * n / 7) {
            fs::copy(bundle(), &flipped).expect("a copy");
            flip(&flipped, at as u64);
            // One in the launcher may keep the system from starting it.
            let Ok(out) = run(&mut start(&flipped, &cache)) else { continue };
            let ran = String::from_utf8_lossy(&out.stdout) == HELLO;
            if ["the header", "the launcher", "the names", "the table"].contains(&what) {
                // Much of these is never used: then it runs what it should. What is loaded is compared with its hash.
                assert!(ran || out.stdout.is_empty(), "{what} {at}: {out:?}");
                assert!(!ran || what != "the launcher" || !loaded(&file, at), "{what} {at}: {out:?}");
            } else {
                assert!(!ran && out.status.code() == Some(125), "{what} {at}: {out:?}");
            }
            if ran {
                fs::remove_dir_all(&cache).expect("the cache");
            }
        }
    }
}

/// Whether a byte of the file is part of a segment that is loaded.
fn loaded(file: &[u8], at: usize) -> bool {
    let u64_at = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().expect("8 bytes")) as usize;
    let count = u16::from_le_bytes(file[56..58].try_into().expect("2 bytes"));
    (0..usize::from(count)).map(|n| u64_at(32) + n * 56).any(|segment| {
        let (offset, size) = (u64_at(segment + 8), u64_at(segment + 32));
        file[segment..segment + 4] == [1, 0, 0, 0] && (offset..offset + size).contains(&at)
    })
}

#[test]
fn strip_leaves_a_bundle_that_runs_and_verifies() {
    let dir = scratch();
    let stripped = dir.path().join("stripped");
    let strip = Command::new("strip").arg("-o").arg(&stripped).arg(bundle()).output().expect("strip runs");
    assert!(strip.status.success(), "{strip:?}");
    assert_hello(&start(&stripped, dir.path()).output().expect("it runs"));
    let verified = Command::new(&stripped).arg("--binplz-verify").env("XDG_CACHE_HOME", dir.path()).output();
    assert!(verified.expect("it runs").status.success());
    unpacked(dir.path());
}
