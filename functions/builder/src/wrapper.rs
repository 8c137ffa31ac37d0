//! Binary wrappers: static programs made by nixpkgs' `makeBinaryWrapper`, which set up the environment and the arguments
//! and then run a program of the store. Each contains, as text, the command that generated it.

use memchr::memmem;

/// What a wrapper does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapper {
    /// The path of the program that it runs.
    pub runs: String,
    /// The variables that it sets, with their values; the value is empty for one that it unsets.
    pub variables: Vec<(String, String)>,
    /// Whether it changes nothing else: no argument, no directory, no name.
    pub only_variables: bool,
}

/// The line before the command and the start of the command; there are empty lines between them.
const ANNOUNCED: &[u8] = b"has been generated using the following command:\n";
const COMMAND: &[u8] = b"\nmakeCWrapper ";
/// The longest command.
const COMMAND_MAX: usize = 64 << 10;

/// Reads the command in a wrapper's bytes; `None` if the file is not such a wrapper.
pub fn parse(program: &[u8]) -> Option<Wrapper> {
    let text = &program[memmem::find(program, ANNOUNCED)?..];
    let text = &text[..text.len().min(COMMAND_MAX)];
    let text = &text[memmem::find(text, COMMAND)? + COMMAND.len()..];
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    let text = std::str::from_utf8(&text[..end]).ok()?;
    // Each line but the last ends with a backslash; newlines within words are escaped.
    let text = text.replace("\\\n", " ");
    let mut words = shlex::split(text.lines().next()?)?.into_iter();
    let runs = words.next().filter(|path| path.starts_with('/'))?;
    let mut wrapper = Wrapper { runs, variables: Vec::new(), only_variables: true };
    while let Some(word) = words.next() {
        let mut set = |name: Option<String>, value: Option<String>| wrapper.variables.extend(name.zip(value));
        match word.as_str() {
            "--set" | "--set-default" => set(words.next(), words.next()),
            "--unset" => set(words.next(), Some(String::new())),
            "--prefix" | "--suffix" => {
                let (name, _separator) = (words.next(), words.next());
                set(name, words.next());
            }
            "--inherit-argv0" | "--resolve-argv0" => {}
            _ => wrapper.only_variables = false,
        }
    }
    Some(wrapper)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that contains this command as `makeBinaryWrapper` writes it.
    fn wrapper(command: &str) -> Vec<u8> {
        format!(
            "\x7fELF\0\0\n\n\n# ---\n# The C-code for this binary wrapper has been generated using the following command:\n\n\n\
             makeCWrapper {command}\n\n\n# (Use `nix-shell -p makeBinaryWrapper` to get makeCWrapper)\n# ---\n\n\n\0more\0"
        )
        .into_bytes()
    }

    fn variables(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_command_in_a_wrapper_says_what_it_runs_and_sets() {
        let command = "'/nix/store/x/bin/.a-wrapped' \\\n    --inherit-argv0 \\\n    --set 'A' 'it'\\''s \"b\" \\ c' \\\n    \
                       --prefix 'PATH' ':' '/nix/store/y/bin' \\\n    --suffix 'B' ' ' 'c d' \\\n    --set-default 'E' '' \\\n    --unset 'F'";
        let expected = Wrapper {
            runs: "/nix/store/x/bin/.a-wrapped".to_owned(),
            variables: variables(&[
                ("A", "it's \"b\" \\ c"),
                ("PATH", "/nix/store/y/bin"),
                ("B", "c d"),
                ("E", ""),
                ("F", ""),
            ]),
            only_variables: true,
        };
        assert_eq!(parse(&wrapper(command)), Some(expected));
    }

    #[test]
    fn arguments_a_directory_or_another_name_are_more_than_variables() {
        for flag in ["--add-flags '-x'", "--append-flag 'y'", "--chdir '/'", "--argv0 'other'", "--new-in-2030"] {
            let parsed = parse(&wrapper(&format!("'/nix/store/x/bin/a' \\\n    {flag}"))).expect("a wrapper");
            assert!(!parsed.only_variables, "{flag}");
        }
    }

    #[test]
    fn other_files_are_no_wrappers() {
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"\nmakeCWrapper '/nix/store/x/bin/a'\n"), None);
        assert_eq!(parse(&wrapper("'relative'")), None);
        assert_eq!(parse(&wrapper("'/unclosed")), None);
        assert_eq!(parse(&wrapper("")), None);
    }
}
