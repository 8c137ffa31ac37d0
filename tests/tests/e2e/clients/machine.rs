//! A user's machine: a home directory, and a PATH that holds these tools and no others.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use binplz_tests::{server::write_program, site::wait_for};
use tempfile::TempDir;

use super::text;

/// Which shell runs what was saved. busybox brings its own tools too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shell {
    Dash,
    Bash,
    Busybox,
}

pub(super) const SHELLS: [Shell; 3] = [Shell::Dash, Shell::Bash, Shell::Busybox];

/// What downloads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Client {
    Curl,
    Wget,
    BusyboxWget,
}

pub(super) const CLIENTS: [Client; 3] = [Client::Curl, Client::Wget, Client::BusyboxWget];

/// Tries something with every shell and client, all at once: most of it is waiting.
pub(super) fn everywhere(with: impl Fn(Shell, Client) + Sync) {
    std::thread::scope(|threads| {
        for (shell, client) in SHELLS.into_iter().flat_map(|shell| CLIENTS.map(|client| (shell, client))) {
            let with = &with;
            threads.spawn(move || with(shell, client));
        }
    });
}

/// What every machine has, as far as the stub and the installer need it.
const TOOLS: [&str; 15] = [
    "cat", "chmod", "chown", "cp", "grep", "gzip", "mkdir", "mv", "readlink", "rm", "sleep", "stat", "tar", "uname",
    "wc",
];

/// A machine; its home is empty at first.
pub(super) struct Machine {
    root: TempDir,
    shell: Shell,
}

impl Machine {
    /// A machine with that shell and client, and, if any, that program for sums.
    pub(super) fn new(shell: Shell, client: Client, sums: Option<&str>) -> Machine {
        let machine = Machine { root: tempfile::tempdir().expect("a temporary directory"), shell };
        fs::create_dir(machine.home()).expect("a directory");
        fs::create_dir(machine.bin()).expect("a directory");
        let tools = TOOLS.into_iter().chain(sums.filter(|tool| *tool != "sha256sum"));
        tools.for_each(|tool| machine.link(tool, machine.own(tool)));
        if sums == Some("sha256sum") {
            machine.link("sha256sum", machine.own("sha256sum"));
        }
        match client {
            Client::Curl => machine.link("curl", find("curl")),
            Client::Wget => machine.link("wget", find("wget")),
            Client::BusyboxWget => machine.link("wget", find("busybox")),
        }
        match shell {
            Shell::Dash => machine.link("sh", find("dash")),
            Shell::Bash => machine.link("sh", find("bash")),
            Shell::Busybox => machine.link("sh", find("busybox")),
        }
        machine
    }

    /// The usual one.
    pub(super) fn usual() -> Machine {
        Machine::new(Shell::Dash, Client::Curl, Some("sha256sum"))
    }

    /// Who does a tool's work here.
    fn own(&self, tool: &str) -> PathBuf {
        match (self.shell, tool) {
            (Shell::Busybox, "shasum" | "openssl" | "minisign") | (Shell::Dash | Shell::Bash, _) => find(tool),
            (Shell::Busybox, _) => find("busybox"),
        }
    }

    /// Adds a tool.
    pub(super) fn has(&self, tool: &str) {
        self.link(tool, self.own(tool));
    }

    fn link(&self, tool: &str, program: PathBuf) {
        symlink(program, self.bin().join(tool)).expect("a link");
    }

    pub(super) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    pub(super) fn bin(&self) -> PathBuf {
        self.root.path().join("bin")
    }

    /// Saves a file in the home directory, as curl and wget do: readable, and not executable.
    pub(super) fn save(&self, name: &str, content: &[u8]) {
        fs::write(self.home().join(name), content).expect("a file");
    }

    pub(super) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.home().join(name)).unwrap_or_default()
    }

    pub(super) fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.home().join(name)).expect("a file").permissions().mode() & 0o7777
    }

    /// All that is in the home directory or a directory of it.
    pub(super) fn files(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.home().join(directory)).expect("a directory");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// A line for this machine's shell, in its home and a process group of its own.
    pub(super) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(self.bin().join("sh"));
        command.arg("-c").arg(line).current_dir(self.home()).process_group(0);
        command.env_clear().env("PATH", self.bin()).env("HOME", self.home());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(super) fn run(&self, line: &str) -> Output {
        self.command(line).output().expect("a shell")
    }

    /// Starts a line; what it says goes to files beside the home.
    pub(super) fn start(&self, line: &str) -> Running {
        let said = tempfile::NamedTempFile::new_in(self.root.path()).expect("a file");
        let mut command = self.command(line);
        command.stderr(said.reopen().expect("a file"));
        Running { child: command.spawn().expect("a shell"), said }
    }

    /// Puts a script in a tool's place; `$real` is the tool, and `$n` says how often it has been called by now.
    pub(super) fn replace(&self, tool: &str, script: &str) -> Shim {
        let program = self.bin().join(tool);
        let real = fs::read_link(&program).expect("a tool");
        // busybox goes by its name.
        let moved = self.root.path().join("moved").join(tool);
        fs::create_dir_all(moved.parent().expect("a directory")).expect("a directory");
        symlink(real, &moved).expect("a link");
        fs::remove_file(&program).expect("a link");
        let at = self.root.path().join(format!("at-{tool}"));
        fs::create_dir(&at).expect("a directory");
        let made = Command::new("mkfifo").arg(at.join("go")).status().expect("mkfifo");
        assert!(made.success());
        let text = format!(
            "#!/bin/sh\nreal='{}' at='{}'\necho >> $at/calls\nn=$(/usr/bin/wc -l < $at/calls)\n{script}\n",
            moved.display(),
            at.display()
        );
        write_program(&program, text);
        Shim { at }
    }

    /// The tool waits at its `nth` call, until the test lets it go on.
    pub(super) fn hold(&self, tool: &str, nth: u32) -> Shim {
        self.replace(tool, &format!("[ $n != {nth} ] || {{ : > $at/here; read x < $at/go; }}\nexec $real \"$@\""))
    }

    /// The tool does its work, and then waits.
    pub(super) fn hold_after(&self, tool: &str, nth: u32) -> Shim {
        self.replace(
            tool,
            &format!("$real \"$@\"\nr=$?\n[ $n != {nth} ] || {{ : > $at/here; read x < $at/go; }}\nexit $r"),
        )
    }
}

/// A tool that waits.
pub(super) struct Shim {
    at: PathBuf,
}

impl Shim {
    /// Waits until a process has come to it.
    pub(super) fn arrived(&self) {
        wait_for("a tool to be called", || self.at.join("here").exists().then_some(()));
    }

    /// How often it was called by now.
    pub(super) fn calls(&self) -> usize {
        fs::read_to_string(self.at.join("calls")).unwrap_or_default().lines().count()
    }

    /// Lets it go on.
    pub(super) fn release(&self) {
        fs::write(self.at.join("go"), "\n").expect("a process waits");
    }
}

/// A line that runs.
pub(super) struct Running {
    child: Child,
    said: tempfile::NamedTempFile,
}

impl Running {
    /// Waits until it has said that.
    pub(super) fn says(&self, words: &str) {
        wait_for(words, || self.said().contains(words).then_some(()));
    }

    pub(super) fn said(&self) -> String {
        text(&fs::read(self.said.path()).expect("a file"))
    }

    /// Sends a signal to all of it, as a terminal does.
    pub(super) fn signal(&self, name: &str) {
        let group = format!("-{}", self.child.id());
        let sent = Command::new("kill").args([&format!("-{name}"), "--", &group]).status().expect("kill");
        assert!(sent.success());
    }

    /// Whether it has ended.
    pub(super) fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// How it ended, and what it said to its standard output.
    pub(super) fn end(self) -> (Option<i32>, String) {
        let output = self.child.wait_with_output().expect("a child");
        (output.status.code(), text(&output.stdout))
    }
}

/// Where a program of this machine's is.
pub(super) fn find(tool: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("a PATH");
    let found = std::env::split_paths(&path).map(|dir| dir.join(tool)).find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("there is no {tool} here: run this under scripts/test, which installs it"))
}

/// A directory's own disk, which only this command sees: a tmpfs with these options, on which the home's files are.
pub(super) fn on_disk(machine: &Machine, options: &str, then: &str, line: &str) -> Output {
    let namespace = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let disk: &Path = &machine.root.path().join("disk");
    fs::create_dir(disk).expect("a directory");
    let mut unshare = Command::new("unshare");
    let script = format!(
        r#"mount -t tmpfs -o {options} none "$1" && cp -a "$2/." "$1" && cd "$1" && {then}
        export PATH="$3" HOME="$1"; {line}"#
    );
    unshare.args([namespace, "sh", "-ec", &script, "sh"]).args([disk, &machine.home(), &machine.bin()]);
    unshare.output().expect("unshare, of util-linux")
}
