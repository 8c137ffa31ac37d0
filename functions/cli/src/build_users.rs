//! The users as which Nix runs builds on this machine.

use std::{fs, ops::Range, path::Path};

use binplz_core::nixpkgs::nix_config::NixConfig;
use rustix::{
    fs::{Access, access},
    process::geteuid,
};

use crate::nixpkgs::{NixpkgsError, nix_config};

/// The group of the daemon's build users, if nix.conf does not name one: it has another default for users than for the daemon.
const GROUP: &str = "nixbld";
/// Nix's own defaults for the users that it allocates: the first one, and their number.
const ALLOCATED: (u64, u64) = (872_415_232, 8_388_608);

/// Users by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BuildUsers {
    /// They run nothing but builds.
    Own(Vec<Range<u32>>),
    /// Builds run in a sandbox, as a user who also runs other processes.
    Shared(u32),
}

impl BuildUsers {
    /// Those of this machine's settings.
    ///
    /// # Errors
    /// [`NixpkgsError::BuildsNotApart`], if builds run neither in a sandbox nor as other users.
    pub(crate) fn of_this_machine() -> Result<BuildUsers, NixpkgsError> {
        let (config, root) = (nix_config()?, geteuid().is_root());
        let daemon = by_daemon(config.text("store"));
        let group = match config.text("build-users-group") {
            "" if daemon => GROUP,
            group if daemon || root => group,
            _ => "",
        };
        // The builder permits no fallback to builds without a sandbox.
        if group.is_empty() && !config.is("sandbox") {
            return Err(NixpkgsError::BuildsNotApart);
        }
        let read = |file| fs::read_to_string(file).map_err(|error| NixpkgsError::Nix(file, error.to_string()));
        let members = members(group, &read("/etc/group")?, &read("/etc/passwd")?);
        let own: Vec<_> = allocated(&config).into_iter().chain(members).collect();
        let shared = if daemon { 0 } else { geteuid().as_raw() };
        Ok(if own.is_empty() { BuildUsers::Shared(shared) } else { BuildUsers::Own(own) })
    }
}

/// Whether a daemon does the builds: Nix uses one if it is told to, or may not write the store itself.
#[expect(clippy::disallowed_methods, reason = "as Nix reads its own environment")]
fn by_daemon(store: &str) -> bool {
    let state = || std::env::var_os("NIX_STATE_DIR").unwrap_or_else(|| "/nix/var/nix".into());
    match store {
        "" | "auto" => access(Path::new(&state()), Access::WRITE_OK).is_err(),
        store => !store.starts_with("local") && !store.starts_with('/'),
    }
}

/// The users that Nix takes without their being in a group.
fn allocated(config: &NixConfig) -> Option<Range<u32>> {
    config.is("auto-allocate-uids").then(|| {
        let (first, count) = ALLOCATED;
        let first = config.number("start-id").unwrap_or(first);
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        number(first)..number(first.saturating_add(config.number("id-count").unwrap_or(count)))
    })
}

/// The members of a group, by the texts of `/etc/group` and `/etc/passwd`.
fn members(group: &str, groups: &str, users: &str) -> Vec<Range<u32>> {
    let listed = groups.lines().find(|line| line.split(':').next() == Some(group));
    let names: Vec<&str> = listed.and_then(|line| line.split(':').nth(3)).unwrap_or_default().split(',').collect();
    let users = users.lines().filter(|line| line.split(':').next().is_some_and(|name| names.contains(&name)));
    let users = users.filter_map(|line| line.split(':').nth(2)?.parse().ok());
    users.map(|user: u32| user..user.saturating_add(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocated_users_are_those_of_the_settings_or_of_nixs_defaults() {
        let of = |json: &str| allocated(&NixConfig::parse(json).expect("settings"));
        assert_eq!(of("{}"), None);
        assert_eq!(of(r#"{"auto-allocate-uids": {"value": true}}"#), Some(872_415_232..880_803_840));
        let own = r#"{"auto-allocate-uids": {"value": true}, "start-id": {"value": 5000}, "id-count": {"value": 10}}"#;
        assert_eq!(of(own), Some(5000..5010));
    }

    #[test]
    fn a_groups_members_are_those_that_it_lists() {
        let groups = "root:x:0:\nnixbld:x:995:nixbld1,nixbld2\nnone:x:7:\n";
        let users = "root:x:0:0::/root:/bin/sh\nnixbld1:x:999:995::/:/bin/false\nnixbld2:x:30:995::/:/bin/false\n";
        assert_eq!(members("nixbld", groups, users), [999..1000, 30..31]);
        for group in ["none", "unknown", ""] {
            assert_eq!(members(group, groups, users), [], "{group}");
        }
    }

    #[test]
    fn a_store_of_another_directory_has_no_daemon() {
        for (store, daemon) in [("daemon", true), ("unix:///run/nix", true), ("local?root=/x", false), ("/x", false)] {
            assert_eq!(by_daemon(store), daemon, "{store}");
        }
    }
}
