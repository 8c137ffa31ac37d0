//! Where the sources of an artifact are, for people.

use std::fmt;

use crate::objects::materials::{Component, Licence, Materials};

/// The text of `/-/source/TARGET`.
#[derive(Clone, Copy, Debug)]
pub struct SourceText<'a>(pub &'a Materials);

impl fmt::Display for SourceText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Materials { package, linked, .. } = self.0;
        component(f, package)?;
        writeln!(f, "  {}", package.derivation)?;
        if !linked.is_empty() {
            writeln!(f, "\nThe package declares these inputs, which a static program may contain:\n")?;
            linked.iter().try_for_each(|one| component(f, one))?;
        }
        writeln!(
            f,
            "\nThe licences and inputs are those that Nixpkgs declares. Nixpkgs lists the mirrors that a mirror:// URL stands for,\n\
             and has the build instructions. Code inside a source (vendored code) is not listed."
        )
    }
}

fn component(f: &mut fmt::Formatter<'_>, one: &Component) -> fmt::Result {
    let licences: Vec<&str> = one.licences.iter().map(Licence::text).collect();
    let licences = if licences.is_empty() { "no licence declared".to_owned() } else { licences.join(", ") };
    writeln!(f, "{}: {licences}", format!("{} {}", one.name, one.version).trim_end())?;
    for source in &one.sources {
        let rev = source.rev.as_deref().map_or(String::new(), |rev| format!(" at {rev}"));
        writeln!(f, "  {}{rev}, {}", source.name, source.told_hash())?;
        source.urls.iter().try_for_each(|url| writeln!(f, "    {url}"))?;
    }
    Ok(())
}
