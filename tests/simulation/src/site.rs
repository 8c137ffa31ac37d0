//! The deployment in memory: its clock is virtual, and each call of a port takes its time and may go wrong.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    future::pending,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use binplz_catalogue::Opened;
use binplz_core::{
    build::{Lease, policy::Policy},
    id::{
        key::{BuildKey, LeaseId},
        time::Timestamp,
    },
    nixpkgs::pins::Pins,
    objects::artifact::{AttemptPrefix, ObjectPath},
    ports::Unavailable,
    row::{Row, RowKey},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use crate::random::Random;
use crate::{
    Month, Sabotage, checks::Checks, meter::Meter, objects::Objects, packages::Packages, rows::Rows, trace::Trace,
};

/// The roles that a call may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// DynamoDB.
    Ledger,
    /// S3.
    Store,
    /// ECS.
    Launcher,
    /// SQS.
    Bell,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Ledger => "ledger",
            Role::Store => "store",
            Role::Launcher => "launcher",
            Role::Bell => "bell",
        }
    }

    /// The milliseconds that a call takes: at least, and how many more at most.
    fn latency(self) -> (u64, usize) {
        match self {
            Role::Ledger => (4, 12),
            Role::Store => (15, 50),
            Role::Launcher => (200, 800),
            Role::Bell => (8, 15),
        }
    }
}

/// How often calls go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Never.
    Calm,
    /// One in some hundred.
    Usual,
    /// And of this role, a quarter is refused.
    Storm(Role),
}

/// What a call is about.
#[derive(Clone, Copy, Hash)]
pub(crate) enum Subject<'a> {
    /// Rows.
    Rows(&'a [RowKey]),
    /// An object.
    Object(&'a ObjectPath),
    /// An attempt's objects.
    Attempt(&'a AttemptPrefix),
    /// A lease.
    Lease(&'a LeaseId),
    /// Anything else.
    Other(&'static str),
}

impl Subject<'_> {
    fn build(self) -> Option<BuildKey> {
        match self {
            Subject::Rows(keys) => {
                keys.iter().find_map(|key| if let RowKey::Build(key) = key { Some(key.clone()) } else { None })
            }
            Subject::Object(path) => Some(path.key.clone()),
            Subject::Attempt(prefix) => Some(prefix.key.clone()),
            Subject::Lease(_) | Subject::Other(_) => None,
        }
    }
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Rows(keys) => f.write_str(&keys.iter().map(kind).collect::<Vec<_>>().join(", ")),
            Subject::Object(path) => path.name.fmt(f),
            Subject::Attempt(prefix) => write!(f, "the objects of {}", short(&prefix.lease)),
            Subject::Lease(lease) => f.write_str(short(lease)),
            Subject::Other(text) => f.write_str(text),
        }
    }
}

/// A row's kind, with what tells it from others of its kind.
fn kind(key: &RowKey) -> String {
    let text = key.to_string();
    let (kind, rest) = text.split_once('/').unwrap_or((&text, ""));
    format!("{kind} {}", rest.rsplit('/').next().unwrap_or_default())
}

/// A lease without its zeros.
pub(crate) fn short(lease: &LeaseId) -> &str {
    lease.as_str().trim_start_matches('0')
}

/// How often the SDK tries a call that is throttled (its standard mode), with a random pause of up to 1 s, then 2 s.
const SDK_ATTEMPTS: u32 = 3;
/// How much longer one in fifty calls takes, where calls are counted.
const SLOW: u64 = 10;

/// What goes wrong with a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Fault {
    None,
    Refused,
    ReplyLost,
    DiesBefore,
    DiesAfter,
}

/// A task of the launcher.
pub(crate) struct Task {
    /// Its build.
    pub(crate) key: BuildKey,
    /// It was told to stop.
    pub(crate) stop: Arc<Notify>,
}

/// All that changes.
pub(crate) struct State {
    pub(crate) rows: Rows,
    pub(crate) objects: Objects,
    /// The tasks that have not ended.
    pub(crate) tasks: BTreeMap<LeaseId, Task>,
    /// Those to be started.
    pub(crate) launched: VecDeque<(BuildKey, Lease)>,
    /// Every lease that was launched.
    pub(crate) known: BTreeMap<LeaseId, String>,
    pub(crate) random: Random,
    pub(crate) trace: Trace,
    pub(crate) checks: Checks,
    pub(crate) weather: Weather,
    /// Bytes served, by day.
    pub(crate) served: BTreeMap<u64, u64>,
    /// Requests that were answered, and redirects among the answers.
    pub(crate) answered: u64,
    pub(crate) hits: u64,
    pub(crate) sabotage: Option<Sabotage>,
    /// What calls use, where that is counted ([`crate::scale`]). Then the promises are not checked: months do that.
    pub(crate) meter: Option<Meter>,
    hasher: DefaultHasher,
    pub(crate) calls: u64,
    pub(crate) faults: u64,
    processes: u64,
    leases: u64,
}

/// The deployment.
pub(crate) struct Site {
    began: Instant,
    pub(crate) policy: Policy,
    pub(crate) first_pins: Pins,
    pub(crate) packages: Packages,
    pub(crate) catalogues: Opened,
    state: Mutex<State>,
    /// A ring that was not lost.
    pub(crate) rung: Notify,
    /// A task was launched.
    pub(crate) launched: Notify,
    /// Something is wrong.
    pub(crate) wrong: Notify,
}

/// 2027-01-15 08:00 UTC: a month from then on has the end of another.
const BEGAN: u64 = 1_800_000_000_000;

impl Site {
    pub(crate) fn new(seed: u64, month: &Month, policy: Policy, first_pins: Pins, sabotage: Option<Sabotage>) -> Site {
        let mut rows = Rows::default();
        rows.forgets_other_versions = sabotage == Some(Sabotage::ForgetsOtherVersions);
        rows.tears = sabotage == Some(Sabotage::TearsCommits);
        let packages = month.packages;
        let state = State {
            rows,
            objects: Objects::default(),
            tasks: BTreeMap::new(),
            launched: VecDeque::new(),
            known: BTreeMap::new(),
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d),
            trace: Trace::default(),
            checks: Checks::new(policy.clone(), packages),
            weather: Weather::Usual,
            served: BTreeMap::new(),
            answered: 0,
            hits: 0,
            sabotage,
            meter: None,
            hasher: DefaultHasher::new(),
            calls: 0,
            faults: 0,
            processes: 0,
            leases: 0,
        };
        Site {
            began: Instant::now(),
            policy,
            first_pins,
            packages,
            catalogues: Opened::default(),
            state: Mutex::new(state),
            rung: Notify::new(),
            launched: Notify::new(),
            wrong: Notify::new(),
        }
    }

    /// The true time.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(BEGAN) + self.began.elapsed()
    }

    /// The state, for an instant.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }

    /// One of those below `most`.
    pub(crate) fn below(&self, most: usize) -> usize {
        self.state().random.below(most)
    }

    /// Whether something happens that happens to one of so many.
    pub(crate) fn one_in(&self, many: usize) -> bool {
        self.below(many) == 0
    }

    /// A time around that one.
    pub(crate) fn around(&self, time: Duration) -> Duration {
        time.mul_f64((self.below(1000) + 500) as f64 / 1000.0)
    }

    /// Notes an event of a build.
    pub(crate) fn note(&self, key: &BuildKey, what: impl fmt::Display) {
        let now = self.now();
        self.state().note(now, Some(key), what);
    }

    /// A promise is not kept.
    pub(crate) fn violated(&self, key: Option<&BuildKey>, what: impl fmt::Display) {
        let now = self.now();
        self.state().violated(now, key, what);
        self.wrong.notify_one();
    }

    /// A new process.
    pub(crate) fn process(self: &Arc<Site>, name: &'static str) -> Process {
        let mut state = self.state();
        state.processes += 1;
        // Calm weather does not mend clocks. A tenth of them are off by up to two seconds, some by up to half a minute.
        let off = match state.random.below(100) {
            0 => 30_000,
            1..10 => 2000,
            _ => 1,
        };
        let off = if state.meter.is_some() { 1 } else { off };
        let ahead = state.random.below(2 * off) as i64 - off as i64;
        let number = state.processes;
        drop(state);
        Process { site: Arc::clone(self), name, number, ahead, died: Arc::default() }
    }
}

impl State {
    pub(crate) fn note(&mut self, now: Timestamp, key: Option<&BuildKey>, what: impl fmt::Display) {
        self.trace.note(now, key, what.to_string(), &mut self.hasher);
    }

    pub(crate) fn violated(&mut self, now: Timestamp, key: Option<&BuildKey>, what: impl fmt::Display) {
        self.checks.violated(key, what.to_string());
        self.note(now, key, format_args!("WRONG: {what}"));
    }

    /// The fingerprint of all that has happened.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.hasher.finish()
    }

    pub(crate) fn new_lease(&mut self) -> u64 {
        self.leases += 1;
        self.leases
    }

    fn fault(&mut self, role: Role, write: bool) -> Fault {
        let dice = match self.weather {
            Weather::Calm => return Fault::None,
            Weather::Storm(of) if of == role && self.random.below(4) == 0 => return Fault::Refused,
            Weather::Usual | Weather::Storm(_) => self.random.below(1500),
        };
        match dice {
            0..6 => Fault::Refused,
            6..10 if write => Fault::ReplyLost,
            10..12 => Fault::DiesBefore,
            12..14 if write => Fault::DiesAfter,
            _ => Fault::None,
        }
    }
}

/// One run of a function, or one request: it has its own clock, and may die at any call.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) site: Arc<Site>,
    pub(crate) name: &'static str,
    number: u64,
    /// Milliseconds that its clock is ahead of the true time.
    pub(crate) ahead: i64,
    died: Arc<Notify>,
}

impl Process {
    /// What a flow returns, unless its process dies, or takes longer than it may.
    pub(crate) async fn run<T>(&self, most: Duration, flow: impl Future<Output = T>) -> Option<T> {
        let began = Instant::now();
        let done = tokio::select! {
            biased;
            done = flow => Some(done),
            () = self.died.notified() => None,
            () = sleep(most) => None,
        };
        if let Some(meter) = &mut self.site.state().meter {
            meter.ran(self.name, began.elapsed(), done.is_none());
        }
        done
    }

    /// Waits as the SDK does while a partition throttles a call. False: it gives up.
    async fn is_admitted(&self, subject: Subject<'_>, write: bool) -> bool {
        let Subject::Rows(keys) = subject else { return true };
        for attempt in 1..=SDK_ATTEMPTS {
            let pause = {
                let (now, mut state) = (self.site.now(), self.site.state());
                let Some(meter) = &mut state.meter else { return true };
                if !meter.is_throttled(keys, write, now) {
                    return true;
                }
                meter.of(self.name).throttled += 1;
                (state.random.below(1000) as u64) << (attempt - 1)
            };
            if attempt < SDK_ATTEMPTS {
                sleep(Duration::from_millis(pause)).await;
            }
        }
        false
    }

    /// A call of a port: after its latency it happens at one instant, unless something goes wrong.
    pub(crate) async fn call<T, E: From<Unavailable>>(
        &self,
        role: Role,
        write: bool,
        subject: Subject<'_>,
        act: impl FnOnce(&mut State, Timestamp) -> Result<T, E>,
    ) -> Result<T, E> {
        let (fault, latency) = {
            let mut state = self.site.state();
            let (least, more) = role.latency();
            let mut latency = least + state.random.below(more) as u64;
            if state.meter.is_some() && state.random.below(50) == 0 {
                latency *= SLOW;
            }
            // Some take longer, so that others come between.
            if state.weather != Weather::Calm {
                latency += match state.random.below(600) {
                    0 => 3000 + state.random.below(12_000) as u64,
                    1..50 => state.random.below(2000) as u64,
                    _ => 0,
                };
            }
            (state.fault(role, write), latency)
        };
        sleep(Duration::from_millis(latency)).await;
        let lost = |cause| Err(Unavailable::new(role.name(), cause).into());
        if !self.is_admitted(subject, write).await {
            return lost("throttled");
        }
        let now = self.site.now();
        let result = {
            let mut state = self.site.state();
            state.calls += 1;
            if let Some(meter) = &mut state.meter {
                meter.calls(self.name, role, write);
            }
            (now, self.number, role, fault).hash(&mut state.hasher);
            subject.hash(&mut state.hasher);
            if fault != Fault::None {
                state.faults += 1;
                let what = match fault {
                    Fault::Refused => "is refused",
                    Fault::ReplyLost => "happens, and its reply is lost",
                    Fault::DiesBefore => "does not happen: its process dies before",
                    Fault::DiesAfter | Fault::None => "happens, and then its process dies",
                };
                let text = format!("{}: a call of the {} ({subject}) {what}", self.name, role.name());
                state.note(now, subject.build().as_ref(), text);
            }
            match fault {
                Fault::Refused => lost("throttled"),
                Fault::DiesBefore => lost("the process is dead"),
                Fault::None | Fault::ReplyLost | Fault::DiesAfter => act(&mut state, now),
            }
        };
        if self.site.state().checks.is_violated() {
            self.site.wrong.notify_one();
        }
        match fault {
            Fault::ReplyLost if result.is_ok() => lost("the reply was lost"),
            Fault::DiesBefore | Fault::DiesAfter => {
                self.died.notify_one();
                pending().await
            }
            _ => result,
        }
    }
}

impl State {
    /// Checks what a commit has written, and notes the builds among it.
    pub(crate) fn committed(&mut self, by: &str, before: &[(RowKey, Option<Row>)], now: Timestamp) {
        if self.meter.is_some() {
            return;
        }
        for (key, old) in before {
            let new = self.rows.get(key).map(|(row, _)| row.clone());
            if let (RowKey::Build(key), Some(Row::Build(build))) = (key, &new) {
                let same = matches!(old, Some(Row::Build(old)) if old.state == build.state);
                if !same {
                    let text = format!("{by}: {}", crate::trace::told(build, now));
                    self.note(now, Some(key), text);
                }
            }
            self.checks.row(key, old.as_ref(), new.as_ref(), &self.rows, &self.objects, &self.tasks, now);
        }
        self.checks.whole(before);
    }
}
