//! The promises that are checked at each commit, each redirect and each removal. They are written down here without the help
//! of the code that keeps them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use binplz_core::{
    build::{Build, State, policy::Policy},
    id::{
        key::{Attr, BuildKey, DrvHash, LeaseId, Product, Sha256},
        money::Micros,
        time::Timestamp,
    },
    nixpkgs::{
        pins::{Pins, SETTLING},
        served::Served,
    },
    objects::{
        artifact::{AttemptPrefix, ObjectName},
        inventory::Inventory,
    },
    quota::limits::{Limits, Reservation},
    row::{Row, RowKey},
};
use serde::Deserialize;

use crate::{
    objects::Objects,
    packages::Packages,
    rows::Rows,
    site::{Task, short},
};

/// How long a redirect leads to its object.
const REDIRECT: Duration = Duration::from_secs(15 * 60);

/// Longer than the longest request, and than an index lags.
const LATE: Duration = Duration::from_secs(40);

/// What is wrong, and with which build.
pub(crate) type Wrong = (Option<BuildKey>, String);

/// What the checks remember.
pub(crate) struct Checks {
    policy: Policy,
    packages: Packages,
    /// The live leases, and whose they are.
    live: BTreeMap<LeaseId, BuildKey>,
    ended: BTreeMap<LeaseId, BuildKey>,
    /// Which lease holds a derivation.
    holders: BTreeMap<DrvHash, LeaseId>,
    /// The rows that need an attempt's objects.
    needed: BTreeMap<AttemptPrefix, BTreeSet<RowKey>>,
    /// Until when redirects lead to an object.
    redirects: BTreeMap<String, Timestamp>,
    /// The leases with a reservation.
    reserved: BTreeMap<LeaseId, Reservation>,
    spent: (serde_json::Value, Micros),
    /// How long tasks ran, as the launcher reports it.
    ran: BTreeMap<LeaseId, BTreeSet<Duration>>,
    /// The packages that are taken down, and from when on no request may be answered with them.
    withheld: BTreeMap<Attr, Timestamp>,
    /// Since when they are taken down, until a sweep has marked what late requests wrote.
    taken_down: BTreeMap<Attr, Timestamp>,
    /// When each build that is under way was written last.
    pub(crate) under_way: BTreeMap<BuildKey, Timestamp>,
    wrong: Option<Wrong>,
    /// Builds that became ready, and those that failed for good.
    pub(crate) ready: u64,
    pub(crate) failed: u64,
    pub(crate) attempts: u64,
}

/// The parts of the limits that are checked.
#[derive(Deserialize)]
struct Money {
    reserved: BTreeMap<LeaseId, Reservation>,
    month: serde_json::Value,
    spent: Micros,
}

fn needs(row: &Row) -> Option<AttemptPrefix> {
    match row {
        Row::Build(Build { key, state: State::Ready(made), .. }) => Some(made.prefix(key)),
        Row::Build(build) => {
            build.lease().map(|lease| AttemptPrefix { key: build.key.clone(), lease: lease.id.clone() })
        }
        Row::Served(served) if !served.lost => Some(served.object.prefix()),
        _ => None,
    }
}

impl Checks {
    pub(crate) fn new(policy: Policy, packages: Packages) -> Checks {
        let (live, ended, holders, needed, redirects, reserved) = Default::default();
        let (ran, withheld, taken_down, under_way) = Default::default();
        Checks {
            policy,
            packages,
            live,
            ended,
            holders,
            needed,
            redirects,
            reserved,
            spent: (serde_json::Value::Null, Micros(0)),
            ran,
            withheld,
            taken_down,
            under_way,
            wrong: None,
            ready: 0,
            failed: 0,
            attempts: 0,
        }
    }

    pub(crate) fn violated(&mut self, key: Option<&BuildKey>, what: String) {
        self.wrong.get_or_insert((key.cloned(), what));
    }

    pub(crate) fn is_violated(&self) -> bool {
        self.wrong.is_some()
    }

    /// The first thing that went wrong.
    pub(crate) fn wrong(&self) -> Option<&Wrong> {
        self.wrong.as_ref()
    }

    /// A row was written or removed.
    #[expect(clippy::too_many_arguments, reason = "the whole world is looked at")]
    pub(crate) fn row(
        &mut self,
        key: &RowKey,
        old: Option<&Row>,
        new: Option<&Row>,
        rows: &Rows,
        objects: &Objects,
        tasks: &BTreeMap<LeaseId, Task>,
        now: Timestamp,
    ) {
        for (row, is_new) in old.map(|row| (row, false)).into_iter().chain(new.map(|row| (row, true))) {
            if let Some(prefix) = needs(row) {
                let by = self.needed.entry(prefix.clone()).or_default();
                if is_new {
                    by.insert(key.clone())
                } else {
                    by.remove(key)
                };
                if by.is_empty() {
                    self.needed.remove(&prefix);
                }
            }
        }
        match (old, new) {
            (Some(Row::Build(old)), None) => self.removed(old, rows, now),
            (old, Some(Row::Build(build))) => {
                let old = if let Some(Row::Build(old)) = old { Some(old) } else { None };
                self.build(old, build, objects, now);
            }
            (_, Some(Row::Limits(limits))) => self.limits(limits, tasks, now),
            _ => {}
        }
    }

    fn build(&mut self, old: Option<&Build>, build: &Build, objects: &Objects, now: Timestamp) {
        let key = &build.key;
        match build.is_under_way() {
            true => drop(self.under_way.insert(key.clone(), now)),
            false => drop(self.under_way.remove(key)),
        }
        let (before, after) = (old.and_then(Build::lease), build.lease());
        if before.map(|lease| &lease.id) != after.map(|lease| &lease.id) {
            if let Some(lease) = before {
                self.live.remove(&lease.id);
                self.ended.insert(lease.id.clone(), key.clone());
                self.holders.retain(|_, holder| *holder != lease.id);
            }
            if let Some(lease) = after {
                self.attempts += 1;
                if self.ended.contains_key(&lease.id) || self.live.insert(lease.id.clone(), key.clone()).is_some() {
                    self.violated(Some(key), "a lease lives twice".to_owned());
                }
            }
        }
        if let Some((drv, id)) = after.and_then(|lease| Some((lease.derivation.clone()?, lease.id.clone())))
            && let Some(other) = self.holders.insert(drv.clone(), id.clone()).filter(|other| *other != id)
        {
            let whose = self.live.get(&other).map(ToString::to_string).unwrap_or_default();
            self.violated(Some(key), format!("two live leases hold {drv}: its own, and {whose}'s"));
        }
        let was = |such: fn(&State) -> bool| old.is_some_and(|old| such(&old.state));
        match &build.state {
            State::Ready(made) if old.is_none_or(|old| old.state != build.state) => {
                self.ready += 1;
                self.is_stored(key, &made.prefix(key), objects);
            }
            State::Failed { until: None, .. } if !was(|old| matches!(old, State::Failed { .. })) => self.failed += 1,
            _ => {}
        }
    }

    /// Ready means stored.
    fn is_stored(&mut self, key: &BuildKey, prefix: &AttemptPrefix, objects: &Objects) {
        let manifest = objects.get(&prefix.object(ObjectName::Manifest)).and_then(|object| object.bytes.as_deref());
        let inventory = manifest.and_then(|json| Inventory::from_json(json, &prefix.key.product).ok());
        let Some(inventory) = inventory else {
            return self.violated(Some(key), "it is ready without a manifest".to_owned());
        };
        for entry in inventory.entries() {
            let stored = objects.get(&prefix.object(entry.name.clone()));
            if stored.is_none_or(|stored| stored.content != entry.content) {
                self.violated(Some(key), format!("it is ready, and {} is not stored", entry.name));
            }
        }
    }

    /// Garbage collection has removed the row of a build.
    fn removed(&mut self, old: &Build, rows: &Rows, now: Timestamp) {
        self.under_way.remove(&old.key);
        let pins = rows.get(&RowKey::Pins).and_then(|(row, _)| Pins::try_from(row.clone()).ok());
        let served = pins.is_some_and(|pins| pins.serve(&old.key));
        let forgotten = |until: Timestamp| now >= until + Duration::from_secs(29 * 86_400);
        let gone = matches!(&old.state, State::Failed { until: Some(until), .. } if forgotten(*until));
        if old.is_under_way() || (served && !gone) {
            self.violated(Some(&old.key), "the row of a build is removed that is needed".to_owned());
        }
    }

    /// Slots and money, by the row that holds them.
    fn limits(&mut self, limits: &Limits, tasks: &BTreeMap<LeaseId, Task>, now: Timestamp) {
        let money = serde_json::to_value(limits).and_then(serde_json::from_value::<Money>);
        let Money { reserved, month, spent } = money.expect("the limits' JSON");
        let freed: Vec<_> = self.reserved.iter().filter(|(lease, _)| !reserved.contains_key(lease)).collect();
        let before = if self.spent.0 == month { self.spent.1 } else { Micros(0) };
        let charged = Micros(spent.0.wrapping_sub(before.0));
        let mut wrong = None;
        match freed[..] {
            [] if charged == Micros(0) => {}
            [(lease, held)] => {
                let by_lease = held.over.map(|over| over - held.since);
                let may_be = self.ran.get(lease).into_iter().flatten().copied().chain(by_lease);
                let right = may_be.map(|ran| self.policy.price(held.size, ran).min(held.worst)).collect::<Vec<_>>();
                if !right.contains(&charged) {
                    wrong = Some((
                        self.ended.get(lease).cloned(),
                        format!("lease {} is charged {charged:?}, and its task costs one of {right:?}", short(lease)),
                    ));
                }
            }
            _ => wrong = Some((None, format!("{charged:?} are charged for {} leases", freed.len()))),
        }
        for (lease, _) in freed {
            if let Some(task) = tasks.get(lease) {
                wrong = Some((Some(task.key.clone()), "its slot is free, and its task runs".to_owned()));
            }
        }
        let slots = reserved.values().filter(|held| !held.catalogue).count();
        let sum: u64 = reserved.values().map(|held| held.worst.0).sum();
        if slots > self.policy.slots || reserved.len() > slots + 1 {
            let what = format!("{slots} slots are taken, and {} of catalogues", reserved.len() - slots);
            wrong = Some((None, what));
        }
        // A clock that is ahead begins the month a little earlier.
        let hour = Duration::from_secs(3600);
        let same_month = (now + hour).month() == now.month() && Timestamp(now.0 - 3_600_000).month() == now.month();
        if same_month && limits.budget(&self.policy, now).is_some_and(|budget| spent.0 + sum > budget.0) {
            wrong = Some((None, format!("{spent:?} are spent and {sum} reserved: more than the budget")));
        }
        (self.reserved, self.spent) = (reserved, (month, spent));
        if let Some((key, what)) = wrong {
            self.violated(key.as_ref(), what);
        }
    }

    /// After each commit, exactly the live leases have reservations that are not over.
    pub(crate) fn whole(&mut self, written: &[(RowKey, Option<Row>)]) {
        let reserved = self.reserved.iter().filter(|(_, held)| held.over.is_none()).map(|(lease, _)| lease);
        if !reserved.eq(self.live.keys()) {
            let build = |(key, _): &(RowKey, _)| if let RowKey::Build(key) = key { Some(key.clone()) } else { None };
            let key = written.iter().find_map(build);
            self.violated(key.as_ref(), "the live leases and the reservations are not the same".to_owned());
        }
    }

    /// The money that is spent and reserved.
    pub(crate) fn money(&self) -> (Micros, Micros) {
        (self.spent.1, Micros(self.reserved.values().map(|held| held.worst.0).sum()))
    }

    /// Whether no slot is taken.
    pub(crate) fn reserves_nothing(&self) -> bool {
        self.reserved.is_empty()
    }

    /// A package is taken down.
    pub(crate) fn takes_down(&mut self, attr: &Attr, now: Timestamp) {
        self.taken_down.insert(attr.clone(), now);
    }

    /// Its takedown ends.
    pub(crate) fn restores(&mut self, attr: &Attr) {
        self.taken_down.remove(attr);
        self.withheld.remove(attr);
    }

    /// A whole sweep was made. If that was after the last late request and within the time in which sweeps mark, a takedown
    /// holds from then on.
    pub(crate) fn swept(&mut self, began: Timestamp, ended: Timestamp) {
        for (attr, since) in &self.taken_down {
            if began > *since + LATE && began - *since < SETTLING * 9 / 10 {
                self.withheld.entry(attr.clone()).or_insert(ended + LATE);
            }
        }
    }

    /// Whether sweeps still mark what late requests write.
    pub(crate) fn is_settling(&self, now: Timestamp) -> bool {
        self.taken_down.values().any(|since| now - *since < SETTLING)
    }

    /// The launcher reports how long a task ran.
    pub(crate) fn ran(&mut self, lease: &LeaseId, time: Duration) {
        self.ran.entry(lease.clone()).or_default().insert(time);
    }

    /// A task is started.
    pub(crate) fn launches(&mut self, key: &BuildKey, lease: &LeaseId) {
        if !self.reserved.contains_key(lease) {
            self.violated(Some(key), "a task is started without a slot and money".to_owned());
        }
    }

    /// A request that began at `asked` is redirected.
    pub(crate) fn redirects(&mut self, served: &Served, asked: Timestamp, objects: &Objects, now: Timestamp) {
        let key = served.key();
        if objects.get(&served.object).is_none_or(|object| object.content != served.content()) {
            self.violated(Some(&key), format!("a redirect leads to {}, which is not there", served.object));
        }
        if self.withheld.get(&served.attr).is_some_and(|from| asked >= *from) {
            self.violated(Some(&key), "a package that is taken down is served".to_owned());
        }
        if let Product::Package(attr) = &key.product
            && let Some(package) = self.packages.of(attr)
            && self.packages.program(&self.packages.drv(package, &key.rev)) != served.content()
        {
            self.violated(Some(&key), "a redirect leads to another program".to_owned());
        }
        self.redirects.insert(served.object.location(), now + REDIRECT);
    }

    /// An object is removed.
    pub(crate) fn removes(&mut self, location: &str, key: &BuildKey, now: Timestamp) {
        if self.redirects.get(location).is_some_and(|until| now < *until) {
            self.violated(Some(key), format!("{location} is removed, and a redirect leads to it"));
        }
    }

    /// The objects of an attempt are removed.
    pub(crate) fn removes_prefix(&mut self, prefix: &AttemptPrefix) {
        if let Some(by) = self.needed.get(prefix) {
            let by = by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            self.violated(Some(&prefix.key), format!("the objects of {prefix} are removed, and needed by {by}"));
        }
    }

    /// A blob is removed, which these attempts keep.
    pub(crate) fn removes_blob(&mut self, sha256: &Sha256, keepers: &[AttemptPrefix], now: Timestamp) {
        if let Some(keeper) = keepers.iter().find(|keeper| self.needed.contains_key(keeper)) {
            self.violated(Some(&keeper.key), format!("the blob {sha256} is removed, and {keeper} needs it"));
        }
        let location = binplz_core::objects::artifact::blob_path(sha256);
        if self.redirects.get(&location).is_some_and(|until| now < *until) {
            self.violated(None, format!("{location} is removed, and a redirect leads to it"));
        }
    }
}
