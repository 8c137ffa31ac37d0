//! A server whose builders are containers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use binplz_tests::server::{Server, repository, write_program};
use tempfile::TempDir;

/// The server, and the containers that it starts, which are removed at the end.
pub(crate) struct Deployment {
    pub(crate) server: Server,
    dir: TempDir,
}

impl Deployment {
    /// A server of `set`; `environment` is what its tasks get beside the lease.
    pub(crate) fn start(set: &Path, environment: &[(&str, &str)]) -> Deployment {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (data, script) = (dir.path().join("data"), dir.path().join("builder"));
        let environment: String = environment.iter().map(|(name, value)| format!(" --env '{name}={value}'")).collect();
        // The task's id in ECS is its container's name here. The set is a store path of this machine.
        let text = format!(
            "#!/bin/sh\numask 077\necho \"$BINPLZ_LEASE_TOKEN\" > {dir}/token\nset=$(readlink -f {data}/roots/*)\n\
             echo binplz-test-$$ >> {dir}/containers\n\
             exec {repository}/infra/image/run --rm=false --name binplz-test-$$ --volume \"$set:$set:ro\"{environment} \
             localhost/binplz-builder-demo\n",
            dir = dir.path().display(),
            data = data.display(),
            repository = repository().display(),
        );
        write_program(&script, text);
        let options = ["--builder", script.to_str().expect("a path"), "--lease", "30"];
        Deployment { server: Server::start(set, &data, &options), dir }
    }

    /// The last lease's token.
    pub(crate) fn token(&self) -> String {
        fs::read_to_string(self.dir.path().join("token")).expect("a builder was started").trim().to_owned()
    }

    /// What differs from the image in the containers' files: `A /added`, `C /changed`, `D /deleted`.
    pub(crate) fn changes(&self) -> Vec<String> {
        let mut changes = Vec::new();
        for container in self.containers() {
            let output = podman().args(["diff", &container]).output().expect("podman");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            changes.extend(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned));
        }
        assert!(!changes.is_empty());
        changes
    }

    fn containers(&self) -> Vec<String> {
        let names = fs::read_to_string(self.dir.path().join("containers")).unwrap_or_default();
        names.lines().map(str::to_owned).collect()
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        for container in self.containers() {
            let mut remove = podman();
            remove.args(["rm", "--force", "--ignore", "--time", "0", &container]);
            let _ = remove.stdout(Stdio::null()).status();
        }
    }
}

fn podman() -> Command {
    let program: PathBuf = repository().join("infra/image/podman");
    Command::new(program)
}
