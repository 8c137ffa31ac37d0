//! The outputs, inputs and sources of a derivation, read from its file:
//! `Derive([("out","/nix/store/…","",""),("dev",…)],[("/nix/store/….drv",["out"]),…],…`.

use std::{collections::HashMap, fs};

use binplz_core::objects::materials::{HashMode, Source};

/// An output of a derivation.
#[derive(Debug, PartialEq, Eq)]
pub struct Output {
    /// Its store path; empty if it depends on the content.
    pub path: String,
    /// Whether its hash is fixed, that is, it is a download.
    pub fixed: bool,
}

/// The outputs of the derivation in that file; `None` if it cannot be read.
pub(crate) fn outputs(drv: &str) -> Option<Vec<Output>> {
    parse(&text(drv)?)
}

/// The derivations that it needs, by their paths; none if it cannot be read.
pub(crate) fn inputs(drv: &str) -> Vec<String> {
    text(drv).and_then(|text| parse_inputs(&text)).unwrap_or_default()
}

/// The downloads among its direct inputs: its source, patches, and what it has vendored.
pub(crate) fn sources(drv: &str) -> Vec<Source> {
    inputs(drv).iter().filter_map(|input| source(&text(input)?)).collect()
}

fn text(drv: &str) -> Option<String> {
    Some(String::from_utf8_lossy(&fs::read(drv).ok()?).into_owned())
}

/// Whether a derivation is a download, by its file.
pub(crate) fn is_download(drv: &str) -> Option<bool> {
    outputs(drv)?.first().map(|output| output.fixed)
}

/// The outputs in a derivation's text.
pub fn parse(drv: &str) -> Option<Vec<Output>> {
    // No field of an output contains a parenthesis.
    let (outputs, _) = drv.strip_prefix("Derive([(")?.split_once(")],")?;
    let output = |fields: &str| {
        let mut fields = fields.split(',').map(|field| field.trim_matches('"'));
        // An output with an algorithm and no hash is content-addressed, not fixed.
        Some(Output { path: fields.nth(1)?.to_owned(), fixed: !fields.nth(1)?.is_empty() })
    };
    outputs.split("),(").map(output).collect()
}

/// The paths of the derivations that it needs, in its text.
pub fn parse_inputs(drv: &str) -> Option<Vec<String>> {
    // Neither has a name of a store path.
    let (inputs, _) = drv.split_once(")],[(")?.1.split_once(")],[")?;
    inputs.split("),(").map(|input| Some(input.strip_prefix('"')?.split_once('"')?.0.to_owned())).collect()
}

/// What a derivation downloads; `None`: it is another one.
pub fn source(drv: &str) -> Option<Source> {
    let (first, _) = drv.strip_prefix("Derive([(")?.split_once(")],")?;
    let mut fields = first.split("),(").next()?.split(',').map(|field| field.trim_matches('"'));
    let (path, algorithm, hash) = (fields.nth(1)?, fields.next()?, fields.next().filter(|hash| !hash.is_empty())?);
    let (mode, algorithm) = match algorithm.strip_prefix("r:") {
        Some(algorithm) => (HashMode::Recursive, algorithm),
        None => (HashMode::Flat, algorithm),
    };
    // A structured environment is in one of the variables, as JSON.
    let mut strings = strings(environment(drv)?);
    let mut variables = HashMap::new();
    while let (Some(name), Some(value)) = (strings.next(), strings.next()) {
        variables.insert(name, value);
    }
    let structured = variables.get("__json").and_then(|json| serde_json::from_str::<serde_json::Value>(json).ok());
    let words = |name: &str| -> Vec<String> {
        match structured.as_ref().map(|all| &all[name]) {
            Some(serde_json::Value::Array(list)) => {
                list.iter().filter_map(|one| Some(one.as_str()?.to_owned())).collect()
            }
            Some(one) => one.as_str().map(str::to_owned).into_iter().collect(),
            None => variables.get(name).iter().flat_map(|value| value.split_whitespace()).map(str::to_owned).collect(),
        }
    };
    let urls = Some(words("urls")).filter(|urls| !urls.is_empty()).unwrap_or_else(|| words("url"));
    let name = path.rsplit('/').next()?.split_once('-')?.1;
    let rev = words("rev").into_iter().next();
    Some(Source { name: name.to_owned(), urls, rev, algorithm: algorithm.to_owned(), hash: hash.to_owned(), mode })
}

/// The environment of a derivation: its last list, with what follows.
fn environment(drv: &str) -> Option<&str> {
    let (mut depth, mut quoted, mut escaped, mut last) = (0, false, false, None);
    for (at, c) in drv.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '[' if !quoted => {
                last = if depth == 0 { Some(at) } else { last };
                depth += 1;
            }
            ']' if !quoted => depth -= 1,
            _ => {}
        }
    }
    drv.get(last?..)
}

/// The strings of a part of a derivation, in order.
fn strings(part: &str) -> impl Iterator<Item = String> {
    let mut chars = part.chars();
    std::iter::from_fn(move || {
        chars.find(|c| *c == '"')?;
        let mut string = String::new();
        loop {
            string.push(match chars.next()? {
                '"' => return Some(string),
                '\\' => match chars.next()? {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    other => other,
                },
                other => other,
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_known_by_the_derivation() {
        let made = |path: &str, fixed| Output { path: path.into(), fixed };
        let fixed = r#"Derive([("out","/nix/store/x-source","r:sha256","1234")],[],[],"x","builtin",[],[])"#;
        assert_eq!(parse(fixed), Some(vec![made("/nix/store/x-source", true)]));
        let two = r#"Derive([("dev","/nix/store/y-tree-dev","",""),("out","/nix/store/x-tree","","")],[("/nix/store/z.drv",["out"])],[],"x","sh",[],[])"#;
        assert_eq!(parse(two), Some(vec![made("/nix/store/y-tree-dev", false), made("/nix/store/x-tree", false)]));
        assert_eq!(parse_inputs(two), Some(vec!["/nix/store/z.drv".to_owned()]));
        assert_eq!(parse_inputs(fixed), None);
        let several = r#"Derive([("out","/nix/store/x","","")],[("/nix/store/a.drv",["dev","out"]),("/nix/store/b.drv",["out"])],["/nix/store/c.sh"],"x","sh",[],[("out","x")])"#;
        assert_eq!(parse_inputs(several), Some(vec!["/nix/store/a.drv".to_owned(), "/nix/store/b.drv".to_owned()]));
        let by_content = r#"Derive([("out","","r:sha256","")],[],[],"x","sh",[],[])"#;
        assert_eq!(parse(by_content), Some(vec![made("", false)]));
        for bad in ["", "Derive([])", "Derive([(", r#"Derive([("out")],"#, r#"Derive([("out","x",)"#] {
            assert_eq!((parse(bad), source(bad)), (None, None), "{bad}");
        }
    }

    #[test]
    fn a_download_names_its_urls_and_what_its_hash_is_of() {
        let of = |algorithm: &str, mode| Source {
            name: "tree-2.1.tar.gz".into(),
            urls: vec!["mirror://gnu/tree.tar.gz".into(), "https://example.org/tree".into()],
            rev: None,
            algorithm: algorithm.into(),
            hash: "12ab".into(),
            mode,
        };
        let drv = |algorithm: &str, environment: &str| {
            let out = format!(r#"("out","/nix/store/x-tree-2.1.tar.gz","{algorithm}","12ab")"#);
            format!(
                r#"Derive([{out}],[("/nix/store/c.drv",["out"])],["/nix/store/b.sh"],"x","sh",["-e","b],[("],[{environment}])"#
            )
        };
        let plain = r#"("odd","a \"],[(\\\n"),("urls","mirror://gnu/tree.tar.gz https://example.org/tree"),("url","")"#;
        assert_eq!(source(&drv("sha256", plain)), Some(of("sha256", HashMode::Flat)));
        assert_eq!(source(&drv("r:sha512", plain)), Some(of("sha512", HashMode::Recursive)));
        let json = r#"("__json","{\"urls\":[\"mirror://gnu/tree.tar.gz\",\"https://example.org/tree\"],\"url\":4}")"#;
        assert_eq!(source(&drv("sha256", json)), Some(of("sha256", HashMode::Flat)));
        let git = r#"("rev","v2.1"),("url","https://example.org/tree.git")"#;
        let by_git = Source {
            urls: vec!["https://example.org/tree.git".into()],
            rev: Some("v2.1".into()),
            ..of("sha256", HashMode::Recursive)
        };
        assert_eq!(source(&drv("r:sha256", git)), Some(by_git));
        assert_eq!(source(&drv("sha256", "")), Some(Source { urls: Vec::new(), ..of("sha256", HashMode::Flat) }));
        let another = drv("sha256", plain).replace("12ab", "");
        assert_eq!(source(&another), None);
    }
}
