//! A nixpkgs as a directory on this machine, and the options that restrict an evaluation to it.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use binplz_core::build::protocol::{Job, Nixpkgs};

use crate::{
    classify::{self, NixExit},
    context::{BuildContext, Ending, finished},
    nix::Exit,
    version,
    watch::Watch,
};

/// A Nix expression that fetches a tarball and returns its store path.
const FETCH: &str = r#"{ url, narHash ? "" }:
"${builtins.fetchTarball ({ inherit url; } // (if narHash == "" then { } else { sha256 = narHash; }))}""#;
/// How long Nix may reuse a tarball without a hash. Its URL contains the commit, so its content does not change.
const TARBALL_TTL: &str = "31536000";
/// The signal of a process that has reached its limit for a file.
const XFSZ: i32 = 25;

/// The options of every evaluation of a package set: its expressions are not ours, and what they read ends in logs,
/// names and outputs. They read nothing but the set (`<nixpkgs>`) and what Nix makes of it, no variable, and nothing from the
/// network; they build nothing, and run nothing.
pub(crate) fn restricted_to(set: &Path) -> Vec<OsString> {
    let options = [
        ("restrict-eval", "true"),
        ("nix-path", ""),
        ("allowed-uris", ""),
        ("allow-import-from-derivation", "false"),
        ("allow-unsafe-native-code-during-evaluation", "false"),
    ];
    let mut found = OsString::from("nixpkgs=");
    found.push(set);
    let options = options.into_iter().flat_map(|(name, value)| ["--option", name, value]).map(OsString::from);
    options.chain(["-I".into(), found]).collect()
}

/// Its directory; a tarball is fetched, unless Nix has it. Fails if the nixpkgs requires a newer Nix, or if its tarball exceeds the
/// job's limit.
pub(crate) fn directory(context: &BuildContext, job: &Job) -> Result<PathBuf, Ending> {
    let set = fetched(context, &job.nixpkgs, job.limits.nixpkgs_bytes)?;
    version::ask_for_nixpkgs(&context.nix, &set)?;
    Ok(set)
}

fn fetched(context: &BuildContext, nixpkgs: &Nixpkgs, most: u64) -> Result<PathBuf, Ending> {
    let (url, nar_hash) = match nixpkgs {
        Nixpkgs::Path(path) => {
            return fs::canonicalize(path)
                .map_err(|error| Ending::ours(format!("the package set does not exist: {path}: {error}")));
        }
        Nixpkgs::Tarball { url, nar_hash } => (url, nar_hash),
    };
    // The process that downloads and unpacks it writes no larger file (util-linux' `prlimit`).
    let limit = format!("--fsize={most}");
    let fixed = [
        &limit,
        "nix-instantiate",
        "--eval",
        "--json",
        "--read-write-mode",
        "--option",
        "tarball-ttl",
        TARBALL_TTL,
        "--expr",
        FETCH,
    ];
    let data = [("url", Some(url)), ("narHash", nar_hash.as_ref())];
    let data = data.iter().filter_map(|(name, value)| Some(["--argstr", name, value.as_ref()?]));
    let arguments: Vec<OsString> = fixed.into_iter().chain(data.flatten()).map(OsString::from).collect();
    let mut watch = Watch::new(&context.progress_channel, &context.log);
    let ran = context.nix.run("prlimit", &arguments, context.lease.deadline(), |line| watch.hear(line))?;
    match finished(ran.end)? {
        NixExit::Exit(Exit::Code(0)) => {
            serde_json::from_slice(&ran.stdout).map_err(|error| Ending::ours(format!("a nixpkgs has no path: {error}")))
        }
        NixExit::Exit(Exit::Signal(XFSZ)) => Err(Ending::ours(format!("the nixpkgs has more than {most} bytes"))),
        ended => Err(Ending::Failed(classify::evaluation(ended, &watch.into_evidence()))),
    }
}
