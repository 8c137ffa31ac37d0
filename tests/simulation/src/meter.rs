//! What calls of the ports use of AWS: units of DynamoDB, requests, and the time of functions. A row that is read or written
//! too often throttles its calls, as a partition does.

use std::{collections::BTreeMap, time::Duration};

use binplz_core::{
    id::{key::BuildKey, time::Timestamp},
    row::{Row, RowKey, StatusIndex, Swap},
};

use crate::{rows::index_places, site::Role};

/// Write units that one partition, and so one row, takes in a second ("Best practices for designing and using partition
/// keys", DynamoDB's developer guide).
pub(crate) const PARTITION_WRITES: u64 = 1000;
/// Halves of read units, likewise: an eventually consistent read of 4 KB takes one, and a consistent one two.
pub(crate) const PARTITION_HALF_READS: u64 = 2 * 3000;
/// How long a partition saves what is not used ("Burst and adaptive capacity", the same guide).
const BURST: Duration = Duration::from_secs(300);
/// Bytes of an entry of the index: its keys, and those of its row.
const ENTRY_BYTES: u64 = 250;
/// Bytes of a row's attributes beside its body: names, version, and the index's keys.
const ROW_BYTES: u64 = 200;

/// What was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Runs of a function.
    pub runs: u64,
    /// Their milliseconds together.
    pub milliseconds: u64,
    /// Runs that were ended by their time limit.
    pub timeouts: u64,
    /// Halves of DynamoDB's read units.
    pub half_reads: u64,
    /// DynamoDB's write units, those of the index included.
    pub writes: u64,
    /// Commits.
    pub commits: u64,
    /// Commits that another writer was faster than.
    pub conflicts: u64,
    /// Calls of DynamoDB that were throttled.
    pub throttled: u64,
    /// Reads of objects.
    pub gets: u64,
    /// Writes of objects.
    pub puts: u64,
    /// Messages that were sent.
    pub rings: u64,
    /// Calls of RunTask.
    pub launches: u64,
}

impl Usage {
    /// The sum of both.
    #[must_use]
    pub fn and(self, other: &Usage) -> Usage {
        Usage {
            runs: self.runs + other.runs,
            milliseconds: self.milliseconds + other.milliseconds,
            timeouts: self.timeouts + other.timeouts,
            half_reads: self.half_reads + other.half_reads,
            writes: self.writes + other.writes,
            commits: self.commits + other.commits,
            conflicts: self.conflicts + other.conflicts,
            throttled: self.throttled + other.throttled,
            gets: self.gets + other.gets,
            puts: self.puts + other.puts,
            rings: self.rings + other.rings,
            launches: self.launches + other.launches,
        }
    }
}

/// The capacity of one partition: tokens that are taken, and come back with time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    rate: u64,
    /// Thousandths of a unit.
    left: i64,
    at: Timestamp,
}

impl Bucket {
    fn new(rate: u64, at: Timestamp) -> Bucket {
        Bucket { rate, left: Bucket::most(rate), at }
    }

    fn most(rate: u64) -> i64 {
        (rate * 1000 * BURST.as_secs()) as i64
    }

    fn refill(&mut self, now: Timestamp) {
        let more = (now - self.at).as_millis() as i64 * self.rate as i64;
        (self.left, self.at) = ((self.left + more).min(Bucket::most(self.rate)), now);
    }
}

/// A row or a part of the index that all builds share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The row of the limits.
    Limits,
    /// The row of the pins.
    Pins,
    /// A status in the index.
    Index(StatusIndex),
}

impl Place {
    fn of(key: &RowKey) -> Option<Place> {
        match key {
            RowKey::Limits => Some(Place::Limits),
            RowKey::Pins => Some(Place::Pins),
            _ => None,
        }
    }
}

/// Counts calls, by the functions that make them.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) functions: BTreeMap<&'static str, Usage>,
    /// Halves of read units, and write units, of what is shared.
    pub(crate) places: BTreeMap<Place, (u64, u64)>,
    /// How long each run of a function took.
    pub(crate) took: BTreeMap<&'static str, Vec<Duration>>,
    /// When the first task of each build was started.
    pub(crate) started: BTreeMap<BuildKey, Timestamp>,
    /// How long the tasks together ran, and how many they were.
    pub(crate) ran: (Duration, u64),
    /// The most bytes that the row of the limits had.
    pub(crate) limits_bytes: u64,
    /// The messages in the queue.
    pub(crate) messages: u64,
    bytes: BTreeMap<RowKey, u64>,
    buckets: BTreeMap<(Place, bool), Bucket>,
}

impl Meter {
    /// Forgets what was counted, and keeps what is stored and how full the partitions are.
    pub(crate) fn begin(&mut self) {
        let Meter { bytes, buckets, messages, .. } = std::mem::take(self);
        *self = Meter { bytes, buckets, messages, ..Meter::default() };
    }

    pub(crate) fn of(&mut self, by: &'static str) -> &mut Usage {
        self.functions.entry(by).or_default()
    }

    fn take(&mut self, place: Place, writes: bool, units: u64, now: Timestamp) {
        let used = self.places.entry(place).or_default();
        if writes {
            used.1 += units
        } else {
            used.0 += units
        }
        let rate = if writes { PARTITION_WRITES } else { PARTITION_HALF_READS };
        let bucket = self.buckets.entry((place, writes)).or_insert(Bucket::new(rate, now));
        bucket.refill(now);
        bucket.left -= units as i64 * 1000;
    }

    /// Whether the partition of one of these rows has nothing left.
    pub(crate) fn is_throttled(&mut self, keys: &[RowKey], writes: bool, now: Timestamp) -> bool {
        keys.iter().filter_map(Place::of).any(|place| {
            self.buckets.get_mut(&(place, writes)).is_some_and(|bucket| {
                bucket.refill(now);
                bucket.left <= 0
            })
        })
    }

    /// A function has run.
    pub(crate) fn ran(&mut self, by: &'static str, time: Duration, timed_out: bool) {
        let used = self.of(by);
        used.runs += 1;
        used.milliseconds += time.as_millis() as u64;
        used.timeouts += u64::from(timed_out);
        self.took.entry(by).or_default().push(time);
    }

    /// A call to another service than DynamoDB.
    pub(crate) fn calls(&mut self, by: &'static str, role: Role, write: bool) {
        let used = self.of(by);
        match role {
            Role::Ledger => {}
            Role::Store if write => used.puts += 1,
            Role::Store => used.gets += 1,
            Role::Launcher => used.launches += u64::from(write),
            Role::Bell => {
                used.rings += 1;
                self.messages += 1;
            }
        }
    }

    pub(crate) fn reads(&mut self, by: &'static str, key: &RowKey, consistent: bool, now: Timestamp) {
        let pages = self.bytes.get(key).copied().unwrap_or(0).div_ceil(4096).max(1);
        let units = pages * if consistent { 2 } else { 1 };
        self.of(by).half_reads += units;
        if let Some(place) = Place::of(key) {
            self.take(place, false, units, now);
        }
    }

    pub(crate) fn lists(&mut self, by: &'static str, index: Option<StatusIndex>, entries: usize, now: Timestamp) {
        let units = (entries as u64 * ENTRY_BYTES).div_ceil(4096).max(1);
        self.of(by).half_reads += units;
        if let Some(index) = index {
            self.take(Place::Index(index), false, units, now);
        }
    }

    pub(crate) fn scans(&mut self, by: &'static str, keys: impl Iterator<Item = RowKey>) {
        let bytes: u64 = keys.map(|key| self.bytes.get(&key).copied().unwrap_or(ROW_BYTES)).sum();
        self.of(by).half_reads += 2 * bytes.div_ceil(4096).max(1);
    }

    /// A commit, or one that conflicts: that costs the same, except for the index.
    pub(crate) fn writes(
        &mut self,
        by: &'static str,
        swaps: &[Swap],
        before: &[(RowKey, Option<Row>)],
        committed: bool,
        now: Timestamp,
    ) {
        let each = if swaps.len() > 1 { 2 } else { 1 };
        self.of(by).commits += 1;
        self.of(by).conflicts += u64::from(!committed);
        for (swap, (key, old)) in swaps.iter().zip(before) {
            let bytes =
                swap.row.to_json().map_or(0, |json| json.len()) as u64 + key.to_string().len() as u64 + ROW_BYTES;
            let units = each * bytes.div_ceil(1024);
            self.of(by).writes += units;
            if let Some(place) = Place::of(key) {
                self.take(place, true, units, now);
            }
            if committed {
                self.bytes.insert(key.clone(), bytes);
                if *key == RowKey::Limits {
                    self.limits_bytes = self.limits_bytes.max(bytes);
                }
                for place in index_places(old.as_ref(), Some(&swap.row)) {
                    self.of(by).writes += 1;
                    if let Some(index) = place {
                        self.take(Place::Index(index), true, 1, now);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_partition_never_gives_more_than_its_burst_and_its_rate(calls in prop::collection::vec((0_u64..400, 1_u64..200), 1..400)) {
            let (mut meter, mut now, mut given) = (Meter::default(), Timestamp(1_800_000_000_000), 0);
            let began = now;
            let keys = [RowKey::Limits];
            let mut largest = 0;
            for (pause, thousands) in calls {
                now = now + Duration::from_millis(pause);
                let units = thousands * 1000;
                largest = largest.max(units);
                if !meter.is_throttled(&keys, true, now) {
                    meter.take(Place::Limits, true, units, now);
                    given += units;
                }
                // The last call that is admitted may take more than there is, as DynamoDB counts it afterwards.
                let most = PARTITION_WRITES as f64 * (BURST + (now - began)).as_secs_f64();
                prop_assert!(given as f64 <= most + largest as f64);
            }
            // And it comes back.
            prop_assert!(!meter.is_throttled(&keys, true, now + BURST));
        }

        #[test]
        fn a_read_costs_a_half_unit_for_each_four_kilobytes_and_twice_that_if_it_is_consistent(bytes in 0_u64..400_000) {
            let mut meter = Meter::default();
            meter.bytes.insert(RowKey::Pins, bytes);
            meter.reads("one", &RowKey::Pins, false, Timestamp(0));
            meter.reads("two", &RowKey::Pins, true, Timestamp(0));
            let halves = bytes.div_ceil(4096).max(1);
            prop_assert_eq!((meter.of("one").half_reads, meter.of("two").half_reads), (halves, 2 * halves));
        }
    }
}
