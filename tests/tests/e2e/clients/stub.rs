//! What was saved without `-L` becomes the program: on any machine, under any name, however it is called.

use std::{fs, os::unix::fs::symlink, process::Stdio};

use binplz_tests::{
    gate::Gate,
    server::{Server, demo_set, fresh_set},
};

use super::{
    machine::{CLIENTS, Client, Machine, Running, SHELLS, Shell, find},
    text,
};

const SUMS: [Option<&str>; 4] = [Some("sha256sum"), Some("shasum"), Some("openssl"), None];

#[test]
fn with_every_shell_client_and_program_for_sums_it_becomes_the_program() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    assert_eq!(server.settled("tree").status, 302);
    let (stub, binary) = (server.get("/tree").body, server.download("tree"));
    for shell in SHELLS {
        for client in CLIENTS {
            for sums in SUMS {
                let here = format!("{shell:?} {client:?} {sums:?}");
                let machine = Machine::new(shell, client, sums);
                machine.save("tree", &stub);
                let out = machine.run("sh ./tree --version");
                let said = text(&out.stderr);
                assert_eq!(out.status.code(), Some(0), "{here}: {said}");
                assert!(text(&out.stdout).starts_with("tree v2.1.0"), "{here}: {}", text(&out.stdout));
                assert!(machine.read("tree") == binary && machine.mode("tree") & 0o111 != 0, "{here}");
                assert_eq!(machine.files("."), ["tree"], "{here}");
                assert_eq!(said.contains("only the size is checked"), sums.is_none(), "{here}: {said}");
                assert!(!said.contains('\r') && !said.contains('\x1b'), "{here}: {said}");
                let again = machine.run("./tree --version");
                assert_eq!((again.stdout, again.stderr), (out.stdout, Vec::new()), "{here}");
            }
        }
    }
}

#[test]
fn it_waits_for_the_build_and_hands_on_arguments_standard_input_and_the_exit_code() {
    let (gate, data) = (Gate::new("gated"), tempfile::tempdir().expect("a temporary directory"));
    let set = fresh_set(&gate.package());
    let server = Server::start(set.path(), data.path(), &[]);
    let stub = server.get("/failing.gated").body;
    let machines: Vec<Machine> = SHELLS
        .iter()
        .flat_map(|shell| CLIENTS.iter().map(|client| Machine::new(*shell, *client, Some("sha256sum"))))
        .collect();
    let running: Vec<Running> = machines
        .iter()
        .map(|machine| {
            machine.save("gated", &stub);
            machine.start("echo one two | sh ./gated 7 'a  b' '' '$(x)*'")
        })
        .collect();
    gate.arrived();
    running.iter().for_each(|running| running.says("binplz: gated: "));
    gate.open();
    for (machine, running) in machines.iter().zip(running) {
        let said = running.said();
        let expected = "<./gated>\n<7>\n<a  b>\n<>\n<$(x)*>\none two\n".to_owned();
        assert_eq!(running.end(), (Some(7), expected), "{said}");
        assert!(machine.read("gated") == server.download("failing.gated"));
        assert_eq!(machine.files("."), ["gated"]);
    }
}

/// A stub of the package that says what it was called.
fn gated() -> (Server, Vec<u8>, tempfile::TempDir) {
    let (gate, data) = (Gate::new("gated"), tempfile::tempdir().expect("a temporary directory"));
    gate.open();
    let set = fresh_set(&gate.package());
    let server = Server::start(set.path(), &data.path().join("data"), &[]);
    assert_eq!(server.settled("failing.gated").status, 302);
    let stub = server.get("/failing.gated").body;
    (server, stub, data)
}

#[test]
fn it_takes_its_own_place_under_any_name_and_through_links_which_stay() {
    let (server, stub, _data) = gated();
    let binary = server.download("failing.gated");
    for shell in SHELLS {
        let machine = Machine::new(shell, Client::Curl, Some("sha256sum"));
        let home = machine.home();
        let made = |name: &str| machine.read(name) == binary;
        for name in ["other", "a name with  spaces", "-x", "ünï'\"$(x)"] {
            machine.save(name, &stub);
            let quoted = format!("'./{}'", name.replace('\'', "'\\''"));
            let out = machine.run(&format!("sh {quoted} 0 y </dev/null"));
            assert_eq!(text(&out.stdout), format!("<./{name}>\n<0>\n<y>\n"), "{shell:?} {}", text(&out.stderr));
            assert!(made(name), "{shell:?} {name}");
        }
        // From another directory, by a link to a link.
        fs::create_dir_all(home.join("real dir/deep")).expect("a directory");
        machine.save("real dir/deep/gated", &stub);
        symlink("deep/gated", home.join("real dir/link")).expect("a link");
        symlink(home.join("real dir/link"), home.join("first")).expect("a link");
        let out = machine.run("sh ./first 5");
        assert_eq!((out.status.code(), text(&out.stdout)), (Some(5), "<./first>\n<5>\n".to_owned()), "{shell:?}");
        assert!(made("real dir/deep/gated"));
        for link in ["first", "real dir/link"] {
            assert!(fs::symlink_metadata(home.join(link)).expect("a link").is_symlink(), "{shell:?} {link}");
        }
        // As a command of PATH, from elsewhere, by its own `#!`.
        machine.save("by-path", &stub);
        let out = machine.run("chmod 750 by-path; cd 'real dir' && PATH=$HOME:$PATH && by-path 0");
        assert_eq!(text(&out.stdout), format!("<{}/by-path>\n<0>\n", home.display()), "{}", text(&out.stderr));
        assert!(made("by-path"));
        assert_eq!(machine.mode("by-path"), 0o750);
        assert_eq!(machine.files("real dir"), ["deep", "link"]);
        assert_eq!(machine.files("real dir/deep"), ["gated"]);
        assert_eq!(machine.files(".").len(), 7, "{:?}", machine.files("."));
    }
}

#[test]
fn its_mode_stays_and_it_can_be_run() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    assert_eq!(server.settled("tree").status, 302);
    let stub = server.get("/tree").body;
    for (shell, (mode, becomes)) in SHELLS
        .into_iter()
        .flat_map(|s| [(0o644, 0o755), (0o755, 0o755), (0o750, 0o750), (0o500, 0o500), (0o600, 0o711)].map(|m| (s, m)))
    {
        let machine = Machine::new(shell, Client::Wget, Some("sha256sum"));
        machine.save("tree", &stub);
        let out = machine.run(&format!("umask 022; chmod {mode:o} tree; sh ./tree --version"));
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        assert_eq!(machine.mode("tree"), becomes, "{shell:?} {mode:o}: {:o}", machine.mode("tree"));
    }
}

#[test]
fn piped_into_a_shell_it_saves_beside_us_and_overwrites_nothing() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    assert_eq!(server.settled("tree").status, 302);
    let (stub, binary) = (server.get("/tree").body, server.download("tree"));
    for shell in SHELLS {
        let machine = Machine::new(shell, Client::Curl, Some("sha256sum"));
        let absolute = machine.bin().join("sh");
        for by in ["sh", absolute.to_str().expect("a path")] {
            let piped = || {
                let mut child = machine.command(by).stdin(Stdio::piped()).spawn().expect("a shell");
                std::io::Write::write_all(&mut child.stdin.take().expect("its input"), &stub).expect("it reads");
                child.wait_with_output().expect("a child")
            };
            let out = piped();
            assert_eq!(out.status.code(), Some(0), "{shell:?} {by}: {}", text(&out.stderr));
            assert!(text(&out.stderr).contains("saved ./tree"), "{}", text(&out.stderr));
            assert!(machine.read("tree") == binary);
            assert!(text(&machine.run("./tree --version").stdout).starts_with("tree v2.1.0"));
            machine.save("tree", b"precious");
            let out = piped();
            assert_eq!(out.status.code(), Some(1), "{shell:?} {by}");
            assert!(text(&out.stderr).contains("will not overwrite ./tree"), "{}", text(&out.stderr));
            assert_eq!((machine.read("tree"), machine.files(".").len()), (b"precious".to_vec(), 1));
            machine.run("rm tree");
        }
    }
}

#[test]
fn run_many_times_at_once_every_run_ends_in_the_program() {
    let (gate, data) = (Gate::new("gated"), tempfile::tempdir().expect("a temporary directory"));
    let set = fresh_set(&gate.package());
    let server = Server::start(set.path(), data.path(), &[]);
    let machine = Machine::usual();
    machine.save("gated", &server.get("/failing.gated").body);
    let running: Vec<Running> = (0..6).map(|n| machine.start(&format!("sh ./gated {n}"))).collect();
    gate.arrived();
    running.iter().for_each(|running| running.says("binplz: gated: "));
    gate.open();
    for (n, running) in running.into_iter().enumerate() {
        let said = running.said();
        assert_eq!(running.end(), (Some(n as i32), format!("<./gated>\n<{n}>\n")), "{said}");
    }
    assert!(machine.read("gated") == server.download("failing.gated"));
    assert_eq!(machine.files("."), ["gated"]);
}

#[test]
fn a_run_that_was_overtaken_by_another_finds_the_program_in_its_place_and_runs_it() {
    let (server, stub, _data) = gated();
    // The slower one has read its text, and looks at its file when the other one is done with it.
    let machine = Machine::usual();
    machine.save("gated", &stub);
    let shim = machine.hold("grep", 1);
    let slower = machine.start("sh ./gated 3 slower");
    shim.arrived();
    let quicker = machine.run("sh ./gated 4 quicker");
    assert_eq!(quicker.status.code(), Some(4), "{}", text(&quicker.stderr));
    shim.release();
    assert_eq!(slower.end(), (Some(3), "<./gated>\n<3>\n<slower>\n".to_owned()));
    assert_eq!(machine.files("."), ["gated"]);
    assert!(machine.read("gated") == server.download("failing.gated"));
}

#[test]
fn a_machine_that_it_is_not_for_is_told_so() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    let stub = server.get("/tree").body;
    for (uname, says) in [
        ("[ $1 = -m ] && echo riscv64 || echo Linux", "this machine is not supported (riscv64)"),
        ("[ $1 = -m ] && echo x86_64 || echo Darwin", "tree is a Linux program; this is Darwin"),
    ] {
        let machine = Machine::usual();
        machine.replace("uname", uname);
        machine.save("tree", &stub);
        let out = machine.run("sh ./tree");
        assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
        assert!(text(&out.stderr).contains(says), "{}", text(&out.stderr));
        assert!(machine.read("tree") == stub);
    }
    let machine = Machine::usual();
    machine.run("rm ../bin/curl");
    machine.save("tree", &stub);
    let out = machine.run("sh ./tree");
    assert_eq!((out.status.code(), text(&out.stderr)), (Some(1), "binplz: curl or wget is required\n".to_owned()));
}

#[test]
fn a_stub_that_names_no_system_brings_the_program_of_the_machine_that_it_runs_on() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    let other = if std::env::consts::ARCH == "x86_64" { "aarch64" } else { "x86_64" };
    let machine = Machine::usual();
    machine.replace("uname", &format!("[ $1 = -m ] && echo {other} || echo Linux"));
    machine.save("tree", &server.get("/tree").body);
    // Here it cannot be run, which is what a shell says so.
    let out = machine.run("sh ./tree");
    assert_eq!(out.status.code(), Some(126), "{}", text(&out.stderr));
    assert!(machine.read("tree") == server.download(&format!("tree?sys={other}-linux")));
}

#[test]
fn a_build_that_failed_is_told_with_its_reason_and_its_log_and_the_stub_stays() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    let stub = server.get("/failing.compileError").body;
    for shell in SHELLS {
        let machine = Machine::new(shell, Client::BusyboxWget, Some("sha256sum"));
        machine.save("x", &stub);
        let out = machine.run("sh ./x");
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{shell:?}: {said}");
        assert!(said.contains("undeclared") && said.contains("/-/log/failing.compileError"), "{shell:?}: {said}");
        assert!(machine.read("x") == stub);
        assert_eq!(machine.files("."), ["x"]);
    }
}

#[test]
fn in_a_terminal_it_shows_what_is_going_on_and_clears_it_away() {
    let (gate, data) = (Gate::new("gated"), tempfile::tempdir().expect("a temporary directory"));
    let set = fresh_set(&gate.package());
    let server = Server::start(set.path(), data.path(), &[]);
    let stub = server.get("/failing.gated").body;
    let machines: Vec<Machine> =
        CLIENTS.iter().map(|client| Machine::new(Shell::Dash, *client, Some("sha256sum"))).collect();
    let mut shown = Vec::new();
    for machine in &machines {
        machine.save("gated", &stub);
        // A terminal of its own, whose content goes to a file.
        let script = find("script");
        let line = format!("exec {} -qefc 'sh ./gated 0' shown </dev/null >/dev/null", script.display());
        shown.push((machine.start(&line), machine.home().join("shown")));
    }
    gate.arrived();
    for (_, file) in &shown {
        binplz_tests::site::wait_for("a progress line", || {
            let seen = fs::read(file).unwrap_or_default();
            text(&seen).contains("\r\x1b[Kbinplz: gated: ").then_some(())
        });
    }
    gate.open();
    for (running, file) in shown {
        assert_eq!(running.end().0, Some(0));
        let seen = text(&fs::read(file).expect("what was shown"));
        // Every line that was rewritten is cleared at the end, and the download has a meter.
        assert!(seen.contains("\r\x1b[Kbinplz: gated: downloading ") && seen.contains("100"), "{seen:?}");
        assert!(seen.contains("<./gated>"), "{seen:?}");
    }
}

#[test]
fn a_multi_call_program_under_a_name_that_it_does_not_know_fails_behind_the_hint_of_the_stub_and_works_as_installed() {
    let set = fresh_set(
        r#"
  applets = package "one" {
    buildPhase = "$CC -O1 -o program ${builtins.toFile "applets.c" ''
      #include <stdio.h>
      #include <string.h>
      int main(int argc, char **argv) {
        const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
        if (!strcmp(name, "one") || !strcmp(name, "two")) { puts(name); return 0; }
        fprintf(stderr, "%s: applet not found\n", name);
        return 127;
      }
    ''}";
    installPhase = "install -D program $out/bin/one; ln -s one $out/bin/two";
  };
"#,
    );
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(set.path(), data.path(), &[]);
    assert_eq!(server.settled("failing.applets/two").status, 302);
    let stub = server.get("/failing.applets/two").body;
    let hint = "keep the name two: this file has several names, and its name decides what it does";
    for shell in SHELLS {
        let machine = Machine::new(shell, Client::Curl, Some("sha256sum"));
        machine.save("renamed", &stub);
        machine.save("two", &stub);
        machine.save("install", &server.get("/-/install/failing.applets/two").body);
        let renamed = machine.run("sh ./renamed");
        let said = text(&renamed.stderr);
        assert_eq!(renamed.status.code(), Some(127), "{shell:?}: {said}");
        assert!(said.ends_with(&format!("binplz: renamed: {hint}\nrenamed: applet not found\n")), "{shell:?}: {said}");
        for line in ["sh ./two", "BINPLZ_DIR=bin sh < install && bin/two"] {
            let out = machine.run(line);
            let said = text(&out.stderr);
            assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(0), "two\n"), "{shell:?}: {said}");
            assert!(!said.contains("keep the name"), "{shell:?}: {said}");
        }
    }
}
