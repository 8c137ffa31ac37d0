//! The outputs and inputs of a derivation, read from its file:
//! `Derive([("out","/nix/store/…","",""),("dev",…)],[("/nix/store/….drv",["out"]),…],…`.

use std::fs;

/// An output of a derivation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Output {
    /// Its store path; empty if it depends on the content.
    pub(crate) path: String,
    /// Whether its hash is fixed, that is, it is a download.
    pub(crate) fixed: bool,
}

/// The outputs of the derivation in that file; `None` if it cannot be read.
pub(crate) fn outputs(drv: &str) -> Option<Vec<Output>> {
    parse(&text(drv)?)
}

/// The derivations that it needs, by their paths; none if it cannot be read.
pub(crate) fn inputs(drv: &str) -> Vec<String> {
    text(drv).and_then(|text| parse_inputs(&text)).unwrap_or_default()
}

fn text(drv: &str) -> Option<String> {
    Some(String::from_utf8_lossy(&fs::read(drv).ok()?).into_owned())
}

/// Whether a derivation is a download, by its file.
pub(crate) fn is_download(drv: &str) -> Option<bool> {
    outputs(drv)?.first().map(|output| output.fixed)
}

fn parse(drv: &str) -> Option<Vec<Output>> {
    // No field of an output contains a parenthesis.
    let (outputs, _) = drv.strip_prefix("Derive([(")?.split_once(")],")?;
    let output = |fields: &str| {
        let mut fields = fields.split(',').map(|field| field.trim_matches('"'));
        // An output with an algorithm and no hash is content-addressed, not fixed.
        Some(Output { path: fields.nth(1)?.to_owned(), fixed: !fields.nth(1)?.is_empty() })
    };
    outputs.split("),(").map(output).collect()
}

fn parse_inputs(drv: &str) -> Option<Vec<String>> {
    // Neither has a name of a store path.
    let (inputs, _) = drv.split_once(")],[(")?.1.split_once(")],[")?;
    inputs.split("),(").map(|input| Some(input.strip_prefix('"')?.split_once('"')?.0.to_owned())).collect()
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
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
