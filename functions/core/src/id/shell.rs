//! Commands to copy, for a POSIX shell.

use crate::id::target::Target;

/// A text as one quoted word, in which the shell expands nothing.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A text as one word, quoted only if it needs to be.
pub fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { quote(text) }
}

/// Downloads a program: `curl -L https://host/tree -o tree && chmod +x tree`, or unpacks an archive. With `wait`, the server
/// holds the request until the program is built.
pub fn fetch(origin: &str, target: &Target, wait: bool) -> String {
    match target.wanted.is_archive() {
        true => format!("mkdir -p ~/.local && curl -fL {} | tar xz --strip 1 -C ~/.local", url(origin, target, wait)),
        false => fetch_as(origin, target, wait, &target.wanted.file_name()),
    }
}

/// Downloads a program under another name.
pub fn fetch_as(origin: &str, target: &Target, wait: bool, name: &str) -> String {
    // With or without quotes, `chmod` takes a name that begins with a `-` for an option.
    let name = if name.starts_with('-') { word(&format!("./{name}")) } else { word(name) };
    format!("curl -L {} -o {name} && chmod +x {name}", url(origin, target, wait))
}

fn url(origin: &str, target: &Target, wait: bool) -> String {
    let query = match (wait, target.has_query()) {
        (false, _) => "",
        (true, false) => "?wait",
        (true, true) => "&wait",
    };
    word(&format!("{origin}/{target}{query}"))
}

/// Downloads and runs the installer of a program.
pub fn install(origin: &str, target: &Target) -> String {
    format!("curl -fsSL {} | sh", word(&format!("{origin}/-/install/{target}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::target::Query;

    fn target(url: &str) -> Target {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        Query::parse(path, Some(query)).expect("a target").target
    }

    #[test]
    fn a_command_has_quotes_where_the_shell_would_read_something_else() {
        let origin = "https://binplz.example";
        for (url, wait, command) in [
            ("/tree", false, "curl -L https://binplz.example/tree -o tree && chmod +x tree"),
            ("/tree", true, "curl -L 'https://binplz.example/tree?wait' -o tree && chmod +x tree"),
            (
                "/tree?sys=aarch64-linux",
                true,
                "curl -L 'https://binplz.example/tree?sys=aarch64-linux&wait' -o tree && chmod +x tree",
            ),
            (
                "/-/archive/tree",
                true,
                "mkdir -p ~/.local && curl -fL 'https://binplz.example/-/archive/tree?wait' | tar xz --strip 1 -C ~/.local",
            ),
            ("/coreutils/[", false, "curl -L https://binplz.example/coreutils/%5B -o '[' && chmod +x '['"),
            ("/a.-x", false, "curl -L https://binplz.example/a.-x -o ./-x && chmod +x ./-x"),
        ] {
            assert_eq!(fetch(origin, &target(url), wait), command);
        }
        assert_eq!(install(origin, &target("/tree")), "curl -fsSL https://binplz.example/-/install/tree | sh");
    }
}
