//! Bodies that are safe to save as the program and to run, since users do that: `curl HOST/tree > tree; ./tree`.
//!
//! The stub is `stub.sh` with `steps.sh` behind it, the installer `install.sh` with the same steps. Both are functions only, up to the last
//! line, which is made here and calls them. It stands in braces, so that the shell does nothing with a part of it either: a download
//! that was cut off does nothing.

use crate::id::{
    shell::quote,
    target::{Target, Wanted},
    text::clean_line,
};

const STUB: &str = concat!(include_str!("stub.sh"), include_str!("steps.sh"));
const INSTALLER: &str = concat!(include_str!("install.sh"), include_str!("steps.sh"));

/// Longest line, in characters: the names of all programs of coreutils fit.
pub const LINE_MAX: usize = 4000;

/// The stub of a target: run, it waits for the binary, downloads and checks it, replaces itself and runs it.
///
/// `origin` must hold no single quote (checked where it is configured); a target is percent-encoded.
pub fn stub(origin: &str, target: &Target) -> String {
    let name = quote(&target.wanted.file_name());
    // In a terminal, the end of the stub is visible.
    let hint = format_args!("# In a terminal? Save the program: curl -L '{origin}/{target}' -o {name}\n");
    format!("{STUB}{hint}{{ binplz '{origin}' '{target}' {name} \"$@\"; }}\n")
}

/// The installer of a target: run by `sh`, it puts the binary into its user's directory for programs; with `--with-docs`,
/// also the other files of the package's archive.
pub fn installer(origin: &str, target: &Target) -> String {
    let name = quote(&target.wanted.file_name());
    let docs = Target { wanted: Wanted::Archive(target.wanted.attr().clone()), ..target.clone() };
    format!("{INSTALLER}{{ binplz '{origin}' '{target}' {name} '{docs}' \"$@\"; }}\n")
}

/// One line that reads as a sentence and, run as a shell script, prints it on stderr and exits 1.
pub fn line(sentence: &str) -> String {
    let sentence = clean_line(sentence, LINE_MAX);
    format!("printf '%s\\n' {} >&2; exit 1\n", quote(&format!("binplz: {sentence}")))
}
