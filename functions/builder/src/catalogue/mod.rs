//! The catalogue of a whole nixpkgs.
//!
//! The set is evaluated attribute by attribute into records ([`mod@survey`]); an attribute that kills its evaluator costs
//! only itself ([`worker`]). From the records and the known programs ([`programs`]) the writer makes two files. Under a
//! lease they are stored ([`work`]); `binplz-builder catalogue` writes them to a directory, to show what a set contains
//! ([`verb`]).

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

/// At most one in so many attributes may run out of time or memory. More of them mean that the limits or the machine
/// are wrong.
const EXHAUSTING: usize = 10;
/// The channel's database of packages and their programs, in the nixpkgs.
const DATABASE: &str = "programs.sqlite";
/// Sets of packages that are entered although nixpkgs does not mark them for recursion: aliases of other sets.
const ENTER: [&str; 3] = ["python3Packages", "haskellPackages", "rubyPackages"];

/// The parameters of a catalogue.
struct Recipe {
    /// The nixpkgs: a directory with a `default.nix`.
    nixpkgs: String,
    /// Its revision.
    rev: Rev,
    /// The systems to evaluate it for.
    systems: Vec<System>,
    /// Sets of packages that are entered although they are not marked for recursion.
    enter: Vec<Attr>,
    /// The size of shards and the number of processes.
    plan: Plan,
    /// The limits of evaluation.
    limits: Limits,
    /// The database of packages and their programs, if there is one.
    programs: Option<PathBuf>,
    /// The manifests of earlier builds, one per package.
    built: Vec<(Attr, Manifest)>,
}

/// Makes the files; `tell` gets progress messages, and `count` every hundredth attribute's number.
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
            "{system}: {attrs} attributes, {exhausting} of them took too much time or memory; {unaskable} names that cannot be requested"
        ));
    }
    if let Some(database) = &recipe.programs {
        let rows = programs::from_database(database, &mut writer).map_err(Ending::ours)?;
        tell(&format!("programs: {rows} rows of {}", database.display()));
    }
    recipe.built.iter().for_each(|(attr, manifest)| writer.built(attr.clone(), manifest));
    writer.finish().map_err(Ending::ours)
}

/// A catalogue answers 404 for attributes that were lost, so one that lost too many is worse than none.
fn check(counts: &Counts) -> Result<(), Ending> {
    if counts.attrs == 0 {
        return Err(of_set("the set has no packages"));
    }
    if counts.exhausting > counts.attrs / EXHAUSTING {
        let Counts { attrs, exhausting, .. } = counts;
        return Err(of_set(&format!(
            "{exhausting} of {attrs} attributes took too much time or memory: raise these limits"
        )));
    }
    Ok(())
}

/// A failure of the set itself.
fn of_set(why: &str) -> Ending {
    Ending::Failed(Failure::new(Kind::EvaluationError, why))
}
