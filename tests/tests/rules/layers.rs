//! Which way the arrows run (`functions/README.md`): from what a crate depends on, and from what the core's sources name.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// All that the core may be made of: values, and their text.
const CORES: &[&str] = &[
    "serde",
    "serde_json",
    "thiserror",
    "sha2",
    "base64",
    "percent-encoding",
    "futures-util",
    "crc32fast",
    "miniz_oxide",
];
/// What those are made of. A new one here wants a look: does it do I/O?
const CORES_OWN: &[&str] = &[
    // serde and thiserror derive
    "serde_core serde_derive thiserror-impl proc-macro2 quote syn unicode-ident",
    // serde_json writes numbers and finds quotes
    "itoa memchr ryu zmij",
    // sha2
    "block-buffer cfg-if const-oid cpufeatures crypto-common digest hybrid-array libc typenum",
    // futures-util
    "futures-core futures-task pin-project-lite slab",
    // miniz_oxide
    "adler2",
];
/// What a crate that is not for AWS never has in its tree.
const AWS: &[&str] = &["aws-", "aws_", "lambda_"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The packages that one is built from; `depth` 1 are those that it names itself.
fn tree(package: &str, depth: &str) -> BTreeSet<String> {
    tree_with(&["--package", package, "--depth", depth], package)
}

fn tree_with(arguments: &[&str], package: &str) -> BTreeSet<String> {
    let text = cargo_tree(&[&["--edges", "normal,build", "--format", "{p}"], arguments].concat());
    let names = text.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty());
    names.filter(|name| *name != package).map(str::to_owned).collect()
}

fn cargo_tree(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = Command::new(cargo)
        .args(["tree", "--offline", "--locked", "--prefix", "none"])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo tree runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("cargo tree prints text")
}

fn ours(package: &str) -> Vec<String> {
    tree(package, "1").into_iter().filter(|name| name.starts_with("binplz-")).collect()
}

#[test]
fn arrows_between_our_crates_run_one_way() {
    for (package, may) in [
        ("binplz-core", &[][..]),
        ("binplz-catalogue", &["binplz-core"]),
        ("binplz-clock", &["binplz-core"]),
        ("binplz-nar", &["binplz-core"]),
        ("binplz-signing", &["binplz-core"]),
        ("binplz-local", &["binplz-catalogue", "binplz-clock", "binplz-core", "binplz-nar", "binplz-signing"]),
        ("binplz-aws", &["binplz-catalogue", "binplz-clock", "binplz-core", "binplz-nar"]),
        ("binplz-web", &["binplz-core"]),
        ("binplz-launcher", &[]),
        ("binplz-builder", &["binplz-catalogue", "binplz-core", "binplz-launcher", "binplz-nar"]),
        ("binplz-lambda", &["binplz-aws", "binplz-core", "binplz-web"]),
        ("binplz-cli", &["binplz-aws", "binplz-clock", "binplz-core", "binplz-local", "binplz-signing", "binplz-web"]),
    ] {
        assert_eq!(ours(package), may, "what {package} depends on");
    }
}

#[test]
fn programs_and_tests_share_their_compiled_dependencies() {
    let features = |edges| {
        let text = cargo_tree(&["--workspace", "--edges", edges, "--format", "{p} {f}"]);
        text.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect::<BTreeSet<_>>()
    };
    // A crate that tests alone depend on is compiled once. One with more features for tests is compiled twice, and so is
    // all that depends on it.
    let programs = features("normal,build");
    let name = |line: &String| line.split(' ').next().map(str::to_owned);
    let shared: BTreeSet<_> = programs.iter().filter_map(name).collect();
    let twice: Vec<_> = features("normal,build,dev")
        .into_iter()
        .filter(|line| !programs.contains(line) && name(line).is_some_and(|name| shared.contains(&name)))
        .collect();
    assert!(twice.is_empty(), "compiled once more for tests (see tests/Cargo.toml): {twice:#?}");
}

#[test]
fn every_crate_below_functions_has_a_rule_here() {
    let dirs = fs::read_dir(root().join("functions")).expect("functions").map(|entry| entry.expect("an entry"));
    let mut crates: Vec<_> = dirs
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    crates.sort();
    assert_eq!(
        crates,
        ["aws", "builder", "catalogue", "cli", "clock", "core", "lambda", "launcher", "local", "nar", "signing", "web"]
    );
}

#[test]
fn the_core_is_made_of_values_only() {
    let may: BTreeSet<_> =
        CORES.iter().copied().chain(CORES_OWN.iter().flat_map(|names| names.split(' '))).map(str::to_owned).collect();
    let named = tree("binplz-core", "1");
    assert!(named.iter().all(|name| CORES.contains(&name.as_str())), "the core names {named:?}");
    let strangers: Vec<_> = tree("binplz-core", "99").difference(&may).cloned().collect();
    assert!(strangers.is_empty(), "new in the core's tree: {strangers:?}");
}

#[test]
fn only_crates_for_aws_know_aws() {
    for package in [
        "binplz-core",
        "binplz-nar",
        "binplz-signing",
        "binplz-catalogue",
        "binplz-clock",
        "binplz-local",
        "binplz-web",
        "binplz-builder",
        "binplz-launcher",
        "binplz-cli",
    ] {
        // The operator's program knows it by a feature, which the demo does without.
        let known: Vec<_> = tree_with(&["--package", package, "--no-default-features"], package)
            .into_iter()
            .filter(|name| AWS.iter().any(|aws| name.starts_with(aws)))
            .collect();
        // rustls' name for a set of traits that both its back ends fill.
        assert!(known.is_empty(), "{package} knows {known:?}");
    }
}

#[test]
fn the_core_and_the_catalogue_ask_nobody_for_the_time_a_file_or_a_variable() {
    let mut found = Vec::new();
    for file in ["core", "catalogue"].iter().flat_map(|pure| sources(&root().join("functions").join(pure).join("src")))
    {
        let text = fs::read_to_string(&file).expect("a source file");
        found.extend(outside(&text).into_iter().map(|name| format!("{} names {name}", file.display())));
    }
    assert!(found.is_empty(), "{found:#?}");
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// What a source names of the world outside, not counting its tests and its comments.
fn outside(text: &str) -> Vec<String> {
    let code = without_tests(text);
    let mut found: Vec<String> = ["SystemTime", "Instant", "tokio", "async_trait"]
        .into_iter()
        // Of `std::net`, addresses are values.
        .chain(["TcpListener", "TcpStream", "ToSocketAddrs", "UdpSocket"])
        .filter(|name| words(&code).any(|word| word == *name))
        .map(str::to_owned)
        .collect();
    for (at, _) in code.match_indices("std::") {
        found.extend(
            first_names(&code[at + "std::".len()..])
                .into_iter()
                .filter(|name| ["env", "fs", "io", "os", "process", "thread"].contains(&name.as_str())),
        );
    }
    found
}

/// The code without comments and without modules for tests, which rustfmt ends at their own indentation.
fn without_tests(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            let indent = &line[..line.len() - line.trim_start().len()];
            let item = lines.next().unwrap_or("");
            if item.ends_with('{') {
                let end = format!("{indent}}}");
                lines.by_ref().find(|line| *line == end);
            }
        } else if !line.trim_start().starts_with("//") {
            code.push_str(line);
            code.push('\n');
        }
    }
    code
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// What follows `std::`: one name, or the first names of a group.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| words(text.trim_start()).next().unwrap_or("").to_owned();
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                names.push(name(&group[start..at]));
                start = at + 1;
            }
            '}' if depth == 0 => {
                names.push(name(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

#[test]
fn what_looks_outside_is_found() {
    for (text, names) in [
        ("use std::fs;", vec!["fs"]),
        ("use std::{fmt, fs::File, time::Duration};", vec!["fs"]),
        ("use std::{\n    collections::{BTreeMap, env},\n    env,\n};", vec!["env"]),
        ("let now = std::time::Instant::now();", vec!["Instant"]),
        ("use std::time::{Duration, SystemTime};", vec!["SystemTime"]),
        ("// std::fs and SystemTime\nuse std::fmt;", vec![]),
        ("fn a() {}\n#[cfg(test)]\nmod tests {\n    use std::process::Command;\n}\n", vec![]),
        ("#[cfg(test)]\nmod tests {\n    use std::fs;\n}\nuse std::net::{IpAddr, TcpStream};", vec!["TcpStream"]),
        ("struct Instantly; // a word of its own", vec![]),
    ] {
        assert_eq!(outside(text), names, "{text}");
    }
}
