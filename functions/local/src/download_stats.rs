//! Counts hits in memory and saves the counts periodically, so that a hit waits for no disk. A crash loses at most a
//! minute of counts.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use binplz_core::{
    billing::traffic::{Asked, Traffic},
    id::{key::Product, time::Timestamp},
    ports::{DownloadStats, Unavailable},
};
use serde::{Deserialize, Serialize};

use crate::dir::{DataDir, OpenError, private};

const HOUR: u64 = 3_600_000;
/// How many hours of counts are kept: five weeks.
const KEPT: u64 = 35 * 24;

/// Downloads by hour (hours since 1970) and by package or bundle.
type Hours = BTreeMap<u64, BTreeMap<Product, Count>>;

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Written")]
struct Count(Traffic);

/// A count, as the file stores it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Traffic(Traffic),
    /// Hits alone, as an earlier version wrote them.
    Hits(u64),
}

impl From<Written> for Count {
    fn from(written: Written) -> Count {
        Count(match written {
            Written::Traffic(traffic) => traffic,
            Written::Hits(hits) => Traffic { hits, bytes: 0 },
        })
    }
}

/// The download counts of one machine.
#[derive(Debug)]
pub struct LocalDownloadStats {
    path: PathBuf,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    hours: Hours,
    /// Whether memory holds counts that the file does not.
    more: bool,
}

impl LocalDownloadStats {
    /// Loads the counts of a data directory. An unreadable file counts as empty: nothing depends on it.
    ///
    /// # Errors
    /// [`OpenError`]: the operating system's.
    pub(crate) fn open(dir: &DataDir) -> Result<LocalDownloadStats, OpenError> {
        let path = dir.file("hits.json");
        let hours = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Hours::new(),
            Err(error) => return Err(OpenError::of(&path, error)),
        };
        Ok(LocalDownloadStats { path, counted: Mutex::new(Counted { hours, more: false }) })
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a hit of `bytes` bytes.
    pub(crate) fn count(&self, package: &Product, bytes: u64, now: Timestamp) {
        let mut counted = self.counted();
        counted.more = true;
        let hour = counted.hours.entry(now.0 / HOUR).or_default();
        match hour.get_mut(package) {
            Some(Count(traffic)) => *traffic = *traffic + Traffic::hit(bytes),
            None => drop(hour.insert(package.clone(), Count(Traffic::hit(bytes)))),
        }
    }

    /// Saves the counts atomically, and drops hours that are too old.
    ///
    /// # Errors
    /// The operating system's; the next call saves the same counts.
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

impl DownloadStats for LocalDownloadStats {
    async fn top(&self, since: Timestamp, most: usize) -> Result<Vec<Asked>, Unavailable> {
        let mut sums = BTreeMap::<Product, u64>::new();
        for (package, Count(traffic)) in self.counted().hours.range(since.0 / HOUR..).flat_map(|(_, hour)| hour) {
            *sums.entry(package.clone()).or_default() += traffic.hits;
        }
        Ok(Asked::most(sums, most))
    }

    async fn served(&self, since: Timestamp) -> Result<Traffic, Unavailable> {
        Ok(self.counted().hours.range(since.0 / HOUR..).flat_map(|(_, hour)| hour.values()).map(|count| count.0).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(name: &str) -> Product {
        name.parse().expect("a name")
    }

    fn at(hours: u64) -> Timestamp {
        Timestamp((500_000 + hours) * HOUR)
    }

    #[tokio::test]
    async fn what_was_counted_and_saved_is_there_after_a_restart_for_five_weeks() {
        let data = tempfile::tempdir().expect("a directory");
        let dir = DataDir::open(data.path()).expect("a data directory");
        let download_stats = LocalDownloadStats::open(&dir).expect("no file yet");
        for (name, hour, hits) in [("tree", 0, 2), ("dash", 0, 9), ("tree", 5, 3), ("-bundle.tree", 5, 3)] {
            (0..hits).for_each(|_| download_stats.count(&product(name), 1000, at(hour)));
        }
        download_stats.save(at(5)).expect("a disk");
        let top = async |download_stats: &LocalDownloadStats, since, most| {
            let top = download_stats.top(since, most).await.expect("counts");
            top.iter().map(|asked| (asked.package.to_string(), asked.hits)).collect::<Vec<_>>()
        };
        let download_stats = LocalDownloadStats::open(&dir).expect("a file");
        assert_eq!(download_stats.served(at(0)).await, Ok(Traffic { hits: 17, bytes: 17_000 }));
        assert_eq!(download_stats.served(at(1)).await, Ok(Traffic { hits: 6, bytes: 6_000 }));
        assert_eq!(
            top(&download_stats, at(0), 9).await,
            [("dash".into(), 9), ("tree".into(), 5), ("-bundle.tree".into(), 3)]
        );
        assert_eq!(top(&download_stats, at(0), 1).await, [("dash".into(), 9)]);
        assert_eq!(top(&download_stats, at(1), 9).await, [("tree".into(), 3), ("-bundle.tree".into(), 3)]);
        download_stats.count(&product("tree"), 1000, at(3 + KEPT));
        download_stats.save(at(3 + KEPT)).expect("a disk");
        assert_eq!(top(&download_stats, at(0), 9).await, [("tree".into(), 4), ("-bundle.tree".into(), 3)]);
        // An earlier version counted no bytes.
        fs::write(data.path().join("hits.json"), format!(r#"{{"{}":{{"tree":7}}}}"#, at(5).0 / HOUR)).expect("a file");
        let download_stats = LocalDownloadStats::open(&dir).expect("a start");
        download_stats.count(&product("tree"), 1000, at(5));
        assert_eq!(download_stats.served(at(0)).await, Ok(Traffic { hits: 8, bytes: 1000 }));
        // A damaged file counts as empty.
        fs::write(data.path().join("hits.json"), "{").expect("a file");
        assert_eq!(top(&LocalDownloadStats::open(&dir).expect("a start"), at(0), 9).await, []);
    }
}
