//! The catalogue of a whole nixpkgs.
//!
//! The set is evaluated attribute by attribute into records ([`survey`]), whatever some of them do to the processes that evaluate
//! them ([`worker`]). Of those, and of what is known of programs ([`programs`]), the two files are made. A lease's work gives them to
//! the store ([`work`]); `binplz-builder catalogue` writes them where one likes, for whoever wants to see what a set gives ([`verb`]).

mod found;
mod programs;
mod survey;
pub(crate) mod verb;
pub(crate) mod work;
mod worker;

use std::path::PathBuf;

use binplz_catalogue::{Files, Writer};
use binplz_core::{
    build::failure::{Failure, Kind},
    id::key::{Attr, Rev, System},
    objects::artifact::Manifest,
};

use crate::{context::Ending, nix::Nix};
use survey::{Counts, Plan, survey};
use worker::{Limits, Worker};

/// One in so many attributes may take too much time or memory. More of them mean that the limits are wrong, or the machine.
const EXHAUSTING: usize = 10;
/// Which package has which program, as channels have it, in the nixpkgs.
const DATABASE: &str = "programs.sqlite";
/// Sets of packages to enter though they do not ask for it: nixpkgs' aliases of other sets.
const ENTER: [&str; 3] = ["python3Packages", "haskellPackages", "rubyPackages"];

/// What to make a catalogue of, and how.
struct Recipe {
    /// The nixpkgs: a directory with a `default.nix`.
    nixpkgs: String,
    /// Its revision.
    rev: Rev,
    /// The systems to evaluate it for.
    systems: Vec<System>,
    /// Sets of packages to enter though they do not ask for it.
    enter: Vec<Attr>,
    /// How to go about it.
    plan: Plan,
    /// What evaluating may take.
    limits: Limits,
    /// Which package has which program, where there is such a database.
    programs: Option<PathBuf>,
    /// What was built before, each package once.
    built: Vec<(Attr, Manifest)>,
}

/// Makes the files; `tell` hears how that goes, and `count` of every hundredth attribute.
fn make(recipe: &Recipe, nix: &Nix, tell: &dyn Fn(&str), count: &mut dyn FnMut(usize)) -> Result<Files, Ending> {
    let enter: Vec<worker::Path> = recipe.enter.iter().map(|attr| attr.parts().map(str::to_owned).collect()).collect();
    let mut writer = Writer::new(recipe.rev.clone());
    for &system in &recipe.systems {
        let worker = Worker::new(nix, &recipe.nixpkgs, system, &enter, recipe.limits);
        let mut kept = 0;
        let counts = survey(&worker, recipe.plan, &mut |record| {
            kept += 1;
            if kept % 100 == 0 {
                count(kept);
            }
            writer.evaluated(record).map_err(Ending::ours)
        })?;
        check(&counts)?;
        let Counts { attrs, exhausting, unaskable } = counts;
        tell(&format!(
            "{system}: {attrs} attributes, {exhausting} of them took too much time or memory; {unaskable} names that nobody can ask for"
        ));
    }
    if let Some(database) = &recipe.programs {
        let rows = programs::from_database(database, &mut writer).map_err(Ending::ours)?;
        tell(&format!("programs: {rows} rows of {}", database.display()));
    }
    recipe.built.iter().for_each(|(attr, manifest)| writer.built(attr.clone(), manifest));
    writer.finish().map_err(Ending::ours)
}

/// A catalogue refuses what it has lost, so one that lost a good part is worse than none.
fn check(counts: &Counts) -> Result<(), Ending> {
    if counts.attrs == 0 {
        return Err(of_set("the set has no packages"));
    }
    if counts.exhausting > counts.attrs / EXHAUSTING {
        let Counts { attrs, exhausting, .. } = counts;
        return Err(of_set(&format!(
            "{exhausting} of {attrs} attributes took too much time or memory: allow them more of it"
        )));
    }
    Ok(())
}

/// The set is to blame.
fn of_set(why: &str) -> Ending {
    Ending::Failed(Failure::new(Kind::EvaluationError, why))
}
