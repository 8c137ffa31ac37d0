//! Failures of the machine: its memory, its disk, its settings, and signals to its processes.

use binplz_core::build::failure::Kind;
use rustix::process::Signal;

use crate::support::{
    Bench,
    endpoint::Endpoint,
    place::Place,
    verdict::{Next, assert_failed, failure},
};

#[test]
fn what_the_kernel_ends_for_its_memory_is_tried_again_with_more_whether_anybody_says_so_or_not() {
    for (name, sentence) in [
        ("hungryCompiler", "the build ran out of memory: gcc: fatal error: Killed signal terminated program cc1"),
        // Only the control group's count shows this one.
        (
            "hungryInSilence",
            "the build ran out of memory: builder for 'hungryInSilence-1.0.drv' failed with exit code 1",
        ),
        ("hungryEvaluation", "the build ran out of memory: Nix was ended by signal 9"),
    ] {
        let (bench, place) = (Bench::new(), Place::with_memory(150));
        let endpoint = bench.work_in(&place, bench.job(&format!("failing.{name}")));
        assert_failed(&endpoint, Kind::OutOfMemory, Next::MoreMemory, sentence);
    }
}

#[test]
fn enough_memory_is_no_failure() {
    let (bench, place) = (Bench::new(), Place::with_memory(150));
    let endpoint = bench.work_in(&place, bench.job("failing.compileError"));
    assert_eq!(failure(&endpoint).kind, Kind::BuildFailed);
}

#[test]
fn a_full_disk_is_followed_by_a_larger_one_wherever_it_was_full() {
    let bench = Bench::new();
    let endpoint = bench.work_in(&Place::with_disk(&bench.tmp(), "20m"), bench.job("failing.fullDirectory"));
    let said = "the build ran out of disk: cp: error writing 'much': No space left on device";
    assert_failed(&endpoint, Kind::DiskFull, Next::MoreDisk, said);

    // Only Nix knows of this one.
    let bench = Bench::new();
    let endpoint = bench.work_in(&Place::with_disk(&bench.tmp(), "20m"), bench.job("failing.fullInSilence"));
    let said = "the build ran out of disk: builder for 'fullInSilence-1.0.drv' failed with exit code 1";
    assert_failed(&endpoint, Kind::DiskFull, Next::MoreDisk, said);

    let bench = Bench::with_own_store();
    let endpoint = bench.work_in(&Place::with_disk(&bench.own(), "40m"), bench.job("failing.fullStore"));
    let said = "the build ran out of disk: writing to file: No space left on device";
    assert_failed(&endpoint, Kind::DiskFull, Next::MoreDisk, said);

    // Not even the derivations fit.
    let bench = Bench::with_own_store();
    let endpoint = bench.work_in(&Place::with_disk(&bench.own(), "64k"), bench.job("failing.fullStore"));
    assert_failed(&endpoint, Kind::DiskFull, Next::MoreDisk, "the build ran out of disk: database or disk is full");
}

#[test]
fn a_machine_that_is_not_set_up_for_builds_is_its_operators_business() {
    let bench = Bench::new().configure("sandbox = true");
    let place = Place::without_namespaces(&bench.own());
    let endpoint = bench.work_in(&place, bench.job("good"));
    assert_failed(&endpoint, Kind::Sandbox, Next::Mended, "the build sandbox is not set up: ");
    // The messages of Nix 2.8, and of newer versions.
    let sentence = failure(&endpoint).sentence();
    let said = ["unable to start build process", "this system does not support the kernel namespaces"];
    let said = said.map(|words| format!("the build sandbox is not set up: {words}"));
    assert!(said.iter().any(|words| sentence.starts_with(words)), "{sentence}");
}

#[test]
fn a_package_that_nix_refuses_to_build_in_a_sandbox_is_no_fault_of_the_machine() {
    let bench = Bench::new().configure("sandbox = true\nsandbox-paths = /bin /usr /lib /lib64 /etc/alternatives");
    let endpoint = bench.work(bench.job("failing.noChroot"));
    let said = "no builder of this service can build it: derivation 'noChroot-1.0.drv' has '__noChroot' set";
    assert_failed(&endpoint, Kind::NoMachine, Next::Nothing, said);
}

#[test]
fn build_users_that_are_not_there_are_their_operators_business() {
    let bench = Bench::new().configure("build-users-group = no-such-group");
    let endpoint = bench.work(bench.job("good"));
    let said =
        "the build sandbox is not set up: the group 'no-such-group' specified in 'build-users-group' does not exist";
    assert_failed(&endpoint, Kind::Sandbox, Next::Mended, said);
}

#[test]
fn a_build_that_somebody_kills_is_held_for_one_that_had_too_little_memory() {
    let bench = Bench::new();
    let endpoint = Endpoint::new(bench.job("gated"));
    let builder = bench.start(&endpoint);
    endpoint.wait_for_gate();
    bench.build_process().kill();
    assert_eq!(builder.end(), (Some(0), String::new()));
    let said = "the build ran out of memory: builder for 'gated-1.0.drv' failed due to signal 9";
    assert_failed(&endpoint, Kind::OutOfMemory, Next::MoreMemory, said);
}

#[test]
fn a_nix_that_is_killed_takes_its_build_with_it_and_is_tried_again() {
    let bench = Bench::new();
    let endpoint = Endpoint::new(bench.job("gated"));
    let builder = bench.start(&endpoint);
    endpoint.wait_for_gate();
    builder.pid().nix().kill();
    assert_eq!(builder.end(), (Some(0), String::new()));
    assert_failed(&endpoint, Kind::Killed, Next::Again, "the build was killed: Nix was ended by signal 9");
    bench.build_process().wait_gone();
}

#[test]
fn a_task_that_is_told_to_end_stops_nix_and_is_tried_again() {
    for signal in [Signal::TERM, Signal::INT] {
        let bench = Bench::new();
        let endpoint = Endpoint::new(bench.job("gated"));
        let builder = bench.start(&endpoint);
        endpoint.wait_for_gate();
        let nix = builder.pid().nix();
        builder.signal(signal);
        assert_eq!(builder.end(), (Some(0), String::new()));
        assert_failed(&endpoint, Kind::Interrupted, Next::Again, "the build was interrupted");
        assert_eq!(endpoint.report().stats.derivations, 1);
        endpoint.see(|seen| assert!(seen.has_whole_log()));
        [nix, bench.build_process()].iter().for_each(|process| process.wait_gone());
    }
}
