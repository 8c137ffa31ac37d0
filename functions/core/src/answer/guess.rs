//! A guess at the meaning of a mistyped path, for the sentence "did you mean …?". The guess is not looked up: the answer stays a
//! refusal.

use crate::id::target::Wanted;

/// Directories and words that people type before a name.
const BEFORE: [&str; 13] = [
    "bin", "sbin", "usr", "local", "nixpkgs", "pkgs", "pkg", "package", "packages", "program", "get", "install",
    "download",
];
/// Endings of file names that people add.
const ENDINGS: [&str; 13] =
    [".exe", ".zip", ".deb", ".rpm", ".apk", ".appimage", ".bin", ".sh", ".gz", ".xz", ".html", ".tar", ".elf"];
/// Letters that look like others (Cyrillic, Greek) and marks that editors put in place of others.
const LOOKALIKES: [(char, char); 16] = [
    ('а', 'a'),
    ('с', 'c'),
    ('е', 'e'),
    ('һ', 'h'),
    ('і', 'i'),
    ('ј', 'j'),
    ('к', 'k'),
    ('о', 'o'),
    ('р', 'p'),
    ('ѕ', 's'),
    ('т', 't'),
    ('х', 'x'),
    ('у', 'y'),
    ('ο', 'o'),
    ('\u{2010}', '-'),
    ('\u{2013}', '-'),
];

/// The target that a path probably means, if it is another target: `tree` for `/bin/tree/`, `Tree.exe` or `tree@2.1`.
pub(crate) fn guess(path: &str) -> Option<Wanted> {
    let asked = path.strip_prefix('/').unwrap_or(path);
    let once = percent_encoding::percent_decode_str(asked).decode_utf8().ok()?;
    let twice = percent_encoding::percent_decode_str(&once).decode_utf8().ok()?;
    let text: String = twice.chars().map(plain).collect::<String>().to_lowercase();
    // Of several names, the first.
    let quotes = |c: char| c.is_whitespace() || "'\"`“”‘’<>(){}\\,;&|".contains(c);
    let text = text.split(quotes).find(|word| word.chars().any(char::is_alphanumeric))?;
    let is_archive = [".tar.gz", ".tgz", ".tar.xz"].iter().any(|ending| text.ends_with(ending));
    let mut parts: Vec<&str> =
        text.split('/').filter(|part| !part.is_empty() && *part != "." && *part != "..").collect();
    if let Some(at) = parts.iter().position(|part| *part == "store") {
        // `/nix/store/HASH-tree-2.1/bin/tree`
        parts.drain(..=at);
        if parts.len() > 1 {
            parts.remove(0);
        } else if let Some((_hash, name)) = parts.first().and_then(|part| part.split_once('-')) {
            parts = vec![name];
        }
    }
    while parts.len() > 1 && BEFORE.contains(&parts[0]) {
        parts.remove(0);
    }
    let names: Vec<String> = parts.into_iter().map(name).collect();
    let wanted = match names.as_slice() {
        [one] if is_archive => format!("-/archive/{one}"),
        [one] => one.clone(),
        [attr, bin] => format!("{attr}/{bin}"),
        [.., last] => last.clone(),
        [] => return None,
    };
    let wanted: Wanted = wanted.parse().ok()?;
    (wanted.to_string() != asked).then_some(wanted)
}

/// The ASCII character that looks like this one.
fn plain(c: char) -> char {
    let fullwidth = match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0),
        _ => None,
    };
    let lower = c.to_lowercase().next().unwrap_or(c);
    let alike = LOOKALIKES.iter().find(|(strange, _)| *strange == lower).map(|(_, plain)| *plain);
    fullwidth.or(alike).unwrap_or(c)
}

/// A name without a version, an ending of a file's name, or a prefix of Nix's.
fn name(part: &str) -> String {
    if part == "[" {
        return part.to_owned();
    }
    let part = part.trim_matches(|c: char| !c.is_alphanumeric() && c != '_' && c != '+');
    let part = part.split(['@', ':', '=', '~', '^', '#', '?', '!', '$', '*']).next().unwrap_or(part);
    let mut part = part.strip_prefix("nixpkgs.").or(part.strip_prefix("pkgs.")).unwrap_or(part);
    part = part.strip_suffix(".tgz").unwrap_or(part);
    while let Some(ending) = ENDINGS.iter().find(|ending| part.ends_with(**ending)) {
        part = &part[..part.len() - ending.len()];
    }
    // `tree-2.1.0`; a name may have a number behind a `-` too, but no dot in it.
    if let Some((name, version)) = part.rsplit_once('-')
        && version.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit())
        && version.contains('.')
    {
        part = name;
    }
    // `python3.12` is `python312` in Nixpkgs.
    match part.rsplit_once('.') {
        Some((name, minor)) if name.ends_with(|c: char| c.is_ascii_digit()) && minor.parse::<u32>().is_ok() => {
            format!("{name}{minor}")
        }
        _ => part.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistyped_names_are_guessed() {
        for (typed, meant) in [
            ("/tree/", "tree"),
            ("//tree", "tree"),
            ("/./tree", "tree"),
            ("/tree.exe", "tree"),
            ("/TREE", "tree"),
            ("/Tree", "tree"),
            ("/bin/tree", "tree"),
            ("/usr/bin/tree", "tree"),
            ("/usr/local/bin/tree", "tree"),
            ("/nix/store/0c8avx37rwvyk1s2x2v7x2hqkxbs3qd4-tree-2.1.0/bin/tree", "tree"),
            ("/nix/store/0c8avx37rwvyk1s2x2v7x2hqkxbs3qd4-tree-2.1.0", "tree"),
            ("/tree@2.1", "tree"),
            ("/tree@latest", "tree"),
            ("/tree:2.1", "tree"),
            ("/tree==2.1", "tree"),
            ("/tree-2.1.0", "tree"),
            ("/tree-v2.1", "tree"),
            ("/python3.12", "python312"),
            ("/tree.tar.gz", "-/archive/tree"),
            ("/tree.tgz", "-/archive/tree"),
            ("/tree.deb", "tree"),
            ("/%22tree%22", "tree"),
            ("/'tree'", "tree"),
            ("/%E2%80%9Ctree%E2%80%9D", "tree"),
            ("/tree%20", "tree"),
            ("/%20tree", "tree"),
            ("/tree%20jq", "tree"),
            ("/tree,jq", "tree"),
            ("/tree;ls", "tree"),
            ("/tr%D0%B5%D0%B5", "tree"),
            ("/%EF%BD%94%EF%BD%92%EF%BD%85%EF%BD%85", "tree"),
            ("/tree%2520", "tree"),
            ("/nixpkgs.tree", "tree"),
            ("/nixpkgs/tree", "tree"),
            ("/pkgs.tree", "tree"),
            ("/packages/tree", "tree"),
            ("/-tree", "tree"),
            ("/.tree", "tree"),
            ("/procps/ps/", "procps/ps"),
            ("/coreutils//ls", "coreutils/ls"),
            ("/tree%0A", "tree"),
            ("/{tree}", "tree"),
            ("/$tree", "tree"),
            ("/<tree>", "tree"),
        ] {
            assert_eq!(guess(typed).map(|wanted| wanted.to_string()), Some(meant.to_owned()), "{typed}");
        }
        for right in ["/tree", "/procps/ps", "/coreutils/%5B", "/libsigc%2B%2B", "/", "/%ff", "/%5B", "/..."] {
            assert_eq!(guess(right), None, "{right}");
        }
    }
}
