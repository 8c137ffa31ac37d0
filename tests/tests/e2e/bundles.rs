//! Bundles of packages of the demo set, from `curl` to what they print where there is no Nix store.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use binplz_core::id::key::Sha256;
use binplz_tests::{
    crowd::at_once,
    http,
    server::{Server, demo_set, fresh_set, program},
};

use crate::packages::root;

/// A program's own paths in the store.
const FROM_A_LIBRARY: &str = "from a library, and a file\n";

/// A server whose builders make bundles.
fn bundling(set: &Path, data: &Path, options: &[&str]) -> Server {
    program(&format!("binplz-launcher-{}", std::env::consts::ARCH));
    Server::start(set, data, options)
}

/// Downloads a bundle with curl, which waits for its build.
fn download(server: &Server, target: &str, to: &Path) {
    let url = format!("{}/{target}{}wait", server.origin(), if target.contains('?') { '&' } else { '?' });
    let ran = Command::new("curl").args(["-q", "-fsSL", "-o"]).arg(to).arg(&url).output().expect("curl");
    assert!(ran.status.success(), "{url}: {}", String::from_utf8_lossy(&ran.stderr));
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("its mode");
}

/// Runs a file in a root that has nothing else but `/proc` and `/tmp`.
fn alone(file: &Path, arguments: &[&str]) -> Output {
    let place = tempfile::tempdir().expect("a temporary directory");
    for dir in ["proc", "tmp"] {
        fs::create_dir(place.path().join(dir)).expect("a directory");
    }
    let name = file.file_name().expect("a name");
    fs::copy(file, place.path().join(name)).expect("a copy");
    let script = "mount --rbind /proc \"$1/proc\" && mount -t tmpfs none \"$1/tmp\" && shift && exec chroot \"$@\"";
    let mut command = root("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(place.path()).arg(place.path());
    command.arg(Path::new("/").join(name)).args(arguments).env_clear().output().expect("unshare")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn dynamic_programs_scripts_and_wrappers_run_from_one_file_where_there_is_no_store() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = bundling(&demo_set(), data.path(), &[]);
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (target, name, prints) in [
        ("-/bundle/failing.dynamic", "dynamic", FROM_A_LIBRARY),
        ("failing.script?bundle", "script", "a script\n"),
        ("-/bundle/failing.wrapper", "wrapper", "from a wrapper, and a file\n"),
        ("-/bundle/failing.mixed", "mixed", FROM_A_LIBRARY),
        ("-/bundle/failing.mixed/mixed-helper", "mixed-helper", "a script\n"),
        // The static ones of these are refused by nixpkgs, and fail.
        ("-/bundle/failing.unsupported", "unsupported", FROM_A_LIBRARY),
        ("-/bundle/failing.noOutput", "script", "a script\n"),
    ] {
        let file = dir.path().join(name);
        download(&server, target, &file);
        let ran = alone(&file, &[]);
        assert_eq!(
            (text(&ran.stdout), ran.status.code()),
            (prints.to_owned(), Some(0)),
            "{target}: {}",
            text(&ran.stderr)
        );
    }
    // Arguments and the exit code are the program's.
    let ran = alone(&dir.path().join("dynamic"), &["one", "two"]);
    assert_eq!((text(&ran.stdout), ran.status.code()), (format!("{FROM_A_LIBRARY}one\ntwo\n"), Some(3)));
    // A static program that needs more than its file is bundled as it is: nixpkgs has no other one here.
    assert_eq!(server.settled("needs.terminal").status, 302);
    let file = dir.path().join("terminal");
    download(&server, "-/bundle/needs.terminal", &file);
    let place = text(&alone(&file, &[]).stdout);
    assert!(place.starts_with("/nix/store/") && place.ends_with("-terminal-1.0/share/terminfo\n"), "{place}");
    assert_eq!(server.status("-/bundle/needs.terminal")["artifact"]["unpacked"]["static"], true);
    for (target, why) in [
        ("-/bundle/failing.insecure", "CVE-1970-0001"),
        ("-/bundle/failing.noProgram", "it has no programs"),
        ("-/bundle/failing.broken", "there is no package"),
    ] {
        let answer = server.settled(target);
        assert!([404, 422].contains(&answer.status) && answer.text().contains(why), "{target}: {}", answer.text());
    }
}

#[test]
fn three_hundred_requests_for_a_bundle_are_one_build_and_its_file_is_stored_once() {
    let set = fresh_set("");
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = bundling(set.path(), data.path(), &["--lease", "600"]);
    let target = |n: usize| ["-/bundle/failing.mixed", "-/bundle/failing.mixed/mixed-too"][n % 2];
    let answers = at_once(300, |n| {
        server.get(&format!("/{}", target(n)));
        server.settled(target(n))
    });
    let sha256 = answers[0].header("x-binplz-sha256").expect("a sum").to_owned();
    assert!(answers.iter().all(|answer| answer.status == 302 && answer.header("x-binplz-sha256") == Some(&sha256)));
    let status = server.status("-/bundle/failing.mixed");
    assert_eq!((&status["attempt"], &status["form"]), (&1.into(), &"bundle".into()), "{status}");
    // All its programs are one blob, of the announced content, and parts of it can be had.
    let blobs = fs::read_dir(data.path().join("objects/blobs")).expect("a directory").count();
    assert_eq!(blobs, 1);
    let url = answers[0].header("location").expect("a location");
    let whole = http::ask("GET", url, &[], b"").body;
    assert_eq!(Sha256::of(&whole).as_str(), sha256);
    let size = whole.len();
    assert_eq!(answers[0].header("x-binplz-size"), Some(size.to_string().as_str()));
    let rest = http::ask("GET", url, &[("range", &format!("bytes={}-", size - 100))], b"");
    assert_eq!((rest.status, &rest.body[..]), (206, &whole[size - 100..]));
    let tag = rest.header("etag").expect("a tag").to_owned();
    assert_eq!(http::ask("GET", url, &[("if-none-match", &tag)], b"").status, 304);
}

#[test]
fn a_bundle_leaves_out_what_no_program_needs_and_is_refused_if_it_is_too_large() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = bundling(&demo_set(), data.path(), &[]);
    let size = |target: &str| {
        let hit = server.settled(target);
        hit.header("x-binplz-size")
            .unwrap_or_else(|| panic!("{target}: {}", hit.text()))
            .parse::<u64>()
            .expect("a size")
    };
    let (usual, full) = (size("-/bundle/failing.dynamic"), size("-/bundle/failing.dynamic?full"));
    let files = |target: &str| server.status(target)["artifact"]["unpacked"]["files"].as_u64().expect("a number");
    assert!(usual < full && files("-/bundle/failing.dynamic") < files("-/bundle/failing.dynamic?full"));
    let data = tempfile::tempdir().expect("a temporary directory");
    let small = bundling(&demo_set(), data.path(), &["--bundle-size", "800000"]);
    let answer = small.settled("-/bundle/failing.dynamic");
    let said = answer.text();
    assert!(answer.status == 422 && said.contains("the limit of a bundle is 800"), "{said}");
}

#[test]
fn the_stub_becomes_the_bundle_and_the_installer_takes_it_where_there_is_no_static_program() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = bundling(&demo_set(), data.path(), &[]);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let sh = |command: &str| {
        let ran = Command::new("sh").args(["-c", command]).current_dir(dir.path()).env("HOME", dir.path()).output();
        let ran = ran.expect("sh");
        (text(&ran.stdout), text(&ran.stderr), ran.status.code())
    };
    let origin = server.origin();
    let (printed, said, code) = sh(&format!("curl -qs {origin}/-/bundle/failing.dynamic > dynamic; sh dynamic"));
    assert_eq!((printed.as_str(), code), (FROM_A_LIBRARY, Some(0)), "{said}");
    assert_eq!(sh("./dynamic").0, FROM_A_LIBRARY);
    for name in ["script", "unsupported"] {
        let (_, said, code) = sh(&format!("curl -qfsSL {origin}/-/install/failing.{name} | sh"));
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("downloading") && said.contains(" kB") && said.contains("installed"), "{said}");
    }
    assert_eq!(sh(".local/bin/script").0, "a script\n");
    let (_, said, code) = sh(&format!("curl -qfsSL {origin}/-/install/failing.insecure | sh"));
    assert!(code == Some(1) && !said.contains("bundle"), "{said}");
}

#[test]
fn a_bundles_bill_of_materials_has_the_store_paths_in_it() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = bundling(&demo_set(), data.path(), &[]);
    assert_eq!(server.settled("-/bundle/failing.dynamic").status, 302);
    let sbom = server.get("/-/sbom/failing.dynamic?bundle");
    assert_eq!(sbom.status, 200, "{}", sbom.text());
    let sbom: serde_json::Value = serde_json::from_slice(&sbom.body).expect("JSON");
    let components = sbom["components"].as_array().expect("a list");
    let contained = components.iter().find(|one| one["properties"][0]["value"] == "contained").expect("a store path");
    assert!(contained["bom-ref"].as_str().is_some_and(|path| path.starts_with("/nix/store/")), "{contained}");
    assert_eq!(contained["scope"], "required");
}
