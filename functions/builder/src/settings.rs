//! Reads the user's Nix settings, which stay in force: the builder only needs to know whether they set an option, and
//! who builds.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

/// The deepest nesting of included files.
const DEPTH: usize = 8;

/// Whether `NIX_CONFIG` or a configuration file sets the option `name`. `variable` reads Nix's environment.
pub(crate) fn mention<'a>(name: &str, variable: impl Fn(&str) -> Option<&'a OsStr>) -> bool {
    let inline = variable("NIX_CONFIG").map(OsStr::to_string_lossy).unwrap_or_default();
    text_sets(&inline, name, Path::new("/"), DEPTH) || files(variable).iter().any(|file| file_sets(file, name, DEPTH))
}

/// How many derivations Nix builds at a time on this machine; at least 1.
pub(crate) fn max_jobs<'a>(variable: impl Fn(&str) -> Option<&'a OsStr>) -> usize {
    let inline = variable("NIX_CONFIG").map(OsStr::to_string_lossy).unwrap_or_default().into_owned();
    let texts = files(variable).into_iter().rev().map(|file| fs::read_to_string(file).unwrap_or_default());
    let value = [inline].into_iter().chain(texts).find_map(|text| value_in(&text, "max-jobs"));
    match value.as_deref() {
        Some("auto") => std::thread::available_parallelism().map_or(1, usize::from),
        Some(number) => number.parse().unwrap_or(1).max(1),
        None => 1,
    }
}

/// The last value of an option in a text, which is the one in force.
fn value_in(text: &str, name: &str) -> Option<String> {
    let values = text.lines().filter_map(|line| line.split('#').next()?.split_once('='));
    values.rev().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// Whether a daemon may do the builds: Nix uses one if it may not write the store itself.
pub(crate) fn by_daemon<'a>(variable: impl Fn(&str) -> Option<&'a OsStr>) -> bool {
    let state = Path::new(variable("NIX_STATE_DIR").unwrap_or(OsStr::new("/nix/var/nix")));
    match variable("NIX_REMOTE").map(OsStr::as_encoded_bytes) {
        None | Some(b"" | b"auto") => access(state, Access::WRITE_OK).is_err() || mention("store", variable),
        Some(remote) => remote != b"local",
    }
}

/// Nix's configuration files, found as Nix finds them.
fn files<'a>(variable: impl Fn(&str) -> Option<&'a OsStr>) -> Vec<PathBuf> {
    let system = variable("NIX_CONF_DIR").map_or_else(|| PathBuf::from("/etc/nix"), PathBuf::from);
    let mut files = vec![system.join("nix.conf")];
    match variable("NIX_USER_CONF_FILES") {
        Some(list) => files.extend(std::env::split_paths(list)),
        None => {
            let home = || variable("HOME").map(|home| Path::new(home).join(".config"));
            let own = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
            let shared = variable("XDG_CONFIG_DIRS").unwrap_or(OsStr::new("/etc/xdg"));
            files.extend(own.into_iter().chain(std::env::split_paths(shared)).map(|dir| dir.join("nix/nix.conf")));
        }
    }
    files
}

fn file_sets(file: &Path, name: &str, depth: usize) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    text_sets(&text, name, file.parent().unwrap_or(Path::new("/")), depth)
}

fn text_sets(text: &str, name: &str, home: &Path, depth: usize) -> bool {
    text.lines().any(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("include" | "!include"), Some(file)) if depth > 0 => file_sets(&home.join(file), name, depth - 1),
            (Some(word), Some("=")) => word == name,
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_found_in_the_environment_in_files_and_in_what_they_include() {
        let dir = tempfile::tempdir().expect("a directory");
        let conf = |text: &str| fs::write(dir.path().join("nix.conf"), text).expect("written");
        fs::write(dir.path().join("more.conf"), "sandbox-fallback = true\n").expect("written");
        let environment = |inline: &'static str| {
            let dir = dir.path().as_os_str();
            move |name: &str| match name {
                "NIX_CONFIG" => Some(OsStr::new(inline)),
                "NIX_CONF_DIR" => Some(dir),
                _ => None,
            }
        };
        conf("# sandbox-fallback = true\nsandbox = false\n");
        assert!(!mention("sandbox-fallback", environment("sandbox = true")));
        assert!(mention("sandbox-fallback", environment("sandbox = true\nsandbox-fallback = true")));
        conf("!include missing.conf\n!include more.conf\n");
        assert!(mention("sandbox-fallback", environment("")));
        conf("include nix.conf\n");
        assert!(!mention("sandbox-fallback", environment("")));
    }

    #[test]
    fn the_number_of_jobs_is_the_last_one_that_is_set_and_at_least_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let jobs = |inline: &'static str| {
            max_jobs(|name| match name {
                "NIX_CONFIG" => Some(OsStr::new(inline)),
                "NIX_CONF_DIR" | "HOME" => Some(dir.path().as_os_str()),
                _ => None,
            })
        };
        assert_eq!((jobs(""), jobs("max-jobs = 0"), jobs("max-jobs = 4\nmax-jobs = 3 # less")), (1, 1, 3));
        fs::write(dir.path().join("nix.conf"), "max-jobs = 5\n").expect("written");
        assert_eq!((jobs("sandbox = false"), jobs("max-jobs = 2")), (5, 2));
    }

    #[test]
    fn a_daemon_builds_where_nix_is_told_so_or_may_not_write() {
        let dir = tempfile::tempdir().expect("a directory");
        let daemon = |state: &Path, remote: Option<&str>, config: &str| {
            by_daemon(|name| match name {
                "NIX_STATE_DIR" => Some(state.as_os_str()),
                "NIX_REMOTE" => remote.map(OsStr::new),
                "NIX_CONFIG" => Some(OsStr::new(config)),
                "NIX_CONF_DIR" | "HOME" => Some(dir.path().as_os_str()),
                _ => None,
            })
        };
        for (remote, config, by) in [
            (None, "", false),
            (Some(""), "", false),
            (Some("local"), "", false),
            (Some("daemon"), "", true),
            (Some("ssh://else.where"), "", true),
            (None, "store = daemon", true),
        ] {
            assert_eq!(daemon(dir.path(), remote, config), by, "{remote:?} {config}");
        }
        assert!(daemon(Path::new("/nonexistent"), None, ""));
    }
}
