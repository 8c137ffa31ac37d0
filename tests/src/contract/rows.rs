//! Rows to try a ledger with: some plain ones, and any that there can be.

use std::time::Duration;

use binplz_core::{
    build::{
        Attempt, Borrowed, Build, Lease, Made, State,
        continued::Continued,
        dependency::{Dependency, Stage},
        derivation::Derivation,
        failed_dependencies::FailedDependencies,
        failure::{Failure, Kind},
        learned::{Learned, Measured},
        partial::{Checkpoint, Partial, Published},
        plan::Plan,
        policy::{Policy, Prices},
        profile::BuildProfile,
        protocol::{Nixpkgs, Phase, Progress, Stats},
        size::Size,
        waiting::{Planned, Waiting},
    },
    id::{
        key::{
            Attr, Bin, BuildKey, DrvHash, KeyName, LeaseId, OutputName, PinName, Product, Rev, Sha256, System, Token,
        },
        money::Micros,
        target::{PinRef, Target, Wanted},
        time::{Day, Timestamp},
    },
    nixpkgs::{
        pins::{Change, Pinned, Pins, Source},
        served::{Notes, Served, ServedKey},
    },
    objects::{
        artifact::{AttemptPrefix, Bundled, Declared, ObjectName, ObjectPath},
        needs::{Data, Need},
    },
    quota::{
        client::{Allowance, Client, KeyChange, Keys},
        limits::{Limits, Why},
    },
    row::{Row, Trash, Unreferenced},
};
use proptest::{collection::vec, option, prelude::*, sample::select};

/// The `n`th package.
pub fn attr(n: u32) -> Attr {
    format!("p{n}").parse().expect("an attribute")
}

/// The `n`th build's key.
pub fn key(n: u32) -> BuildKey {
    BuildKey {
        rev: "ab".repeat(20).parse().expect("hex"),
        system: System::X86_64Linux,
        product: Product::Package(attr(n)),
    }
}

/// The `n`th lease's name.
pub fn lease_id(n: u32) -> LeaseId {
    format!("{n:032x}").parse().expect("32 hex digits")
}

/// The `n`th lease, until `expires`.
pub fn lease(n: u32, expires: u64) -> Lease {
    let token: Token = format!("{n:064x}").parse().expect("64 hex digits");
    let claimed = Timestamp(expires.saturating_sub(60_000));
    Lease {
        id: lease_id(n),
        token,
        attempt: 1,
        size: Size::default(),
        claimed,
        expires: Timestamp(expires),
        task: None,
        on_demand: false,
        derivation: None,
        seconds: None,
        plan: None,
    }
}

/// A build in a state.
pub fn build(key: BuildKey, state: State) -> Row {
    Row::Build(Build { state, ..Build::unasked(key) })
}

/// The `n`th build, queued for `due`.
pub fn queued(n: u32, due: u64) -> Row {
    build(key(n), State::Queued { since: Timestamp(1), due: Timestamp(due), attempt: 1, warming: false })
}

/// The `n`th build, held by the `holder`th lease until `expires`.
pub fn building(n: u32, holder: u32, expires: u64) -> Row {
    build(key(n), State::Building(lease(holder, expires)))
}

/// The `n`th build, ready since `since`.
pub fn ready(n: u32, since: u64) -> Row {
    build(key(n), State::Ready(Made { lease: lease_id(n), borrowed: None, since: Timestamp(since) }))
}

/// The `n`th build, which follows another one since `since`.
pub fn joined(n: u32, since: u64) -> Row {
    build(key(n), State::Joined { derivation: drv(n), declared: Declared::default(), since: Timestamp(since) })
}

/// The `n`th derivation, taken on by the `holder`th lease of the build of that number.
pub fn derivation(n: u32, holder: u32) -> Row {
    Row::Derivation(Derivation { drv: drv(n), prefix: AttemptPrefix { key: key(holder), lease: lease_id(holder) } })
}

/// What tells the `n`th derivation from others.
pub fn drv(n: u32) -> DrvHash {
    format!("{n:032}").parse().expect("digits are base 32")
}

/// What `/pN` is served, of so many bytes.
pub fn served(n: u32, size: u64) -> Row {
    let key = key(n);
    let bin: Bin = attr(n).as_str().parse().expect("a program's name");
    let object = ObjectPath { key: key.clone(), lease: lease_id(n), name: ObjectName::Program(bin.clone()) };
    Row::Served(Served {
        asked: asked(n),
        pin: pinned(0).pin,
        rev: key.rev.clone(),
        bin,
        attr: attr(n),
        version: "1.0".to_owned(),
        sha256: sha256(0),
        size,
        object,
        notes: Notes::default(),
        stale: false,
        lost: false,
    })
}

/// What `/pN` is found under, and another such.
pub fn pinned(n: u32) -> Pinned {
    let pin = if n == 0 { "nixos-26.05".to_owned() } else { format!("pin-{n}") };
    Pinned { pin: pin.parse().expect("a pin's name"), rev: key(0).rev }
}

/// What `/pN` asks for.
pub fn asked(n: u32) -> ServedKey {
    let target = Target { wanted: Wanted::Package(attr(n)), system: None, pin: None };
    ServedKey::of(&target, key(n).system)
}

/// The limits while so many leases are held.
pub fn limits(taken: u32) -> Row {
    let policy = Policy { slots: usize::MAX, ..Policy::default() };
    let reserve = |limits: Limits, n| {
        limits.reserve(&lease_id(n), &key(n).product, Size::default(), Timestamp(1), &policy).expect("a free slot")
    };
    Row::Limits((0..taken).fold(Limits::default(), reserve))
}

fn sha256(n: u8) -> Sha256 {
    format!("{n:064x}").parse().expect("64 hex digits")
}

fn any_timestamp() -> impl Strategy<Value = Timestamp> {
    // To the last bit: a format that keeps numbers as floats or signed would show here.
    prop_oneof![0..=2_000_000_000_000u64, Just(u64::MAX), Just(0)].prop_map(Timestamp)
}

fn any_lease_id() -> impl Strategy<Value = LeaseId> {
    "[0-9a-f]{32}".prop_map(|hex| hex.parse().expect("32 hex digits"))
}

/// Any key of a build.
pub fn any_key() -> impl Strategy<Value = BuildKey> {
    let bundle = (any_attr(), any::<bool>()).prop_map(|(attr, full)| Product::Bundle { attr, full });
    let product = prop_oneof![8 => any_attr().prop_map(Product::Package), 1 => bundle, 1 => Just(Product::Catalogue)];
    (any_rev(), select(&System::ALL[..]), product).prop_map(|(rev, system, product)| BuildKey { rev, system, product })
}

fn any_rev() -> impl Strategy<Value = Rev> {
    "[0-9a-f]{40}".prop_map(|hex| hex.parse().expect("40 hex digits"))
}

fn any_attr() -> impl Strategy<Value = Attr> {
    "[a-z0-9_][a-zA-Z0-9_+'-]{0,20}(\\.[a-oq-z][a-z0-9]{0,5}){0,3}"
        .prop_filter_map("an attribute that stays in its set", |attr| attr.parse().ok())
}

fn any_drv() -> impl Strategy<Value = DrvHash> {
    "[0-9abcdfghijklmnpqrsvwxyz]{32}".prop_map(|hash| hash.parse().expect("base 32"))
}

fn any_derivation() -> impl Strategy<Value = Derivation> {
    (any_drv(), any_home()).prop_map(|(drv, prefix)| Derivation { drv, prefix })
}

fn any_home() -> impl Strategy<Value = AttemptPrefix> {
    (any_key(), any_lease_id()).prop_map(|(key, lease)| AttemptPrefix { key, lease })
}

fn any_unreferenced() -> impl Strategy<Value = Unreferenced> {
    prop_oneof![any_home().prop_map(Unreferenced::Attempt), any::<u8>().prop_map(|n| Unreferenced::Blob(sha256(n)))]
}

fn any_past() -> impl Strategy<Value = BuildProfile> {
    (any_key(), any_attempt()).prop_map(|(key, attempt)| BuildProfile::of(&key.product, key.system, &attempt))
}

fn any_learned() -> impl Strategy<Value = Learned> {
    let figures = (any::<u32>(), any::<u32>(), option::of(any::<u64>()));
    ("[a-z][a-z0-9+.-]{0,20}", select(&System::ALL[..]), vec((any_lease_id(), figures), 1..4)).prop_map(
        |(name, system, all)| {
            let pname = name.parse().expect("a name");
            let next = |known: Option<Learned>, (by, (milliseconds, share, memory)): (LeaseId, (u32, u32, _))| {
                let (milliseconds, share) = (milliseconds.into(), share.into());
                let one = Measured { name: name.clone(), milliseconds, share, memory };
                Some(Learned::after(known.as_ref(), &pname, system, &one, &by, Timestamp(1)))
            };
            all.into_iter().fold(None, next).expect("one at least")
        },
    )
}

/// What is known after some packages have failed by some dependencies.
fn any_doomed() -> impl Strategy<Value = FailedDependencies> {
    let failed = (any_key(), any_failure(), any_attempt());
    (select(&System::ALL[..]), vec(failed, 0..6)).prop_map(|(system, failed)| {
        failed.into_iter().fold(FailedDependencies::none(system), |failed_dependencies, (key, failure, attempt)| {
            let since = attempt.ended;
            let history = vec![Attempt { failure: Some(failure.clone()), ..attempt }];
            let build = Build { state: State::Failed { failure, since, until: None }, history, ..Build::unasked(key) };
            failed_dependencies.after(&build, since).unwrap_or(failed_dependencies)
        })
    })
}

fn any_client() -> impl Strategy<Value = Client> {
    let address = any::<std::net::IpAddr>().prop_map(|address| Client::from(Some(address)));
    prop_oneof![3 => address, 1 => any_key_name().prop_map(Client::Key), 1 => Just(Client::Unknown)]
}

fn any_key_name() -> impl Strategy<Value = KeyName> {
    "[a-z0-9][a-z0-9.-]{0,9}".prop_map(|name| name.parse().expect("a key's name"))
}

fn any_allowance() -> impl Strategy<Value = Allowance> {
    let row = |(client, at, started): (_, Timestamp, _)| Allowance { client, day: at.day(), started };
    (any_client(), any_timestamp(), any::<u32>()).prop_map(row)
}

fn any_keys() -> impl Strategy<Value = Keys> {
    let key = (any_key_name(), any::<u8>(), option::of(any::<u32>()), any_timestamp());
    vec(key, 0..4).prop_map(|all| {
        all.into_iter().fold(Keys::default(), |keys, (name, secret, builds, at)| {
            let add = KeyChange::Add { name, sha256: sha256(secret), builds };
            keys.changed(&add, at).ok().flatten().unwrap_or(keys)
        })
    })
}

fn any_failure() -> impl Strategy<Value = Failure> {
    let dependency = (option::of("[a-z0-9-]{1,20}"), option::of(any_drv()));
    (select(&Kind::ALL[..]), "\\PC{0,40}", dependency, vec("\\PC{0,40}", 0..9)).prop_map(
        |(kind, detail, (derivation, drv), lines)| Failure {
            derivation,
            drv,
            ..Failure::new(kind, detail).with_lines(lines.iter())
        },
    )
}

fn any_stats() -> impl Strategy<Value = Stats> {
    let measures = (option::of(any::<u64>()), option::of(any::<u64>()), option::of(any::<u64>()));
    (any::<u32>(), any::<u32>(), (any::<u32>(), any::<u32>()), measures).prop_map(
        |(derivations, log_segments, (offers, built), (memory, stored, building))| Stats {
            derivations,
            log_segments,
            memory,
            stored,
            building,
            offers,
            waited: offers / 2,
            built,
        },
    )
}

fn any_size() -> impl Strategy<Value = Size> {
    select(&["4096/8192/50", "1024/2048/21", "16384/122880/200"][..]).prop_map(|size| size.parse().expect("a size"))
}

fn any_lease() -> impl Strategy<Value = Lease> {
    let token = "[0-9a-f]{64}".prop_map(|hex| hex.parse::<Token>().expect("64 hex digits"));
    let task = option::of("\\PC{0,30}");
    let times = (any_timestamp(), any_timestamp());
    let on_demand = any::<bool>();
    let foreseen = (option::of(any::<u64>()), option::of(any_plan()));
    let machine = (any::<u32>(), any_size());
    (any_lease_id(), token, machine, times, (task, on_demand), option::of(any_drv()), foreseen).prop_map(
        |(id, token, (attempt, size), (claimed, expires), (task, on_demand), derivation, (seconds, plan))| Lease {
            id,
            token,
            attempt,
            size,
            claimed,
            expires,
            task,
            on_demand,
            derivation,
            seconds,
            plan,
        },
    )
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u64>());
    (numbers, any::<u64>(), any::<u64>(), option::of(any::<u64>()), option::of(any::<u64>())).prop_map(
        |((to_build, unknown, to_fetch, bytes), milliseconds, longest, memory, expected)| Plan {
            to_build,
            unknown,
            milliseconds,
            longest,
            sure: longest / 2,
            sure_longest: longest / 3,
            memory,
            to_fetch,
            bytes,
            expected,
        },
    )
}

fn any_attempt() -> impl Strategy<Value = Attempt> {
    let times = (any_timestamp(), any_timestamp());
    let end = (option::of(any_failure()), option::of(any_drv()), option::of(any_drv()), option::of(any_home()));
    let task = option::of("\\PC{0,30}");
    ((any_lease_id(), task), any::<u32>(), any_size(), times, end, (any_stats(), any::<bool>())).prop_map(
        |((lease, task), number, size, (claimed, ended), (failure, left, awaited, seen_in), (stats, continued))| {
            Attempt {
                lease,
                number,
                size,
                claimed,
                ended,
                task,
                failure,
                continued,
                left,
                awaited,
                seen_in,
                plan: None,
                stats,
            }
        },
    )
}

fn any_declared() -> impl Strategy<Value = Declared> {
    (option::of("\\PC{0,20}"), option::of(any_output()))
        .prop_map(|(main_program, output)| Declared { main_program, output })
}

fn any_output() -> impl Strategy<Value = OutputName> {
    "[a-z][a-z0-9-]{0,9}".prop_map(|name| name.parse().expect("an output's name"))
}

fn any_waiting() -> impl Strategy<Value = Waiting> {
    let planned = (any_drv(), "\\PC{0,20}", vec(any::<usize>(), 0..3));
    let planned = planned.prop_map(|(drv, name, needs)| Planned { drv, name, needs });
    (any_timestamp(), any_timestamp(), any::<u32>(), any::<usize>(), vec(planned, 0..5))
        .prop_map(|(since, due, attempt, first, plan)| Waiting { since, due, attempt, first, plan })
}

fn any_dependency() -> impl Strategy<Value = Dependency> {
    let stage = prop_oneof![
        Just(Stage::Promised),
        any_lease_id().prop_map(|lease| Stage::Building { lease }),
        any_lease_id().prop_map(|lease| Stage::Offered { lease }),
        Just(Stage::Made),
        Just(Stage::Left),
    ];
    (any_drv(), any_key(), stage, any_timestamp(), any::<bool>())
        .prop_map(|(drv, holder, stage, since, wanted)| Dependency { drv, holder, stage, since, wanted })
}

/// Any state of a build.
pub fn any_state() -> impl Strategy<Value = State> {
    let borrowed = (any_key(), any_declared()).prop_map(|(from, declared)| Borrowed { from, declared });
    prop_oneof![
        Just(State::Unasked),
        (any_timestamp(), any_timestamp(), any::<u32>(), any::<bool>())
            .prop_map(|(since, due, attempt, warming)| State::Queued { warming, since, due, attempt }),
        any_lease().prop_map(State::Building),
        (any_drv(), any_declared(), any_timestamp()).prop_map(|(derivation, declared, since)| State::Joined {
            derivation,
            declared,
            since
        }),
        any_waiting().prop_map(State::Waiting),
        (any_lease_id(), option::of(borrowed), any_timestamp())
            .prop_map(|(lease, borrowed, since)| State::Ready(Made { lease, borrowed, since })),
        (any_failure(), any_timestamp(), option::of(any_timestamp()))
            .prop_map(|(failure, since, until)| State::Failed { failure, since, until }),
    ]
}

fn any_pin_name() -> impl Strategy<Value = PinName> {
    "[a-z0-9][a-z0-9.-]{0,20}".prop_map(|name| name.parse().expect("a pin's name"))
}

fn any_pin_ref() -> impl Strategy<Value = PinRef> {
    prop_oneof![any_pin_name().prop_map(PinRef::Name), "[0-9a-f]{7,40}".prop_map(PinRef::Commit)]
}

fn any_notes() -> impl Strategy<Value = Notes> {
    let other = (any_attr(), "[a-z0-9]{1,20}");
    let other = other.prop_map(|(attr, bin)| Wanted::Program(attr, bin.parse().expect("a program's name")));
    let path = || "/nix/store/[a-z0-9-]{1,20}/\\PC{0,20}";
    let data = (select(&Data::ALL[..]), path(), any::<bool>()).prop_map(|(data, path, settable)| Need::Data {
        data,
        path,
        settable,
    });
    let variable = ("[A-Z]{1,9}", "\\PC{0,20}").prop_map(|(name, value)| Need::Variable { name, value });
    let need = prop_oneof![data, path().prop_map(|path| Need::Program { path }), variable];
    let needs = option::of(vec(need, 0..3));
    let bundle = (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(unpacked, files, of_static)| Bundled {
        unpacked,
        files,
        of_static,
    });
    (option::of(any_output()), needs, any::<bool>(), any::<bool>(), option::of(bundle), vec(other, 0..3)).prop_map(
        |(output, needs, unwrapped, name_matters, bundle, others)| Notes {
            output,
            needs,
            unwrapped,
            name_matters,
            bundle,
            others,
        },
    )
}

/// Any served row.
pub fn any_served() -> impl Strategy<Value = Served> {
    let bin = "[a-z0-9_\\[][a-zA-Z0-9_.+'\\[\\]@:,=~-]{0,20}";
    let asked = (any::<bool>(), option::of(any_pin_ref()), any::<bool>(), any::<bool>());
    let key = (any_rev(), select(&System::ALL[..]), any_attr());
    (key, bin, asked, any_pin_name(), any::<u64>(), "\\PC{0,20}", any_lease_id(), any_notes()).prop_map(
        |((rev, system, attr), bin, (whole, asked_pin, stale, lost), pin, size, version, lease, notes)| {
            let bin: Bin = bin.parse().expect("a program's name");
            let key = BuildKey { rev, system, product: Product::Package(attr.clone()) };
            let asked = attr.clone();
            let wanted = if whole { Wanted::Package(asked) } else { Wanted::Program(asked, bin.clone()) };
            Served {
                asked: ServedKey::of(&Target { wanted, system: None, pin: asked_pin }, key.system),
                pin,
                rev: key.rev.clone(),
                attr,
                version,
                sha256: sha256(u8::try_from(size % 256).unwrap_or(0)),
                size,
                object: ObjectPath { key, lease, name: ObjectName::Program(bin.clone()) },
                bin,
                notes,
                stale,
                lost,
            }
        },
    )
}

fn any_pins() -> impl Strategy<Value = Pins> {
    let source = prop_oneof![
        "\\PC{0,20}".prop_map(|nar_hash| Source::Stored { nar_hash }),
        "\\PC{0,20}".prop_map(|path| Nixpkgs::Path(path).into()),
        ("\\PC{0,20}", option::of("\\PC{0,20}")).prop_map(|(url, nar_hash)| Nixpkgs::Tarball { url, nar_hash }.into()),
    ];
    let rev = "[0-9a-f]{40}".prop_map(|hex| hex.parse::<Rev>().expect("hex"));
    let step = (0..5u8, any_pin_name(), rev, source);
    (any_timestamp(), vec(step, 1..12)).prop_map(|(now, steps)| {
        let (_, name, rev, source) = steps[0].clone();
        let names: Vec<_> = steps.iter().map(|(_, name, ..)| name.clone()).collect();
        steps.into_iter().enumerate().fold(Pins::one(name, rev, source), |pins, (n, (what, name, rev, source))| {
            let other = names[n / 2].clone();
            let change = match what {
                0 => Change::Retire(other),
                1 => Change::Default(other),
                4 => Change::Keep(other, Duration::from_secs(n as u64 * 1000)),
                2 => Change::Move(other, rev, source, None),
                _ => Change::Add(name, rev, source, None),
            };
            pins.changed(&change, now).ok().flatten().unwrap_or(pins)
        })
    })
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let steps = vec((any_lease_id(), 0..2_000_000_000_000u64, 0u8..3), 0..30);
    let product = any_key().prop_map(|key| key.product);
    (steps, option::of(Just(Why::NoImage)), select(&System::ALL[..]), product).prop_map(
        |(steps, obstacle, system, product)| {
            let prices = Prices { task: Micros(17 * 3600), ..Prices::default() };
            let policy = Policy { slots: 20, budget: Some(Micros(u64::MAX)), prices, ..Policy::default() };
            let paused = Limits::default().looked_at(system, obstacle, Timestamp(1)).counted(Day(3), u64::MAX);
            steps.into_iter().fold(paused.granted(Micros(1 << 60), Timestamp(2)), |limits, (lease, at, step)| {
                let now = Timestamp(at);
                let held = limits.reserve(&lease, &product, Size::default(), now, &policy).unwrap_or(limits);
                let later = now + Duration::from_secs(at % 10_000);
                match step {
                    0 => held,
                    1 => held.over(&lease, Some(at), later),
                    _ => held.charged(&lease, None, later, &policy),
                }
            })
        },
    )
}

fn any_partial() -> impl Strategy<Value = Partial> {
    let published = (any_lease_id(), any::<bool>()).prop_map(|(lease, whole)| Published { lease, whole });
    let checkpoint = (any_lease_id(), any::<u32>(), any::<u64>()).prop_map(|(lease, parts, bytes)| Checkpoint {
        lease,
        parts,
        bytes,
    });
    let continued = (1..u32::MAX, any::<u32>(), any::<u64>(), any::<u64>());
    let continued = continued.prop_map(|(attempts, built, seconds, cost)| Continued {
        attempts,
        built,
        seconds,
        cost: Micros(cost),
    });
    (option::of(published), option::of(checkpoint), option::of(continued)).prop_map(
        |(published, checkpoint, continued)| Partial {
            published,
            checkpoint,
            continued: continued.unwrap_or_default(),
        },
    )
}

/// Any row.
pub fn any_row() -> impl Strategy<Value = Row> {
    prop_oneof![
        4 => (any_key(), any_state(), vec(any_attempt(), 0..9), any_partial())
            .prop_map(|(key, state, history, partial)| Row::Build(Build { key, state, history, partial })),
        1 => any_derivation().prop_map(Row::Derivation),
        1 => any_dependency().prop_map(Row::Dependency),
        1 => any_past().prop_map(Row::BuildProfile),
        1 => any_learned().prop_map(Row::Learned),
        1 => any_doomed().prop_map(Row::FailedDependencies),
        1 => (any_unreferenced(), any_timestamp()).prop_map(|(what, since)| Row::Trash(Trash { what, since })),
        2 => any_served().prop_map(Row::Served),
        1 => any_allowance().prop_map(Row::Allowance),
        1 => any_keys().prop_map(Row::Keys),
        1 => any_limits().prop_map(Row::Limits),
        1 => any_pins().prop_map(Row::Pins),
    ]
}

/// Some progress; each `n` another one.
pub fn progress(n: u32) -> Progress {
    Progress {
        phase: Phase::Building,
        step: Some(format!("tree-{n} buildPhase")),
        done: n.into(),
        expected: 99,
        bytes_fetched: u64::MAX,
        log_segments: n,
        fetched: [("https://cache.example".to_owned(), n)].into(),
    }
}
