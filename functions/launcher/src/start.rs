//! The launcher's work: it runs a program of its bundle, or carries out an option.

use std::{
    convert::Infallible,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    cache::{Cache, Places, marker},
    enter::{enter, in_store},
    error::{At, StartError},
    read::{Bundle, ReadError},
    unpack::{STORE, unpack, with_exact_modes},
};

/// The options. All other arguments are the program's.
pub const USAGE: &str = "\
Options of the launcher, each as the first argument:
  --binplz-run NAME …     runs another program of the package; so does a link with its name
  --binplz-info           prints the contents of this file, and the limits of programs in it
  --binplz-extract DIR    unpacks to the new directory DIR. If its path has at most ten characters, the programs run there
  --binplz-verify         checks all of this file, and the files that it has unpacked
  --binplz-clean          removes the files that it has unpacked";

/// How a namespace limits a program.
const LIMITS: &str = "\
A program in a bundle runs in a mount namespace, and, unless root starts it, in a user namespace:
  - Programs with the setuid bit (sudo, su, mount, ping) get no rights. chgrp to a supplementary group fails.
  - Files of other users seem to belong to user 65534. ssh refuses such a system configuration.
  - ptrace (strace -p, gdb -p) and /proc/PID/exe of processes outside are refused.
  - If the machine has no /nix/store, / is a separate file system: df / and programs that stay on one file system see that.
    In /proc/self/fd, files that were open before may lack their mount point.
  - Its mounts are not visible outside.
  - An ignored SIGPIPE is reset to its default, and a closed standard stream is /dev/null.
If you remove the cache while a program runs, the program cannot open its other files.

Checks before the program starts:
  - The first start compares each unpacked file with its sha256.
  - Each start compares the sha256 of the launcher and of the list of files. It also looks for changed files in the cache: among all
    files, or, in bundles of more than 2000 files, among programs, libraries and directories. If a file has changed, the start compares
    all files, and unpacks a damaged copy again. If the cache is intact, it does not read the rest of this file.
  - The first start after a boot, and --binplz-verify, also find changes that leave no trace, as on a failing disk.";

/// The launcher's arguments and environment.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The arguments; the first one is the name.
    pub arguments: Vec<OsString>,
    /// Where files may be kept.
    pub places: Places,
    /// Whether `LOCALE_ARCHIVE` is set.
    pub locales: bool,
}

/// Becomes the program, or carries out an option.
///
/// # Errors
/// Why the program does not start.
pub fn start(start: &Start, file: File) -> Result<(), StartError> {
    let text = |at: usize| start.arguments.get(at).map(|argument| argument.as_bytes());
    let option = text(1).filter(|argument| argument.starts_with(b"--binplz-"));
    let cache = |bundle: &Bundle| Cache::choose(&start.places, bundle.name());
    let open = || file.try_clone().map_err(ReadError::from).and_then(Bundle::open);
    match (option, start.arguments.get(2)) {
        (None, _) => run(start, file, None, 1).map(|never| match never {}),
        (Some(b"--binplz-run"), Some(name)) => run(start, file, Some(name), 3).map(|never| match never {}),
        (Some(b"--binplz-extract"), Some(dir)) => extract(&open()?, Path::new(dir)),
        (Some(b"--binplz-info"), None) => open().map(|bundle| info(&bundle, cache(&bundle).ok())).map_err(Into::into),
        (Some(b"--binplz-verify"), None) => {
            open().map_err(Into::into).and_then(|bundle| verify(&bundle, &cache(&bundle)?))
        }
        (Some(b"--binplz-clean"), None) => cache(&open()?)?.clean(),
        (Some(_), _) => Err(StartError::Usage(format!("unknown option, or wrong number of arguments\n{USAGE}"))),
    }
}

/// Runs the program of that name, or the one that `argv[0]` names, or the main one. `skipped` arguments are not for it.
fn run(start: &Start, file: File, name: Option<&OsStr>, skipped: usize) -> Result<Infallible, StartError> {
    let mut bundle = Bundle::open_head(file.try_clone().map_err(ReadError::from)?)?;
    bundle.check_launcher()?;
    let cache = || Cache::choose(&start.places, bundle.name());
    // If a program of this bundle has started the bundle, its files are there.
    if !Path::new(STORE).join(marker(&bundle.name())).exists() {
        let cache = cache()?;
        let unpacked = match cache.found() {
            Some(unpacked) => unpacked,
            None => {
                bundle = Bundle::open(file)?;
                cache.unpacked(&bundle)?
            }
        };
        enter(&unpacked)?;
    }
    let manifest = &bundle.manifest;
    let program = match name {
        Some(name) => manifest.program(name.as_bytes()).ok_or_else(|| {
            StartError::Usage(format!("the bundle has no program {}: see --binplz-info", name.to_string_lossy()))
        })?,
        None => {
            let name = start.arguments.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
            manifest
                .program(name.as_bytes())
                .or(manifest.programs.get(manifest.main))
                .ok_or(ReadError::Malformed("it has no main program"))?
        }
    };
    let path = in_store(&program.path);
    let mut command = Command::new(&path);
    // Interpreters find their libraries by this name.
    command.arg0(&path).args(start.arguments.iter().skip(skipped));
    // The C library of the bundle has few locales. These are the machine's.
    let locales = "/usr/lib/locale/locale-archive";
    if !start.locales && Path::new(locales).exists() {
        command.env("LOCALE_ARCHIVE", locales);
    }
    let error = command.exec();
    Err(StartError::Exec { program: path, error })
}

/// Unpacks for use without the launcher.
fn extract(bundle: &Bundle, dir: &Path) -> Result<(), StartError> {
    let dir = std::path::absolute(dir).at(dir)?;
    let text = dir.to_str().filter(|text| text.len() <= STORE.len());
    // Slashes at the end fill it up: a path may have any number.
    let moved_to = text.map(|text| format!("{text:/<width$}", width = STORE.len()));
    fs::DirBuilder::new().mode(0o755).create(&dir).at(&dir)?;
    let bin = dir.join("bin");
    let extracted = with_exact_modes(|| {
        unpack(bundle, &dir, moved_to.as_deref())?;
        fs::create_dir(&bin).at(&bin)?;
        bundle.manifest.programs.iter().try_for_each(|program| {
            let link = bin.join(&program.name);
            symlink(Path::new("..").join(OsStr::from_bytes(&program.path)), &link).at(&link)
        })
    });
    if extracted.is_err() {
        let _ = fs::remove_dir_all(&dir);
    }
    extracted?;
    say(&if moved_to.is_some() {
        format!("The programs are in {}, and run there: do not move them.\n", bin.display())
    } else {
        let dir = dir.display();
        format!(
            "The files are in {dir}. The programs look for them in {STORE}: as root, ln -s {dir} {STORE}\n\
             To run them where they are, extract to a directory whose path has at most ten characters, such as /tmp/tools.\n"
        )
    });
    Ok(())
}

fn info(bundle: &Bundle, cache: Option<Cache>) {
    let manifest = &bundle.manifest;
    let about = &manifest.about;
    let mut text = String::new();
    for (what, value) in [
        ("package", &about.package),
        ("version", &about.version),
        ("licence", &about.licence),
        ("nixpkgs", &about.nixpkgs),
        ("system", &about.system),
        ("bundle", &bundle.name()),
    ] {
        text += &format!("{what:<9} {value}\n");
    }
    text += &format!("{:<9} {} bytes, {} files\n", "unpacked", manifest.unpacked(), manifest.entries.len());
    if let Some(dir) = cache.map(|cache| cache.dir()) {
        let state = if dir.exists() { "" } else { " (not unpacked yet)" };
        text += &format!("{:<9} {}{state}\n", "cache", dir.display());
    }
    let main = &manifest.programs[manifest.main].name;
    let names: Vec<&str> = manifest.programs.iter().map(|program| program.name.as_str()).collect();
    text += &format!("{:<9} {} (by default {main})\n", "programs", names.join(" "));
    say(&format!("{text}\n{LIMITS}\n\n{USAGE}\n"));
}

fn verify(bundle: &Bundle, cache: &Cache) -> Result<(), StartError> {
    bundle.check_launcher()?;
    bundle.check_content()?;
    let unpacked = match cache.is_whole(bundle) {
        None => "nothing is unpacked",
        Some(true) => "the unpacked files are intact",
        Some(false) => {
            return Err(StartError::File {
                path: cache.dir(),
                error: io::Error::other("it is damaged; the next start unpacks it again"),
            });
        }
    };
    say(&format!("The bundle is intact, and {unpacked}.\n"));
    Ok(())
}

/// Prints to the standard output, which may be closed.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// This program's own file: by `/proc`, or where that is not mounted, by the name it was started with and `PATH`.
///
/// # Errors
/// What opening it says.
pub fn own_file(name: &OsStr, path: Option<OsString>) -> io::Result<File> {
    File::open("/proc/self/exe").or_else(|error| {
        let places = || {
            std::env::split_paths(path.as_deref().unwrap_or_default())
                .map(|dir| dir.join(name))
                .find(|file| file.is_file())
        };
        let file = if name.as_bytes().contains(&b'/') { Some(PathBuf::from(name)) } else { places() };
        file.map_or(Err(error), File::open)
    })
}
