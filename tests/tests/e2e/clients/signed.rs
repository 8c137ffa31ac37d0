//! With a key, the stub and the installer take only what that key has signed as this program.

use binplz_tests::server::{Server, demo_set};

use super::{
    machine::{CLIENTS, Client, Machine, SHELLS, Shell},
    text,
};

/// A machine that can check signatures with that, if anything.
fn machine(shell: Shell, client: Client, checks: Option<&str>) -> Machine {
    let machine = Machine::new(shell, client, Some("sha256sum"));
    ["mktemp", "sed", "tail", "tr"].into_iter().chain(checks).for_each(|tool| machine.has(tool));
    machine
}

fn signing(data: &tempfile::TempDir) -> (Server, String) {
    let server = Server::start(&demo_set(), data.path(), &["--sign"]);
    for name in ["tree", "pv"] {
        assert_eq!(server.settled(name).status, 302, "{name}");
    }
    let keys = server.get("/-/keys").text();
    let key = keys.lines().find_map(|line| line.strip_prefix("artifacts ")?.split(' ').next()).expect("a key");
    (server, key.to_owned())
}

/// A well-formed key that has signed nothing here: that of minisign's own releases.
const OTHER: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

#[test]
fn with_a_key_only_what_it_has_signed_is_installed_or_run() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let (server, key) = signing(&data);
    let (installer, stub) = (server.get("/-/install/tree").body, server.get("/tree").body);
    for shell in SHELLS {
        for client in CLIENTS {
            for checks in ["minisign", "openssl"] {
                let here = format!("{shell:?} {client:?} {checks}");
                let machine = machine(shell, client, Some(checks));
                machine.save("installer", &installer);
                machine.save("tree", &stub);
                for line in [
                    format!("sh -s -- --require-signature {OTHER} < installer"),
                    format!("BINPLZ_KEY={OTHER} sh ./tree --version"),
                ] {
                    let out = machine.run(&line);
                    let said = text(&out.stderr);
                    assert_eq!((out.status.code(), text(&out.stdout)), (Some(1), String::new()), "{here}: {said}");
                    assert!(
                        said.contains(&format!("the signature of tree is not by the key {OTHER}")),
                        "{here}: {said}"
                    );
                    assert!(machine.read("tree") == stub, "{here}");
                    assert_eq!(machine.files(".local/bin"), [""; 0], "{here}");
                }
                for line in [
                    format!("sh -s -- --require-signature {key} < installer && .local/bin/tree --version"),
                    format!("BINPLZ_KEY={key} sh ./tree --version"),
                ] {
                    let out = machine.run(&line);
                    let said = text(&out.stderr);
                    assert!(text(&out.stdout).starts_with("tree v2.1.0"), "{here}: {said}");
                    assert!(said.contains(&format!("tree: the signature is by the key {key}")), "{here}: {said}");
                }
                assert_eq!(machine.files("."), [".local", "installer", "tree"], "{here}");
                // What is there already is checked, too.
                let out = machine.run(&format!("sh -s -- --require-signature {OTHER} < installer"));
                assert_eq!(out.status.code(), Some(1), "{here}: {}", text(&out.stderr));
            }
        }
    }
}

#[test]
fn the_signature_of_another_program_is_refused() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let (server, key) = signing(&data);
    let installer = server.get("/-/install/tree").body;
    for checks in ["minisign", "openssl"] {
        let machine = machine(Shell::Dash, Client::Curl, Some(checks));
        machine.save("installer", &installer);
        // The service answers with another of its programs, and with that one's signature.
        machine.replace("curl", "for word; do shift; case $word in */tree*) word=${word%/tree*}/pv${word##*/tree} ;; esac; set -- \"$@\" \"$word\"; done\nexec $real \"$@\"");
        let out = machine.run(&format!("sh -s -- --require-signature {key} < installer"));
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{said}");
        let (_, other) = said.split_once("the signature is of another program than tree: ").expect("the reason");
        assert!(other.contains("\"package\":\"pv\",\"program\":\"pv\""), "{said}");
        assert_eq!(machine.files(".local/bin"), [""; 0]);
    }
}

#[test]
fn where_a_signature_cannot_be_checked_nothing_is_installed_and_the_reason_is_told() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let (server, key) = signing(&data);
    let installer = server.get("/-/install/tree").body;
    let refuses = |machine: &Machine, key: &str, with: &str| {
        let out = machine.run(&format!("sh -s -- --require-signature {key} < installer"));
        let said = text(&out.stderr);
        assert!(out.status.code() == Some(1) && said.contains(with), "{said}");
        assert!(machine.read(".local/bin/tree").is_empty());
    };
    let bare = machine(Shell::Dash, Client::Curl, None);
    bare.save("installer", &installer);
    refuses(&bare, &key, "minisign or OpenSSL 3 is required to check the signature of tree");
    refuses(&bare, "key", "key is not a minisign key");
    refuses(&bare, "''", "--require-signature needs a key");
    drop(server);

    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    assert_eq!(server.settled("tree").status, 302);
    for client in CLIENTS {
        let unsigned = machine(Shell::Dash, client, Some("minisign"));
        unsigned.save("installer", &server.get("/-/install/tree").body);
        refuses(&unsigned, &key, "has no signature of tree");
    }
}
