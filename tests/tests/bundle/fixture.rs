//! A package with all that makes bundles hard, made from C and this machine's C library: no Nix is needed.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
};

use binplz_launcher::{
    manifest::About,
    pack::{Packed, Source, pack},
    trim::Trim,
};
use binplz_tests::server::repository;
use tempfile::TempDir;

pub(crate) const GLIBC: &str = "00000000000000000000000000000000-glibc-2";
pub(crate) const TOOLS: &str = "11111111111111111111111111111111-tools-1.0";
pub(crate) const PLUGIN: &str = "22222222222222222222222222222222-plugin-1.0";
pub(crate) const DATA: &str = "33333333333333333333333333333333-data";
pub(crate) const NCURSES: &str = "44444444444444444444444444444444-ncurses-6";
/// A store path that the bundle does not have.
pub(crate) const OTHER: &str = "55555555555555555555555555555555-other";

/// A directory for each test below one that every user can reach.
pub(crate) fn scratch() -> TempDir {
    let dir = tempfile::Builder::new().prefix("binplz-bundle.").tempdir().expect("a directory");
    open_to_all(dir.path());
    dir
}

/// A directory that lasts as long as this run: nothing drops what is static. A later run removes it.
fn lasting(name: &str) -> PathBuf {
    const PREFIX: &str = "binplz-bundles-of-";
    static RUN: LazyLock<PathBuf> = LazyLock::new(|| {
        let all = std::env::temp_dir();
        for entry in fs::read_dir(&all).expect("a directory").flatten() {
            let name = entry.file_name();
            let run = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
            if run.is_some_and(|run| !Path::new("/proc").join(run.to_string()).exists()) {
                // Another run may remove it at the same time.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let dir = all.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&dir).expect("a new directory");
        open_to_all(&dir);
        dir
    });
    let dir = RUN.join(name);
    fs::create_dir(&dir).expect("a new directory");
    open_to_all(&dir);
    dir
}

pub(crate) fn open_to_all(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o1777)).expect("a mode");
}

pub(crate) fn succeed(command: &mut Command) -> Output {
    let out = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    out
}

/// The launcher's program for a machine, compiled as it is shipped.
pub(crate) fn launcher(arch: &str) -> PathBuf {
    static DIR: LazyLock<PathBuf> = LazyLock::new(|| {
        let here = std::env::current_exe().expect("a test is a program");
        let dir = here.ancestors().nth(3).expect("target/PROFILE/deps/TEST").join("launchers");
        succeed(Command::new(repository().join("scripts/launcher")).arg(&dir));
        dir
    });
    DIR.join(format!("binplz-launcher-{arch}"))
}

/// The machine that the tests run on.
pub(crate) const HERE: &str = std::env::consts::ARCH;

/// The package's store paths, below a directory, and the programs that tests take.
pub(crate) struct Fixture {
    dir: PathBuf,
    pub(crate) programs: Vec<(String, PathBuf)>,
}

pub(crate) static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| Fixture::new(HERE));

fn c(name: &str) -> PathBuf {
    repository().join("tests/tests/bundle/c").join(name)
}

fn gcc(arch: &str) -> String {
    if arch == HERE { "gcc".to_owned() } else { format!("{arch}-linux-gnu-gcc") }
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).expect("a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
}

impl Fixture {
    pub(crate) fn new(arch: &str) -> Self {
        let dir = lasting(&format!("store-{arch}"));
        let at = |path: &str| dir.join("store").join(path);
        let make = |path: String| fs::create_dir_all(at(&path)).expect("a directory");
        for path in [
            format!("{GLIBC}/lib"),
            format!("{TOOLS}/bin"),
            format!("{TOOLS}/share/man/man1"),
            format!("{PLUGIN}/lib"),
            format!("{DATA}/terminfo/x"),
            format!("{DATA}/certs"),
        ] {
            make(path);
        }
        let find = |name: &str| {
            let out = succeed(Command::new(gcc(arch)).arg(format!("-print-file-name={name}")));
            PathBuf::from(String::from_utf8(out.stdout).expect("a path").trim())
        };
        let loader = if arch == "aarch64" { "ld-linux-aarch64.so.1" } else { "ld-linux-x86-64.so.2" };
        for name in [loader, "libc.so.6", "libdl.so.2", "libresolv.so.2"] {
            fs::copy(find(name), at(&format!("{GLIBC}/lib/{name}"))).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let lib = format!("/nix/store/{GLIBC}/lib");
        succeed(
            Command::new(gcc(arch))
                .args(["-shared", "-fPIC", "-o"])
                .arg(at(&format!("{PLUGIN}/lib/plugin.so")))
                .arg(c("plugin.c")),
        );
        let bin = at(&format!("{TOOLS}/bin"));
        for name in ["probe", "wrapper"] {
            succeed(
                Command::new(gcc(arch))
                    .args(["-O1", "-o"])
                    .arg(bin.join(name))
                    .arg(c(&format!("{name}.c")))
                    .arg(format!("-DPROBE=\"/nix/store/{TOOLS}/bin/probe\""))
                    .arg(format!("-DSIBLING=\"/nix/store/{TOOLS}/bin/sibling\""))
                    .arg(format!("-DPLUGIN=\"/nix/store/{PLUGIN}/lib/plugin.so\""))
                    .arg(format!("-Wl,--dynamic-linker={lib}/{loader},-rpath,{lib}"))
                    .arg("-ldl"),
            );
        }
        // The libraries are of this machine.
        if arch == HERE {
            make(format!("{NCURSES}/lib"));
            make(format!("{NCURSES}/share/terminfo/x"));
            let libraries = ["libncursesw.so.6", "libtinfo.so.6"].map(|name| at(&format!("{NCURSES}/lib/{name}")));
            for library in &libraries {
                let name = library.file_name().and_then(OsStr::to_str).expect("a name");
                fs::copy(find(name), library).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            let place = format!("/nix/store/{NCURSES}");
            fs::copy("/lib/terminfo/x/xterm", at(&format!("{NCURSES}/share/terminfo/x/xterm"))).expect("ncurses-base");
            succeed(
                Command::new("gcc")
                    .args(["-O1", "-o"])
                    .arg(bin.join("screen"))
                    .arg(c("screen.c"))
                    .arg(format!("-DTERMINFO=\"{place}/share/terminfo\""))
                    .args(libraries)
                    .arg(format!("-Wl,--no-as-needed,--dynamic-linker={lib}/{loader},-rpath,{lib}:{place}/lib")),
            );
        }
        for n in 0..50 {
            fs::copy(bin.join("probe"), bin.join(format!("probe{n:02}"))).expect("a copy");
        }
        symlink("probe", bin.join("sibling")).expect("a link");
        // Its interpreter prints it.
        script(&bin.join("script"), &format!("#!/nix/store/{TOOLS}/bin/probe print\na script\n"));
        fs::write(at(&format!("{TOOLS}/share/man/man1/probe.1")), "a page").expect("a page");
        fs::write(at(&format!("{DATA}/terminfo/x/xterm")), "a terminal").expect("a terminal");
        fs::write(at(&format!("{DATA}/certs/ca.crt")), "a certificate").expect("a certificate");
        fs::write(at(&format!("{DATA}/empty")), "").expect("a file");
        noise(&at(&format!("{DATA}/large")), 17 << 20);
        symlink("/etc/passwd", at(&format!("{DATA}/passwd"))).expect("a link");
        let names = fs::read_dir(&bin).expect("bin").map(|entry| entry.expect("an entry").file_name());
        let programs = names.map(|name| (name.to_string_lossy().into_owned(), bin.join(&name))).collect();
        Self { dir, programs }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    pub(crate) fn closure(&self) -> Vec<PathBuf> {
        let names = fs::read_dir(self.store()).expect("the store").map(|entry| entry.expect("an entry").path());
        names.collect()
    }

    /// Packs it at a fast level.
    pub(crate) fn pack(&self, arch: &str, about: &About, trim: Trim, to: &Path) -> Packed {
        self.pack_with(Vec::new(), arch, about, trim, &|| true, to).expect("a bundle")
    }

    /// Packs it with more store paths, as long as it may go on.
    pub(crate) fn pack_with(
        &self,
        more: Vec<PathBuf>,
        arch: &str,
        about: &About,
        trim: Trim,
        go_on: &dyn Fn() -> bool,
        to: &Path,
    ) -> io::Result<Packed> {
        let mut output = File::options().read(true).write(true).create_new(true).open(to).expect("a file");
        let (launcher, closure) = (launcher(arch), [self.closure(), more].concat());
        let source =
            Source { launcher: &launcher, closure: &closure, programs: &self.programs, main: "probe", about, trim };
        pack(&source, 1, 1 << 30, go_on, &mut output)
    }
}

pub(crate) fn about(arch: &str) -> About {
    About {
        package: "tools".to_owned(),
        version: "1.0".to_owned(),
        nixpkgs: "0123456789012345678901234567890123456789".to_owned(),
        system: format!("{arch}-linux"),
        licence: "MIT".to_owned(),
    }
}

/// A file that does not compress.
pub(crate) fn noise(path: &Path, size: usize) {
    let mut state = 1_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    })
    .take(size)
    .collect();
    fs::write(path, bytes).expect("noise");
}

/// The bundle of the fixture, made once.
pub(crate) fn bundle() -> &'static Path {
    static BUNDLE: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = lasting("bundle").join("tools");
        FIXTURE.pack(HERE, &about(HERE), Trim::Usual, &path);
        path
    });
    &BUNDLE
}

/// Packs the fixture under another description, which makes it another bundle.
pub(crate) fn pack_about(version: &str, to: &Path) {
    FIXTURE.pack(HERE, &About { version: version.to_owned(), ..about(HERE) }, Trim::Usual, to);
}

/// A static program of this directory.
pub(crate) fn tool(name: &str) -> &'static Path {
    static TOOLS: LazyLock<PathBuf> = LazyLock::new(|| {
        let dir = lasting("tools");
        for name in ["inside", "probe"] {
            let mut gcc = Command::new("musl-gcc");
            gcc.args(["-static", "-DSIBLING=\"none\"", "-o"]).arg(dir.join(name)).arg(c(&format!("{name}.c")));
            succeed(&mut gcc);
        }
        dir
    });
    static PATHS: LazyLock<[PathBuf; 2]> = LazyLock::new(|| ["inside", "probe"].map(|name| TOOLS.join(name)));
    PATHS.iter().find(|path| path.file_name() == Some(OsStr::new(name))).expect("a tool")
}
