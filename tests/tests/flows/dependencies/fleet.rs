//! Forty packages over a shared graph of twelve slow dependencies, all requested at once with an empty cache and four slots. The
//! builders are played, with a clock that jumps from event to event; who builds what is decided by the service.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use binplz_core::{
    build::{State, policy::Policy, protocol::DependencyTurn},
    flow::{
        lease::job::{Bearer, heartbeat},
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    id::{key::LeaseId, time::Timestamp},
    ports::Deployment,
};
use binplz_tests::{
    random::Random,
    world::{World, ask},
};

use super::{drv, evaluated, makes, turn, waits};

/// What each of the dependencies 1 to 12 needs.
const NEEDS: [&[usize]; 12] = [&[], &[1], &[1], &[2, 3], &[4], &[4], &[4], &[5], &[6, 7], &[8], &[9], &[10, 11]];
const PACKAGES: usize = 40;
const SLOTS: usize = 4;
/// From the launch of a task to its first request.
const START: Duration = Duration::from_secs(20);
const DEPENDENCY: Duration = Duration::from_secs(600);
const PACKAGE: Duration = Duration::from_secs(60);
/// As the builder has it.
const PATIENCE: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_secs(15);
const HEARTBEAT: Duration = Duration::from_secs(120);

/// All that a package needs, dependencies first.
fn plan(package: usize) -> Vec<usize> {
    let mut needed = BTreeSet::from([4 + package % 9]);
    while let Some(more) = needed.iter().flat_map(|n| NEEDS[n - 1]).find(|need| !needed.contains(need)) {
        needed.insert(*more);
    }
    // Each needs only lower ones.
    needed.into_iter().collect()
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Doing {
    Starting,
    Asking,
    Building(usize),
    Finishing,
}

struct Task {
    package: usize,
    bearer: Option<Bearer>,
    began: Timestamp,
    /// When it began what it is doing, and when that is done.
    since: Timestamp,
    next: Timestamp,
    doing: Doing,
    waited: Duration,
    useful: bool,
}

struct Fleet {
    w: Arc<World>,
    /// How often the doorbell had rung when a dispatcher ran last.
    rung: usize,
    swept: Timestamp,
    tasks: BTreeMap<LeaseId, Task>,
    built: BTreeMap<usize, usize>,
    /// Time of all tasks, and that of what was killed.
    busy: Duration,
    killed: Duration,
    idle_starts: usize,
    longest_wait: Duration,
}

impl Fleet {
    async fn new() -> Fleet {
        // A package may be unlucky.
        let w = World::with(Policy { slots: SLOTS, attempts: 20, lease: 5 * HEARTBEAT, ..Policy::default() });
        for package in 0..PACKAGES {
            ask(&w, &format!("p{package}")).await;
        }
        let (tasks, built) = Default::default();
        let (busy, killed, longest_wait) = Default::default();
        let (rung, swept) = (0, w.now());
        Fleet { w, rung, swept, tasks, built, busy, killed, idle_starts: 0, longest_wait }
    }

    fn made(&self) -> BTreeSet<usize> {
        self.built.keys().copied().collect()
    }

    /// A dispatcher runs if the doorbell has rung, and what it has launched starts.
    async fn dispatch(&mut self) {
        let rung = self.w.bell.0.load(SeqCst);
        if rung == self.rung {
            return;
        }
        dispatch(&*self.w).await.expect("the ledger");
        self.rung = rung;
        let now = self.w.now();
        for (lease, key) in self.w.tasks() {
            let package = key.product.to_string()[1..].parse().expect("a number");
            let task = Task {
                package,
                bearer: None,
                began: now,
                since: now,
                next: now + START,
                doing: Doing::Starting,
                waited: Duration::ZERO,
                useful: false,
            };
            self.tasks.entry(lease).or_insert(task);
        }
    }

    /// Some time passes, with heartbeats and sweeps.
    async fn pass(&mut self, time: Duration) {
        self.w.pass(time.min(HEARTBEAT));
        if self.w.now() >= self.swept + HEARTBEAT {
            self.swept = self.w.now();
            for task in self.tasks.values() {
                if let Some(bearer) = &task.bearer {
                    heartbeat(&*self.w, bearer, &Default::default()).await.expect("a live lease");
                }
            }
            sweep(&*self.w).await.expect("the ledger");
            self.w.reap().await;
        }
        self.dispatch().await;
    }

    async fn is_done(&self) -> bool {
        for package in 0..PACKAGES {
            if !matches!(self.w.build(&format!("p{package}")).await.state, State::Ready(_)) {
                return false;
            }
        }
        true
    }

    fn gone(&mut self, lease: &LeaseId) -> Task {
        let task = self.tasks.remove(lease).expect("it runs");
        self.busy += self.w.now() - task.began;
        self.longest_wait = self.longest_wait.max(task.waited);
        self.idle_starts += usize::from(!task.useful);
        task
    }

    /// A task's machine is taken away.
    async fn kill(&mut self, lease: &LeaseId) {
        let task = self.gone(lease);
        self.killed += self.w.now() - task.since + START;
        self.idle_starts -= usize::from(!task.useful);
        self.w.ends(lease);
    }

    /// What a task does next. `false`: it has ended.
    async fn step(&mut self, lease: &LeaseId) -> bool {
        let (w, made, now) = (Arc::clone(&self.w), self.made(), self.w.now());
        let task = self.tasks.get_mut(lease).expect("it runs");
        let plan = plan(task.package);
        match (task.doing, &task.bearer) {
            (Doing::Starting, _) => {
                let makes: Vec<usize> = plan.iter().copied().filter(|n| !made.contains(n)).collect();
                task.bearer = Some(evaluated(&w, task.package, &makes).await);
                task.doing = Doing::Asking;
            }
            (Doing::Building(n), Some(bearer)) => {
                makes(&w, bearer, n).await;
                (task.doing, task.useful) = (Doing::Asking, true);
                *self.built.entry(n).or_default() += 1;
            }
            (Doing::Finishing, _) => {
                w.finish(&format!("p{}", task.package)).await;
                task.useful = true;
                self.gone(lease);
                return false;
            }
            (Doing::Asking, Some(bearer)) => {
                let left: Vec<usize> = plan.iter().copied().filter(|n| !made.contains(n)).collect();
                let ready = |n: &&usize| NEEDS[**n - 1].iter().all(|need| made.contains(need));
                let ready: Vec<usize> = left.iter().filter(ready).copied().collect();
                task.since = now;
                let DependencyTurn { build, held, soon, .. } = turn(&w, bearer, &ready).await;
                let number = |n: &usize| build.contains(&drv(*n));
                match ready.iter().find(|n| number(n)) {
                    _ if left.is_empty() => (task.doing, task.next) = (Doing::Finishing, now + PACKAGE),
                    Some(n) => (task.doing, task.next) = (Doing::Building(*n), now + DEPENDENCY),
                    None if held.is_empty() => {}
                    None if soon && task.waited < PATIENCE => {
                        (task.waited, task.next) = (task.waited + PAUSE, now + PAUSE);
                    }
                    None => {
                        let first = left.iter().position(|n| held[0] == drv(*n)).expect("it is left");
                        assert_eq!(first, 0, "the first one that is left can be built");
                        let at = |need: &usize| left.iter().position(|n| n == need);
                        let needs: Vec<Vec<usize>> =
                            left.iter().map(|n| NEEDS[n - 1].iter().filter_map(at).collect()).collect();
                        let mut plan: Vec<(usize, &[usize])> =
                            left.iter().zip(&needs).map(|(n, needs)| (*n, &needs[..])).collect();
                        let all: Vec<usize> = (0..left.len()).collect();
                        plan.push((100 + task.package, &all[..]));
                        waits(&w, bearer, &plan).await;
                        self.gone(lease);
                        return false;
                    }
                }
            }
            (doing, None) => panic!("{doing:?} without a lease"),
        }
        true
    }

    /// Runs until all packages are ready. At each event, `kills` says whether the task's machine is taken away instead.
    async fn run(&mut self, mut kills: impl FnMut() -> bool) {
        self.dispatch().await;
        for _ in 0..5_000 {
            let now = self.w.now();
            let next = self.tasks.iter().min_by_key(|(_, task)| task.next);
            let lease = match next.map(|(lease, task)| (lease.clone(), task.next)) {
                Some((lease, next)) if next <= now => lease,
                Some((_, next)) => {
                    self.pass(next - now).await;
                    continue;
                }
                None if self.is_done().await => return,
                // All that is left waits for its time.
                None => {
                    self.pass(HEARTBEAT).await;
                    continue;
                }
            };
            if kills() {
                self.kill(&lease).await;
            } else {
                self.step(&lease).await;
            }
            self.dispatch().await;
        }
        let mut states = Vec::new();
        for package in 0..PACKAGES {
            states.push(self.w.build(&format!("p{package}")).await.state);
        }
        panic!("it does not come to an end: {states:?}");
    }

    /// What the tasks would have taken if each knew what it had to do.
    fn ideal() -> Duration {
        DEPENDENCY * 12 + (PACKAGE + START) * PACKAGES as u32
    }
}

#[tokio::test]
async fn forty_packages_build_each_of_their_dependencies_once_and_waste_no_tasks() {
    let mut fleet = Fleet::new().await;
    fleet.run(|| false).await;
    assert_eq!(fleet.built, (1..=12).map(|n| (n, 1)).collect());
    assert!(fleet.longest_wait <= Duration::from_secs(60), "{:?}", fleet.longest_wait);
    let ratio = fleet.busy.as_secs_f64() / Fleet::ideal().as_secs_f64();
    let (idle, wait) = (fleet.idle_starts, fleet.longest_wait);
    println!("builder time {ratio:.3} of the ideal, {idle} starts in vain, longest wait {wait:?}");
    assert!(ratio <= 1.15, "{ratio}, with {idle} starts in vain");
}

#[tokio::test]
async fn with_random_kills_only_the_killed_work_is_repeated() {
    for seed in 1..4 {
        let (mut fleet, mut random) = (Fleet::new().await, Random(seed));
        let mut kills = 12;
        fleet
            .run(|| {
                let killed = kills > 0 && random.below(12) == 0;
                kills -= usize::from(killed);
                killed
            })
            .await;
        // What was killed was not finished.
        assert_eq!(fleet.built, (1..=12).map(|n| (n, 1)).collect(), "{seed}");
        assert!(fleet.longest_wait <= Duration::from_secs(60), "{seed}: {:?}", fleet.longest_wait);
        let ratio = (fleet.busy - fleet.killed).as_secs_f64() / Fleet::ideal().as_secs_f64();
        assert!(ratio <= 1.15, "{seed}: {ratio}, with {} starts in vain", fleet.idle_starts);
    }
}
