//! What the flows need of the world, by role. `local` and `aws` each fill these roles; one contract suite
//! (`tests/src/contract`) holds them all to what is written here.

use std::{
    future::Future,
    ops::{Add, Range},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    build::{
        Build, Lease,
        derivation::Derivation,
        failed_dependencies::FailedDependencies,
        profile::BuildProfile,
        protocol::{Cache, PresignedUpload, Progress},
    },
    gc::Trash,
    id::{
        key::{Attr, BuildKey, DrvHash, LeaseId, Rev, Sha256, StoreHash, System, Token},
        target::Wanted,
        time::Timestamp,
    },
    nixpkgs::{
        catalogue::{About, Entry, Resolution},
        pins::{Pinned, Pins},
        served::{Served, ServedKey},
    },
    objects::{
        artifact::{AttemptPrefix, CacheName, ObjectName, ObjectPath},
        narinfo::{Content, StoreDir},
    },
    policy::Policy,
    quota::{
        client::{Allowance, Client, Keys},
        limits::{Limits, Why},
    },
    telemetry::{self, Signal},
};

/// A backend did not do what it was asked, or its answer was lost: the outcome is unknown, and trying again is right.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{role}: {cause}")]
pub struct Unavailable {
    /// Which role failed.
    pub role: &'static str,
    /// For the operator's log, never for a client.
    pub cause: String,
}

impl Unavailable {
    /// A failure of `role`, with its cause.
    pub fn new(role: &'static str, cause: impl ToString) -> Unavailable {
        Unavailable { role, cause: cause.to_string() }
    }
}

/// A row's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    /// A build's row.
    Build(BuildKey),
    /// A derivation's row: for which system, and which.
    Derivation(System, DrvHash),
    /// A served row.
    Served(ServedKey),
    /// What a package took when it was built last.
    BuildProfile(System, Attr),
    /// The dependencies that fail for a system.
    FailedDependencies(System),
    /// What a client has had started.
    Allowance(Client),
    /// The API keys. There is one such row.
    Keys,
    /// That nobody needs what lies in a home any more.
    Trash(AttemptPrefix),
    /// The row of slots, money and pauses. There is one.
    Limits,
    /// The pins. There is one such row.
    Pins,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A build.
    Build(Build),
    /// Which attempt has taken a derivation on.
    Derivation(Derivation),
    /// What a path is served.
    Served(Served),
    /// What a package took.
    BuildProfile(BuildProfile),
    /// Dependencies that fail.
    FailedDependencies(FailedDependencies),
    /// What a client has had started.
    Allowance(Allowance),
    /// The API keys.
    Keys(Keys),
    /// A home that nobody needs any more.
    Trash(Trash),
    /// Slots and money.
    Limits(Limits),
    /// What is served, by name.
    Pins(Pins),
}

impl Row {
    /// Its name, which is part of what it says.
    pub fn key(&self) -> RowKey {
        match self {
            Row::Build(build) => RowKey::Build(build.key.clone()),
            Row::Derivation(taken) => RowKey::Derivation(taken.system(), taken.drv.clone()),
            Row::Served(served) => RowKey::Served(served.asked.clone()),
            Row::BuildProfile(past) => RowKey::BuildProfile(past.system, past.attr.clone()),
            Row::FailedDependencies(failed_dependencies) => RowKey::FailedDependencies(failed_dependencies.system),
            Row::Allowance(allowance) => RowKey::Allowance(allowance.client.clone()),
            Row::Keys(_) => RowKey::Keys,
            Row::Trash(trash) => RowKey::Trash(trash.prefix.clone()),
            Row::Limits(_) => RowKey::Limits,
            Row::Pins(_) => RowKey::Pins,
        }
    }
}

/// A row's content, where it is of that kind.
macro_rules! kinds_of_row {
    ($($kind:ident),+) => {
        $(impl TryFrom<Row> for $kind {
            type Error = ();
            fn try_from(row: Row) -> Result<$kind, ()> {
                match row {
                    Row::$kind(content) => Ok(content),
                    _ => Err(()),
                }
            }
        })+
    };
}
kinds_of_row!(Build, Derivation, Served, BuildProfile, FailedDependencies, Allowance, Keys, Limits, Pins);

/// How often a row was written, from 1. 0: there is no row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64);

/// One row's replacement, on the condition that nobody has replaced it since it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// The version that this decision was made on.
    pub seen: Version,
    /// What to write.
    pub row: Row,
}

/// Most swaps in one commit.
pub const SWAPS_MAX: usize = 4;

/// Why nothing was committed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotCommitted {
    /// A row is not at the version that was seen: nothing was written; load again and decide again.
    #[error("somebody else wrote first")]
    Conflict,
    /// Perhaps written, perhaps not.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// May miss the newest commit: cheap, and enough for a hit.
    Eventual,
    /// Sees every commit that was acknowledged before.
    Consistent,
}

/// Where a build stands in line, or among those that are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StatusIndex {
    /// Queued, and somebody waits for it; ordered by when it is due.
    Queued,
    /// Queued, and nobody has asked for it yet; likewise.
    Warming,
    /// Building, ordered by when its lease expires.
    Building,
    /// Left to another build, ordered by since when.
    Joined,
    /// Ready, ordered by when it became so.
    Ready,
    /// Failed, likewise.
    Failed,
}

/// A build on a shelf. The list may be late: whoever acts on it loads the row first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which build.
    pub key: BuildKey,
    /// Due, expiring, left to another, or settled at.
    pub at: Timestamp,
}

impl Build {
    /// On which shelf it belongs, and under which instant; `None` where nobody wants it.
    pub fn status_index(&self) -> Option<(StatusIndex, Timestamp)> {
        use crate::build::State;
        match &self.state {
            State::Queued { due, warming: false, .. } => Some((StatusIndex::Queued, *due)),
            State::Queued { due, warming: true, .. } => Some((StatusIndex::Warming, *due)),
            State::Building(lease) => Some((StatusIndex::Building, lease.expires)),
            State::Joined { since, .. } => Some((StatusIndex::Joined, *since)),
            State::Ready(made) => Some((StatusIndex::Ready, made.since)),
            State::Failed { since, .. } => Some((StatusIndex::Failed, *since)),
            State::Unasked => None,
        }
    }

    /// Whether it is still to come to an end.
    pub fn is_under_way(&self) -> bool {
        matches!(
            self.status_index(),
            Some((StatusIndex::Queued | StatusIndex::Warming | StatusIndex::Building | StatusIndex::Joined, _))
        )
    }
}

/// How far a scan has come, in a ledger's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub String);

/// Some of all rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The rows, each with its version; perhaps none.
    pub rows: Vec<(Row, Version)>,
    /// Where to go on; `None`: those were the last.
    pub next: Option<Cursor>,
}

/// The rows. Knows compare-and-swap, and no rules.
pub trait Ledger: Send + Sync {
    /// The row and its version; `None` is version 0.
    fn load(
        &self,
        key: &RowKey,
        read: Read,
    ) -> impl Future<Output = Result<Option<(Row, Version)>, Unavailable>> + Send;

    /// Writes all of one to [`SWAPS_MAX`] swaps of different rows, each with its version raised by one, or nothing.
    fn commit(&self, swaps: Vec<Swap>) -> impl Future<Output = Result<(), NotCommitted>> + Send;

    /// Up to `limit` builds of a shelf, the earliest first, beginning after `after`. A list for looking, never for deciding.
    fn list(
        &self,
        status_index: StatusIndex,
        after: Option<&Listed>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Listed>, Unavailable>> + Send;

    /// Up to `limit` builds of a shelf, the latest first. A list for looking.
    fn latest(
        &self,
        status_index: StatusIndex,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Listed>, Unavailable>> + Send;

    /// Up to `limit` served rows that are not stale and were found under `pinned`, by what was asked, in the order of its
    /// text, beginning after `after`. A list for looking.
    fn list_served(
        &self,
        pinned: &Pinned,
        after: Option<&ServedKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<ServedKey>, Unavailable>> + Send;

    /// Up to `limit` rows of every kind behind `after`, in an order of the ledger's own. From its first page to its last a scan shows
    /// each row once that is there all that time, as it was at some instant of it.
    ///
    /// A row of a kind that this version does not know is an error: whoever scans wants to know what all rows need.
    fn scan(&self, after: Option<&Cursor>, limit: usize) -> impl Future<Output = Result<Scanned, Unavailable>> + Send;

    /// Removes a row, on the condition that nobody has replaced it since it was seen. One that is gone already is well.
    ///
    /// A row that is made anew begins with version 1 again. So only that may be removed which nobody writes on a sighting from before:
    /// what was let alone for longer than any flow lives ([`crate::gc`]).
    fn remove(&self, key: &RowKey, seen: Version) -> impl Future<Output = Result<(), NotCommitted>> + Send;

    /// Replaces what is known of a lease's progress. Unfenced: it is not state, and can fight nobody.
    fn put_progress(
        &self,
        lease: &LeaseId,
        progress: &Progress,
    ) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// What a lease's builder said last.
    fn progress(&self, lease: &LeaseId) -> impl Future<Output = Result<Option<Progress>, Unavailable>> + Send;

    /// Forgets it. What is not known is forgotten.
    fn remove_progress(&self, lease: &LeaseId) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// The doorbell: wakes the dispatcher, and carries nothing. A lost ring costs time, not a build: a sweep rings in case.
pub trait Bell: Send + Sync {
    /// Rings.
    fn ring(&self) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// What a launcher says of a task that it did not start.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotLaunched {
    /// It will not come to be.
    #[error("{0}")]
    Refused(String),
    /// It may or may not.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Starts builders.
pub trait Launcher: Send + Sync {
    /// Starts the builder of a lease and returns what the launcher calls it. The same lease again starts no second one.
    fn launch(&self, key: &BuildKey, lease: &Lease) -> impl Future<Output = Result<String, NotLaunched>> + Send;

    /// Stops the builder of a lease, soon and without waiting for it. One that is gone already is fine. `task`: what the launcher
    /// called it, where that was written down.
    fn stop(&self, lease: &LeaseId, task: Option<&str>) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Whose builders run now, as far as it knows.
    fn running(&self) -> impl Future<Output = Result<Vec<LeaseId>, Unavailable>> + Send;

    /// What keeps it from starting any builder for a system; `None`: nothing that it knows of.
    fn obstacle(&self, system: System) -> impl Future<Output = Result<Option<Why>, Unavailable>> + Send {
        // Where builders are this machine's own processes, whoever serves has looked before.
        let _ = system;
        async { Ok(None) }
    }
}

/// The objects, for whoever hands them out.
pub trait Store: Send + Sync {
    /// A URL that answers GET and HEAD, Range and conditional requests with the object, for a while.
    fn url(&self, path: &ObjectPath, method: Method) -> impl Future<Output = Result<Location, Unavailable>> + Send;

    /// A small object's content; `None`: it is not there.
    fn read(&self, path: &ObjectPath) -> impl Future<Output = Result<Option<Vec<u8>>, Unavailable>> + Send;

    /// A range of an object's bytes, one at least; `None`: it is not there, or is shorter.
    fn part(
        &self,
        path: &ObjectPath,
        range: Range<u64>,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, Unavailable>> + Send;
}

/// The objects, for whoever takes them in from builders: written once, whole or not at all.
pub trait Intake: Store {
    /// Permission to write one object, of exactly this size and content, for a short time.
    fn grant(
        &self,
        path: &ObjectPath,
        size: u64,
        sha256: &Sha256,
    ) -> impl Future<Output = Result<PresignedUpload, Unavailable>> + Send;

    /// A URL of the tarball of a nixpkgs that an operator has put into the store, for a while. A store that keeps none needs not say more.
    fn nixpkgs(&self, rev: &Rev) -> impl Future<Output = Result<String, Unavailable>> + Send {
        let error = Unavailable::new("store", format!("it keeps no nixpkgs, and the pin of {rev} wants one"));
        async { Err(error) }
    }

    /// An object's size in bytes; `None`: it is not there.
    fn size(&self, path: &ObjectPath) -> impl Future<Output = Result<Option<u64>, Unavailable>> + Send;

    /// Writes a small object.
    fn write(&self, path: &ObjectPath, content: Vec<u8>) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Removes the segments of an attempt's log, as many as there are: nothing else is ever removed here. Where it fails, some may be gone.
    fn remove_segments(&self, prefix: &AttemptPrefix) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// The Nix cache that builders share, as they are sent there; `None`: there is none, and nobody need say more.
    fn cache(&self) -> impl Future<Output = Result<Option<Cache>, Unavailable>> + Send {
        async { Ok(None) }
    }

    /// How many bytes an attempt has offered to that cache by now.
    fn offered_bytes(&self, prefix: &AttemptPrefix) -> impl Future<Output = Result<u64, Unavailable>> + Send;

    /// An attempt is over that has offered something to that cache: whoever promotes should look. A word that is lost costs the cache a
    /// path, and nobody a build.
    fn offered(&self, prefix: &AttemptPrefix) -> impl Future<Output = Result<(), Unavailable>> + Send {
        let _ = prefix;
        async { Ok(()) }
    }
}

/// The quarantine, and the shared Nix cache behind it, for the one step that may write the latter ([`crate::flow::schedule::promote`]). All
/// that is written stays as it is: a second write under a name is passed over.
pub trait BinaryCache: Send + Sync {
    /// Where the store lies whose paths these are.
    fn store_dir(&self) -> &StoreDir;

    /// A small offer's content; `None`: it is not there.
    fn read(
        &self,
        prefix: &AttemptPrefix,
        offer: ObjectName,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, Unavailable>> + Send;

    /// The store paths that an attempt has offered, by its narinfos.
    fn offers(&self, prefix: &AttemptPrefix) -> impl Future<Output = Result<Vec<StoreHash>, Unavailable>> + Send;

    /// What an offered file is, and what it unpacks to, of which no more than `most` bytes are looked at; `None`: it is not there.
    fn measure(
        &self,
        prefix: &AttemptPrefix,
        nar: &Sha256,
        most: u64,
    ) -> impl Future<Output = Result<Option<Measured>, Unavailable>> + Send;

    /// Whether the cache has a store path.
    fn has(&self, path: &StoreHash) -> impl Future<Output = Result<bool, Unavailable>> + Send;

    /// Puts an offered file into the cache.
    fn keep(&self, prefix: &AttemptPrefix, nar: &Sha256) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Puts a narinfo into the cache, whose file is there by now.
    fn publish(&self, path: &StoreHash, narinfo: String) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// The cache's signature of a text, as it stands in a narinfo.
    fn sign(&self, text: &str) -> String;

    /// Removes all that an attempt has offered. Where it fails, some may be gone.
    fn clear(&self, prefix: &AttemptPrefix) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// What a packed file turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The file.
    pub packed: Content,
    /// What it unpacks to; `None`: to nothing, or to more than was looked at.
    pub unpacked: Option<Content>,
}

/// A home, and what lies in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub prefix: AttemptPrefix,
    /// How many objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A nixpkgs that is kept for builders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptNixpkgs {
    /// Of which revision.
    pub rev: Rev,
    /// When it was put there last.
    pub since: Timestamp,
}

/// A file of the shared Nix cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Which.
    pub name: CacheName,
    /// Its size.
    pub bytes: u64,
    /// When it was put there last.
    pub since: Timestamp,
}

/// The objects, for whoever clears away what nobody needs any more: nobody else can.
pub trait Collect: Send + Sync {
    /// Up to `limit` homes that hold something, in an order of the store's own, beginning behind `after`.
    fn prefixes(
        &self,
        after: Option<&AttemptPrefix>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Held>, Unavailable>> + Send;

    /// Removes all that lies in a home. Where it fails, some may be gone.
    fn remove_prefix(&self, prefix: &AttemptPrefix) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Every nixpkgs that an operator has put where builders find it.
    fn kept_nixpkgs(&self) -> impl Future<Output = Result<Vec<KeptNixpkgs>, Unavailable>> + Send;

    /// Removes one. One that is gone already is well.
    fn remove_nixpkgs(&self, rev: &Rev) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Every file of the shared Nix cache.
    fn cached(&self) -> impl Future<Output = Result<Vec<Cached>, Unavailable>> + Send;

    /// Removes one. One that is gone already is well.
    fn remove_cached(&self, name: &CacheName) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// How many bytes have been offered to it that nobody has looked at yet.
    fn in_quarantine(&self) -> impl Future<Output = Result<u64, Unavailable>> + Send;
}

/// A URL of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// The store's own, good for a while: whoever gets it follows it now.
    Store(String),
    /// That of a CDN in front of the store, good for as long as the object is there: a redirect to it may be kept.
    Cdn(String),
}

impl Location {
    /// The URL.
    pub fn url(&self) -> &str {
        match self {
            Location::Store(url) | Location::Cdn(url) => url,
        }
    }
}

/// What is known of the names of one nixpkgs. It was read before: it answers without I/O, in microseconds.
pub trait Catalogue: Send + Sync {
    /// What a path means on a system.
    fn resolve(&self, wanted: &Wanted, system: System) -> Resolution;

    /// Up to `most` packages that have to do with a text, the best first: by what they, or their programs, are called.
    fn search(&self, text: &str, system: System, most: usize) -> Vec<Entry>;

    /// What is known of a package on a system; `None`: there is no such attribute.
    fn entry(&self, attr: &Attr, system: System) -> Option<Entry>;

    /// What a package says of itself, from its block of the details file; `None`: it is not in there.
    fn about(&self, block: &[u8], attr: &Attr) -> Option<About>;
}

impl<C: Catalogue> Catalogue for Arc<C> {
    fn resolve(&self, wanted: &Wanted, system: System) -> Resolution {
        self.as_ref().resolve(wanted, system)
    }
    fn search(&self, text: &str, system: System, most: usize) -> Vec<Entry> {
        self.as_ref().search(text, system, most)
    }
    fn entry(&self, attr: &Attr, system: System) -> Option<Entry> {
        self.as_ref().entry(attr, system)
    }
    fn about(&self, block: &[u8], attr: &Attr) -> Option<About> {
        self.as_ref().about(block, attr)
    }
}

/// What a redirect is followed with: a presigned URL is for one method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
}

/// Where those are who wait for a build: apart from hits, and no more of them than there are seats.
pub trait WaitLimiter: Send + Sync {
    /// One of them.
    type Watch: Watch;

    /// Whether one more may come in.
    fn admits(&self) -> impl Future<Output = Result<bool, Unavailable>> + Send;

    /// One who has been held until now goes on waiting, and keeps its seat.
    fn keeps(&self) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Begins to watch a build, for `patience` at most. `None`: no seat is free.
    fn watch(&self, key: &BuildKey, patience: Duration) -> Option<Self::Watch>;
}

/// Tells one who waits for a build that there may be something to see.
pub trait Watch: Send {
    /// Returns when the build's row may have been settled since the watch began, or since the last return: true. Too often is fine,
    /// for whoever waits looks again; false where the time is over.
    fn changed(&mut self) -> impl Future<Output = bool> + Send;
}

/// How often a package was served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The package.
    pub package: Attr,
    /// Hits.
    pub hits: u64,
}

impl Asked {
    /// Of counts, those with the most hits; of as many, those first that are first in the alphabet.
    pub fn most(counts: impl IntoIterator<Item = (Attr, u64)>, most: usize) -> Vec<Asked> {
        let mut all: Vec<_> = counts.into_iter().map(|(package, hits)| Asked { package, hits }).collect();
        all.sort_by(|a, b| b.hits.cmp(&a.hits).then_with(|| a.package.cmp(&b.package)));
        all.truncate(most);
        all
    }
}

/// What was served, by a deployment or of a package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Hits.
    pub hits: u64,
    /// Bytes of the programs that they led to. Whether all of them were fetched, nobody knows.
    pub bytes: u64,
}

impl Traffic {
    /// A hit that led to so many bytes.
    pub fn hit(bytes: u64) -> Traffic {
        Traffic { hits: 1, bytes }
    }
}

impl Add for Traffic {
    type Output = Traffic;
    fn add(self, rhs: Traffic) -> Traffic {
        Traffic { hits: self.hits + rhs.hits, bytes: self.bytes.saturating_add(rhs.bytes) }
    }
}

impl std::iter::Sum for Traffic {
    fn sum<I: Iterator<Item = Traffic>>(iter: I) -> Traffic {
        iter.fold(Traffic::default(), Add::add)
    }
}

/// Counts hits, and writes nothing while somebody waits for one.
pub trait DownloadStats: Send + Sync {
    /// The packages that were served most since an instant, up to `most` of them. The last minutes may be missing.
    fn top(&self, since: Timestamp, most: usize) -> impl Future<Output = Result<Vec<Asked>, Unavailable>> + Send;

    /// All that was served since an instant, as far back as it is remembered. The last minutes may be missing.
    fn served(&self, since: Timestamp) -> impl Future<Output = Result<Traffic, Unavailable>> + Send;
}

/// A deployment: its numbers, its clock, and who fills the roles.
pub trait Deployment: Send + Sync + 'static {
    /// The rows.
    type Ledger: Ledger;
    /// The doorbell.
    type Bell: Bell;
    /// The builders.
    type Launcher: Launcher;
    /// The objects.
    type Store: Store;
    /// A catalogue that was read.
    type Catalogue: Catalogue;
    /// Those who wait.
    type WaitLimiter: WaitLimiter;
    /// What was served.
    type DownloadStats: DownloadStats;

    /// The rows.
    fn ledger(&self) -> &Self::Ledger;
    /// The doorbell.
    fn bell(&self) -> &Self::Bell;
    /// The builders.
    fn launcher(&self) -> &Self::Launcher;
    /// The objects.
    fn store(&self) -> &Self::Store;
    /// The catalogue of a lookup file, read once and then kept for a while; `None`: there is none, or none that this version reads.
    fn catalogue(
        &self,
        lookup: &ObjectPath,
    ) -> impl Future<Output = Result<Option<Self::Catalogue>, Unavailable>> + Send;
    /// Those who wait.
    fn wait_limiter(&self) -> &Self::WaitLimiter;
    /// What was served.
    fn download_stats(&self) -> &Self::DownloadStats;
    /// The numbers.
    fn policy(&self) -> &Policy;
    /// The pins that it begins with: of no meaning once the ledger has a row of them ([`crate::flow::operator::pins`]).
    fn first_pins(&self) -> &Pins;
    /// The system that is meant where a request names none.
    fn system(&self) -> System;
    /// `https://host`, without a slash at its end: from configuration, never from a client's header.
    fn origin(&self) -> &str;
    /// The current instant.
    fn now(&self) -> Timestamp;
    /// A new lease's name and secret, from a cryptographic random source.
    fn new_lease(&self) -> (LeaseId, Token);
    /// Hears what happened: for the operator's log and metrics.
    fn emit(&self, about: telemetry::About<'_>, telemetry: Signal<'_>);

    /// Hears of something that was passed over, or will be tried again.
    fn warn(&self, about: telemetry::About<'_>, what: &str, error: &dyn std::fmt::Display) {
        self.emit(about, Signal::Trouble { what, error });
    }
}
