//! Archives of packages of the demo set, from `curl` to what they unpack to.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use binplz_core::id::key::Sha256;
use binplz_tests::{
    http,
    server::{Server, demo_set, program, repository},
    site::wait_for,
};

use crate::{clients::client, packages::root};

/// A package, a program that its archive has, and how to run it so that it says who it is.
const PACKAGES: [(&str, &str, &[&str], &str); 10] = [
    ("bzip2", "bzcat", &["--help"], "1.0.8"),
    ("dash", "dash", &["-c", "echo hello from $((6 * 7))"], "hello from 42"),
    ("games.figlet", "figlet", &["-I", "1"], "20205"),
    ("gnugrep", "grep", &["--version"], "GNU grep"),
    ("hello", "hello", &[], "Hello, world!"),
    ("luaPackages.lua", "luac", &["-v"], "Lua 5.4.4"),
    ("lz4", "unlz4", &["--version"], "1.9.4"),
    ("nq", "nq", &["-?"], "usage: "),
    ("tree", "tree", &["--version"], "tree v2.1.0"),
    ("xxHash", "xxh64sum", &["--version"], "0.8.1"),
];

/// Every file and link below a directory: its mode, and its content or where it leads.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let (mut found, mut dirs) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(&at).expect("a directory") {
            let path = entry.expect("an entry").path();
            let about = path.symlink_metadata().expect("a file");
            let below = path.strip_prefix(dir).expect("below it").to_owned();
            if about.is_dir() {
                dirs.push(path);
            } else if about.is_symlink() {
                assert!(path.exists(), "{} leads nowhere", below.display());
                let to = fs::read_link(&path).expect("a link");
                assert!(to.is_relative(), "{} leads to {}", below.display(), to.display());
                found.insert(below, (0, to.to_string_lossy().into_owned().into_bytes()));
            } else {
                found.insert(below, (about.permissions().mode() & 0o777, fs::read(&path).expect("a file")));
            }
        }
    }
    found
}

fn sh(dir: &Path, command: &str) -> String {
    let ran = Command::new("bash").args(["-o", "pipefail", "-c", command]).current_dir(dir).output().expect("bash");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success() && said.is_empty(), "{command}: {said}");
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// Runs a line of shell in a root that has nothing of this machine, with that directory as the user's home.
const ENTER: &str = r#"
mount --bind "$2" "$1/root"
for dir in proc dev; do mount --rbind "/$dir" "$1/$dir"; done
exec env -i HOME=/root PATH=/root/.local/bin:/usr/bin:/bin:/usr/sbin:/sbin LC_ALL=C chroot "$1" /bin/sh -euc "$3""#;

/// As [`ENTER`]; returns what it prints.
fn enter(at: &Path, home: &Path, line: &str) -> String {
    let mut command = root("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-euc", ENTER, "sh"]).arg(at).arg(home).arg(line);
    let ran = command.output().expect("unshare");
    let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    assert!(ran.status.success(), "{line}: {said}");
    said
}

/// A Debian 12 with a reader of manual pages and a shell with completions, unless Debian's mirror is out of reach.
fn debian() -> Option<PathBuf> {
    let packages = ["bookworm", "ca-certificates", "curl", "man-db", "zsh"];
    let made = Command::new(repository().join("tests/root")).args(packages).output().expect("a script");
    let said = String::from_utf8_lossy(&[made.stderr, made.stdout].concat()).into_owned();
    if !made.status.success() {
        eprintln!("without a root of Debian: {said}");
    }
    made.status.success().then(|| PathBuf::from(said.lines().last().expect("a path")))
}

/// A root of a static busybox only.
fn busybox(dir: &Path) -> Option<PathBuf> {
    let run = client("bookworm", "busybox-static", "/bin/busybox")?;
    let made = dir.join("busybox");
    for name in ["bin", "proc", "dev", "root"] {
        fs::create_dir_all(made.join(name)).expect("a directory");
    }
    fs::copy(run.with_file_name("root").join("bin/busybox"), made.join("bin/busybox")).expect("busybox");
    symlink("busybox", made.join("bin/sh")).expect("a link");
    enter(&made, &made.join("root"), "/bin/busybox --install -s /bin");
    Some(made)
}

/// Prints each manual page of ~/.local: where `man` finds it by its name, and how many lines it shows.
const READ: &str = r#"
for page in ~/.local/share/man/man*/*; do
  [ -e "$page" ] || continue
  name=$(basename "$page" .gz)
  echo "$(man -w "${name##*.}" "${name%.*}") $(man "${name##*.}" "${name%.*}" | wc -l)"
done"#;

/// Prints what zsh completes the arguments of nq with.
const COMPLETE: &str =
    "zsh -fc 'fpath=(~/.local/share/zsh/site-functions $fpath); autoload -Uz compinit; compinit -u; echo $_comps[nq]'";

#[test]
fn archives_unpack_in_debian_12_and_busybox_roots_and_their_programs_manual_pages_completions_and_links_work() {
    let [data, roots] = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory"));
    let roots = [
        (debian(), "curl -fsSL URL | tar xz --strip 1 -C ~/.local", true),
        (busybox(roots.path()), "wget -q -O - URL | tar xz --strip-components 1 -C ~/.local", false),
    ];
    let server = Server::start(&demo_set(), data.path(), &[]);
    // A miss behaves like that of a program; all at once.
    for (package, ..) in PACKAGES {
        let missed = server.get(&format!("/-/archive/{package}"));
        assert!([202, 302].contains(&missed.status) && missed.text().starts_with("#!/bin/sh\n"), "{package}");
    }
    let (mut pages, mut links, mut completions) = (0, 0, 0);
    for (package, bin, arguments, says) in PACKAGES {
        let hit = server.settled(&format!("-/archive/{package}"));
        assert_eq!((hit.status, hit.header("x-binplz-package")), (302, Some(package)), "{}", hit.text());
        let archive = http::ask("GET", hit.header("location").expect("a location"), &[], b"").body;
        assert_eq!(hit.header("x-binplz-sha256"), Some(Sha256::of(&archive).as_str()));
        assert_eq!(hit.header("x-binplz-size"), Some(archive.len().to_string().as_str()));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let unpacked = ["gnu", "busybox"].map(|place| dir.path().join(place));
        for (place, tar) in unpacked.iter().zip(["tar", "busybox tar"]) {
            fs::create_dir(place).expect("a directory");
            let url = format!("{}/-/archive/{package}", server.origin());
            sh(place, &format!("curl -q -fsSL '{url}' | {tar} xz --strip 1"));
        }
        let files = tree(&unpacked[0]);
        assert_eq!(files, tree(&unpacked[1]), "{package}");
        // In a root with nothing else.
        let ran = root("chroot").arg(&unpacked[1]).arg(format!("/bin/{bin}")).args(arguments).output();
        let ran = ran.expect("chroot");
        let said = [ran.stdout, ran.stderr].concat();
        assert!(String::from_utf8_lossy(&said).contains(says), "{package}: {}", String::from_utf8_lossy(&said));
        for (root, unpack, reads) in &roots {
            let Some(root) = root else { continue };
            let home = tempfile::tempdir().expect("a temporary directory");
            let url = format!("{}/-/archive/{package}", server.origin());
            enter(root, home.path(), &format!("mkdir ~/.local; {}", unpack.replace("URL", &url)));
            assert_eq!(files, tree(&home.path().join(".local")), "{package}");
            let words: String = arguments.iter().map(|word| format!(" '{word}'")).collect();
            let said = enter(root, home.path(), &format!("~/.local/bin/{bin}{words} 2>&1 || :"));
            assert!(said.contains(says), "{package}: {said}");
            enter(root, home.path(), "for program in ~/.local/bin/*; do test -x \"$program\"; done");
            if !reads {
                continue;
            }
            for line in enter(root, home.path(), READ).lines() {
                let (page, lines) = line.rsplit_once(' ').expect("a page and its lines");
                assert!(page.starts_with("/root/.local/share/man/"), "{package}: {line}");
                assert!(lines.parse::<usize>().is_ok_and(|lines| lines > 10), "{package}: {line}");
                pages += 1;
            }
            if package == "nq" {
                assert_eq!(enter(root, home.path(), COMPLETE), "_nq\n");
            }
        }
        for (path, (mode, content)) in &files {
            assert!(path.starts_with("bin") || path.starts_with("share"), "{}", path.display());
            match mode {
                0 => links += 1,
                mode => assert_eq!(*mode == 0o755, path.starts_with("bin"), "{}: {mode:o}", path.display()),
            }
            assert!(!content.is_empty(), "{}", path.display());
            if path.starts_with("share/zsh/site-functions") {
                completions += 1;
                // By this line zsh knows what it completes.
                assert!(content.starts_with(format!("#compdef {bin}").as_bytes()), "{}", path.display());
            }
            if path.starts_with("share/man") && *mode != 0 {
                let text = sh(&unpacked[0], &format!("zcat -f '{}'", path.display()));
                assert!(text.contains(".TH") || text.contains(".Dt"), "{} is no manual page", path.display());
            }
        }
    }
    assert!(links >= 7 && completions == 1, "{links} links, {completions} completions");
    assert!(pages >= 7 || roots[0].0.is_none(), "{pages} manual pages");
}

#[test]
fn an_archive_is_the_same_when_it_is_built_again_and_what_has_none_says_so() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    let sha256 = |hit: &http::Answer| hit.header("x-binplz-sha256").map(str::to_owned);
    let first = server.settled("-/archive/xxHash");
    assert_eq!(first.status, 302, "{}", first.text());
    let lease = server.status("xxHash")["lease"].clone();
    let rebuilt = Command::new(program("binplz"))
        .args(["rebuild", "xxHash", "--data"])
        .arg(data.path())
        .output()
        .expect("binplz");
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    wait_for("another attempt", || {
        let status = server.status("xxHash");
        (status["state"] == "ready" && status["lease"] != lease).then_some(())
    });
    assert_eq!(sha256(&server.settled("-/archive/xxHash")), sha256(&first));
    for (path, status) in [("-/archive/nothing-here", 404), ("-/archive/x/y", 400)] {
        let answer = server.get(&format!("/{path}"));
        let settled = if answer.status == 202 { server.settled(path).status } else { answer.status };
        assert_eq!(settled, status, "{path}");
    }
}
