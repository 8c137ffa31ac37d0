//! `binplz-builder`: the program of a build's task.
//!
//! The launcher gives it the URL of a lease endpoint and the lease's token (`BINPLZ_LEASE_URL`, `BINPLZ_LEASE_TOKEN`). It
//! fetches its job from the endpoint, has Nix evaluate and build it, inspects the output, uploads the static programs
//! to the endpoint's presigned URLs, and settles with the outcome. It has no access to the ledger or the store. A job
//! is a package, or the catalogue of a whole nixpkgs.
//!
//! The main thread waits until the work has ended, or must end. Work, heartbeat and log each have a thread. Exit
//! codes: 0, the build was settled, with any outcome; 3, the lease was lost, and nothing more was reported; 1, the builder itself failed.
//!
//! `binplz-builder catalogue …` makes a catalogue without a lease, and `binplz-builder plan` evaluates a package.
//!
//! All of it is this library, of which the program is the [`main`]. Public are the parsers of what packages and Nix have written: the
//! fuzzer (`tests/fuzz`) calls them.

mod stop;

mod heartbeat;
mod lease;
mod log;
mod progress_channel;

pub mod internal_json;
mod nix;
mod orphans;
mod scratch;
mod settings;

mod classify;
mod evidence;
mod machine;
mod testimony;
mod timer;
mod watch;

pub mod replay;

mod archive;
mod bundle;
mod caches;
mod canary;
mod closure;
mod context;
pub mod drv;
pub mod elf;
mod evaluate;
mod hand_over;
mod leftovers;
mod materials;
mod measure;
mod memory;
mod needs;
mod nixpkgs;
mod offer;
mod plan;
mod programs;
mod realise;
mod rounds;
mod version;
pub mod wrapper;

mod dry_run;
mod work;

mod catalogue;

use std::{
    io::{Write, stderr},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{Arc, mpsc},
    thread,
};

use binplz_core::id::key::Token;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    catalogue::verb,
    lease::{LAST_WORDS, Lease},
    stop::{Stop, Why},
    work::Done,
};

/// The events of the main thread.
enum Event {
    Done(Result<Done, String>),
    Announced,
}

/// Runs the program with this process's arguments and environment.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os();
    if args.nth(1).is_some_and(|verb| verb == verb::VERB) {
        return verb::main(std::env::args_os().skip(1));
    }
    if std::env::args_os().nth(1).is_some_and(|verb| verb == dry_run::VERB) {
        return dry_run::main();
    }
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "--version") {
        let told = writeln!(std::io::stdout(), "binplz-builder {}", binplz_core::VERSION);
        return if told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    // Other processes of the same user, above all builds, may not read our memory or `/proc/PID/environ`.
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        return failed(&format!("this process cannot be protected: {error}"));
    }
    orphans::adopt();
    #[expect(clippy::disallowed_methods, reason = "the settings of this program")]
    let (url, token) = match (std::env::var("BINPLZ_LEASE_URL"), std::env::var("BINPLZ_LEASE_TOKEN")) {
        (Ok(url), Ok(token)) => (url, token),
        _ => {
            return failed(
                "BINPLZ_LEASE_URL and BINPLZ_LEASE_TOKEN are not set: this program runs in a build's task, and binplz starts it",
            );
        }
    };
    let Ok(token) = token.parse::<Token>() else { return failed("BINPLZ_LEASE_TOKEN is malformed") };

    let stop = Arc::new(Stop::default());
    let (events, ends) = mpsc::channel();
    if let Err(error) = announce_signals(Arc::clone(&stop)) {
        return failed(&format!("signals cannot be handled: {error}"));
    }
    let announced = events.clone();
    stop.listen(move || drop(announced.send(Event::Announced)));
    let lease = Arc::new(Lease::new(&url, token.clone(), Arc::clone(&stop)));
    let stopping = Arc::clone(&stop);
    thread::spawn(move || {
        let work = AssertUnwindSafe(|| work::run(lease, &token, stopping));
        let done = catch_unwind(work).unwrap_or_else(|_| Err("the builder panicked, and did not settle".to_owned()));
        drop(events.send(Event::Done(done)));
    });

    // The work ends by itself soon after an announcement; a request that hangs must not delay the task's end.
    let mut end = ends.recv();
    while matches!(end, Ok(Event::Announced)) {
        end = ends.recv_timeout(LAST_WORDS + LAST_WORDS / 4).map_err(|_| mpsc::RecvError);
    }
    match end {
        Ok(Event::Done(Ok(Done::Settled))) => ExitCode::SUCCESS,
        Ok(Event::Done(Err(error))) if !stop.lease_lost() => failed(&error),
        _ => match stop.why() {
            Some((Why::LeaseLost(why), _)) => {
                let _ = writeln!(stderr(), "binplz-builder: the lease is lost: {why}");
                ExitCode::from(3)
            }
            _ => failed("the build was interrupted and could not be settled"),
        },
    }
}

fn announce_signals(stop: Arc<Stop>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || signals.forever().for_each(|_| stop.announce(Why::Interrupted)));
    Ok(())
}

fn failed(why: &str) -> ExitCode {
    let _ = writeln!(stderr(), "binplz-builder: {why}");
    ExitCode::FAILURE
}
