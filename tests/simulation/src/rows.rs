//! The rows in memory, with the indexes of a ledger. Each operation is one instant.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use binplz_core::{
    build::protocol::Progress,
    id::{
        key::{BuildKey, LeaseId},
        time::Timestamp,
    },
    nixpkgs::{pins::Pinned, served::ServedKey},
    ports::{Cursor, NotCommitted, Scanned, Unavailable},
    row::{Listed, Row, RowKey, SWAPS_MAX, StatusIndex, Swap, Version},
};

/// Where an index has a row.
#[derive(Clone, PartialEq, Eq)]
enum Place {
    Status(StatusIndex, Timestamp, BuildKey),
    Served(Pinned, String, ServedKey),
}

/// The rows.
#[derive(Default)]
pub(crate) struct Rows {
    rows: BTreeMap<RowKey, (Row, Version)>,
    /// Each row as it was before its last write, and when that was.
    before: BTreeMap<RowKey, (Timestamp, Option<(Row, Version)>)>,
    progress: BTreeMap<LeaseId, Progress>,
    status: BTreeMap<StatusIndex, BTreeSet<(Timestamp, BuildKey)>>,
    served: BTreeMap<(Pinned, String), ServedKey>,
    /// Changes that the indexes do not have yet, and from when on they have them.
    late: VecDeque<(Timestamp, Option<Place>, Option<Place>)>,
    /// Commits check the versions of the first row only: a fault on purpose.
    pub(crate) forgets_other_versions: bool,
    /// Only the first swap of a commit is written: a fault on purpose.
    pub(crate) tears: bool,
}

fn place(row: &Row) -> Option<Place> {
    match row {
        Row::Build(build) => build.status_index().map(|(index, at)| Place::Status(index, at, build.key.clone())),
        Row::Served(served) if served.is_listed() => {
            Some(Place::Served(served.pinned(), served.asked.to_string(), served.asked.clone()))
        }
        _ => None,
    }
}

/// The places of the index that a write changes; `None`: one of served rows.
pub(crate) fn index_places(old: Option<&Row>, new: Option<&Row>) -> Vec<Option<StatusIndex>> {
    let (from, to) = (old.and_then(place), new.and_then(place));
    let changed = if from == to { Vec::new() } else { [from, to].into_iter().flatten().collect() };
    let index = |place| if let Place::Status(index, ..) = place { Some(index) } else { None };
    changed.into_iter().map(index).collect()
}

impl Rows {
    /// A row and its version.
    pub(crate) fn get(&self, key: &RowKey) -> Option<&(Row, Version)> {
        self.rows.get(key)
    }

    /// The row as a read shows it that misses the last write, if that was made after `since`.
    pub(crate) fn earlier(&self, key: &RowKey, since: Timestamp) -> Option<(Row, Version)> {
        match self.before.get(key) {
            Some((at, before)) if *at >= since => before.clone(),
            _ => self.rows.get(key).cloned(),
        }
    }

    fn version(&self, key: &RowKey) -> Version {
        self.rows.get(key).map_or(Version(0), |(_, version)| *version)
    }

    fn write(&mut self, key: RowKey, row: Option<(Row, Version)>, now: Timestamp, seen_at: Timestamp) {
        let old = match &row {
            Some((next, version)) => self.rows.insert(key.clone(), (next.clone(), *version)),
            None => self.rows.remove(&key),
        };
        let (from, to) = (old.as_ref().and_then(|(row, _)| place(row)), row.as_ref().and_then(|(row, _)| place(row)));
        if from != to {
            // No index has a later change before an earlier one.
            let seen_at = self.late.back().map_or(seen_at, |(last, ..)| seen_at.max(*last));
            self.late.push_back((seen_at, from, to));
        }
        self.before.insert(key, (now, old));
    }

    /// Writes all swaps or none. Indexes show them from `seen_at` on. Returns each row as it was.
    ///
    /// # Errors
    /// [`NotCommitted`].
    pub(crate) fn commit(&mut self, swaps: &[Swap], now: Timestamp, seen_at: Timestamp) -> Result<(), NotCommitted> {
        let keys: BTreeSet<_> = swaps.iter().map(|swap| swap.row.key()).collect();
        if keys.len() != swaps.len() || !(1..=SWAPS_MAX).contains(&swaps.len()) {
            return Err(Unavailable::new("ledger", "one to four swaps of different rows").into());
        }
        let checked = if self.forgets_other_versions { &swaps[..1] } else { swaps };
        if checked.iter().any(|swap| self.version(&swap.row.key()) != swap.seen) {
            return Err(NotCommitted::Conflict);
        }
        for swap in swaps.iter().take(if self.tears { 1 } else { SWAPS_MAX }) {
            let key = swap.row.key();
            let version = Version(self.version(&key).0 + 1);
            self.write(key, Some((swap.row.clone(), version)), now, seen_at);
        }
        Ok(())
    }

    /// Removes a row in the version that was seen.
    ///
    /// # Errors
    /// [`NotCommitted::Conflict`].
    pub(crate) fn remove(
        &mut self,
        key: &RowKey,
        seen: Version,
        now: Timestamp,
        seen_at: Timestamp,
    ) -> Result<(), NotCommitted> {
        match self.version(key) {
            Version(0) => {}
            version if version == seen => self.write(key.clone(), None, now, seen_at),
            _ => return Err(NotCommitted::Conflict),
        }
        Ok(())
    }

    /// Brings the indexes up to an instant.
    pub(crate) fn catch_up(&mut self, now: Timestamp) {
        while self.late.front().is_some_and(|(seen_at, ..)| *seen_at <= now) {
            let Some((_, from, to)) = self.late.pop_front() else { return };
            match from {
                Some(Place::Status(index, at, key)) => drop(self.status.entry(index).or_default().remove(&(at, key))),
                Some(Place::Served(pinned, text, _)) => drop(self.served.remove(&(pinned, text))),
                None => {}
            }
            match to {
                Some(Place::Status(index, at, key)) => drop(self.status.entry(index).or_default().insert((at, key))),
                Some(Place::Served(pinned, text, asked)) => drop(self.served.insert((pinned, text), asked)),
                None => {}
            }
        }
    }

    /// As [`binplz_core::ports::Ledger::list`].
    pub(crate) fn list(&self, index: StatusIndex, after: Option<&Listed>, limit: usize) -> Vec<Listed> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, |after| Excluded((after.at, after.key.clone())));
        let of_it = self.status.get(&index).into_iter().flat_map(|of| of.range((from.clone(), Unbounded)));
        of_it.take(limit).map(|(at, key)| Listed { key: key.clone(), at: *at }).collect()
    }

    /// As [`binplz_core::ports::Ledger::latest`].
    pub(crate) fn latest(&self, index: StatusIndex, limit: usize) -> Vec<Listed> {
        let of_it = self.status.get(&index).into_iter().flat_map(|of| of.iter().rev());
        of_it.take(limit).map(|(at, key)| Listed { key: key.clone(), at: *at }).collect()
    }

    /// As [`binplz_core::ports::Ledger::list_served`].
    pub(crate) fn list_served(&self, pinned: &Pinned, after: Option<&ServedKey>, limit: usize) -> Vec<ServedKey> {
        let from = (pinned.clone(), after.map(ToString::to_string).unwrap_or_default());
        let behind = self.served.range(from.clone()..).take_while(|((of, _), _)| of == pinned);
        behind.filter(|(place, _)| **place != from).take(limit).map(|(_, asked)| asked.clone()).collect()
    }

    /// As [`binplz_core::ports::Ledger::scan`].
    ///
    /// # Errors
    /// [`Unavailable`], if the cursor is none.
    pub(crate) fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Scanned, Unavailable> {
        use std::ops::Bound;
        let from = match after {
            None => Bound::Unbounded,
            Some(Cursor(key)) => {
                Bound::Excluded(key.parse::<RowKey>().map_err(|_| Unavailable::new("ledger", "no cursor"))?)
            }
        };
        let page: Vec<_> = self.rows.range((from, Bound::Unbounded)).take(limit).collect();
        let last = page.last().map(|(key, _)| Cursor(key.to_string()));
        let next = last.filter(|_| page.len() == limit);
        Ok(Scanned { rows: page.into_iter().map(|(_, row)| row.clone()).collect(), next })
    }

    /// Replaces a lease's progress; `None` removes it.
    pub(crate) fn put_progress(&mut self, lease: &LeaseId, progress: Option<Progress>) {
        match progress {
            Some(progress) => drop(self.progress.insert(lease.clone(), progress)),
            None => drop(self.progress.remove(lease)),
        }
    }

    /// A lease's progress.
    pub(crate) fn progress(&self, lease: &LeaseId) -> Option<Progress> {
        self.progress.get(lease).cloned()
    }
}
