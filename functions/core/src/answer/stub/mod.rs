//! Bodies that are safe to save as the program and to run. Users do that: `curl HOST/tree > tree; ./tree`.
//!
//! The stub (`stub.sh`) is short, because a terminal may show it. It fetches its second part from [`PATH`], and checks its sha256. The
//! second part is `become.sh` followed by `steps.sh`. The installer is `install.sh` followed by `steps.sh`. These scripts only define
//! functions. The last line, which this module adds, calls them. The line is in braces, so that the shell ignores an incomplete line: a
//! download that was cut off does nothing.

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

/// The directory of the second part. The path of the second part is this directory, followed by [`second_sum`].
pub const PATH: &str = "/-/stub/";

/// Longest line, in characters. The names of all programs of coreutils fit.
pub const LINE_MAX: usize = 4000;
/// Longest state in a stub, in characters.
const STATE_MAX: usize = 120;

/// The sha256 of the second part.
pub fn second_sum() -> &'static Sha256 {
    static SUM: LazyLock<Sha256> = LazyLock::new(|| Sha256::of(SECOND.as_bytes()));
    &SUM
}

/// The stub of a target. When run, it waits for the program, downloads and checks it, replaces itself with it and runs it. Its first
/// lines say so, and give the program's `state`. `wait`: the program is not built yet.
///
/// `origin` must not contain a single quote (the configuration checks that). A target is percent-encoded.
pub fn stub(origin: &str, target: &Target, state: &str, wait: bool) -> String {
    static FIRST: LazyLock<String> = LazyLock::new(|| STUB.replacen("SUM", second_sum().as_str(), 1));
    let (name, save) = (quote(&target.wanted.file_name()), shell::fetch(origin, target, wait));
    let state = clean_line(state, STATE_MAX).replace(|c: char| !c.is_ascii(), "?");
    format!(
        "#!/bin/sh\n# This script becomes the program. Save it, and run it with sh. To save the program itself:\n#   {save}\n\
         # State: {state}\n{}{{ binplz '{origin}' '{target}' {name} \"$@\"; }}\n",
        &*FIRST
    )
}

/// The installer of a target. Run by `sh`, it puts the program into the user's directory for programs. With `--with-docs`, it also
/// installs the other files of the package's archive.
pub fn installer(origin: &str, target: &Target) -> String {
    let name = quote(&target.wanted.file_name());
    let docs = Target { wanted: Wanted::Archive(target.wanted.attr().clone()), ..target.clone() };
    format!("{INSTALLER}{{ binplz '{origin}' '{target}' {name} '{docs}' \"$@\"; }}\n")
}

/// One line that reads as a sentence. Run as a shell script, it prints the sentence on stderr and exits with status 1.
pub fn line(sentence: &str) -> String {
    let sentence = clean_line(sentence, LINE_MAX);
    format!("printf '%s\\n' {} >&2; exit 1\n", quote(&format!("binplz: {sentence}")))
}
