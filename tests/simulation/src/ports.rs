//! The ports of a process: calls that take time and go wrong.

use std::{ops::Range, time::Duration};

use binplz_catalogue::Open;
use binplz_core::{
    billing::traffic::{Asked, Traffic},
    build::{
        Lease,
        policy::Policy,
        protocol::{PresignedUpload, Progress},
    },
    id::{
        key::{Bin, BuildKey, LeaseId, Rev, Sha256, StoreHash, System, Token},
        time::Timestamp,
    },
    nixpkgs::{
        pins::{Pinned, Pins},
        served::ServedKey,
    },
    objects::{
        artifact::{AttemptPrefix, CacheName, ObjectName, ObjectPath},
        stored::{Cached, Fingerprint, Held, HeldBlob, KeptNixpkgs, KeptPrograms, Location, Method},
    },
    ports::{
        Bell, Collect, Cursor, Deployment, DownloadStats, HasBell, HasCatalogues, HasDownloadStats, HasLauncher,
        HasLedger, HasStore, Inspect, Intake, Launcher, Ledger, NotCommitted, NotLaunched, Read, Scanned, Store,
        Unavailable, Unreadable,
    },
    row::{Listed, Row, RowKey, StatusIndex, Swap, Version},
    telemetry::{About, Signal},
    trust::head::LogName,
};

use crate::{
    Sabotage,
    objects::Object,
    site::{Process, Role, State, Subject, Task, Weather},
};

/// How long a read that is not consistent may miss a commit, and an index a row.
const LAG: Duration = Duration::from_secs(2);

impl Ledger for Process {
    async fn load(&self, key: &RowKey, read: Read) -> Result<Option<(Row, Version)>, Unavailable> {
        self.call(Role::Ledger, false, Subject::Rows(std::slice::from_ref(key)), |state, now| {
            let careless = state.sabotage == Some(Sabotage::ReadsLate);
            let eventual = read == Read::Eventual && state.weather != Weather::Calm;
            let late = (eventual || careless) && state.random.below(3) == 0;
            if let Some(meter) = &mut state.meter {
                meter.reads(self.name, key, read == Read::Consistent, now);
            }
            let since = Timestamp(now.0.saturating_sub(state.random.below(LAG.as_millis() as usize) as u64));
            Ok(if late { state.rows.earlier(key, since) } else { state.rows.get(key).cloned() })
        })
        .await
    }
    async fn commit(&self, swaps: Vec<Swap>) -> Result<(), NotCommitted> {
        let keys: Vec<_> = swaps.iter().map(|swap| swap.row.key()).collect();
        self.call(Role::Ledger, true, Subject::Rows(&keys), |state, now| {
            let before: Vec<_> = keys.iter().map(|key| (key.clone(), state.row(key))).collect();
            let seen_at = state.seen_at(now);
            let committed = state.rows.commit(&swaps, now, seen_at);
            if let Some(meter) = &mut state.meter {
                meter.writes(self.name, &swaps, &before, committed.is_ok(), now);
            }
            committed?;
            state.committed(self.name, &before, now);
            Ok(())
        })
        .await
    }
    async fn list(&self, index: StatusIndex, after: Option<&Listed>, limit: usize) -> Result<Vec<Listed>, Unavailable> {
        self.call(Role::Ledger, false, Subject::Other("an index"), |state, now| {
            state.rows.catch_up(now);
            let listed = state.rows.list(index, after, limit);
            if let Some(meter) = &mut state.meter {
                meter.lists(self.name, Some(index), listed.len(), now);
            }
            Ok(listed)
        })
        .await
    }
    async fn latest(&self, index: StatusIndex, limit: usize) -> Result<Vec<Listed>, Unavailable> {
        self.call(Role::Ledger, false, Subject::Other("an index"), |state, now| {
            state.rows.catch_up(now);
            let listed = state.rows.latest(index, limit);
            if let Some(meter) = &mut state.meter {
                meter.lists(self.name, Some(index), listed.len(), now);
            }
            Ok(listed)
        })
        .await
    }
    async fn list_served(
        &self,
        pinned: &Pinned,
        after: Option<&ServedKey>,
        limit: usize,
    ) -> Result<Vec<ServedKey>, Unavailable> {
        self.call(Role::Ledger, false, Subject::Other("the index of served rows"), |state, now| {
            state.rows.catch_up(now);
            let blind = state.sabotage == Some(Sabotage::ListsNothingServed);
            let listed = if blind { Vec::new() } else { state.rows.list_served(pinned, after, limit) };
            if let Some(meter) = &mut state.meter {
                meter.lists(self.name, None, listed.len(), now);
            }
            Ok(listed)
        })
        .await
    }
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Scanned, Unavailable> {
        self.call(Role::Ledger, false, Subject::Other("all rows"), |state, _| {
            let page = state.rows.scan(after, limit)?;
            if let Some(meter) = &mut state.meter {
                meter.scans(self.name, page.rows.iter().map(|(row, _)| row.key()));
            }
            Ok(page)
        })
        .await
    }
    async fn remove(&self, key: &RowKey, seen: Version) -> Result<(), NotCommitted> {
        self.call(Role::Ledger, true, Subject::Rows(std::slice::from_ref(key)), |state, now| {
            let before = [(key.clone(), state.row(key))];
            let seen_at = state.seen_at(now);
            state.rows.remove(key, seen, now, seen_at)?;
            state.committed(self.name, &before, now);
            Ok(())
        })
        .await
    }
    async fn put_progress(&self, lease: &LeaseId, progress: &Progress) -> Result<(), Unavailable> {
        let progress = Some(progress.clone());
        self.call(Role::Ledger, true, Subject::Lease(lease), |state, _| {
            if let Some(meter) = &mut state.meter {
                meter.of(self.name).writes += 1;
            }
            state.rows.put_progress(lease, progress);
            Ok(())
        })
        .await
    }
    async fn progress(&self, lease: &LeaseId) -> Result<Option<Progress>, Unavailable> {
        self.call(Role::Ledger, false, Subject::Lease(lease), |state, _| {
            if let Some(meter) = &mut state.meter {
                meter.of(self.name).half_reads += 1;
            }
            Ok(state.rows.progress(lease))
        })
        .await
    }
    async fn remove_progress(&self, lease: &LeaseId) -> Result<(), Unavailable> {
        self.call(Role::Ledger, true, Subject::Lease(lease), |state, _| {
            state.rows.put_progress(lease, None);
            Ok(())
        })
        .await
    }
}

impl State {
    fn row(&self, key: &RowKey) -> Option<Row> {
        self.rows.get(key).map(|(row, _)| row.clone())
    }

    fn seen_at(&mut self, now: Timestamp) -> Timestamp {
        match self.weather {
            Weather::Calm => now,
            _ => now + Duration::from_millis(self.random.below(LAG.as_millis() as usize) as u64),
        }
    }

    /// Removes objects of an attempt, of which no redirect may lead to one.
    fn remove_objects(&mut self, prefix: &AttemptPrefix, such: impl Fn(&ObjectName) -> bool, now: Timestamp) {
        for name in self.objects.names(prefix).filter(|name| such(name)) {
            self.checks.removes(&prefix.object(name.clone()).location(), &prefix.key, now);
        }
        self.objects.remove(prefix, such);
    }
}

impl Store for Process {
    async fn url(&self, path: &ObjectPath, _name: &Bin, _method: Method) -> Result<Location, Unavailable> {
        // A URL is signed without a call.
        Ok(Location::Store(path.location()))
    }
    async fn read(&self, path: &ObjectPath) -> Result<Option<Vec<u8>>, Unavailable> {
        let read = |state: &mut State, _| Ok(state.objects.get(path).and_then(|object| object.bytes.clone()));
        self.call(Role::Store, false, Subject::Object(path), read).await
    }
    async fn log_object(&self, _name: &LogName) -> Result<Option<Vec<u8>>, Unavailable> {
        Ok(None)
    }
    async fn part(&self, path: &ObjectPath, range: Range<u64>) -> Result<Option<Vec<u8>>, Unavailable> {
        let range = range.start as usize..range.end as usize;
        let bytes = self.read(path).await?;
        Ok(bytes.and_then(|bytes| bytes.get(range).map(<[u8]>::to_vec)))
    }
}

impl Inspect for Process {
    async fn size(&self, path: &ObjectPath) -> Result<Option<u64>, Unavailable> {
        Ok(self.digest(path).await?.map(|found| found.size))
    }
    async fn digest(&self, path: &ObjectPath) -> Result<Option<Fingerprint>, Unavailable> {
        self.call(Role::Store, false, Subject::Object(path), |state, _| Ok(state.objects.fingerprint(path))).await
    }
}

impl Intake for Process {
    async fn grant(&self, path: &ObjectPath, size: u64, sha256: &Sha256) -> Result<PresignedUpload, Unavailable> {
        let url = format!("{path}?{size}&{sha256}");
        Ok(PresignedUpload { url, headers: Vec::new(), stored: false })
    }
    async fn programs(&self, _sha256: &Sha256) -> Result<String, Unavailable> {
        Err(Unavailable::new("store", "there are no databases"))
    }
    async fn source(&self, path: &ObjectPath) -> Result<String, Unavailable> {
        Ok(path.to_string())
    }
    async fn write(&self, path: &ObjectPath, content: Vec<u8>) -> Result<(), Unavailable> {
        self.call(Role::Store, true, Subject::Object(path), |state, _| {
            if state.sabotage != Some(Sabotage::LosesManifests) || path.name != ObjectName::Manifest {
                state.objects.put(path, Object::of(content));
            }
            Ok(())
        })
        .await
    }
    async fn remove_segments(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        let segment = |name: &ObjectName| matches!(name, ObjectName::Log(_));
        self.call(Role::Store, true, Subject::Attempt(prefix), |state, now| {
            state.remove_objects(prefix, segment, now);
            Ok(())
        })
        .await
    }
    async fn remove_partial(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        let partial = |name: &ObjectName| {
            matches!(name, ObjectName::Checkpoint(_) | ObjectName::PartialLookup | ObjectName::PartialDetails)
        };
        self.call(Role::Store, true, Subject::Attempt(prefix), |state, now| {
            state.remove_objects(prefix, partial, now);
            Ok(())
        })
        .await
    }
    async fn offered_bytes(&self, _prefix: &AttemptPrefix) -> Result<u64, Unavailable> {
        Ok(0)
    }
    async fn offered_paths(&self, _prefix: &AttemptPrefix) -> Result<Vec<StoreHash>, Unavailable> {
        Ok(Vec::new())
    }
}

impl Collect for Process {
    async fn prefixes(&self, after: Option<&AttemptPrefix>, limit: usize) -> Result<Vec<Held>, Unavailable> {
        self.call(Role::Store, false, Subject::Other("all attempts"), |state, _| {
            Ok(state.objects.prefixes(after, limit))
        })
        .await
    }
    async fn blobs(&self, after: Option<&Sha256>, limit: usize) -> Result<Vec<HeldBlob>, Unavailable> {
        self.call(Role::Store, false, Subject::Other("all blobs"), |state, _| Ok(state.objects.blobs(after, limit)))
            .await
    }
    async fn remove_blob(&self, sha256: &Sha256) -> Result<(), Unavailable> {
        self.call(Role::Store, true, Subject::Other("a blob"), |state, now| {
            state.checks.removes_blob(sha256, state.objects.keepers(sha256), now);
            state.objects.remove_blob(sha256);
            Ok(())
        })
        .await
    }
    async fn remove_prefix(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        self.call(Role::Store, true, Subject::Attempt(prefix), |state, now| {
            state.checks.removes_prefix(prefix);
            state.remove_objects(prefix, |_| true, now);
            Ok(())
        })
        .await
    }
    async fn kept_nixpkgs(&self) -> Result<Vec<KeptNixpkgs>, Unavailable> {
        Ok(Vec::new())
    }
    async fn remove_nixpkgs(&self, _rev: &Rev) -> Result<(), Unavailable> {
        Ok(())
    }
    async fn kept_programs(&self) -> Result<Vec<KeptPrograms>, Unavailable> {
        Ok(Vec::new())
    }
    async fn remove_programs(&self, _sha256: &Sha256) -> Result<(), Unavailable> {
        Ok(())
    }
    async fn cached(&self) -> Result<Vec<Cached>, Unavailable> {
        Ok(Vec::new())
    }
    async fn remove_cached(&self, _name: &CacheName) -> Result<(), Unavailable> {
        Ok(())
    }
    async fn in_quarantine(&self) -> Result<u64, Unavailable> {
        Ok(0)
    }
}

impl Launcher for Process {
    async fn launch(&self, key: &BuildKey, lease: &Lease) -> Result<String, NotLaunched> {
        let launched = self
            .call(Role::Launcher, true, Subject::Lease(&lease.id), |state, now| {
                let forgets = state.sabotage == Some(Sabotage::LaunchesTwice);
                if let Some(task) = state.known.get(&lease.id).filter(|_| !forgets) {
                    return Ok(task.clone());
                }
                let refusal = match state.random.below(if state.weather == Weather::Calm { 1 } else { 60 }) {
                    1 if !lease.is_on_demand() => Some("Capacity is unavailable at this time"),
                    2 => Some("You've reached the limit on the number of vCPUs you can run concurrently"),
                    _ => None,
                };
                if let Some(why) = refusal {
                    state.note(now, Some(key), "its task is refused");
                    state.checks.ran(&lease.id, Duration::ZERO);
                    return Err(NotLaunched::Refused(why.to_owned()));
                }
                state.launch(key, lease, now);
                Ok(state.known[&lease.id].clone())
            })
            .await;
        self.site.launched.notify_one();
        launched
    }
    async fn stop(&self, lease: &LeaseId, _task: Option<&str>) -> Result<(), Unavailable> {
        self.call(Role::Launcher, true, Subject::Lease(lease), |state, _| {
            if let Some(task) = state.tasks.get(lease) {
                task.stop.notify_one();
            }
            Ok(())
        })
        .await
    }
    async fn running(&self) -> Result<Vec<LeaseId>, Unavailable> {
        self.call(Role::Launcher, false, Subject::Other("all tasks"), |state, _| {
            Ok(state.tasks.keys().cloned().collect())
        })
        .await
    }
    async fn left(&self, prefix: &AttemptPrefix) -> Result<Option<u64>, Unavailable> {
        self.call(Role::Store, false, Subject::Attempt(prefix), |state, _| Ok(Some(state.objects.left(prefix)))).await
    }
}

impl State {
    fn launch(&mut self, key: &BuildKey, lease: &Lease, now: Timestamp) {
        let twice = self.known.insert(lease.id.clone(), format!("task of {}", lease.id)).is_some();
        if twice || self.tasks.contains_key(&lease.id) {
            self.violated(now, Some(key), "a second task is started for a lease");
        }
        match &mut self.meter {
            Some(meter) => drop(meter.started.entry(key.clone()).or_insert(now)),
            None => self.checks.launches(key, &lease.id),
        }
        self.note(now, Some(key), "its task is started");
        self.tasks.insert(lease.id.clone(), Task { key: key.clone(), stop: std::sync::Arc::default() });
        self.launched.push_back((key.clone(), lease.clone()));
    }
}

impl Bell for Process {
    async fn ring(&self) -> Result<(), Unavailable> {
        let rung = self
            .call(Role::Bell, true, Subject::Other("a ring"), |state, _| {
                let lost = state.weather != Weather::Calm && state.random.below(30) == 0;
                Ok(!lost && state.sabotage != Some(Sabotage::LosesRings))
            })
            .await?;
        if rung {
            self.site.rung.notify_one();
        }
        Ok(())
    }
}

impl DownloadStats for Process {
    async fn top(&self, _since: Timestamp, _most: usize) -> Result<Vec<Asked>, Unavailable> {
        Ok(Vec::new())
    }
    async fn served(&self, since: Timestamp) -> Result<Traffic, Unavailable> {
        let of_day = |state: &mut State, _| Ok(state.served.get(&since.day().0).copied().unwrap_or_default());
        self.call(Role::Ledger, false, Subject::Other("the downloads"), of_day).await.map(Traffic::hit)
    }
}

impl HasLedger for Process {
    type Ledger = Process;
    fn ledger(&self) -> &Process {
        self
    }
}
impl HasStore for Process {
    type Store = Process;
    fn store(&self) -> &Process {
        self
    }
}
impl HasBell for Process {
    type Bell = Process;
    fn bell(&self) -> &Process {
        self
    }
}
impl HasLauncher for Process {
    type Launcher = Process;
    fn launcher(&self) -> &Process {
        self
    }
}
impl HasDownloadStats for Process {
    type DownloadStats = Process;
    fn download_stats(&self) -> &Process {
        self
    }
}

impl HasCatalogues for Process {
    type Catalogue = Open;
    async fn catalogue(&self, lookup: &ObjectPath) -> Result<Result<Open, Unreadable>, Unavailable> {
        let bad = |why| self.warn(About::Build(&lookup.key), "a catalogue is not read", &why);
        self.site.catalogues.get(self, lookup, bad).await
    }
}

impl Deployment for Process {
    fn policy(&self) -> &Policy {
        &self.site.policy
    }
    fn first_pins(&self) -> &Pins {
        &self.site.first_pins
    }
    fn system(&self) -> System {
        System::X86_64Linux
    }
    fn origin(&self) -> &'static str {
        "https://binplz.example"
    }
    fn now(&self) -> Timestamp {
        Timestamp(self.site.now().0.saturating_add_signed(self.ahead))
    }
    fn new_lease(&self) -> (LeaseId, Token) {
        let n = self.site.state().new_lease();
        (format!("{n:032x}").parse().expect("hex"), format!("{n:064x}").parse().expect("hex"))
    }
    fn emit(&self, about: About<'_>, signal: Signal<'_>) {
        if let Signal::Trouble { what, error } = signal {
            let now = self.site.now();
            self.site.state().note(now, about.key(), format_args!("{}: {what}: {error}", self.name));
        }
    }
}
