//! What names mean, and when: while there is no catalogue, when there is one, and at the moment between; what asking for what is
//! not there costs.

mod partial;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use binplz_catalogue::{About, Obstacle, Record, Standing, Writer};
use binplz_core::{
    answer::{
        asked::{Asked, Format},
        reply::Body,
    },
    build::{
        Build, Event, State,
        failure::{Failure, Kind},
        policy::{Names, Policy},
        protocol::{Looked, Nixpkgs, Outcome, Report, Stats, Upload},
    },
    flow::{
        advance,
        lease::{
            built::built,
            job::{self, Bearer, Denied},
            settle::settle,
        },
        operator::{
            census::LossGroup,
            orders::{Operator, Order},
            pins,
        },
        request::{log, outcome::RequestOutcome, search::search, status::status, wait},
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    id::{
        key::{Attr, BuildKey, Product, System},
        target::{Query, Search},
        wait::Patience,
    },
    nixpkgs::pins::{Change, Programs},
    objects::{
        artifact::{Manifest, ObjectName, ObjectPath, Refusal, Verdict},
        content::Content,
    },
    ports::{Deployment, HasStore, Intake, Read},
    row::RowKey,
};
use binplz_tests::{
    random::Random,
    world::{World, ask, rev, target},
};

const X86: System = System::X86_64Linux;
const ARM: System = System::Aarch64Linux;

/// A world whose names are those of a catalogue.
fn world(names: Names) -> Arc<World> {
    World::naming(names, Policy { slots: 2, ..Policy::default() })
}

/// What an answer says in a terminal, with its status.
async fn told(w: &Arc<World>, path: &str) -> String {
    let reply = ask(w, path).await;
    let asked = Asked { origin: w.origin(), target: None, format: Format::Shell, retry: false };
    let answer = reply.answer(&asked);
    let Body::Text(text) = answer.body else { panic!("no text for {path}") };
    format!("{} {}", answer.status, text.lines().next().unwrap_or_default())
}

/// Whether an answer says that there is no catalogue.
async fn by_attribute(w: &Arc<World>, path: &str) -> bool {
    let asked = Asked { origin: w.origin(), target: None, format: Format::Json, retry: false };
    let answer = ask(w, path).await.answer(&asked);
    answer.headers.contains(&("x-binplz-catalogue", "missing".to_owned()))
}

async fn catalogue(w: &World, digit: char, system: System) -> Build {
    w.build_of(&BuildKey { rev: rev(digit), system, product: Product::Catalogue }).await
}

fn bearer(build: &Build) -> Bearer {
    let lease = build.lease().expect("a live lease");
    Bearer { key: build.key.clone(), lease: lease.id.clone(), token: lease.token.clone() }
}

/// The files of a small set: `ripgrep` with `rg`, `gnused` with `sed` and as an alias, `moreutils` with some, `exa` that throws;
/// `vim`, `busybox` and `toybox`, which all have `vi` and `ex`.
fn files(digit: char, system: System) -> binplz_catalogue::Files {
    let mut writer = Writer::new(rev(digit));
    let mut evaluated = |attr: &str, main: Option<&str>, standing| {
        let description = if attr == "tree" { "List the contents of directories".to_owned() } else { String::new() };
        let about = About { description, main_program: main.map(str::to_owned), ..About::default() };
        let attr = attr.parse().expect("an attribute");
        writer.evaluated(Record { attr, system, about, standing }).expect("told once");
    };
    let buildable = || Standing::Buildable { drv_path: None };
    for (attr, main) in [("tree", Some("tree")), ("ripgrep", Some("rg")), ("gnused", Some("sed")), ("moreutils", None)]
    {
        evaluated(attr, main, buildable());
    }
    for attr in ["vim", "busybox", "toybox"] {
        evaluated(attr, Some(attr), buildable());
    }
    let gone = Standing::Refused { why: Obstacle::Throws, detail: Some("use eza".to_owned()) };
    evaluated("exa", None, gone);
    let programs =
        [("moreutils", ["sponge", "ts"]), ("vim", ["vi", "ex"]), ("busybox", ["vi", "ex"]), ("toybox", ["vi", "ex"])];
    for (attr, program) in programs.into_iter().flat_map(|(attr, all)| all.map(|program| (attr, program))) {
        let parsed = program.parse().expect("a program's name");
        writer.in_database(attr.parse().expect("an attribute"), parsed);
    }
    writer.finish().expect("small")
}

/// Ends the making of a catalogue well, as its builder would.
async fn make(w: &World, digit: char, system: System) {
    finish(w, &bearer(&catalogue(w, digit, system).await), files(digit, system)).await;
}

/// The same with other files.
async fn finish(w: &World, bearer: &Bearer, files: binplz_catalogue::Files) {
    for (name, bytes) in [(ObjectName::Details, files.details), (ObjectName::Lookup, files.lookup)] {
        let path = ObjectPath { key: bearer.key.clone(), lease: bearer.lease.clone(), name };
        w.store().write(&path, bytes).await.expect("the store");
    }
    settle(w, bearer, Report { outcome: Outcome::Catalogued, stats: Stats::default(), materials: None })
        .await
        .expect("a live lease");
    w.reap().await;
}

/// A world with the catalogue of its pin.
async fn made(names: Names) -> Arc<World> {
    let w = world(names);
    sweep(&*w).await.expect("the ledger");
    dispatch(&*w).await.expect("the ledger");
    make(&w, '5', X86).await;
    w
}

/// What a search says, and the packages.
async fn search_for(w: &World, text: &str) -> (String, Vec<String>) {
    let asked = Search { text: text.to_owned(), system: None, pin: None };
    let found = search(w, &asked).await.expect("a search");
    (found.headline(), found.packages.iter().map(|listing| listing.package.to_string()).collect())
}

#[tokio::test]
async fn a_search_finds_names_then_descriptions_and_without_the_details_file_names_alone() {
    let w = made(Names::Known).await;
    let one = |package: &str| ("1 package".to_owned(), vec![package.to_owned()]);
    let none = |text: &str| (format!("No package matches {text}"), vec![]);
    assert_eq!(search_for(&w, "directories contents").await, one("tree"));
    assert_eq!(search_for(&w, "directories of nothing").await, none("directories of nothing"));
    assert_eq!(search_for(&w, "tree").await, one("tree"), "found by both, and listed once");
    let prefix = catalogue(&w, '5', X86).await.prefix().expect("a catalogue");
    let details = prefix.object(ObjectName::Details);
    fs::remove_file(w.store().file(&details)).expect("an object");
    assert_eq!(search_for(&w, "tree").await, one("tree"));
    assert_eq!(search_for(&w, "directories contents").await, none("directories contents"));
}

#[tokio::test]
async fn an_operator_sees_what_a_catalogue_could_not_evaluate_grouped_by_error() {
    let order = || Order::Catalogue { pin: None, system: None };
    let declined = world(Names::Known).carry_out(order()).await.expect_err("there is no catalogue");
    assert!(declined.0.contains("not built yet"), "{declined}");
    let summary = made(Names::Known).await.carry_out(order()).await.expect("a catalogue").catalogue().expect("it");
    assert_eq!((summary.attributes, summary.refused, summary.lost), (8, 0, 1));
    let [LossGroup { error, count: 1, examples }] = &summary.errors[..] else { panic!("{summary:?}") };
    assert_eq!((error.as_str(), examples[0].as_str()), ("use eza", "exa"));
    let unknown = Order::Catalogue { pin: Some("other".parse().expect("a name")), system: None };
    assert!(made(Names::Known).await.carry_out(unknown).await.is_err());
}

#[tokio::test]
async fn a_bundle_has_the_names_of_programs_and_of_what_has_no_static_program() {
    let w = made(Names::Known).await;
    for (path, attr) in [
        ("-/bundle/tree", "tree"),
        // A program of a package, and the package that has it.
        ("-/bundle/sponge", "moreutils"),
        ("-/bundle/vi", "vim"),
        // The catalogue is one of static packages: this one is refused there, and that one has another program.
        ("-/bundle/exa", "exa"),
        ("-/bundle/tree/other", "tree"),
        // Which of its programs is the main one, its build finds out.
        ("-/bundle/moreutils", "moreutils"),
    ] {
        let RequestOutcome::Pending(status) = ask(&w, path).await else { panic!("{path} is not built") };
        assert_eq!(status.package, Product::Bundle { attr: attr.parse().expect("a name"), full: false }, "{path}");
    }
    assert!(told(&w, "-/bundle/tre").await.starts_with("404 "), "{}", told(&w, "-/bundle/tre").await);
}

#[tokio::test]
async fn a_sweep_asks_for_the_catalogue_of_each_pin_once_and_a_changed_pin_for_its_own_at_once() {
    let w = world(Names::Known);
    sweep(&*w).await.expect("the ledger");
    assert!(matches!(catalogue(&w, '5', X86).await.state, State::Queued { .. }));
    assert_eq!(catalogue(&w, '5', ARM).await.state, State::Unasked, "that system was not requested");
    w.move_pin('6').await;
    assert!(matches!(catalogue(&w, '6', X86).await.state, State::Queued { .. }));
    dispatch(&*w).await.expect("the ledger");
    // The old one is no longer needed.
    assert_eq!(catalogue(&w, '5', X86).await.state, State::Unasked);
    make(&w, '6', X86).await;
    let commits = w.commits();
    sweep(&*w).await.expect("the ledger");
    assert_eq!(w.commits(), commits, "there is nothing to ask for");
    let name = "again".parse().expect("a name");
    w.change(Change::Add(name, rev('6'), Nixpkgs::Path("/set".to_owned()).into(), None)).await;
    assert_eq!(w.commits(), commits + 1, "the same commit by another name is no other catalogue");
}

#[tokio::test]
async fn two_who_ask_for_a_catalogue_at_once_get_one() {
    let w = world(Names::Known);
    sweep(&*w).await.expect("the ledger"); // the pins are written
    w.move_pin('7').await;
    let other = Arc::clone(&w);
    w.before_next_commit(async move { drop(ask(&other, "tree?sys=aarch64-linux").await) });
    assert!(matches!(ask(&w, "tree?sys=aarch64-linux").await, RequestOutcome::Pending(_)));
    dispatch(&*w).await.expect("the ledger");
    dispatch(&*w).await.expect("the ledger");
    // One at a time; both are due since the same instant.
    let live = async |system| catalogue(&w, '7', system).await.lease().map(|lease| lease.attempt);
    let (first, then) = if live(ARM).await.is_some() { (ARM, X86) } else { (X86, ARM) };
    assert_eq!((live(first).await, live(then).await), (Some(1), None));
    make(&w, '7', first).await;
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(live(then).await, Some(1));
}

#[tokio::test]
async fn a_catalogue_takes_no_slot_so_that_no_program_waits_for_it() {
    let w = World::naming(Names::Known, Policy { slots: 1, ..Policy::default() });
    sweep(&*w).await.expect("the ledger");
    dispatch(&*w).await.expect("the ledger");
    assert!(catalogue(&w, '5', X86).await.lease().is_some());
    ask(&w, "tree").await;
    w.pass(Duration::from_secs(1));
    ask(&w, "hello").await;
    dispatch(&*w).await.expect("the ledger");
    assert!(w.build("tree").await.lease().is_some() && w.build("hello").await.lease().is_none());
    assert_eq!(w.limits().await.taken(), 1);
}

#[tokio::test]
async fn until_there_is_a_catalogue_names_are_attributes_and_the_answer_says_so() {
    let w = world(Names::Known);
    assert!(by_attribute(&w, "tree").await);
    assert!(by_attribute(&w, "rg").await);
    let RequestOutcome::Pending(status) = ask(&w, "rg").await else { panic!("there is no catalogue yet") };
    assert!(status.headline().contains("catalogue"), "{}", status.headline());
    dispatch(&*w).await.expect("the ledger");
    let bearer = w.bearer("rg").await;
    let failed = Outcome::Failed(Failure::new(Kind::NoSuchPackage, ""));
    settle(&*w, &bearer, Report { outcome: failed, stats: Stats::default(), materials: None })
        .await
        .expect("a live lease");
    assert!(told(&w, "rg").await.starts_with("404 "), "{}", told(&w, "rg").await);
    assert!(told(&w, "rg").await.contains("the catalogue of this commit is not built yet"));
    dispatch(&*w).await.expect("the ledger");
    make(&w, '5', X86).await;
    // The same name means another package from now on.
    assert!(matches!(ask(&w, "rg").await, RequestOutcome::Pending(status) if status.package.to_string() == "ripgrep"));
    assert!(!by_attribute(&w, "rg").await && !by_attribute(&w, "tree").await);
}

#[tokio::test]
async fn a_request_that_saw_no_catalogue_while_it_was_made_is_by_attribute_and_the_next_one_is_not() {
    let w = world(Names::Known);
    sweep(&*w).await.expect("the ledger");
    dispatch(&*w).await.expect("the ledger");
    let other = Arc::clone(&w);
    // Between the look at the catalogue and the build's own row.
    w.before_next_commit(async move { make(&other, '5', X86).await });
    assert!(matches!(ask(&w, "sed").await, RequestOutcome::Pending(status) if status.by_attribute));
    assert!(matches!(ask(&w, "sed").await, RequestOutcome::Pending(status) if status.package.to_string() == "gnused"));
}

#[tokio::test]
async fn a_programs_name_is_built_as_its_package_and_a_hit_by_it_is_one_read_of_its_own_row() {
    let w = made(Names::Known).await;
    assert!(
        matches!(ask(&w, "sponge").await, RequestOutcome::Pending(status) if status.package.to_string() == "moreutils")
    );
    assert!(matches!(ask(&w, "moreutils/sponge").await, RequestOutcome::Pending(_)));
    dispatch(&*w).await.expect("the ledger");
    let key = BuildKey { rev: rev('5'), system: X86, product: "moreutils".parse().expect("a package") };
    let bearer = bearer(&w.build_of(&key).await);
    let report = w.report_of(&bearer, &["sponge", "ts"]).await;
    settle(&*w, &bearer, report).await.expect("a live lease");
    let RequestOutcome::Hit { served, .. } = ask(&w, "sponge").await else { panic!("no hit") };
    assert_eq!((served.attr.to_string(), served.bin.to_string()), ("moreutils".to_owned(), "sponge".to_owned()));
    let commits = w.commits();
    w.reads();
    assert!(matches!(ask(&w, "sponge").await, RequestOutcome::Hit { .. }));
    let row = RowKey::Served("sponge?sys=x86_64-linux".parse().expect("a key"));
    assert_eq!((w.reads(), w.commits()), (vec![(row, Read::Eventual)], commits));
    // Its log is its package's, under each of its names.
    for path in ["sponge", "moreutils/ts", "ts"] {
        assert!(log::log(&*w, &target(path), 1).await.is_ok());
        let status = status(&*w, &target(path)).await.expect("a build");
        assert_eq!((status.state, status.package.to_string()), ("ready", "moreutils".to_owned()));
    }
}

#[tokio::test]
async fn what_was_built_wins_over_what_the_catalogue_expected() {
    let w = made(Names::Known).await;
    ask(&w, "ts").await;
    dispatch(&*w).await.expect("the ledger");
    let key = BuildKey { rev: rev('5'), system: X86, product: "moreutils".parse().expect("a package") };
    let bearer = bearer(&w.build_of(&key).await);
    let report = w.report_of(&bearer, &["sponge"]).await;
    settle(&*w, &bearer, report).await.expect("a live lease");
    assert!(told(&w, "ts").await.contains("moreutils has no program ts; it has sponge"), "{}", told(&w, "ts").await);
}

/// Ends the build of a package as its builder would: with these programs, or with a failure for good.
async fn settled(w: &World, package: &str, programs: Option<&[&str]>) {
    dispatch(w).await.expect("the ledger");
    let key = BuildKey { rev: rev('5'), system: X86, product: package.parse().expect("a package") };
    let bearer = bearer(&w.build_of(&key).await);
    let report = match programs {
        Some(programs) => w.report_of(&bearer, programs).await,
        None => {
            let failed = Outcome::Failed(Failure::new(Kind::BuildFailed, "cc"));
            Report { outcome: failed, stats: Stats::default(), materials: None }
        }
    };
    settle(w, &bearer, report).await.expect("a live lease");
    w.reap().await;
}

/// The package that a name means, and the others that its status lists.
async fn meant(w: &World, name: &str) -> (String, String) {
    let status = status(w, &target(name)).await.expect("a build");
    (status.package.to_string(), status.alternatives.iter().map(|other| format!("{other} ")).collect())
}

/// The header with the same program of other packages.
async fn alternatives(w: &Arc<World>, path: &str) -> Option<String> {
    let asked = Asked { origin: w.origin(), target: None, format: Format::Json, retry: false };
    let headers = ask(w, path).await.answer(&asked).headers;
    headers.into_iter().find(|(name, _)| *name == "x-binplz-alternatives").map(|(_, value)| value)
}

#[tokio::test]
async fn a_package_whose_build_fails_for_good_yields_to_the_next_one_with_that_program() {
    let w = made(Names::Known).await;
    assert_eq!(alternatives(&w, "vi").await.as_deref(), Some("busybox/vi, toybox/vi"));
    assert_eq!(meant(&w, "vi").await, ("vim".to_owned(), "busybox/vi toybox/vi ".to_owned()));
    settled(&w, "vim", None).await;
    // The status leads a waiting client to the next package, and a request starts its build.
    assert_eq!(meant(&w, "vi").await, ("busybox".to_owned(), "toybox/vi ".to_owned()));
    assert!(matches!(ask(&w, "vi").await, RequestOutcome::Pending(status) if status.package.to_string() == "busybox"));
    // A client that names the package gets that one's failure, and hears of the others.
    let line = told(&w, "vim/vi").await;
    assert!(
        line.starts_with("422 ") && line.contains("other packages have this program: busybox/vi, toybox/vi"),
        "{line}"
    );
    settled(&w, "busybox", Some(&["ex", "vi"])).await;
    let RequestOutcome::Hit { served, .. } = ask(&w, "vi").await else { panic!("no hit") };
    assert_eq!((served.attr.to_string(), served.bin.to_string()), ("busybox".to_owned(), "vi".to_owned()));
    // A hit lists them from its own row.
    w.reads();
    assert_eq!(alternatives(&w, "vi").await.as_deref(), Some("toybox/vi"));
    assert_eq!(w.reads().len(), 1);
    // A program of a ready package that turns out not to exist is missing there, and the others are named.
    let line = told(&w, "busybox/nvi").await;
    assert!(line.starts_with("404 ") && !line.contains("other packages"), "{line}");
}

/// Ends the build of a package well, with its main program and a script.
async fn settled_with_script(w: &World, package: &str, script: &str) {
    dispatch(w).await.expect("the ledger");
    let key = BuildKey { rev: rev('5'), system: X86, product: package.parse().expect("a package") };
    let bearer = bearer(&w.build_of(&key).await);
    let mut programs = [package, script];
    programs.sort_unstable();
    let mut report = w.report_of(&bearer, &programs).await;
    let Outcome::Built(manifest) = &mut report.outcome else { panic!("no manifest") };
    let refused = manifest.programs.iter_mut().find(|program| program.bin.as_str() == script).expect("it");
    refused.verdict = Verdict::Refused { why: Refusal::Script };
    settle(w, &bearer, report).await.expect("a live lease");
    w.reap().await;
}

#[tokio::test]
async fn a_package_whose_program_is_a_script_yields_to_the_next_one_with_that_program() {
    let w = made(Names::Known).await;
    assert_eq!(meant(&w, "vi").await.0, "vim");
    assert!(matches!(ask(&w, "vi").await, RequestOutcome::Pending(_)));
    settled_with_script(&w, "vim", "vi").await;
    // The next one fails to build, and the one after it has the program.
    for package in ["busybox", "toybox"] {
        assert!(
            matches!(ask(&w, "vi").await, RequestOutcome::Pending(status) if status.package.to_string() == package)
        );
        assert_eq!(meant(&w, "vi").await.0, package);
        // A client that waits, waits for that one.
        let query = Query::parse("vi", None).expect("a target");
        let looks = Arc::new(AtomicUsize::new(0));
        w.while_waiting({
            let looks = Arc::clone(&looks);
            async move {
                looks.fetch_add(1, SeqCst);
            }
        });
        assert_eq!(wait::hop(&*w, &query, 1, Patience::of(Some("curl/8"), None)).await, "/-/wait/2/vi");
        assert_eq!(looks.load(SeqCst), 1, "nothing was waited for");
        settled(&w, package, (package == "toybox").then_some(&["vi"][..])).await;
    }
    let RequestOutcome::Hit { served, .. } = ask(&w, "vi").await else { panic!("no hit") };
    assert_eq!(served.attr.to_string(), "toybox");
    // A client that names the package gets its reason.
    let line = told(&w, "vim/vi").await;
    assert!(line.starts_with("422 ") && line.contains("vi is a script"), "{line}");
}

#[tokio::test]
async fn if_no_package_can_serve_a_program_the_first_ones_reason_is_the_answer() {
    let w = made(Names::Known).await;
    for package in ["vim", "busybox", "toybox"] {
        assert!(matches!(ask(&w, "ex").await, RequestOutcome::Pending(_)), "{package}");
        settled_with_script(&w, package, "ex").await;
    }
    let line = told(&w, "ex").await;
    assert!(line.starts_with("422 ") && line.contains("vim: ") && line.contains("ex is a script"), "{line}");
    assert!(!line.contains("other packages"), "{line}");
}

#[tokio::test]
async fn if_all_packages_with_a_program_have_failed_for_good_the_first_ones_failure_is_the_answer() {
    let w = made(Names::Known).await;
    for package in ["vim", "busybox", "toybox"] {
        assert!(
            matches!(ask(&w, "ex").await, RequestOutcome::Pending(status) if status.package.to_string() == package)
        );
        settled(&w, package, None).await;
    }
    let line = told(&w, "ex").await;
    assert!(line.starts_with("422 ") && line.contains("vim: "), "{line}");
    let commits = w.commits();
    assert!(told(&w, "ex").await.starts_with("422 "));
    assert_eq!(w.commits(), commits);
}

#[tokio::test]
async fn a_package_that_is_taken_down_is_no_alternative() {
    let w = made(Names::Known).await;
    w.change(Change::Withhold("busybox".parse().expect("a package"), "its authors ask for it".to_owned())).await;
    assert_eq!(alternatives(&w, "vi").await.as_deref(), Some("toybox/vi"));
    settled(&w, "vim", None).await;
    assert_eq!(meant(&w, "vi").await.0, "toybox");
}

#[tokio::test]
async fn a_database_of_programs_reaches_the_catalogues_builder_alone_and_a_new_one_makes_the_catalogue_again() {
    let w = made(Names::Known).await;
    ask(&w, "tree").await;
    let content = |digit: &str| Content { sha256: digit.repeat(64).parse().expect("hex"), size: 7 };
    let pins = pins::load(&*w).await.expect("the ledger");
    let (name, pin) = (pins.default_name().clone(), pins.all()[pins.default_name()].clone());
    for digit in ["a", "b"] {
        let programs = Some(Programs::Stored(content(digit)));
        w.change(Change::Move(name.clone(), pin.rev.clone(), pin.nixpkgs.clone(), programs)).await;
        assert!(matches!(catalogue(&w, '5', X86).await.state, State::Queued { .. }));
        dispatch(&*w).await.expect("the ledger");
        let all = job::job(&*w, &bearer(&catalogue(&w, '5', X86).await)).await.expect("a live lease");
        let programs = all.programs.expect("a database");
        assert_eq!(programs.content, content(digit));
        assert!(programs.url.ends_with(&format!("/-/objects/nixpkgs/{}.sqlite", digit.repeat(64))), "{}", programs.url);
        make(&w, '5', X86).await;
    }
    let tree = job::job(&*w, &w.bearer("tree").await).await.expect("a live lease");
    assert_eq!(tree.programs, None);
}

#[tokio::test]
async fn what_nobody_has_starts_nothing_and_writes_nothing() {
    let w = made(Names::Known).await;
    let commits = w.commits();
    let rings = w.bell.0.load(SeqCst);
    for (path, answer) in [
        ("nothing-like-it", "404 "),
        ("tre", "404 "),
        ("moreutils/leaf", "404 "),
        ("no/where", "404 "),
        ("exa", "422 "),
        ("moreutils", "300 "),
        ("tree?pin=another", "400 "),
    ] {
        assert!(told(&w, path).await.starts_with(answer), "{path}: {}", told(&w, path).await);
    }
    // Ten thousand names, drawn anew each time from the same seed, and a thousand that differ from a real one by a letter.
    let mut random = Random(5);
    for _ in 0..10_000 {
        let name: String = (0..12).map(|_| random.letter()).collect();
        assert!(matches!(ask(&w, &name).await, RequestOutcome::Denied(denial) if denial.status() == 404), "{name}");
    }
    for _ in 0..1000 {
        let mut name = ["tree", "ripgrep", "gnused", "moreutils", "sponge"][random.below(5)].to_owned();
        name.insert(random.below(name.len() + 1), random.letter());
        assert!(matches!(ask(&w, &name).await, RequestOutcome::Denied(denial) if denial.status() == 404), "{name}");
    }
    assert_eq!((w.commits(), w.bell.0.load(SeqCst)), (commits, rings));
    assert!(told(&w, "tre").await.contains("did you mean tree?"), "{}", told(&w, "tre").await);
}

#[tokio::test]
async fn an_open_deployment_tries_what_its_catalogue_does_not_know() {
    let w = made(Names::Open).await;
    assert!(matches!(ask(&w, "rg").await, RequestOutcome::Pending(status) if status.package.to_string() == "ripgrep"));
    assert!(matches!(ask(&w, "closed.package").await, RequestOutcome::Pending(status) if !status.by_attribute));
    assert!(told(&w, "exa").await.starts_with("422 "));
}

#[tokio::test]
async fn where_names_are_attributes_no_catalogue_is_made() {
    let w = world(Names::Attributes);
    sweep(&*w).await.expect("the ledger");
    w.move_pin('6').await;
    assert!(matches!(ask(&w, "rg").await, RequestOutcome::Pending(status) if !status.by_attribute));
    assert_eq!(catalogue(&w, '6', X86).await.state, State::Unasked);
}

#[tokio::test]
async fn a_catalogue_that_fails_for_good_is_not_tried_again_and_one_that_cooled_down_is() {
    let w = world(Names::Known);
    sweep(&*w).await.expect("the ledger");
    for (kind, then) in [(Kind::BuilderError, "queued"), (Kind::EvaluationError, "failed")] {
        let build = catalogue(&w, '5', X86).await;
        if build.lease().is_none() {
            w.pass(Duration::from_secs(3600));
            dispatch(&*w).await.expect("the ledger");
        }
        let bearer = bearer(&catalogue(&w, '5', X86).await);
        let failed =
            Report { outcome: Outcome::Failed(Failure::new(kind, "no")), stats: Stats::default(), materials: None };
        settle(&*w, &bearer, failed).await.expect("a live lease");
        w.reap().await;
        sweep(&*w).await.expect("the ledger");
        let state = catalogue(&w, '5', X86).await.state;
        assert!(
            matches!((&state, then), (State::Queued { .. }, "queued") | (State::Failed { until: None, .. }, "failed")),
            "{state:?}"
        );
    }
    assert!(by_attribute(&w, "tree").await);
}

#[tokio::test]
async fn a_builder_stores_and_settles_what_its_lease_is_for_and_nothing_else() {
    let w = world(Names::Known);
    ask(&w, "tree").await;
    dispatch(&*w).await.expect("the ledger");
    let (tree, all) = (w.bearer("tree").await, bearer(&catalogue(&w, '5', X86).await));
    let job = job::job(&*w, &all).await.expect("a live lease");
    assert_eq!(job.key, all.key);
    let upload = |name: &str| {
        let sha256 = "0".repeat(64).parse().expect("hex");
        vec![Upload { name: name.parse().expect("an object"), size: 1, sha256 }]
    };
    for (bearer, name, may) in [
        (&tree, "bin/tree", true),
        (&tree, "lookup", false),
        (&all, "lookup", true),
        (&all, "details", true),
        (&all, "bin/tree", false),
        (&all, "manifest.json", false),
        (&all, "log/000001", true),
        (&tree, "partial/lookup", false),
        (&tree, "partial/000001", false),
        (&all, "partial/lookup", true),
        (&all, "partial/details", true),
        (&all, "partial/000001", true),
        (&all, "partial/000256", true),
        (&all, "partial/000257", false),
    ] {
        let granted = job::uploads(&*w, bearer, &upload(name)).await;
        assert_eq!(granted.is_ok(), may, "{name}: {granted:?}");
    }
    let catalogued = || Report { outcome: Outcome::Catalogued, stats: Stats::default(), materials: None };
    assert!(matches!(settle(&*w, &tree, catalogued()).await, Err(Denied::Nonsense(_))));
    assert!(matches!(settle(&*w, &all, catalogued()).await, Err(Denied::Nonsense(_))), "nothing is in the store");
    let built = w.report(&tree).await;
    assert!(matches!(settle(&*w, &all, built).await, Err(Denied::Nonsense(_))));
    make(&w, '5', X86).await;
    // Its reply was lost.
    settle(&*w, &all, catalogued()).await.expect("heard already");
}

#[tokio::test]
async fn a_catalogues_maker_is_told_of_each_package_that_was_built_once_and_no_other_builder_is() {
    let w = world(Names::Attributes);
    let named = |n: usize| format!("built{n}");
    for path in (0..60).map(named).chain(["built0?sys=aarch64-linux".to_owned()]) {
        ask(&w, &path).await;
        dispatch(&*w).await.expect("the ledger");
        let bearer = w.bearer(&path).await;
        let denied = built(&*w, &bearer, Looked::default()).await;
        assert!(matches!(denied, Err(Denied::Forbidden(_))), "{denied:?}");
        let report = w.report_of(&bearer, &["first", "second"]).await;
        settle(&*w, &bearer, report).await.expect("a live lease");
        w.reap().await;
    }
    // One of them again, from another nixpkgs: it counts as what it is by now.
    w.move_pin('6').await;
    ask(&w, "built7").await;
    dispatch(&*w).await.expect("the ledger");
    w.finish("built7").await;

    let key = BuildKey { rev: rev('6'), system: X86, product: Product::Catalogue };
    advance(&*w, &key, &Event::Ask).await.expect("it is asked for");
    dispatch(&*w).await.expect("the ledger");
    let bearer = bearer(&catalogue(&w, '6', X86).await);
    let (mut told, mut seen, mut answers) = (Vec::new(), Some(Looked::default()), 0);
    while let Some(from) = seen {
        let answer = built(&*w, &bearer, from).await.expect("a live lease");
        told.extend(answer.packages);
        (seen, answers) = (answer.next, answers + 1);
    }
    assert_eq!(answers, 3);
    let programs = |attr: &str| {
        let of = |(known, manifest): &(Attr, Manifest)| (known.as_str() == attr).then_some(manifest.programs.len());
        told.iter().filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!((told.len(), programs("built7"), programs("built8")), (60, vec![1], vec![2]));
}
