//! One evaluation of the requested attribute: the package's description, and its derivation, which is written to the
//! store.
//!
//! The evaluation is restricted to the set ([`nixpkgs::restricted_to`]), and the attribute path, which strangers choose, is
//! passed as data.

use std::{ffi::OsString, path::Path};

use binplz_core::{
    build::{
        failure::{Failure, Kind},
        protocol::{Job, Phase},
    },
    id::key::{Attr, OutputName, Product},
    nixpkgs::nix_version::RequiredNix,
    objects::{artifact::Declared, materials::Materials},
};
use memchr::memmem;
use serde::{Deserialize, Deserializer};

use crate::{
    classify::{self, NixExit},
    context::{BuildContext, Ending, finished},
    machine,
    nix::{self, Exit},
    nixpkgs, version,
    watch::Watch,
};

const INSPECT: &str = include_str!("inspect.nix");
const DECLARE: &str = include_str!("declare.nix");
/// A Nix function that describes a package, for every expression here that inspects packages.
pub(crate) const DESCRIBE: &str = include_str!("describe.nix");

/// A package that can be built.
#[derive(Debug)]
pub(crate) struct Package {
    /// Its name without its version.
    pub(crate) pname: String,
    /// Its version; may be empty.
    pub(crate) version: String,
    /// `meta.mainProgram`.
    pub(crate) main_program: Option<String>,
    /// Its licences, as SPDX identifiers where there are some.
    pub(crate) license: Vec<String>,
    /// Its derivation's path.
    pub(crate) drv: String,
    /// Its outputs.
    pub(crate) outputs: Outputs,
    /// Those that are realised; empty: all.
    pub(crate) wanted: Vec<OutputName>,
    /// The version of Nix that evaluated it.
    pub(crate) nix: String,
    /// What it declares of what it is made of; `None`: its set does so in no way that is understood.
    pub(crate) materials: Option<Materials>,
}

/// The output of `inspect.nix`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inspection {
    exists: bool,
    #[serde(default)]
    pname: String,
    #[serde(default)]
    version: String,
    main_program: Option<String>,
    #[serde(default)]
    license: Vec<String>,
    #[serde(default)]
    marks: Marks,
    reason: Option<String>,
    drv_path: Option<String>,
    output: Option<Outputs>,
    nix_version: String,
    /// [`Materials`], if it is of that form.
    declared: Option<serde_json::Value>,
}

/// The outputs of a derivation, as its attribute describes them. Names that no output can have are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Outputs {
    /// All of them, in order.
    #[serde(deserialize_with = "names")]
    pub(crate) all: Vec<OutputName>,
    /// The one that the attribute stands for (`outputSpecified`), if it does.
    pub(crate) own: Option<OutputName>,
    /// Those that Nix installs otherwise (`meta.outputsToInstall`), in order.
    #[serde(deserialize_with = "names")]
    pub(crate) installed: Vec<OutputName>,
}

fn names<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<OutputName>, D::Error> {
    let names = Vec::<String>::deserialize(list)?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

impl Outputs {
    /// Those that Nix installs with the attribute.
    fn own_or_installed(&self) -> Vec<OutputName> {
        self.own.clone().map_or_else(|| self.installed.clone(), |own| vec![own])
    }
}

impl Package {
    /// What Nix is to realise, in its words: the derivation, with the outputs that are wanted if not all are.
    pub(crate) fn installable(&self) -> String {
        let wanted: Vec<&str> = self.wanted.iter().map(OutputName::as_str).collect();
        let outputs = if wanted.is_empty() { String::new() } else { format!("!{}", wanted.join(",")) };
        format!("{}{outputs}", self.drv)
    }

    /// What the attribute says beyond its derivation.
    pub(crate) fn declared(&self) -> Declared {
        Declared { main_program: self.main_program.clone(), output: self.outputs.own.clone() }
    }
}

/// The marks of a package in its set.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Marks {
    broken: bool,
    unsupported: bool,
    insecure: bool,
    unfree: bool,
}

impl Marks {
    /// The most severe mark: the one for which a retry or another system helps least.
    pub(crate) fn kind(&self) -> Option<Kind> {
        let marks = [
            (self.unsupported, Kind::Unsupported),
            (self.broken, Kind::Broken),
            (self.insecure, Kind::Insecure),
            (self.unfree, Kind::Unfree),
        ];
        marks.into_iter().find(|(marked, _)| *marked).map(|(_, kind)| kind)
    }
}

/// Evaluates the job's attribute.
pub(crate) fn evaluate(context: &BuildContext, job: &Job, attr: &Attr) -> Result<Package, Ending> {
    context.progress_channel.update(|progress| progress.phase = Phase::Evaluating);
    let set = match nixpkgs::directory(context, job) {
        Ok(set) => set,
        Err(error) => {
            version::ask(&context.nix)?;
            return Err(error);
        }
    };
    let mark = format!("binplz: declared {}", nix::nonce()?);
    match inspect(context, job, attr, &set, &mark) {
        // What it declares is of no use, and must not fail it.
        Err(Failed { ending: Ending::Failed(failure), marked: true }) if failure.kind == Kind::EvaluationError => {
            context.log.say("what it is made of cannot be evaluated, and is left out");
            inspect(context, job, attr, &set, "").map_err(|failed| failed.ending)
        }
        inspected => inspected.map_err(|failed| failed.ending),
    }
}

/// Why there is no package.
struct Failed {
    ending: Ending,
    /// Whether all but what it declares was evaluated.
    marked: bool,
}

impl<E: Into<Ending>> From<E> for Failed {
    fn from(error: E) -> Failed {
        Failed { ending: error.into(), marked: false }
    }
}

/// One evaluation, which prints the mark, if there is one, before it evaluates what the package declares.
fn inspect(context: &BuildContext, job: &Job, attr: &Attr, set: &Path, mark: &str) -> Result<Package, Failed> {
    let kills = machine::oom_kills();
    let (mut watch, mut marked) = (Watch::new(&context.progress_channel, &context.log), false);
    let hear = |line: &[u8]| match !mark.is_empty() && memmem::find(line, mark.as_bytes()).is_some() {
        true => marked = true,
        false => watch.hear(line),
    };
    let ran = context.nix.run("nix-instantiate", &arguments(job, attr, set, mark), context.lease.deadline(), hear);
    let ran = match ran {
        Ok(ran) => ran,
        Err(error) => {
            version::ask(&context.nix)?;
            return Err(error.into());
        }
    };
    let mut evidence = watch.into_evidence();
    match finished(ran.end)? {
        NixExit::Exit(Exit::Code(0)) => {
            let package = package(&ran.stdout)?;
            Ok(match job.key.product {
                // Headers and libraries for developers are no part of a bundle, and large.
                Product::Bundle { .. } => Package { wanted: package.outputs.own_or_installed(), ..package },
                Product::Package(_) | Product::Catalogue => package,
            })
        }
        ended => {
            evidence.oom_killed = machine::oom_kills() > kills;
            let failure = classify::evaluation(ended, &evidence);
            // An old Nix fails on our own expression; then the package is not to blame.
            if failure.kind == Kind::EvaluationError {
                version::ask(&context.nix)?;
            }
            Err(Failed { ending: Ending::Failed(failure), marked })
        }
    }
}

/// Foreign values are passed by `--argstr`, as data.
fn arguments(job: &Job, attr: &Attr, set: &Path, mark: &str) -> Vec<OsString> {
    let parts = serde_json::Value::from_iter(top(job).into_iter().chain(attr.parts())).to_string();
    let system = job.key.system.to_string();
    let fixed = ["--eval", "--strict", "--json", "--read-write-mode"].map(OsString::from);
    let data = [("attrPath", parts.into()), ("system", system.into()), ("path", set.into()), ("mark", mark.into())];
    let data = data.into_iter().flat_map(|(name, value): (_, OsString)| ["--argstr".into(), name.into(), value]);
    let ours = ["--arg", "describe", DESCRIBE, "--arg", "declare", DECLARE, "--expr", INSPECT].map(OsString::from);
    fixed.into_iter().chain(nixpkgs::restricted_to(set)).chain(data).chain(ours).collect()
}

/// The part of the set that has the job's package.
fn top(job: &Job) -> Option<&'static str> {
    let ordinary = matches!(job.key.product, Product::Bundle { .. }) && !job.of_static;
    (!ordinary).then_some("pkgsStatic")
}

fn package(stdout: &[u8]) -> Result<Package, Ending> {
    let inspection: Inspection = serde_json::from_slice(stdout)
        .map_err(|error| Ending::ours(format!("the result of an evaluation is not JSON: {error}")))?;
    RequiredNix::BY_BINPLZ.check(&inspection.nix_version)?;
    if !inspection.exists {
        return Err(Ending::Failed(Failure::new(Kind::NoSuchPackage, "")));
    }
    if let Some(kind) = inspection.marks.kind() {
        let reason = inspection.reason.filter(|_| kind == Kind::Insecure).unwrap_or_default();
        return Err(Ending::Failed(Failure::new(kind, reason)));
    }
    match inspection.drv_path {
        Some(drv) => Ok(Package {
            pname: inspection.pname,
            version: inspection.version,
            main_program: inspection.main_program,
            license: inspection.license,
            drv,
            outputs: inspection.output.unwrap_or_default(),
            wanted: Vec::new(),
            nix: inspection.nix_version,
            materials: inspection.declared.and_then(|declared| serde_json::from_value(declared).ok()),
        }),
        None => Err(Ending::Failed(Failure::new(Kind::EvaluationError, "its drvPath is not a string"))),
    }
}

#[cfg(test)]
mod tests {
    use binplz_core::build::protocol::Nixpkgs;

    use super::*;

    fn kind_of(json: &str) -> Option<Kind> {
        match package(json.as_bytes()) {
            Err(Ending::Failed(failure)) => Some(failure.kind),
            _ => None,
        }
    }

    #[test]
    fn a_package_is_judged_by_its_marks() {
        let marked = |mark: &str| {
            let marks: Vec<String> = ["broken", "unsupported", "insecure", "unfree"]
                .map(|name| format!(r#""{name}":{}"#, mark.contains(name)))
                .into();
            kind_of(&format!(
                r#"{{"exists":true,"pname":"x","version":"1","mainProgram":null,"marks":{{{}}},"reason":null,"drvPath":"/x.drv","output":{{"all":["out"],"own":null,"installed":["out"]}},"nixVersion":"2.8.0"}}"#,
                marks.join(",")
            ))
        };
        assert_eq!(marked(""), None);
        assert_eq!(marked("broken"), Some(Kind::Broken));
        assert_eq!(marked("unsupported broken"), Some(Kind::Unsupported));
        assert_eq!(marked("insecure unfree"), Some(Kind::Insecure));
        assert_eq!(marked("unfree"), Some(Kind::Unfree));
        assert_eq!(kind_of(r#"{"exists":false,"nixVersion":"2.8.0"}"#), Some(Kind::NoSuchPackage));
        assert_eq!(kind_of(r#"{"exists":false,"nixVersion":"2.3.16"}"#), Some(Kind::OldNix));
        assert_eq!(kind_of(""), Some(Kind::BuilderError));
    }

    #[test]
    fn what_is_asked_for_goes_in_as_data() {
        let job = Job {
            key: format!("{}/x86_64-linux/gnome.tree", "ab".repeat(20)).parse().expect("a key"),
            nixpkgs: Nixpkgs::Path("unused".into()),
            limits: Default::default(),
            lease_seconds: 1,
            cache: None,
            programs: None,
            resume: Default::default(),
            of_static: false,
        };
        let set = Path::new("/a\" + throw \"b");
        let arguments = arguments(&job, &"gnome.tree".parse().expect("an attribute"), set, "a mark");
        let after = |name: &str| arguments.iter().skip_while(|one| *one != name).nth(1).and_then(|one| one.to_str());
        assert_eq!(after("attrPath"), Some(r#"["pkgsStatic","gnome","tree"]"#));
        assert_eq!(after("path"), Some("/a\" + throw \"b"));
        assert_eq!(after("--expr"), Some(INSPECT));
    }
}
