//! `?wait`, `?retry` and `Prefer: wait`, by clients that know nothing of them but to follow redirects.

use std::{
    fs,
    io::{ErrorKind, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use binplz_tests::{
    gate::Gate,
    server::{Server, demo_set, fresh_set},
    site::{wait_for, without_state},
};
use tempfile::TempDir;

use super::{client, sh, text};

/// A server with a package whose build waits for the test.
struct Scene {
    gate: Gate,
    server: Server,
    home: TempDir,
    _set: TempDir,
}

fn scene(options: &[&str]) -> Scene {
    let gate = Gate::new("gated");
    let (set, home) = (fresh_set(&gate.package()), tempfile::tempdir().expect("a temporary directory"));
    let server = Server::start(set.path(), &home.path().join("data"), options);
    Scene { gate, server, home, _set: set }
}

impl Scene {
    fn url(&self) -> String {
        format!("{}/{}", self.server.origin(), self.gate.target())
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.home.path().join(name)).unwrap_or_default()
    }
}

fn start(dir: &Path, line: &str) -> Child {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("exec {line}")).current_dir(dir).stderr(Stdio::null());
    command.spawn().expect("sh")
}

/// Old clients and those of other languages, as far as they can be had here. busybox 1.30 follows no 307.
fn others(url: &str) -> Vec<(&'static str, String)> {
    let python = format!("import urllib.request as u; open('python', 'wb').write(u.urlopen('{url}?wait').read())");
    let node = format!(
        "fetch('{url}?wait').then(r => r.arrayBuffer()).then(b => require('fs').writeFileSync('node', Buffer.from(b)))"
    );
    let perl = format!("exit(HTTP::Tiny->new->mirror('{url}?wait', 'perl')->{{success}} ? 0 : 1)");
    let requests = format!("import requests as r; open('requests', 'wb').write(r.get('{url}?wait').content)");
    let debians = [
        ("busybox130", "bullseye", "busybox-static", "/bin/busybox", format!("wget -q '{url}?wait' -O busybox130")),
        ("wget121", "bullseye", "wget", "/usr/bin/wget", format!("-q '{url}?wait' -O wget121")),
        ("curl774", "bullseye", "curl", "/usr/bin/curl", format!("-sfL '{url}?wait' -o curl774")),
        ("aria2", "bookworm", "aria2", "/usr/bin/aria2c", format!("-q -o aria2 '{url}?wait'")),
        // Go's net/http.
        ("rclone", "bookworm", "rclone", "/usr/bin/rclone", format!("copyurl '{url}?wait' rclone")),
    ];
    let debians = debians.into_iter().filter_map(|(name, suite, package, program, line)| {
        Some((name, format!("{} {line}", client(suite, package, program)?.display())))
    });
    let here = [
        ("python", "python3", format!("python3 -c \"{python}\"")),
        ("requests", "python3", format!("python3 -c \"{requests}\"")),
        ("node", "node", format!("node -e \"{node}\"")),
        ("perl", "perl", format!("perl -MHTTP::Tiny -e \"{perl}\"")),
    ];
    let has_requests = || Command::new("python3").args(["-c", "import requests"]).status().is_ok_and(|s| s.success());
    let is_here = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let here = here.into_iter().filter(|(_, program, _)| is_here(program));
    let here = here.filter(|(name, ..)| *name != "requests" || has_requests()).map(|(name, _, line)| (name, line));
    here.chain(debians).collect()
}

#[test]
fn one_command_brings_a_binary_that_nobody_had_built() {
    let scene = scene(&[]);
    let url = scene.url();
    let mut clients: Vec<(&str, String)> = vec![
        ("curl", format!("curl -sL '{url}?wait' -o curl")),
        ("strict", format!("curl -sfL '{url}?wait' -o strict")),
        ("prefers", format!("curl -sL -H 'Prefer: wait=600' '{url}' -o prefers")),
        ("wget", format!("wget -q '{url}?wait' -O wget")),
        ("busybox", format!("busybox wget -q '{url}?wait' -O busybox")),
        ("retries", format!("curl -sfL --retry 20 '{url}?retry' -o retries")),
        ("http10", format!("curl -sfL --http1.0 '{url}?wait' -o http10")),
    ];
    clients.extend(others(&url));
    let mut running: Vec<Child> = clients.iter().map(|(_, line)| start(scene.home.path(), line)).collect();
    scene.gate.arrived();
    for ((name, _), child) in clients.iter().zip(&mut running) {
        assert!(child.try_wait().expect("a child").is_none(), "{name} did not wait");
        assert!(scene.file(name).is_empty(), "{name} has got something already");
    }
    scene.gate.open();
    for ((name, _), child) in clients.iter().zip(&mut running) {
        assert!(child.wait().expect("a child").success(), "{name}");
        assert!(scene.file(name) == scene.server.download(&scene.gate.target()), "{name}: {}", text(&scene.file(name)));
        let runs = sh(scene.home.path(), &format!("chmod +x {name}; echo in | ./{name} 3 'a b'"));
        assert_eq!(
            (runs.status.code(), text(&runs.stdout)),
            (Some(3), format!("<./{name}>\n<3>\n<a b>\nin\n")),
            "{name}"
        );
    }
}

#[test]
fn a_build_that_outlives_the_chain_leaves_wget_with_a_stub_too() {
    // No hop holds its answer, so the whole chain ends at once.
    let scene = scene(&["--hold", "0"]);
    let stub = without_state(&scene.server.get(&format!("/{}", scene.gate.target())).body);
    scene.gate.arrived();
    for client in ["wget -q", "busybox wget -q"] {
        let out = sh(scene.home.path(), &format!("{client} -O saved '{}?wait'", scene.url()));
        assert_eq!(out.status.code(), Some(0), "{client}");
        assert_eq!(without_state(&scene.file("saved")), stub, "{client}");
    }
    // Who can be kept waiting for no time at all is not sent anywhere.
    let now = scene.server.send("GET", &format!("/{}", scene.gate.target()), &[("prefer", "wait=0")], b"");
    assert_eq!(now.status, 202);
}

#[test]
fn no_answer_on_the_way_makes_a_client_wait_by_itself_and_each_is_harmless_when_saved() {
    let scene = scene(&["--hold", "0"]);
    let target = scene.gate.target();
    let stub = without_state(&scene.server.get(&format!("/{target}")).body);
    for path in [format!("/{target}?wait"), format!("/-/wait/1/{target}"), format!("/-/wait/9/{target}?retry")] {
        let hop = scene.server.get(&path);
        assert_eq!((hop.status, hop.header("retry-after")), (303, None), "{path}");
        assert_eq!(hop.header("cache-control"), Some("no-store"));
        assert_eq!(without_state(&hop.body), stub, "{path}");
    }
    for wrong in ["/-/wait/x/tree", "/-/wait/1", "/-/wait/-1/tree", "/-/wait/", "/-/wait/1/pkgs.tree"] {
        let answer = scene.server.get(wrong);
        assert!([400, 404].contains(&answer.status), "{wrong}: {}", answer.status);
    }
    // A browser's page asks again by itself.
    let page = scene.server.send("GET", &format!("/{target}?wait"), &[("accept", "text/html")], b"");
    assert_eq!(page.status, 202);
}

#[test]
fn one_who_waits_for_a_build_that_fails_is_told_so() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), &home.path().join("data"), &[]);
    let url = format!("{}/failing.compileError?wait", server.origin());
    let out = sh(home.path(), &format!("curl -sfL '{url}' -o strict; echo $?; curl -sL '{url}' -o saved; sh ./saved"));
    assert_eq!((text(&out.stdout), out.status.code()), ("22\n".to_owned(), Some(1)));
    assert!(text(&out.stderr).contains("undeclared"), "{}", text(&out.stderr));
    assert!(!home.path().join("strict").exists());
}

/// Whether an answer has begun to come.
fn is_answered(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn five_hundred_who_wait_keep_no_hit_from_being_answered_and_one_more_is_not_held() {
    let scene = scene(&["--waiters", "500"]);
    assert_eq!(scene.server.settled("tree").status, 302);
    assert_eq!(scene.server.get(&format!("/{}", scene.gate.target())).status, 202);
    scene.gate.arrived();
    let request =
        format!("GET /-/wait/1/{} HTTP/1.1\r\nhost: localhost\r\nuser-agent: curl/8\r\n\r\n", scene.gate.target());
    let waiting: Vec<TcpStream> = (0..501)
        .map(|_| {
            let mut stream = TcpStream::connect(&scene.server.address).expect("a connection");
            stream.write_all(request.as_bytes()).expect("it listens");
            stream.set_nonblocking(true).expect("a socket");
            stream
        })
        .collect();
    // There is no seat for one of them: then all seats are taken.
    let sent_away = wait_for("one to be sent away", || waiting.iter().find(|stream| is_answered(stream)));
    let mut answer = [0; 4096];
    let length = sent_away.peek(&mut answer).expect("an answer");
    let answer = text(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 303 "), "{answer}");
    assert!(answer.contains(&format!("location: {}\r\n", scene.url())), "{answer}");
    for _ in 0..100 {
        assert_eq!(scene.server.get("/tree").status, 302);
    }
    assert_eq!(waiting.iter().filter(|stream| is_answered(stream)).count(), 1, "they were not waiting");
    scene.gate.open();
    wait_for("all of them to be sent on", || waiting.iter().skip(1).all(is_answered).then_some(()));
}
