//! A downloaded program is checked by other people's programs, by ours without the service, and the log by an audit.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Output},
    thread,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use binplz_core::trust::note::{Algorithm, Note, NoteKey, Signature};
use binplz_signing::KeyPair;
use binplz_tests::{
    server::{Server, demo_set, fresh_set, program, repository},
    site::wait_for,
};
use serde_json::{Value, json};

/// A shell script in a directory, with the service's URL and our program.
fn sh(dir: &Path, server: &Server, script: &str) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-euc", script]).current_dir(dir).env("H", server.origin()).env("B", program("binplz"));
    shell.env("XDG_STATE_HOME", dir).output().expect("a shell")
}

fn told(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

#[track_caller]
fn passes(dir: &Path, server: &Server, script: &str) -> String {
    let out = sh(dir, server, script);
    assert!(out.status.success(), "{script}: {}", told(&out));
    told(&out)
}

#[track_caller]
fn fails(dir: &Path, server: &Server, script: &str, with: &str) {
    let out = sh(dir, server, script);
    assert!(!out.status.success() && told(&out).contains(with), "{script}: {}", told(&out));
}

const DOWNLOAD: &str = "
    curl -fsSL \"$H/tree?wait\" -o tree
    curl -fsS $H/-/sig/tree -o tree.minisig
    curl -fsS $H/-/proof/tree -o tree.proof
    curl -fsS $H/-/provenance/tree -o provenance
    curl -fsS $H/-/sbom/tree -o sbom
    curl -fsS $H/-/keys -o keys
";

#[test]
fn a_download_is_checked_by_minisign_by_openssl_and_by_binplz_without_the_service() {
    let (data, dir) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (dir, mut server) = (dir.path(), Server::start(&demo_set(), data.path(), &["--sign"]));
    passes(dir, &server, DOWNLOAD);
    server.kill();

    let key = passes(dir, &server, "awk '$1 == \"artifacts\" { print $2 }' keys").trim().to_owned();
    let said = passes(dir, &server, &format!("minisign -Vm tree -P {key}"));
    assert!(said.contains("\"package\":\"tree\"") && said.contains("verified"), "{said}");
    // OpenSSL 3 alone: the key as DER, the file's BLAKE2b-512, and then the signature with its comment.
    let raw = BASE64_STANDARD.decode(&key).expect("base64");
    let der = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], &raw[10..]].concat();
    fs::write(dir.join("key.der"), der).expect("a file");
    let by_openssl = "
        sed -n 2p tree.minisig | base64 -d | tail -c 64 > signature
        openssl dgst -blake2b512 -binary \"$F\" > hash
        openssl pkeyutl -verify -rawin -pubin -keyform DER -inkey key.der -in hash -sigfile signature
        { cat signature; sed -n '3s/^trusted comment: //p' tree.minisig | tr -d '\\n'; } > commented
        sed -n 4p tree.minisig | base64 -d > global
        openssl pkeyutl -verify -rawin -pubin -keyform DER -inkey key.der -in commented -sigfile global
    ";
    passes(dir, &server, &by_openssl.replace("$F", "tree"));
    let said = passes(dir, &server, "$B verify tree --proof tree.proof --keys keys --as tree");
    assert!(said.contains("tree: tree/tree for x86_64-linux") && said.contains("entry 0 of "), "{said}");
    passes(dir, &server, "$B verify tree --proof tree.proof --keys keys --as tree/tree");
    passes(dir, &server, "$B verify tree --proof tree.proof --keys keys --provenance provenance --sbom sbom");
    for kind in ["provenance", "sbom"] {
        let bent = format!("sed 's/1/2/' {kind} > bent; $B verify tree --proof tree.proof --keys keys --{kind} bent");
        fails(dir, &server, &bent, "is not the one that the signed entry of tree/tree for ");
    }

    passes(dir, &server, "cp tree other; printf x >> other; sed 's/tree/evil/' tree.proof > bent.proof");
    fails(dir, &server, &format!("minisign -Vm other -x tree.minisig -P {key}"), "verification failed");
    fails(dir, &server, &by_openssl.replace("$F", "other"), "Failure");
    fails(dir, &server, "$B verify other --proof tree.proof --keys keys", "differs from the signed file");
    fails(dir, &server, "$B verify tree --proof tree.proof --keys keys --as pv", "and not pv");
    let old = format!("$B verify tree --proof tree.proof --keys keys --as 'tree?nixpkgs-commit={}'", "0".repeat(40));
    fails(dir, &server, &old, "and not tree?nixpkgs-commit=0000000");
    fails(
        dir,
        &server,
        "sed 's/^log .*/log example.com+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k/' keys > k; $B verify tree --proof tree.proof --keys k",
        "the list of keys is malformed",
    );
    fails(
        dir,
        &server,
        "sed '/^log/d' keys > k; $B verify tree --proof tree.proof --keys k",
        "the checkpoint has no signature by a known key",
    );
    fails(
        dir,
        &server,
        "sed '/^artifacts/d' keys > k; $B verify tree --proof tree.proof --keys k",
        "not by a trusted artifact key",
    );
}

/// A document on a program.
fn document(server: &Server, kind: &str, target: &str) -> Value {
    let answer = server.send("GET", &format!("/-/{kind}/{target}"), &[("accept", "application/json")], b"");
    assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
}

#[test]
fn a_build_says_what_it_is_made_of_where_its_sources_are_and_who_has_built_it() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(&demo_set(), data.path(), &["--sign"]);
    let hit = server.settled("bsdiff");
    for kind in ["source", "sbom"] {
        let link = format!("</-/{kind}/bsdiff>; rel=\"describedby\"");
        assert!(hit.header("link").is_some_and(|links| links.contains(&link)), "{hit:?}");
        let document = server.get(&format!("/-/{kind}/bsdiff"));
        let link = document.header("link").expect("a link");
        let path = link.strip_prefix('<').and_then(|link| link.split_once('>')).expect("a path").0;
        assert!(path.starts_with("/-/provenance/bsdiff?sys="), "{link}");
        assert_eq!(server.get(path).status, 200, "{link}");
    }
    let sources: Value =
        serde_json::from_str(&fs::read_to_string(demo_set().join("sources.json")).expect("a file")).expect("JSON");
    let text = server.get("/-/source/bsdiff").text();
    for named in ["bsdiff 4.3: BSD-2-Clause", "bzip2 1.0.8: bzip2-1.0.6"] {
        assert!(text.contains(named), "{text}");
    }
    for source in ["bsdiff", "bzip2"].map(|name| &sources[name]) {
        for part in ["url", "sha256"] {
            assert!(text.contains(source[part].as_str().expect("text")), "{source} in {text}");
        }
    }
    let materials = document(&server, "source", "bsdiff");
    let derivation = materials["package"]["derivation"].as_str().expect("a path");
    let inputs = materials["inputs"].as_array().expect("a list");
    assert!(inputs.iter().any(|input| input == derivation) && inputs.len() > 3, "{inputs:?}");
    assert!(!materials["builder"]["nix"].as_str().expect("a version").is_empty());

    let sbom = document(&server, "sbom", "bsdiff");
    let component = &sbom["components"][0];
    assert_eq!((&component["name"], &component["scope"]), (&json!("bzip2"), &json!("required")));
    let envelope = document(&server, "provenance", "bsdiff/bspatch");
    let payload = BASE64_STANDARD.decode(envelope["payload"].as_str().expect("text")).expect("base64");
    let statement: Value = serde_json::from_slice(&payload).expect("JSON");
    let definition = &statement["predicate"]["buildDefinition"];
    assert_eq!(definition["internalParameters"]["derivation"], derivation);
    let level = statement["predicate"]["runDetails"]["builder"]["id"].as_str().expect("an id");
    let fragment = level.rsplit_once('#').expect("a fragment").1;
    let page = server.send("GET", "/-/trust", &[("accept", "text/html")], b"").text();
    assert!(page.contains(&format!("id=\"{fragment}\"")) && page.contains("claims Build L1"), "{page}");

    // Another build of the derivation has the same documents.
    let again = tempfile::tempdir().expect("a directory");
    let other = Server::start(&demo_set(), again.path(), &["--sign"]);
    assert_eq!(other.settled("bsdiff").status, 302);
    for kind in ["source", "sbom"] {
        assert_eq!(document(&other, kind, "bsdiff"), document(&server, kind, "bsdiff"), "{kind}");
    }
}

#[test]
fn a_service_that_does_not_sign_has_no_provenance_and_says_so() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    assert_eq!(server.settled("tree").status, 302);
    let answer = server.get("/-/provenance/tree");
    assert_eq!((answer.status, answer.text().contains("has no signing keys")), (404, true), "{}", answer.text());
    assert_eq!(document(&server, "sbom", "tree")["metadata"]["component"]["name"], "tree");
    let text = server.get("/-/trust").text();
    assert!(text.contains("this service signs nothing, so it has no provenance"), "{text}");
    for kind in ["source", "sbom", "provenance"] {
        let answer = server.get(&format!("/-/{kind}/pv"));
        assert_eq!((answer.status, answer.text().contains("is not built yet")), (404, true), "{}", answer.text());
    }
    assert_eq!(server.status("pv")["state"], "unasked");
}

/// Other people's validators, fetched with pip. `scripts/e2e` runs it.
#[test]
#[ignore = "fetches Python packages"]
fn independent_programs_accept_the_provenance_and_the_bill_of_materials() {
    let (data, dir) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (dir, server) = (dir.path(), Server::start(&demo_set(), data.path(), &["--sign"]));
    assert_eq!(server.settled("bsdiff").status, 302);
    let check = format!(
        "curl -fsS $H/-/provenance/bsdiff -o provenance; curl -fsS $H/-/sbom/bsdiff -o sbom; curl -fsSL $H/bsdiff -o bsdiff
        key=$(curl -fsS $H/-/keys | awk '$1 == \"artifacts\" {{ print $2 }}')
        check={}/tests/attest/check",
        repository().display()
    );
    let said = passes(dir, &server, &format!("{check}; $check $key provenance sbom; sha256sum bsdiff"));
    let sha256 = said.lines().find_map(|line| line.strip_suffix("  bsdiff")).expect("a sum");
    assert!(said.contains(&format!("{sha256} bsdiff\n")), "{said}");
    let other = "other=$(printf 'Ed%040d' 0 | base64 -w 0)";
    fails(dir, &server, &format!("{check}; {other}; $check $other provenance sbom"), "VerificationError");
    fails(
        dir,
        &server,
        &format!("{check}; sed -i 's/required/needed/' sbom; $check $key provenance sbom"),
        "AssertionError",
    );
}

#[test]
fn what_is_not_built_has_no_signature_and_asking_for_one_starts_no_build() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(&demo_set(), data.path(), &["--sign"]);
    for path in ["/-/sig/tree", "/-/proof/tree"] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.text().contains("is not built yet")), (404, true), "{}", answer.text());
    }
    assert_eq!(server.status("tree")["state"], "unasked");
    assert_eq!(server.get("/-/keys").text().lines().count(), 2);
    for path in ["/-/tlog/checkpoint", "/-/tlog/tile/0/000", "/-/tlog/tile/0/x000/000", "/-/sig/", "/-/sig/UPPER%20"] {
        let answer = server.get(path);
        assert!([400, 404].contains(&answer.status), "{path}: {}", answer.status);
    }
}

#[test]
fn an_audit_finds_a_log_that_forks_shrinks_or_is_signed_by_another_key() {
    let (data, dir) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (dir, data) = (dir.path(), data.path());
    let mut server = Server::start(&demo_set(), data, &["--sign"]);
    let build = |server: &Server, name: &str| assert_eq!(server.settled(name).status, 302, "{name}");
    let kept = dir.join("kept");
    let put_back = |server: &mut Server| {
        server.kill();
        fs::remove_dir_all(data).expect("a directory");
        copy(&kept, data);
        server.restart();
    };
    build(&server, "tree");
    server.kill();
    copy(data, &kept);
    server.restart();

    build(&server, "pv");
    let said = passes(dir, &server, "$B audit $H");
    assert!(said.contains("the log only grew") && said.contains("2 served artifacts compared"), "{said}");
    build(&server, "nq");
    let said = passes(dir, &server, "$B audit $H");
    assert!(said.contains("the log only grew") && said.contains("3 served artifacts compared"), "{said}");

    put_back(&mut server);
    fails(dir, &server, "$B audit $H", "entries were removed");
    // As many other entries: another history of one log.
    for name in ["dos2unix", "mawk", "dash", "lz4"] {
        build(&server, name);
    }
    fails(dir, &server, "$B audit $H", "the log was forked");

    put_back(&mut server);
    passes(dir, &server, "rm -r binplz; curl -fsS $H/-/keys -o keys; $B audit $H --keys keys");
    server.kill();
    fs::remove_file(data.join("log-key")).expect("a key");
    server.restart();
    passes(dir, &server, &format!("$B signing-key accept --yes --data {}", data.display()));
    build(&server, "pv");
    fails(dir, &server, "$B audit $H --keys keys", "the checkpoint has no signature by a known key");
    passes(dir, &server, "curl -fsS $H/-/keys -o keys; $B audit $H --keys keys");
}

/// A service that answers as `server` does, except that it passes each path that begins with `from` to `other` as `to`.
/// Returns its URL.
fn liar(server: &Server, from: &str, other: &Server, to: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let own = listener.local_addr().expect("an address").to_string();
    let origin = format!("http://{own}");
    let (from, to) = (format!(" {from}"), format!(" {to}"));
    let [true_one, other] = [server, other].map(|server| server.origin().trim_start_matches("http://").to_owned());
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (mut request, mut lines) = (String::new(), BufReader::new(client.try_clone().expect("a socket")));
            while !request.ends_with("\r\n\r\n") && lines.read_line(&mut request).is_ok_and(|read| read > 0) {}
            let theirs = if request.contains(&from) { &other } else { &true_one };
            let request = request.replacen(&from, &to, 1).replace(&own, theirs);
            let mut service = TcpStream::connect(theirs).expect("the server");
            let closing = request.replacen("\r\n", "\r\nconnection: close\r\n", 1);
            service.write_all(closing.as_bytes()).expect("a request");
            // A client that has read enough closes first.
            let _ = io::copy(&mut service, &mut client);
        }
    });
    origin
}

#[test]
fn an_audit_finds_another_programs_bytes_its_documents_and_what_is_not_in_the_log() {
    let (data, dir) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (dir, server) = (dir.path(), Server::start(&demo_set(), data.path(), &["--sign"]));
    for name in ["tree", "pv"] {
        assert_eq!(server.settled(name).status, 302, "{name}");
    }
    passes(dir, &server, "$B audit $H --state none");
    for (from, to, found) in [
        ("/tree", "/pv", "differs from the log's"),
        ("/-/proof/tree", "/-/proof/pv", "differs from the log's"),
        ("/-/proof/tree", "/-/proof/nq", "is not built yet"),
        ("/-/provenance/tree", "/-/provenance/pv", "the provenance is not the one that the signed entry of tree/tree"),
        ("/-/sbom/tree", "/-/sbom/pv", "the SBOM is not the one that the signed entry of tree/tree"),
        ("/-/tlog/tile/entries/000.p/4", "/-/tlog/tile/0/000.p/4", "malformed"),
    ] {
        let liar = liar(&server, from, &server, to);
        fails(dir, &server, &format!("$B audit {liar} --state fresh"), found);
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "--"]).arg(from).arg(to).status().expect("cp");
    assert!(copied.success());
}

/// A witness, and its key.
fn witness(name: &str, seed: u8) -> (KeyPair, NoteKey) {
    let pair = KeyPair::of_seed(&[seed; 32]);
    let key = NoteKey { name: name.into(), algorithm: Algorithm::Cosignature, key: pair.public() };
    (pair, key)
}

/// A log's checkpoint with the cosignature that a witness makes of it (c2sp.org/tlog-cosignature).
fn cosigned(server: &Server, (pair, key): &(KeyPair, NoteKey)) -> String {
    let mut note: Note = server.get("/-/tlog/checkpoint").text().parse().expect("a checkpoint");
    let time: u64 = 1_800_000_000;
    let signature = pair.sign(format!("cosignature/v1\ntime {time}\n{}", note.text).as_bytes());
    let bytes = [&time.to_be_bytes()[..], &signature].concat();
    note.signatures.push(Signature { name: key.name.clone(), id: key.id(), bytes });
    note.to_string()
}

#[test]
fn witnesses_cosignatures_are_taken_shown_and_required_by_an_audit_which_finds_a_log_that_they_have_not_seen() {
    let dir = tempfile::tempdir().expect("a directory");
    let (dir, data, fork) = (dir.path(), dir.path().join("data"), dir.path().join("fork"));
    let mut server = Server::start(&demo_set(), &data, &["--sign"]);
    assert_eq!(server.settled("tree").status, 302);
    server.kill();
    copy(&data, &fork);
    server.restart();
    assert_eq!(server.settled("pv").status, 302);

    let (first, second, none) = (witness("first.example/w", 1), witness("second.example/w", 2), witness("none", 3));
    let answer = server.get("/-/tlog/witnessed");
    assert_eq!((answer.status, answer.text().contains("no witness has cosigned")), (404, true), "{}", answer.text());
    for (file, by) in [("first", &first), ("second", &second)] {
        fs::write(dir.join(file), cosigned(&server, by)).expect("a file");
    }
    // Of the first witness in name, and of another key.
    fs::write(dir.join("bad"), cosigned(&server, &(none.0, first.1.clone()))).expect("a file");
    let [one, two, none] = [&first.1, &second.1, &none.1].map(|key| format!("'{key}'"));
    let add = format!("$B witness add --data {}", data.display());
    fails(dir, &server, &format!("{add} first"), "of witnesses: the checkpoint has no signature by a known key");
    fails(dir, &server, &format!("{add} first --key {two}"), "of second.example/w: the checkpoint has no signature");
    fails(dir, &server, &format!("{add} bad --key {one}"), "has a bad signature in the name of first.example/w");
    passes(dir, &server, &format!("{add} first --key {one}"));
    passes(dir, &server, &format!("{add} second --key {two}"));
    let said = passes(dir, &server, &format!("{add} first"));
    assert!(said.contains(&format!("witness {}", first.1)) && said.contains("\u{2014} second.example/w "), "{said}");
    for path in ["/-/tlog/checkpoint", "/-/tlog/witnessed", "/-/proof/tree"] {
        let text = server.get(path).text();
        assert_eq!(text.matches("\n\u{2014} ").count(), 3, "{path}: {text}");
    }
    let text = server.get("/-/trust").text();
    assert!(text.contains(&format!("witness {} cosigned 4 entries on 2027-01-15", second.1)), "{text}");

    // What they have cosigned stays proven while the log grows.
    assert_eq!(server.settled("nq").status, 302);
    let said = passes(dir, &server, &format!("$B audit $H --witness {one} --witness {two}"));
    assert!(said.contains("first.example/w cosigned the first 4 entries on 2027-01-15"), "{said}");
    let with_stranger = format!("$B audit $H --witness {one} --witness {none}");
    fails(dir, &server, &with_stranger, "of none: the checkpoint has no signature by a known key");
    passes(dir, &server, &format!("{with_stranger} --witnesses 1"));
    passes(dir, &server, &format!("{with_stranger} --witness {two} --witnesses 2"));

    // The same keys, and another history.
    let other = Server::start(&demo_set(), &fork, &["--sign"]);
    assert_eq!(other.settled("dash").status, 302);
    fails(dir, &other, &format!("$B witness add first --data {} --key {one}", fork.display()), "is not of this log");
    assert_eq!(other.settled("mawk").status, 302);
    let liar = liar(&other, "/-/tlog/witnessed", &server, "/-/tlog/witnessed");
    passes(dir, &other, &format!("$B audit {liar} --state forked; rm forked"));
    fails(dir, &other, &format!("$B audit {liar} --state forked --witness {one}"), "the log was forked");
}

/// Go's own packages for logs, from Debian. `scripts/e2e` runs it.
#[test]
#[ignore = "installs Go"]
fn an_independent_program_reads_the_log_and_its_witness_and_finds_a_tile_that_was_exchanged() {
    let (data, dir) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (dir, server) = (dir.path(), Server::start(&demo_set(), data.path(), &["--sign"]));
    for name in ["tree", "bsdiff", "pv"] {
        assert_eq!(server.settled(name).status, 302, "{name}");
    }
    let by = witness("first.example/w", 1);
    fs::write(dir.join("first"), cosigned(&server, &by)).expect("a file");
    passes(dir, &server, &format!("$B witness add first --key '{}' --data {}", by.1, data.path().display()));
    passes(dir, &server, "curl -fsS $H/-/keys -o keys; curl -fsS $H/-/proof/bsdiff -o proof");
    let check = format!("{}/tests/tlog/check", repository().display());
    let said = passes(dir, &server, &format!("{check} $H keys proof '{}'", by.1));
    assert!(said.contains(" entries, and entry ") && said.contains(" is proven"), "{said}");
    let strangers = witness("first.example/w", 2).1;
    fails(dir, &server, &format!("{check} $H keys proof '{strangers}'"), "signatures of 2");
    let liar = liar(&server, "/-/tlog/tile/0/", &server, "/-/tlog/tile/entries/");
    fails(dir, &server, &format!("{check} {liar} keys proof"), "tile");
}

/// The commands of the operator's guide for exchanging a key.
fn guides_commands() -> Vec<String> {
    let guide = fs::read_to_string(repository().join("infra/README.md")).expect("the guide");
    let section = guide.split("\n## ").find(|section| section.starts_with("Signing keys\n")).expect("its section");
    let commands = section.lines().filter_map(|line| line.strip_prefix("    "));
    commands.map(|line| line.split("   ").next().unwrap_or_default().trim().to_owned()).collect()
}

#[test]
fn a_key_is_exchanged_or_replaced_after_its_loss_by_the_guides_commands_while_programs_are_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let (dir, data) = (dir.path(), dir.path().join(".binplz"));
    let mut server = Server::start(&demo_set(), &data, &["--sign"]);
    assert_eq!(server.settled("tree").status, 302);
    let [moves, list, accept] = guides_commands().try_into().expect("three commands");
    let path = format!("PATH={}:$PATH", program("binplz").parent().expect("a directory").display());
    // The first time the key is exchanged, and the second time it is lost.
    for (takes_away, name, keys) in [(moves.as_str(), "pv", 2), ("rm .binplz/signing-key", "nq", 3)] {
        server.kill();
        passes(dir, &server, takes_away);
        server.restart();
        assert_eq!(server.settled(name).status, 302);
        let answer = server.get(&format!("/-/sig/{name}"));
        assert_eq!(
            (answer.status, answer.text().contains("has not signed this file")),
            (404, true),
            "{}",
            answer.text()
        );
        let health = server.get("/-/health");
        assert_eq!((health.status, health.text().contains("signer")), (503, true), "{}", health.text());
        let said = passes(dir, &server, &format!("{path}; {list}"));
        assert!(said.contains("not accepted: artifacts "), "{said}");
        // It asks at a terminal.
        passes(dir, &server, &format!("{path}; {accept} --yes"));
        let signed = || server.get(&format!("/-/sig/{name}")).status == 200 && server.get("/-/health").status == 200;
        wait_for("the signer goes on", || signed().then_some(()));
        let listed = server.get("/-/keys").text();
        assert_eq!(listed.lines().filter(|line| line.starts_with("artifacts ")).count(), keys, "{listed}");
        passes(dir, &server, "$B audit $H --state none; rm none");
    }
}

const SAME_AND_OTHER: &str = r#"
    steady = package "steady" { };
    random = package "random" { fixupPhase = "head -c 32 /dev/urandom >> $out/bin/random"; };
"#;

#[test]
fn what_is_built_again_is_the_same_or_the_first_difference_is_told() {
    let (data, dir) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let set = fresh_set(SAME_AND_OTHER);
    let server = Server::start(set.path(), data.path(), &[]);
    let set = set.path().display();
    for name in ["failing.steady", "failing.random"] {
        assert_eq!(server.settled(name).status, 302, "{name}");
    }
    // The machine's store has both, so they are built once more.
    let said = passes(dir.path(), &server, &format!("$B reproduce $H failing.steady --nixpkgs {set} 2>&1"));
    assert!(said.contains("reproduced: failing.steady/steady for "), "{said}");
    let different = "the first difference is at byte ";
    fails(dir.path(), &server, &format!("$B reproduce $H failing.random --nixpkgs {set}"), different);
    fails(dir.path(), &server, &format!("$B reproduce $H pv --nixpkgs {set}"), "the service has built no program pv");
}
