//! `curl -fsSL HOST/-/install/NAME | sh`.

use std::fs;

use binplz_tests::{
    gate::Gate,
    server::{Server, fresh_set},
    site::wait_for,
};

use super::{
    machine::{CLIENTS, Client, Machine, SHELLS, Shell, everywhere, find, on_disk},
    sh, text, with_tree,
};

#[test]
fn with_every_shell_client_and_program_for_sums_it_installs_and_says_one_line() {
    let (server, _data) = with_tree();
    let (script, binary) = (server.get("/-/install/tree").body, server.download("tree"));
    for shell in SHELLS {
        for client in CLIENTS {
            for sums in [Some("sha256sum"), Some("shasum"), Some("openssl"), None] {
                let here = format!("{shell:?} {client:?} {sums:?}");
                let machine = Machine::new(shell, client, sums);
                machine.save("script", &script);
                let out = machine.run("PATH=$PATH:$HOME/.local/bin; sh < script");
                assert_eq!(out.status.code(), Some(0), "{here}: {}", text(&out.stderr));
                let place = machine.home().join(".local/bin/tree");
                let mut expected = format!("binplz: installed {}\n", place.display());
                if sums.is_none() {
                    expected.insert_str(0, "binplz: no sha256sum, shasum or openssl: only the size is checked\n");
                }
                assert_eq!((text(&out.stderr), out.stdout), (expected, Vec::new()), "{here}");
                assert!(
                    machine.read(".local/bin/tree") == binary && machine.mode(".local/bin/tree") == 0o755,
                    "{here}"
                );
                assert_eq!(machine.files(".local/bin"), ["tree"], "{here}");
            }
        }
    }
}

#[test]
fn it_goes_where_it_is_told_and_says_what_is_not_on_the_path() {
    let (server, _data) = with_tree();
    let machine = Machine::usual();
    machine.save("script", &server.get("/-/install/tree").body);
    let first = machine.run("BINPLZ_DIR='a dir/bin' sh < script");
    let said = text(&first.stderr);
    assert_eq!(first.status.code(), Some(0), "{said}");
    let absolute = machine.home().join("a dir/bin");
    assert!(said.contains(&format!("binplz: installed {}/tree\n", absolute.display())), "{said}");
    // The line that it gives does what it says.
    let export = said.split_once("add it with: ").expect("a hint").1.trim();
    let runs = machine.run(&format!("{export}; tree --version"));
    assert!(text(&runs.stdout).starts_with("tree v2.1.0"), "{export}: {}", text(&runs.stderr));
    let again = machine.run("BINPLZ_DIR='a dir/bin' sh < script");
    assert_eq!(again.status.code(), Some(0));
    assert!(text(&again.stderr).contains("is up to date"), "{}", text(&again.stderr));
    // Of a newer one in its place only the mode stays.
    fs::write(absolute.join("tree"), "an older one").expect("a file");
    machine.run("chmod 700 'a dir/bin/tree'");
    let newer = machine.run("BINPLZ_DIR=\"$HOME/a dir/bin\" PATH=\"$PATH:$HOME/a dir/bin\" sh < script");
    assert_eq!(text(&newer.stderr), format!("binplz: installed {}/tree\n", absolute.display()));
    assert_eq!(machine.mode("a dir/bin/tree"), 0o700);
}

#[test]
fn where_there_is_no_place_for_it_it_says_so() {
    let (server, _data) = with_tree();
    let machine = Machine::usual();
    machine.save("script", &server.get("/-/install/tree").body);
    machine.save("file", b"no directory");
    fs::create_dir_all(machine.home().join("taken/tree")).expect("a directory");
    for (environment, says) in [
        ("unset HOME;", "set BINPLZ_DIR"),
        ("BINPLZ_DIR=file", "cannot write to"),
        ("BINPLZ_DIR=taken", "tree is a directory"),
    ] {
        let out = machine.run(&format!("{environment} sh < script"));
        assert_ne!(out.status.code(), Some(0), "{environment}");
        assert!(text(&out.stderr).contains(says), "{environment}: {}", text(&out.stderr));
        assert_eq!(out.stdout, b"");
    }
    assert_eq!(machine.files("taken/tree").len(), 0);
}

#[test]
fn what_there_is_not_is_told_and_nothing_is_installed() {
    let (server, _data) = with_tree();
    let machine = Machine::usual();
    for (target, says) in [
        ("failing.compileError", "undeclared"),
        ("moreutils", "several programs"),
        ("tree/nosuch", "has no program nosuch"),
    ] {
        machine.save("script", &server.get(&format!("/-/install/{target}")).body);
        let out = machine.run("sh < script");
        assert_eq!(out.status.code(), Some(1), "{target}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains(says), "{target}: {}", text(&out.stderr));
        assert_eq!(machine.files(".local/bin").len(), 0, "{target}");
    }
    // curl -f would discard the reason with the body, and the pipe would end well.
    for client in ["curl -fsSL", "wget -qO-"] {
        let line = format!("{client} '{}/-/install/pkgs.tree' | sh", server.origin());
        let out = sh(&machine.home(), &line);
        assert_eq!(out.status.code(), Some(1), "{client}");
        assert!(text(&out.stderr).contains("binplz: the request is invalid: "), "{client}: {}", text(&out.stderr));
    }
    let wrong = server.send("GET", "/-/install/pkgs.tree", &[("accept", "application/json")], b"");
    assert_eq!(wrong.status, 400);
}

#[test]
fn what_can_not_start_now_is_told_with_its_reason_by_every_client() {
    let (server, data) = with_tree();
    let pause = std::process::Command::new(binplz_tests::server::program("binplz"))
        .args(["pause", "--yes", "--data"])
        .arg(data.path().join("data"))
        .output()
        .expect("binplz");
    assert!(pause.status.success(), "{}", text(&pause.stderr));
    let reason = "binplz: new builds for";
    everywhere(|shell, client| {
        let here = format!("{shell:?} {client:?}");
        let machine = Machine::new(shell, client, Some("sha256sum"));
        let get = if client == Client::Curl { "curl -fsSL" } else { "wget -q -O -" };
        let out = machine.run(&format!("{get} '{}/-/install/dash' | sh", server.origin()));
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{here}: {said}");
        assert!(said.starts_with(reason) && said.contains("the operator has paused builds"), "{here}: {said}");
        assert_eq!(said.lines().count(), 1, "{here}: {said}");
        // The same in a stub that was saved while builds went on.
        machine.save("dash", text(&server.get("/tree").body).replace("'tree'", "'dash'").as_bytes());
        let out = machine.run("sh ./dash");
        assert_eq!(out.status.code(), Some(1), "{here}");
        assert!(text(&out.stderr).starts_with(reason), "{here}: {}", text(&out.stderr));
    });
}

#[test]
fn on_a_noexec_mount_the_stub_and_the_installer_say_so_before_they_wait() {
    let (server, _data) = with_tree();
    for shell in SHELLS {
        let machine = Machine::new(shell, Client::Curl, Some("sha256sum"));
        machine.save("tree", &server.get("/tree").body);
        machine.save("install", &server.get("/-/install/tree").body);
        let line = "for how in 'sh ./tree' 'BINPLZ_DIR=. sh < install'; do eval \"$how\" || echo $?; done; echo .* *";
        let out = on_disk(&machine, "size=1m,noexec", ":", line);
        assert_eq!(text(&out.stdout), "1\n1\n. .. install tree\n", "{shell:?}: {}", text(&out.stderr));
        let said = text(&out.stderr);
        assert_eq!(said.matches("it is mounted noexec; ").count(), 2, "{shell:?}: {said}");
        assert!(!said.contains("installed") && !said.contains("downloading"), "{shell:?}: {said}");
    }
}

#[test]
fn it_waits_for_the_build_and_in_a_terminal_shows_size_speed_and_progress() {
    let (gate, data) = (Gate::new("gated"), tempfile::tempdir().expect("a temporary directory"));
    let set = fresh_set(&gate.package());
    let server = Server::start(set.path(), data.path(), &[]);
    let script = server.get("/-/install/failing.gated").body;
    let machines: Vec<_> = CLIENTS.iter().map(|client| Machine::new(Shell::Dash, *client, Some("sha256sum"))).collect();
    let quiet = Machine::new(Shell::Dash, Client::Curl, Some("sha256sum"));
    quiet.save("script", &script);
    let quiet_one = quiet.start("PATH=$PATH:$HOME/.local/bin; sh < script");
    let running: Vec<_> = machines
        .iter()
        .map(|machine| {
            machine.save("script", &script);
            let line = "{ } -qefc 'sh < script' shown </dev/null >/dev/null"
                .replace("{ }", &find("script").display().to_string());
            machine.start(&line)
        })
        .collect();
    gate.arrived();
    for machine in &machines {
        wait_for("a progress line", || text(&machine.read("shown")).contains("\r\x1b[Kbinplz: gated: ").then_some(()));
    }
    gate.open();
    for (machine, running) in machines.iter().zip(running) {
        assert_eq!(running.end().0, Some(0));
        let shown = text(&machine.read("shown"));
        let size = server.download("failing.gated").len();
        assert!(shown.contains(&format!("downloading {} kB", size / 1024 + 1)), "{shown:?}");
        // Each client's own meter.
        let meter =
            shown.contains("Average Speed") || shown.contains("KB/s") || shown.contains("B/s") || shown.contains("ETA");
        assert!(meter && shown.contains("100"), "{shown:?}");
        assert!(shown.contains("installed ") && shown.contains("is not on your PATH"), "{shown:?}");
        assert!(machine.read(".local/bin/gated") == server.download("failing.gated"));
    }
    let said = quiet_one.said();
    assert_eq!(quiet_one.end().0, Some(0));
    let place = quiet.home().join(".local/bin/gated");
    assert_eq!(quiet.read(".local/bin/gated").len(), server.download("failing.gated").len());
    assert!(said.is_empty() || said == format!("binplz: installed {}\n", place.display()), "{said}");
}

#[test]
fn with_docs_the_packages_manual_pages_are_installed_too() {
    let (server, _data) = with_tree();
    assert_eq!(server.settled("-/archive/tree").status, 302);
    let script = server.get("/-/install/tree").body;
    for shell in SHELLS {
        for client in CLIENTS {
            let here = format!("{shell:?} {client:?}");
            let machine = Machine::new(shell, client, Some("sha256sum"));
            machine.save("script", &script);
            let out = machine.run("PATH=$PATH:$HOME/.local/bin; sh -s -- --with-docs < script");
            assert_eq!(out.status.code(), Some(0), "{here}: {}", text(&out.stderr));
            let home = machine.home().join(".local");
            let expected = format!(
                "binplz: installed {0}/bin/tree\nbinplz: installed the package's files in {0}/share\n",
                home.display()
            );
            assert_eq!(text(&out.stderr), expected, "{here}");
            assert_eq!(machine.files(".local/bin"), ["tree"], "{here}");
            assert!(fs::read_dir(home.join("share/man/man1")).expect("manual pages").count() > 0, "{here}");
            let unknown = machine.run("sh -s -- --docs < script");
            assert_eq!(unknown.status.code(), Some(1), "{here}");
            assert!(text(&unknown.stderr).contains("unknown option --docs"), "{here}");
        }
    }
}
