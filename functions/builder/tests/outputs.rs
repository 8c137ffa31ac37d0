//! The outputs that `describe.nix` chooses, compared with those that `nix-env -iA` installs, over every shape of outputs in
//! two real trees.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::{Value, json};

const DESCRIBE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/describe.nix");
const SHAPES: &str = include_str!("../../../tests/fixtures/trees/outputs.tsv");

/// A package of each shape, whose outputs are empty directories. Names differ in more than a version, so that one does not
/// replace another in a profile.
const SET: &str = r#"
  let
    shapes = builtins.fromJSON (builtins.readFile ./shapes.json);
    package = number: { outputs, output, specified, installed }:
      let
        name = "shape_${toString number}";
        made = derivation {
          inherit name outputs;
          system = builtins.currentSystem;
          builder = "/bin/sh";
          args = [ "-c" "PATH=/usr/bin:/bin; for output in $outputs; do eval \"mkdir \\$$output\"; done" ];
        };
      in
      {
        inherit name;
        value = made.${output} // {
          outputName = output;
          outputSpecified = specified;
          meta = if installed == null then { } else { outputsToInstall = installed; };
        };
      };
  in
  builtins.listToAttrs (builtins.genList (number: package number (builtins.elemAt shapes number)) (builtins.length shapes))
"#;

fn nix(program: &str, arguments: &[&str], home: &Path) -> Vec<u8> {
    let ran = Command::new(program).args(arguments).env("HOME", home).output().expect("Nix");
    assert!(ran.status.success(), "{program}: {}", String::from_utf8_lossy(&ran.stderr));
    ran.stdout
}

/// By name, the outputs in a list of `{ name, outputs }`.
fn read(json: &[u8]) -> Vec<(String, BTreeSet<String>)> {
    let list: Vec<Value> = serde_json::from_slice(json).expect("a list");
    let one = |entry: &Value| {
        let outputs = entry["outputs"].as_array().expect("outputs").iter();
        let outputs = outputs.map(|name| name.as_str().expect("a name").to_owned()).collect();
        (entry["name"].as_str().expect("a name").to_owned(), outputs)
    };
    let mut all: Vec<_> = list.iter().map(one).collect();
    all.sort();
    all
}

#[test]
fn the_chosen_outputs_of_every_attribute_of_two_real_trees_are_those_that_nix_env_installs() {
    let (mut shapes, mut attributes) = (Vec::new(), [0, 0]);
    for line in SHAPES.lines().filter(|line| !line.starts_with('#')) {
        let [outputs, output, specified, installed, old, new, _] =
            line.split('\t').collect::<Vec<_>>().try_into().expect("seven fields");
        let names = |list: &str| list.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let installed = (installed != "-").then(|| names(installed));
        let specified = specified == "true";
        shapes.push(
            json!({ "outputs": names(outputs), "output": output, "specified": specified, "installed": installed }),
        );
        attributes[0] += old.parse::<u32>().expect("a number");
        attributes[1] += new.parse::<u32>().expect("a number");
    }
    assert_eq!(attributes, [11_337, 998]);

    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path();
    let set = home.join("set.nix");
    fs::write(&set, SET).expect("written");
    fs::write(home.join("shapes.json"), json!(shapes).to_string()).expect("written");
    let (set, profile) = (set.to_str().expect("text"), home.join("profile"));
    let profile = profile.to_str().expect("text");

    let names: Vec<String> = (0..shapes.len()).map(|number| format!("shape_{number}")).collect();
    let mut install = vec!["--quiet", "--profile", profile, "-f", set, "-iA"];
    install.extend(names.iter().map(String::as_str));
    nix("nix-env", &install, home);
    let manifest = format!("map (entry: {{ inherit (entry) name outputs; }}) (import {profile}/manifest.nix)");
    let installed = read(&nix("nix-instantiate", &["--eval", "--strict", "--json", "-E", &manifest], home));

    let chosen = format!(
        "let set = import {set}; choose = name: let output = (import {DESCRIBE} set.${{name}}).output; in \
         {{ inherit name; outputs = if output.own == null then output.installed else [ output.own ]; }}; \
         in map choose (builtins.attrNames set)"
    );
    let chosen = read(&nix("nix-instantiate", &["--eval", "--strict", "--json", "-E", &chosen], home));
    assert_eq!(installed.len(), shapes.len());
    // Nix 2.8 and older do not know `outputSpecified`.
    let knows = "builtins.compareVersions builtins.nixVersion \"2.9\" >= 0";
    let knows = nix("nix-instantiate", &["--eval", "--json", "-E", knows], home).starts_with(b"true");
    let specified = |name: &str| {
        let number: usize = name.trim_start_matches("shape_").parse().expect("a number");
        shapes[number]["specified"] == true
    };
    for (installed, chosen) in installed.iter().zip(&chosen) {
        if knows || !specified(&chosen.0) {
            assert_eq!(installed, chosen);
        }
    }
}
