//! A build of our own, which tells a machine that cannot start builds from a package that Nix refuses to build here.
//!
//! Nix refuses some packages in words that name the sandbox (`__noChroot`). Whether the machine is at fault shows a
//! derivation that asks for nothing: if Nix starts to build that, it was the package.

use std::ffi::OsString;

use crate::{
    classify::NixExit,
    context::{BuildContext, Ending, finished},
    internal_json::{Activity, Event, parse},
    nix::{Exit, nonce},
};

/// A derivation that was never built before.
const CANARY: &str = r#"{ nonce, system }: derivation {
  name = "binplz-canary-${nonce}";
  inherit system;
  builder = "/bin/sh";
  args = [ "-c" "echo > $out" ];
  preferLocalBuild = true;
  allowSubstitutes = false;
}"#;

/// Whether Nix starts to build a derivation for this machine. How that ends does not matter.
pub(crate) fn starts(context: &BuildContext) -> Result<bool, Ending> {
    let deadline = context.lease.deadline();
    let system = format!("{}-linux", std::env::consts::ARCH);
    let nonce = nonce()?;
    let arguments = ["--argstr", "nonce", &nonce, "--argstr", "system", &system, "--expr", CANARY];
    let made = context.nix.run("nix-instantiate", &arguments.map(OsString::from), deadline, |_| {})?;
    if finished(made.end)? != NixExit::Exit(Exit::Code(0)) {
        return Ok(false);
    }
    let drv = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let mut started = false;
    let ran = context.nix.run("nix-store", &["--realise".into(), drv.into()], deadline, |line| {
        started |= matches!(parse(line), Event::Start { activity: Activity::Build(_), .. });
    })?;
    finished(ran.end)?;
    Ok(started)
}
