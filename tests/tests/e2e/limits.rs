//! Limits that hold before money is spent, on one machine: with a crowd and kills; and to whom an allowance belongs.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
};

use binplz_core::{
    id::money::Micros,
    ports::Ledger,
    quota::{client::Allowance, limits::Limits},
    row::{Row, Version},
};
use binplz_local::{DataDir, LocalLedger};
use binplz_tests::{
    answers::granting::is_told_the_date,
    crowd,
    random::Random,
    server::{Server, demo_set, fresh_set, kill, program},
    site::{Site, wait_for},
};
use serde_json::Value;

use crate::answers::tripwire;

const SLOTS: usize = 5;
const BUILDS: usize = 50;

/// Whether a process runs. A zombie does not.
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Whether this process is a builder, which has told the tripwire its lease. Before that it is a shell, in a new namespace.
fn is_builder(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program.ends_with("binplz-builder"))
}

/// The builders that run at this moment, whichever server has started them.
fn builders(data: &Path) -> Vec<u32> {
    let notes = fs::read_dir(data.join("builders")).into_iter().flatten().flatten().map(|entry| entry.path());
    let noted = notes.filter(|path| path.extension().is_some_and(|extension| extension == "pid"));
    let pids = noted.filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    let lived: Vec<u32> = pids.filter(|pid| lives(*pid)).collect();
    // Who was there before the first look ended, and is there after it, was there at that moment.
    lived.into_iter().filter(|pid| lives(*pid)).collect()
}

/// What `binplz status --json` says; `None`: there is no server at the moment.
fn status(data: &Path) -> Option<Value> {
    let told = Command::new(program("binplz")).args(["status", "--json", "--data"]).arg(data).output().expect("binplz");
    if told.status.success() { serde_json::from_slice(&told.stdout).ok() } else { None }
}

/// Looks all the time, until it is told to end, how many builders there are and what the service says of its money. How often it looked.
fn watch(data: &Path, over: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let (data, over, looks) = (data.to_owned(), Arc::clone(over), AtomicUsize::default());
    thread::spawn(move || {
        while !over.load(SeqCst) {
            let running = builders(&data);
            assert!(running.len() <= SLOTS, "{running:?}");
            let Some(status) = status(&data) else { continue };
            let [running, spent, reserved] = ["running", "spent", "reserved"].map(|name| status[name].as_u64());
            assert!(running <= Some(SLOTS as u64), "{status}");
            assert!(spent.zip(reserved).is_some_and(|(a, b)| a + b <= BUILDS as u64), "{status}");
            looks.fetch_add(1, SeqCst);
        }
        looks.into_inner()
    })
}

#[test]
fn two_thousand_misses_at_once_never_pass_a_limit_whoever_is_killed() {
    let (set, dir) = (fresh_set(&crowd::packages()), tempfile::tempdir().expect("a directory"));
    let (data, builder) = (dir.path().join("data"), tripwire(dir.path()));
    let (slots, allowed) = (SLOTS.to_string(), crowd::ALLOWED.to_string());
    // An hour costs a millionth of a dollar, and what is begun of one costs that: so each build costs as much as it may at most,
    // however long it takes, and the budget is worth exactly so many.
    let budget = format!("0.{BUILDS:06}");
    let options = ["--jobs", &slots, "--client-builds", &allowed, "--hour-price", "0.000001", "--build-time", "3600"];
    let more = ["--budget", &budget, "--builder", builder.to_str().expect("a path"), "--lease", "10"];
    let mut server = Server::start(set.path(), &data, &[&options[..], &more].concat());
    let started = || -> Vec<String> {
        let leases = fs::read_to_string(dir.path().join("started")).unwrap_or_default();
        leases.lines().map(str::to_owned).collect()
    };

    let over = Arc::new(AtomicBool::default());
    let watcher = watch(&data, &over);
    let answers = crowd::asks(&server);
    // At so many builds a builder dies, wherever it is, or the server.
    let mut random = Random(5);
    let mut killed = 0;
    for at in (3..BUILDS - 5).step_by(4) {
        wait_for("builds to be started", || (started().len() >= at).then_some(()));
        if at % 20 == 15 {
            server.kill();
            server.restart();
        } else if let Some(pid) = random.of(&builders(&data)) {
            // What it runs before that, it runs under the same process id.
            wait_for("the builder to say that it started, or to end", || {
                (is_builder(*pid) || !lives(*pid)).then_some(())
            });
            kill(*pid);
            killed += 1;
        }
    }
    assert!(killed > 5, "{killed}");
    let charged = crowd::was_allowed(&answers.join().expect("the crowd"));

    let end = wait_for("the money to be spent", || {
        status(&data).filter(|status| status["reserved"] == 0 && status["spent"].as_u64() >= Some(BUILDS as u64))
    });
    assert_eq!(end["spent"], BUILDS as u64, "{end}");
    over.store(true, SeqCst);
    let looks = watcher.join().expect("nothing was seen that may not be");
    assert!(looks > 10, "{looks}");
    assert_eq!((&end["running"], end["queued"].as_u64() > Some(0)), (&0.into(), true), "{end}");
    // One builder for each lease, and for each a build's money.
    let leases: BTreeSet<_> = started().into_iter().collect();
    assert_eq!((leases.len(), started().len()), (BUILDS, BUILDS));
    // Hits are served; for what waits, and for all else, there is no money.
    let state = |target: &str| server.status(target)["state"].as_str().expect("a state").to_owned();
    let find = |wanted: &str| crowd::targets().find(|target| state(target) == wanted).expect(wanted);
    assert_eq!(server.get(&format!("/{}", find("ready"))).status, 302);
    is_told_the_date(&server.get(&format!("/{}", find("queued"))));
    is_told_the_date(&server.asked_from("127.0.2.1").get("/tree"));

    // What is written down says the same.
    server.kill();
    let ((limits, Version(versions)), allowances, attempts) = rows(&data);
    println!(
        "{killed} builders killed, {charged:?} builds charged, {looks} looks at {versions} versions of the limits"
    );
    assert_eq!((limits.taken(), limits.reserved(), limits.spent()), (0, Micros(0), Micros(BUILDS as u64)));
    assert!(allowances.iter().all(|allowance| allowance.started <= crowd::ALLOWED), "{allowances:?}");
    assert!(charged.contains(&allowances.iter().map(|allowance| allowance.started as usize).sum()), "{allowances:?}");
    assert!(attempts.iter().all(|lease| leases.iter().any(|url| url.ends_with(lease))) && attempts.len() == BUILDS);
}

/// The ledger, while no server runs: the limits, what each client has had started, and the leases of all attempts.
fn rows(data: &Path) -> ((Limits, Version), Vec<Allowance>, BTreeSet<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let ledger =
        wait_for("the ledger, which its server has just left", || LocalLedger::open(&DataDir::open(data).ok()?).ok());
    let (mut limits, mut allowances, mut attempts) = (None, Vec::new(), BTreeSet::new());
    let mut after = None;
    loop {
        let page = runtime.block_on(ledger.scan(after.as_ref(), 100)).expect("the ledger");
        for (row, version) in page.rows {
            match row {
                Row::Limits(row) => limits = Some((row, version)),
                Row::Allowance(row) => allowances.push(row),
                Row::Build(row) => attempts.extend(row.history.iter().map(|attempt| attempt.lease.to_string())),
                _ => {}
            }
        }
        after = page.next;
        if after.is_none() {
            return (limits.expect("a row"), allowances, attempts);
        }
    }
}

/// Runs a test of this program once more, in a network of its own in which this machine has more addresses; whether this is that run.
fn in_a_network_with(addresses: &[&str], test: &str) -> bool {
    const WITHIN: &str = "BINPLZ_TEST_NETWORK";
    if std::env::var_os(WITHIN).is_some() {
        return true;
    }
    let script =
        "ip link set lo up; for each in $ADDRESSES; do ip address add \"$each\" dev lo nodad; done; exec \"$@\"";
    let mut run = Command::new("unshare");
    run.args(["--net", "sh", "-euc", script, "sh"]).arg(std::env::current_exe().expect("a test is a program"));
    run.args([test, "--exact", "--nocapture"]).env(WITHIN, "yes").env("ADDRESSES", addresses.join(" "));
    let output = run.output().expect("unshare");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}{}", String::from_utf8_lossy(&output.stderr));
    false
}

#[test]
fn neighbours_of_an_ipv6_network_share_one_allowance_and_others_have_their_own() {
    let [one, neighbour, other] = ["fd00:0:0:7::1", "fd00:0:0:7:ffff::2", "fd00:0:0:8::1"];
    let addresses = [one, neighbour, other].map(|address| format!("{address}/64"));
    let test = "limits::neighbours_of_an_ipv6_network_share_one_allowance_and_others_have_their_own";
    if !in_a_network_with(&addresses.each_ref().map(String::as_str), test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    // It listens for both address families. No build begins.
    let origin = format!("http://[{one}]:8080");
    let options = ["--listen", "[::]:8080", "--origin", &origin, "--client-builds", "1", "--jobs", "0"];
    let server = Server::start(&demo_set(), &dir.path().join("data"), &options);
    let asked = |address: &str, path: &str| server.asked_from(address).get(path).status;
    assert_eq!((asked(one, "/tree"), asked(neighbour, "/dash"), asked(one, "/dash")), (202, 429, 429));
    assert_eq!((asked(other, "/dash"), asked(other, "/lz4")), (202, 429));
    // An IPv4 address is one, though the socket has it as an IPv6 address, beside which all others would be neighbours.
    let port = server.address.rsplit(':').next().expect("a port");
    let site = Site::at(format!("127.0.0.1:{port}"));
    let asked = |address: &str, path: &str| site.asked_from(address).get(path).status;
    assert_eq!((asked("127.0.0.2", "/hello"), asked("127.0.0.2", "/lz4")), (202, 429));
    assert_eq!(asked("127.0.0.3", "/lz4"), 202);
}
