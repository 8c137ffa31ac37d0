//! The version of Nix. An evaluation reports it; Nix is asked separately only after a failure, for which a missing or
//! old Nix is then the likelier reason.

use std::ffi::OsStr;

use crate::{context::Ending, nix::Nix};

/// The oldest Nix that is tested.
const LEAST: (u32, u32) = (2, 8);

/// Refuses a Nix that is too old, by the version that it reports.
pub(crate) fn check(said: &str) -> Result<(), Ending> {
    match parse_version(said) {
        Some(version) if version >= LEAST => Ok(()),
        _ => Err(Ending::ours(format!(
            "Nix {}.{} or newer is needed, but the installed version is: {said}",
            LEAST.0, LEAST.1
        ))),
    }
}

/// Asks Nix for its version, and fails if Nix is missing or too old.
pub(crate) fn ask(nix: &Nix) -> Result<(), Ending> {
    let asked = nix.ask("nix-store", &[OsStr::new("--version")]);
    let said = asked.map_err(|error| Ending::ours(format!("Nix is not installed (`nix-store`): {error}")))?;
    check(&said.map_err(|error| Ending::ours(format!("Nix does not run: {error}")))?)
}

/// The first two numbers of "2.8.0", "nix-store (Nix) 2.26.3", "nix-store (Lix, like Nix) 2.91.1" or "… 2.34pre20240101".
fn parse_version(said: &str) -> Option<(u32, u32)> {
    let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    let mut numbers = said.lines().next()?.split_whitespace().next_back()?.split('.');
    Some((number(numbers.next()?)?, number(numbers.next()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (said, version) in [
            ("2.8.0", Some((2, 8))),
            ("nix-store (Nix) 2.8.0", Some((2, 8))),
            ("nix-store (Nix) 2.26.3", Some((2, 26))),
            ("nix-store (Lix, like Nix) 2.91.1", Some((2, 91))),
            ("nix-store (Nix) 2.34pre20260101_abc", Some((2, 34))),
            ("nix-store (Nix) 3", None),
            ("", None),
        ] {
            assert_eq!(parse_version(said), version, "{said}");
        }
        assert!(parse_version("nix-store (Nix) 2.10.0") > Some(LEAST));
        assert!(parse_version("nix-store (Nix) 2.3.16") < Some(LEAST));
    }
}
