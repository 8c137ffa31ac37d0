//! Text that is harmless when a person has saved it as the program and runs it (contract §4).

use crate::target::Target;

/// The stub up to its last line, which calls it: a download that was cut off does nothing.
const STUB: &str = include_str!("stub.sh");

/// The stub of a target: run, it waits for the binary, downloads and checks it, replaces itself and runs it.
///
/// `origin` must hold no single quote (checked where it is configured); a target is percent-encoded.
pub fn stub(origin: &str, target: &Target) -> String {
    let name = quote(target.wanted.file_name());
    let mut script = String::with_capacity(STUB.len() + 512);
    script.push_str(STUB);
    // Whoever sees this in a terminal sees the end of it.
    script.push_str(&format!("# In a terminal? Save the program: curl -L '{origin}/{target}' -o {name}\n"));
    script.push_str(&format!("binplz '{origin}' '{target}' {name} \"$@\"\n"));
    script
}

/// One line that reads as a sentence and, run as a shell script, prints it on stderr and exits 1.
pub fn line(sentence: &str) -> String {
    format!("printf '%s\\n' {} >&2; exit 1\n", quote(&format!("binplz: {sentence}")))
}

/// A text as one word of a POSIX shell, with nothing in it that the shell would read.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_line_that_is_run_says_what_it_says_and_fails(sentence in "[^\0\n]{0,60}") {
            let out = Command::new("sh").arg("-c").arg(line(&sentence)).output().expect("sh");
            prop_assert_eq!(String::from_utf8_lossy(&out.stderr), format!("binplz: {sentence}\n"));
            prop_assert_eq!((out.status.code(), out.stdout.len()), (Some(1), 0));
        }
    }
}
