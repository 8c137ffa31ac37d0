//! `flake.nix`, evaluated with a nixpkgs that only writes down what it is asked for.

use std::{collections::BTreeSet, fs, process::Command};

use binplz_tests::server::repository;
use serde_json::{Value, json};

const SYSTEMS: [&str; 2] = ["x86_64-linux", "aarch64-linux"];

/// The flake's outputs, all of them and down to the last string.
fn outputs() -> Value {
    evaluate("text self")
}

/// A value of Nix in which `self` is the flake. Of a function, its kind is told.
fn evaluate(value: &str) -> Value {
    let repository = repository();
    let expression = "{ repository }: let flake = import (repository + \"/flake.nix\"); self = flake.outputs { inherit self nixpkgs; }; \
         nixpkgs = import (repository + \"/tests/tests/flake/nixpkgs.nix\"); text = value: if builtins.isPath value then \
         toString value else if builtins.isAttrs value then builtins.mapAttrs (_: text) (removeAttrs value [ \"outPath\" ]) \
         else if builtins.isList value then map text value else if builtins.isFunction value then \"a function\" else value; in ";
    let output = Command::new("nix-instantiate")
        .args(["--eval", "--strict", "--json", "--argstr", "repository"])
        .arg(&repository)
        .args(["--expr", &format!("{expression}{value}")])
        .output()
        .expect("nix-instantiate");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json_of(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// The text of a file that the image holds.
fn file<'a>(image: &'a Value, path: &str) -> &'a str {
    let contents = image["args"]["contents"].as_array().expect("a list");
    let found = contents.iter().find(|content| content["path"] == path).unwrap_or_else(|| panic!("no {path}"));
    found["text"].as_str().expect("text")
}

#[test]
fn every_output_evaluates_for_both_systems() {
    let outputs = outputs();
    assert_eq!(keys(&outputs), BTreeSet::from(["packages", "apps", "checks", "nixosModules", "devShells"]));
    for kind in ["packages", "apps", "checks", "devShells"] {
        assert_eq!(keys(&outputs[kind]), BTreeSet::from(SYSTEMS), "{kind}");
    }
    for system in SYSTEMS {
        let packages = &outputs["packages"][system];
        assert_eq!(keys(packages), BTreeSet::from(["default", "binplz", "binplz-builder", "binplz-launcher", "image"]));
        assert_eq!(packages["default"], packages["binplz"]);
        for (name, built, function) in [
            ("binplz", json!(["binplz-cli", "binplz-builder"]), "buildRustPackage"),
            ("binplz-builder", json!(["binplz-builder"]), "buildRustPackage"),
            ("binplz-launcher", json!(["binplz-launcher"]), "buildRustPackage, static"),
        ] {
            let args = &packages[name]["args"];
            assert_eq!((&packages[name]["function"], &args["pname"]), (&json!(function), &json!(name)));
            // The name under which the builder looks for it, beside itself.
            let arch = system.strip_suffix("-linux").expect("a system of Linux");
            let link = format!("ln -s /nix/store/binplz-launcher/bin/binplz-launcher $out/bin/binplz-launcher-{arch}");
            let expected = if name == "binplz-launcher" { Value::Null } else { link.into() };
            assert_eq!(args["postInstall"], expected, "{name}");
            assert_eq!(args["version"], env!("CARGO_PKG_VERSION"));
            assert_eq!(args["env"]["BINPLZ_VERSION"], concat!(env!("CARGO_PKG_VERSION"), "+changed"));
            assert_eq!(args["meta"]["mainProgram"], name);
            let flags = args["cargoBuildFlags"].as_array().expect("a list");
            let flags: Vec<_> = flags.iter().filter(|flag| *flag != "--package").cloned().collect();
            assert_eq!(Value::from(flags), built);
        }
        assert_eq!(
            outputs["apps"][system]["default"],
            json!({ "type": "app", "program": "/nix/store/binplz/bin/binplz" })
        );
        let checks = &outputs["checks"][system];
        assert_eq!((&checks["binplz"], &checks["image"]), (&packages["binplz"], &packages["image"]));
        assert!(checks["version"]["script"].as_str().expect("a script").contains(env!("CARGO_PKG_VERSION")));
        assert_eq!(outputs["devShells"][system]["default"]["function"], "mkShell");
    }
}

#[test]
fn the_nixos_module_runs_the_server_with_the_hardening_of_the_unit() {
    let module = "text (let pkgs = nixpkgs.legacyPackages.x86_64-linux; in self.nixosModules.default { inherit pkgs; \
        inherit (pkgs) lib; config = { nix.package = pkgs.nix; services.binplz = { enable = true; arguments = [ \"--names\" \"open\" ]; \
        package = self.packages.x86_64-linux.binplz; }; }; })";
    let module = evaluate(module);
    let options = keys(&module["options"]["services"]["binplz"]);
    assert_eq!(options, BTreeSet::from(["enable", "package", "arguments"]));
    let service = &module["config"]["systemd"]["services"]["binplz"];
    let mut settings = service["serviceConfig"].as_object().expect("settings").clone();
    let command = settings.remove("ExecStart").expect("a command");
    assert_eq!(command, "/nix/store/binplz/bin/binplz serve --data /var/lib/binplz --names open");

    let unit = read("infra/binplz.service");
    let (_, section) = unit.split_once("\n[Service]\n").expect("a section");
    let (section, _) = section.split_once("\n\n[Install]").expect("the next one");
    let lines =
        section.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once('=').expect("a setting"));
    let (command, hardening): (Vec<_>, Vec<_>) =
        lines.partition(|(name, _)| ["ExecStart", "EnvironmentFile", "Environment"].contains(name));
    assert!(command[0].1.starts_with("/usr/local/bin/binplz serve --data /var/lib/binplz "), "{command:?}");
    let hardening = hardening.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
    assert_eq!(settings, hardening);
    for setting in ["NoNewPrivileges", "ProtectSystem", "CapabilityBoundingSet", "SystemCallFilter", "DynamicUser"] {
        assert!(settings.contains_key(setting), "{setting}");
    }
}

#[test]
fn the_programs_sources_are_all_that_cargo_reads() {
    let outputs = outputs();
    let root = repository();
    let sources = &outputs["packages"]["x86_64-linux"]["binplz"]["args"]["src"]["fileset"];
    let sources: Vec<_> = sources.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let metadata = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--offline", "--locked", "--no-deps", "--format-version", "1"])
        .current_dir(&root)
        .output()
        .expect("cargo");
    let metadata: Value = serde_json::from_slice(&metadata.stdout).expect("JSON");
    for package in metadata["packages"].as_array().expect("a list") {
        let manifest = package["manifest_path"].as_str().expect("a path");
        assert!(sources.iter().any(|source| manifest.starts_with(&format!("{source}/"))), "{manifest}");
    }
    for file in ["Cargo.toml", "Cargo.lock", "infra/pins.json"] {
        assert!(sources.iter().any(|source| source.ends_with(&format!("/{file}"))), "{file}");
    }
}

#[test]
fn the_image_is_configured_as_the_one_from_debian() {
    let outputs = outputs();
    let debian = read("infra/image/finish");
    for (system, tag) in SYSTEMS.into_iter().zip(["x86_64", "arm64"]) {
        let packages = &outputs["packages"][system];
        let image = &packages["image"];
        let args = &image["args"];
        assert_eq!(image["function"], "buildLayeredImage");
        assert_eq!(
            (&args["name"], &args["tag"], &args["includeNixDB"]),
            (&json!("binplz-builder"), &json!(tag), &json!(true))
        );
        assert_eq!(args["config"], json_of("infra/image/config.json"));
        assert_eq!(file(image, "etc/nix/nix.conf"), read("infra/image/nix.conf"));

        let passwd = file(image, "etc/passwd");
        let builders: Vec<Vec<&str>> =
            passwd.lines().filter(|line| line.starts_with("nixbld")).map(|line| line.split(':').collect()).collect();
        assert_eq!(builders.len(), 32);
        for (n, user) in (1..).zip(&builders) {
            assert_eq!(user[..4], [format!("nixbld{n}"), "x".into(), (30000 + n).to_string(), "30000".into()]);
        }
        let members: Vec<_> = builders.iter().map(|user| user[0]).collect();
        assert!(file(image, "etc/group").contains(&format!("\nnixbld:x:30000:{}\n", members.join(","))));
        assert!(debian.contains("nixbld:x:30000:") && debian.contains("seq 32") && debian.contains("30000 + n"));

        let contents = args["contents"].as_array().expect("a list");
        assert!(contents.contains(&packages["binplz-builder"]));
        for name in ["nix", "util-linux", "coreutils", "caCertificates", "binSh"] {
            assert!(contents.iter().any(|content| content["name"] == name && content["system"] == system), "{name}");
        }
    }
}

#[test]
fn the_image_gives_nix_no_sandbox_build_users_and_no_privileges() {
    let conf = read("infra/image/nix.conf");
    let settings: Vec<_> = conf.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    for setting in ["sandbox = false", "build-users-group = nixbld", "trusted-users = root"] {
        assert!(settings.contains(&setting), "{settings:?}");
    }
    assert!(!conf.contains("secret") && !conf.contains("token") && !conf.contains("substituters"));
    let config = json_of("infra/image/config.json");
    let entry: Vec<_> = config["Entrypoint"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!((entry.first(), entry.last()), (Some(&"/bin/setpriv"), Some(&"/bin/binplz-builder")));
    assert!(entry.contains(&"--no-new-privs"));
    assert!(entry.contains(&"--bounding-set=-all,+chown,+dac_override,+fowner,+kill,+setgid,+setuid"));
}

#[test]
fn the_lock_is_the_default_pins_commit() {
    let pins = json_of("infra/pins.json");
    let pin = &pins["pins"][pins["default"].as_str().expect("a name")];
    let lock = json_of("flake.lock");
    assert_eq!((&lock["version"], &lock["root"]), (&json!(7), &json!("root")));
    assert_eq!(lock["nodes"]["root"]["inputs"], json!({ "nixpkgs": "nixpkgs" }));
    let locked = &lock["nodes"]["nixpkgs"]["locked"];
    for field in ["rev", "lastModified", "narHash"] {
        assert_eq!(locked[field], pin[field], "{field}");
    }
    assert_eq!(lock["nodes"]["nixpkgs"]["original"]["ref"], pins["default"]);
    assert!(read("flake.nix").contains("github:NixOS/nixpkgs/nixos-26.05"));
}
