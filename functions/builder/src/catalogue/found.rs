//! The lines that `catalogue.nix` prints for an attribute, and what they mean.

use binplz_catalogue::{About, Obstacle, Standing};
use binplz_core::build::failure::Kind;
use serde::Deserialize;

use crate::evaluate::Marks;

/// One line.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Line {
    /// The attribute of this number begins.
    At(usize),
    /// It is neither a package nor a set.
    Other(()),
    /// It throws.
    Throws(()),
    /// It is a set of attributes.
    Set(()),
    /// A name in the set.
    Name(String),
    /// It is a package.
    Package(Box<Described>),
    /// The package's derivation; `None` if evaluating it throws.
    Drv(Option<String>),
}

impl Line {
    fn name(&self) -> Option<String> {
        if let Line::Name(name) = self { Some(name.clone()) } else { None }
    }
}

/// A package, as `describe.nix` describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Described {
    pname: String,
    version: String,
    main_program: Option<String>,
    description: Option<String>,
    homepage: Option<String>,
    license: Vec<String>,
    marks: Marks,
    reason: Option<String>,
    /// Whether the attribute stands for one output of its derivation.
    specified: bool,
}

/// Why an evaluator ended early.
#[derive(Clone, Debug)]
pub(crate) struct Death {
    /// The attribute's obstacle.
    pub(crate) why: Obstacle,
    /// Nix's error.
    pub(crate) detail: Option<String>,
    /// Whether the attribute was the only one in that process, and so is to blame.
    pub(crate) alone: bool,
}

impl Death {
    /// A text for people.
    pub(crate) fn said(&self) -> String {
        self.why.failure(self.detail.as_deref()).sentence()
    }
}

/// The result of evaluating an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    /// Neither a package nor a set.
    Other,
    /// A set, with the names in it.
    Set(Vec<String>),
    /// A package, or an attribute whose evaluation failed.
    Attribute(About, Standing),
}

impl Found {
    /// Reads an attribute's lines; `death` is why the process ended before all came.
    pub(crate) fn of(lines: &[Line], death: Option<Death>) -> Found {
        let lost = |about, death: Option<Death>| {
            // A process that ends normally has printed a line of each expected kind.
            let (why, detail) = death.map_or((Obstacle::Fails, None), |death| (death.why, death.detail));
            Found::Attribute(about, Standing::Refused { why, detail })
        };
        let refused = |about, why, detail| Found::Attribute(about, Standing::Refused { why, detail });
        match lines {
            [Line::Other(())] => Found::Other,
            [Line::Set(()), names @ ..] if death.is_none() => Found::Set(names.iter().filter_map(Line::name).collect()),
            [Line::Throws(())] => refused(About::default(), Obstacle::Throws, None),
            [Line::Package(package), rest @ ..] => match (package.mark(), rest) {
                (Some(mark), _) => refused(package.about(), mark, package.reason(mark)),
                (None, [Line::Drv(Some(drv))]) => {
                    // Another attribute's build of the derivation has the programs of another output.
                    let drv_path = (!package.specified).then(|| drv.clone());
                    Found::Attribute(package.about(), Standing::Buildable { drv_path })
                }
                (None, [Line::Drv(None)]) => refused(package.about(), Obstacle::Throws, None),
                (None, _) => lost(package.about(), death),
            },
            _ => lost(About::default(), death),
        }
    }
}

impl Described {
    fn mark(&self) -> Option<Obstacle> {
        match self.marks.kind()? {
            Kind::Unsupported => Some(Obstacle::Unsupported),
            Kind::Broken => Some(Obstacle::Broken),
            Kind::Insecure => Some(Obstacle::Insecure),
            _ => Some(Obstacle::Unfree),
        }
    }

    fn reason(&self, mark: Obstacle) -> Option<String> {
        match mark {
            Obstacle::Insecure => self.reason.clone(),
            Obstacle::Unfree if !self.license.is_empty() => Some(self.license.join(", ")),
            _ => None,
        }
    }

    fn about(&self) -> About {
        About {
            pname: self.pname.clone(),
            version: self.version.clone(),
            description: self.description.clone().unwrap_or_default(),
            homepage: self.homepage.clone().unwrap_or_default(),
            license: self.license.clone(),
            main_program: self.main_program.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &[&str], death: Option<Obstacle>) -> String {
        let lines: Vec<Line> = lines.iter().map(|line| serde_json::from_str(line).expect("a line")).collect();
        match Found::of(&lines, death.map(|why| Death { why, detail: None, alone: true })) {
            Found::Attribute(about, Standing::Buildable { drv_path }) => format!("{}: {drv_path:?}", about.pname),
            Found::Attribute(about, Standing::Refused { why, detail }) => format!("{}: {why} {detail:?}", about.pname),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn what_was_said_before_a_death_counts() {
        let package = |broken, specified| {
            format!(
                r#"{{"package":{{"pname":"x","version":"1","mainProgram":null,"description":null,"homepage":null,"license":[],"marks":{{"broken":{broken},"unsupported":false,"insecure":false,"unfree":false}},"reason":null,"specified":{specified}}}}}"#
            )
        };
        let (good, broken, tools) = (package(false, false), package(true, false), package(false, true));
        let memory = Some(Obstacle::OutOfMemory);
        for (lines, death, said) in [
            (&[r#"{"other":null}"#][..], None, "Other"),
            (&[r#"{"set":null}"#, r#"{"name":"a"}"#, r#"{"name":"b"}"#], None, r#"Set(["a", "b"])"#),
            (&[r#"{"set":null}"#, r#"{"name":"a"}"#], memory, ": out-of-memory None"),
            (&[r#"{"throws":null}"#], None, ": throws None"),
            (&[], memory, ": out-of-memory None"),
            (&[&good], memory, "x: out-of-memory None"),
            (&[&good, r#"{"drv":null}"#], None, "x: throws None"),
            (&[&good, r#"{"drv":"/x.drv"}"#], memory, r#"x: Some("/x.drv")"#),
            (&[&tools, r#"{"drv":"/x.drv"}"#], None, "x: None"),
            (&[&broken], memory, "x: broken None"),
            (&[&good], None, "x: fails None"),
        ] {
            assert_eq!(found(lines, death), said);
        }
    }
}
