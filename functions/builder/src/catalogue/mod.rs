//! The catalogue of a whole nixpkgs.
//!
//! Processes that survive the errors of attributes ([`evaluator`], [`workers`]) evaluate the set into records, attribute by attribute
//! ([`mod@survey`]). The writer makes two files from the records and the known programs ([`programs`]). Under a lease, the builder
//! stores these files ([`work`]), with checkpoints on the way ([`checkpoint`]). `binplz-builder catalogue` writes them to a directory
//! instead, to show what a set contains ([`verb`]).

mod checkpoint;
mod evaluator;
mod found;
mod programs;
mod refusal;
mod stopwatch;
mod survey;
pub(crate) mod verb;
pub(crate) mod work;
mod workers;

use std::path::PathBuf;

use binplz_catalogue::{Files, Record, Writer};
use binplz_core::{
    build::failure::{Failure, Kind},
    id::key::{Attr, Rev, System},
    objects::artifact::Manifest,
};

use crate::{context::Ending, nix::Nix, scratch::Scratch};
use evaluator::{Evaluator, Limits};
use survey::{Counts, Surveyed, survey};
use workers::with_workers;

/// At most one attribute in this many may run out of time or memory. If more do, the limits or the machine are wrong.
const EXHAUSTING: usize = 10;
/// Sets of packages to enter although nixpkgs does not mark them for recursion: aliases of other sets.
const ENTER: [&str; 3] = ["python3Packages", "haskellPackages", "rubyPackages"];

/// The parameters of a catalogue.
struct Recipe {
    /// The nixpkgs: a directory with a `default.nix`.
    nixpkgs: String,
    /// Its revision.
    rev: Rev,
    /// The systems to evaluate it for.
    systems: Vec<System>,
    /// Sets of packages to enter although they are not marked for recursion.
    enter: Vec<Attr>,
    /// Concurrent processes.
    jobs: usize,
    /// The most attributes. It ends the evaluation of a set that contains itself.
    most: usize,
    /// The limits of evaluation.
    limits: Limits,
    /// The database of packages and their programs, if there is one.
    programs: Option<PathBuf>,
    /// The manifests of earlier builds, one per package.
    built: Vec<(Attr, Manifest)>,
}

/// Observes the making of a catalogue, and may end it.
trait Journal {
    /// An attribute was evaluated.
    fn evaluated(&mut self, record: &Record) -> Result<(), Ending>;

    /// All attributes of the top level are evaluated; `files` makes their catalogue.
    fn top_level(&mut self, files: &dyn Fn() -> Result<Files, Ending>) -> Result<(), Ending>;
}

/// An observer that keeps nothing.
impl Journal for () {
    fn evaluated(&mut self, _: &Record) -> Result<(), Ending> {
        Ok(())
    }

    fn top_level(&mut self, _: &dyn Fn() -> Result<Files, Ending>) -> Result<(), Ending> {
        Ok(())
    }
}

/// Makes the files. `known` are records that were evaluated before, with the same recipe. `tell` gets progress messages, and
/// `count` the number of every hundredth attribute.
fn make(
    recipe: &Recipe,
    nix: &Nix,
    known: &[Record],
    journal: &mut dyn Journal,
    tell: &dyn Fn(&str),
    count: &mut dyn FnMut(usize),
) -> Result<Files, Ending> {
    let enter: Vec<evaluator::Path> =
        recipe.enter.iter().map(|attr| attr.parts().map(str::to_owned).collect()).collect();
    let scratch = Scratch::new()?;
    let mut writer = Writer::new(recipe.rev.clone());
    if let Some(database) = &recipe.programs {
        let rows = programs::from_database(database, &mut writer).map_err(Ending::ours)?;
        tell(&format!("programs: {rows} rows of {}", database.display()));
    }
    recipe.built.iter().for_each(|(attr, manifest)| writer.built(attr.clone(), manifest));
    for &system in &recipe.systems {
        let (nixpkgs, limits) = (&*recipe.nixpkgs, recipe.limits);
        let evaluator = Evaluator { nix, nixpkgs, system, enter: &enter, limits, scratch: &scratch };
        let mut kept = 0;
        let mut take = |surveyed| {
            let record = match surveyed {
                Surveyed::Record(record) => {
                    journal.evaluated(&record)?;
                    record
                }
                Surveyed::Known(record) => record,
                Surveyed::Level(depth, counts) => {
                    tell(&format!("{system}: level {depth} is evaluated; {kept} attributes so far"));
                    // Several systems are for `binplz-builder catalogue`, which publishes nothing.
                    if depth == 1 && recipe.systems.len() == 1 && check(&counts).is_ok() {
                        journal.top_level(&|| writer.clone().finish().map_err(Ending::ours))?;
                    }
                    return Ok(());
                }
            };
            kept += 1;
            if kept % 100 == 0 {
                count(kept);
            }
            writer.evaluated(record).map_err(Ending::ours)
        };
        let counts = with_workers(&evaluator, recipe.jobs, |workers| survey(workers, recipe.most, known, &mut take))?;
        check(&counts)?;
        let Counts { attrs, exhausting, sets, others, unaskable } = counts;
        tell(&format!(
            "{system}: {attrs} attributes, {exhausting} of them took too much time or memory; {sets} sets, {others} other values, {unaskable} names that cannot be requested"
        ));
    }
    writer.finish().map_err(Ending::ours)
}

/// A catalogue answers 404 for lost attributes, so a catalogue that lost too many is worse than none.
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
