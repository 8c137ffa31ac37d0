//! Keeps the data directory out of builders' sight: each builder runs in a mount namespace in which that directory has
//! two directories only, which Nix needs: the roots of the nixpkgs, and the builders' shared cache.
//!
//! util-linux's `unshare` and `mount` make the namespace. Root needs no more; another user needs a user namespace around
//! it, and a second one in which it is itself again and cannot unmount anything.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::process::{getegid, geteuid};

use crate::dir::{DataDir, OpenError};

/// What hides the directory: its arguments are the directory and the command to run.
const HIDE: &str = r#"
data=$1; shift
mount -t tmpfs -o mode=0711,size=64k binplz "$data/hidden"
for name in roots cache; do
  [ -d "$data/$name" ] || continue
  mkdir "$data/hidden/$name"
  mount --bind "$data/$name" "$data/hidden/$name"
done
mount --rbind "$data/hidden" "$data"
exec "$@""#;

/// How to start a builder.
#[derive(Clone, Debug, Default)]
pub struct Isolation(Vec<OsString>);

impl Isolation {
    /// Hides that directory.
    ///
    /// # Errors
    /// [`OpenError`], if it cannot be prepared; [`OpenError::NotHidden`], if this machine permits no such namespace.
    pub fn hiding(dir: &DataDir) -> Result<Isolation, OpenError> {
        dir.subdir("roots")?;
        dir.subdir("hidden")?;
        let path = std::path::absolute(dir.path()).map_err(|error| OpenError::of(dir.path(), error))?;
        let isolation = Isolation(command(&path));
        // The lock is the first file of every data directory.
        let probe = r#"test ! -e "$1/lock" && test -d "$1/roots""#;
        let arguments = ["-c".as_ref(), probe.as_ref(), "sh".as_ref(), path.as_os_str()];
        let probed = isolation.probe("sh".as_ref(), &arguments);
        probed.map_err(|cause| OpenError::NotHidden { path: dir.path().to_owned(), cause })?;
        Ok(isolation)
    }

    /// A command for that program.
    pub(crate) fn command(&self, program: &Path) -> tokio::process::Command {
        let mut words = self.0.iter().map(OsString::as_os_str).chain([program.as_os_str()]);
        let mut command = tokio::process::Command::new(words.next().unwrap_or(program.as_os_str()));
        command.args(words);
        command
    }

    fn probe(&self, program: &OsStr, arguments: &[&OsStr]) -> Result<(), String> {
        let mut command = self.command(program.as_ref()).into_std();
        let ran = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
        match ran {
            Ok(ran) if ran.status.success() => Ok(()),
            Ok(ran) => Err(String::from_utf8_lossy(&ran.stderr).trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err("there is no unshare here".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn command(data: &Path) -> Vec<OsString> {
    let namespace = ["--mount", "--propagation", "private", "--", "sh", "-ec", HIDE, "sh"];
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    if geteuid().is_root() {
        return [words(&["unshare"]), words(&namespace), vec![data.into()]].concat();
    }
    let (user, group) = (geteuid().as_raw().to_string(), getegid().as_raw().to_string());
    let outer = words(&["unshare", "--user", "--map-root-user"]);
    let inner = words(&["unshare", "--user", "--map-user", &user, "--map-group", &group, "--"]);
    [outer, words(&namespace), vec![PathBuf::from(data).into()], inner].concat()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_builder_sees_nothing_of_the_data_directory_but_the_roots_and_cannot_undo_that() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(&dir.path().join("data")).expect("a data directory");
        fs::write(data.file("secret"), "TOPSECRET").expect("a file");
        let isolation = Isolation::hiding(&data).expect("namespaces: run this as root");
        fs::write(data.file("roots/one"), "root").expect("a file");
        let path = data.path().to_owned();
        let ran = |script: &str| {
            let mut command = isolation.command("sh".as_ref()).into_std();
            let ran = command.args(["-c", script, "sh"]).arg(&path).output().expect("it runs");
            String::from_utf8_lossy(&ran.stdout).into_owned()
        };
        assert_eq!(ran("cd \"$1\"; ls -A; cat roots/one"), "roots\nroot");
        assert_eq!(ran("cat \"$1/secret\" \"$1/hidden/secret\" 2> /dev/null"), "");
        // A build user, as Nix's are: it has no right to unmount.
        let other = "exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'umount -l \"$1\"; cat \"$1/secret\"' sh \"$1\" 2> /dev/null";
        assert_eq!(ran(other), "");
        // Nothing has changed outside.
        assert_eq!(fs::read_to_string(data.file("secret")).ok().as_deref(), Some("TOPSECRET"));
    }
}
