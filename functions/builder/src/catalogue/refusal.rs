//! The sentences in which nixpkgs refuses a package (`pkgs/stdenv/generic/check-meta.nix`), and the first line of any
//! other error.
//!
//! The forms, each followed by advice that names options of the evaluation, of no use to our clients:
//!
//! | nixpkgs | sentence |
//! |---|---|
//! | until 2025 | Package ‘NAME’ in FILE:LINE REASON, refusing to evaluate. |
//! | since then | Refusing to evaluate package 'NAME' in FILE:LINE because it REASON |
//!
//! The reasons are the same in both. Those of `meta.problems` (RFC 127) follow on lines of their own.

use binplz_catalogue::Obstacle;

use crate::classify::without_store;

/// A refusal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The package that is refused: the attribute's own, or one that it depends on.
    pub(crate) package: String,
    /// The kind of refusal.
    pub(crate) why: Obstacle,
    /// What `why` does not say.
    pub(crate) detail: Option<String>,
    /// The reason in nixpkgs' words: "is marked as broken".
    pub(crate) said: String,
}

/// The start of each reason.
const REASONS: [(&str, Obstacle); 8] = [
    ("has an unfree license", Obstacle::Unfree),
    ("has a blacklisted license", Obstacle::Unfree),
    ("has a blocklisted license", Obstacle::Unfree),
    ("is marked as broken", Obstacle::Broken),
    ("is not supported on", Obstacle::Unsupported),
    ("is not available on", Obstacle::Unsupported),
    ("is marked as insecure", Obstacle::Insecure),
    ("has problems:", Obstacle::Problem),
];

impl Refusal {
    /// The obstacle of a package that depends on the refused one, and its detail.
    pub(crate) fn of_dependency(self) -> (Obstacle, String) {
        (Obstacle::Dependency, format!("{} {}", self.package, self.said))
    }
}

/// The obstacle of an attribute that throws in place of a package, and its detail: a removed alias says what replaces
/// it. An assertion says nothing of the kind.
pub(crate) fn in_place(error: &str) -> (Obstacle, String) {
    let why = if error.starts_with("assertion ") { Obstacle::Throws } else { Obstacle::Removed };
    (why, paragraph(error))
}

/// Reads a message; `None` if it is no refusal of nixpkgs.
pub(crate) fn refusal(message: &str) -> Option<Refusal> {
    let (package, reason) = match message.strip_prefix("Package ‘") {
        Some(rest) => {
            let (package, rest) = rest.split_once('’')?;
            (package, rest.split(", refusing to evaluate").next()?)
        }
        None => {
            let (package, rest) = message.strip_prefix("Refusing to evaluate package '")?.split_once('\'')?;
            (package, rest.split_once(" because it ")?.1)
        }
    };
    let known = REASONS.iter().filter_map(|(start, why)| Some((reason.find(start)?, *why)));
    let (at, why) = known.min_by_key(|(at, _)| *at).unwrap_or((0, Obstacle::Problem));
    let reason = &reason[at..];
    let said = match why {
        Obstacle::Problem => problems(reason),
        _ => first_line(reason).trim_end_matches(':').to_owned(),
    };
    let package = package.to_owned();
    Some(match why {
        Obstacle::Problem => {
            let why = kind_of_problem(&said).unwrap_or(why);
            Refusal { package, why, detail: Some(said.clone()), said: format!("has problems: {said}") }
        }
        Obstacle::Unfree => Refusal { package, why, detail: licence(&said), said },
        _ => Refusal { package, why, detail: None, said },
    })
}

/// `NAME: MESSAGE` of each problem, joined.
fn problems(reason: &str) -> String {
    let listed = reason.lines().map(str::trim).filter_map(|line| line.strip_prefix("- "));
    let listed = listed.collect::<Vec<_>>().join("; ");
    if listed.is_empty() { paragraph(reason) } else { listed }
}

/// The kind of the first problem, where it is one of the older marks: `broken: …`, or `NAME (kind "broken"): …`.
fn kind_of_problem(problem: &str) -> Option<Obstacle> {
    let name = problem.split(':').next()?;
    let kind = name.split_once("(kind \"").map_or(name, |(_, kind)| kind.split('"').next().unwrap_or_default());
    match kind.trim() {
        "broken" => Some(Obstacle::Broken),
        "insecure" => Some(Obstacle::Insecure),
        "unsupported" => Some(Obstacle::Unsupported),
        _ => None,
    }
}

/// The licence in "has an unfree license (‘unfree’)".
fn licence(said: &str) -> Option<String> {
    Some(said.split_once('‘')?.1.split_once('’')?.0.to_owned())
}

/// Nix's message of an error: what follows the last `error:`, whose lines are indented, without the place of the set
/// and the hashes of store paths.
pub(crate) fn message(error: &str, set: &str) -> String {
    let start = error.lines().map(str::trim_start).enumerate().filter(|(_, line)| line.starts_with("error:"));
    let from = start.last().map_or(0, |(number, _)| number);
    let lines: Vec<&str> = error.lines().skip(from).map(str::trim).collect();
    let text = lines.join("\n").replace(&format!("{set}/"), "");
    without_store(text.trim_start_matches("error:").trim())
}

/// The first line.
pub(crate) fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

/// The first paragraph, as one line.
pub(crate) fn paragraph(message: &str) -> String {
    message.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_nixpkgs_is_understood() {
        for (said, package, why, detail) in [
            (
                "Package ‘flashplayer-32’ in pkgs/flash.nix:77 has an unfree license (‘unfree’), refusing to evaluate.\n\na) For `nixos-rebuild` …",
                "flashplayer-32",
                Obstacle::Unfree,
                Some("unfree"),
            ),
            ("Package ‘a-1’ in a.nix:1 is marked as broken, refusing to evaluate.", "a-1", Obstacle::Broken, None),
            (
                "Package ‘a-1’ in a.nix:1 is not supported on ‘x86_64-linux’, refusing to evaluate.",
                "a-1",
                Obstacle::Unsupported,
                None,
            ),
            (
                "Package ‘a-1’ in a.nix:1 is not available on the requested hostPlatform:\nhostPlatform.system = \"x86_64-linux\"\npackage.meta.platforms = [ ]\n, refusing to evaluate.",
                "a-1",
                Obstacle::Unsupported,
                None,
            ),
            (
                "Package ‘a-1’ in «unknown-file» is marked as insecure, refusing to evaluate.\n\nKnown issues:\n - CVE-1970-0001",
                "a-1",
                Obstacle::Insecure,
                None,
            ),
            (
                "Refusing to evaluate package 'a-1' in a.nix:1 because it has an unfree license (‘bsl11’)",
                "a-1",
                Obstacle::Unfree,
                Some("bsl11"),
            ),
            (
                "Refusing to evaluate package 'a-1' in a.nix:1 because it has problems:\n- removal: It will be removed in 26.11. (https://example.org)\n- deprecated: Use b.\n\nSee also …",
                "a-1",
                Obstacle::Problem,
                Some("removal: It will be removed in 26.11. (https://example.org); deprecated: Use b."),
            ),
            (
                "Refusing to evaluate package 'a-1' in a.nix:1 because it has problems:\n- cuda (kind \"broken\"): No such version.",
                "a-1",
                Obstacle::Broken,
                Some("cuda (kind \"broken\"): No such version."),
            ),
            (
                "Package ‘a-1’ in a.nix:1 has the following problems that must be acknowledged: [ \"x\" ], refusing to evaluate.",
                "a-1",
                Obstacle::Problem,
                None,
            ),
        ] {
            let refusal = refusal(said).expect(said);
            assert_eq!((&*refusal.package, refusal.why), (package, why), "{said}");
            if let Some(detail) = detail {
                assert_eq!(refusal.detail.as_deref(), Some(detail), "{said}");
            }
        }
        for other in ["", "infinite recursion encountered", "Package ‘a", "Refusing to evaluate package 'a' in b"] {
            assert_eq!(refusal(other), None, "{other}");
        }
    }

    #[test]
    fn the_message_of_either_nix_is_found() {
        let old = "error: one\n       two\n\n       at /set/a.nix:1:2:";
        assert_eq!(paragraph(&message(old, "/set")), "one two");
        let new = "error:\n       … while calling the 'throw' builtin\n         at /set/a.nix:1:1:\n            1| throw \"x\"\n\n       error: one\n       two";
        assert_eq!(paragraph(&message(new, "/set")), "one two");
        assert_eq!(message("error: getting status of '/set/pkgs/x.patch'", "/set"), "getting status of 'pkgs/x.patch'");
    }
}
