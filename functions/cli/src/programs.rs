//! Databases of programs, checked before a pin gets one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use binplz_core::nixpkgs::pins::{PROGRAMS_FILE, PROGRAMS_MAX, PROGRAMS_QUERY, Programs};
use thiserror::Error;

use crate::nixpkgs::{Bounds, NixpkgsError, run_within};

/// For reading one: a million rows take a few seconds. Nothing is written.
const READING: Bounds = Bounds { seconds: 300, file_bytes: 1 << 20 };

/// Why a file is not taken as a database of programs.
#[derive(Debug, Error)]
pub(crate) enum ProgramsError {
    /// SQLite's program reads it, here and in builders.
    #[error("sqlite3 is not installed (it reads databases of programs); install it: apt install sqlite3")]
    NoSqlite,
    /// The file cannot be read.
    #[error("{}: {cause}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The reason.
        cause: io::Error,
    },
    /// The file is too large.
    #[error("{} is larger than {PROGRAMS_MAX} bytes", .0.display())]
    TooLarge(PathBuf),
    /// The file is something else.
    #[error(
        "{} is not a database of programs: expected SQLite with a table Programs (name, system, package) that has rows for Linux, as {PROGRAMS_FILE} in a channel's nixexprs.tar.xz ({why})", file.display()
    )]
    Other {
        /// The file.
        file: PathBuf,
        /// SQLite's answer.
        why: String,
    },
}

/// A database that an operator adds to a pin.
///
/// # Errors
/// [`ProgramsError`].
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, ProgramsError> {
    check(file)?;
    fs::read(file).map_err(|cause| ProgramsError::File { file: file.to_owned(), cause })
}

/// The database in a nixpkgs, if it has one.
///
/// # Errors
/// [`ProgramsError`].
pub(crate) fn included(nixpkgs: &Path) -> Result<Option<Programs>, ProgramsError> {
    let file = nixpkgs.join(PROGRAMS_FILE);
    if !file.is_file() {
        return Ok(None);
    }
    check(&file).map(|()| Some(Programs::Included))
}

/// Reads all its rows, as a catalogue's builder will.
fn check(file: &Path) -> Result<(), ProgramsError> {
    let size = fs::metadata(file).map_err(|cause| ProgramsError::File { file: file.to_owned(), cause })?.len();
    if size > PROGRAMS_MAX {
        return Err(ProgramsError::TooLarge(file.to_owned()));
    }
    let other = |why: String| ProgramsError::Other { file: file.to_owned(), why };
    let path = file.to_str().ok_or_else(|| other("its name is not valid UTF-8".to_owned()))?;
    let count = format!("SELECT count(*) FROM ({PROGRAMS_QUERY})");
    match run_within(&READING, "sqlite3", &["-batch", "-readonly", "-bail", path, &count]) {
        Ok(rows) if rows.parse().is_ok_and(|rows: u64| rows > 0) => Ok(()),
        Ok(rows) => Err(other(format!("{rows} rows"))),
        Err(NixpkgsError::NoNix) => Err(ProgramsError::NoSqlite),
        Err(NixpkgsError::Nix(_, why)) => Err(other(why)),
        Err(error) => Err(other(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A file of SQLite, made by some statements.
    fn sqlite(dir: &Path, sql: &str) -> PathBuf {
        let file = dir.join("programs.sqlite");
        assert!(Command::new("sqlite3").arg("-bail").arg(&file).arg(sql).status().expect("sqlite3").success());
        file
    }

    fn told(file: &Path) -> String {
        read(file).map_or_else(|error| error.to_string(), |bytes| format!("{} bytes", bytes.len()))
    }

    #[test]
    fn only_a_whole_database_with_rows_for_linux_is_taken() {
        let table = "CREATE TABLE Programs (name text not null, system text not null, package text not null, primary key (name, system, package));";
        let row = |system: &str| format!("{table} INSERT INTO Programs VALUES ('ps', '{system}', 'procps');");
        for (sql, why) in [
            (row("x86_64-linux"), None),
            (row("aarch64-darwin"), Some("(0 rows)")),
            (table.to_owned(), Some("(0 rows)")),
            ("CREATE TABLE Other (name text);".to_owned(), Some("no such table: Programs")),
            ("CREATE TABLE Programs (name text, system text);".to_owned(), Some("no such column: package")),
        ] {
            let dir = tempfile::tempdir().expect("a directory");
            let file = sqlite(dir.path(), &sql);
            let told = told(&file);
            match why {
                None => assert!(told.ends_with(" bytes"), "{told}"),
                Some(why) => assert!(told.contains("is not a database of programs") && told.contains(why), "{told}"),
            }
            assert_eq!(included(dir.path()).is_ok_and(|found| found == Some(Programs::Included)), why.is_none());
        }
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(included(dir.path()).ok(), Some(None));
        let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
                    INSERT INTO Programs SELECT 'program' || i, 'x86_64-linux', 'package' || i FROM n;";
        let file = sqlite(dir.path(), &format!("{table} {many}"));
        let whole = fs::read(&file).expect("a file");
        for (bytes, why) in
            [(&whole[..whole.len() / 2], "malformed"), (b"no database", "not a database"), (b"", "no such table")]
        {
            fs::write(&file, bytes).expect("a file");
            assert!(told(&file).contains(why), "{}", told(&file));
        }
        assert!(told(Path::new("/nowhere")).contains("No such file"));
    }
}
