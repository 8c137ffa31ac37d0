//! The builders' shared binary cache: what one builder builds as a dependency, the next one fetches. Each has a Nix
//! store of its own, and Nix itself reads the cache. The test signs the offers, as the promoter does in a service.

use std::{fs, path::PathBuf};

use binplz_core::{
    build::{
        failure::Kind,
        protocol::{Cache, Job, JobLimits, Outcome},
    },
    objects::{
        artifact::{CacheName, ObjectName},
        narinfo::{Narinfo, StoreDir},
    },
};
use binplz_nar::Key;

use rustix::process::Signal;

use crate::support::{
    Bench,
    endpoint::Endpoint,
    verdict::{Next, assert_failed},
};

/// A cache in a directory, empty at first.
struct Shared {
    bench: Bench,
    dir: PathBuf,
    key: Key,
    of: StoreDir,
}

impl Shared {
    fn new() -> Shared {
        let bench = Bench::with_own_store();
        let of: StoreDir = bench.own().join("store").to_str().expect("a path").parse().expect("a plain path");
        let shared = Shared { dir: bench.own().join("shared"), key: Key::of_seed([7; 32]), of, bench };
        shared.write(&CacheName::Info, format!("StoreDir: {}\n", shared.of).as_bytes());
        shared
    }

    fn write(&self, name: &CacheName, content: &[u8]) {
        let file = self.dir.join(name.to_string());
        fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
        fs::write(file, content).expect("a file");
    }

    fn job(&self, product: &str) -> Job {
        let cache = Cache { url: format!("file://{}/cache", self.dir.display()), public_key: Some(self.key.public()) };
        Job { cache: Some(cache), ..self.bench.job(product) }
    }

    /// A builder's whole work, in an empty store.
    fn work(&self, job: Job) -> Endpoint {
        for gone in ["store", "var"] {
            let dir = self.bench.own().join(gone);
            assert!(!dir.exists() || fs::remove_dir_all(dir).is_ok());
        }
        self.bench.work(job)
    }

    /// Lets all offers into the cache.
    fn takes(&self, endpoint: &Endpoint) -> Vec<Narinfo> {
        let offered = offered(endpoint, &self.of);
        for narinfo in &offered {
            let signed = narinfo.signed(&self.of, &self.key.sign(&narinfo.fingerprint(&self.of)));
            self.write(&CacheName::Narinfo(narinfo.path.hash.clone()), signed.as_bytes());
            let nar = narinfo.packed.sha256.clone();
            let file = endpoint.see(|seen| seen.objects[&ObjectName::Nar(nar.clone()).to_string()].clone());
            self.write(&CacheName::Nar(nar), &file);
        }
        offered
    }
}

/// The narinfos that a builder has stored.
fn offered(endpoint: &Endpoint, of: &StoreDir) -> Vec<Narinfo> {
    let narinfos = |name: &str| matches!(name.parse(), Ok(ObjectName::Narinfo(_)));
    let texts: Vec<Vec<u8>> = endpoint
        .see(|seen| seen.objects.iter().filter(|(name, _)| narinfos(name)).map(|(_, text)| text.clone()).collect());
    let read = |text: &Vec<u8>| Narinfo::parse(std::str::from_utf8(text).expect("text"), of).expect("a narinfo");
    texts.iter().map(read).collect()
}

fn log(endpoint: &Endpoint) -> String {
    endpoint.see(|seen| seen.log())
}

fn derivations(endpoint: &Endpoint) -> u32 {
    assert!(matches!(endpoint.outcome(), Outcome::Built(_)), "{:?}\n{}", endpoint.outcome(), log(endpoint));
    endpoint.report().stats.derivations
}

#[test]
fn what_one_builder_has_built_for_its_package_another_one_fetches() {
    let shared = Shared::new();
    // The first build of all: the cache has no signature yet.
    let mut job = shared.job("good");
    job.cache.as_mut().expect("a cache").public_key = None;
    let first = shared.work(job);
    assert_eq!((derivations(&first), first.report().stats.offers), (2, 1), "{}", log(&first));
    let [dependency] = &offered(&first, &shared.of)[..] else { panic!("no other package needs this one") };
    assert_eq!(dependency.path.name(), "dependency-1.0");
    // It was reported before anything was built.
    let planned = first.see(|seen| seen.claims[0].to_offer.clone());
    assert_eq!((planned.first(), planned.len()), (Some(&dependency.path.hash), 2), "and the package itself");
    assert!(log(&first).contains("offered to other builds: 1 store paths, "), "{}", log(&first));
    // Nix agrees.
    let ask = |what: &str| {
        let path = format!("{}/{}", shared.of, dependency.path);
        let told = shared.bench.nix("nix-store").args(["-q", what, &path]).output().expect("Nix");
        String::from_utf8(told.stdout).expect("text").trim().to_owned()
    };
    let text = dependency.text(&shared.of);
    assert!(text.contains(&format!("\nNarHash: {}\nNarSize: {}\n", ask("--hash"), ask("--size"))), "{text}");
    assert_eq!(ask("--deriver"), format!("{}/{}", shared.of, dependency.deriver.as_ref().expect("a derivation")));
    assert_eq!((ask("--references").as_str(), dependency.references.len()), ("", 0));

    shared.takes(&first);
    let second = shared.work(shared.job("good"));
    assert_eq!((derivations(&second), second.report().stats.offers), (1, 0), "{}", log(&second));
    let copied = format!("copying path '{}/{}'", shared.of, dependency.path);
    assert!(log(&second).contains(&copied), "{}", log(&second));
    assert_eq!(second.see(|seen| seen.claims[0].to_offer.len()), 1, "the package itself");
}

#[test]
fn a_package_that_other_builds_need_is_offered_and_its_dependencies_are_reported_before() {
    let shared = Shared::new();
    let endpoint = Endpoint::new(shared.job("good"));
    endpoint.wants_the_package();
    assert_eq!(shared.bench.start(&endpoint).end(), (Some(0), String::new()));
    assert_eq!((derivations(&endpoint), endpoint.report().stats.offers), (2, 2));
    let names: Vec<_> = offered(&endpoint, &shared.of).iter().map(|one| one.path.name().to_owned()).collect();
    assert!(["dependency-1.0", "good-1.0"].iter().all(|name| names.contains(&(*name).to_owned())), "{names:?}");
    let reported = endpoint.see(|seen| seen.dependencies.iter().flat_map(|one| one.built.clone()).collect::<Vec<_>>());
    assert!(reported.len() == 2 && reported.iter().all(|built| built.offered), "{reported:?}");
}

#[test]
fn what_a_package_needs_is_offered_also_where_the_package_fails() {
    let shared = Shared::new();
    let failed = shared.work(shared.job("halfway"));
    assert_failed(&failed, Kind::BuildFailed, Next::Nothing, "");
    assert_eq!(failed.report().stats.offers, 1);
    shared.takes(&failed);
    assert_eq!(derivations(&shared.work(shared.job("good"))), 1);
}

#[test]
fn what_is_built_is_offered_at_once_and_counts_also_where_the_machine_is_taken_away() {
    for signal in [Signal::TERM, Signal::KILL] {
        let shared = Shared::new();
        let endpoint = Endpoint::new(shared.job("patient"));
        let builder = shared.bench.start(&endpoint);
        endpoint.wait_for_gate();
        let narinfo = |name: &String| matches!(name.parse(), Ok(ObjectName::Narinfo(_)));
        endpoint.wait("what the dependency is offered with", |seen| seen.objects.keys().any(narinfo));
        builder.signal(signal);
        builder.end();
        shared.bench.build_process().wait_gone();
        if signal == Signal::TERM {
            assert_failed(&endpoint, Kind::Interrupted, Next::Again, "");
            assert_eq!(endpoint.report().stats.offers, 1);
        }
        // Where builders share a store, the dependency is still there.
        assert_eq!(derivations(&shared.bench.work(shared.bench.job("good"))), 1);
        // Where they do not, the next one fetches it.
        shared.takes(&endpoint);
        let next = shared.work(shared.job("good"));
        assert_eq!(derivations(&next), 1);
        assert!(log(&next).contains("fetched: 1 store paths from the builders' cache\n"), "{}", log(&next));
    }
}

#[test]
fn a_build_whose_time_is_over_reports_the_dependencies_that_the_next_one_finds() {
    let shared = Shared::new();
    // The package itself waits at its gate; it needs a dependency, or a download, or nothing.
    for (package, built) in [("patient", 1), ("gated", 0)] {
        let limits = JobLimits { seconds: 20, ..shared.bench.job(package).limits };
        for job in [shared.job(package), shared.bench.job(package)] {
            let endpoint = shared.work(Job { limits: limits.clone(), ..job });
            assert_failed(&endpoint, Kind::TimedOut, Next::Nothing, "");
            let stats = endpoint.report().stats;
            assert_eq!(stats.built, built, "{package}: {}", log(&endpoint));
            assert_eq!(stats.offers, if endpoint.job().cache.is_some() { built } else { 0 });
        }
    }
}

#[test]
fn what_is_downloaded_and_what_is_too_large_is_not_offered_and_nothing_is_where_there_is_no_cache() {
    let shared = Shared::new();
    let download = shared.work(shared.job("curious"));
    let limits = JobLimits { cache_bytes: 20, ..shared.bench.job("good").limits };
    let large = shared.work(Job { limits, ..shared.job("good") });
    let without = shared.work(shared.bench.job("good"));
    for endpoint in [&download, &large, &without] {
        assert_eq!((derivations(endpoint), endpoint.report().stats.offers), (2, 0), "{}", log(endpoint));
        assert!(endpoint.see(|seen| !seen.objects.keys().any(|name| name.starts_with("nar/"))));
    }
    assert!(log(&large).contains("dependency-1.0 is not offered to other builds: it is too large"), "{}", log(&large));
}

#[test]
fn a_builder_that_may_not_offer_builds_all_the_same() {
    let shared = Shared::new();
    let endpoint = Endpoint::new(shared.job("good"));
    // Its programs are stored by then, and its log goes on.
    endpoint.refuses("nar/");
    assert_eq!(shared.bench.start(&endpoint).end(), (Some(0), String::new()));
    assert_eq!((derivations(&endpoint), endpoint.report().stats.offers), (2, 0));
    assert!(log(&endpoint).contains("is not offered to other builds: nar/"), "{}", log(&endpoint));
}

#[test]
fn what_a_stranger_has_signed_is_built_and_so_is_all_where_the_cache_is_gone() {
    let shared = Shared::new();
    let first = shared.work(shared.job("good"));
    shared.takes(&first);
    let mut strange = shared.job("good");
    strange.cache.as_mut().expect("a cache").public_key = Some(Key::of_seed([8; 32]).public());
    assert_eq!(derivations(&shared.work(strange)), 2);
    // Neither a missing nor an unreadable cache prevents a build.
    let unreachable = Cache { url: "http://127.0.0.1:9/cache".to_owned(), public_key: Some(shared.key.public()) };
    assert_eq!(derivations(&shared.work(Job { cache: Some(unreachable), ..shared.job("good") })), 2);
    fs::remove_dir_all(&shared.dir).expect("a directory");
    assert_eq!(derivations(&shared.work(shared.job("good"))), 2);
}

#[test]
fn a_spoiled_file_of_the_cache_fails_for_now_and_is_not_used() {
    let shared = Shared::new();
    let first = shared.work(shared.job("good"));
    let [dependency] = &shared.takes(&first)[..] else { panic!("one") };
    let nar = CacheName::Nar(dependency.packed.sha256.clone());
    shared.write(&nar, b"spoiled");
    let second = shared.work(shared.job("good"));
    assert_failed(&second, Kind::CacheUnavailable, Next::Again, "the binary cache could not be read");
}
