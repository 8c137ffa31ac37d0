//! Checkpoints of a catalogue under a lease: records are stored while others are evaluated, so that another attempt
//! continues where this one is interrupted; and the top level is stored for requests as soon as it is complete.
//!
//! A catalogue is valid without checkpoints, so an endpoint or a store that refuses one only ends them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use binplz_catalogue::{Files, Record, part};
use binplz_core::{
    build::{
        partial::{PART_MAX, PARTS_MAX},
        protocol::{Checkpointed, Resume},
    },
    id::key::Attr,
    objects::artifact::ObjectName,
};

use crate::{
    catalogue::Journal,
    context::{BuildContext, Ending},
    lease::{CallError, CallPriority},
};

/// The checkpoints of an attempt.
pub(crate) struct Checkpoints<'a> {
    context: &'a BuildContext,
    /// All that the records depend on, as a hash.
    basis: String,
    interval: Duration,
    /// The last checkpoint.
    stored: Instant,
    /// Records that are in no part yet. Those of the earlier attempt come first, so that this attempt's first checkpoint
    /// has them.
    pending: Vec<Record>,
    /// Parts that are not stored yet. A part keeps its number and its content, since it may be stored although that
    /// seemed to fail.
    unstored: VecDeque<Vec<u8>>,
    /// The number of stored parts.
    parts: u32,
    /// Whether requests have a catalogue of this commit.
    published: bool,
    /// Whether no more checkpoints are stored.
    over: bool,
}

impl<'a> Checkpoints<'a> {
    /// Reads the checkpoint of an earlier attempt, and returns its records. A part that is missing, damaged or of another
    /// basis is left out: its attributes are evaluated again.
    ///
    /// # Errors
    /// [`Ending::Stopped`].
    pub(crate) fn resume(
        context: &'a BuildContext,
        resume: &Resume,
        basis: String,
        interval: Duration,
    ) -> Result<(Checkpoints<'a>, Vec<Record>), Ending> {
        let mut known = BTreeMap::<Attr, Record>::new();
        for (number, url) in (1..).zip(&resume.parts) {
            let unused = |why: &dyn std::fmt::Display| {
                context.log.say(&format!("part {number} of the checkpoint is not used: {why}"));
            };
            match context.lease.read(url, PART_MAX) {
                Ok(bytes) => match part::read(&bytes) {
                    Ok((of, records)) if of == basis => {
                        known.extend(records.into_iter().map(|record| (record.attr.clone(), record)));
                    }
                    Ok(_) => unused(&"it was evaluated from another Nixpkgs, or with other settings"),
                    Err(damaged) => unused(&damaged),
                },
                Err(CallError::Stopped) => return Err(Ending::Stopped),
                Err(error) => unused(&error),
            }
        }
        if !resume.parts.is_empty() {
            context.log.say(&format!("continues with {} attributes of an earlier attempt", known.len()));
        }
        let known: Vec<Record> = known.into_values().collect();
        let (pending, unstored) = (known.clone(), VecDeque::new());
        let (stored, published) = (Instant::now(), resume.published);
        let checkpoints =
            Checkpoints { context, basis, interval, stored, pending, unstored, parts: 0, published, over: false };
        Ok((checkpoints, known))
    }

    /// Stores what is evaluated when the work ends without a catalogue: the last call before the report.
    pub(crate) fn interrupted(&mut self) {
        if !self.over
            && !self.context.nix.stop().lease_lost()
            && let Err(error) = self.store(CallPriority::Final, None)
        {
            self.context.log.say(&format!("the last checkpoint was not stored: {error}"));
        }
    }

    /// Stores all records so far, and perhaps the catalogue of the top level, and reports them.
    fn store(&mut self, priority: CallPriority, top_level: Option<&Files>) -> Result<(), CallError> {
        self.unstored.extend(part::pack(&self.basis, &self.pending, PART_MAX as usize));
        self.pending.clear();
        while let Some(part) = self.unstored.front() {
            if self.parts == PARTS_MAX {
                return Err(CallError::Refused("a checkpoint has no more parts".to_owned()));
            }
            self.context.lease.store_bytes(priority, ObjectName::Checkpoint(self.parts + 1), part)?;
            self.parts += 1;
            self.unstored.pop_front();
        }
        if let Some(Files { lookup, details }) = top_level {
            self.context.lease.store_bytes(priority, ObjectName::PartialDetails, details)?;
            self.context.lease.store_bytes(priority, ObjectName::PartialLookup, lookup)?;
        }
        if self.parts > 0 {
            let stored = Checkpointed { parts: self.parts, top_level: top_level.is_some() };
            self.context.lease.checkpoint(priority, stored)?;
        }
        self.stored = Instant::now();
        Ok(())
    }

    fn store_or_end(&mut self, top_level: Option<&Files>) -> Result<(), Ending> {
        match self.store(CallPriority::Work, top_level) {
            Ok(()) => {}
            Err(CallError::Stopped) => return Err(Ending::Stopped),
            Err(error) => {
                self.over = true;
                self.context.log.say(&format!("no more checkpoints are stored: {error}"));
            }
        }
        Ok(())
    }
}

impl Journal for Checkpoints<'_> {
    fn evaluated(&mut self, record: &Record) -> Result<(), Ending> {
        if self.over {
            return Ok(());
        }
        self.pending.push(record.clone());
        if self.stored.elapsed() < self.interval { Ok(()) } else { self.store_or_end(None) }
    }

    fn top_level(&mut self, files: &dyn Fn() -> Result<Files, Ending>) -> Result<(), Ending> {
        if self.over || self.published {
            return Ok(());
        }
        self.store_or_end(Some(&files()?))?;
        self.published = !self.over;
        if self.published {
            self.context.log.say("the top level is published");
        }
        Ok(())
    }
}
