//! Disks, networks and servers that let one down.

use std::{fs, process::Command};

use binplz_tests::{
    gate::Gate,
    server::{Server, fresh_set},
    site::wait_for,
};

use super::{
    machine::{CLIENTS, Client, Machine, SHELLS, Shell, everywhere, on_disk},
    text, with_tree,
};

#[test]
fn where_one_can_not_write_it_says_so_before_it_waits_for_anything() {
    let (server, _data) = with_tree();
    for shell in SHELLS {
        let machine = Machine::new(shell, Client::Curl, Some("sha256sum"));
        machine.save("other", &server.get("/tree").body);
        machine.save("install", &server.get("/-/install/tree").body);
        machine.replace("curl", "case \"$*\" in */-/stub/*) exec $real \"$@\" ;; esac\necho downloads; exit 1");
        let line = "for how in 'sh ./other' 'sh < other' 'sh < install'; do eval \"$how\" || echo $?; done";
        let out = on_disk(&machine, "size=1m", "mount -o remount,ro none .", line);
        assert_eq!(text(&out.stdout), "1\n1\n1\n", "{shell:?}: {}", text(&out.stderr));
        let said = text(&out.stderr);
        assert_eq!(said.matches("binplz: cannot write to ").count(), 3, "{shell:?}: {said}");
        assert!(said.contains("set BINPLZ_DIR to another directory"), "{shell:?}: {said}");
    }
}

#[test]
fn on_a_full_disk_it_gives_up_says_why_and_takes_its_parts_away() {
    let (server, _data) = with_tree();
    let (stub, binary) = (server.get("/tree").body, server.download("tree"));
    assert!(binary.len() > 60_000, "tree fits on that disk");
    everywhere(|shell, client| {
        let machine = Machine::new(shell, client, Some("sha256sum"));
        machine.save("tree", &stub);
        machine.save("install", &server.get("/-/install/tree").body);
        let line =
            "sh ./tree || echo $?; BINPLZ_DIR=. sh < install || echo $?; for f in .* *; do echo \"$f\"; done; cat tree";
        let out = on_disk(&machine, "size=60k", ":", line);
        let seen = text(&out.stdout);
        let rest = seen.strip_prefix("1\n1\n.\n..\ninstall\ntree\n");
        assert_eq!(rest, Some(text(&stub).as_str()), "{shell:?} {client:?}: {}", text(&out.stderr));
        let said = text(&out.stderr);
        assert_eq!(said.matches("/ is full: ").count(), 2, "{shell:?} {client:?}: {said}");
    });
}

#[test]
fn a_server_that_is_gone_for_a_while_is_waited_for() {
    let (gate, data) = (Gate::new("gated"), tempfile::tempdir().expect("a temporary directory"));
    let set = fresh_set(&gate.package());
    let mut server = Server::start(set.path(), data.path(), &[]);
    let stub = server.get("/failing.gated").body;
    let machines: Vec<_> = CLIENTS.iter().map(|client| Machine::new(Shell::Dash, *client, Some("sha256sum"))).collect();
    let running: Vec<_> = machines
        .iter()
        .map(|machine| {
            machine.save("gated", &stub);
            machine.start("sh ./gated 3")
        })
        .collect();
    gate.arrived();
    running.iter().for_each(|running| running.says("binplz: gated: "));
    server.kill();
    running.iter().for_each(|running| running.says("retrying: "));
    server.restart();
    gate.open();
    for (machine, running) in machines.iter().zip(running) {
        let said = running.said();
        assert_eq!(running.end(), (Some(3), "<./gated>\n<3>\n".to_owned()), "{said}");
        assert_eq!(machine.files("."), ["gated"]);
    }
}

#[test]
fn a_server_that_is_gone_when_the_download_begins_is_waited_for_too() {
    let (mut server, _data) = with_tree();
    for client in CLIENTS {
        let machine = Machine::new(Shell::Dash, client, Some("sha256sum"));
        machine.save("tree", &server.get("/tree").body);
        let tool = if client == Client::Curl { "curl" } else { "wget" };
        // GNU's is first asked which one it is.
        let shim = machine.replace(
            tool,
            "case \"$*\" in */-/objects/*) [ -e $at/here ] || { : > $at/here; read x < $at/go; } ;; esac\nexec $real \"$@\"",
        );
        let running = machine.start("sh ./tree --version");
        shim.arrived();
        server.kill();
        shim.release();
        running.says("retrying: ");
        server.restart();
        let said = running.said();
        let (code, out) = running.end();
        assert_eq!(code, Some(0), "{client:?}: {said}");
        assert!(out.starts_with("tree v2.1.0"), "{client:?}: {out}");
        assert_eq!(machine.files("."), ["tree"]);
    }
}

#[test]
fn an_object_that_is_gone_when_the_download_begins_is_waited_for_and_the_disk_is_not_blamed() {
    let (server, data) = with_tree();
    let hit = server.get("/tree");
    let file = data.path().join("data/objects/blobs").join(hit.header("x-binplz-sha256").expect("a hit"));
    let file = file.display();
    for client in CLIENTS {
        let tool = if client == Client::Curl { "curl" } else { "wget" };
        // Nothing can take its place either.
        let loops = format!("/usr/bin/mv {file} {file}.kept; /usr/bin/ln -s {file} {file}");
        let mends = format!("[ $n != 5 ] || /usr/bin/mv {file}.kept {file}");
        let problem = "retrying: the service has a problem; try again in a moment";
        for (gone, sleep, code, words) in [
            (format!("/usr/bin/rm {file}"), "exec $real \"$@\"", 0, "retrying the download"),
            (loops.clone(), &mends[..], 0, problem),
            (loops, ":", 1, problem),
        ] {
            assert_eq!(server.settled("tree").status, 302);
            let machine = Machine::new(Shell::Dash, client, Some("sha256sum"));
            machine.save("tree", &hit.body);
            machine.replace("sleep", sleep);
            let once = format!("[ -e $at/gone ] || {{ : > $at/gone; {gone}; }}");
            machine.replace(tool, &format!("case \"$*\" in */-/objects/*) {once} ;; esac\nexec $real \"$@\""));
            let out = machine.run("sh ./tree --version");
            let said = text(&out.stderr);
            assert_eq!(out.status.code(), Some(code), "{client:?} {gone}: {said}");
            assert!(said.contains(words), "{client:?} {gone}: {said}");
            assert!(!["room", "full", "disk"].iter().any(|word| said.contains(word)), "{client:?} {gone}: {said}");
            assert_eq!(text(&out.stdout).starts_with("tree v2.1.0"), code == 0, "{client:?} {gone}: {said}");
            assert_eq!(machine.files("."), ["tree"], "{client:?} {gone}");
        }
        fs::remove_file(file.to_string()).expect("a link");
        fs::remove_file(format!("{file}.kept")).expect("a file");
    }
}

/// The tool's `n`-th download breaks off after 50,000 bytes.
fn cut(machine: &Machine, client: Client, n: u32) {
    let cut_off = match client {
        Client::Curl => "$real \"$@\" 2>/dev/null | /usr/bin/head -c 50000; exit 18".to_owned(),
        // -O FILE
        _ => "for o; do [ \"$last\" != -O ] || file=$o; last=$o; done; $real \"$@\"; /usr/bin/truncate -s 50000 \"$file\"; exit 4".to_owned(),
    };
    machine.replace(
        if client == Client::Curl { "curl" } else { "wget" },
        &format!(
            "case \"$*\" in */-/objects/*) echo \"$*\" >> $at/downloads; [ $(/usr/bin/wc -l < $at/downloads) != {n} ] || {{ {cut_off}; }} ;; esac\nexec $real \"$@\""
        ),
    );
}

#[test]
fn a_download_that_broke_off_goes_on_where_it_was() {
    let (server, _data) = with_tree();
    let binary = server.download("tree");
    for shell in SHELLS {
        for client in CLIENTS {
            let machine = Machine::new(shell, client, Some("sha256sum"));
            machine.save("tree", &server.get("/tree").body);
            cut(&machine, client, 1);
            let out = machine.run("sh ./tree --version");
            assert_eq!(out.status.code(), Some(0), "{shell:?} {client:?}: {}", text(&out.stderr));
            assert!(machine.read("tree") == binary);
            let tool = if client == Client::Curl { "at-curl" } else { "at-wget" };
            let downloads = fs::read_to_string(machine.home().join("..").join(tool).join("downloads"));
            let downloads = downloads.expect("its downloads");
            assert_eq!(downloads.lines().count(), 2, "{downloads}");
            if client == Client::Curl {
                assert!(downloads.lines().nth(1).is_some_and(|line| line.contains("-C 50000")), "{downloads}");
            }
        }
    }
}

#[test]
fn what_came_damaged_is_downloaded_again_and_never_takes_a_place() {
    let (server, _data) = with_tree();
    let stub = server.get("/tree").body;
    everywhere(|shell, client| {
        let machine = Machine::new(shell, client, Some("openssl"));
        machine.save("tree", &stub);
        machine.save("install", &server.get("/-/install/tree").body);
        damage(&machine, client);
        for line in ["sh ./tree --version", "BINPLZ_DIR=. sh < install"] {
            let out = machine.run(line);
            assert_eq!(out.status.code(), Some(1), "{shell:?} {client:?}");
            assert!(text(&out.stderr).contains("its sha256 is not"), "{shell:?} {client:?}: {}", text(&out.stderr));
            assert!(machine.read("tree") == stub);
            assert_eq!(machine.files("."), ["install", "tree"]);
        }
    });
}

/// One byte of each download of the tool is another on its way.
fn damage(machine: &Machine, client: Client) {
    let other = "printf x | /usr/bin/dd bs=1 seek=1000 conv=notrunc status=none";
    let (tool, damaged) = match client {
        Client::Curl => (
            "curl",
            format!(
                "$real \"$@\" > $at/came; code=$?; [ ! -s $at/came ] || {other} of=$at/came; /usr/bin/cat $at/came; exit $code"
            ),
        ),
        // -O FILE
        _ => (
            "wget",
            format!(
                "for o; do [ \"$last\" != -O ] || file=$o; last=$o; done; $real \"$@\"; code=$?; [ ! -s \"$file\" ] || {other} of=\"$file\"; exit $code"
            ),
        ),
    };
    machine.replace(tool, &format!("case \"$*\" in */-/objects/*) {damaged} ;; esac\nexec $real \"$@\""));
}

#[test]
fn a_program_that_is_running_is_replaced_and_goes_on() {
    let (server, _data) = with_tree();
    let machine = Machine::usual();
    fs::create_dir_all(machine.home().join(".local/bin")).expect("a directory");
    let place = machine.home().join(".local/bin/tree");
    fs::copy(super::machine::find("sleep"), &place).expect("a copy");
    let mut old = Command::new(&place).arg("1000").spawn().expect("a program");
    wait_for("it to run", || {
        let link = fs::read_link(format!("/proc/{}/exe", old.id())).ok()?;
        (link == fs::canonicalize(&place).expect("a path")).then_some(())
    });
    machine.save("install", &server.get("/-/install/tree").body);
    let out = machine.run("sh < install");
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(machine.read(".local/bin/tree") == server.download("tree"));
    assert!(old.try_wait().expect("a child").is_none(), "it was ended");
    old.kill().and_then(|()| old.wait()).expect("a child");
}

#[test]
fn a_users_own_settings_of_curl_and_wget_change_nothing() {
    let (server, _data) = with_tree();
    let (stub, install) = (server.get("/tree").body, server.get("/-/install/tree").body);
    everywhere(|shell, client| {
        let machine = Machine::new(shell, client, Some("sha256sum"));
        machine.save(".curlrc", b"output = stolen\nproxy = http://127.0.0.1:1\n");
        machine.save(".wgetrc", b"output_document = stolen\nuse_proxy = on\nhttp_proxy = http://127.0.0.1:1\n");
        machine.save("tree", &stub);
        machine.save("install", &install);
        let out = machine.run("sh ./tree --version && BINPLZ_DIR=bin sh < install");
        assert_eq!(out.status.code(), Some(0), "{shell:?} {client:?}: {}", text(&out.stderr));
        assert!(text(&out.stdout).starts_with("tree v"), "{shell:?} {client:?}: {}", text(&out.stdout));
        assert_eq!(machine.files("."), [".curlrc", ".wgetrc", "bin", "install", "tree"], "{shell:?} {client:?}");
    });
}

#[test]
fn an_answer_that_is_none_is_told_and_nothing_of_it_is_run_or_fetched() {
    let (server, _data) = with_tree();
    let (stub, install) = (server.get("/tree").body, server.get("/-/install/tree").body);
    let here = server.origin();
    for shell in SHELLS {
        for (bytes, url) in [
            ("x[$(touch${IFS}pwned)]", format!("{here}/x")),
            ("09", format!("{here}/x")),
            ("99999999999999999999", format!("{here}/x")),
            ("-1", format!("{here}/x")),
            ("9", "file:///etc/hostname".to_owned()),
            ("9", "ftp://127.0.0.1/x".to_owned()),
            ("9", "-Ksettings".to_owned()),
        ] {
            let machine = Machine::new(shell, Client::Curl, Some("sha256sum"));
            machine.save("tree", &stub);
            machine.save("install", &install);
            machine.replace(
                "curl",
                &format!(
                    "case \"$*\" in */-/stub/*) exec $real \"$@\" ;; esac\necho 'ready 0 {} {bytes} {url}'",
                    "0".repeat(64)
                ),
            );
            for line in ["sh ./tree", "BINPLZ_DIR=. sh < install"] {
                let out = machine.run(line);
                let said = text(&out.stderr);
                assert_eq!(out.status.code(), Some(1), "{shell:?} {bytes} {url}: {said}");
                assert!(said.contains("is malformed; run this again later"), "{shell:?} {bytes} {url}: {said}");
                assert_eq!(machine.files("."), ["install", "tree"], "{shell:?} {bytes} {url}");
            }
        }
    }
}
