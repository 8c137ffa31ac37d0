//! A `binplz serve` of one's own: the real program, real Nix, a set of one's own, on a free port.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    ops::Deref,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::site::{Site, wait_for};

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in the repository").to_path_buf()
}

/// A program of the workspace.
pub fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("a test is a program");
    let target = here.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let program = target.join(name);
    let remedy = match name.starts_with("binplz-launcher-") {
        true => format!("scripts/launcher {}", target.display()),
        false => "cargo build --workspace".to_owned(),
    };
    assert!(program.is_file(), "{} is missing: run {remedy}, or scripts/test", program.display());
    program
}

/// Makes sure that Nix is set up as `scripts/setup` does it.
fn assert_set_up() {
    assert!(std::env::var_os("BINPLZ_SETUP").is_some(), "run this under scripts/test, or after: . scripts/setup");
}

/// The demo set, as it is in the repository.
pub fn demo_set() -> PathBuf {
    repository().join("tests/fixtures/set")
}

/// A copy of the demo set in which every derivation is new, so that what is built of it is really built, and every test's is
/// its own. `packages`: more Nix attributes for it, in the words of failing.nix.
pub fn fresh_set(packages: &str) -> TempDir {
    let copy = fresh_copy();
    edit(&copy, "builder.sh", |text| format!("{text}# {}\n", copy.path().display()));
    if !packages.is_empty() {
        edit(&copy, "failing.nix", |text| {
            text.replacen("lib.recurseIntoAttrs {", &format!("lib.recurseIntoAttrs {{\n{packages}"), 1)
        });
    }
    copy
}

/// A copy of the demo set with more names in it (`tests/fixtures/names`), and with a database of programs as channels have it.
/// Its packages are the demo set's own derivations.
pub fn named_set() -> TempDir {
    let copy = fresh_copy();
    let names = repository().join("tests/fixtures/names");
    fs::copy(names.join("names.nix"), copy.path().join("names.nix")).expect("a copy");
    edit(&copy, "default.nix", |text| {
        let packages = "// import ./packages.nix { inherit lib sources stdenv pkgs; }";
        text.replacen(packages, &format!("{packages} // import ./names.nix {{ inherit lib stdenv pkgs; }}"), 1)
    });
    let rows = fs::File::open(names.join("programs.sql")).expect("the rows");
    let sqlite = Command::new("sqlite3").arg("-bail").arg(copy.path().join("programs.sqlite")).stdin(rows).status();
    assert!(sqlite.expect("sqlite3: run this under scripts/test, or after: . scripts/setup").success());
    copy
}

fn fresh_copy() -> TempDir {
    let copy = tempfile::tempdir().expect("a temporary directory");
    let copied = Command::new("cp").arg("-rT").arg(demo_set()).arg(copy.path()).status();
    assert!(copied.expect("cp").success());
    copy
}

/// Changes a file of a set.
pub(crate) fn edit(copy: &TempDir, file: &str, change: impl Fn(String) -> String) {
    let path = copy.path().join(file);
    let text = fs::read_to_string(&path).expect("a file of the set");
    let changed = change(text.clone());
    assert_ne!(changed, text, "{file} is not as this test knows it");
    fs::write(&path, changed).expect("a file of the set");
}

/// A running server. Dropped, it is killed, and its builders with it.
pub struct Server {
    child: Child,
    site: Site,
    /// Its data directory.
    pub data: PathBuf,
    set: PathBuf,
    options: Vec<String>,
    environment: Vec<(&'static str, String)>,
    /// What it wrote to its standard error.
    log: PathBuf,
}

impl Server {
    /// A server of `set` with its data in `data`. The retry delay and the lease are short, and there is no catalogue, unless `options`
    /// says otherwise.
    pub fn start(set: &Path, data: &Path, options: &[&str]) -> Server {
        Server::start_in(&[], set, data, options)
    }

    /// The same with more variables in its environment, and in that of its builders.
    pub fn start_in(environment: &[(&'static str, String)], set: &Path, data: &Path, options: &[&str]) -> Server {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Server::start_at("127.0.0.1:0", set, data, options, environment.to_vec())
    }

    fn start_at(
        listen: &str,
        set: &Path,
        data: &Path,
        options: Vec<String>,
        environment: Vec<(&'static str, String)>,
    ) -> Server {
        assert_set_up();
        let log = data.with_extension("server.log");
        let output = fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log");
        let seen = fs::metadata(&log).expect("a log").len();
        let mut command = Command::new(program("binplz"));
        command.arg("serve").args(["--listen", listen, "--retry-delay", "1", "--lease", "4", "--names", "attributes"]);
        command.arg("--nixpkgs").arg(set).arg("--data").arg(data).args(&options);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let child = command.stdin(Stdio::null()).stderr(output).spawn().expect("binplz");
        let site = Site::at("");
        let mut server =
            Server { child, site, data: data.to_path_buf(), set: set.to_path_buf(), options, environment, log };
        server.site.address = wait_for("the server to listen", || server.told_address(seen));
        server
    }

    /// The address that it told since `seen` bytes of its log.
    fn told_address(&mut self, seen: u64) -> Option<String> {
        let text = self.log();
        if let Some(status) = self.child.try_wait().expect("a child") {
            panic!("the server ended ({status}): {text}");
        }
        let told = BufReader::new(text.as_bytes().get(usize::try_from(seen).ok()?..)?).lines();
        told.map_while(Result::ok).find_map(|line| Some(line.split_once(" at http://")?.1.to_owned()))
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL; its builders go on.
    pub fn kill(&mut self) {
        self.child.kill().expect("a running server");
        self.child.wait().expect("a child");
    }

    /// Starts it again, on the same port, data, set and options.
    pub fn restart(&mut self) {
        let again =
            Server::start_at(&self.site.address, &self.set, &self.data, self.options.clone(), self.environment.clone());
        let old = std::mem::replace(self, again);
        // What is left of it is a process that was waited for.
        std::mem::forget(old);
    }
}

impl Deref for Server {
    type Target = Site;
    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let builders = children(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        for builder in builders {
            // The group of each builder is its own; Nix's is another, and ends with it.
            kill_tree(builder);
        }
    }
}

/// The processes whose parent is `pid`.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(proc) = fs::read_dir("/proc") else { return Vec::new() };
    let parent = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is a name in parentheses, which may hold anything.
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    proc.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|p| parent(*p) == Some(pid))
        .collect()
}

/// The name of a process's program.
pub fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Writes a program, by a process that is over before this returns. Otherwise a process that another test starts at that moment
/// would hold the file open, and the program would not start ("text file busy").
pub fn write_program(path: &Path, bytes: impl AsRef<[u8]>) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(path).stdin(Stdio::piped());
    let mut writer = shell.spawn().expect("a shell");
    writer.stdin.take().expect("a pipe").write_all(bytes.as_ref()).expect("it reads");
    assert!(writer.wait().expect("a child").success(), "{}", path.display());
}

/// Sends SIGKILL to one process; one that is gone is fine.
pub fn kill(pid: u32) {
    let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Kills a process and all that come from it.
pub fn kill_tree(pid: u32) {
    let below = children(pid);
    kill(pid);
    below.into_iter().for_each(kill_tree);
}
