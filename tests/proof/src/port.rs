//! A deployment whose ports only ask: each call stays open until the checker answers it.

use std::{
    future::Future,
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use binplz_core::{
    billing::traffic::{Asked, Traffic},
    build::{
        Lease,
        policy::Policy,
        protocol::{Cache, PresignedUpload, Progress},
    },
    id::{
        key::{Attr, Bin, BuildKey, LeaseId, Rev, Sha256, StoreHash, System, Token},
        target::Wanted,
        time::Timestamp,
    },
    nixpkgs::{
        catalogue::{About, Census, Entry, Resolution},
        pins::{Pinned, Pins},
        served::ServedKey,
    },
    objects::{
        artifact::{AttemptPrefix, CacheName, ObjectName, ObjectPath},
        content::Content,
        narinfo::StoreDir,
        stored::{
            Cached, Fingerprint, Held, HeldBlob, Integrity, KeptNixpkgs, KeptPrograms, Location, Measured, Method,
        },
    },
    ports::{
        Bell, BinaryCache, Catalogue, Collect, Cursor, Deployment, DownloadStats, HasBell, HasCatalogues,
        HasDownloadStats, HasLauncher, HasLedger, HasStore, Inspect, Intake, Launcher, Ledger, NotCommitted,
        NotLaunched, Read, Scanned, Store, Unavailable, Unreadable,
    },
    row::{Listed, Row, RowKey, StatusIndex, Swap, Version},
    telemetry::{self, Signal},
    trust::head::LogName,
};

use crate::{
    actor::unpacked,
    call::{Call, Part, Reply},
    names::Shared,
    scenario::Setup,
};

/// An open call, or its reply.
#[derive(Debug)]
struct Slot {
    call: Call,
    reply: Option<Reply>,
    waker: Option<Waker>,
    /// Answered, or its flow does not wait for it any more.
    over: bool,
}

/// What a process has asked so far.
#[derive(Debug, Default)]
struct Desk {
    slots: Vec<Slot>,
    now: Timestamp,
    read_clock: bool,
    leases: u32,
}

/// The deployment of one process.
#[derive(Debug)]
pub(crate) struct Port {
    desk: Mutex<Desk>,
    names: Shared,
    setup: Arc<Setup>,
    /// The number of its process, for the names of its leases.
    number: u32,
}

impl Port {
    pub(crate) fn new(names: Shared, setup: Arc<Setup>, number: u32) -> Port {
        Port { desk: Mutex::default(), names, setup, number }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("a lock")
    }

    /// The clock of the next poll.
    pub(crate) fn set_clock(&self, now: Timestamp) {
        let mut desk = self.desk();
        (desk.now, desk.read_clock) = (now, false);
    }

    /// Whether the clock was read in the last poll.
    pub(crate) fn has_read_clock(&self) -> bool {
        self.desk().read_clock
    }

    /// The open calls, each with its place.
    pub(crate) fn open(&self) -> Vec<(u32, Call)> {
        let desk = self.desk();
        let open = desk.slots.iter().enumerate().filter(|(_, slot)| !slot.over);
        open.map(|(at, slot)| (u32::try_from(at).expect("few calls"), slot.call.clone())).collect()
    }

    /// Answers an open call.
    pub(crate) fn answer(&self, place: u32, reply: Reply) {
        let mut desk = self.desk();
        let slot = &mut desk.slots[place as usize];
        (slot.reply, slot.over) = (Some(reply), true);
        if let Some(waker) = slot.waker.take() {
            drop(desk);
            waker.wake();
        }
    }

    /// Asks.
    pub(crate) fn ask(&self, call: Call) -> Asking<'_> {
        Asking { port: self, call: Some(call), place: None }
    }

    /// What all processes know.
    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    fn object(&self, path: &ObjectPath) -> u32 {
        self.names.get().object(path)
    }

    async fn content(&self, path: &ObjectPath) -> Result<Option<u32>, Unavailable> {
        self.content_at(self.object(path)).await
    }

    async fn content_at(&self, place: u32) -> Result<Option<u32>, Unavailable> {
        match self.ask(Call::Read(place)).await {
            Reply::Content(found) => Ok(found),
            _ => Err(down("store")),
        }
    }

    /// Puts an object into the store, as a builder with a grant does.
    pub(crate) async fn put(&self, path: &ObjectPath, bytes: Vec<u8>) -> Result<(), Unavailable> {
        let (object, content) = (self.object(path), self.names.get().content(&bytes));
        self.done("store", Call::Write(object, content)).await
    }

    async fn done(&self, role: &'static str, call: Call) -> Result<(), Unavailable> {
        match self.ask(call).await {
            Reply::Done => Ok(()),
            _ => Err(down(role)),
        }
    }

    fn row(&self, number: u32) -> Row {
        self.names.get().row_of(number).row.clone()
    }
}

/// A call that waits for its reply.
pub(crate) struct Asking<'a> {
    port: &'a Port,
    call: Option<Call>,
    place: Option<u32>,
}

impl Future for Asking<'_> {
    type Output = Reply;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        let mut desk = self.port.desk();
        let waker = Some(context.waker().clone());
        match self.place {
            Some(place) => {
                let slot = &mut desk.slots[place as usize];
                match slot.reply.take() {
                    Some(reply) => Poll::Ready(reply),
                    None => {
                        slot.waker = waker;
                        Poll::Pending
                    }
                }
            }
            None => {
                let place = u32::try_from(desk.slots.len()).expect("few calls");
                let call = self.call.take().expect("it is asked once");
                desk.slots.push(Slot { call, reply: None, waker, over: false });
                drop(desk);
                self.place = Some(place);
                Poll::Pending
            }
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.port.desk().slots[place as usize].over = true;
        }
    }
}

fn down(role: &'static str) -> Unavailable {
    Unavailable::new(role, "no reply")
}

impl Deployment for Port {
    fn policy(&self) -> &Policy {
        &self.setup.policy
    }
    fn first_pins(&self) -> &Pins {
        &self.setup.pins
    }
    fn system(&self) -> System {
        System::X86_64Linux
    }
    fn origin(&self) -> &str {
        "http://127.0.0.1:1"
    }
    fn now(&self) -> Timestamp {
        let mut desk = self.desk();
        desk.read_clock = true;
        desk.now
    }
    fn new_lease(&self) -> (LeaseId, Token) {
        let mut desk = self.desk();
        desk.leases += 1;
        desk.read_clock = true;
        let id = format!("{:08x}{:04x}{:020x}", self.number, desk.leases, desk.now.0);
        (id.parse().expect("hex"), token(&id))
    }
    fn emit(&self, _: telemetry::About<'_>, _: Signal<'_>) {}
}

/// The token of a lease.
pub(crate) fn token(id: &str) -> Token {
    [id, id].concat().parse().expect("hex")
}

impl Ledger for Port {
    async fn load(&self, key: &RowKey, _: Read) -> Result<Option<(Row, Version)>, Unavailable> {
        let key = self.names.get().keys.number(key);
        match self.ask(Call::Load(key)).await {
            Reply::Row(found) => Ok(found.map(|(row, version)| (self.row(row), Version(version)))),
            _ => Err(down("ledger")),
        }
    }
    async fn commit(&self, swaps: Vec<Swap>) -> Result<(), NotCommitted> {
        let swaps = swaps.iter().map(|swap| (swap.seen.0, self.names.get().row(&swap.row))).collect();
        committed(self.ask(Call::Commit(swaps)).await)
    }
    async fn list(
        &self,
        status_index: StatusIndex,
        after: Option<&Listed>,
        limit: usize,
    ) -> Result<Vec<Listed>, Unavailable> {
        let after = after.map(|listed| (listed.at, listed.key.clone()));
        match self.ask(Call::List(status_index, after, limit)).await {
            Reply::Listed(listed) => Ok(listed.into_iter().map(|(at, key)| Listed { key, at }).collect()),
            _ => Err(down("ledger")),
        }
    }
    async fn latest(&self, _: StatusIndex, _: usize) -> Result<Vec<Listed>, Unavailable> {
        Err(down("no explored flow asks for this"))
    }
    async fn list_served(
        &self,
        pinned: &Pinned,
        after: Option<&ServedKey>,
        limit: usize,
    ) -> Result<Vec<ServedKey>, Unavailable> {
        match self.ask(Call::ListServed(pinned.clone(), after.cloned(), limit)).await {
            Reply::Served(keys) => Ok(keys),
            _ => Err(down("ledger")),
        }
    }
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Scanned, Unavailable> {
        let after = after.map(|cursor| cursor.0.parse().expect("a cursor of this ledger"));
        match self.ask(Call::Scan(after, limit)).await {
            Reply::Scanned(found) => {
                let rows: Vec<_> = found.into_iter().map(|(row, version)| (self.row(row), Version(version))).collect();
                let next = rows.last().filter(|_| rows.len() == limit).map(|(row, _)| Cursor(row.key().to_string()));
                Ok(Scanned { rows, next })
            }
            _ => Err(down("ledger")),
        }
    }
    async fn remove(&self, key: &RowKey, seen: Version) -> Result<(), NotCommitted> {
        let key = self.names.get().keys.number(key);
        committed(self.ask(Call::Remove(key, seen.0)).await)
    }
    async fn put_progress(&self, _: &LeaseId, _: &Progress) -> Result<(), Unavailable> {
        self.done("ledger", Call::Progress).await
    }
    async fn progress(&self, _: &LeaseId) -> Result<Option<Progress>, Unavailable> {
        Ok(None)
    }
    async fn remove_progress(&self, _: &LeaseId) -> Result<(), Unavailable> {
        Ok(())
    }
}

fn committed(reply: Reply) -> Result<(), NotCommitted> {
    match reply {
        Reply::Done => Ok(()),
        Reply::Conflict => Err(NotCommitted::Conflict),
        _ => Err(down("ledger").into()),
    }
}

impl Bell for Port {
    async fn ring(&self) -> Result<(), Unavailable> {
        self.done("bell", Call::Ring).await
    }
}

impl Launcher for Port {
    async fn launch(&self, key: &BuildKey, lease: &Lease) -> Result<String, NotLaunched> {
        self.done("launcher", Call::Launch(key.clone(), lease.id.clone())).await?;
        Ok(format!("task of {}", lease.id))
    }
    async fn stop(&self, lease: &LeaseId, _: Option<&str>) -> Result<(), Unavailable> {
        self.done("launcher", Call::Stop(lease.clone())).await
    }
    async fn running(&self) -> Result<Vec<LeaseId>, Unavailable> {
        match self.ask(Call::Running).await {
            Reply::Leases(leases) => Ok(leases),
            _ => Err(down("launcher")),
        }
    }
    async fn left(&self, prefix: &AttemptPrefix) -> Result<Option<u64>, Unavailable> {
        match self.ask(Call::Left(prefix.clone())).await {
            Reply::Number(bytes) => Ok(Some(bytes)),
            _ => Err(down("launcher")),
        }
    }
}

impl DownloadStats for Port {
    async fn top(&self, _: Timestamp, _: usize) -> Result<Vec<Asked>, Unavailable> {
        Ok(Vec::new())
    }
    async fn served(&self, _: Timestamp) -> Result<Traffic, Unavailable> {
        Err(down("no explored deployment counts downloads"))
    }
}

impl Store for Port {
    async fn url(&self, path: &ObjectPath, _: &Bin, _: Method) -> Result<Location, Unavailable> {
        Ok(Location::Store(path.location()))
    }
    async fn read(&self, path: &ObjectPath) -> Result<Option<Vec<u8>>, Unavailable> {
        let found = self.content(path).await?;
        Ok(found.map(|content| self.names.get().bytes(content).clone()))
    }
    async fn log_object(&self, _: &LogName) -> Result<Option<Vec<u8>>, Unavailable> {
        Ok(None)
    }
    async fn part(&self, _: &ObjectPath, _: Range<u64>) -> Result<Option<Vec<u8>>, Unavailable> {
        Err(down("no explored flow asks for this"))
    }
    async fn glance(&self, path: &ObjectPath, content: &Content) -> Result<Integrity, Unavailable> {
        Ok(Integrity::of(self.digest(path).await?.as_ref(), content))
    }
}

impl Inspect for Port {
    async fn size(&self, path: &ObjectPath) -> Result<Option<u64>, Unavailable> {
        Ok(self.digest(path).await?.map(|found| found.size))
    }
    async fn digest(&self, path: &ObjectPath) -> Result<Option<Fingerprint>, Unavailable> {
        let found = self.content(path).await?;
        Ok(found.map(|content| {
            let (sha256, size) = self.names.get().sum(content).clone();
            Fingerprint { size, sha256: Some(sha256) }
        }))
    }
}

impl Intake for Port {
    async fn grant(&self, path: &ObjectPath, _: u64, _: &Sha256) -> Result<PresignedUpload, Unavailable> {
        Ok(PresignedUpload { url: path.to_string(), headers: Vec::new(), stored: false })
    }
    async fn programs(&self, _: &Sha256) -> Result<String, Unavailable> {
        Err(down("no explored pin has programs"))
    }
    async fn source(&self, path: &ObjectPath) -> Result<String, Unavailable> {
        Ok(path.to_string())
    }
    async fn write(&self, path: &ObjectPath, content: Vec<u8>) -> Result<(), Unavailable> {
        self.put(path, content).await
    }
    async fn remove_segments(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        self.done("store", Call::RemoveBelow(prefix.clone(), Part::Segments)).await
    }
    async fn remove_partial(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        self.done("store", Call::RemoveBelow(prefix.clone(), Part::Partial)).await
    }
    async fn cache(&self) -> Result<Option<Cache>, Unavailable> {
        Ok(self.setup.cache.then(|| Cache { url: "cache".to_owned(), public_key: None }))
    }
    async fn offered_bytes(&self, _: &AttemptPrefix) -> Result<u64, Unavailable> {
        Ok(0)
    }
    async fn offered_paths(&self, prefix: &AttemptPrefix) -> Result<Vec<StoreHash>, Unavailable> {
        match self.ask(Call::Offers(prefix.clone())).await {
            Reply::Paths(paths) => Ok(paths),
            _ => Err(down("store")),
        }
    }
}

impl Collect for Port {
    async fn prefixes(&self, after: Option<&AttemptPrefix>, _: usize) -> Result<Vec<Held>, Unavailable> {
        assert!(after.is_none(), "a page has all");
        match self.ask(Call::Prefixes).await {
            Reply::Held(held) => Ok(held
                .into_iter()
                .map(|(prefix, objects, bytes, blobs)| Held { prefix, objects, bytes, blobs })
                .collect()),
            _ => Err(down("store")),
        }
    }
    async fn blobs(&self, after: Option<&Sha256>, _: usize) -> Result<Vec<HeldBlob>, Unavailable> {
        assert!(after.is_none(), "a page has all");
        match self.ask(Call::Blobs).await {
            Reply::Blobs(blobs) => Ok(blobs.into_iter().map(|(sha256, bytes)| HeldBlob { sha256, bytes }).collect()),
            _ => Err(down("store")),
        }
    }
    async fn remove_blob(&self, sha256: &Sha256) -> Result<(), Unavailable> {
        self.done("store", Call::RemoveBlob(sha256.clone())).await
    }
    async fn remove_prefix(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        self.done("store", Call::RemoveBelow(prefix.clone(), Part::All)).await
    }
    async fn kept_nixpkgs(&self) -> Result<Vec<KeptNixpkgs>, Unavailable> {
        Ok(Vec::new())
    }
    async fn remove_nixpkgs(&self, _: &Rev) -> Result<(), Unavailable> {
        Ok(())
    }
    async fn kept_programs(&self) -> Result<Vec<KeptPrograms>, Unavailable> {
        Ok(Vec::new())
    }
    async fn remove_programs(&self, _: &Sha256) -> Result<(), Unavailable> {
        Ok(())
    }
    async fn cached(&self) -> Result<Vec<Cached>, Unavailable> {
        Ok(Vec::new())
    }
    async fn remove_cached(&self, _: &CacheName) -> Result<(), Unavailable> {
        Ok(())
    }
    async fn in_quarantine(&self) -> Result<u64, Unavailable> {
        Ok(0)
    }
}

impl Port {
    fn cached(&self, name: &CacheName) -> u32 {
        self.names.get().objects.number(&name.to_string())
    }
}

impl BinaryCache for Port {
    fn store_dir(&self) -> &StoreDir {
        &self.setup.store_dir
    }
    async fn read(&self, prefix: &AttemptPrefix, offer: ObjectName) -> Result<Option<Vec<u8>>, Unavailable> {
        Store::read(self, &prefix.object(offer)).await
    }
    async fn offers(&self, prefix: &AttemptPrefix) -> Result<Vec<StoreHash>, Unavailable> {
        self.offered_paths(prefix).await
    }
    async fn measure(&self, prefix: &AttemptPrefix, nar: &Sha256, _: u64) -> Result<Option<Measured>, Unavailable> {
        let packed = Store::read(self, &prefix.object(ObjectName::Nar(nar.clone()))).await?;
        Ok(packed
            .map(|packed| Measured { unpacked: Some(Content::of(&unpacked(&packed))), packed: Content::of(&packed) }))
    }
    async fn has(&self, path: &StoreHash) -> Result<bool, Unavailable> {
        let place = self.cached(&CacheName::Narinfo(path.clone()));
        Ok(self.content_at(place).await?.is_some())
    }
    async fn keep(&self, _: &AttemptPrefix, nar: &Sha256) -> Result<(), Unavailable> {
        let (place, content) = (self.cached(&CacheName::Nar(nar.clone())), self.names.get().content(&Vec::new()));
        self.done("cache", Call::Write(place, content)).await
    }
    async fn publish(&self, path: &StoreHash, narinfo: String) -> Result<(), Unavailable> {
        let place = self.cached(&CacheName::Narinfo(path.clone()));
        let content = self.names.get().content(&narinfo.into_bytes());
        self.done("cache", Call::Write(place, content)).await
    }
    fn sign(&self, _: &str) -> String {
        "binplz-1:AAAA".to_owned()
    }
    async fn clear(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        self.done("cache", Call::RemoveBelow(prefix.clone(), Part::Offers)).await
    }
}

/// There is no catalogue: names are attributes.
pub(crate) enum NoCatalogue {}

impl Catalogue for NoCatalogue {
    fn resolve(&self, _: &Wanted, _: System) -> Resolution {
        match *self {}
    }
    fn search(&self, _: &str, _: System, _: usize) -> Vec<Entry> {
        match *self {}
    }
    fn words(&self, _: &str) -> Vec<Range<u64>> {
        match *self {}
    }
    fn search_words(&self, _: &str, _: &[Vec<u8>], _: System, _: usize) -> Vec<Entry> {
        match *self {}
    }
    fn entry(&self, _: &Attr, _: System) -> Option<Entry> {
        match *self {}
    }
    fn about(&self, _: &[u8], _: &Attr) -> Option<About> {
        match *self {}
    }
    fn census(&self, _: System) -> Census {
        match *self {}
    }
}

impl HasCatalogues for Port {
    type Catalogue = NoCatalogue;
    async fn catalogue(&self, _: &ObjectPath) -> Result<Result<NoCatalogue, Unreadable>, Unavailable> {
        Err(down("there is no catalogue"))
    }
}

macro_rules! is_its_own {
    ($($has:ident $name:ident $method:ident),+) => {
        $(impl $has for Port {
            type $name = Port;
            fn $method(&self) -> &Port {
                self
            }
        })+
    };
}

is_its_own!(HasLedger Ledger ledger, HasBell Bell bell, HasLauncher Launcher launcher, HasStore Store store,
    HasDownloadStats DownloadStats download_stats);
