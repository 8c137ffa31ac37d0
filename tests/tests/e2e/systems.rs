//! Programs for another machine than this one. `scripts/test` installs the compiler that makes them, and qemu, which runs them.

use std::process::Command;

use binplz_tests::{
    server::{Server, demo_set, fresh_set, write_program},
    site::wait_for,
};

/// The other system, the machine that its ELF headers name, and qemu for it.
fn other() -> (&'static str, &'static str, &'static str) {
    match std::env::consts::ARCH {
        "x86_64" => ("aarch64-linux", "AArch64", "qemu-aarch64-static"),
        _ => ("x86_64-linux", "Advanced Micro Devices X86-64", "qemu-x86_64-static"),
    }
}

/// What a command says; it must come to a good end.
fn says(program: &str, arguments: &[&str]) -> String {
    let ran = Command::new(program).args(arguments).output();
    let ran = ran.unwrap_or_else(|error| panic!("{program} ({error}): run this under scripts/test"));
    assert!(ran.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn a_program_for_another_machine_is_built_and_served_and_runs_there() {
    let (system, machine, qemu) = other();
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    let theirs = format!("tree?sys={system}");
    // Side by side with this machine's own: they are two builds.
    for target in ["tree", &theirs] {
        let settled = server.settled(target);
        assert_eq!(settled.status, 302, "{target}: {}", settled.text());
    }
    let (ours, theirs) = (server.download("tree"), server.download(&theirs));
    assert_ne!(ours, theirs);
    let file = data.path().join("tree");
    write_program(&file, theirs);
    let file = file.to_str().expect("a path");
    let headers = says("readelf", &["-hlW", file]);
    assert!(headers.contains(machine) && !headers.contains("INTERP"), "{headers}");
    assert!(says(qemu, &[file, "--version"]).starts_with("tree v2.1.0"));
    let status = server.status(&format!("tree?sys={system}"));
    assert_eq!((&status["system"], &status["artifact"]["system"]), (&system.into(), &system.into()), "{status}");
}

#[test]
fn a_program_of_this_machine_is_not_served_to_another() {
    let (system, ..) = other();
    // Its makefile, so to speak, does not know that it is cross-compiled.
    let set = fresh_set(
        r#"
  forgetful = package "forgetful" { cross = true; buildPhase = "gcc -static -o program ${good}"; fixupPhase = ":"; };
"#,
    );
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(set.path(), data.path(), &[]);
    assert_eq!(server.settled("failing.forgetful").status, 302);
    let refused = server.settled(&format!("failing.forgetful?sys={system}"));
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("is for another machine"), "{}", refused.text());
}

#[test]
fn what_no_machine_here_can_build_says_what_it_waits_for_and_is_tried_again_after_a_while() {
    let (system, ..) = other();
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &["--cool-down", "1"]);
    let path = format!("/nq?sys={system}");
    let refused = server.settled(&path[1..]);
    let needed = format!("no builder of this service can build it: it needs a machine for {system}; try again in ");
    assert!(refused.status == 503 && refused.text().contains(&needed), "{}", refused.text());
    // No attempt is left over, and the next request is another look at the deployment.
    wait_for("another attempt", || (server.get(&path).status == 202).then_some(()));
    assert_eq!(server.settled(&path[1..]).status, 503);
}
