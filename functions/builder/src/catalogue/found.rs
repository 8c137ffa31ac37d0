//! What an evaluator prints of an attribute (`catalogue.nix`), and what it means.

use binplz_catalogue::{About, Obstacle, Standing};
use binplz_core::build::failure::{Failure, Kind};
use serde::Deserialize;

use crate::{
    catalogue::refusal::{Refusal, first_line, in_place, message, paragraph, refusal},
    evaluate::Marks,
};

/// One line.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Line {
    /// It is neither a package nor a set.
    Other(()),
    /// It is a set of so many attributes.
    Set(usize),
    /// A name in the set.
    Name(String),
    /// It is a package.
    Package(Box<Described>),
    /// The package's derivation; `None` if it is no string.
    Drv(Option<String>),
    /// The error that follows is a `throw` or an assertion.
    Throws(()),
    /// The request of this number has ended.
    End(usize),
}

/// A package, as `describe.nix` describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Described {
    name: String,
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

/// All that was printed of an attribute.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// Our lines.
    pub(crate) lines: Vec<Line>,
    /// Nix's last error.
    pub(crate) error: Option<String>,
    /// Why the process ended before the request did.
    pub(crate) death: Option<Failure>,
}

/// The result of evaluating an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    /// Neither a package nor a set.
    Other,
    /// A set.
    Set {
        /// The names in it.
        names: Vec<String>,
        /// How many names were too long to be printed.
        unread: usize,
    },
    /// A package, or an attribute whose evaluation failed.
    Attribute(About, Standing),
}

impl Found {
    /// Reads an answer. `set` is the set's directory, which errors name.
    pub(crate) fn of(answer: Answer, set: &str) -> Found {
        let Answer { lines, error, death } = answer;
        let error = error.map(|error| message(&error, set)).unwrap_or_default();
        let refused = |about, why, detail| Found::Attribute(about, Standing::Refused { why, detail });
        let lost = |about| {
            let (why, detail) = loss(death.as_ref(), &error, set);
            refused(about, why, detail)
        };
        match lines.as_slice() {
            [Line::Other(())] => Found::Other,
            [Line::Set(count), rest @ ..] if death.is_none() => {
                let name = |line: &Line| if let Line::Name(name) = line { Some(name.clone()) } else { None };
                let names: Vec<String> = rest.iter().filter_map(name).collect();
                Found::Set { unread: count.saturating_sub(names.len()), names }
            }
            [Line::Throws(())] if death.is_none() => {
                // A package's own refusal comes with its derivation.
                let (why, detail) = refusal(&error).map_or_else(|| in_place(&error), |refusal| refusal.of_dependency());
                refused(About::default(), why, Some(detail))
            }
            [Line::Package(package), rest @ ..] => match (package.mark(), rest) {
                (Some(mark), _) => refused(package.about(), mark, package.reason(mark)),
                (None, [Line::Drv(Some(drv))]) => {
                    // Another attribute's build of the derivation has the programs of another output.
                    let drv_path = (!package.specified).then(|| drv.clone());
                    Found::Attribute(package.about(), Standing::Buildable { drv_path })
                }
                (None, [Line::Drv(None)]) => {
                    refused(package.about(), Obstacle::Fails, Some("its drvPath is not a string".to_owned()))
                }
                (None, [Line::Throws(())]) if death.is_none() => match refusal(&error) {
                    Some(refusal) => {
                        let (why, detail) = package.refused(refusal);
                        refused(package.about(), why, detail)
                    }
                    None => refused(package.about(), Obstacle::Throws, Some(paragraph(&error))),
                },
                (None, _) => lost(package.about()),
            },
            _ => lost(About::default()),
        }
    }
}

/// Why an attribute could not be evaluated.
fn loss(death: Option<&Failure>, error: &str, set: &str) -> (Obstacle, Option<String>) {
    match death {
        None if error.is_empty() => (Obstacle::Fails, Some("its evaluation printed no result".to_owned())),
        None => (Obstacle::Fails, Some(first_line(error))),
        Some(Failure { kind: Kind::TimedOut, .. }) => (Obstacle::Endless, None),
        // A kill that was not ours: when memory is short, the kernel's.
        Some(Failure { kind: Kind::OutOfMemory | Kind::Killed, .. }) => (Obstacle::OutOfMemory, None),
        Some(Failure { detail, .. }) => {
            (Obstacle::Fails, detail.as_ref().map(|detail| first_line(&message(detail, set))))
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

    /// What the package itself says about its mark.
    fn reason(&self, mark: Obstacle) -> Option<String> {
        match mark {
            Obstacle::Insecure => self.reason.clone(),
            Obstacle::Unfree if !self.license.is_empty() => Some(self.license.join(", ")),
            _ => None,
        }
    }

    /// nixpkgs' refusal, of this package or of one that it depends on.
    fn refused(&self, refusal: Refusal) -> (Obstacle, Option<String>) {
        match refusal {
            Refusal { why, detail, package, .. } if package == self.name => (why, self.reason(why).or(detail)),
            other => {
                let (why, detail) = other.of_dependency();
                (why, Some(detail))
            }
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

    fn found(lines: &[&str], error: Option<&str>, death: Option<Kind>) -> String {
        let lines = lines.iter().map(|line| serde_json::from_str(line).expect("a line")).collect();
        let death = death.map(|kind| Failure::new(kind, "the evaluator's stack overflowed"));
        match Found::of(Answer { lines, error: error.map(str::to_owned), death }, "/set") {
            Found::Attribute(about, Standing::Buildable { drv_path }) => format!("{}: {drv_path:?}", about.pname),
            Found::Attribute(about, Standing::Refused { why, detail }) => {
                format!("{}: {why} {}", about.pname, detail.unwrap_or_default())
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn every_attribute_is_accounted_for() {
        let package = |broken, specified| {
            format!(
                r#"{{"package":{{"name":"x-1","pname":"x","version":"1","mainProgram":null,"description":null,"homepage":null,"license":["Unfree"],"marks":{{"broken":{broken},"unsupported":false,"insecure":false,"unfree":false}},"reason":null,"specified":{specified}}}}}"#
            )
        };
        let (good, broken, tools) = (&*package(false, false), &*package(true, false), &*package(false, true));
        let throws = r#"{"throws":null}"#;
        let unfree = "error: Package ‘x-1’ in /set/x.nix:3 has an unfree license (‘unfree’), refusing to evaluate.";
        let other = "error: Package ‘y-2’ in /set/y.nix:3 is marked as broken, refusing to evaluate.";
        let recursion = "error: infinite recursion encountered\n\n       at /set/x.nix:1:2:\n\n   1| x";
        for (lines, error, death, said) in [
            (&[r#"{"other":null}"#][..], None, None, "Other"),
            (
                &[r#"{"set":3}"#, r#"{"name":"a"}"#, r#"{"name":"b"}"#],
                None,
                None,
                r#"Set { names: ["a", "b"], unread: 1 }"#,
            ),
            (&[r#"{"set":2}"#, r#"{"name":"a"}"#], None, Some(Kind::OutOfMemory), ": out-of-memory "),
            (&[throws], Some("error: exa is eza now"), None, ": removed exa is eza now"),
            (&[throws], Some("error: assertion 'false' failed"), None, ": throws assertion 'false' failed"),
            (&[throws], Some(other), None, ": dependency y-2 is marked as broken"),
            (&[], Some(recursion), None, ": fails infinite recursion encountered"),
            (&[], None, None, ": fails its evaluation printed no result"),
            (&[], None, Some(Kind::OutOfMemory), ": out-of-memory "),
            (&[], None, Some(Kind::Killed), ": out-of-memory "),
            (&[], None, Some(Kind::TimedOut), ": endless "),
            (&[], None, Some(Kind::EvaluationError), ": fails the evaluator's stack overflowed"),
            (&[broken], None, None, "x: broken "),
            (&[good, r#"{"drv":"/x.drv"}"#], None, None, r#"x: Some("/x.drv")"#),
            (&[tools, r#"{"drv":"/x.drv"}"#], None, None, "x: None"),
            (&[good, r#"{"drv":null}"#], None, None, "x: fails its drvPath is not a string"),
            (&[good, throws], Some(unfree), None, "x: unfree Unfree"),
            (&[good, throws], Some(other), None, "x: dependency y-2 is marked as broken"),
            (&[good, throws], Some("error: not for static"), None, "x: throws not for static"),
            (&[good], Some(recursion), None, "x: fails infinite recursion encountered"),
            (&[good], None, Some(Kind::TimedOut), "x: endless "),
            // What was said before a death counts.
            (&[good, r#"{"drv":"/x.drv"}"#], None, Some(Kind::OutOfMemory), r#"x: Some("/x.drv")"#),
        ] {
            assert_eq!(found(lines, error, death), said);
        }
    }
}
