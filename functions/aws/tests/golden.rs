//! Items as this version writes them, in files, as DynamoDB's own JSON. Later versions must read them, and a change of
//! a row's shape fails here. A golden file is never changed; a new shape gets a new file beside it.
//!
//! `BINPLZ_GOLDEN=write cargo test -p binplz-aws --test golden` writes the files that are missing.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue;
use binplz_aws::item::{self, Item};
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
        protocol::{Phase, Progress, Stats},
        size::Size,
        waiting::{Planned, Waiting},
    },
    id::{
        key::{Bin, BuildKey, DrvHash, LeaseId, Product},
        money::Micros,
        time::Timestamp,
    },
    nixpkgs::{
        pins::{Change, Pin, Pins, Source},
        served::{Notes, Served},
    },
    objects::artifact::{AttemptPrefix, Bundled, Declared, ObjectName, ObjectPath},
    quota::{
        client::{Allowance, Client, KeyChange, Keys},
        limits::{Limits, Why},
    },
    row::{Listed, Row, RowKey, StatusIndex, Swap, Trash, Unreferenced, Version},
};
use serde_json::{Value, json};

const AT: Timestamp = Timestamp(1_700_000_000_000);

fn key() -> BuildKey {
    "89abcdef0123456789abcdef0123456789abcdef/x86_64-linux/perlPackages.ack".parse().expect("a key")
}

fn id(digit: char) -> LeaseId {
    String::from_iter([digit; 32]).parse().expect("32 hex digits")
}

fn lease() -> Lease {
    let (token, expires) = ("5e".repeat(32).parse().expect("64 hex digits"), Timestamp(AT.0 + 300_000));
    let task = Some("arn:aws:ecs:eu-central-1:123456789012:task/binplz/0123456789abcdef".to_owned());
    Lease {
        id: id('b'),
        token,
        attempt: 2,
        size: Size::default(),
        claimed: AT,
        expires,
        task,
        on_demand: false,
        derivation: None,
        seconds: None,
        plan: None,
    }
}

fn history() -> Vec<Attempt> {
    let failure = Some(Failure::new(Kind::Interrupted, "it was told to stop"));
    let stats = Stats { derivations: 3, log_segments: 1, ..Stats::default() };
    let (number, size, claimed) = (1, Size::default(), Timestamp(AT.0 - 60_000));
    vec![Attempt {
        lease: id('a'),
        number,
        size,
        claimed,
        ended: AT,
        task: None,
        failure,
        continued: false,
        left: None,
        awaited: None,
        seen_in: None,
        plan: None,
        stats,
    }]
}

fn drv() -> DrvHash {
    "0c8avx37rwvyk1s2x2v7x2hqkxbs3qd4".parse().expect("base 32")
}

/// A build whose only attempt left its derivation to another build.
fn left(state: State) -> Row {
    let left = history().into_iter().map(|attempt| Attempt { failure: None, left: Some(drv()), ..attempt });
    Row::Build(Build { state, history: left.collect(), ..Build::unasked(key()) })
}

fn dependency() -> Row {
    Row::Dependency(Dependency {
        drv: drv(),
        holder: key(),
        stage: Stage::Building { lease: id('b') },
        since: AT,
        wanted: false,
    })
}

/// A build whose only attempt ended to wait for a dependency.
fn awaited() -> Row {
    let plan = vec![Planned { drv: drv(), name: "gcc-14.2".to_owned(), needs: vec![] }];
    let waiting = Waiting { since: AT, due: Timestamp(AT.0 - 60_000), attempt: 1, first: 0, plan };
    let history = history().into_iter().map(|attempt| Attempt { failure: None, awaited: Some(drv()), ..attempt });
    Row::Build(Build { state: State::Waiting(waiting), history: history.collect(), ..Build::unasked(key()) })
}

/// An attempt on a larger machine, after one on a machine of unusual size.
fn larger() -> Row {
    let size = |text: &str| text.parse().expect("a size");
    let mut history = history();
    history[0].size = size("8192/16384/50");
    let state = State::Building(Lease { size: size("8192/32768/50"), ..lease() });
    Row::Build(Build { state, history, ..Build::unasked(key()) })
}

fn build(state: State) -> Row {
    Row::Build(Build { state, history: history(), ..Build::unasked(key()) })
}

fn made(borrowed: Option<Borrowed>) -> Made {
    Made { lease: id('b'), borrowed, since: AT }
}

fn catalogue() -> Row {
    let key = BuildKey { product: Product::Catalogue, ..key() };
    Row::Build(Build { state: State::Ready(made(None)), ..Build::unasked(key) })
}

/// A catalogue under way: an earlier attempt has published its top level, and this one has stored a checkpoint.
fn partial_catalogue() -> Row {
    let Row::Build(Build { key, .. }) = catalogue() else { panic!("a build") };
    let published = Some(Published { lease: id('a'), whole: false });
    let checkpoint = Some(Checkpoint { lease: id('b'), parts: 3, bytes: 123_456 });
    let partial = Partial { published, checkpoint, ..Partial::default() };
    Row::Build(Build { state: State::Building(lease()), partial, ..Build::unasked(key) })
}

/// A catalogue that is made anew, while the earlier one stays in use.
fn catalogue_made_anew() -> Row {
    let Row::Build(Build { key, .. }) = catalogue() else { panic!("a build") };
    let published = Some(Published { lease: id('a'), whole: true });
    let partial = Partial { published, checkpoint: None, ..Partial::default() };
    Row::Build(Build { state: State::Building(lease()), partial, ..Build::unasked(key) })
}

fn bundle() -> Row {
    let product = Product::Bundle { attr: "perlPackages.ack".parse().expect("an attribute"), full: false };
    let key = BuildKey { product, ..key() };
    Row::Build(Build { state: State::Ready(made(None)), ..Build::unasked(key) })
}

fn served_bundle() -> Row {
    let Row::Served(served) = served("-/bundle/perlPackages.ack?sys=x86_64-linux", false) else { panic!("served") };
    let bundle = Some(Bundled { unpacked: 142_700_000, files: 4048, of_static: false });
    Row::Served(Served { notes: Notes { bundle, ..Notes::default() }, ..served })
}

fn served(asked: &str, stale: bool) -> Row {
    let bin: Bin = "[".parse().expect("a program's name");
    Row::Served(Served {
        asked: asked.parse().expect("a key"),
        pin: "unstable".parse().expect("a pin's name"),
        rev: key().rev,
        attr: "perlPackages.ack".parse().expect("an attribute"),
        version: "3.7.0".to_owned(),
        sha256: "0f".repeat(32).parse().expect("64 hex digits"),
        size: 5_000_000_000,
        object: ObjectPath { key: key(), lease: id('b'), name: ObjectName::Program(bin.clone()) },
        bin,
        notes: Notes::default(),
        stale,
        lost: false,
    })
}

/// The default pin has moved.
fn pins() -> Row {
    let (name, rev) = ("unstable".parse().expect("a pin's name"), "1".repeat(40).parse().expect("hex"));
    let stored = |nar_hash: &str| Source::Stored { nar_hash: nar_hash.to_owned() };
    let pins = Pins::one(name, rev, stored("sha256-x"));
    let moved = Change::Move(pins.default_name().clone(), key().rev, stored("sha256-y"), None);
    Row::Pins(pins.changed(&moved, AT).expect("legal").expect("a change"))
}

fn limits() -> Row {
    let prices = Prices { task: Micros(55 * 3600), ..Prices::default() };
    let mut policy = Policy { prices, ..Policy::default() };
    // Without a cache.
    policy.job.cache_bytes = 0;
    Row::Limits(Limits::default().reserve(&id('b'), &key().product, Size::default(), AT, &policy).expect("a free slot"))
}

/// Its lease has ended and, if asked for, its task is gone.
fn spent(limits: Row, steps: u8) -> Limits {
    let Row::Limits(limits) = limits else { panic!("these are limits") };
    let (later, policy) = (AT + Duration::from_secs(10), Policy::default());
    let over = limits.over(&id('b'), Some(1_000_000), later);
    if steps == 1 { over } else { over.charged(&id('b'), Some(Duration::from_secs(12)), later, &policy) }
}

fn client() -> Row {
    let network: Client = "2001:db8:0:7::/64".parse().expect("a client");
    Row::Allowance(Allowance::untouched(network, AT).one_more(1, AT).expect("the first one"))
}

fn keys() -> Row {
    let name = "ci".parse().expect("a name");
    let add = KeyChange::Add { name, sha256: "0f".repeat(32).parse().expect("64 hex digits"), builds: Some(500) };
    Row::Keys(Keys::default().changed(&add, AT).expect("legal").expect("a change"))
}

fn reported() -> Limits {
    let Product::Package(attr) = key().product else { panic!("a package") };
    Limits::default().reported(key().system, &attr, &"0".repeat(32).parse().expect("base 32"), Why::Sandbox, AT)
}

fn rows() -> Vec<(&'static str, Row)> {
    let failure =
        Failure { derivation: Some("zlib-1.3".to_owned()), ..Failure::new(Kind::BuildFailed, "x.c:1: error") };
    let declared = Declared { main_program: Some("ack".to_owned()), output: None };
    let from = BuildKey { product: "ack".parse().expect("a package"), ..key() };
    let borrowed = Borrowed { from, declared: declared.clone() };
    vec![
        ("build-unasked", build(State::Unasked)),
        ("build-queued", build(State::Queued { since: AT, due: Timestamp(AT.0 + 30_000), attempt: 2, warming: false })),
        ("build-warming", build(State::Queued { since: AT, due: AT, attempt: 1, warming: true })),
        ("build-failed-by-dependency", Row::Build(failed_dependencies())),
        ("build-building", build(State::Building(lease()))),
        ("build-larger", larger()),
        ("build-holding", build(State::Building(Lease { derivation: Some(drv()), ..lease() }))),
        ("build-joined", left(State::Joined { derivation: drv(), declared, since: AT })),
        ("build-waiting", awaited()),
        ("dependency", dependency()),
        ("build-ready-listed", build(State::Ready(made(None)))),
        ("build-borrowed", left(State::Ready(made(Some(borrowed))))),
        (
            "derivation",
            Row::Derivation(Derivation { drv: drv(), prefix: AttemptPrefix { key: key(), lease: id('b') } }),
        ),
        ("build-failed-listed", build(State::Failed { failure, since: AT, until: None })),
        ("build-catalogue-listed", catalogue()),
        ("build-catalogue-partial", partial_catalogue()),
        ("build-catalogue-anew", catalogue_made_anew()),
        ("build-bundle", bundle()),
        ("served-bundle", served_bundle()),
        ("served-program", served("perlPackages.ack/%5B?sys=x86_64-linux", false)),
        ("served-stale", served("perlPackages.ack?sys=x86_64-linux&pin=unstable", true)),
        ("pins-former", pins()),
        ("limits-reserved", limits()),
        ("limits-over", Row::Limits(spent(limits(), 1))),
        (
            "limits-granted",
            Row::Limits(spent(limits(), 2).granted(Micros(30_000_000), AT).measured(
                5_000_000_000,
                u64::MAX,
                Timestamp(0),
            )),
        ),
        ("limits-collected", Row::Limits(spent(limits(), 2).measured(7, u64::MAX, AT))),
        ("client", client()),
        ("keys", keys()),
        ("past", past()),
        ("learned", learned()),
        (
            "trash",
            Row::Trash(Trash { what: Unreferenced::Attempt(AttemptPrefix { key: key(), lease: id('b') }), since: AT }),
        ),
        ("trash-blob", Row::Trash(Trash { what: Unreferenced::Blob("a".repeat(64).parse().expect("hex")), since: AT })),
        (
            "doomed",
            Row::FailedDependencies(
                FailedDependencies::none(key().system).after(&failed_dependencies(), AT).expect("it is new"),
            ),
        ),
        ("limits-broken", Row::Limits(Limits::default().broken(key().system, Why::Sandbox, AT))),
        ("limits-reported", Row::Limits(reported())),
        ("limits-learnt", learnt("tree")),
        ("limits-learnt-bundle", learnt("-bundle.tree")),
        ("limits-served", Row::Limits(Limits::default().counted(AT.day(), 5_000_000_000_000))),
        ("limits-paused", Row::Limits(Limits::default().looked_at(key().system, Some(Why::NoImage), AT))),
        ("limits-refused", Row::Limits(refused())),
        ("build-on-demand", build(State::Building(Lease { on_demand: true, ..lease() }))),
    ]
}

/// Spot was refused, and then a task on demand.
fn refused() -> Limits {
    let refused = |limits: &Limits, on_demand| {
        let lease = Lease { attempt: 1, on_demand, ..lease() };
        limits.refused(key().system, &lease, "ThrottlingException: Rate exceeded", AT, &Policy::default())
    };
    refused(&refused(&Limits::default(), false), true)
}

/// A dependency failed, as seen by another build.
fn failed_dependencies() -> Build {
    let failure = Failure {
        derivation: Some("zlib-1.3".to_owned()),
        drv: Some(drv()),
        ..Failure::new(Kind::BuildFailed, "x.c:1: error").with_lines(["cc x.c", "x.c:1: error"].iter())
    };
    let attempt = Attempt {
        lease: id('b'),
        number: 1,
        size: Size::default(),
        claimed: AT,
        ended: Timestamp(AT.0 + 60_000),
        task: Some("the task".to_owned()),
        failure: Some(failure.clone()),
        continued: false,
        left: None,
        awaited: None,
        seen_in: Some(AttemptPrefix {
            key: BuildKey { product: "gzip".parse().expect("a package"), ..key() },
            lease: id('c'),
        }),
        plan: None,
        stats: Stats { derivations: 3, log_segments: 1, memory: Some(1 << 30), ..Stats::default() },
    };
    let state = State::Failed { failure, since: AT, until: None };
    Build { state, history: vec![attempt], ..Build::unasked(key()) }
}

fn learnt(product: &str) -> Row {
    let product: Product = product.parse().expect("a product");
    Row::Limits(Limits::default().learnt(&product, 5, Duration::from_millis(90_500)))
}

fn past() -> Row {
    let Build { key, history, .. } = failed_dependencies();
    Row::BuildProfile(BuildProfile::of(
        &key.product,
        key.system,
        &Attempt { size: "8192/16384/50".parse().expect("a size"), ..history[0].clone() },
    ))
}

fn learned() -> Row {
    let (pname, name) = ("llvm".parse().expect("a name"), "llvm-18.1.8".to_owned());
    let measured = Measured { name, milliseconds: 4_000_000, share: 1_000_000, memory: Some(12 << 30) };
    Row::Learned(Learned::after(None, &pname, key().system, &measured, &id('b'), AT))
}

fn to_json(item: &Item) -> Value {
    let value = |value: &AttributeValue| match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        other => panic!("no item of ours has {other:?}"),
    };
    Value::Object(item.iter().map(|(name, attribute)| (name.clone(), value(attribute))).collect())
}

fn of_json(json: &Value) -> Item {
    let attribute = |value: &Value| match (value["S"].as_str(), value["N"].as_str()) {
        (Some(text), None) => AttributeValue::S(text.to_owned()),
        (None, Some(number)) => AttributeValue::N(number.to_owned()),
        _ => panic!("no attribute of ours: {value}"),
    };
    json.as_object().expect("an item").iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
}

#[expect(clippy::disallowed_methods, reason = "the test's own setting")]
fn golden(name: &str, written: &Value) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.json"));
    if !path.exists() && std::env::var("BINPLZ_GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::write(&path, format!("{written:#}\n")).expect("to write");
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// The body is JSON as a text, in which the order of members has no meaning.
fn opened(mut item: Value) -> Value {
    let body = item["body"]["S"].as_str().expect("a body").to_owned();
    item["body"] = serde_json::from_str(&body).expect("JSON");
    item
}

#[test]
fn every_row_is_written_and_read_as_its_golden_file_says() {
    for (name, row) in rows() {
        let item =
            item::write(&Swap { seen: Version(6), row: row.clone() }).expect(name).expect("there is a version 7");
        let golden = golden(name, &to_json(&item));
        assert_eq!(item::read(&row.key(), &of_json(&golden)), Ok((row, Version(7))), "{name}");
        assert_eq!(opened(to_json(&item)), opened(golden), "{name}");
    }
}

/// That version put ended builds into no index.
#[test]
fn rows_as_earlier_versions_wrote_them_are_read() {
    let rows: BTreeMap<_, _> = rows().into_iter().collect();
    for name in ["build-ready", "build-failed", "build-catalogue"] {
        let row = rows[format!("{name}-listed").as_str()].clone();
        assert_eq!(item::read(&row.key(), &of_json(&golden(name, &Value::Null))), Ok((row, Version(7))), "{name}");
    }
    // Reservations of that version had no bytes of the store.
    let Ok((Row::Limits(limits), _)) = item::read(&RowKey::Limits, &of_json(&golden("limits", &Value::Null))) else {
        panic!("the limits")
    };
    assert!(limits.is_live(&id('b')) && limits.taken() == 1);
    // The first version stored no date until which a retired pin is kept, so it is not kept; neither stored what a pin
    // stood for before.
    let Row::Pins(now) = &rows["pins-former"] else { panic!("pins") };
    let forgotten = now.all().iter().map(|(name, pin)| (name.clone(), Pin { former: Vec::new(), ..pin.clone() }));
    let forgotten: BTreeMap<_, _> = forgotten.collect();
    for (name, kept) in [("pins", 0), ("pins-past", 1)] {
        let earlier = item::read(&RowKey::Pins, &of_json(&golden(name, &Value::Null)));
        let Ok((Row::Pins(earlier), _)) = earlier else { panic!("{name}") };
        assert_eq!((earlier.all(), earlier.kept(AT).count()), (&forgotten, kept), "{name}");
    }
    assert_eq!(now.kept(AT).count(), 1);
}

#[test]
fn what_a_client_has_had_started_is_forgotten_when_it_means_nothing_any_more() {
    let item = item::write(&Swap { seen: Version(0), row: client() }).expect("an item").expect("a version");
    let Some(AttributeValue::N(until)) = item.get(item::TTL) else { panic!("no end: {item:?}") };
    assert_eq!(Timestamp(until.parse::<u64>().expect("seconds") * 1000).day(), AT.day().next().next());
}

#[test]
fn progress_is_written_and_read_as_its_golden_file_says() {
    let step = Some("ack-3.7.0 buildPhase".to_owned());
    let phase = Phase::Building;
    let progress = Progress {
        phase,
        step,
        done: 1,
        expected: 2,
        bytes_fetched: 5_000_000_000,
        log_segments: 3,
        ..Progress::default()
    };
    let item = item::write_progress(&id('b'), &progress, AT).expect("an item");
    let golden = golden("progress", &to_json(&item));
    assert_eq!(item::read_progress(&of_json(&golden)), Ok(progress));
    assert_eq!(opened(to_json(&item)), opened(golden));
}

#[test]
fn every_build_that_somebody_wants_and_what_is_served_fresh_is_in_the_index_and_is_found_there() {
    for (name, row) in rows() {
        let on_shelf = (name.starts_with("build-") && name != "build-unasked")
            || matches!(name, "served-program" | "served-bundle");
        let item = item::write(&Swap { seen: Version(0), row: row.clone() }).expect(name).expect("a version 1");
        assert_eq!((item.contains_key(item::SHELF), item.contains_key(item::AT)), (on_shelf, on_shelf), "{name}");
        match row {
            Row::Build(build) => {
                if let Some((status_index, at)) = build.status_index() {
                    assert_eq!(item.get(item::SHELF), Some(&item::status_index(status_index)));
                    assert_eq!(item::read_listed(&item), Ok(Listed { key: build.key, at }));
                }
            }
            Row::Served(served) if on_shelf => {
                assert_eq!(item.get(item::SHELF), Some(&item::served_shelf(&served.pinned())));
                assert_eq!(item::read_served(&item), Ok(served.asked));
            }
            Row::Served(_)
            | Row::Derivation(_)
            | Row::BuildProfile(_)
            | Row::Learned(_)
            | Row::Dependency(_)
            | Row::FailedDependencies(_)
            | Row::Allowance(_)
            | Row::Keys(_)
            | Row::Trash(_)
            | Row::Limits(_)
            | Row::Pins(_) => {}
        }
    }
    let status_indexes = [
        StatusIndex::Queued,
        StatusIndex::Warming,
        StatusIndex::Building,
        StatusIndex::Joined,
        StatusIndex::Ready,
        StatusIndex::Failed,
    ];
    let status_indexes = status_indexes.map(|status_index| format!("{:?}", item::status_index(status_index)));
    assert_eq!(status_indexes.iter().collect::<BTreeSet<_>>().len(), status_indexes.len());
}

#[test]
fn places_on_a_shelf_are_ordered_as_their_instants() {
    let place = |at| match item::at(&Listed { key: key(), at: Timestamp(at) }) {
        AttributeValue::S(text) => text,
        other => panic!("no text: {other:?}"),
    };
    let instants = [0, 9, 10, 99, 1_700_000_000_000, u64::MAX - 1, u64::MAX];
    assert!(instants.windows(2).all(|pair| place(pair[0]) < place(pair[1])));
}

#[test]
fn what_is_no_row_is_refused() {
    let row = build(State::Unasked);
    let whole = item::write(&Swap { seen: Version(0), row: row.clone() }).expect("an item").expect("a version");
    for missing in ["v", "body"] {
        let mut part = whole.clone();
        part.remove(missing);
        assert!(item::read(&row.key(), &part).is_err(), "without {missing}");
    }
    for (name, value) in [("body", "{}"), ("body", "\u{0}"), ("v", "1")] {
        let mut other = whole.clone();
        other.insert(name.to_owned(), AttributeValue::S(value.to_owned()));
        assert!(item::read(&row.key(), &other).is_err(), "{name} is {value:?}");
    }
    assert_eq!(item::write(&Swap { seen: Version(u64::MAX), row }), Ok(None), "there is no later version");
}
