//! The launcher: the program in front of a bundle. Everything that it says begins with the name it was started with; its own
//! errors end it with 125.

use std::{
    env,
    ffi::OsStr,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use binplz_launcher::{
    cache::Places,
    enter::{MAP_IDS, map_ids},
    error::StartError,
    start::{Start, own_file, start},
};

/// As `env`, `timeout` and `chroot` have it for errors of their own.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let started = settings();
    if started.arguments.get(1).is_some_and(|argument| argument == MAP_IDS) {
        return if map_ids().is_ok() { ExitCode::SUCCESS } else { FAILED.into() };
    }
    let Err(error) = launch(&started) else { return ExitCode::SUCCESS };
    let name = started.arguments.first().map(Path::new).and_then(Path::file_name).unwrap_or(OsStr::new("bundle"));
    let _ = writeln!(io::stderr(), "{}: {error}", name.display());
    FAILED.into()
}

fn launch(started: &Start) -> Result<(), StartError> {
    let name = started.arguments.first().map(AsRef::as_ref).unwrap_or_default();
    #[expect(clippy::disallowed_methods, reason = "to find this file")]
    let file = own_file(name, env::var_os("PATH")).map_err(|error| StartError::File { path: name.into(), error })?;
    start(started, file)
}

#[expect(clippy::disallowed_methods, reason = "this is the place")]
fn settings() -> Start {
    Start {
        arguments: env::args_os().collect(),
        places: Places { cache: env::var_os("XDG_CACHE_HOME"), home: env::var_os("HOME") },
        locales: env::var_os("LOCALE_ARCHIVE").is_some(),
    }
}
