//! Why there is no binary, in words.

use std::time::Duration;

use crate::{
    build::failure::{Failure, Kind},
    flow::request::status::seconds_up,
    id::{
        key::{Attr, Bin, System},
        target::{BadTarget, Wanted},
        time::{Day, Timestamp},
    },
    nixpkgs::pins::{Unserved, Withheld},
    objects::artifact::Refusal,
    quota::limits::Paused,
};

/// Why there is no binary: a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// HTTP's status.
    pub status: u16,
    /// The sentence, without a full stop.
    pub sentence: String,
    /// Seconds after which asking again can help.
    pub retry_after: Option<u64>,
    /// Whether the build's log tells more.
    pub log: bool,
    /// What may have been meant.
    pub near: Vec<Wanted>,
    /// The nixpkgs' catalogue is not made, so that the name was taken for an attribute.
    pub by_attribute: bool,
}

/// What people are told while there is no catalogue. (It may be a while: it takes evaluating all of a nixpkgs.)
pub(crate) const BY_ATTRIBUTE: &str =
    "the catalogue of this nixpkgs is not made yet, and until it is only attributes' names are known";

/// Most names in a sentence.
const NAMES_MAX: usize = 12;

impl Problem {
    fn new(status: u16, sentence: impl Into<String>) -> Problem {
        Problem {
            status,
            sentence: sentence.into(),
            retry_after: None,
            log: false,
            near: Vec::new(),
            by_attribute: false,
        }
    }

    fn with_log(self) -> Problem {
        Problem { log: true, ..self }
    }

    /// The URL is no target.
    pub fn bad_target(why: &BadTarget) -> Problem {
        match why {
            BadTarget::Unknown => Problem::new(404, why.to_string()),
            _ => Problem::new(400, format!("this is no valid request: {why}")),
        }
    }

    /// Another nixpkgs.
    pub fn unserved(why: &Unserved) -> Problem {
        Problem::new(400, why.to_string())
    }

    /// The operator has taken a package down.
    pub fn withheld(attr: &Attr, withheld: &Withheld) -> Problem {
        Problem::new(451, format!("{attr} is not served here any more: {}", withheld.why))
    }

    /// A log's segment that is no number.
    pub fn bad_segment() -> Problem {
        Problem::new(400, "the parameter from is not understood: a segment's number")
    }

    /// A path below `/-/` that is not there.
    pub fn no_such_page() -> Problem {
        Problem::new(404, "there is no such page")
    }

    /// A method that a path does not have.
    pub fn method() -> Problem {
        Problem::new(405, "this path does not take that method")
    }

    /// A request from another site's page.
    pub fn cross_site() -> Problem {
        Problem::new(403, "a build is not started from another site's page")
    }

    /// A backend does not answer.
    pub fn down() -> Problem {
        Problem { retry_after: Some(10), ..Problem::new(503, "the service has a problem; try again in a moment") }
    }

    /// A stored program was found missing or damaged, and is built anew.
    pub fn not_whole() -> Problem {
        Problem { retry_after: Some(60), ..Problem::new(503, "the stored file is damaged; it is being built again") }
    }

    /// Nothing new is built for a system; asking again can help after so many seconds.
    pub fn paused(system: System, paused: Paused, retry_after: u64) -> Problem {
        let sentence = format!("nothing new can be built for {system} now: {}", paused.sentence());
        Problem { retry_after: Some(retry_after), ..Problem::new(503, sentence) }
    }

    /// As much was served today as the operator lets it be.
    pub fn served_out(until: Timestamp, now: Timestamp) -> Problem {
        let sentence = format!(
            "as much was downloaded from here today as the operator allows; programs are served again at {} (UTC)",
            until.day()
        );
        Problem { retry_after: Some(seconds_up(until - now).max(1)), ..Problem::new(503, sentence) }
    }

    /// The client has reached its rate limit.
    pub fn too_many(most: u32, by_key: bool, until: Day, now: Timestamp) -> Problem {
        let builds = if most == 1 { "one new build".to_owned() } else { format!("{most} new builds") };
        let whose = if by_key { "with this API key" } else { "from your address" };
        let sentence = format!(
            "{builds} a day can be started {whose}, and that many were; what is built already is \
             served all the same, and new builds again at {until} (UTC)"
        );
        Problem { retry_after: Some(seconds_up(until.start() - now).max(1)), ..Problem::new(429, sentence) }
    }

    /// An unknown API key.
    pub fn unknown_key() -> Problem {
        Problem::new(401, "this API key is not known here; without one, the allowance of your address counts")
    }

    /// The build failed; `rest` is how long it cools down, where it does.
    pub fn failed(attr: &Attr, failure: &Failure, rest: Option<Duration>) -> Problem {
        let sentence = failure.sentence();
        match (failure.kind, rest) {
            (Kind::NoSuchPackage, _) => Problem::new(404, format!("there is no package {attr}")),
            (_, None) => Problem::new(422, format!("{attr}: {sentence}")).with_log(),
            (_, Some(rest)) => {
                let seconds = seconds_up(rest).max(1);
                let sentence = format!("{attr}: {sentence}; it can be tried again in {seconds} s");
                Problem { retry_after: Some(seconds), ..Problem::new(503, sentence).with_log() }
            }
        }
    }

    /// The catalogue knows that it can not be had: nothing was built.
    pub fn refused(attr: &Attr, failure: &Failure) -> Problem {
        Problem::new(422, format!("{attr}: {}", failure.sentence()))
    }

    /// There is nothing of that name.
    pub fn unknown(wanted: &Wanted, near: Vec<Wanted>) -> Problem {
        let paths = near.iter().map(Wanted::to_string).collect::<Vec<_>>();
        let meant = if paths.is_empty() { String::new() } else { format!("; did you mean {}?", paths.join(", ")) };
        let what = match wanted {
            Wanted::Package(name) => format!("there is no package or program {name}"),
            Wanted::Program(attr, _) => format!("there is no package {attr}"),
        };
        Problem { near, ..Problem::new(404, what + &meant) }
    }

    /// The program is there, and is none that we serve.
    pub fn not_static(attr: &Attr, bin: &Bin, why: Refusal) -> Problem {
        Problem::new(422, format!("{attr}: {}; {bin} {}", Kind::NotStatic.sentence(), why.sentence())).with_log()
    }

    /// The package ships no such program.
    pub fn no_such_program(attr: &Attr, program: &str, programs: &[Bin]) -> Problem {
        Problem::new(404, format!("{attr} has no program {program}; it has {}", names(programs)))
    }

    /// The package declares a main program that it does not ship.
    pub fn main_missing(attr: &Attr, declared: &str, programs: &[Bin]) -> Problem {
        let sentence = format!(
            "{attr}: {}: it should have a program {declared}, and has {}; ask for one as {attr}/NAME",
            Kind::NoProgram.sentence(),
            names(programs)
        );
        Problem::new(422, sentence).with_log()
    }

    /// The package ships no programs.
    pub fn no_programs(attr: &Attr) -> Problem {
        Problem::new(422, format!("{attr}: {}", Kind::NoProgram.sentence())).with_log()
    }

    /// What kind of problem it is, in a word or two, for a page.
    pub fn state(&self) -> &'static str {
        match self.status {
            400 => "not understood",
            401 | 403 | 405 => "not allowed",
            404 => "not found",
            422 if self.log => "failed",
            422 => "not available",
            429 => "too many",
            451 => "taken down",
            _ if self.log => "resting",
            _ => "not now",
        }
    }

    /// The whole sentence, without a full stop.
    pub fn told(&self) -> String {
        let Problem { status, sentence, by_attribute, .. } = self;
        if *status == 404 && *by_attribute { format!("{sentence}; {BY_ATTRIBUTE}") } else { sentence.clone() }
    }
}

fn names(programs: &[Bin]) -> String {
    let mut names: Vec<_> = programs.iter().take(NAMES_MAX).map(Bin::to_string).collect();
    if programs.len() > NAMES_MAX {
        names.push(format!("{} more", programs.len() - NAMES_MAX));
    }
    names.join(", ")
}
