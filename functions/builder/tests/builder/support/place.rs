//! Restricted places for a builder to work in. Some of them need root or sudo.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::process::geteuid;

/// A place: the command that enters it and runs the rest of the command line.
pub(crate) struct Place {
    pub(crate) command: Vec<String>,
    group: Option<PathBuf>,
}

impl Place {
    fn by(command: &[&str]) -> Place {
        Place { command: command.iter().map(|word| (*word).to_owned()).collect(), group: None }
    }

    /// The machine without restrictions.
    pub(crate) fn here() -> Place {
        Place::by(&[])
    }

    /// A directory, empty at first, on a disk of that size (`40m`, `64k`).
    pub(crate) fn with_disk(dir: &Path, size: &str) -> Place {
        // An unprivileged user needs a user namespace around it.
        let namespace = if geteuid().is_root() { "-m" } else { "-rm" };
        let script = r#"mount -t tmpfs -o "size=$1" none "$2"; shift 2; exec "$@""#;
        let dir = dir.to_str().expect("a path");
        Place::by(&["unshare", namespace, "sh", "-ec", script, "sh", size, dir])
    }

    /// A container as most are, without the right to make namespaces: a root directory of its own, and no CAP_SYS_ADMIN.
    pub(crate) fn without_namespaces(dir: &Path) -> Place {
        let namespace = if geteuid().is_root() { "-m" } else { "-rm" };
        let script = r#"mount --rbind / "$1"; dir=$1; shift
            exec chroot "$dir" setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin -- "$@""#;
        Place::by(&["unshare", namespace, "sh", "-ec", script, "sh", dir.to_str().expect("a path")])
    }

    /// A control group with that memory limit.
    pub(crate) fn with_memory(megabytes: u32) -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Version 2 of control groups, or version 1.
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let (top, limit) = match unified {
            true => ("/sys/fs/cgroup", "memory.max"),
            false => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        };
        let group = format!("{top}/binplz-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let bytes = u64::from(megabytes) << 20;
        as_root(&format!("mkdir {group} && echo {bytes} > {group}/{limit}"));
        let enter = format!(r#"echo $$ | {} tee {group}/cgroup.procs > /dev/null; exec "$@""#, sudo().join(" "));
        let mut place = Place::by(&["sh", "-ec", &enter, "sh"]);
        place.group = Some(PathBuf::from(group));
        place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // All its processes have ended, or will at once.
        let left = |group: &PathBuf| fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|pids| !pids.is_empty());
        if let Some(group) = self.group.as_ref().filter(|group| !left(group)) {
            as_root(&format!("rmdir {}", group.display()));
        }
    }
}

fn sudo() -> &'static [&'static str] {
    if geteuid().is_root() { &[] } else { &["sudo", "-n", "--"] }
}

fn as_root(script: &str) {
    let words: Vec<&str> = sudo().iter().copied().chain(["sh", "-ec", script]).collect();
    let ran = Command::new(words[0]).args(&words[1..]).status();
    assert!(ran.is_ok_and(|status| status.success()), "{script}: it takes root, or sudo, and control groups");
}
