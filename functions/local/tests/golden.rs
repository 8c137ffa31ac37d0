//! Rows as this version writes them, in files. Later versions must read them, and a change of a row's shape fails here.
//! A golden file is never changed; a new shape gets a new file beside it.

use std::time::Duration;

use binplz_core::{
    build::{
        Attempt, Borrowed, Build, Lease, Made, State,
        dependency::{Dependency, Stage},
        derivation::Derivation,
        failed_dependencies::FailedDependencies,
        failure::{Failure, Kind},
        learned::{Learned, Measured},
        partial::{Checkpoint, Partial, Published},
        policy::{Policy, Prices},
        profile::BuildProfile,
        protocol::{Nixpkgs, Phase, Progress, Stats},
        size::Size,
        waiting::{Planned, Waiting},
    },
    id::{
        key::{BuildKey, DrvHash, LeaseId, Product, System},
        money::Micros,
        time::Timestamp,
    },
    nixpkgs::{
        pins::{Change, Pins, Programs, Source},
        served::{Notes, Served},
    },
    objects::{
        artifact::{AttemptPrefix, Bundled, Declared, ObjectName, ObjectPath},
        content::Content,
        needs::{Data, Need},
    },
    quota::{
        client::{Allowance, Client, KeyChange, Keys},
        limits::{Limits, Why},
    },
    row::{Row, RowKey, Trash, Unreferenced},
};
use binplz_local::item;

fn key() -> BuildKey {
    let rev = "0123456789abcdef0123456789abcdef01234567".parse().expect("40 hex digits");
    BuildKey { rev, system: System::Aarch64Linux, product: "python3Packages.foo".parse().expect("a package") }
}

fn id(n: u8) -> LeaseId {
    format!("{n:032x}").parse().expect("32 hex digits")
}

fn build(state: State, history: Vec<Attempt>) -> Row {
    Row::Build(Build { state, history, ..Build::unasked(key()) })
}

fn lease(task: Option<&str>) -> Lease {
    Lease {
        id: id(2),
        token: "cd".repeat(32).parse().expect("64 hex digits"),
        attempt: 2,
        size: Size::default(),
        claimed: Timestamp(1_700_000_060_000),
        expires: Timestamp(1_700_000_120_000),
        task: task.map(str::to_owned),
        on_demand: false,
        derivation: None,
        seconds: None,
        plan: None,
    }
}

fn failure() -> Failure {
    Failure { derivation: Some("zlib-1.3".to_owned()), ..Failure::new(Kind::BuildFailed, "a.c:1: error: \"x\"") }
}

fn history() -> Vec<Attempt> {
    let attempt = |n: u8, failure| Attempt {
        lease: id(n),
        number: n.into(),
        size: Size::default(),
        claimed: Timestamp(1_700_000_000_000),
        ended: Timestamp(1_700_000_030_000),
        task: None,
        failure,
        continued: false,
        left: None,
        awaited: None,
        seen_in: None,
        plan: None,
        stats: Stats { derivations: 7, log_segments: 3, ..Stats::default() },
    };
    vec![attempt(1, Some(Failure::new(Kind::LostHeartbeat, ""))), attempt(2, None)]
}

fn served(asked: &str, stale: bool) -> Row {
    let bin: binplz_core::id::key::Bin = "[".parse().expect("a program's name");
    Row::Served(Served {
        asked: asked.parse().expect("a key"),
        pin: "nixos-26.05".parse().expect("a pin's name"),
        rev: key().rev,
        attr: "python3Packages.foo".parse().expect("an attribute"),
        bin: bin.clone(),
        version: "1.2.3".to_owned(),
        sha256: "ef".repeat(32).parse().expect("64 hex digits"),
        size: 123_456_789_012,
        object: ObjectPath { key: key(), lease: id(2), name: ObjectName::Program(bin) },
        notes: Notes::default(),
        stale,
        lost: false,
    })
}

fn served_with_others() -> Row {
    let Row::Served(served) = served("python3Packages.foo?sys=aarch64-linux", false) else { panic!("a served row") };
    let others = ["bar/%5B", "nested.baz/%5B"].map(|other| other.parse().expect("a program"));
    Row::Served(Served { notes: Notes { others: others.to_vec(), ..Notes::default() }, ..served })
}

/// The same row, of which the object is missing or damaged.
fn lost(row: Row) -> Row {
    let Row::Served(served) = row else { panic!("a served row") };
    Row::Served(Served { lost: true, ..served })
}

/// With all that answers say of it.
fn needy() -> Row {
    let Row::Served(served) = served("python3Packages.foo?sys=aarch64-linux", false) else { panic!("served") };
    let path = "/nix/store/0c8avx37rwvyk1s2x2v7x2hqkxbs3qd4-x-1.0/share".to_owned();
    let needs = vec![
        Need::Data { data: Data::Terminfo, path: path.clone(), settable: true },
        Need::Program { path },
        Need::Variable { name: "GREETING".to_owned(), value: "good".to_owned() },
    ];
    let output = Some("tools".parse().expect("an output's name"));
    Row::Served(Served {
        notes: Notes { output, needs: Some(needs), unwrapped: true, name_matters: true, ..Notes::default() },
        ..served
    })
}

fn bundle() -> Row {
    let product = Product::Bundle { attr: "python3Packages.foo".parse().expect("an attribute"), full: true };
    let made = Made { lease: id(2), borrowed: None, since: Timestamp(1_700_000_000_000) };
    Row::Build(Build { state: State::Ready(made), ..Build::unasked(BuildKey { product, ..key() }) })
}

fn served_bundle() -> Row {
    let Row::Served(served) = served("-/bundle/python3Packages.foo?full&sys=aarch64-linux", false) else {
        panic!("served")
    };
    let bundle = Some(Bundled { unpacked: 142_700_000, files: 4048, of_static: true });
    Row::Served(Served { notes: Notes { bundle, ..Notes::default() }, ..served })
}

/// A default pin that moved, one whose tarball is in the bucket, and a retired one.
fn pins() -> Row {
    let name = |name: &str| name.parse().expect("a pin's name");
    let rev = |digit: &str| digit.repeat(40).parse().expect("40 hex digits");
    let (url, nar_hash) = ("https://example.org/nixpkgs.tar.gz".to_owned(), Some("sha256-x".to_owned()));
    let first = Pins::one(name("unstable"), rev("1"), Nixpkgs::Tarball { url, nar_hash }.into());
    let stored = Source::Stored { nar_hash: "sha256-y".to_owned() };
    let path: Source = Nixpkgs::Path("/nix/store/x-nixpkgs".to_owned()).into();
    let changes = [
        Change::Add(name("nixos-26.05"), rev("2"), stored, None),
        Change::Add(name("local"), rev("3"), path.clone(), None),
        Change::Move(name("unstable"), rev("4"), path, None),
        Change::Keep(name("nixos-26.05"), Duration::from_secs(7 * 24 * 3600)),
        Change::Retire(name("local")),
    ];
    let at = Timestamp(1_700_000_000_000);
    Row::Pins(changes.iter().fold(first, |pins, change| pins.changed(change, at).expect("legal").expect("a change")))
}

/// A pin with a database of programs that its nixpkgs contains, and one with an operator's.
fn pins_with_programs() -> Row {
    let (local, unstable) = ("local".parse().expect("a pin's name"), "unstable".parse().expect("a pin's name"));
    let (path, at): (Source, _) =
        (Nixpkgs::Path("/nix/store/x-nixpkgs".to_owned()).into(), Timestamp(1_700_000_000_000));
    let rev = |digit: &str| digit.repeat(40).parse().expect("40 hex digits");
    let stored = Content { sha256: "ef".repeat(32).parse().expect("64 hex digits"), size: 123_456_789 };
    let changes = [
        Change::Move(Clone::clone(&local), rev("1"), path.clone(), Some(Programs::Included)),
        Change::Add(unstable, rev("2"), path.clone(), Some(Programs::Stored(stored))),
    ];
    let first = Pins::one(local, rev("1"), path);
    Row::Pins(changes.iter().fold(first, |pins, change| pins.changed(change, at).expect("legal").expect("a change")))
}

fn drv() -> DrvHash {
    "0c8avx37rwvyk1s2x2v7x2hqkxbs3qd4".parse().expect("base 32")
}

fn main() -> Declared {
    Declared { main_program: Some("foo".to_owned()), output: None }
}

/// The history of a build whose only attempt left its derivation to another build.
fn left(failure: Option<Failure>) -> Vec<Attempt> {
    let [_, last] = history().try_into().expect("two");
    vec![Attempt { left: Some(drv()), failure, ..last }]
}

fn catalogue() -> Row {
    let key = BuildKey { product: Product::Catalogue, ..key() };
    Row::Build(Build {
        state: State::Ready(Made { lease: id(2), borrowed: None, since: Timestamp(1_700_000_000_000) }),
        ..Build::unasked(key)
    })
}

/// A catalogue under way: an earlier attempt has published its top level, and this one has stored a checkpoint.
fn partial_catalogue() -> Row {
    let Row::Build(Build { key, .. }) = catalogue() else { panic!("a build") };
    let published = Some(Published { lease: id(1), whole: false });
    let checkpoint = Some(Checkpoint { lease: id(2), parts: 3, bytes: 123_456 });
    let partial = Partial { published, checkpoint, ..Partial::default() };
    Row::Build(Build { state: State::Building(lease(None)), partial, ..Build::unasked(key) })
}

/// A catalogue that is made anew, while the earlier one stays in use.
fn catalogue_made_anew() -> Row {
    let Row::Build(Build { key, .. }) = catalogue() else { panic!("a build") };
    let published = Some(Published { lease: id(1), whole: true });
    let partial = Partial { published, checkpoint: None, ..Partial::default() };
    Row::Build(Build { state: State::Building(lease(None)), partial, ..Build::unasked(key) })
}

/// A reservation that has ended, one that runs, and one of another product.
fn limits(more: Option<Product>) -> Row {
    let mut policy = Policy {
        budget: Some(Micros(1_000_000)),
        prices: Prices { task: Micros(3 * 3600), ..Prices::default() },
        ..Policy::default()
    };
    // Without a cache.
    (policy.job.seconds, policy.job.cache_bytes) = (100, 0);
    let at = Timestamp(1_700_000_000_000);
    let (size, later) = (Size::default(), Timestamp(1_700_000_010_000));
    let limits = Limits::default().reserve(&id(1), &key().product, size, at, &policy);
    let limits =
        limits.and_then(|limits| limits.reserve(&id(2), &key().product, size, at, &policy)).expect("free slots");
    let limits = limits.charged(&id(1), None, later, &policy);
    let reserve = |limits: Limits, product| limits.reserve(&id(3), &product, size, later, &policy).expect("no limit");
    Row::Limits(more.into_iter().fold(limits, reserve))
}

/// Each kind of row in each state, its key's text, and its file's name.
fn rows() -> Vec<(Row, &'static str, &'static str)> {
    let of_build = "build/0123456789abcdef0123456789abcdef01234567/aarch64-linux/python3Packages.foo";
    let of_catalogue = "build/0123456789abcdef0123456789abcdef01234567/aarch64-linux/-catalogue";
    let of_dependency = "dependency/aarch64-linux/0c8avx37rwvyk1s2x2v7x2hqkxbs3qd4";
    let at = Timestamp(1_700_000_000_000);
    let failed = |until| State::Failed { failure: failure(), since: at, until };
    let package = "python3Packages.foo?sys=aarch64-linux";
    let program = "python3Packages.foo/%5B?sys=aarch64-linux&pin=nixos-26.05";
    let commit = "foo?sys=x86_64-linux&nixpkgs-commit=0123456";
    let borrowed =
        Borrowed { from: BuildKey { product: "foo".parse().expect("a package"), ..key() }, declared: main() };
    let borrowed = Made { lease: id(3), borrowed: Some(borrowed), since: at };
    let prefix = AttemptPrefix { key: key(), lease: id(2) };
    let trash = |what| Row::Trash(Trash { what, since: at });
    let derivation = Row::Derivation(Derivation { drv: drv(), prefix: prefix.clone() });
    vec![
        (build(State::Unasked, vec![]), of_build, "build-unasked"),
        (
            build(State::Queued { since: at, due: Timestamp(at.0 + 1), attempt: 1, warming: false }, vec![]),
            of_build,
            "build-queued",
        ),
        (build(State::Building(lease(None)), vec![]), of_build, "build-claimed"),
        (build(State::Building(lease(Some("4711"))), history()), of_build, "build-launched"),
        (build(State::Building(Lease { derivation: Some(drv()), ..lease(None) }), vec![]), of_build, "build-holding"),
        (build(State::Joined { derivation: drv(), declared: main(), since: at }, left(None)), of_build, "build-joined"),
        (build(State::Waiting(waiting()), awaited()), of_build, "build-waiting"),
        (build(State::Ready(Made { lease: id(2), borrowed: None, since: at }), history()), of_build, "build-ready"),
        (build(State::Ready(borrowed), left(None)), of_build, "build-borrowed"),
        (build(failed(None), history()), of_build, "build-failed"),
        (build(failed(None), left(Some(failure()))), of_build, "build-failed-elsewhere"),
        (build(failed(Some(Timestamp(at.0 + 900_000))), vec![]), of_build, "build-exhausted"),
        (catalogue(), of_catalogue, "build-catalogue"),
        (partial_catalogue(), of_catalogue, "build-catalogue-partial"),
        (catalogue_made_anew(), of_catalogue, "build-catalogue-anew"),
        (
            bundle(),
            "build/0123456789abcdef0123456789abcdef01234567/aarch64-linux/-bundle-full.python3Packages.foo",
            "build-bundle",
        ),
        (served_bundle(), "served/-/bundle/python3Packages.foo?full&sys=aarch64-linux", "served-bundle"),
        (derivation, "derivation/aarch64-linux/0c8avx37rwvyk1s2x2v7x2hqkxbs3qd4", "derivation"),
        (dependency(Stage::Building { lease: id(2) }), of_dependency, "dependency"),
        (dependency(Stage::Promised), of_dependency, "dependency-promised"),
        (dependency(Stage::Offered { lease: id(2) }), of_dependency, "dependency-offered"),
        (dependency(Stage::Made), of_dependency, "dependency-made"),
        (dependency(Stage::Left), of_dependency, "dependency-left"),
        (served(package, false), "served/python3Packages.foo?sys=aarch64-linux", "served-default"),
        (served(program, true), "served/python3Packages.foo/%5B?sys=aarch64-linux&pin=nixos-26.05", "served-stale"),
        (served_with_others(), "served/python3Packages.foo?sys=aarch64-linux", "served-others"),
        (lost(served(package, false)), "served/python3Packages.foo?sys=aarch64-linux", "served-lost"),
        (served(commit, false), "served/foo?sys=x86_64-linux&nixpkgs-commit=0123456", "served-commit"),
        (needy(), "served/python3Packages.foo?sys=aarch64-linux", "served-notes"),
        (past(), "past/aarch64-linux/python3Packages.foo", "past"),
        (learned(), "learned/aarch64-linux/gcc-wrapper", "learned"),
        (Row::Build(failed_by_dependency()), of_build, "build-failed-by-dependency"),
        (
            Row::FailedDependencies(
                FailedDependencies::none(key().system).after(&failed_by_dependency(), at).expect("it is new"),
            ),
            "doomed/aarch64-linux",
            "doomed",
        ),
        (Row::Limits(Limits::default().broken(key().system, Why::Sandbox, at)), "limits", "limits-broken"),
        (Row::Limits(reported(at)), "limits", "limits-reported"),
        (pins(), "pins", "pins-former"),
        (pins_with_programs(), "pins", "pins-programs"),
        (
            trash(Unreferenced::Attempt(prefix)),
            "trash/0123456789abcdef0123456789abcdef01234567/aarch64-linux/python3Packages.foo/00000000000000000000000000000002",
            "trash",
        ),
        (
            trash(Unreferenced::Blob("a".repeat(64).parse().expect("hex"))),
            "trash/blob/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "trash-blob",
        ),
        (limits(None), "limits", "limits-reserved"),
        (limits(Some(Product::Catalogue)), "limits", "limits-and-catalogue"),
        (client(), "client/2001:db8:0:7::/64", "client"),
        (keys(), "keys", "keys"),
        (Row::Limits(Limits::default()), "limits", "limits-empty"),
        (Row::Limits(Limits::default().counted(at.day(), 5_000_000_000_000)), "limits", "limits-served"),
        (Row::Limits(Limits::default().looked_at(key().system, Some(Why::NoImage), at)), "limits", "limits-paused"),
        (Row::Limits(refused(at)), "limits", "limits-refused"),
        (build(State::Building(Lease { on_demand: true, ..lease(None) }), vec![]), of_build, "build-on-demand"),
    ]
}

fn dependency(stage: Stage) -> Row {
    let wanted = matches!(stage, Stage::Left);
    Row::Dependency(Dependency { drv: drv(), holder: key(), stage, since: Timestamp(1_700_000_000_000), wanted })
}

fn waiting() -> Waiting {
    let needy = Planned { drv: "1".repeat(32).parse().expect("base 32"), name: "foo-1.0".to_owned(), needs: vec![0] };
    Waiting {
        since: Timestamp(1_700_000_000_000),
        due: Timestamp(1_699_999_000_000),
        attempt: 2,
        first: 0,
        plan: vec![Planned { drv: drv(), name: "gcc-14.2".to_owned(), needs: vec![] }, needy],
    }
}

/// An attempt that ended to wait.
fn awaited() -> Vec<Attempt> {
    let mut history = history();
    history[1].awaited = Some(drv());
    history[1].stats.waited = 30;
    history
}

/// The second refusal: the first one may have been Spot's.
fn refused(at: Timestamp) -> Limits {
    let refused = |limits: &Limits, on_demand| {
        let lease = Lease { attempt: 1, on_demand, ..lease(None) };
        limits.refused(key().system, &lease, "the builder's program is not installed", at, &Policy::default())
    };
    refused(&refused(&Limits::default(), false), true)
}

fn reported(at: Timestamp) -> Limits {
    let Product::Package(attr) = key().product else { panic!("a package") };
    Limits::default().reported(key().system, &attr, &"0".repeat(32).parse().expect("base 32"), Why::Sandbox, at)
}

fn client() -> Row {
    let (network, at): (Client, _) = ("2001:db8:0:7::/64".parse().expect("a client"), Timestamp(1_700_000_000_000));
    Row::Allowance(Allowance::untouched(network, at).one_more(1, at).expect("the first one"))
}

fn keys() -> Row {
    let name = "ci".parse().expect("a name");
    let add = KeyChange::Add { name, sha256: "0f".repeat(32).parse().expect("64 hex digits"), builds: Some(500) };
    Row::Keys(Keys::default().changed(&add, Timestamp(1_700_000_000_000)).expect("legal").expect("a change"))
}

/// A dependency failed, as seen by another build.
fn failed_by_dependency() -> Build {
    let failure = Failure { drv: Some(drv()), ..failure() }.with_lines(["cc a.c", "a.c:1: error"].iter());
    let attempt = Attempt {
        task: Some("4711".to_owned()),
        failure: Some(failure.clone()),
        awaited: None,
        seen_in: Some(AttemptPrefix {
            key: BuildKey { product: "gzip".parse().expect("a package"), ..key() },
            lease: id(3),
        }),
        stats: Stats { derivations: 7, log_segments: 3, memory: Some(1 << 30), ..Stats::default() },
        ..history().remove(0)
    };
    let since = attempt.ended;
    let state = State::Failed { failure, since, until: None };
    Build { state, history: vec![attempt], ..Build::unasked(key()) }
}

fn past() -> Row {
    let Build { key, history, .. } = failed_by_dependency();
    Row::BuildProfile(BuildProfile::of(&key.product, key.system, &history[0]))
}

/// After two builds, of which one was measured with its memory.
fn learned() -> Row {
    let (pname, system, at) = ("gcc-wrapper".parse().expect("a name"), key().system, Timestamp(1_700_000_000_000));
    let measured = |milliseconds, memory| {
        let name = "gcc-wrapper-13.2.0".to_owned();
        Measured { name, milliseconds, share: milliseconds / 4, memory }
    };
    let first = Learned::after(None, &pname, system, &measured(4_000_000, Some(3 << 30)), &id(1), at);
    Row::Learned(Learned::after(Some(&first), &pname, system, &measured(2_000_000, None), &id(2), at))
}

/// `BINPLZ_GOLDEN=write` writes the files that are missing.
#[expect(clippy::disallowed_methods, reason = "the test's own setting")]
fn golden(name: &str, written: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    if !std::fs::exists(&path).expect("a look") && std::env::var("BINPLZ_GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::write(&path, written()).expect("to write");
    }
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).expect("JSON")
}

#[test]
fn every_row_is_written_and_read_as_its_golden_file_says() {
    for (row, key, name) in rows() {
        let bytes = golden(name, || item::row_bytes(&row).expect(name));
        assert_eq!(item::row_from_bytes(&row.key(), &bytes).expect(name), row, "{name}");
        assert_eq!(json(&item::row_bytes(&row).expect(name)), json(&bytes), "{name}");
        assert_eq!(row.key().to_string(), key, "{name}");
        assert_eq!(key.parse::<RowKey>().expect(name), row.key(), "{name}");
    }
}

/// Reservations of that version had no bytes of the store.
#[test]
fn limits_as_earlier_versions_wrote_them_are_read() {
    for (name, live) in [("limits", &[2][..]), ("limits-catalogue", &[2, 3])] {
        let row = item::row_from_bytes(&RowKey::Limits, &golden(name, Vec::new)).expect(name);
        let Row::Limits(limits) = row else { panic!("{name}") };
        assert!((1..4).all(|n| limits.is_live(&id(n)) == live.contains(&n)), "{name}");
    }
}

#[test]
fn pins_as_earlier_versions_wrote_them_are_read() {
    let read = |name| item::row_from_bytes(&RowKey::Pins, &golden(name, Vec::new));
    let (Ok(Row::Pins(earlier)), Ok(Row::Pins(now))) = (read("pins"), read("pins-past")) else { panic!("pins") };
    // Versions without the former revisions of a pin.
    assert!(now.all().values().all(|pin| pin.former.is_empty()));
    let names = |pins: &Pins| pins.all().keys().cloned().collect::<Vec<_>>();
    // That version stored no date until which a retired pin is kept, so it is not kept.
    let at = Timestamp(1_700_000_000_000);
    assert_eq!((names(&earlier), earlier.kept(at).count(), now.kept(at).count()), (names(&now), 0, 2));
}

#[test]
fn progress_is_written_and_read_as_its_golden_file_says() {
    let progress = Progress {
        phase: Phase::Building,
        step: Some("tree-2.1.0 buildPhase".to_owned()),
        done: 3,
        expected: 17,
        bytes_fetched: 123_456_789_012,
        log_segments: 5,
        ..Progress::default()
    };
    assert_eq!(item::progress_from_bytes(&golden("progress", Vec::new)).expect("progress"), progress);
    assert_eq!(json(&item::progress_bytes(&progress).expect("progress")), json(&golden("progress", Vec::new)));
}

#[test]
fn what_is_no_key_is_refused() {
    for text in [
        "",
        "limit",
        "limits/x",
        "pins/x",
        "build/",
        "build/x/y/z",
        "served/tree",
        "served/p/x86_64-linux/tree",
        "x/y",
        "derivation/x86_64-linux",
        "derivation/x86_64-linux/x",
        "derivation/x/0c8avx37rwvyk1s2x2v7x2hqkxbs3qd4",
    ] {
        assert!(text.parse::<RowKey>().is_err(), "{text}");
    }
}

#[test]
fn what_is_no_row_is_refused() {
    for bytes in [&b""[..], b"{}", b"{\"state\":\"gone\"}", b"\xff", b"null"] {
        assert!(item::row_from_bytes(&RowKey::Build(key()), bytes).is_err());
    }
}
