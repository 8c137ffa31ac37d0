//! The content of a target's page. The texts come from [`crate::answer::reply`]; the web layer has the template.

use crate::{
    answer::{asked::Asked, stub},
    flow::request::status::Status,
    id::{
        target::{Target, Wanted},
        text::{bytes, clean_line},
    },
    nixpkgs::served::Served,
};

/// A page about one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The target, or "binplz".
    pub title: String,
    /// The state, in a word or two.
    pub state: &'static str,
    /// The explanation of the state.
    pub sentence: String,
    /// The target's path, if there is a target.
    pub target: Option<String>,
    /// The path of the package's page.
    pub package: Option<String>,
    /// Commands to copy, which download the program and install it.
    pub commands: Vec<String>,
    /// A path to download the binary from.
    pub download: Option<String>,
    /// The facts of the program: names and values.
    pub facts: Vec<(&'static str, String)>,
    /// The path of the program's bundle, if the bundle is useful.
    pub bundle: Option<String>,
    /// Paths to choose from.
    pub choices: Vec<String>,
    /// A text to search for instead.
    pub search: Option<String>,
    /// The label of the button that starts the build.
    pub button: Option<&'static str>,
    /// The path of the log.
    pub log: Option<String>,
    /// Seconds after which the page asks again.
    pub refresh: Option<u64>,
    /// The build, while it is under way.
    pub status: Option<Status>,
}

impl Page {
    /// A page with the target's name, and nothing else yet.
    pub(crate) fn about(asked: &Asked) -> Page {
        let package = |target: &Target| {
            let package = Target { wanted: Wanted::Package(target.wanted.attr().clone()), ..target.clone() };
            format!("/-/p/{package}")
        };
        Page {
            title: asked.target.map_or("binplz".to_owned(), Target::to_string),
            target: asked.target.map(Target::to_string),
            package: asked.target.map(package),
            ..Page::default()
        }
    }
}

/// The cost of a build, if there is one.
pub fn cost(status: &Status) -> Option<(&'static str, String)> {
    status.cost.map(|cost| ("cost", cost.to_string()))
}

/// Programs in a line.
pub(crate) fn listed(programs: &[Wanted]) -> String {
    programs.iter().map(Wanted::to_string).collect::<Vec<_>>().join(", ")
}

/// The same program of other packages, if there are any.
pub(crate) fn alternatives(others: &[Wanted]) -> Option<(&'static str, String)> {
    (!others.is_empty()).then(|| ("also in", listed(others)))
}

/// The facts about a program.
pub(crate) fn facts(served: &Served) -> Vec<(&'static str, String)> {
    let version = clean_line(&served.version, stub::LINE_MAX);
    let facts = [
        ("program", served.bin.to_string()),
        ("package", served.attr.to_string()),
        ("output", served.notes.output.as_ref().map_or(String::new(), ToString::to_string)),
        ("version", version),
        ("system", served.asked.system().to_string()),
        ("size", bytes(served.size)),
        ("unpacked", served.notes.bundle.as_ref().map_or(String::new(), |bundle| bytes(bundle.unpacked))),
        ("sha256", served.sha256.to_string()),
        ("nixpkgs", served.rev.to_string()),
        ("note", served.notes.sentence(&served.bin)),
    ];
    facts.into_iter().filter(|(_, value)| !value.is_empty()).chain(alternatives(&served.notes.others)).collect()
}
