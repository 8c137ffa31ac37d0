//! Who acts on the service: clients, its own schedule, the weather and the operator.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use binplz_core::{
    build::protocol::Nixpkgs,
    flow::{
        operator::{
            gc::gc_if_nearly_full,
            orders::{Act, Named, Operator, Order},
        },
        request::{outcome::RequestOutcome, program::request},
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    id::{
        money::Micros,
        target::{Query, Target},
    },
    nixpkgs::pins::Change,
    objects::stored::Method,
    quota::client::Asker,
};
use tokio::{
    task::spawn_local,
    time::{sleep, timeout},
};

use crate::{
    Month, Sabotage,
    packages::rev,
    site::{Role, Site, Weather},
    spawn,
    task::task,
};

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(30);
/// How long a function of the schedule may take.
const FUNCTION: Duration = Duration::from_secs(300);
const MINUTE: Duration = Duration::from_secs(60);
/// Faults are over for so long at most, until all has ended.
const CALM: Duration = Duration::from_secs(86_400);

/// Starts the tasks that the launcher has launched.
pub(crate) async fn tasks(site: Arc<Site>) {
    loop {
        let launched = site.state().launched.pop_front();
        match launched {
            Some((key, lease)) => spawn(&site, task(Arc::clone(&site), key, lease)),
            None => site.launched.notified().await,
        }
    }
}

/// Runs a dispatcher for each ring; sometimes two at once.
pub(crate) async fn dispatchers(site: Arc<Site>) {
    loop {
        site.rung.notified().await;
        let twice = site.state().weather != Weather::Calm && site.one_in(10);
        for _ in 0..=usize::from(twice) {
            let site = Arc::clone(&site);
            let run = async move {
                let dispatcher = site.process("dispatcher");
                // Its message, for when the next build is due.
                if let Some(Ok(Some(due))) = dispatcher.run(FUNCTION, dispatch(&dispatcher)).await
                    && site.state().sabotage != Some(Sabotage::LosesRings)
                {
                    spawn_local(async move {
                        sleep(due - site.now()).await;
                        site.rung.notify_one();
                    });
                }
            };
            if twice { drop(spawn_local(run)) } else { run.await }
        }
    }
}

/// Sweeps each minute while something is under way, and else each quarter of an hour.
pub(crate) async fn sweeps(site: Arc<Site>) {
    let mut idle = 0;
    loop {
        sleep(MINUTE).await;
        idle += 1;
        let busy = {
            let state = site.state();
            !state.checks.under_way.is_empty() || !state.tasks.is_empty() || state.checks.is_settling(site.now())
        };
        if (busy || idle >= 15) && site.state().sabotage != Some(Sabotage::NeverSweeps) {
            idle = 0;
            let (began, sweeper) = (site.now(), site.process("sweep"));
            if let Some(Ok(_)) = sweeper.run(FUNCTION, sweep(&sweeper)).await {
                let now = site.now();
                site.state().checks.swept(began, now);
            }
        }
    }
}

/// Collects garbage three times a day, and looks each hour of 24 whether the store is nearly full; scrubs each day.
pub(crate) async fn collections(site: Arc<Site>, month: Month) {
    for hour in 1_u64.. {
        sleep(month.day / 24).await;
        let collector = site.process("gc");
        let _ = match hour % 24 {
            3 | 11 | 19 => {
                collector.run(FUNCTION * 3, collector.carry_out(Order::Gc { rehearsal: false })).await.map(drop)
            }
            9 => collector.run(FUNCTION * 3, collector.carry_out(Order::Verify { of: None })).await.map(drop),
            _ => collector.run(FUNCTION * 3, gc_if_nearly_full(&collector)).await.map(drop),
        };
    }
}

/// Storms come eight times a day, and last for minutes.
pub(crate) async fn weather(site: Arc<Site>, month: Month) {
    loop {
        sleep(site.around(month.day / 8)).await;
        let roles = [Role::Ledger, Role::Store, Role::Launcher, Role::Bell];
        let role = roles[site.below(roles.len())];
        if site.state().weather == Weather::Calm {
            continue;
        }
        site.state().weather = Weather::Storm(role);
        let now = site.now();
        site.state().note(now, None, format_args!("a storm: a quarter of the calls of the {role:?} is refused"));
        sleep(Duration::from_secs(30 + site.below(200) as u64)).await;
        let mut state = site.state();
        if state.weather != Weather::Calm {
            state.weather = Weather::Usual;
        }
    }
}

/// A request of one of some clients, for one of the names: popular ones mostly, others now and then, unknown ones at times.
pub(crate) async fn client(site: Arc<Site>, names: usize) {
    // The square makes small numbers more frequent.
    let dice = site.below(1 << 15);
    let package = dice * dice / ((1 << 30) / names);
    let path = match site.below(40) {
        0 => format!("unknown{package}"),
        1..5 => format!("p{package}?pin=stable"),
        _ => format!("p{package}"),
    };
    let visitor = site.below(250);
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, (visitor * visitor / 250) as u8));
    let target = target(&path);
    // One who waits asks again.
    for _ in 0..4 {
        let pending = ask(&site, &target, address).await;
        if !pending || !site.one_in(2) {
            return;
        }
        sleep(site.around(2 * MINUTE)).await;
    }
}

async fn ask(site: &Arc<Site>, target: &Target, address: IpAddr) -> bool {
    let (began, process) = (site.now(), site.process("request"));
    let asker = Asker { address: Some(address), key: None };
    let outcome = process.run(REQUEST, request(&process, target, Method::Get, Some(&asker))).await;
    let now = site.now();
    let mut state = site.state();
    state.answered += 1;
    match outcome {
        Some(RequestOutcome::Hit { served, .. }) => {
            state.hits += 1;
            *state.served.entry(now.day().0).or_default() += served.size;
            let state = &mut *state;
            state.checks.redirects(&served, began, &state.objects, now);
            if state.checks.is_violated() {
                site.wrong.notify_one();
            }
            false
        }
        Some(RequestOutcome::Pending(_)) => true,
        _ => false,
    }
}

fn target(path: &str) -> Target {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    Query::parse(path, query).expect("a target").target
}

/// The requests of a day, one after the other.
pub(crate) async fn clients(site: Arc<Site>, month: Month) {
    let requests = month.requests as u32 / month.days;
    for _ in 0..requests {
        sleep(site.around(month.day * 3 / 4 / requests)).await;
        spawn(&site, client(Arc::clone(&site), month.packages.count));
    }
}

/// The operator: moves pins, takes packages down and restores them, cancels, retries, forgets, pauses and pays.
pub(crate) async fn operator(site: Arc<Site>, month: Month) {
    let mut revision = 1;
    loop {
        sleep(site.around(month.day / month.orders_a_day)).await;
        if site.state().weather == Weather::Calm {
            continue;
        }
        let attr = month.packages.attr(site.below(20));
        let of = || Named::Target(target(attr.as_str()));
        let path = || Nixpkgs::Path("/set".to_owned()).into();
        let act = |act| Order::Build { of: of(), act };
        match site.below(16) {
            0..4 => {
                revision += 1;
                for (pin, number) in [("unstable", revision), ("stable", revision / 2)] {
                    let change = Change::Move(pin.parse().expect("a name"), rev(number), path(), None);
                    order(&site, Order::ChangePins(change)).await;
                }
            }
            4..6 => {
                order(&site, Order::ChangePins(Change::Withhold(attr.clone(), "a test".to_owned()))).await;
                let now = site.now();
                site.state().checks.takes_down(&attr, now);
                // Wants its objects gone at once, which the grace period does not allow.
                for _ in 0..3 {
                    order(&site, Order::Gc { rehearsal: false }).await;
                    sleep(MINUTE).await;
                }
                sleep(site.around(month.day / 8)).await;
                site.state().checks.restores(&attr);
                order(&site, Order::ChangePins(Change::Restore(attr))).await;
            }
            6..8 => order(&site, act(Act::Cancel)).await,
            8 => order(&site, act(Act::Retry)).await,
            9 => order(&site, act(Act::Rebuild)).await,
            10 => order(&site, act(Act::Forget)).await,
            11 => order(&site, act(Act::Warm)).await,
            12..14 => {
                order(&site, Order::Pause { drain: site.one_in(2) }).await;
                sleep(site.around(month.day / 50)).await;
                order(&site, Order::Resume).await;
            }
            14 => pay(&site, month.daily()).await,
            _ => order(&site, Order::Resume).await,
        }
    }
}

/// Gives an order until it is carried out, or refused.
pub(crate) async fn order(site: &Arc<Site>, order: Order) {
    loop {
        let operator = site.process("operator");
        let outcome = operator.run(FUNCTION, operator.carry_out(order.clone())).await;
        let refused = match outcome {
            Some(Ok(_)) => return,
            Some(Err(declined)) => {
                ["ledger:", "store:", "launcher:", "bell:"].iter().all(|role| !declined.0.starts_with(role))
            }
            None => false,
        };
        if refused {
            return;
        }
        sleep(Duration::from_secs(10)).await;
    }
}

/// Raises the month's budget.
pub(crate) async fn pay(site: &Arc<Site>, more: Micros) {
    let (spent, reserved) = site.state().checks.money();
    order(site, Order::OverrideBudget(spent + reserved + more)).await;
}

/// Faults and requests end for the rest of a day. What is under way then ends, too.
pub(crate) async fn calm(site: &Arc<Site>, month: Month) {
    site.state().weather = Weather::Calm;
    order(site, Order::Resume).await;
    pay(site, Micros(1 << 40)).await;
    let ends = async {
        loop {
            sleep(MINUTE).await;
            let state = site.state();
            if state.checks.under_way.is_empty() && state.tasks.is_empty() && state.checks.reserves_nothing() {
                return;
            }
        }
    };
    if timeout(CALM, ends).await.is_err() {
        let stuck = site.state().checks.under_way.keys().next().cloned();
        let what = match stuck {
            Some(_) => "it neither ends nor waits for something that will come",
            None => "a slot is taken, and nothing is under way",
        };
        site.violated(stuck.as_ref(), what);
    }
    pay(site, month.daily()).await;
    site.state().weather = Weather::Usual;
}
