//! The derivations that Nix would build for a package, so that the endpoint can report known failures among them, and
//! knows which may be offered to other builds.

use binplz_core::{
    build::{plan::DryRun, protocol::TO_BUILD_MAX},
    id::key::DrvHash,
};

use crate::{
    context::{BuildContext, Ending, finished},
    drv,
    evaluate::Package,
    evidence::name_of,
    internal_json::{self, Event},
};

/// What Nix would do for a package.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    /// The paths of the derivations that it would build, dependencies first.
    pub(crate) to_build: Vec<String>,
    /// Store paths that it would fetch.
    paths: u32,
    /// Their bytes.
    bytes: u64,
}

impl Planned {
    /// The same for the service: names, and sources among what is fetched.
    pub(crate) fn dry_run(&self) -> DryRun {
        let (sources, builds): (Vec<&String>, Vec<&String>) =
            self.to_build.iter().partition(|drv| drv::is_download(drv) == Some(true));
        DryRun {
            build: builds.into_iter().map(|drv| name_of(drv).to_owned()).take(TO_BUILD_MAX).collect(),
            fetch: self.paths.saturating_add(sources.len() as u32),
            bytes: self.bytes,
        }
    }

    fn hear(&mut self, text: &str) {
        self.to_build.extend(derivations(text));
        for (paths, bytes) in text.lines().filter_map(fetched) {
            self.paths = self.paths.saturating_add(paths);
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }
}

/// What Nix would do for a package, by a dry run. Empty if the dry run fails: realising then finds the reason.
pub(crate) fn plan(context: &BuildContext, package: &Package) -> Result<Planned, Ending> {
    let arguments = ["--realise", "--dry-run", &package.drv].map(Into::into);
    let mut planned = Planned::default();
    let ran = context.nix.run("nix-store", &arguments, context.lease.deadline(), |line| {
        if let Event::Message { text, .. } | Event::Text(text) = internal_json::parse(line) {
            planned.hear(&text);
        }
    })?;
    finished(ran.end)?;
    Ok(planned)
}

/// Parses "these 12 paths will be fetched (80.12 MiB download, 300.00 MiB unpacked):".
fn fetched(line: &str) -> Option<(u32, u64)> {
    let (count, rest) = line.trim().split_once(" will be fetched (")?;
    let count = match count {
        "this path" => 1,
        several => several.strip_prefix("these ")?.strip_suffix(" paths")?.parse().ok()?,
    };
    let mebibytes: f64 = rest.split_once(" MiB download")?.0.parse().ok()?;
    Some((count, (mebibytes * f64::from(1 << 20)) as u64))
}

/// Parses "these 2 derivations will be built:", followed by one indented path a line. Paths to fetch are listed
/// likewise, and are not derivations.
fn derivations(text: &str) -> impl Iterator<Item = String> {
    let paths = text.lines().map(str::trim).filter(|line| line.starts_with('/') && line.ends_with(".drv"));
    paths.filter(|path| DrvHash::of_path(path).is_ok()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_would_be_built_is_in_the_plan() {
        let one = "0c8avx37rwvyk1s2x2v7x2hqkxbs3qd4";
        let text = format!(
            "these 2 derivations will be built:\n  /nix/store/{one}-dep-1.0.drv\n  /nix/store/short.drv\n\
             this path will be fetched (0.01 MiB download, 0.02 MiB unpacked):\n  /nix/store/{one}-glibc-2.40\n"
        );
        assert_eq!(derivations(&text).collect::<Vec<_>>(), [format!("/nix/store/{one}-dep-1.0.drv")]);
        let mut planned = Planned::default();
        planned.hear(&text);
        planned.hear("these 12 paths will be fetched (80.12 MiB download, 300.00 MiB unpacked):");
        assert_eq!((planned.paths, planned.bytes, planned.to_build.len()), (13, 84_022_394, 1));
        for line in ["these paths will be fetched (1 MiB", "x will be fetched (0.00 MiB download", ""] {
            assert_eq!(fetched(line), None, "{line}");
        }
    }
}
