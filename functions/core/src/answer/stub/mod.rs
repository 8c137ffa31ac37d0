//! Bodies that are safe to save as the program and to run, since users do that: `curl HOST/tree > tree; ./tree`.
//!
//! The stub is short, since a terminal shows it: `stub.sh` fetches its second part, `become.sh` with `steps.sh` behind it, from
//! [`PATH`], and checks its sha256. The installer is `install.sh` with the same steps. All are functions only, up to the last line,
//! which is made here and calls them. It stands in braces, so that the shell does nothing with a part of it either: a download that
//! was cut off does nothing.

use std::sync::LazyLock;

use crate::id::{
    key::Sha256,
    shell::{self, quote},
    target::{Target, Wanted},
    text::clean_line,
};

const STUB: &str = include_str!("stub.sh");
/// The stub's second part.
pub const SECOND: &str = concat!(include_str!("become.sh"), include_str!("steps.sh"), "# end\n");
const INSTALLER: &str = concat!(include_str!("install.sh"), include_str!("steps.sh"));

/// The directory of the second part: its path is this, and [`second_sum`].
pub const PATH: &str = "/-/stub/";

/// Longest line, in characters: the names of all programs of coreutils fit.
pub const LINE_MAX: usize = 4000;
/// Longest state in a stub, in characters.
const STATE_MAX: usize = 120;

/// The sha256 of the second part.
pub fn second_sum() -> &'static Sha256 {
    static SUM: LazyLock<Sha256> = LazyLock::new(|| Sha256::of(SECOND.as_bytes()));
    &SUM
}

/// The stub of a target: run, it waits for the binary, downloads and checks it, replaces itself and runs it. Its first lines say so,
/// and the state of the program; `wait`: the program is not built yet.
///
/// `origin` must hold no single quote (checked where it is configured); a target is percent-encoded.
pub fn stub(origin: &str, target: &Target, state: &str, wait: bool) -> String {
    static FIRST: LazyLock<String> = LazyLock::new(|| STUB.replacen("SUM", second_sum().as_str(), 1));
    let (name, save) = (quote(&target.wanted.file_name()), shell::fetch(origin, target, wait));
    let state = clean_line(state, STATE_MAX).replace(|c: char| !c.is_ascii(), "?");
    format!(
        "#!/bin/sh\n# A script that becomes the program: save it, and run it with sh. To save the program itself:\n#   {save}\n\
         # State: {state}\n{}{{ binplz '{origin}' '{target}' {name} \"$@\"; }}\n",
        &*FIRST
    )
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
