//! Rows to try a ledger with: some plain ones, and any that there can be.

use std::time::Duration;

use binplz_core::{
    artifact::{ObjectName, ObjectPath},
    build::{Attempt, Build, Lease, State},
    failure::{Failure, Kind},
    key::{BuildKey, LeaseId, Rev, Sha256, System, Token},
    limits::{Limits, Micros, Why},
    pins::{Change, PinName, Pinned, Pins, Source},
    policy::{Policy, Prices},
    ports::Row,
    protocol::{Nixpkgs, Phase, Progress, Stats},
    served::{Served, ServedKey},
    size::Size,
    target::{PinRef, Target, Wanted},
    time::Timestamp,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

/// The `n`th build's key.
pub fn key(n: u32) -> BuildKey {
    let parse = |attr: String| attr.parse().expect("an attribute");
    BuildKey { rev: "ab".repeat(20).parse().expect("hex"), system: System::X86_64Linux, attr: parse(format!("p{n}")) }
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
    }
}

/// A build in a state.
pub fn build(key: BuildKey, state: State) -> Row {
    Row::Build(Build { key, state, history: Vec::new() })
}

/// The `n`th build, queued for `due`.
pub fn queued(n: u32, due: u64) -> Row {
    build(key(n), State::Queued { since: Timestamp(1), due: Timestamp(due), attempt: 1 })
}

/// The `n`th build, held by the `holder`th lease until `expires`.
pub fn building(n: u32, holder: u32, expires: u64) -> Row {
    build(key(n), State::Building(lease(holder, expires)))
}

/// The `n`th build, ready since `since`.
pub fn ready(n: u32, since: u64) -> Row {
    build(key(n), State::Ready { lease: lease_id(n), since: Timestamp(since) })
}

/// What `/pN` is served, of so many bytes.
pub fn served(n: u32, size: u64) -> Row {
    let key = key(n);
    let bin = key.attr.as_str().parse().expect("a program's name");
    let object = ObjectPath { key: key.clone(), lease: lease_id(n), name: ObjectName::Program(bin) };
    Row::Served(Served {
        asked: asked(n),
        pin: pinned(0).pin,
        rev: key.rev.clone(),
        bin: key.attr.as_str().parse().expect("a program's name"),
        attr: key.attr,
        version: "1.0".to_owned(),
        sha256: sha256(0),
        size,
        object,
        stale: false,
    })
}

/// What `/pN` is found under, and another such.
pub fn pinned(n: u32) -> Pinned {
    let pin = if n == 0 { "nixos-26.05".to_owned() } else { format!("pin-{n}") };
    Pinned { pin: pin.parse().expect("a pin's name"), rev: key(0).rev }
}

/// What `/pN` asks for.
pub fn asked(n: u32) -> ServedKey {
    let target = Target { wanted: Wanted::Package(key(n).attr), system: None, pin: None };
    ServedKey::of(&target, key(n).system)
}

/// The limits while so many leases are held.
pub fn limits(taken: u32) -> Row {
    let policy = Policy { slots: usize::MAX, ..Policy::default() };
    let reserve =
        |limits: Limits, n| limits.reserve(&lease_id(n), Size::default(), Timestamp(1), &policy).expect("a free slot");
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
    ("[0-9a-f]{40}", select(&System::ALL[..]), "[a-z0-9_][a-zA-Z0-9_+'-]{0,20}(\\.[a-oq-z][a-z0-9]{0,5}){0,3}")
        .prop_filter_map("an attribute that stays in its set", |(rev, system, attr)| {
            Some(BuildKey { rev: rev.parse().ok()?, system, attr: attr.parse().ok()? })
        })
}

fn any_failure() -> impl Strategy<Value = Failure> {
    (select(&Kind::ALL[..]), "\\PC{0,40}", option::of("[a-z0-9-]{1,20}"))
        .prop_map(|(kind, detail, derivation)| Failure { derivation, ..Failure::new(kind, detail) })
}

fn any_stats() -> impl Strategy<Value = Stats> {
    (any::<u32>(), any::<u32>()).prop_map(|(derivations, log_segments)| Stats { derivations, log_segments })
}

fn any_size() -> impl Strategy<Value = Size> {
    select(&["4096/8192/50", "1024/2048/21", "16384/122880/200"][..]).prop_map(|size| size.parse().expect("a size"))
}

fn any_lease() -> impl Strategy<Value = Lease> {
    let token = "[0-9a-f]{64}".prop_map(|hex| hex.parse::<Token>().expect("64 hex digits"));
    let task = option::of("\\PC{0,30}");
    (any_lease_id(), token, any::<u32>(), any_size(), any_timestamp(), any_timestamp(), task).prop_map(
        |(id, token, attempt, size, claimed, expires, task)| Lease { id, token, attempt, size, claimed, expires, task },
    )
}

fn any_attempt() -> impl Strategy<Value = Attempt> {
    let times = (any_timestamp(), any_timestamp());
    (any_lease_id(), any::<u32>(), any_size(), times, option::of(any_failure()), any_stats()).prop_map(
        |(lease, number, size, (claimed, ended), failure, stats)| Attempt {
            lease,
            number,
            size,
            claimed,
            ended,
            failure,
            stats,
        },
    )
}

/// Any state of a build.
pub fn any_state() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(State::Unasked),
        (any_timestamp(), any_timestamp(), any::<u32>()).prop_map(|(since, due, attempt)| State::Queued {
            since,
            due,
            attempt
        }),
        any_lease().prop_map(State::Building),
        (any_lease_id(), any_timestamp()).prop_map(|(lease, since)| State::Ready { lease, since }),
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

/// Any served row.
pub fn any_served() -> impl Strategy<Value = Served> {
    let bin = "[a-z0-9_\\[][a-zA-Z0-9_.+'\\[\\]@:,=~-]{0,20}";
    let asked = (any::<bool>(), option::of(any_pin_ref()), any::<bool>());
    (any_key(), bin, asked, any_pin_name(), any::<u64>(), "\\PC{0,20}", any_lease_id()).prop_map(
        |(key, bin, (whole, asked_pin, stale), pin, size, version, lease)| {
            let bin: binplz_core::key::Bin = bin.parse().expect("a program's name");
            let attr = key.attr.clone();
            let wanted = if whole { Wanted::Package(attr) } else { Wanted::Program(attr, bin.clone()) };
            Served {
                asked: ServedKey::of(&Target { wanted, system: None, pin: asked_pin }, key.system),
                pin,
                rev: key.rev.clone(),
                attr: key.attr.clone(),
                version,
                sha256: sha256(u8::try_from(size % 256).unwrap_or(0)),
                size,
                object: ObjectPath { key, lease, name: ObjectName::Program(bin.clone()) },
                bin,
                stale,
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
    let step = (0..4u8, any_pin_name(), rev, source);
    (any_timestamp(), vec(step, 1..12)).prop_map(|(now, steps)| {
        let (_, name, rev, source) = steps[0].clone();
        let names: Vec<_> = steps.iter().map(|(_, name, ..)| name.clone()).collect();
        steps.into_iter().enumerate().fold(Pins::one(name, rev, source), |pins, (n, (what, name, rev, source))| {
            let other = names[n / 2].clone();
            let change = match what {
                0 => Change::Retire(other),
                1 => Change::Default(other),
                2 => Change::Move(other, rev, source),
                _ => Change::Add(name, rev, source),
            };
            pins.changed(&change, now).ok().flatten().unwrap_or(pins)
        })
    })
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let steps = vec((any_lease_id(), 0..2_000_000_000_000u64, any::<bool>()), 0..30);
    (steps, option::of(Just(Why::NoImage)), select(&System::ALL[..])).prop_map(|(steps, obstacle, system)| {
        let prices = Prices { task: Micros(17 * 3600), ..Prices::default() };
        let policy = Policy { slots: 20, budget: Some(Micros(u64::MAX)), prices, ..Policy::default() };
        let paused = Limits::default().looked_at(system, obstacle, Timestamp(1));
        steps.into_iter().fold(paused, |limits, (lease, at, release)| {
            let now = Timestamp(at);
            let held = limits.reserve(&lease, Size::default(), now, &policy).unwrap_or(limits);
            let later = now + Duration::from_secs(at % 10_000);
            if release { held.release(&lease, Size::default(), later, &policy) } else { held }
        })
    })
}

/// Any row.
pub fn any_row() -> impl Strategy<Value = Row> {
    prop_oneof![
        4 => (any_key(), any_state(), vec(any_attempt(), 0..9))
            .prop_map(|(key, state, history)| Row::Build(Build { key, state, history })),
        2 => any_served().prop_map(Row::Served),
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
    }
}
