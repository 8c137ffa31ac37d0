//! A package's bundle: one file with its programs and all that they need at run time.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Instant,
};

use binplz_core::{
    build::{
        failure::{Failure, Kind},
        protocol::{Job, PROGRAMS_MAX, Phase},
    },
    id::{
        key::{Bin, BuildKey, NAME_MAX, OutputName, Product, Sha256, System},
        text::{bytes, clean_line},
    },
    objects::artifact::{Bundled, Main, Manifest, Program, Verdict},
};
use binplz_launcher::{
    manifest::About,
    pack::{LEVEL, Packed, Source, pack},
    trim::Trim,
};

use crate::{
    closure::Way,
    context::{BuildContext, Ending},
    evaluate::Package,
    hand_over::hand_over,
    programs::{self, Found},
    realise::Realised,
    scratch::Scratch,
};

/// The most bytes of files for each byte of the limit: no closure is compressed that much.
const RATIO_MAX: u64 = 10;

/// The longest text on its licences, in characters.
const TEXT_MAX: usize = 300;

/// The launcher for a bundle, which is a file beside this program; `None` if the job is not for a bundle.
pub(crate) fn launcher(key: &BuildKey) -> Result<Option<PathBuf>, Ending> {
    if !matches!(key.product, Product::Bundle { .. }) {
        return Ok(None);
    }
    let name = match key.system {
        System::X86_64Linux => "binplz-launcher-x86_64",
        System::Aarch64Linux => "binplz-launcher-aarch64",
    };
    let file = std::env::current_exe()?.with_file_name(name);
    match file.is_file() {
        true => Ok(Some(file)),
        false => {
            let why = format!("{name} is missing in the directory of binplz-builder: scripts/launcher DIR compiles it");
            Err(Ending::Failed(Failure::new(Kind::NoMachine, why)))
        }
    }
}

/// From a realised package to its bundle in the store.
pub(crate) fn of(
    context: &BuildContext,
    job: &Job,
    package: Package,
    realised: &Realised,
    launcher: &Path,
    scratch: &Scratch,
) -> Result<Manifest, Ending> {
    let Product::Bundle { attr, full } = &job.key.product else { return Err(Ending::ours("that is no bundle")) };
    context.progress_channel.update(|progress| (progress.phase, progress.step) = (Phase::Inspecting, None));
    let mut programs = programs(realised)?;
    let names: Vec<&Bin> = programs.keys().collect();
    let declared = package.main_program.as_deref();
    let main = match Main::of(&names, &[], |name| name, declared, attr.leaf(), &package.pname) {
        Main::Program(main) => main,
        // The name by which it is called decides; by another name, it runs the first.
        Main::Many | Main::Missing(_) => names[0],
        Main::None => return Err(Ending::Failed(Failure::new(Kind::NoProgram, "it has no programs"))),
    }
    .clone();
    let first = programs.remove_entry(&main);
    let programs: BTreeMap<_, _> = first.into_iter().chain(programs).take(PROGRAMS_MAX).collect();
    let closure: Vec<PathBuf> = realised.closure.paths().collect();
    let size = unpacked(context, &closure)?;
    context.log.say(&format!("bundle: {} of files in {} store paths", bytes(size), closure.len()));
    let most = job.limits.bundle_most();
    if size / RATIO_MAX > most {
        return Err(too_large(&format!("its files have {}", bytes(size)), most));
    }
    let listed: Vec<_> = programs.iter().map(|(name, (_, path))| (name.to_string(), path.clone())).collect();
    let about = About {
        package: attr.to_string(),
        version: clean_line(&package.version, NAME_MAX),
        nixpkgs: job.key.rev.to_string(),
        system: job.key.system.to_string(),
        licence: clean_line(&package.license.join(", "), TEXT_MAX),
    };
    let source = Source {
        launcher,
        closure: &closure,
        programs: &listed,
        main: main.as_str(),
        about: &about,
        trim: if *full { Trim::Nothing } else { Trim::Usual },
    };
    context.progress_channel.update(|progress| progress.step = Some(format!("packing {}", bytes(size))));
    let path = scratch.archive();
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    let (deadline, stop) = (context.lease.deadline(), context.nix.stop());
    let go_on = || Instant::now() < deadline && stop.why().is_none();
    let Packed { bytes: size, unpacked, files, sha256 } =
        pack(&source, LEVEL, most, &go_on, &mut file).map_err(|error| match error.kind() {
            ErrorKind::FileTooLarge => too_large(&format!("its {} of files do not compress enough", bytes(size)), most),
            ErrorKind::TimedOut if stop.why().is_some() => Ending::Stopped,
            ErrorKind::TimedOut => Ending::Failed(Failure::new(Kind::TimedOut, format!("packing {}", bytes(size)))),
            _ => Ending::from(error),
        })?;
    context.log.say(&format!("bundle: {}, which unpacks {}", bytes(size), bytes(unpacked)));
    let sha256 = Sha256::from(sha256);
    let found = |(bin, (output, _)): (Bin, (OutputName, PathBuf))| {
        // The launcher is static, and all that the program needs is in the file.
        let (leftovers, needs) = (Vec::new(), Some(Vec::new()));
        let verdict = Verdict::Static { sha256: sha256.clone(), size, leftovers, needs, unwrapped: false };
        Found { program: Program { bin, output: Some(output), verdict }, file: Some(path.clone()) }
    };
    let manifest = hand_over(context, package, programs.into_iter().map(found).collect(), None)?;
    let bundle = Some(Bundled { unpacked, files: files as u64, of_static: job.of_static });
    Ok(Manifest { bundle, ..manifest })
}

fn too_large(what: &str, most: u64) -> Ending {
    Ending::Failed(Failure::new(Kind::TooLarge, format!("{what}, and the limit of a bundle is {}", bytes(most))))
}

/// The bytes of all files of a closure, as Nix counts them: those of the store paths' archives.
fn unpacked(context: &BuildContext, closure: &[PathBuf]) -> Result<u64, Ending> {
    let query: Vec<&OsStr> =
        ["-q", "--size"].iter().map(OsStr::new).chain(closure.iter().map(|path| path.as_os_str())).collect();
    let sizes = context.nix.ask("nix-store", &query)?.map_err(Ending::ours)?;
    Ok(sizes.lines().filter_map(|size| size.trim().parse::<u64>().ok()).sum())
}

/// The programs in `bin/` of the outputs, each with its output and its path there. Of those of one name, the first output's
/// counts.
fn programs(realised: &Realised) -> Result<BTreeMap<Bin, (OutputName, PathBuf)>, Ending> {
    let mut programs = BTreeMap::new();
    for (name, output, path) in programs::listed(realised)? {
        let Way::To(file) = realised.closure.resolve(&path) else { continue };
        let about = file.symlink_metadata()?;
        if about.is_file() && about.permissions().mode() & 0o111 != 0 {
            programs.entry(name).or_insert((output.clone(), path));
        }
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use binplz_core::build::failure::Class;

    use super::*;

    #[test]
    fn a_builder_without_launchers_builds_packages_and_says_what_is_missing_for_bundles() {
        let key = |product: &str| format!("{}/aarch64-linux/{product}", "0".repeat(40)).parse().expect("a key");
        assert!(matches!(launcher(&key("tree")), Ok(None)));
        // None lies beside a test.
        let Err(Ending::Failed(failure)) = launcher(&key("-bundle.tree")) else { panic!("there is one") };
        assert_eq!(failure.kind.class(), Class::Deployment);
        assert!(
            failure.sentence().contains(
                "binplz-launcher-aarch64 is missing in the directory of binplz-builder: scripts/launcher DIR"
            ),
            "{}",
            failure.sentence()
        );
    }
}
