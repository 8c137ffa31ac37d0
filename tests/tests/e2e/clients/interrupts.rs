//! ^C, a kill, a closed terminal, at any step: the exit code says so, and nothing partial is left.

use std::fs;

use binplz_tests::{
    gate::Gate,
    server::{Server, demo_set, fresh_set},
};

use super::machine::{Client, Machine, SHELLS, Shim};

/// A step, forced: which tool waits there, before or after it has done its work.
type Step = (&'static str, fn(&Machine, u32) -> Shim);

/// All of them, in their order, where the program is there already. The stub has one download and one checksum before them: those of
/// its second part.
const STEPS: [Step; 8] = [
    ("whether it can run here", |m, _| m.hold("chmod", 1)),
    ("asking how it stands", |m, before| m.hold("curl", before + 1)),
    ("the download has begun", |m, before| {
        let nth = before + 2;
        m.replace(
            "curl",
            &format!("[ $n = {nth} ] || exec $real \"$@\"\n$real \"$@\" | /usr/bin/head -c 5000\n: > $at/here; read x < $at/go"),
        )
    }),
    ("the download is complete", |m, before| m.hold_after("curl", before + 2)),
    ("checking its sum", |m, before| m.hold("sha256sum", before + 1)),
    ("its mode", |m, _| m.hold("chmod", 2)),
    ("taking its place", |m, _| m.hold("mv", 1)),
    ("in its place", |m, _| m.hold_after("mv", 1)),
];

const SIGNALS: [(&str, i32); 3] = [("INT", 130), ("TERM", 143), ("HUP", 129)];

#[test]
fn interrupted_at_any_step_the_stub_leaves_nothing_partial() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    assert_eq!(server.settled("tree").status, 302);
    let (stub, binary) = (server.get("/tree").body, server.download("tree"));
    for (signal, code) in SIGNALS {
        for shell in SHELLS {
            for (step, hold) in STEPS {
                let machine = Machine::new(shell, Client::Curl, Some("sha256sum"));
                machine.save("tree", &stub);
                let shim = hold(&machine, 1);
                let running = machine.start("exec sh ./tree --version");
                shim.arrived();
                running.signal(signal);
                let (ended, out) = running.end();
                assert_eq!((ended, out.as_str()), (Some(code), ""), "{signal} {shell:?} {step}");
                assert_eq!(machine.files("."), ["tree"], "{signal} {shell:?} {step}");
                let expected = if step == "in its place" { &binary } else { &stub };
                assert!(machine.read("tree") == *expected, "{signal} {shell:?} {step}");
            }
        }
    }
}

#[test]
fn interrupted_before_it_has_its_second_part_the_stub_ends_and_has_written_nothing() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    let stub = server.get("/tree").body;
    for (signal, _) in SIGNALS {
        for shell in SHELLS {
            let machine = Machine::new(shell, Client::Curl, Some("sha256sum"));
            machine.save("tree", &stub);
            let shim = machine.hold("curl", 1);
            let running = machine.start("exec sh ./tree --version");
            shim.arrived();
            running.signal(signal);
            let (ended, out) = running.end();
            // The signal itself ends it, as the program of a shell that catches none.
            assert!(ended != Some(0) && out.is_empty(), "{signal} {shell:?}: {ended:?}");
            assert_eq!(machine.files("."), ["tree"], "{signal} {shell:?}");
            assert!(machine.read("tree") == stub, "{signal} {shell:?}");
        }
    }
}

#[test]
fn interrupted_at_any_step_the_installer_leaves_nothing_partial_and_what_was_there() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    assert_eq!(server.settled("tree").status, 302);
    let (script, binary) = (server.get("/-/install/tree").body, server.download("tree"));
    for shell in SHELLS {
        for (step, hold) in STEPS {
            let machine = Machine::new(shell, Client::Curl, Some("sha256sum"));
            fs::create_dir_all(machine.home().join(".local/bin")).expect("a directory");
            machine.save(".local/bin/tree", b"an older one");
            machine.save("script", &script);
            let shim = hold(&machine, 0);
            let running = machine.start("exec sh < script");
            shim.arrived();
            running.signal("INT");
            assert_eq!(running.end().0, Some(130), "{shell:?} {step}");
            assert_eq!(machine.files(".local/bin"), ["tree"], "{shell:?} {step}");
            let expected = if step == "in its place" { &binary[..] } else { b"an older one" };
            assert!(machine.read(".local/bin/tree") == expected, "{shell:?} {step}");
        }
    }
}

#[test]
fn interrupted_while_it_waits_for_the_build_it_ends_at_once() {
    let (gate, data) = (Gate::new("gated"), tempfile::tempdir().expect("a temporary directory"));
    let set = fresh_set(&gate.package());
    let server = Server::start(set.path(), data.path(), &[]);
    let stub = server.get("/failing.gated").body;
    gate.arrived();
    for (signal, code) in SIGNALS {
        for shell in SHELLS {
            let machine = Machine::new(shell, Client::Wget, Some("sha256sum"));
            machine.save("gated", &stub);
            let shim = machine.hold("sleep", 1);
            let running = machine.start("exec sh ./gated");
            shim.arrived();
            running.signal(signal);
            assert_eq!(running.end(), (Some(code), String::new()), "{signal} {shell:?}");
            assert_eq!(machine.files("."), ["gated"], "{signal} {shell:?}");
            assert!(machine.read("gated") == stub, "{signal} {shell:?}");
        }
    }
}
