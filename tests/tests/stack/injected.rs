//! Each AWS service fails in each way, alone and together with another one, under the steady load of real clients.

use std::{
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use binplz_core::build::{State, policy::Policy};
use binplz_tests::{http::Answer, site::wait_for, stack::signing_keys};
use serde_json::{Value, json};

use crate::watched::{Watched, policy, watched_with};

/// The services that functions and builders use.
const SERVICES: [&str; 6] = ["dynamodb", "s3", "sqs", "ecs", "ecr", "kms"];

/// The faults that each service can have; `../../bed/scenario.py` says what each of them is.
const FAULTS: [&str; 6] = ["latency", "reset", "4xx", "5xx", "throttling", "timeout"];

/// The services with batches, lists, or answers that name failures.
const IN_PART: [&str; 3] = ["dynamodb", "s3", "ecs"];

/// What goes wrong in a period: the fault meets each `every`th request to these services.
#[derive(Clone, Debug)]
struct Injection {
    services: Vec<&'static str>,
    fault: &'static str,
    every: u32,
}

impl Injection {
    fn new(services: &[&'static str], fault: &'static str, every: u32) -> Injection {
        Injection { services: services.to_vec(), fault, every }
    }

    fn disturbs(&self, service: &str) -> bool {
        self.services.contains(&service) && !["latency", "partial"].contains(&self.fault)
    }

    fn settings(&self) -> Value {
        self.services.iter().map(|service| ((*service).to_owned(), json!([self.fault, self.every]))).collect()
    }
}

/// One of each service, or all: each fault of each service, at all of its requests and at each third, and each fault of
/// each pair of services.
fn injections(all: bool) -> Vec<Injection> {
    if !all {
        let one = [
            ("dynamodb", "timeout"),
            ("s3", "reset"),
            ("sqs", "5xx"),
            ("ecs", "partial"),
            ("ecr", "4xx"),
            ("kms", "throttling"),
        ];
        return one.into_iter().map(|(service, fault)| Injection::new(&[service], fault, 1)).collect();
    }
    let alone = SERVICES.iter().flat_map(|service| {
        let in_part = IN_PART.contains(service).then_some("partial");
        FAULTS
            .into_iter()
            .chain(in_part)
            .flat_map(move |fault| [1, 3].map(|every| Injection::new(&[service], fault, every)))
    });
    let pairs =
        SERVICES.iter().enumerate().flat_map(|(n, one)| SERVICES[n + 1..].iter().map(move |other| [*one, *other]));
    let paired = pairs.flat_map(|pair| FAULTS.into_iter().map(move |fault| Injection::new(&pair, fault, 1)));
    alone.chain(paired).collect()
}

/// What a client saw of a program that is served.
struct Seen {
    /// Of the redirect.
    status: String,
    /// The fault had ended before the request.
    clear: bool,
    /// curl followed the redirect, and said that it succeeded.
    downloaded: bool,
    /// The file is the program.
    right: bool,
}

/// Downloads the program with curl, as users do.
fn download(watched: &Watched, program: &[u8], clear: &AtomicBool) -> Seen {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("{}/tree", watched.origin());
    let was_clear = clear.load(Ordering::SeqCst);
    let curl = |options: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "30"]).args(options).arg(&url).current_dir(dir.path()).output().expect("curl")
    };
    let status = curl(&["-o", "answer", "-w", "%{http_code}"]);
    let followed = curl(&["-fL", "-o", "tree"]);
    Seen {
        status: String::from_utf8_lossy(&status.stdout).into_owned(),
        clear: was_clear,
        downloaded: followed.status.success(),
        right: std::fs::read(dir.path().join("tree")).is_ok_and(|saved| saved == program),
    }
}

/// A period with a fault, under load, with a request for a package that was never built; then the end of the fault. The row of the report.
fn period(watched: &Watched, injection: &Injection, target: &str, program: &[u8]) -> String {
    let (seen, clear, over) = (Mutex::new(Vec::new()), AtomicBool::new(false), AtomicBool::new(false));
    // The log of all periods would be read at every look.
    watched.scenario.forget();
    let met = || watched.scenario.log().iter().filter(|request| request.fault.is_some()).count();
    let count = |clear: bool| seen.lock().expect("a lock").iter().filter(|seen: &&Seen| seen.clear == clear).count();
    let (answer, mended): (Answer, Instant) = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let one = download(watched, program, &clear);
                    seen.lock().expect("a lock").push(one);
                    thread::sleep(Duration::from_millis(200));
                }
            });
        }
        // Ends the load also if this thread panics.
        let ends = Ends(&over);
        watched.scenario.set(&json!({ "minute": 1, "injected": injection.settings() }));
        let answer = watched.get(&format!("/{target}"));
        wait_for("the fault to be met", || {
            let ready = watched.build(target).is_some_and(|build| matches!(build.state, State::Ready(_)));
            (count(false) >= 6 && (met() >= 6 || ready)).then_some(())
        });
        watched.scenario.set(&json!({ "minute": 1 }));
        clear.store(true, Ordering::SeqCst);
        let mended = Instant::now();
        wait_for(target, || {
            (watched.try_get(&format!("/{target}")).is_ok_and(|answer| answer.status == 302)).then_some(())
        });
        wait_for("hits after the fault", || (count(true) >= 2).then_some(()));
        drop(ends);
        (answer, mended)
    });
    let recovered = mended.elapsed();
    let seen = seen.into_inner().expect("a lock");
    assert!([202, 503].contains(&answer.status), "{injection:?}: {} {}", answer.status, answer.text());
    for one in &seen {
        let undisturbed = one.clear || !injection.disturbs("dynamodb");
        assert!(one.status == "302" || !undisturbed && one.status == "503", "{injection:?}: {}", one.status);
        assert!(one.right || !one.downloaded, "{injection:?}: curl saved something else");
        assert!(
            one.downloaded || !undisturbed || !one.clear && injection.disturbs("s3"),
            "{injection:?}: not downloaded"
        );
    }
    let build = watched.build(target).expect("a row");
    assert!(matches!(build.state, State::Ready(_)), "{injection:?}: {build:?}");
    wait_for("its slot", || (watched.limits().0.taken() == 0).then_some(()));
    let refused = seen.iter().filter(|seen| seen.status != "302").count();
    let partly = if injection.every == 1 { "all".to_owned() } else { format!("each {}rd", injection.every) };
    let services = injection.services.join(", ");
    let (fault, met, attempts) = (injection.fault, met(), build.history.len());
    format!(
        "| {services} | {fault} | {partly} | {met} | {} | {refused} | {attempts} | {} |",
        seen.len(),
        recovered.as_secs()
    )
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn hits_succeed_while_dynamodb_and_s3_respond_and_builds_recover_when_a_fault_ends() {
    let injections = injections(std::env::var_os("BINPLZ_ALL_FAULTS").is_some());
    let package = |n| format!("injection{n} = package \"injection{n}\" {{ }};\n");
    let packages = (0..injections.len()).map(package).collect::<String>();
    // A client that comes back is to find out soon.
    let quick = Policy { cool_down: Duration::from_secs(2), lease: Duration::from_secs(60), ..policy() };
    let keys = format!("--parameter=SigningKeys={}", signing_keys().join(","));
    let watched = watched_with(&packages, &quick, &[&keys]);
    watched.scenario.set(&json!({ "minute": 1 }));
    assert_eq!(watched.settled("tree").status, 302);
    let program = watched.download("tree");
    println!(
        "| services | fault | requests | met it | hits | refused | attempts | recovered after, s |\n|---|---|---|---|---|---|---|---|"
    );
    for (n, injection) in injections.iter().enumerate() {
        println!("{}", period(&watched, injection, &format!("failing.injection{n}"), &program));
    }
}
