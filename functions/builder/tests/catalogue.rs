//! `binplz-builder catalogue` with real Nix and real SQLite, over the demo set and a hostile set.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use binplz_catalogue::{Lookup, Obstacle, details};
use binplz_core::{
    id::key::{DrvHash, System},
    nixpkgs::catalogue::Resolution,
    ports::Catalogue,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const REV: &str = "abababababababababababababababababababab";

fn set(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    if name == "demo" { here.join("../../tests/fixtures/set") } else { here.join("tests").join(name) }
}

fn command(set: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_binplz-builder"));
    command.args(["catalogue", "--rev", REV, "--nixpkgs"]).arg(set).arg("--out").arg(out).args(more);
    command
}

fn make(set: &Path, out: &Path, more: &[&str]) -> Output {
    command(set, out, more).output().expect("the builder starts")
}

fn made(set: &Path, more: &[&str]) -> (TempDir, Lookup<Vec<u8>>, Output) {
    let out = tempfile::tempdir().expect("a directory");
    let output = make(set, out.path(), more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lookup = Lookup::open(fs::read(out.path().join("lookup")).expect("a file")).expect("a catalogue");
    (out, lookup, output)
}

fn resolve(lookup: &Lookup<Vec<u8>>, path: &str) -> Resolution {
    lookup.resolve(&path.parse().expect("a path"), System::X86_64Linux)
}

/// `procps/ps`; `x/?` if only a build can decide; or the kind of resolution.
fn found(lookup: &Lookup<Vec<u8>>, path: &str) -> String {
    match resolve(lookup, path) {
        Resolution::Found { attr, bin, .. } => format!("{attr}/{}", bin.map_or("?".to_owned(), |bin| bin.to_string())),
        other => format!("{other:?}"),
    }
}

/// Nix's own hash of an attribute's derivation.
fn drv(set: &Path, attr: &str) -> DrvHash {
    let mut nix = Command::new("nix-instantiate");
    nix.args(["--eval", "--json", "--argstr", "system", "x86_64-linux", "--arg", "config", "{ }"]);
    let out = nix.args(["--arg", "overlays", "[ ]", "-A"]).arg(format!("pkgsStatic.{attr}.drvPath")).arg(set).output();
    let path: String = serde_json::from_slice(&out.expect("nix-instantiate").stdout).expect("a path");
    DrvHash::of_path(&path).expect("a derivation's path")
}

#[test]
fn a_hostile_set_gets_a_catalogue_of_the_rest_and_names_what_it_lost() {
    let set = set("hostile");
    let limits = ["--time", "2", "--memory", "1024", "--jobs", "4"];
    let (_dir, lookup, output) = made(&set, &limits);

    let mut expected = BTreeMap::new();
    for number in 0..1000 {
        let why = match number {
            n if n % 40 == 23 => Obstacle::Throws,
            n if (7..=11).contains(&(n % 250)) => Obstacle::Endless,
            n if n % 200 == 115 => Obstacle::OutOfMemory,
            _ => continue,
        };
        expected.insert(format!("a{number:04}"), why);
    }
    let count = |why| expected.values().filter(|one| **one == why).count();
    assert_eq!((count(Obstacle::Throws), count(Obstacle::Endless), count(Obstacle::OutOfMemory)), (25, 20, 5));
    for name in ["aborts", "recurses", "lacks", "mistypes", "overflows", "late", "forbidden"] {
        expected.insert(name.to_owned(), Obstacle::Fails);
    }
    expected.insert("asserts".to_owned(), Obstacle::Throws);
    let lost: BTreeMap<_, _> = lookup.lost().map(|lost| (lost.attr.to_string(), lost.why)).collect();
    assert_eq!(lost, expected);
    let named = String::from_utf8_lossy(&output.stdout);
    for (name, why) in &expected {
        assert!(named.lines().any(|line| line.starts_with(&format!("{name} x86_64-linux {why}"))), "{name}");
    }

    let said = |name: &str| match resolve(&lookup, name) {
        Resolution::Refused { failure, .. } => failure.sentence(),
        other => panic!("{name}: {other:?}"),
    };
    let (no, refused) = ("its Nix expression does not evaluate", "nixpkgs refuses to evaluate it");
    assert_eq!(said("a0003"), format!("{refused}: attribute 3 throws"));
    assert_eq!(said("sets.deeper.bad"), format!("{refused}: deep"));
    assert_eq!(said("a0023"), format!("{no}: derivation 23 throws"));
    assert!(said("recurses").starts_with(&format!("{no}: infinite recursion encountered")), "{}", said("recurses"));
    assert!(said("aborts").contains("not even tryEval"), "{}", said("aborts"));
    assert!(said("lacks").contains("attribute 'attribute' missing"), "{}", said("lacks"));

    // A thousand; those that fail and throw in ways of their own; the inner one, and the alias.
    assert_eq!(lookup.attrs(), 1000 + 7 + 2 + 2);
    assert_eq!(found(&lookup, "a0000"), "a0000/p0");
    assert_eq!(found(&lookup, "p999"), "a0999/p999");
    assert_eq!(found(&lookup, "inner"), "sets.inner/inner");
    // An attribute that is lost only at its derivation keeps its description.
    assert_eq!(
        lookup.package(&"a0023".parse().expect("a name")).and_then(|known| known.main).map(|bin| bin.to_string()),
        Some("p23".into())
    );
    assert!(matches!(resolve(&lookup, "closed.inner"), Resolution::Unknown { .. }));
    assert!(matches!(resolve(&lookup, "text"), Resolution::Unknown { .. }));
    let drvs = |attr: &str| lookup.package(&attr.parse().expect("a name")).expect("it is there").drvs;
    assert_eq!(drvs("a0500").get(&System::X86_64Linux), Some(&drv(&set, "a0500")));
    assert_eq!(drvs("alias"), drvs("a0000"));
}

/// A set whose packages print the evaluator's own lines about each other, in all ways that Nix offers.
const SLANDER: &str = r#"{ system, config, overlays }:
let
  package = pname: derivation { name = "${pname}-1.0"; builder = "/bin/sh"; inherit system; }
    // { inherit pname; version = "1.0"; meta.mainProgram = pname; };
  line = line: "binplz-catalogue ${builtins.toJSON line}";
  event = text: "@nix ${builtins.toJSON { action = "msg"; level = 0; msg = text; }}";
  forged = line { other = null; };
  each = package: builtins.foldl' (package: text: builtins.trace text package) package [
    forged
    (line { end = 1; })
    (line { end = 2; })
    (line { end = 3; })
    "x\ntrace: ${forged}"
    "x\n${event "trace: ${forged}"}"
    (event "error: out of memory")
    "error: no space left on device"
  ];
in
{
  pkgsStatic = {
    liar = each (package "liar");
    thrower = throw "trace: ${forged}\n${event forged}\nerror: ${line { end = 3; }}";
    victim = package "victim";
  };
}
"#;

#[test]
fn what_a_package_prints_says_nothing_of_another() {
    let set = tempfile::tempdir().expect("a directory");
    fs::write(set.path().join("default.nix"), SLANDER).expect("a set");
    let (_dir, lookup, _) = made(set.path(), &["--jobs", "1"]);
    for name in ["liar", "victim"] {
        assert_eq!(found(&lookup, name), format!("{name}/{name}"));
        let drvs = lookup.package(&name.parse().expect("a name")).expect("it is there").drvs;
        assert_eq!(drvs.get(&System::X86_64Linux), Some(&drv(set.path(), name)));
    }
    assert!(found(&lookup, "thrower").contains("RefusedByNixpkgs"), "{}", found(&lookup, "thrower"));
}

/// Writes a set: the attributes of `pkgsStatic`, as an expression that knows `package`, `numbered` and `range`.
fn written(attributes: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let set = r#"{ system, config, overlays }:
let
  package = pname: derivation { name = "${pname}-1"; builder = "/bin/sh"; inherit system; } // { inherit pname; meta.mainProgram = pname; };
  range = builtins.genList (n: n);
  numbered = prefix: count: value: builtins.listToAttrs (map (n: { name = "${prefix}${toString n}"; value = value n; }) (range count));
in
{ pkgsStatic = ATTRIBUTES; }
"#;
    fs::write(dir.path().join("default.nix"), set.replace("ATTRIBUTES", attributes)).expect("a set");
    dir
}

#[test]
fn a_catalogue_is_the_same_for_any_number_of_workers_and_any_memory_limit() {
    // Each heavy attribute leaves some megabytes behind, so that with 1 GiB several processes follow each other.
    let set = written(
        r#"let
          kinds = prefix: numbered prefix 60 (n:
            if n == 5 then throw "gone" else if n == 7 then { }.missing else if n == 9 then n else package "${prefix}${toString n}");
          heavy = n: let list = map (m: n + m) (range 400000); in
            package "heavy${toString n}" // { inherit list; version = builtins.seq (builtins.foldl' (_: x: x) 0 list) "1"; };
        in kinds "a" // numbered "heavy" 25 heavy // { sets = kinds "s" // { recurseForDerivations = true; }; }"#,
    );
    let (first, lookup, _) = made(set.path(), &["--jobs", "1", "--memory", "4096"]);
    assert_eq!((lookup.attrs(), lookup.lost().count()), (59 + 25 + 59, 2));
    for (jobs, memory) in [("1", "1024"), ("2", "1024"), ("3", "2048"), ("5", "4096")] {
        let (other, ..) = made(set.path(), &["--jobs", jobs, "--memory", memory]);
        for file in ["lookup", "details"] {
            let [first, other] = [&first, &other].map(|dir| fs::read(dir.path().join(file)).expect("a file"));
            assert!(first == other, "{file} of {jobs} workers with {memory} MiB");
        }
    }
}

#[test]
fn a_set_of_a_hundred_thousand_names_of_any_kind_is_accounted_for() {
    // `loud` traces 128 MiB.
    let set = written(
        r#"numbered "n" 100000 (n: if n == 4 then package "p" else n) // {
          "dotted.name" = 1; "two words" = 1; "\"quoted\"" = 1; "naïve" = 1; "\${x}" = 1; "new\nline" = 1;
          loud = builtins.trace (builtins.foldl' (text: _: text + text) "0123456789abcde\n" (range 23)) (package "p");
          quiet = package "p";
        }"#,
    );
    let (_dir, lookup, output) = made(set.path(), &["--jobs", "2"]);
    for name in ["n4", "loud", "quiet"] {
        assert_eq!(found(&lookup, name), format!("{name}/p"));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("3 attributes, 0 of them took"), "{said}");
    assert!(said.contains("0 sets, 99999 other values, 6 names that cannot be requested"), "{said}");
}

/// The processes that evaluate for a builder: its children.
fn workers(builder: u32) -> Vec<Pid> {
    let parent = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| parent(pid) == Some(builder)).filter_map(Pid::from_raw).collect()
}

#[test]
fn a_killed_worker_costs_nothing_the_first_time_and_its_attribute_the_second_time() {
    for (kills, result) in [(1, "m/m"), (2, "OutOfMemory")] {
        // Reading a pipe blocks the worker until this test opens it.
        let set = written(
            r#"numbered "a" 20 (n: package "a") // { m = package "m" // { version = builtins.readFile ./pipe; }; z = package "z"; }"#,
        );
        let pipe = set.path().join("pipe");
        let mkfifo = || assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        mkfifo();
        let out = tempfile::tempdir().expect("a directory");
        let mut builder = command(set.path(), out.path(), &["--jobs", "1"]);
        let builder = builder.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the builder starts");
        for _ in 0..kills {
            let reached = File::options().write(true).open(&pipe).expect("a worker reads");
            // The next worker gets a pipe of its own, since this one may still hold the other while it dies.
            fs::remove_file(&pipe).expect("the pipe");
            mkfifo();
            let [worker] = workers(builder.id())[..] else { panic!("one worker") };
            kill_process(worker, Signal::KILL).expect("it lives");
            drop(reached);
        }
        if kills == 1 {
            fs::write(&pipe, "1").expect("the next worker reads");
        }
        let output = builder.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{output:?}");
        let lookup = Lookup::open(fs::read(out.path().join("lookup")).expect("a file")).expect("a catalogue");
        assert_eq!((found(&lookup, "a7"), found(&lookup, "z")), ("a7/a".to_owned(), "z/z".to_owned()));
        let lost = lookup.lost().next().map(|lost| format!("{:?}", lost.why));
        assert_eq!(lost.unwrap_or_else(|| found(&lookup, "m")), result);
    }
}

#[test]
fn no_expression_of_a_catalogue_reads_outside_of_its_set() {
    let dir = tempfile::tempdir().expect("a directory");
    let set = dir.path().join("set");
    fs::create_dir(&set).expect("a directory");
    fs::write(dir.path().join("secret"), "TOPSECRET").expect("a file");
    let expression = r#"{ system, config, overlays }: {
      pkgsStatic.curious = derivation { name = "curious-1.0"; builder = "/bin/sh"; inherit system; }
        // { pname = "curious"; version = "1.0"; meta.description = builtins.readFile ../secret; };
      pkgsStatic.plain = derivation { name = "plain-1.0"; builder = "/bin/sh"; inherit system; };
    }"#;
    fs::write(set.join("default.nix"), expression).expect("a set");
    let (out, lookup, _) = made(&set, &[]);
    let lost: Vec<_> = lookup.lost().map(|lost| (lost.attr.to_string(), lost.why)).collect();
    assert_eq!(lost, [("curious".to_owned(), Obstacle::Fails)]);
    for file in ["lookup", "details"] {
        let bytes = fs::read(out.path().join(file)).expect("a file");
        assert!(!bytes.windows(9).any(|window| window == b"TOPSECRET"), "{file}");
    }
}

#[test]
fn the_demo_set_is_the_same_catalogue_for_any_number_of_workers() {
    let (one, lookup, _) = made(&set("demo"), &["--jobs", "1"]);
    let (other, ..) = made(&set("demo"), &["--jobs", "4"]);
    for file in ["lookup", "details"] {
        assert!(fs::read(one.path().join(file)).ok() == fs::read(other.path().join(file)).ok(), "{file}");
    }
    assert_eq!(lookup.rev().as_str(), REV);
    for (path, answer) in [
        ("tree", "tree/tree"),
        ("gnugrep", "gnugrep/grep"),
        ("grep", "gnugrep/grep"),
        ("figlet", "games.figlet/figlet"),
        ("games.figlet", "games.figlet/figlet"),
        ("luaPackages.lua", "luaPackages.lua/lua"),
        ("xxhsum", "xxHash/xxhsum"),
        ("moreutils", "moreutils/?"),
        ("failing.compileError", "failing.compileError/compileError"),
    ] {
        assert_eq!(found(&lookup, path), answer, "{path}");
    }
    for (path, kind) in [
        ("failing.broken", "Broken"),
        ("failing.unsupported", "Unsupported"),
        ("failing.insecure", "Insecure"),
        ("failing.unfree", "Unfree"),
        ("failing.evaluationError", "RefusedByNixpkgs"),
        ("failing.infiniteRecursion", "EvaluationError"),
        ("trees", "Unknown"),
        ("lib.licenses.mit", "Unknown"),
        ("stdenv", "Unknown"),
    ] {
        assert!(format!("{:?}", resolve(&lookup, path)).contains(kind), "{path}: {:?}", resolve(&lookup, path));
    }
    let attr = "hello".parse().expect("a name");
    let block = lookup.details(&attr).map(|range| range.start as usize..range.end as usize).expect("details");
    let details = details::read(&fs::read(one.path().join("details")).expect("a file")[block], &attr).expect("details");
    assert_eq!((details.about.version.as_str(), details.about.license), ("2.10", vec!["GPL-3.0-or-later".to_owned()]));
    assert_eq!(
        lookup.package(&attr).and_then(|known| known.drvs.get(&System::X86_64Linux).cloned()),
        Some(drv(&set("demo"), "hello"))
    );
}

#[test]
fn programs_come_from_the_channels_database_and_from_what_was_built() {
    let dir = tempfile::tempdir().expect("a directory");
    let database = dir.path().join("programs.sqlite");
    let schema = "CREATE TABLE Programs (name text not null, system text not null, package text not null, primary key (name, system, package));";
    let rows = [
        ("errno", "x86_64-linux", "moreutils"),
        ("sponge", "x86_64-linux", "moreutils"),
        ("errno", "i686-linux", "moreutils"),
        ("mac-only", "x86_64-darwin", "moreutils"),
        ("[", "x86_64-linux", "moreutils"),
        (".hidden-wrapped", "x86_64-linux", "moreutils"),
        ("it''s\n\"odd\"", "x86_64-linux", "moreutils"),
        ("lua", "x86_64-linux", "lua"),
        ("luac", "aarch64-linux", "lua"),
        ("ghost", "x86_64-linux", "not-in-the-set"),
        ("bsdiff", "x86_64-linux", "bsdiff"),
        ("gone", "x86_64-linux", "bsdiff"),
    ];
    let rows =
        rows.map(|(name, system, package)| format!("INSERT INTO Programs VALUES ('{name}', '{system}', '{package}');"));
    let sqlite = Command::new("sqlite3").arg(&database).arg(schema.to_owned() + &rows.concat()).status();
    assert!(sqlite.expect("sqlite3 (scripts/test installs it)").success());
    let built = dir.path().join("built.jsonl");
    let manifest = r#"{"attr":"bsdiff","manifest":{"pname":"bsdiff","version":"4.3","drv_path":"","programs":[{"bin":"bspatch","verdict":"refused","why":"script"},{"bin":"bsdiff","verdict":"refused","why":"dynamic"}]}}"#;
    fs::write(&built, manifest).expect("written");

    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let (_out, lookup, _) = made(&set("demo"), &["--programs", &text(&database), "--built", &text(&built)]);
    let names = |attr: &str| {
        let known = lookup.package(&attr.parse().expect("a name")).expect("it is there");
        known.programs.iter().map(|bin| bin.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names("moreutils"), "[ errno sponge");
    assert_eq!(names("bsdiff"), "bsdiff bspatch");
    // Another attribute of lua's derivation, without a row in the database.
    assert_eq!(names("luaPackages.lua"), "lua luac");
    assert!(matches!(resolve(&lookup, "moreutils"), Resolution::Choice { .. }));
    assert_eq!(found(&lookup, "sponge"), "moreutils/sponge");
    assert_eq!(found(&lookup, "luac"), "lua/luac");
    assert!(matches!(resolve(&lookup, "ghost"), Resolution::Unknown { .. }));
    assert!(matches!(resolve(&lookup, "bsdiff/gone"), Resolution::NoSuchProgram { .. }));
}

#[test]
fn a_set_is_evaluated_for_every_system_that_is_asked_for() {
    let (_out, lookup, _) = made(&set("demo"), &["--system", "x86_64-linux", "--system", "aarch64-linux"]);
    let drvs = lookup.package(&"tree".parse().expect("a name")).expect("it is there").drvs;
    assert_eq!(drvs.len(), 2);
    assert_ne!(drvs.get(&System::X86_64Linux), drvs.get(&System::Aarch64Linux));
    let tree = lookup.resolve(&"tree".parse().expect("a path"), System::Aarch64Linux);
    assert!(matches!(tree, Resolution::Found { drv: Some(_), .. }), "{tree:?}");
}

#[test]
fn a_machine_without_nix_is_one_sentence() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_binplz-builder"));
    command.args(["catalogue", "--rev", REV, "--nixpkgs"]).arg(set("demo")).arg("--out").arg(dir.path().join("out"));
    let output = command.env("PATH", dir.path()).output().expect("the builder starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("binplz-builder catalogue: Nix is not installed") && said.lines().count() == 1, "{said}");
}

#[test]
fn what_can_not_become_a_catalogue_is_one_sentence_and_no_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        fs::create_dir_all(dir.path().join(name)).expect("a directory");
        fs::write(dir.path().join(name).join("default.nix"), text).expect("written");
        dir.path().join(name)
    };
    let endless = "{ ... }: { pkgsStatic.a = let f = builtins.foldl' (_: _: builtins.foldl' (_: _: builtins.foldl' (_: n: n) 0 l) 0 l) 0 l; l = builtins.genList (n: n) 100000; in f; }";
    for (set, limits, sentence) in [
        (
            write("throws", "{ ... }: throw \"no such channel\""),
            &[][..],
            "the set cannot be evaluated: no such channel",
        ),
        (write("empty", "{ ... }: { pkgsStatic = { }; }"), &[], "the set has no packages"),
        (write("other", "{ ... }: { }"), &[], "the set cannot be evaluated: attribute 'pkgsStatic' missing"),
        (
            write("endless", endless),
            &["--time", "2"],
            "1 of 1 attributes took too much time or memory: raise these limits",
        ),
        (
            write(
                "loop",
                "{ ... }: rec { pkgsStatic = { recurseForDerivations = true; a = pkgsStatic; b = pkgsStatic; }; }",
            ),
            &["--most", "3"],
            "there are more than 3 attributes: does ",
        ),
        (dir.path().join("nowhere"), &[], "No such file or directory"),
        (set("demo"), &["--programs", "/etc/hostname"], "/etc/hostname cannot be read: sqlite3 ended with exit status"),
    ] {
        let out = dir.path().join("out");
        let output = make(&set, &out, limits);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.lines().last().is_some_and(|line| line.contains(sentence)), "{said}");
        assert!(!out.join("lookup").exists() && !out.join("details").exists());
    }
}
