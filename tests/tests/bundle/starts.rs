//! What programs of a bundle see, on this machine and in bare roots.

use std::{
    fs,
    io::Write,
    os::unix::{fs::symlink, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use binplz_launcher::cache::ALL_LOOKED_AT;
use binplz_tests::server::repository;
use tempfile::TempDir;

use crate::fixture::{DATA, FIXTURE, OTHER, PLUGIN, TOOLS, bundle, open_to_all, pack_about, scratch, tool};

/// A place to run bundles: a root, with the bundle as `/tools`, or this machine.
pub(crate) struct Place {
    dir: TempDir,
    /// The root directory, or `/`.
    root: PathBuf,
    /// The bundle's path in it.
    bundle: PathBuf,
}

impl Place {
    pub(crate) fn here() -> Self {
        let dir = scratch();
        Self { dir, root: "/".into(), bundle: bundle().to_owned() }
    }

    /// A root with nothing but the bundle and the usual directories.
    pub(crate) fn bare() -> Self {
        let dir = scratch();
        for name in ["proc", "dev", "tmp", "etc"] {
            fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        open_to_all(&dir.path().join("tmp"));
        fs::write(dir.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").expect("a file");
        fs::copy(bundle(), dir.path().join("tools")).expect("a copy");
        fs::copy(tool("probe"), dir.path().join("probe")).expect("a copy");
        Self { root: dir.path().to_owned(), dir, bundle: "/tools".into() }
    }

    /// A bare root with a Nix store of its own.
    fn with_store() -> Self {
        let place = Self::bare();
        let other = place.root.join("nix/store").join(OTHER);
        fs::create_dir_all(&other).expect("a directory");
        fs::write(other.join("file"), "of the machine").expect("a file");
        place
    }

    /// A bare root with programs of musl.
    fn musl() -> Self {
        let place = Self::bare();
        fs::create_dir(place.root.join("lib")).expect("a directory");
        fs::copy("/usr/lib/x86_64-linux-musl/libc.so", place.root.join("lib/ld-musl-x86_64.so.1")).expect("musl");
        place
    }

    /// The root of another release of Debian, with its C library and its curl; none, where that was never fetched and cannot be.
    fn debian(suite: &str) -> Option<Self> {
        let from = repository().join("tests/client");
        let found = Command::new(from).args([suite, "curl", "/usr/bin/curl"]).output().expect("a script");
        if !found.status.success() {
            eprintln!("without {suite}: {}", String::from_utf8_lossy(&found.stderr));
            return None;
        }
        let run = PathBuf::from(String::from_utf8(found.stdout).expect("a path").trim());
        let place = Self::bare();
        let copied = Command::new("cp").arg("-aT").arg(run.with_file_name("root")).arg(&place.root).status();
        assert!(copied.expect("cp").success());
        Some(place)
    }

    /// The cache of a user.
    pub(crate) fn cache(&self, user: &str) -> PathBuf {
        if self.root == Path::new("/") { self.dir.path().join(user) } else { Path::new("/tmp").join(user) }
    }

    /// The program `path` in this place, as a user, with a cache of the user's own.
    fn run(&self, user: &str, path: &Path) -> Command {
        let mut command = Command::new(tool("inside"));
        command
            .arg(&self.root)
            .arg(user)
            .arg(path)
            .env_clear()
            .env("XDG_CACHE_HOME", self.cache(user))
            .env("LOCALE_ARCHIVE", "none");
        command
    }

    pub(crate) fn bundle(&self, user: &str) -> Command {
        self.run(user, &self.bundle)
    }
}

/// The output of a run that has to succeed.
fn said(command: &mut Command) -> String {
    let out = command.output().expect("it starts");
    assert!(out.status.success(), "{command:?}: {} {}", out.status, String::from_utf8_lossy(&out.stderr));
    assert_eq!(String::from_utf8_lossy(&out.stderr), "", "{command:?}");
    String::from_utf8(out.stdout).expect("text")
}

#[test]
fn every_kind_of_program_runs_in_every_root_as_root_and_as_a_user() {
    let debian = Place::debian("bullseye");
    for place in [Place::here(), Place::bare(), Place::with_store(), Place::musl()].into_iter().chain(debian) {
        for user in ["0", "1234"] {
            let run = |program: &str, arguments: &[&str]| {
                let mut command = place.bundle(user);
                said(command.args(["--binplz-run", program]).args(arguments))
            };
            let probe = |arguments: &[&str]| said(place.bundle(user).args(arguments));
            assert_eq!(probe(&["hello"]), format!("hello from /nix/store/{TOOLS}/bin/probe\n"));
            assert_eq!(run("probe17", &[]), format!("hello from /nix/store/{TOOLS}/bin/probe17\n"));
            assert_eq!(probe(&["sibling"]), "hello from sibling\n");
            assert_eq!(probe(&["plugin"]), "a plugin\n");
            assert_eq!(run("script", &[]), format!("#!/nix/store/{TOOLS}/bin/probe print\na script\n"));
            assert_eq!(run("wrapper", &["variable", "WRAPPED"]), "yes\n");
            assert_eq!(probe(&["print", &format!("/nix/store/{DATA}/terminfo/x/xterm")]), "a terminal");
            assert_eq!(probe(&["print", &format!("/nix/store/{DATA}/certs/ca.crt")]), "a certificate");
            let passwd = probe(&["print", &format!("/nix/store/{DATA}/passwd")]);
            assert!(passwd.starts_with("root:"), "{passwd}");
            let list = probe(&["list", "/nix/store"]);
            assert!([TOOLS, PLUGIN, DATA].iter().all(|path| list.contains(path)), "{list}");
            let written =
                place.bundle(user).args(["write", &format!("/nix/store/{DATA}/new")]).output().expect("it runs");
            assert!(String::from_utf8_lossy(&written.stderr).contains("Read-only"), "{written:?}");
            // A program of the root, with the root's own C library, started by one of the bundle.
            if place.root.join("usr/bin/curl").exists() {
                assert!(probe(&["run", "/usr/bin/curl", "--version"]).starts_with("curl "));
            }
        }
    }
}

#[test]
fn a_program_has_the_arguments_streams_ids_limits_and_signals_that_it_has_without_a_bundle() {
    for place in [Place::here(), Place::bare()] {
        let probe = if place.root == Path::new("/") { tool("probe").to_owned() } else { "/probe".into() };
        for user in ["0", "1234"] {
            let state = |path: &Path| {
                let mut command = place.run(user, path);
                command.args(["state", "", "two words", "--binplz-info", "\u{e9}\n"]).env("ONE", "1");
                command.env("PATH", "/bin").current_dir(place.dir.path());
                said(&mut command)
            };
            // The caller is one and the same: the test.
            assert_eq!(state(&place.bundle), state(&probe), "{} {user}", place.root.display());
            let status = |arguments: &[&str]| place.bundle(user).args(arguments).status().expect("it runs");
            assert_eq!(status(&["exit", "0"]).code(), Some(0));
            assert_eq!(status(&["exit", "77"]).code(), Some(77));
            assert_eq!(status(&["die", "15"]).signal(), Some(15));
            assert_eq!(status(&["die", "13"]).signal(), Some(13));
            let mut copy =
                place.bundle(user).arg("copy").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
            let bytes = vec![b'x'; 300_000];
            let mut input = copy.stdin.take().expect("its input");
            let writer = thread::spawn({
                let bytes = bytes.clone();
                move || input.write_all(&bytes)
            });
            assert!(copy.wait_with_output().expect("it ends").stdout == bytes);
            writer.join().expect("a thread").expect("a pipe");
        }
    }
}

#[test]
fn the_working_directory_stays_even_if_it_was_removed() {
    let dir = scratch();
    let gone = dir.path().join("gone");
    fs::create_dir(&gone).expect("a directory");
    let script = format!("cd {} && rmdir . 2>/dev/null || rmdir {}; exec \"$@\"", gone.display(), gone.display());
    // Without /nix there is another root.
    for place in [Place::here(), Place::bare()] {
        if place.root == Path::new("/") {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", &script, "sh"]).arg(&place.bundle).arg("state").env("XDG_CACHE_HOME", dir.path());
            assert!(said(&mut shell).contains("directory No such file or directory"), "{shell:?}");
            fs::create_dir(&gone).expect("a directory");
        }
        for inner in ["/tmp", "/", "/proc/self"] {
            let mut command = place.bundle("1234");
            // The helper leaves for another root.
            if place.root == Path::new("/") {
                command.current_dir(inner);
            }
            let said = said(command.arg("state"));
            let expected = if place.root == Path::new("/") && inner != "/proc/self" { inner } else { "/" };
            assert!(inner == "/proc/self" || said.contains(&format!("directory {expected}\n")), "{said}");
        }
    }
}

#[test]
fn a_store_of_the_machine_stays_visible_and_is_not_changed() {
    let place = Place::with_store();
    for user in ["0", "1234"] {
        assert_eq!(said(place.bundle(user).args(["print", &format!("/nix/store/{OTHER}/file")])), "of the machine");
    }
    let names: Vec<_> = fs::read_dir(place.root.join("nix/store"))
        .expect("the store")
        .map(|one| one.expect("one").file_name())
        .collect();
    assert_eq!(names, [OTHER]);
    let top = |root: &Path| fs::read_dir(root).expect("the root").count();
    assert_eq!(top(&place.root), 7, "nothing is left in the root");
}

#[test]
fn a_cache_whose_file_system_is_mounted_noexec_does() {
    for place in [Place::bare(), Place::with_store()] {
        for user in ["0", "1234"] {
            let run = place.bundle(user);
            let mut shell = Command::new("unshare");
            let script = "mount -t tmpfs -o noexec,nosuid,nodev,mode=1777 none \"$1\" && shift && exec \"$@\"";
            shell.args(["--mount", "sh", "-c", script, "sh"]).arg(place.root.join("tmp")).arg(run.get_program());
            shell.args(run.get_args()).arg("sibling").env("XDG_CACHE_HOME", "/tmp/cache");
            assert_eq!(said(&mut shell), "hello from sibling\n");
        }
    }
}

#[test]
fn a_bundle_starts_bundles_which_see_the_stores_of_all() {
    // Each one has another identity, and all have the same store paths.
    let dir = scratch();
    let bundles: Vec<PathBuf> = (0..5)
        .map(|n| {
            let path = dir.path().join(format!("bundle{n}"));
            pack_about(&format!("number {n}"), &path);
            path
        })
        .collect();
    for user in ["0", "1234"] {
        let mut command = Command::new(tool("inside"));
        command.args(["/", user]).arg(&bundles[0]).env_clear().env("XDG_CACHE_HOME", dir.path().join(user));
        for bundle in bundles[1..].iter().chain(&bundles[..1]) {
            command.arg("run").arg(bundle);
        }
        assert_eq!(said(command.arg("hello")), format!("hello from /nix/store/{TOOLS}/bin/probe\n"));
    }
}

#[test]
fn the_name_that_it_is_started_by_selects_a_program() {
    let dir = scratch();
    for (name, program) in [("probe42", "probe42"), ("script", "script"), ("else", "probe")] {
        let link = dir.path().join(name);
        symlink(bundle(), &link).expect("a link");
        let out = said(Command::new(&link).env("XDG_CACHE_HOME", dir.path()));
        assert!(
            out.contains(&format!("/bin/{program}\n")) || (program == "script" && out.contains("a script")),
            "{out}"
        );
    }
    let unknown = Command::new(bundle()).args(["--binplz-run", "none"]).output().expect("it runs");
    assert_eq!(unknown.status.code(), Some(125));
    assert_eq!(String::from_utf8_lossy(&unknown.stderr), "tools: the bundle has no program none: see --binplz-info\n");
    let unknown = Command::new(bundle()).arg("--binplz-none").output().expect("it runs");
    assert!(
        unknown.status.code() == Some(125) && String::from_utf8_lossy(&unknown.stderr).contains("--binplz-extract DIR")
    );
}

#[test]
fn info_says_what_it_is_and_what_a_namespace_does_not_keep() {
    let place = Place::here();
    let info = said(place.bundle("1234").arg("--binplz-info"));
    let looked_at = format!("more than {ALL_LOOKED_AT} files");
    for text in [
        &looked_at,
        "package   tools\n",
        "licence   MIT\n",
        "(not unpacked yet)",
        "script",
        "probe49",
        "(by default probe)",
        "setuid",
    ] {
        assert!(info.contains(text), "{text} is not in {info}");
    }
    assert!(
        fs::read_dir(place.dir.path().join("1234/binplz")).is_ok_and(|mut files| files.next().is_none()),
        "only the directory"
    );
}

#[test]
fn without_namespaces_one_sentence_names_the_setting_and_an_extracted_copy_runs() {
    let place = Place::here();
    let out = place.bundle("none").arg("hello").output().expect("it runs");
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!((out.status.code(), text.lines().count()), (Some(125), 1), "{text}");
    for part in ["tools: ", "sysctl user.max_user_namespaces=", "--binplz-extract", "static program"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let short = tempfile::Builder::new().prefix("").rand_bytes(3).tempdir_in("/tmp").expect("a directory");
    fs::remove_dir(short.path()).expect("an empty directory");
    let said = |command: &mut Command| String::from_utf8(command.output().expect("it runs").stdout).expect("text");
    let text = said(place.bundle("none").arg("--binplz-extract").arg(short.path()));
    assert!(text.contains("run there"), "{text}");
    let probe = short.path().join("bin/probe");
    let run = |arguments: &[&str]| said(place.run("none", &probe).args(arguments));
    assert_eq!(run(&["plugin"]), "a plugin\n");
    assert_eq!(run(&["sibling"]), "hello from sibling\n");
    assert!(said(&mut place.run("none", &short.path().join("bin/script"))).ends_with("a script\n"));
    let large = |store: &Path| fs::read(store.join(DATA).join("large")).expect("a file");
    assert!(large(short.path()) == large(&FIXTURE.store()));
    // It is never written over.
    let again = place.bundle("none").arg("--binplz-extract").arg(short.path()).output().expect("it runs");
    assert_eq!(again.status.code(), Some(125));

    let long = place.dir.path().join("extracted");
    let text = said(Command::new(bundle()).arg("--binplz-extract").arg(&long));
    assert!(text.contains("ten characters"), "{text}");
    let diff = Command::new("diff")
        .args(["-r", "--no-dereference", "-x", "man", "-x", "share", "-x", "bin"])
        .arg(&long)
        .arg(FIXTURE.store())
        .output();
    let diff = diff.expect("diff runs");
    assert_eq!(String::from_utf8_lossy(&diff.stdout).replace("Only in", ""), "", "{diff:?}");
}

#[test]
fn in_a_chroot_root_runs_a_bundle_whose_mounts_show_nowhere_else_and_a_user_gets_the_sentence() {
    let place = Place::bare();
    let chroot = |user: &str| {
        let mut command = Command::new("unshare");
        // Shared, as systemd mounts it: what the launcher mounts must not come out.
        let script = format!(
            "mount --make-rshared / && before=$(cat /proc/self/mounts) && \
             chroot --userspec={user}:{user} {} /tools \"$1\"; status=$?; \
             test \"$before\" = \"$(cat /proc/self/mounts)\" || echo more mounts >&2; exit $status",
            place.root.display()
        );
        command.args(["--mount", "sh", "-c", &script, "sh", "hello"]).env("XDG_CACHE_HOME", format!("/tmp/{user}"));
        command.output().expect("it runs")
    };
    let (root, user) = (chroot("0"), chroot("1234"));
    assert_eq!(String::from_utf8_lossy(&root.stdout), format!("hello from /nix/store/{TOOLS}/bin/probe\n"), "{root:?}");
    assert_eq!(String::from_utf8_lossy(&root.stderr), "");
    assert!(String::from_utf8_lossy(&user.stderr).contains("only root can do without it"), "{user:?}");
}
