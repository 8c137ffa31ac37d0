//! The programs of packages: from the database that comes with a channel, and from earlier builds here.
//!
//! The database is SQLite, and SQLite's own `sqlite3` reads it: a job that runs once per nixpkgs does not justify a
//! compiled-in database engine (rusqlite brings 9 MB of C), and a reader of our own would be less reliable than
//! SQLite's.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use binplz_catalogue::Writer;
use binplz_core::{
    id::key::{Attr, Bin},
    nixpkgs::pins::PROGRAMS_QUERY,
    objects::artifact::Manifest,
};
use serde::Deserialize;

/// Passes the rows of a `programs.sqlite` to the writer; returns how many it took. Names that no request can contain
/// are skipped.
pub(crate) fn from_database(file: &Path, writer: &mut Writer) -> Result<usize, String> {
    let failed = |why: &dyn std::fmt::Display| format!("{} cannot be read: {why}", file.display());
    let mut sqlite = Command::new("sqlite3");
    sqlite.args(["-batch", "-readonly", "-bail"]).arg(file).arg(PROGRAMS_QUERY);
    let mut child = sqlite
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&format!("sqlite3 does not run: {error}")))?;
    let mut rows = 0;
    for line in child.stdout.take().into_iter().flat_map(|pipe| BufReader::new(pipe).split(b'\n')) {
        let line = line.map_err(|error| failed(&error))?;
        if let Ok((attr, bin)) = serde_json::from_slice::<(Attr, Bin)>(&line) {
            writer.in_database(attr, bin);
            rows += 1;
        }
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(rows),
        Ok(status) => Err(failed(&format!("sqlite3 ended with {status}"))),
        Err(error) => Err(failed(&error)),
    }
}

/// A line of a list of builds.
#[derive(Deserialize)]
struct Line {
    attr: Attr,
    manifest: Manifest,
}

/// Reads a list of builds: a file with one JSON object a line, `{"attr": …, "manifest": …}`.
pub(crate) fn read_builds(file: &Path) -> Result<Vec<(Attr, Manifest)>, String> {
    let failed = |why: &dyn std::fmt::Display| format!("{} cannot be read: {why}", file.display());
    let file = fs::File::open(file).map_err(|error| failed(&error))?;
    let lines = BufReader::new(file).lines().map(|line| {
        let Line { attr, manifest } =
            serde_json::from_str(&line.map_err(|error| failed(&error))?).map_err(|error| failed(&error))?;
        Ok((attr, manifest))
    });
    lines.collect()
}

#[cfg(test)]
mod tests;
