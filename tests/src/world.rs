//! A deployment in a test's hand: the local ledger and store, a clock that stands still, a launcher that only remembers, and places to
//! interfere at exactly the wrong moment.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    path::{Path, PathBuf},
    pin::Pin as Boxed,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use binplz_catalogue::{Open, Opened};
use binplz_core::{
    billing::traffic::{Asked, Traffic},
    build::{
        Build, Lease,
        failure::{Failure, Kind},
        policy::{Names, Policy},
        protocol::{Evaluated, Nixpkgs, Outcome, Progress, Report, Stats, Turn, Upload},
    },
    flow::{
        self,
        lease::{claim::claim, job::Bearer, settle::settle},
        request::{outcome::RequestOutcome, program::request},
        schedule::dispatch::dispatch,
    },
    has_ports,
    id::{
        key::{Bin, BuildKey, DrvHash, LeaseId, Product, Rev, Sha256, System, Token},
        target::{Query, Target},
        time::Timestamp,
    },
    nixpkgs::{
        pins::{Change, Pinned, Pins},
        served::{Served, ServedKey},
    },
    objects::{
        artifact::{AttemptPrefix, Bundled, CacheName, Declared, Manifest, ObjectName, ObjectPath, Program, Verdict},
        content::Content,
        inventory::Inventory,
        narinfo::StoreDir,
        stored::Method,
    },
    ports::{
        Bell, Cursor, Deployment, DownloadStats, HasCatalogues, KeyUse, Launcher, Ledger, NotCommitted, NotLaunched,
        Read, Scanned, Signer, Store, Unavailable, Unreadable, WaitLimiter, Watch,
    },
    quota::{
        client::Asker,
        limits::{Limits, Why},
    },
    row::{Listed, Row, RowKey, StatusIndex, Swap, Version},
    telemetry::{About, Signal},
    trust::{
        head::{LogName, PublicKeys},
        leaf::Blake2b,
        tile::TileName,
    },
};
use binplz_local::{DataDir, LocalBinaryCache, LocalLedger, LocalSigner, LocalStore};
use tempfile::TempDir;

mod objects;

pub use objects::Objects;

/// Something that another actor does at a chosen moment.
pub type Meddling = Boxed<Box<dyn Future<Output = ()> + Send>>;

/// An observer of writes.
pub type Witness = Box<dyn Fn(&Row) + Send + Sync>;

/// A listener for telemetry.
pub type Ear = Box<dyn Fn(About<'_>, Signal<'_>) + Send + Sync>;

/// The local ledger, with what can go wrong around a commit.
pub struct Stage {
    inner: LocalLedger,
    /// Done once, right before the next commit: what another actor does between a sighting and its swap.
    before_commit: Mutex<Option<Meddling>>,
    /// Done once, right after the last page of the next scan.
    after_scan: Mutex<Option<Meddling>>,
    life: Arc<Life>,
    /// Sees each version of each row, as it is written.
    witness: Mutex<Option<Witness>>,
    /// So many of the next commits happen, and their replies are lost.
    lost_replies: AtomicUsize,
    /// Commits that happened.
    commits: AtomicUsize,
    /// Each row as it was before its last commit: what a read shows that is not consistent, if these are late.
    before: Mutex<BTreeMap<RowKey, Option<(Row, Version)>>>,
    late: AtomicBool,
    /// The reads since the last look at them.
    reads: Mutex<Vec<(RowKey, Read)>>,
}

impl Stage {
    async fn meddle(&self) {
        let meddling = self.before_commit.lock().expect("a lock").take();
        if let Some(meddling) = meddling {
            meddling.await;
        }
    }

    fn reply(&self) -> Result<(), NotCommitted> {
        let lost = self.lost_replies.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1));
        if lost.is_ok() { Err(Unavailable::new("ledger", "the reply was lost").into()) } else { Ok(()) }
    }
}

/// How many writes a process makes until it dies: none of it is heard from then on.
#[derive(Default)]
pub struct Life(Mutex<Option<usize>>);

impl Life {
    fn spend(&self, role: &'static str) -> Result<(), Unavailable> {
        match &mut *self.0.lock().expect("a lock") {
            None => Ok(()),
            Some(0) => Err(Unavailable::new(role, "the process is dead")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

impl Ledger for Stage {
    async fn load(&self, key: &RowKey, read: Read) -> Result<Option<(Row, Version)>, Unavailable> {
        self.reads.lock().expect("a lock").push((key.clone(), read));
        let late = read == Read::Eventual && self.late.load(SeqCst);
        let before = self.before.lock().expect("a lock").get(key).cloned();
        match before.filter(|_| late) {
            Some(before) => Ok(before),
            None => self.inner.load(key, read).await,
        }
    }
    async fn commit(&self, swaps: Vec<Swap>) -> Result<(), NotCommitted> {
        self.meddle().await;
        self.life.spend("ledger")?;
        let mut before = Vec::new();
        for key in swaps.iter().map(|swap| swap.row.key()) {
            before.push((key.clone(), self.inner.load(&key, Read::Consistent).await?));
        }
        let written: Vec<_> = swaps.iter().map(|swap| swap.row.clone()).collect();
        self.inner.commit(swaps).await?;
        if let Some(witness) = self.witness.lock().expect("a lock").as_ref() {
            written.iter().for_each(witness);
        }
        self.before.lock().expect("a lock").extend(before);
        self.commits.fetch_add(1, SeqCst);
        self.reply()
    }
    async fn list(
        &self,
        status_index: StatusIndex,
        after: Option<&Listed>,
        limit: usize,
    ) -> Result<Vec<Listed>, Unavailable> {
        self.inner.list(status_index, after, limit).await
    }
    async fn latest(&self, status_index: StatusIndex, limit: usize) -> Result<Vec<Listed>, Unavailable> {
        self.inner.latest(status_index, limit).await
    }
    async fn list_served(
        &self,
        pinned: &Pinned,
        after: Option<&ServedKey>,
        limit: usize,
    ) -> Result<Vec<ServedKey>, Unavailable> {
        self.inner.list_served(pinned, after, limit).await
    }
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Scanned, Unavailable> {
        let page = self.inner.scan(after, limit).await?;
        let meddling = self.after_scan.lock().expect("a lock").take_if(|_| page.next.is_none());
        if let Some(meddling) = meddling {
            meddling.await;
        }
        Ok(page)
    }
    async fn remove(&self, key: &RowKey, seen: Version) -> Result<(), NotCommitted> {
        self.meddle().await;
        self.life.spend("ledger")?;
        self.inner.remove(key, seen).await?;
        self.reply()
    }
    async fn put_progress(&self, lease: &LeaseId, progress: &Progress) -> Result<(), Unavailable> {
        self.inner.put_progress(lease, progress).await
    }
    async fn progress(&self, lease: &LeaseId) -> Result<Option<Progress>, Unavailable> {
        self.inner.progress(lease).await
    }
    async fn remove_progress(&self, lease: &LeaseId) -> Result<(), Unavailable> {
        self.life.spend("ledger")?;
        self.inner.remove_progress(lease).await
    }
}

/// What a launcher would have started and stopped. The same lease is started once, as the port demands.
#[derive(Default)]
pub struct Remembering {
    /// Every builder that was started.
    pub started: Mutex<BTreeMap<LeaseId, Lease>>,
    /// Every lease whose builder was stopped.
    pub stopped: Mutex<Vec<LeaseId>>,
    /// Every builder that has not ended, and for which build it is.
    running: Mutex<BTreeMap<LeaseId, BuildKey>>,
    /// How often it was asked to start one.
    pub asked: AtomicUsize,
    /// What it says instead of starting.
    pub refuses: Mutex<Option<NotLaunched>>,
    /// Whether it has no Spot capacity.
    pub spotless: AtomicBool,
    /// The most builders that it runs at a time: the account's quota.
    pub quota: Mutex<Option<usize>>,
    /// Whether nothing can be stopped for now.
    pub deaf: AtomicBool,
    /// The systems that it has no image for.
    pub imageless: Mutex<Vec<System>>,
    /// The nixpkgs whose tarballs are not uploaded.
    pub untarred: Mutex<Vec<Rev>>,
    /// The store's objects.
    objects: PathBuf,
}

impl Launcher for Remembering {
    async fn launch(&self, key: &BuildKey, lease: &Lease) -> Result<String, NotLaunched> {
        self.asked.fetch_add(1, SeqCst);
        if let Some(error) = self.refuses.lock().expect("a lock").clone() {
            return Err(error);
        }
        let refused = |why: &str| Err(NotLaunched::Refused(why.to_owned()));
        if self.spotless.load(SeqCst) && !lease.is_on_demand() {
            return refused("Capacity is unavailable at this time");
        }
        let running = self.running.lock().expect("a lock").len();
        if self.quota.lock().expect("a lock").is_some_and(|most| running >= most) {
            return refused("You've reached the limit on the number of vCPUs you can run concurrently");
        }
        if self.started.lock().expect("a lock").insert(lease.id.clone(), lease.clone()).is_none() {
            self.running.lock().expect("a lock").insert(lease.id.clone(), key.clone());
        }
        Ok(format!("task of {}", lease.id))
    }
    async fn stop(&self, lease: &LeaseId, _task: Option<&str>) -> Result<(), Unavailable> {
        if self.deaf.load(SeqCst) {
            return Err(Unavailable::new("launcher", "it does not answer"));
        }
        self.stopped.lock().expect("a lock").push(lease.clone());
        Ok(())
    }
    async fn running(&self) -> Result<Vec<LeaseId>, Unavailable> {
        let stopped = self.stopped.lock().expect("a lock");
        let running = self.running.lock().expect("a lock");
        Ok(running.keys().filter(|lease| !stopped.contains(lease)).cloned().collect())
    }
    async fn obstacle(&self, system: System) -> Result<Option<Why>, Unavailable> {
        Ok(self.imageless.lock().expect("a lock").contains(&system).then_some(Why::NoImage))
    }
    async fn lacks_nixpkgs(&self, rev: &Rev) -> Result<bool, Unavailable> {
        Ok(self.untarred.lock().expect("a lock").contains(rev))
    }
    async fn left(&self, prefix: &AttemptPrefix) -> Result<Option<u64>, Unavailable> {
        binplz_local::left(&self.objects, prefix).await.map(Some)
    }
}

/// A bell that counts.
#[derive(Default)]
pub struct Counting(pub AtomicUsize);

impl Bell for Counting {
    async fn ring(&self) -> Result<(), Unavailable> {
        self.0.fetch_add(1, SeqCst);
        Ok(())
    }
}

/// The local signer, whose writes count as the ledger's do.
pub struct Signing {
    inner: LocalSigner,
    life: Arc<Life>,
}

impl Signer for Signing {
    async fn public(&self) -> Result<PublicKeys, Unavailable> {
        self.inner.public().await
    }
    async fn sign(&self, by: KeyUse, message: &[u8]) -> Result<[u8; 64], Unavailable> {
        self.inner.sign(by, message).await
    }
    async fn digest(&self, path: &ObjectPath) -> Result<Option<(Content, Blake2b)>, Unavailable> {
        self.inner.digest(path).await
    }
    async fn write(&self, name: &LogName, content: Vec<u8>) -> Result<(), Unavailable> {
        self.life.spend("signer")?;
        self.inner.write(name, content).await
    }
    async fn remove_staged(&self, name: &LeaseId) -> Result<(), Unavailable> {
        self.life.spend("signer")?;
        self.inner.remove_staged(name).await
    }
    async fn remove_narrower(&self, full: &TileName) -> Result<(), Unavailable> {
        self.life.spend("signer")?;
        self.inner.remove_narrower(full).await
    }
}

/// Those who wait. They are as many as they say themselves.
#[derive(Default)]
pub struct Waiters {
    /// No seat is free.
    pub full: AtomicBool,
    /// How often one kept its seat.
    pub kept: AtomicUsize,
    /// The events that happen while a client waits, in order; when none is left, the wait times out.
    moments: Arc<Mutex<VecDeque<Meddling>>>,
}

impl WaitLimiter for Waiters {
    type Watch = Moments;

    async fn admits(&self) -> Result<bool, Unavailable> {
        Ok(!self.full.load(SeqCst))
    }
    async fn keeps(&self) -> Result<(), Unavailable> {
        self.kept.fetch_add(1, SeqCst);
        Ok(())
    }
    fn watch(&self, _key: &BuildKey, _patience: Duration) -> Option<Moments> {
        (!self.full.load(SeqCst)).then(|| Moments(Arc::clone(&self.moments)))
    }
}

/// One who waits, and lives through what happens.
pub struct Moments(Arc<Mutex<VecDeque<Meddling>>>);

impl Watch for Moments {
    async fn changed(&mut self) -> bool {
        let moment = self.0.lock().expect("a lock").pop_front();
        match moment {
            Some(moment) => moment.await,
            None => return false,
        }
        true
    }
}

/// Every hit that was told.
#[derive(Default)]
pub struct Hits {
    told: Mutex<Vec<(Timestamp, Product, u64)>>,
    /// The count is unavailable.
    pub lost: AtomicBool,
}

impl DownloadStats for Hits {
    async fn top(&self, since: Timestamp, most: usize) -> Result<Vec<Asked>, Unavailable> {
        let mut sums = BTreeMap::<Product, u64>::new();
        for (_, package, _) in self.told.lock().expect("a lock").iter().filter(|(at, ..)| *at >= since) {
            *sums.entry(package.clone()).or_default() += 1;
        }
        Ok(Asked::most(sums, most))
    }
    async fn served(&self, since: Timestamp) -> Result<Traffic, Unavailable> {
        if self.lost.load(SeqCst) {
            return Err(Unavailable::new("tally", "lost"));
        }
        let hits = self.told.lock().expect("a lock");
        Ok(hits.iter().filter(|(at, ..)| *at >= since).map(|(.., bytes)| Traffic::hit(*bytes)).sum())
    }
}

/// The deployment.
pub struct World {
    catalogues: Opened,
    ledger: Stage,
    store: Objects,
    /// The launcher.
    pub launcher: Remembering,
    /// The bell.
    pub bell: Counting,
    /// Those who wait.
    pub wait_limiter: Waiters,
    /// What was served.
    pub download_stats: Hits,
    /// The signer.
    pub signer: Signing,
    /// Whether artifacts are signed before they are served.
    pub signs: AtomicBool,
    policy: Policy,
    first_pins: Pins,
    now: AtomicU64,
    leases: AtomicU64,
    hear: Mutex<Option<Ear>>,
    /// The builders' cache.
    pub binary_cache: LocalBinaryCache,
    data: TempDir,
}

/// What [`World::with`]'s one pin is called.
pub const PIN: &str = "test";
/// A revision: this digit, forty times.
pub fn rev(digit: char) -> Rev {
    String::from_iter([digit; 40]).parse().expect("hex")
}

impl World {
    /// A new one, with two slots.
    pub fn new() -> Arc<World> {
        World::with(Policy { slots: 2, ..Policy::default() })
    }

    /// A new one, whose names are attributes.
    pub fn with(policy: Policy) -> Arc<World> {
        World::naming(Names::Attributes, policy)
    }

    /// A new one, whose names mean something in one way or another.
    pub fn naming(names: Names, policy: Policy) -> Arc<World> {
        let policy = Policy { names, ..policy };
        let data = tempfile::tempdir().expect("a temporary directory");
        World::open(policy, data, 1_800_000_000_000)
    }

    fn open(policy: Policy, data: TempDir, now: u64) -> Arc<World> {
        let dir = DataDir::open(data.path()).expect("a data directory");
        let life = Arc::<Life>::default();
        let ledger = Stage {
            inner: LocalLedger::open(&dir).expect("a ledger"),
            before_commit: Mutex::default(),
            after_scan: Mutex::default(),
            life: Arc::clone(&life),
            witness: Mutex::default(),
            lost_replies: AtomicUsize::default(),
            commits: AtomicUsize::default(),
            before: Mutex::default(),
            late: AtomicBool::default(),
            reads: Mutex::default(),
        };
        let binary_cache = LocalBinaryCache::open(&dir, StoreDir::default()).expect("a cache");
        Arc::new(World {
            catalogues: Opened::default(),
            ledger,
            store: Objects::new(
                LocalStore::open(&dir, "http://127.0.0.1:1").expect("a store").sharing(&binary_cache),
                Arc::clone(&life),
            ),
            signer: Signing { inner: LocalSigner::open(&dir).expect("keys"), life },
            signs: AtomicBool::default(),
            binary_cache,
            launcher: Remembering { objects: data.path().join("objects"), ..Remembering::default() },
            bell: Counting::default(),
            wait_limiter: Waiters::default(),
            download_stats: Hits::default(),
            policy,
            first_pins: Pins::one(PIN.parse().expect("a name"), rev('5'), Nixpkgs::Path("/set".to_owned()).into()),
            now: AtomicU64::new(now),
            leases: AtomicU64::new(now),
            hear: Mutex::default(),
            data,
        })
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// The same data, in a process that has just begun.
    pub fn restarted(self: Arc<World>) -> Arc<World> {
        let policy = self.policy.clone();
        self.redeployed(policy)
    }

    /// The same, with other numbers.
    pub fn redeployed(self: Arc<World>, policy: Policy) -> Arc<World> {
        let World { data, now, .. } = Arc::into_inner(self).expect("this is the last reference");
        World::open(policy, data, now.into_inner())
    }

    /// Each version of each row is shown to this from now on, as it is written.
    pub fn watch(&self, witness: impl Fn(&Row) + Send + Sync + 'static) {
        *self.ledger.witness.lock().expect("a lock") = Some(Box::new(witness));
    }

    /// All news is told to this from now on.
    pub fn hear(&self, ear: impl Fn(About<'_>, Signal<'_>) + Send + Sync + 'static) {
        *self.hear.lock().expect("a lock") = Some(Box::new(ear));
    }

    /// Time passes.
    pub fn pass(&self, time: Duration) {
        self.now.fetch_add(u64::try_from(time.as_millis()).expect("a time"), SeqCst);
    }

    /// The next ones look at a clock that is behind by so much.
    pub fn is_behind(&self, time: Duration) {
        self.now.fetch_sub(u64::try_from(time.as_millis()).expect("a time"), SeqCst);
    }

    /// The writer dies after so many writes; `None`: no writer dies from now on.
    pub fn die_after(&self, writes: Option<usize>) {
        *self.ledger.life.0.lock().expect("a lock") = writes;
    }

    /// Right after the next scan this happens.
    pub fn after_next_scan(&self, meddling: impl Future<Output = ()> + Send + 'static) {
        *self.ledger.after_scan.lock().expect("a lock") = Some(Box::pin(meddling));
    }

    /// The next commit or removal of a row comes too late: this happens first.
    pub fn before_next_commit(&self, meddling: impl Future<Output = ()> + Send + 'static) {
        *self.ledger.before_commit.lock().expect("a lock") = Some(Box::pin(meddling));
    }

    /// This happens next while a client waits.
    pub fn while_waiting(&self, moment: impl Future<Output = ()> + Send + 'static) {
        self.wait_limiter.moments.lock().expect("a lock").push_back(Box::pin(moment));
    }

    /// The replies of the next `n` commits are lost.
    pub fn lose_replies(&self, n: usize) {
        self.ledger.lost_replies.store(n, SeqCst);
    }

    /// Whether reads that are not consistent show, from now on, each row as it was before its last commit.
    pub fn reads_are_late(&self, late: bool) {
        self.ledger.late.store(late, SeqCst);
    }

    /// Commits so far.
    pub fn commits(&self) -> usize {
        self.ledger.commits.load(SeqCst)
    }

    /// What was read since this was asked last.
    pub fn reads(&self) -> Vec<(RowKey, Read)> {
        std::mem::take(&mut *self.ledger.reads.lock().expect("a lock"))
    }

    /// Changes the pins.
    pub async fn change(&self, change: Change) {
        flow::operator::pins::change(self, &change).await.expect("a legal change");
    }

    /// Makes the one pin stand for another revision.
    pub async fn move_pin(&self, digit: char) {
        self.change(Change::Move(
            PIN.parse().expect("a name"),
            rev(digit),
            Nixpkgs::Path("/set".to_owned()).into(),
            None,
        ))
        .await;
    }

    /// What a target is served.
    pub async fn served(&self, path: &str) -> Option<Served> {
        let key = RowKey::Served(ServedKey::of(&target(path), self.system()));
        match self.ledger.load(&key, Read::Consistent).await.expect("the ledger") {
            Some((Row::Served(served), _)) => Some(served),
            _ => None,
        }
    }

    /// The row of a target's build.
    pub async fn build(&self, path: &str) -> Build {
        self.build_of(&self.key(path).await).await
    }

    /// A build's row.
    pub async fn build_of(&self, key: &BuildKey) -> Build {
        match self.ledger.load(&RowKey::Build(key.clone()), Read::Consistent).await.expect("the ledger") {
            Some((Row::Build(build), _)) => build,
            _ => Build::unasked(key.clone()),
        }
    }

    /// The slots-and-money row.
    pub async fn limits(&self) -> Limits {
        match self.ledger.load(&RowKey::Limits, Read::Consistent).await.expect("the ledger") {
            Some((Row::Limits(limits), _)) => limits,
            _ => Limits::default(),
        }
    }

    /// The object of a program of a ready build.
    pub async fn object(&self, path: &str, bin: &str) -> ObjectPath {
        let prefix = self.build(path).await.prefix().expect("it is ready");
        let json = self.store.read(&prefix.object(ObjectName::Manifest)).await.expect("the store");
        let inventory = Inventory::from_json(&json.expect("a manifest"), &prefix.key.product).expect("it is whole");
        let program = inventory.manifest.as_ref().and_then(|manifest| manifest.program(bin)).expect("a program");
        let Verdict::Static { sha256, .. } = &program.verdict else { panic!("{bin} is not stored") };
        prefix.object(inventory.object(&program.bin, sha256))
    }

    /// The key of a target's build, as the pins are now.
    pub async fn key(&self, path: &str) -> BuildKey {
        let pins = flow::operator::pins::load(self).await.expect("the ledger");
        let target = target(path);
        let found = pins.resolve(&target, self.system()).expect("a served pin");
        found.build(target.wanted.product(target.wanted.attr().clone()))
    }

    /// A file of the builders' cache came there at that time.
    pub fn was_cached(&self, name: &CacheName, at: Timestamp) {
        let file = std::fs::File::open(self.data.path().join(name.to_string())).expect("it is there");
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_millis(at.0)).expect("its time");
    }

    /// A file of the builders' cache, if it is there.
    pub fn cached(&self, name: &CacheName) -> Option<Vec<u8>> {
        std::fs::read(self.data.path().join(name.to_string())).ok()
    }

    /// The live lease of a target, as its builder would show it.
    pub async fn bearer(&self, path: &str) -> Bearer {
        let build = self.build(path).await;
        let lease = build.lease().expect("a live lease");
        Bearer { key: build.key.clone(), lease: lease.id.clone(), token: lease.token.clone() }
    }

    /// Ends a build well, as its builder would: stores a program, settles, and is gone.
    pub async fn finish(&self, path: &str) {
        let bearer = self.bearer(path).await;
        let report = self.report(&bearer).await;
        flow::lease::settle::settle(self, &bearer, report).await.expect("a live lease");
        self.reap().await;
    }

    /// The builders that have not ended, and for which builds they are.
    pub fn tasks(&self) -> BTreeMap<LeaseId, BuildKey> {
        self.launcher.running.lock().expect("a lock").clone()
    }

    /// A builder is gone; its launcher has not said so yet.
    pub fn ends(&self, lease: &LeaseId) {
        self.launcher.running.lock().expect("a lock").remove(lease);
    }

    /// Every builder ends whose lease is over, and its launcher says so.
    pub async fn reap(&self) {
        let limits = self.limits().await;
        let mut gone = self.launcher.running.lock().expect("a lock").clone();
        gone.retain(|lease, _| !limits.is_live(lease));
        for (lease, key) in gone {
            self.launcher.running.lock().expect("a lock").remove(&lease);
            let failure = Failure::new(Kind::Killed, "");
            flow::lease::settle::stopped(self, &key, &lease, failure, None).await.expect("the ledger");
        }
    }

    /// Stores a program that is called like its package for a lease, and gives the report that tells of it.
    pub async fn report(&self, bearer: &Bearer) -> Report {
        let package = bearer.key.product.to_string();
        self.report_of(bearer, &[package.rsplit('.').next().expect("a last part")]).await
    }

    /// The same with other programs, by name.
    pub async fn report_of(&self, bearer: &Bearer, bins: &[&str]) -> Report {
        let contents: Vec<_> = bins.iter().map(|bin| (*bin, format!("\x7fELF {bin} of {}", bearer.key))).collect();
        let programs: Vec<_> = contents.iter().map(|(bin, content)| (*bin, content.as_bytes())).collect();
        self.report_with(bearer, &programs).await
    }

    /// The same with other programs, by name and content, which are uploaded as a builder does it.
    pub async fn report_with(&self, bearer: &Bearer, programs: &[(&str, &[u8])]) -> Report {
        let mut found = Vec::new();
        for (bin, content) in programs {
            let bin: Bin = bin.parse().expect("a program's name");
            let (sha256, size) = (Sha256::of(content), content.len() as u64);
            let upload = Upload { name: ObjectName::Program(bin.clone()), size, sha256: sha256.clone() };
            let grants = flow::lease::job::uploads(self, bearer, &[upload]).await.expect("a live lease");
            if !grants[0].stored {
                self.store.upload(&grants[0], content).await;
            }
            let verdict = Verdict::Static { sha256, size, leftovers: Vec::new(), needs: None, unwrapped: false };
            found.push(Program { bin, output: None, verdict });
        }
        // What it has claimed, if it has.
        let held = self.build_of(&bearer.key).await.lease().and_then(|lease| lease.derivation.clone());
        let manifest = Manifest {
            pname: programs[0].0.to_owned(),
            version: "1.0".to_owned(),
            declared: Declared::default(),
            drv_path: held.map_or("/nix/store/x.drv".to_owned(), |held| format!("/nix/store/{held}-x.drv")),
            outputs: Vec::new(),
            installed: Vec::new(),
            archive: None,
            bundle: matches!(bearer.key.product, Product::Bundle { .. }).then_some(Bundled {
                unpacked: 1 << 20,
                files: 3,
                of_static: false,
            }),
            programs: found,
        };
        Report {
            outcome: Outcome::Built(manifest),
            stats: Stats { derivations: 1, ..Stats::default() },
            materials: None,
        }
    }
}

/// The outcome of a request for a program, which starts its build.
pub async fn ask(w: &World, path: &str) -> RequestOutcome {
    request(w, &target(path), Method::Get, Some(&Asker::default())).await
}

/// The served row of a program that is there.
pub async fn hit(w: &World, path: &str) -> Served {
    match ask(w, path).await {
        RequestOutcome::Hit { served, .. } => served,
        other => panic!("{path}: {other:?}"),
    }
}

/// Requests these packages, and has a dispatcher start their builders.
pub async fn building(w: &Arc<World>, paths: &[&str]) {
    for path in paths {
        assert!(matches!(ask(w, path).await, RequestOutcome::Pending(_)), "{path}");
    }
    dispatch(&**w).await.expect("the ledger");
    for path in paths {
        assert!(w.build(path).await.lease().is_some(), "{path}");
    }
}

/// What a builder of this version reports of a derivation that needs nothing, and offers nothing.
pub fn evaluated(drv_path: String) -> Evaluated {
    let (to_build, to_offer, declared) = Default::default();
    Evaluated { drv_path, to_build, to_offer, dry_run: None, asks: true, declared }
}

/// The derivation of a letter.
pub fn drv(letter: char) -> DrvHash {
    String::from_iter([letter; 32]).parse().expect("base 32")
}

/// What the builder of a target is told that has evaluated to the derivation of a letter.
pub async fn turn(w: &World, path: &str, letter: char) -> Turn {
    let found = evaluated(format!("/nix/store/{}-x-1.0.drv", drv(letter)));
    claim(w, &w.bearer(path).await, found).await.expect("a live lease")
}

/// Ends a build badly.
pub async fn fail(w: &World, path: &str, kind: Kind) {
    let report =
        Report { outcome: Outcome::Failed(Failure::new(kind, "why")), stats: Stats::default(), materials: None };
    settle(w, &w.bearer(path).await, report).await.expect("a live lease");
}

/// A target by its path, and its query if it has one.
pub fn target(path: &str) -> Target {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    Query::parse(path, query).expect("a target").target
}

has_ports!([] World:
    HasLedger(Ledger = Stage, ledger),
    HasBell(Bell = Counting, bell),
    HasLauncher(Launcher = Remembering, launcher),
    HasStore(Store = Objects, store),
    HasWaitLimiter(WaitLimiter = Waiters, wait_limiter),
    HasDownloadStats(DownloadStats = Hits, download_stats));

impl HasCatalogues for World {
    type Catalogue = Open;
    async fn catalogue(&self, lookup: &ObjectPath) -> Result<Result<Open, Unreadable>, Unavailable> {
        let bad = |why| self.warn(About::Build(&lookup.key), "a catalogue is not read", &why);
        self.catalogues.get(&self.store, lookup, bad).await
    }
}

impl Deployment for World {
    fn policy(&self) -> &Policy {
        &self.policy
    }
    fn first_pins(&self) -> &Pins {
        &self.first_pins
    }
    fn system(&self) -> System {
        System::X86_64Linux
    }
    fn origin(&self) -> &str {
        "http://127.0.0.1:1"
    }
    fn signs(&self) -> bool {
        self.signs.load(SeqCst)
    }
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(SeqCst))
    }
    fn new_lease(&self) -> (LeaseId, Token) {
        let n = self.leases.fetch_add(1, SeqCst);
        (format!("{n:032x}").parse().expect("hex"), format!("{n:064x}").parse().expect("hex"))
    }
    fn emit(&self, about: About<'_>, telemetry: Signal<'_>) {
        if let Signal::Answered { hit: Some(served), .. } = telemetry {
            self.download_stats.told.lock().expect("a lock").push((self.now(), served.product(), served.size));
        }
        let hear = self.hear.lock().expect("a lock");
        if let Some(hear) = hear.as_ref() {
            hear(about, telemetry);
        }
    }
}
