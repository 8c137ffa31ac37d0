//! Files of the data directory that are damaged, cut off or deleted, beside the real server: never wrong bytes with a good exit code, a
//! panic, or a silent new beginning.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use binplz_core::id::key::hex;
use binplz_tests::{
    http,
    random::Random,
    server::{Server, children, demo_set, fresh_set, kill_tree, program},
    site::{Site, wait_for},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn binplz(data: &Path, arguments: &[&str]) -> Output {
    Command::new(program("binplz")).args(arguments).arg("--data").arg(data).output().expect("binplz")
}

fn said(data: &Path, arguments: &[&str]) -> String {
    let output = binplz(data, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// All regular files below a directory, in order.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.symlink_metadata() {
            Ok(about) if about.is_dir() => found.extend(files(&path)),
            Ok(about) if about.is_file() => found.push(path),
            _ => {}
        }
    }
    found.sort();
    found
}

/// The manifests of a program's attempts.
fn manifests(data: &Path, program: &str) -> Vec<(PathBuf, Value)> {
    let found = files(&data.join("objects/builds")).into_iter().filter(|path| path.ends_with("manifest.json"));
    let read = found.map(|path| {
        let json = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
        (path, json)
    });
    let lists = |(_, manifest): &(PathBuf, Value)| sha256_in(manifest, program).is_some();
    read.filter(lists).collect()
}

fn sha256_in<'a>(manifest: &'a Value, program: &str) -> Option<&'a str> {
    let mut programs = manifest["programs"].as_array()?.iter();
    programs.find(|found| found["bin"] == program)?["sha256"].as_str()
}

/// The stored file of a program.
fn stored(data: &Path, program: &str) -> PathBuf {
    let manifests = manifests(data, program);
    let (_, manifest) = manifests.first().expect("it is stored");
    data.join("objects/blobs").join(sha256_in(manifest, program).expect("it is listed"))
}

/// Waits for one attempt more than these.
fn another(data: &Path, program: &str, than: &[(PathBuf, Value)]) {
    wait_for("another attempt", || (manifests(data, program).len() > than.len()).then_some(()))
}

fn flip(file: &Path, at: usize) {
    let mut content = fs::read(file).expect("a file");
    content[at] ^= 1;
    fs::write(file, content).expect("a file");
}

/// Waits for a target, and downloads it: what comes is what its answer says.
fn whole(site: &Site, target: &str) -> Vec<u8> {
    let hit = site.settled(target);
    assert_eq!(hit.status, 302, "{target}: {}", hit.text());
    let bytes = http::ask("GET", hit.header("location").expect("a location"), &[], b"");
    assert_eq!((bytes.status, hit.header("x-binplz-sha256")), (200, Some(hex(&Sha256::digest(&bytes.body)).as_str())));
    bytes.body
}

#[test]
fn a_damaged_or_missing_program_is_never_downloaded_and_is_built_again() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    let good = whole(&server, "hello");
    let damages: [&dyn Fn(&Path); 3] =
        [&|file| flip(file, 1000), &|file| fs::write(file, &good[..good.len() / 2]).expect("a file"), &|file| {
            fs::remove_file(file).expect("a file")
        }];
    for damage in damages {
        let url = server.get("/hello").header("location").expect("a hit").to_owned();
        let (file, before) = (stored(data.path(), "hello"), manifests(data.path(), "hello"));
        damage(&file);
        // Who has the URL already: not a byte of it, and what is saved instead fails when it is run.
        let late = http::ask("GET", &url, &[], b"");
        assert_eq!(late.status, 503, "{}", late.text());
        let mut shell = Command::new("sh").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sh");
        std::io::Write::write_all(&mut shell.stdin.take().expect("its input"), &late.body).expect("sh reads");
        let ran = shell.wait_with_output().expect("sh");
        assert!(!ran.status.success() && !ran.stderr.is_empty());
        assert_eq!(server.get("/hello").status, 202, "it is built again");
        assert_eq!(whole(&server, "hello"), good);
        another(data.path(), "hello", &before);
        assert_eq!(fs::read(file).expect("a file"), good, "the same content is the same file");
    }
}

#[test]
fn a_server_looks_through_its_store_by_itself() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::start(&demo_set(), data.path(), &[]);
    let good = whole(&server, "hello");
    server.kill();
    let (file, before) = (stored(data.path(), "hello"), manifests(data.path(), "hello"));
    flip(&file, good.len() - 1);
    server.restart();
    // It is not asked for.
    another(data.path(), "hello", &before);
    assert_eq!(fs::read(&file).expect("a file"), good);
    wait_for("its log line", || server.log().contains("is taken out of service").then_some(()));
}

#[test]
fn an_operator_verifies_and_rebuilds() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    let good = whole(&server, "hello");
    whole(&server, "tree");
    assert!(said(data.path(), &["verify", "--all"]).starts_with("2 builds compared"));
    assert!(said(data.path(), &["verify", "tree"]).starts_with("1 builds compared"));
    let file = stored(data.path(), "hello");
    flip(&file, 7);
    let found = binplz(data.path(), &["verify", "hello"]);
    let text = String::from_utf8_lossy(&found.stdout);
    let name = format!("/blob/{}", file.file_name().expect("a name").display());
    assert!(!found.status.success() && text.contains(&name) && text.contains("it is being built again"), "{text}");
    assert_eq!(whole(&server, "hello"), good);
    said(data.path(), &["verify", "--all", "--json"]);
    // Anew, without damage; what is there is served until then.
    let before = manifests(data.path(), "tree");
    said(data.path(), &["rebuild", "tree"]);
    assert_eq!(server.get("/tree").status, 302);
    another(data.path(), "tree", &before);
    wait_for("its end", || (server.status("tree")["state"] == "ready").then_some(()));
    whole(&server, "tree");
}

/// What `binplz serve` says where it does not come to serving.
fn refusal(data: &Path) -> String {
    let mut command = Command::new(program("binplz"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--nixpkgs"]).arg(demo_set()).arg("--data").arg(data);
    let output = command.stdin(Stdio::null()).output().expect("binplz");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && !said.contains("panicked"), "{said}");
    said
}

#[test]
fn a_lost_or_damaged_ledger_is_told_and_restored_from_a_backup_and_from_what_is_stored() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    let backup = backup.to_str().expect("a path");
    let mut server = Server::start(&demo_set(), &data, &[]);
    let good = whole(&server, "hello");
    said(&data, &["takedown", "tree", "--why", "of a letter", "--yes"]);
    // While it runs; what comes after is found in the store.
    assert!(said(&data, &["backup", backup]).contains(" rows, "));
    let late = whole(&server, "dash");
    assert!(!binplz(&data, &["restore", backup, "--yes"]).status.success(), "the server runs");
    server.kill();
    let ledger = data.join("ledger.redb");
    fs::write(&ledger, "").expect("a file");
    let empty = refusal(&data);
    fs::remove_file(&ledger).expect("a file");
    let missing = refusal(&data);
    fs::write(&ledger, "no database".repeat(1000)).expect("a file");
    let damaged = refusal(&data);
    for (said, what) in [(empty, "is empty"), (missing, "is missing"), (damaged, "is damaged")] {
        assert!(said.contains("ledger.redb") && said.contains(what), "{said}");
        assert!(said.contains("binplz restore FILE --data"), "{said}");
    }
    let restored = said(&data, &["restore", backup, "--yes"]);
    assert!(restored.contains("1 builds found in the store"), "{restored}");
    server.restart();
    let stored = files(&data.join("objects/builds")).len();
    assert_eq!((whole(&server, "hello"), whole(&server, "dash")), (good.clone(), late.clone()));
    assert_eq!(server.get("/tree").status, 451);
    assert_eq!(files(&data.join("objects/builds")).len(), stored, "nothing was built again");
    // The same of a server that is stopped; and without any backup.
    server.kill();
    said(&data, &["backup", backup]);
    fs::remove_file(&ledger).expect("a file");
    let restored = said(&data, &["restore"]);
    assert!(restored.contains("0 rows restored, and 2 builds found in the store"), "{restored}");
    server.restart();
    assert_eq!((whole(&server, "hello"), whole(&server, "dash")), (good, late));
    assert_eq!(files(&data.join("objects/builds")).len(), stored, "nothing was built again");
}

/// A server of one's own that may refuse to start.
struct Trial {
    child: Child,
    log: PathBuf,
}

impl Trial {
    /// `Err`: what it said when it refused.
    fn start(data: &Path, log: &Path) -> Result<(Trial, Site), String> {
        let output = fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
        let seen = fs::metadata(log).expect("a log").len();
        let mut command = Command::new(program("binplz"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--retry-delay", "1", "--lease", "4", "--cache", "--data"]);
        let child = command.arg(data).stdin(Stdio::null()).stderr(output).spawn().expect("binplz");
        let mut trial = Trial { child, log: log.to_owned() };
        let started = wait_for("the server", || {
            let ended = trial.child.try_wait().expect("a child");
            let text = fs::read_to_string(log).expect("a log").split_off(usize::try_from(seen).expect("a size"));
            let told = text.lines().find_map(|line| Some(line.split_once(" at http://")?.1.to_owned()));
            match (told, ended) {
                (Some(address), _) => Some(Ok(Site::at(address))),
                (None, Some(status)) => {
                    assert_eq!(status.code(), Some(1), "{text}");
                    Some(Err(text))
                }
                (None, None) => None,
            }
        });
        started.map(|site| (trial, site))
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let builders = children(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        builders.into_iter().for_each(kill_tree);
        let said = fs::read_to_string(&self.log).expect("a log");
        assert!(!said.contains("panicked"), "{said}");
    }
}

/// What is asked for, and what must come of it.
struct Known {
    programs: Vec<(&'static str, Vec<u8>)>,
    /// Of a build, its attempt, and the attempt's log.
    logs: Vec<(&'static str, String, String)>,
}

/// How a trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Unharmed,
    Repaired,
    Refused,
}

/// Asks for all that is known: each program is whole, or built again; each log is as it was, or says that it is damaged.
fn all_is_well(site: &Site, known: &Known, what: &str) -> bool {
    let mut unharmed = true;
    for (target, program) in &known.programs {
        let first = site.get(&format!("/{target}"));
        unharmed &= first.status == 302;
        let bytes = whole(site, target);
        assert!(bytes == *program, "{target} is another program after {what}");
    }
    for (target, lease, log) in &known.logs {
        let text = site.get(&format!("/-/log/{target}")).text();
        let marked = text.ends_with("the rest of this log is missing or damaged\n");
        // A build that is made again has a log of its own.
        let again = || site.status(target)["lease"].as_str().map(str::to_owned) != Some(lease.clone());
        assert!(text == *log || marked || again(), "the log of {target} is another after {what}: {text}");
        unharmed &= text == *log;
    }
    let down = site.get("/tree");
    assert_eq!(down.status, 451, "the takedown is forgotten after {what}: {}", down.text());
    unharmed
}

/// Damages a file, by chance: a byte, its length, or all of it. Returns what was done.
fn damage(random: &mut Random, file: &Path) -> String {
    let mut content = fs::read(file).expect("a file");
    let length = content.len();
    match random.below(3) {
        0 if length > 0 => {
            let at = random.below(length);
            content[at] ^= 1 << random.below(8);
            fs::write(file, content).expect("a file");
            format!("another byte {at} of {length} in {}", file.display())
        }
        1 if length > 0 => {
            let at = random.below(length);
            fs::write(file, &content[..at]).expect("a file");
            format!("only {at} of {length} bytes in {}", file.display())
        }
        _ => {
            fs::remove_file(file).expect("a file");
            format!("no {}", file.display())
        }
    }
}

/// Damages one file, while the server is stopped or while it runs, and looks at what comes of it.
fn trial(random: &mut Random, from: &Path, known: &Known) -> (String, End) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (data, log) = (dir.path().join("data"), dir.path().join("log"));
    let copied = Command::new("cp").args(["-rp", "--reflink=auto"]).arg(from).arg(&data).status();
    assert!(copied.expect("cp").success());
    let mut all = files(&data);
    let server = (random.below(2) == 0).then(|| Trial::start(&data, &log).expect("it is whole"));
    // Its start removes some.
    all.retain(|file| file.exists());
    let file = &all[random.below(all.len())];
    let name = file.strip_prefix(&data).expect("below it").display().to_string();
    let what = damage(random, file) + server.as_ref().map_or("", |_| " while it runs");
    // The database may not be readable any more: then it says so, until it is started again.
    let asked = server.as_ref().filter(|_| name != "ledger.redb");
    let unharmed = asked.is_none_or(|(_, site)| all_is_well(site, known, &what));
    drop(server);
    let end = match Trial::start(&data, &log) {
        Ok((_server, site)) => match unharmed & all_is_well(&site, known, &what) {
            true => End::Unharmed,
            false => End::Repaired,
        },
        Err(said) => {
            let remedy = ["binplz restore", "emove"].iter().any(|remedy| said.contains(remedy));
            let file = name.split('/').next().expect("a name");
            assert!(said.contains(file) && remedy, "{what}: {said}");
            End::Refused
        }
    };
    (what, end)
}

/// As many trials as `BINPLZ_DAMAGE_TRIALS` says, from the seed `BINPLZ_SEED`.
fn trials(most: u64) {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (trials, seed) = (number("BINPLZ_DAMAGE_TRIALS", most), number("BINPLZ_SEED", 1));
    let packages = r#"
  slowly = package "slowly" { buildPhase = "for step in one two three; do echo step $step; done; $CC -o program ${good}"; };
"#;
    let (set, dir) = (fresh_set(packages), tempfile::tempdir().expect("a temporary directory"));
    let data = dir.path().join("data");
    let mut server = Server::start(set.path(), &data, &["--cache", "--names", "known"]);
    wait_for("the catalogue", || (server.get("/-/search?q=hello").status == 200).then_some(()));
    let programs: Vec<_> =
        ["hello", "dash", "failing.slowly"].into_iter().map(|target| (target, whole(&server, target))).collect();
    wait_for("the catalogue", || {
        let answer = server.send("GET", "/hello", &[("accept", "application/json")], b"");
        answer.header("x-binplz-catalogue").is_none().then_some(())
    });
    let logs = ["hello", "failing.slowly"].map(|target| {
        let lease = server.status(target)["lease"].as_str().expect("its attempt").to_owned();
        (target, lease, server.get(&format!("/-/log/{target}")).text())
    });
    said(&data, &["takedown", "tree", "--why", "of a letter", "--yes"]);
    server.kill();
    let known = Known { programs, logs: logs.to_vec() };
    let mut random = Random(seed);
    let mut ends = std::collections::BTreeMap::new();
    for number in 0..trials {
        let (what, end) = trial(&mut random, &data, &known);
        println!("{number}: {what}: {end:?}");
        *ends.entry(end).or_insert(0u64) += 1;
    }
    println!("of {trials} trials with the seed {seed}: {ends:?}");
    assert_eq!(ends.values().sum::<u64>(), trials);
}

#[test]
fn any_damage_to_any_file_does_no_harm_or_is_repaired_or_is_refused_with_a_remedy() {
    trials(12);
}
