//! Which programs packages have: from the database that comes with a channel, and from what was built here.
//!
//! The database is SQLite, and is read by SQLite's own `sqlite3`: a job that runs once for each nixpkgs needs no database engine
//! compiled into it (rusqlite brings 9 MB of C), and a reader of our own would be one more that is not SQLite's.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use binplz_catalogue::Writer;
use binplz_core::{
    id::key::{Attr, Bin},
    objects::artifact::Manifest,
};
use serde::Deserialize;

/// What a package has on one Linux it has on the other: the database knows them from builds for x86_64 in the main.
const QUERY: &str = "SELECT json_array(package, name) FROM Programs WHERE system LIKE '%-linux'";

/// Tells the writer of a `programs.sqlite`; returns how many rows it took. Names that no request can have are left out.
pub(crate) fn from_database(file: &Path, writer: &mut Writer) -> Result<usize, String> {
    let failed = |why: &dyn std::fmt::Display| format!("{} can not be read: {why}", file.display());
    let mut sqlite = Command::new("sqlite3");
    sqlite.args(["-batch", "-readonly", "-bail"]).arg(file).arg(QUERY);
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

/// A line of a list of what was built.
#[derive(Deserialize)]
struct Line {
    attr: Attr,
    manifest: Manifest,
}

/// Reads a list of builds: a file with one JSON object a line, `{"attr": …, "manifest": …}`.
pub(crate) fn read_builds(file: &Path) -> Result<Vec<(Attr, Manifest)>, String> {
    let failed = |why: &dyn std::fmt::Display| format!("{} can not be read: {why}", file.display());
    let file = fs::File::open(file).map_err(|error| failed(&error))?;
    let lines = BufReader::new(file).lines().map(|line| {
        let Line { attr, manifest } =
            serde_json::from_str(&line.map_err(|error| failed(&error))?).map_err(|error| failed(&error))?;
        Ok((attr, manifest))
    });
    lines.collect()
}
