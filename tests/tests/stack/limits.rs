//! Limits that hold before money is spent, on AWS: with a crowd and kills; to whom an allowance belongs; and builds that wait for money.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_sdk_ecs::primitives::{DateTime, DateTimeFormat};
use binplz_aws::config::Settings;
use binplz_core::{
    build::{policy::Policy, size::Size},
    id::money::Micros,
    quota::{client::Allowance, limits::Limits},
};
use binplz_tests::{
    answers::{
        Running,
        granting::{decimal, is_told_the_date},
        limits::has_an_allowance_of_its_own,
    },
    crowd,
    random::Random,
    scenario::{Fault, Request},
    site::wait_for,
    stack::podman,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::watched::{Watched, policy, watched, watched_with};

const SLOTS: usize = 5;
const BUILDS: usize = 50;
/// The shortest time that is paid for.
const MINUTE: Duration = Duration::from_secs(60);

/// What an operator orders.
fn order(watched: &Watched, arguments: &[&str]) {
    let output = watched.operator(arguments).output().expect("binplz");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What the functions of a stack count with that has these numbers.
fn counted(numbers: &[(&str, &str)]) -> Policy {
    let settings = numbers.iter().fold(Settings::default(), |settings, (name, value)| settings.with(name, value));
    settings.policy().expect("numbers")
}

/// All versions of the rows under keys that begin so, as they were written: by key, then by version.
fn versions<R: DeserializeOwned>(log: &[Request], begins: &str) -> BTreeMap<String, BTreeMap<u64, R>> {
    let mut versions = BTreeMap::<String, BTreeMap<u64, R>>::new();
    for Request { parameters, .. } in log.iter().filter(|r| r.service == "dynamodb" && r.status == Some(200)) {
        let several = parameters["TransactItems"].as_array().into_iter().flatten().map(|swap| &swap["Put"]["Item"]);
        for item in several.chain([&parameters["Item"]]) {
            let text = |name: &str, kind: &str| item[name][kind].as_str();
            let Some(key) = text("pk", "S").filter(|key| key.starts_with(begins)) else { continue };
            let version = text("v", "N").and_then(|version| version.parse().ok()).expect("a version");
            let row = serde_json::from_str(text("body", "S").expect("a body")).expect("a row");
            let before = versions.entry(key.to_owned()).or_default().insert(version, row);
            assert!(before.is_none(), "{key} was written twice in version {version}");
        }
    }
    // Nothing was written that is not here.
    for (key, versions) in &versions {
        assert!(versions.keys().copied().eq(1..=versions.len() as u64), "{key}: {:?}", versions.keys());
    }
    versions
}

/// What was spent for each lease: in the version in which it is gone.
fn charges(log: &[Request]) -> BTreeMap<String, u64> {
    let versions: Vec<_> = versions::<Value>(log, "limits").remove("limits").expect("a row").into_values().collect();
    let leases =
        |limits: &Value| limits["reserved"].as_object().expect("leases").keys().cloned().collect::<BTreeSet<_>>();
    let spent = |limits: &Value| limits["spent"].as_u64().expect("millionths");
    let gone = |pair: &[Value]| {
        let gone: Vec<_> = leases(&pair[0]).difference(&leases(&pair[1])).cloned().collect();
        let cost = spent(&pair[1]) - spent(&pair[0]);
        assert!(gone.len() == 1 || (gone.len(), cost) == (0, 0), "{gone:?} {cost}");
        Some((gone.into_iter().next()?, cost))
    };
    versions.windows(2).filter_map(gone).collect()
}

/// A task that has ended, as ECS has told of it.
struct StoppedTask {
    lease: String,
    size: Size,
    /// From when to when there was a task, in milliseconds since 1970.
    there: (i64, i64),
    /// For how long it is paid for: from its image's pull, if that was begun.
    ran: Duration,
}

impl StoppedTask {
    fn read(told: &Value) -> StoppedTask {
        let at = |name: &str| {
            let at = DateTime::from_str(told[name].as_str()?, DateTimeFormat::DateTimeWithOffset).expect("a time");
            Some(at.to_millis().expect("a time"))
        };
        let (created, stopped) = (at("createdAt").expect("a beginning"), at("stoppedAt").expect("an end"));
        let machine = &told["overrides"];
        let number = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let size = [&machine["cpu"], &machine["memory"], &machine["ephemeralStorage"]["sizeInGiB"]].map(number);
        let ran = stopped - at("pullStartedAt").unwrap_or(stopped);
        StoppedTask {
            lease: told["startedBy"].as_str().expect("a lease").to_owned(),
            size: size.join("/").parse().expect("a size"),
            there: (created, stopped),
            ran: Duration::from_millis(u64::try_from(ran).expect("it ended after it began")),
        }
    }
}

/// The most tasks that there were at a moment, from RunTask to the end.
fn at_once(tasks: &[StoppedTask]) -> usize {
    let there = |at: i64| tasks.iter().filter(|task| task.there.0 <= at && at < task.there.1).count();
    // There are more only when one begins.
    tasks.iter().map(|task| there(task.there.0)).max().unwrap_or(0)
}

/// Faults at random requests of a function for a service, one behind the other: each so many requests, at most, after the last.
fn spread<'w>(watched: &'w Watched, at: &Value, does: &[&str], apart: usize, random: &mut Random) -> Vec<Fault<'w>> {
    let mut nth = 0;
    let mut next = |does: &&str| {
        nth += 1 + random.below(apart);
        watched.scenario.fault(&json!({ "at": at, "nth": nth, "do": does }))
    };
    does.iter().map(&mut next).collect()
}

/// Limits of 5 at a time, 20 a client and a budget worth 50 builds, and 2,000 requests of 80 clients; dispatchers die at random requests, and
/// builders wherever they are just then. Every version of the row is looked at.
#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn two_thousand_misses_at_once_never_pass_a_limit_whoever_is_killed() {
    // Two that take longer than the minute that each task costs at least.
    let slow = |name| {
        let step = "for second in {1..65}; do echo $second; sleep 1; done; $CC -o program ${good}";
        format!("{name} = package \"{name}\" {{ buildPhase = \"{step}\"; }};\n")
    };
    let packages = format!("{}{}{}", slow("slow1"), slow("slow2"), crowd::packages());
    let mut numbers = Policy { slots: SLOTS, client_builds: Some(crowd::ALLOWED), lease: MINUTE, ..policy() };
    numbers.job.seconds = 180;
    let watched = watched_with(&packages, &numbers, &["--env=BINPLZ_OVERHEAD_SECONDS=60"]);
    let counted = counted(&[("BINPLZ_BUILD_SECONDS", "180"), ("BINPLZ_OVERHEAD_SECONDS", "60")]);
    let (minute, worst) = (counted.price(Size::default(), MINUTE), counted.worst_price(Size::default()));
    // There is money for the fiftieth at its highest price, if the others cost their minimum; and never for one more.
    let budget = Micros(minute.0 * (BUILDS as u64 - 1)) + worst;
    order(&watched, &["budget", &decimal(budget)]);
    watched.scenario.set(&json!({ "minute": 3, "at_once": 24 }));
    for slow in ["failing.slow1", "failing.slow2"] {
        assert_eq!(watched.asked_from("127.0.2.1").get(&format!("/{slow}")).status, 202);
        watched.is_being_built(slow);
    }
    let spared: BTreeSet<_> = watched.containers().into_iter().collect();

    let mut random = Random(5);
    let dispatcher = |service: &str| json!({ "function": "Dispatcher", "service": service });
    let rows = spread(&watched, &dispatcher("dynamodb"), &["kill-before", "kill-after"].repeat(4), 60, &mut random);
    let tasks = spread(&watched, &dispatcher("ecs"), &["kill-after", "kill-before"].repeat(2), 12, &mut random);
    let builders = json!({ "function": "Lease", "service": "dynamodb" });
    let moments = spread(&watched, &builders, &["hold-before"; 8], 60, &mut random);

    let answers = crowd::asks(&watched);
    let mut killed = 0;
    for moment in moments {
        moment.happened();
        let running: Vec<_> = watched.containers().into_iter().filter(|id| !spared.contains(id)).collect();
        if let Some(id) = random.of(&running) {
            killed += usize::from(podman().args(["kill", id]).output().expect("podman").status.success());
        }
        moment.release();
    }
    rows.iter().chain(&tasks).for_each(|fault| drop(fault.happened()));
    let charged = crowd::was_allowed(&answers.join().expect("the crowd"));

    let is_spent = |limits: &Limits| limits.spent() + worst > budget && limits.reserved() == Micros(0);
    let (end, version) =
        wait_for("the money to be spent", || Some(watched.limits()).filter(|(limits, _)| is_spent(limits)));
    let log = watched.scenario.log();
    // Each event is delivered to two functions.
    let told = log.iter().filter(|r| r.operation == "ECS Task State Change" && r.parameters["lastStatus"] == "STOPPED");
    let told = told.map(|request| (request.parameters["taskArn"].to_string(), StoppedTask::read(&request.parameters)));
    let tasks: Vec<_> = told.collect::<BTreeMap<_, _>>().into_values().collect();
    assert_eq!(tasks.len(), watched.tasks());
    println!("{killed} builders killed, {} tasks, {charged:?} builds charged, {} requests", tasks.len(), log.len());
    assert!(killed > 4 && (BUILDS - 10..=BUILDS).contains(&tasks.len()), "{killed} {}", tasks.len());

    let versions_of_limits = versions::<Limits>(&log, "limits").remove("limits").expect("a row");
    assert_eq!(versions_of_limits.len() as u64, version.0);
    for (version, limits) in &versions_of_limits {
        assert!(limits.taken() <= SLOTS && limits.spent() + limits.reserved() <= budget, "{version}: {limits:?}");
    }
    let allowances = versions::<Allowance>(&log, "client/");
    assert!(allowances.values().flat_map(BTreeMap::values).all(|allowance| allowance.started <= crowd::ALLOWED));
    // Another client requested the two slow ones.
    let started = allowances.values().filter_map(|versions| Some(versions.last_key_value()?.1.started as usize));
    let started: usize = started.sum();
    assert!(allowances.len() <= crowd::CLIENTS + 1 && charged.contains(&(started - 2)), "{started} {charged:?}");

    // A task for each lease, and never more at once than there are slots; what they cost is what was spent.
    let leases: BTreeSet<_> = tasks.iter().map(|task| &task.lease).collect();
    assert_eq!((leases.len(), at_once(&tasks)), (tasks.len(), SLOTS));
    let charged = charges(&log);
    for StoppedTask { lease, size, ran, .. } in &tasks {
        assert_eq!(charged.get(lease), Some(&counted.price(*size, *ran).0), "{ran:?}");
    }
    assert_eq!((end.taken(), end.reserved(), end.spent()), (0, Micros(0), Micros(charged.values().sum())));
    assert!(tasks.iter().filter(|task| task.ran > MINUTE).count() >= 2);
    // Hits are served, and there is no money for anybody else.
    assert_eq!(watched.get("/failing.slow1").status, 302);
    is_told_the_date(&watched.asked_from("127.0.2.1").get("/tree"));
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn what_waits_for_money_goes_on_when_it_is_raised_and_nobody_waits_for_the_schedule() {
    let watched = watched("", &[]);
    // For one at a time, and not for another once one has cost something.
    order(&watched, &["budget", &decimal(counted(&[]).worst_price(Size::default()))]);
    for target in ["/dash", "/tree"] {
        assert_eq!(watched.get(target).status, 202);
    }
    let first = wait_for("the first of them", || {
        ["dash", "tree"].into_iter().find(|target| watched.status(target)["state"] == "ready")
    });
    let second = if first == "dash" { "tree" } else { "dash" };
    wait_for("its money", || (watched.limits().0.spent() > Micros(0)).then_some(()));
    assert_eq!((watched.get(&format!("/{first}")).status, watched.tasks()), (302, 1));
    for target in [second, "lz4"] {
        is_told_the_date(&watched.get(&format!("/{target}")));
    }
    let status = watched.status(second);
    assert_eq!(
        (&status["state"], watched.status("lz4")["state"].as_str()),
        (&"queued".into(), Some("unasked")),
        "{status}"
    );

    order(&watched, &["budget", "5"]);
    // The client has gone.
    assert_eq!(crate::watched::ends(&watched.ended(second)), [None]);
    assert_eq!(watched.settled("lz4").status, 302);
    assert_eq!(watched.scenario.requests("events", "Scheduled Event").len(), 0);
}

const SECRET: &str = "s3cret-of-the-cdn";

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_viewer_is_believed_with_the_origins_secret_only_and_ipv6_neighbours_share_one_allowance() {
    // Nothing is started, so that nothing is there for anybody.
    let numbers = Policy { slots: 0, client_builds: Some(1), ..policy() };
    let watched = watched_with("", &numbers, &[&format!("--env=BINPLZ_ORIGIN_SECRET={SECRET}")]);
    let [one, other] = ["127.0.0.2", "127.0.0.3"];
    has_an_allowance_of_its_own(&watched.asked_from(one), &watched.asked_from(other), one, other);

    // Through the CDN, whose address is the same for all.
    let edge = watched.asked_from("127.0.0.4");
    let through_cdn = |viewer: &str, path: &str| {
        let told = [("x-binplz-viewer", viewer), ("x-binplz-origin-secret", SECRET), ("x-forwarded-for", "192.0.2.77")];
        edge.send("GET", path, &told, b"").status
    };
    assert_eq!(shared(1, through_cdn), [202, 429, 429, 202, 429, 202]);
    // And without one: an event of the gateway, as AWS has it, of a client with an IPv6 address.
    let event: Value =
        serde_json::from_str(include_str!("../../../functions/aws/tests/events/http-api.json")).expect("an event");
    let to_gateway = |address: &str, path: &str| {
        let mut event = event.clone();
        event["rawPath"] = path.into();
        event["rawQueryString"] = "".into();
        event["headers"] = json!({ "accept": "*/*", "x-forwarded-for": "192.0.2.77", "x-binplz-viewer": "192.0.2.78" });
        event["requestContext"]["http"]["sourceIp"] = address.into();
        let answer = watched.answer("api", &event);
        u16::try_from(answer["statusCode"].as_u64().expect("a status")).expect("three digits")
    };
    assert_eq!(shared(2, to_gateway), [202, 429, 429, 202, 429, 202]);
}

/// What is answered to an IPv6 client with an allowance of one, to it again, to its neighbour, to another network, to that again and to an IPv4
/// client that is written as IPv6: each requests packages that are not built yet, other ones for each way to ask.
fn shared(way: u8, ask: impl Fn(&str, &str) -> u16) -> [u16; 6] {
    let asked = [
        (format!("2001:db8:{way}:7::1"), "a"),
        (format!("2001:db8:{way}:7::1"), "b"),
        (format!("2001:db8:{way}:7:ffff:ffff:ffff:ffff"), "c"),
        (format!("2001:db8:{way}:8::1"), "d"),
        (format!("2001:db8:{way}:8::2"), "e"),
        (format!("::ffff:198.51.100.{way}"), "f"),
    ];
    asked.map(|(address, name)| ask(&address, &format!("/failing.{name}{way}")))
}
