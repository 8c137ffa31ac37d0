//! The derivations that Nix would build for a package, so that the endpoint can report known failures among them, and
//! knows which may be offered to other builds.

use binplz_core::id::key::DrvHash;

use crate::{
    context::{BuildContext, Ending, finished},
    evaluate::Package,
    internal_json::{self, Event},
};

/// The derivations that Nix would build for a package, from a dry run, dependencies first. Empty if the dry run fails:
/// realising then finds the reason.
pub(crate) fn to_build(context: &BuildContext, package: &Package) -> Result<Vec<String>, Ending> {
    let arguments = ["--realise", "--dry-run", &package.drv].map(Into::into);
    let mut found = Vec::new();
    let ran = context.nix.run("nix-store", &arguments, context.lease.deadline(), |line| {
        if let Event::Message { text, .. } | Event::Text(text) = internal_json::parse(line) {
            found.extend(derivations(&text));
        }
    })?;
    finished(ran.end)?;
    Ok(found)
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
    }
}
