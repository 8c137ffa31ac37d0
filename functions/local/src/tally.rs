//! Hits, counted in memory and written down now and then: a hit waits for no disk. What a crash loses is a minute of counts.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use binplz_core::{
    key::Attr,
    ports::{Asked, Tally, Unavailable},
    time::Timestamp,
};

use crate::dir::{DataDir, OpenError, private};

const HOUR: u64 = 3_600_000;
/// Hours that are remembered: five weeks.
const KEPT: u64 = 35 * 24;

/// Hits by the hour, in hours since 1970, and by package.
type Hours = BTreeMap<u64, BTreeMap<Attr, u64>>;

/// The hits of one machine.
#[derive(Debug)]
pub struct LocalTally {
    path: PathBuf,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    hours: Hours,
    /// Whether there is more than the file says.
    more: bool,
}

impl LocalTally {
    /// What was counted in a data directory so far. A file that is unreadable counts for none: nothing depends on it.
    ///
    /// # Errors
    /// [`OpenError`]: the operating system's.
    pub(crate) fn open(dir: &DataDir) -> Result<LocalTally, OpenError> {
        let path = dir.file("hits.json");
        let hours = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Hours::new(),
            Err(error) => return Err(OpenError::of(&path, error)),
        };
        Ok(LocalTally { path, counted: Mutex::new(Counted { hours, more: false }) })
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a hit.
    pub(crate) fn count(&self, package: &Attr, now: Timestamp) {
        let mut counted = self.counted();
        counted.more = true;
        let hour = counted.hours.entry(now.0 / HOUR).or_default();
        match hour.get_mut(package) {
            Some(hits) => *hits += 1,
            None => drop(hour.insert(package.clone(), 1)),
        }
    }

    /// Writes down what was counted since the last time, whole or not at all, and lets go of what is long ago.
    ///
    /// # Errors
    /// The operating system's; then it is written down the next time.
    pub fn save(&self, now: Timestamp) -> io::Result<()> {
        let text = {
            let mut counted = self.counted();
            if !std::mem::take(&mut counted.more) {
                return Ok(());
            }
            counted.hours = counted.hours.split_off(&(now.0 / HOUR).saturating_sub(KEPT));
            serde_json::to_vec(&counted.hours)?
        };
        let draft = self.path.with_extension("new");
        let written = private().create(true).truncate(true).open(&draft).and_then(|mut file| file.write_all(&text));
        let written = written.and_then(|()| fs::rename(&draft, &self.path));
        if written.is_err() {
            self.counted().more = true;
        }
        written
    }
}

impl Tally for LocalTally {
    async fn top(&self, since: Timestamp, most: usize) -> Result<Vec<Asked>, Unavailable> {
        let mut sums = BTreeMap::<Attr, u64>::new();
        for (package, hits) in self.counted().hours.range(since.0 / HOUR..).flat_map(|(_, hour)| hour) {
            *sums.entry(package.clone()).or_default() += hits;
        }
        Ok(Asked::most(sums, most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(name: &str) -> Attr {
        name.parse().expect("a name")
    }

    fn at(hours: u64) -> Timestamp {
        Timestamp((500_000 + hours) * HOUR)
    }

    #[tokio::test]
    async fn what_was_counted_and_saved_is_there_after_a_restart_for_five_weeks() {
        let data = tempfile::tempdir().expect("a directory");
        let dir = DataDir::open(data.path()).expect("a data directory");
        let tally = LocalTally::open(&dir).expect("no file yet");
        for (name, hour, hits) in [("tree", 0, 2), ("dash", 0, 9), ("tree", 5, 3), ("ed", 5, 3)] {
            (0..hits).for_each(|_| tally.count(&attr(name), at(hour)));
        }
        tally.save(at(5)).expect("a disk");
        let top = async |tally: &LocalTally, since, most| {
            let top = tally.top(since, most).await.expect("counts");
            top.iter().map(|asked| (asked.package.to_string(), asked.hits)).collect::<Vec<_>>()
        };
        let tally = LocalTally::open(&dir).expect("a file");
        assert_eq!(top(&tally, at(0), 9).await, [("dash".into(), 9), ("tree".into(), 5), ("ed".into(), 3)]);
        assert_eq!(top(&tally, at(0), 1).await, [("dash".into(), 9)]);
        assert_eq!(top(&tally, at(1), 9).await, [("ed".into(), 3), ("tree".into(), 3)]);
        tally.count(&attr("tree"), at(3 + KEPT));
        tally.save(at(3 + KEPT)).expect("a disk");
        assert_eq!(top(&tally, at(0), 9).await, [("tree".into(), 4), ("ed".into(), 3)]);
        // A file that somebody has spoilt is none.
        fs::write(data.path().join("hits.json"), "{").expect("a file");
        assert_eq!(top(&LocalTally::open(&dir).expect("a start"), at(0), 9).await, []);
    }
}
