//! A build that waits for dependencies that other builds' tasks build. It has no task, no slot and no money, and is
//! queued again when there is something that it can build.

use serde::{Deserialize, Serialize};

use crate::{
    build::dependency::Standing,
    id::{key::DrvHash, text::clean_line, time::Timestamp},
};

/// The most dependencies of a plan.
pub const PLAN_MAX: usize = 200;
/// The longest name, in characters.
const NAME_MAX: usize = 100;

/// A derivation of a build's plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The derivation.
    pub drv: DrvHash,
    /// Its name: `gcc-14.2`.
    pub name: String,
    /// The derivations of the plan that must be made before, by their numbers, from 0. All come before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<usize>,
}

/// What a waiting build waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Since when.
    pub since: Timestamp,
    /// Its place in the queue: when the attempt was claimed that found nothing to build.
    pub due: Timestamp,
    /// The number of the next attempt, from 1.
    pub attempt: u32,
    /// The number in `plan` of the one that it waited for first.
    #[serde(default)]
    pub first: usize,
    /// What is left to build.
    pub plan: Vec<Planned>,
}

/// Why a waiting build is queued again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work<'a> {
    /// It can build this.
    Build(&'a DrvHash),
    /// All dependencies that it knows of are made.
    Rest,
}

impl Waiting {
    /// What it can do now, given the states of its plan's derivations.
    pub fn work<'a>(&'a self, standing: impl Fn(&DrvHash) -> Standing) -> Option<Work<'a>> {
        let stands: Vec<Standing> = self.plan.iter().map(|planned| standing(&planned.drv)).collect();
        let made = |number: &usize| stands.get(*number).is_none_or(|standing| *standing == Standing::Made);
        let ready = |(planned, standing): &(&Planned, &Standing)| {
            **standing == Standing::Free && planned.needs.iter().all(made)
        };
        match self.plan.iter().zip(&stands).find(ready) {
            Some((planned, _)) => Some(Work::Build(&planned.drv)),
            None if stands.iter().all(|standing| *standing == Standing::Made) => Some(Work::Rest),
            None => None,
        }
    }

    /// The one that it waited for first.
    pub fn awaited(&self) -> Option<&Planned> {
        self.plan.get(self.first)
    }
}

/// A builder's plan, sanitised; `None` if it is too long, or not in order.
pub fn checked(plan: Vec<Planned>) -> Option<Vec<Planned>> {
    let in_order = |(number, planned): (usize, &Planned)| planned.needs.iter().all(|need| *need < number);
    if plan.is_empty() || plan.len() > PLAN_MAX || !plan.iter().enumerate().all(in_order) {
        return None;
    }
    let clean = |planned: Planned| Planned { name: clean_line(&planned.name, NAME_MAX), ..planned };
    Some(plan.into_iter().map(clean).collect())
}
