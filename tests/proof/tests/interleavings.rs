//! The shipped flows in every order (`../README.md`). `BINPLZ_PREEMPTIONS` is the bound of the large scenarios, 1 by default.

use std::time::{Duration, Instant};

use binplz_proof::{Mistake, Order, Scenario, explore};

/// More states than any scenario of the short form has.
const MOST: usize = 30_000_000;

fn preemptions() -> u8 {
    std::env::var("BINPLZ_PREEMPTIONS").map_or(1, |bound| bound.parse().expect("a small number"))
}

/// The most states of a scenario: `BINPLZ_STATES`, for a look at a part of a larger one.
fn most() -> usize {
    std::env::var("BINPLZ_STATES").map_or(MOST, |most| most.parse().expect("a number"))
}

/// Explores a scenario to its end. The line that it prints is a row of the report.
fn holds(scenario: &Scenario) {
    let began = Instant::now();
    let found = explore(scenario, most());
    let (name, seconds) = (scenario.name, began.elapsed().as_secs_f64());
    println!("| {name} | {} | {} | {} | {} | {seconds:.0} |", found.states, found.ends, found.depth, found.locals);
    if let Some(trace) = found.counterexample {
        panic!("{name}:\n{trace}");
    }
    assert!(found.complete, "{name} has more than {MOST} states");
}

/// Explores a scenario with a mistake in it, which must be found. Returns the property that it breaks, and in how many steps.
fn fails(scenario: &Scenario, mistake: Mistake) -> (String, usize) {
    let found = explore(&Scenario { mistake: Some(mistake), ..scenario.clone() }, MOST);
    let trace = found.counterexample.unwrap_or_else(|| panic!("{mistake:?} is not found in {} states", found.states));
    println!("{mistake:?}, after {} states:\n{trace}", found.states);
    let (steps, last) = trace.trim_end().rsplit_once('\n').expect("some steps");
    (last.trim().to_owned(), steps.lines().count())
}

fn one_task() -> Scenario {
    Scenario { clients: vec!["a"], dispatchers: 2, ..Scenario::named("one client, two dispatchers, one task") }
}

fn one_derivation() -> Scenario {
    Scenario {
        clients: vec!["a", "b"],
        dispatchers: 1,
        one_derivation: true,
        ..Scenario::named("two tasks of one derivation")
    }
}

#[test]
fn one_client_two_dispatchers_and_a_task_end_well_with_a_crash_at_every_await() {
    holds(&Scenario { crashes: 1, name: "one client, two dispatchers, one task, a crash", ..one_task() });
}

#[test]
fn one_client_two_dispatchers_and_a_task_end_well_with_a_lost_reply_at_every_await() {
    holds(&Scenario { losses: 1, name: "one client, two dispatchers, one task, a lost reply", ..one_task() });
}

#[test]
fn one_client_two_dispatchers_and_a_task_end_well_with_a_crash_and_a_lost_reply_at_every_await() {
    let name = "one client, two dispatchers, one task, a crash and a lost reply";
    // The long form is exhaustive.
    let preemptions = Some(preemptions() + 1).filter(|bound| *bound < 4);
    holds(&Scenario { crashes: 1, losses: 1, preemptions, name, ..one_task() });
}

/// The lease ends while the builder reports its build, and a heartbeat that was decided before extends it.
#[test]
fn a_report_at_the_end_of_a_lease_makes_no_build_ready_without_its_objects() {
    holds(&Scenario {
        clients: vec!["a"],
        dispatchers: 1,
        heartbeats: true,
        passes: vec![Duration::from_secs(30), Duration::from_secs(31)],
        preemptions: Some(preemptions() + 2),
        ..Scenario::named("one task, a heartbeat, a lease that ends")
    });
}

#[test]
fn two_clients_two_dispatchers_and_a_task_end_well() {
    holds(&Scenario { clients: vec!["a", "a"], name: "two clients, two dispatchers, one task", ..one_task() });
}

#[test]
fn two_tasks_of_one_derivation_realise_it_once() {
    holds(&one_derivation());
}

#[test]
fn two_builds_in_one_slot_run_one_after_the_other() {
    holds(&Scenario { clients: vec!["a", "b"], dispatchers: 1, slots: 1, ..Scenario::named("two builds, one slot") });
}

/// The second dispatcher may find the slot taken, so the end of the task must wake a third one.
#[test]
fn a_slot_that_is_free_wakes_a_dispatcher() {
    holds(&Scenario {
        clients: vec!["a", "b"],
        dispatchers: 2,
        slots: 1,
        preemptions: Some(preemptions()),
        ..Scenario::named("two builds, one slot, two dispatchers")
    });
}

#[test]
fn two_builds_with_money_for_one_run_one_after_the_other() {
    holds(&Scenario {
        clients: vec!["a", "b"],
        dispatchers: 1,
        budget: 1,
        ..Scenario::named("two builds, money for one")
    });
}

#[test]
fn two_builds_that_need_a_dependency_realise_it_once() {
    holds(&Scenario {
        clients: vec!["a", "b"],
        dispatchers: 1,
        dependency: true,
        preemptions: Some(preemptions()),
        ..Scenario::named("two builds of one dependency")
    });
}

#[test]
fn only_planned_paths_are_promoted() {
    holds(&Scenario {
        clients: vec!["a"],
        dispatchers: 1,
        promoters: 2,
        crashes: 1,
        preemptions: Some(preemptions() + 1),
        ..Scenario::named("two promoters, a crash")
    });
}

#[test]
fn garbage_collection_removes_nothing_that_a_client_or_a_row_needs() {
    let later = Duration::from_secs(76 * 60);
    holds(&Scenario {
        ready: vec!["a"],
        before: vec![Order::Keep(0)],
        clients: vec!["a"],
        dispatchers: 1,
        collectors: 2,
        operators: vec![vec![Order::Move('6'), Order::Move('5')]],
        passes: vec![later, later],
        preemptions: Some(preemptions()),
        ..Scenario::named("two collections, a pin that moves and returns")
    });
}

/// The derivation of a moved pin's package was built before, and its objects are unreferenced until the new build takes them over.
#[test]
fn garbage_collection_removes_nothing_that_a_build_is_about_to_take_over() {
    holds(&Scenario {
        ready: vec!["a"],
        before: vec![Order::Keep(0)],
        then: vec![Order::Move('6')],
        clients: vec!["a"],
        dispatchers: 1,
        collectors: 2,
        passes: vec![Duration::from_secs(76 * 60)],
        preemptions: Some(preemptions()),
        ..Scenario::named("two collections, a build that takes over another one's objects")
    });
}

#[test]
fn what_is_served_follows_a_pin_that_moves() {
    holds(&Scenario {
        ready: vec!["a"],
        clients: vec!["a"],
        dispatchers: 1,
        operators: vec![vec![Order::Move('6')]],
        preemptions: Some(preemptions()),
        ..Scenario::named("a ready package, a pin move")
    });
}

#[test]
fn a_package_that_is_taken_down_is_not_served() {
    holds(&Scenario {
        ready: vec!["a"],
        clients: vec!["a"],
        operators: vec![vec![Order::Withhold("a")]],
        ..Scenario::named("a ready package, a takedown")
    });
}

/// Three clients, two dispatchers, two packages and a pin that moves, with one interruption less than elsewhere: in the short form
/// each process runs to its end, in every order.
fn crowd(name: &'static str, orders: Vec<Order>) -> Scenario {
    Scenario {
        clients: vec!["a", "a", "b"],
        dispatchers: 2,
        operators: vec![vec![Order::Move('6')], orders],
        preemptions: Some(preemptions() - 1),
        ..Scenario::named(name)
    }
}

/// The same with a sweep, a lease that passes at any moment, and a process whose clock is a lease ahead or behind.
fn late_crowd(name: &'static str, orders: Vec<Order>) -> Scenario {
    Scenario {
        sweeps: 1,
        skews: 1,
        passes: vec![Duration::from_secs(61)],
        preemptions: Some(preemptions()),
        ..crowd(name, orders)
    }
}

#[test]
fn a_crowd_ends_well_while_a_pin_moves_and_a_package_is_taken_down() {
    holds(&crowd("a crowd, a pin move, a takedown", vec![Order::Withhold("a")]));
}

#[test]
fn a_crowd_ends_well_while_builds_are_cancelled_paused_and_resumed() {
    holds(&crowd("a crowd, a pin move, a cancel, a pause", vec![Order::Cancel("a"), Order::Pause, Order::Resume]));
}

#[test]
fn late_tasks_and_clocks_that_are_a_lease_off_end_well() {
    holds(&Scenario {
        clients: vec!["a"],
        operators: Vec::new(),
        ..late_crowd("one client, two dispatchers, a sweep, a lease that passes, a clock that is off", Vec::new())
    });
}

#[test]
#[ignore = "more than 3,000,000 states (../README.md): scripts/prove"]
fn a_late_crowd_ends_well_while_a_package_is_taken_down() {
    holds(&late_crowd("a late crowd, a takedown", vec![Order::Withhold("a")]));
}

#[test]
#[ignore = "more than 3,000,000 states (../README.md): scripts/prove"]
fn a_late_crowd_ends_well_while_builds_are_cancelled_paused_and_resumed() {
    holds(&late_crowd("a late crowd, a cancel, a pause", vec![Order::Cancel("a"), Order::Pause, Order::Resume]));
}

#[test]
fn the_checker_finds_a_ledger_that_forgets_versions() {
    let (property, steps) = fails(&one_derivation(), Mistake::ForgetsVersions);
    assert!(steps < 40, "{property} after {steps} steps");
}

#[test]
fn the_checker_finds_a_ledger_that_tears_commits() {
    let (property, steps) = fails(&one_task(), Mistake::TearsCommits);
    assert!(steps < 20, "{property} after {steps} steps");
}

#[test]
fn the_checker_finds_a_launcher_that_starts_a_second_builder() {
    let scenario = Scenario { losses: 1, ..one_task() };
    let (property, steps) = fails(&scenario, Mistake::LaunchesTwice);
    assert!(steps < 30, "{property} after {steps} steps");
}
