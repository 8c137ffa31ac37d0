//! Makes the unpacked files visible at `/nix/store`, for this process and those that it starts. All else stays as it is: the change that
//! changes least comes first. Nothing is started, so signals, the terminal and process ids stay those of the caller.

use std::{
    env,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, symlink},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, StatVfsMountFlags, mknodat, open, statvfs},
    io::Errno,
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, mount_remount,
        unmount,
    },
    process::{chroot, fchdir, getegid, geteuid, getppid, pivot_root},
    thread::UnshareFlags,
};

use crate::{cache::Unpacked, error::StartError, unpack::STORE};

/// The option that runs [`map_ids`].
pub const MAP_IDS: &str = "--binplz-map-ids";

/// Makes the files of a bundle visible.
///
/// # Errors
/// [`StartError::NoNamespace`] where the system forbids it.
pub(crate) fn enter(unpacked: &Unpacked) -> Result<(), StartError> {
    let cwd = Cwd::now();
    namespace()?;
    own_mounts().map_err(|error| off("mount propagation", error))?;
    env::set_current_dir(unpacked.store()).map_err(|error| StartError::File { path: unpacked.store(), error })?;
    if Path::new(STORE).is_dir() {
        // The store's place is named as the working directory: a path would need quoting.
        let both = c"lowerdir=.:/nix/store";
        mount("binplz", STORE, "overlay", MountFlags::RDONLY, both)
            .map_err(io::Error::from)
            .or_else(|_| joined(unpacked))
            .map_err(|error| off("mount /nix/store", error))?;
    } else {
        new_root(unpacked).map_err(|error| off("mount a root", error))?;
    }
    cwd.restore();
    Ok(())
}

/// The working directory, which stays the same one.
struct Cwd {
    path: io::Result<PathBuf>,
    dir: io::Result<File>,
}

impl Cwd {
    fn now() -> Self {
        let dir = open(".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        Self { path: env::current_dir(), dir: dir.map(File::from).map_err(io::Error::from) }
    }

    /// Goes there by its path, for it has to lie in what is mounted now; if it has no path, for example because it was removed, as before.
    fn restore(self) {
        let same = |path: &PathBuf| {
            let (by_path, before) = (fs::metadata(path)?, self.dir.as_ref().map(File::metadata));
            let before = before.map_err(|error| io::Error::from(error.kind()))??;
            // These two directories are other ones than before, with the same files.
            let new = path == Path::new("/") || path == Path::new("/nix");
            io::Result::Ok(new || (by_path.dev(), by_path.ino()) == (before.dev(), before.ino()))
        };
        let by_path =
            self.path.as_ref().is_ok_and(|path| same(path).unwrap_or(false) && env::set_current_dir(path).is_ok());
        if !by_path && !self.dir.as_ref().is_ok_and(|dir| fchdir(dir).is_ok()) {
            // The directory cannot be entered; nothing can be opened below it either way.
            let _ = env::set_current_dir("/");
        }
    }
}

/// A mount namespace, in which this process may mount.
fn namespace() -> Result<(), StartError> {
    match unshare(UnshareFlags::NEWNS) {
        Err(Errno::PERM) => {}
        done => return done.map_err(|error| off("unshare", error.into())),
    }
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let root = user == 0;
    // All ids stay as they are if a process outside says so, one with the rights of root.
    let helper = if root { Helper::start().ok() } else { None };
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).map_err(|error| off("unshare", error.into()))?;
    if helper.is_some_and(|helper| helper.map().is_ok()) {
        return Ok(());
    }
    // The kernel asks for this before a group is mapped; kernels before 3.19 have no such file.
    let _ = fs::write("/proc/self/setgroups", "deny");
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))
        .and_then(|()| fs::write("/proc/self/gid_map", format!("{group} {group} 1")))
        .map_err(|error| off("write /proc/self/uid_map", error))
}

#[expect(deprecated, reason = "it is unsafe where threads share files; neither is so here")]
fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    rustix::thread::unshare(flags)
}

/// A process outside of the user namespace, which waits for it to be made.
struct Helper(std::process::Child);

impl Helper {
    fn start() -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(MAP_IDS).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(Self(command.spawn()?))
    }

    fn map(mut self) -> io::Result<()> {
        drop(self.0.stdin.take());
        let mut answer = Vec::new();
        let read = self.0.stdout.take().map_or(Ok(0), |mut out| out.read_to_end(&mut answer));
        // Its answer counts: if the caller ignores SIGCHLD, there is no status.
        let _ = self.0.wait();
        read?;
        if answer == b"done" { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

/// Waits for the end of the standard input, then maps each id of this user namespace to itself in that of the parent process.
///
/// # Errors
/// What the system says; a process that may not do this cannot do it here either.
pub fn map_ids() -> io::Result<()> {
    let parent = getppid().ok_or(io::ErrorKind::NotFound)?.as_raw_nonzero();
    io::stdin().read_to_end(&mut Vec::new())?;
    for map in ["uid_map", "gid_map"] {
        let ours = fs::read_to_string(format!("/proc/self/{map}"))?;
        let same = |line: &str| {
            let mut fields = line.split_whitespace();
            let (from, _, count) = (fields.next()?, fields.next()?, fields.next()?);
            Some(format!("{from} {from} {count}\n"))
        };
        let text: String = ours.lines().filter_map(same).collect();
        fs::write(format!("/proc/{parent}/{map}"), text)?;
    }
    io::stdout().write_all(b"done")
}

/// Keeps mounts of this namespace from showing outside. Those made outside later show here.
fn own_mounts() -> io::Result<()> {
    let slave = || mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC);
    match slave() {
        Err(Errno::INVAL) => {}
        done => return Ok(done?),
    }
    // The root is a directory in a mount, by chroot. The mount itself has to be reached: a working directory outside of the
    // root leads up to it.
    let root = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    env::set_current_dir("/")?;
    let aside =
        fs::read_dir("/")?.filter_map(Result::ok).find(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    chroot(aside.ok_or(io::ErrorKind::NotFound)?.path())?;
    let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    while !same(fs::metadata(".")?, fs::metadata("..")?) {
        env::set_current_dir("..")?;
    }
    chroot(".")?;
    let done = slave();
    fchdir(&root)?;
    chroot(".")?;
    Ok(done?)
}

/// Covers the store with links to what it had, and with the bundle's paths: for machines without such overlays, and for the
/// third bundle that is started from the one before.
fn joined(unpacked: &Unpacked) -> io::Result<()> {
    const BEFORE: &str = ".binplz-before";
    let top = unpacked.mount_point();
    tmpfs(&top)?;
    let before = top.join(BEFORE);
    fs::create_dir(&before)?;
    mount_bind_recursive(STORE, &before)?;
    for entry in fs::read_dir(unpacked.store())? {
        let entry = entry?;
        show(&entry.path(), &top.join(entry.file_name()))?;
    }
    for entry in fs::read_dir(STORE)? {
        let name = entry?.file_name();
        if name != BEFORE && fs::symlink_metadata(top.join(&name)).is_err() {
            symlink(Path::new(BEFORE).join(&name), top.join(&name))?;
        }
    }
    read_only(&top);
    Ok(mount_bind_recursive(&top, STORE)?)
}

/// A root with all that the machine's has, and `/nix/store`.
fn new_root(unpacked: &Unpacked) -> io::Result<()> {
    let top = unpacked.mount_point();
    tmpfs(&top)?;
    for entry in fs::read_dir("/")? {
        let entry = entry?;
        if entry.file_name() != "nix" {
            // What the user may not see, the program could not use.
            let _ = show(&entry.path(), &top.join(entry.file_name()));
        }
    }
    let nix = top.join("nix");
    fs::create_dir(&nix)?;
    for entry in fs::read_dir("/nix").into_iter().flatten() {
        let entry = entry?;
        if entry.file_name() != "store" {
            let _ = show(&entry.path(), &nix.join(entry.file_name()));
        }
    }
    let store = nix.join("store");
    if statvfs(".")?.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        // An overlay over the files may be executed. It has an empty directory below: the one it is mounted on.
        fs::create_dir(&store)?;
        mount("binplz", &store, "overlay", MountFlags::RDONLY, c"lowerdir=.:../root/nix/store")?;
    } else {
        show(&unpacked.store(), &store)?;
        read_only(&store);
    }
    read_only(&top);
    env::set_current_dir(&top)?;
    match pivot_root(".", ".") {
        Ok(()) => unmount(".", UnmountFlags::DETACH)?,
        // The machine's root is no mount: a chroot, or the kernel's first root.
        Err(Errno::INVAL) => chroot(".")?,
        Err(error) => return Err(error.into()),
    }
    env::set_current_dir("/")
}

fn tmpfs(at: &Path) -> io::Result<()> {
    Ok(mount("binplz", at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755")?)
}

/// Mounts what is at `from`, with all below it, at the new place `to`. A link is copied.
fn show(from: &Path, to: &Path) -> io::Result<()> {
    let facts = fs::symlink_metadata(from)?;
    if facts.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if facts.is_dir() {
        fs::create_dir(to)?;
    } else {
        mknodat(CWD, to, FileType::RegularFile, Mode::RUSR, 0)?;
    }
    Ok(mount_bind_recursive(from, to)?)
}

/// Protects a mount from writes. In a user namespace, what restricts the file system below has to be repeated. Where it fails,
/// permissions protect the files.
fn read_only(at: &Path) {
    let Ok(facts) = statvfs(at) else { return };
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    for (is, flag) in [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
    ] {
        if facts.f_flag.contains(is) {
            flags |= flag;
        }
    }
    let _ = mount_remount(at, flags, c"");
}

/// The error with the setting that is most likely its cause.
fn off(attempt: &'static str, error: io::Error) -> StartError {
    let is = |file: &str, value: &str| fs::read_to_string(file).is_ok_and(|text| text.trim() == value);
    let exists = |file: &str| fs::metadata(file).is_ok();
    let setting = if is("/proc/sys/user/max_user_namespaces", "0") {
        "user namespaces are off: sysctl user.max_user_namespaces=10000 turns them on"
    } else if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "user namespaces are for root only: sysctl kernel.unprivileged_userns_clone=1 allows them"
    } else if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "AppArmor restricts user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0 allows them"
    } else if !exists("/proc/self") {
        "/proc is not mounted, and only root can do without it"
    } else if exists("/.dockerenv") || exists("/run/.containerenv") {
        "the container forbids namespaces: start it with --security-opt seccomp=unconfined, or as root with --cap-add SYS_ADMIN"
    } else {
        "namespaces are forbidden here: a security module, a seccomp filter or a chroot may do so"
    };
    StartError::NoNamespace { attempt, error, setting }
}

/// The path as the store's files know it.
pub(crate) fn in_store(path: &[u8]) -> PathBuf {
    Path::new(STORE).join(std::ffi::OsStr::from_bytes(path))
}
