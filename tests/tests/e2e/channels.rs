//! Pins from a channel's release, and databases of programs, by `binplz pin`.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use binplz_tests::server::{Server, demo_set, named_set, program, repository};
use serde_json::Value;
use tempfile::TempDir;

use crate::names::catalogued;

const REV: &str = "0123456789abcdef0123456789abcdef01234567";
/// The directory of the release, as the real server has it.
const RELEASE: &str = "nixos/26.05/nixos-26.05.1234.0123456789ab";

/// A channels' server: it redirects a channel, and each of its files, to the newest release.
struct Channels {
    url: String,
    dir: TempDir,
}

impl Channels {
    /// With a release of a nixpkgs.
    fn with(nixpkgs: &Path) -> Channels {
        let dir = tempfile::tempdir().expect("a directory");
        let release = dir.path().join(RELEASE);
        fs::create_dir_all(&release).expect("a directory");
        fs::write(release.join("git-revision"), REV).expect("a file");
        let root = RELEASE.rsplit('/').next().expect("a name");
        let mut tar = Command::new("tar");
        tar.arg("-cJf").arg(release.join("nixexprs.tar.xz")).arg("-C").arg(nixpkgs);
        assert!(tar.arg(format!("--transform=s,^\\.,{root},")).arg(".").status().expect("tar").success());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (files, origin) = (dir.path().to_owned(), url.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client may leave early.
                let _ = answer(stream, &files, &origin);
            }
        });
        Channels { url, dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(RELEASE).join(name)
    }
}

fn answer(mut stream: TcpStream, files: &Path, origin: &str) -> std::io::Result<()> {
    let lines = BufReader::new(stream.try_clone()?).lines();
    let request: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let path = request.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("/");
    let file = files.join(path.trim_start_matches('/'));
    let (status, header, body) = if let Some(rest) = path.strip_prefix("/nixos-26.05") {
        ("302 Found", format!("location: {origin}/{RELEASE}{rest}"), Vec::new())
    } else if file.is_dir() {
        ("200 OK", "content-type: text/html".to_owned(), b"<html>".to_vec())
    } else {
        match fs::read(file) {
            Ok(bytes) => ("200 OK", "content-type: application/octet-stream".to_owned(), bytes),
            Err(_) => ("404 Not Found", "content-type: text/plain".to_owned(), Vec::new()),
        }
    };
    write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{header}\r\n\r\n", body.len())?;
    stream.write_all(&body)
}

fn pin(server: &Server, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("binplz"));
    command.arg("pin").args(arguments).arg("--data").arg(&server.data).output().expect("binplz")
}

/// What a command prints that succeeds.
fn told(server: &Server, arguments: &[&str]) -> String {
    let out = pin(server, arguments);
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn refusal(server: &Server, arguments: &[&str]) -> String {
    let out = pin(server, arguments);
    assert!(!out.status.success(), "{arguments:?}");
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn pins(server: &Server) -> Value {
    serde_json::from_str(&told(server, &["list", "--json"])).expect("JSON")
}

#[test]
fn a_channels_release_is_a_pin_whose_programs_are_known_by_their_own_names() {
    let (set, dir) = (named_set(), tempfile::tempdir().expect("a directory"));
    let channels = Channels::with(set.path());
    let server = Server::start(&demo_set(), &dir.path().join("data"), &["--names", "known"]);
    let listed = told(&server, &["add", "nixos-26.05", "--channel", "--channels", &channels.url]);
    assert!(listed.contains(&format!("nixos-26.05  {REV}")), "{listed}");
    // The demo set has no database, and the release has one.
    assert!(listed.contains("local: it has no database of programs") && !listed.contains("nixos-26.05: "), "{listed}");
    let pinned = &pins(&server)["pins"]["nixos-26.05"];
    assert_eq!((&pinned["rev"], &pinned["programs"]), (&REV.into(), &"included".into()));
    // Nix has unpacked it, under a name that has its content's hash.
    let path = pinned["nixpkgs"]["path"].as_str().expect("a path").to_owned();
    assert!(Path::new(&path).join("programs.sqlite").is_file(), "{path}");
    // The same again changes nothing; another name of the pin needs the channel's.
    told(&server, &["add", "nixos-26.05", "--channel", "nixos-26.05", "--channels", &channels.url]);
    let moved = told(&server, &["add", "stable", "--channel", "nixos-26.05", "--channels", &channels.url]);
    assert!(moved.contains(&format!("stable       {REV}")), "{moved}");

    catalogued_of(&server, "nixos-26.05");
    for (name, package) in [("vmstatx", "proc-tools"), ("suitectl", "suite"), ("kit-cut", "kit")] {
        let status = server.status(&format!("{name}?pin=nixos-26.05"));
        assert_eq!(status["package"], package, "{name}: {status}");
    }

    // What is not a channel's release.
    for (channel, why) in
        [("nixos-99.05", "nixos-99.05: http status: 404"), ("nixos", "git-revision: http status: 404")]
    {
        let refused = refusal(&server, &["add", "x", "--channel", channel, "--channels", &channels.url]);
        assert!(refused.contains(why), "{refused}");
    }
    fs::write(channels.file("git-revision"), "x".repeat(1000)).expect("a file");
    let refused = refusal(&server, &["move", "nixos-26.05", "--channel", "--channels", &channels.url]);
    assert!(refused.contains("git-revision is not a commit: expected 40 hex digits"), "{refused}");
    fs::write(channels.file("git-revision"), "f".repeat(40)).expect("a file");
    fs::write(channels.file("nixexprs.tar.xz"), "no tarball").expect("a file");
    refusal(&server, &["move", "nixos-26.05", "--channel", "--channels", &channels.url]);
    assert_eq!(pins(&server)["pins"]["nixos-26.05"]["rev"], REV);
}

/// Waits for the catalogue of a pin: until then names are attributes.
fn catalogued_of(server: &Server, pin: &str) {
    binplz_tests::site::wait_for("the catalogue", || {
        let look = server.send("HEAD", &format!("/no-such-thing-exists?pin={pin}"), &[], b"");
        look.header("x-binplz-catalogue").is_none().then_some(())
    });
}

#[test]
fn a_database_of_programs_is_added_to_a_pin_whose_catalogue_is_then_made_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&demo_set(), &dir.path().join("data"), &["--names", "known"]);
    catalogued(&server);
    assert_eq!(server.get("/treefrog").status, 404);
    let file = dir.path().join("programs.sqlite");
    let text = file.to_str().expect("a path");
    fs::write(&file, "no database").expect("a file");
    let refused = refusal(&server, &["programs", "local", text]);
    assert!(refused.contains("is not a database of programs: expected SQLite with a table Programs"), "{refused}");
    assert!(refusal(&server, &["programs", "elsewhere", text]).contains("there is no pin elsewhere"));
    fs::remove_file(&file).expect("a file");
    let rows = "CREATE TABLE Programs (name text not null, system text not null, package text not null, primary key (name, system, package)); \
                INSERT INTO Programs VALUES ('tree', 'x86_64-linux', 'tree'), ('treefrog', 'x86_64-linux', 'tree');";
    assert!(Command::new("sqlite3").arg(&file).arg(rows).status().expect("sqlite3").success());

    assert!(told(&server, &["list"]).contains("binplz pin programs local programs.sqlite"));
    let listed = told(&server, &["programs", "local", text]);
    assert!(!listed.contains("programs"), "{listed}");
    let stored = pins(&server)["pins"]["local"]["programs"]["stored"].clone();
    assert_eq!(stored["size"], fs::metadata(&file).expect("a file").len());
    binplz_tests::site::wait_for("the next catalogue", || (server.get("/treefrog").status == 202).then_some(()));
    assert_eq!(server.status("treefrog")["package"], "tree");

    // A pin of another nixpkgs gets one at once, in the place of the included one. Without its file, the list says so.
    let set = repository().join("tests/fixtures/set");
    told(&server, &["add", "other", "--path", set.to_str().expect("a path"), "--programs", text]);
    assert_eq!(pins(&server)["pins"]["other"]["programs"]["stored"], stored);
    let object = server.data.join(format!("objects/nixpkgs/{}.sqlite", stored["sha256"].as_str().expect("hex")));
    fs::remove_file(&object).expect("the object");
    assert!(told(&server, &["list"]).contains("other: its database of programs is missing"));
}
