//! Sources and binary caches that fail. The servers, the caches and their keys are real.

use std::{
    fs,
    path::{Path, PathBuf},
};

use binplz_core::build::{failure::Kind, protocol::Outcome};

use crate::support::{
    Bench,
    endpoint::Endpoint,
    verdict::{Next, assert_failed, failure},
    web::{Gives, Web},
};

const SOURCE: &[u8] = b"the source\n";

/// Builds packages that take a source from there, one by Nix itself and one by curl.
fn fetched_from(url: &str) -> [Endpoint; 2] {
    ["failing.onBuiltin", "failing.onCurl"].map(|name| {
        // A fixed output is known by its hash: a source that another test has fetched is not fetched again.
        let bench = Bench::with_own_store();
        bench.has_source_at(url);
        bench.work(bench.job(name))
    })
}

#[test]
fn a_source_that_can_not_be_had_is_tried_again_and_named() {
    let half = Web::start(|_| Gives::Half(SOURCE.into()));
    let gone = Web::start(|_| Gives::Status(404));
    let unwell = Web::start(|_| Gives::Status(503));
    // That port is closed.
    let closed = "http://127.0.0.1:9/source".to_owned();
    for url in [half.url("/source"), gone.url("/source"), unwell.url("/source"), closed] {
        let [builtin, curl] = fetched_from(&url);
        let said =
            format!("a source could not be downloaded, in its dependency builtinSource: unable to download '{url}'");
        assert_failed(&builtin, Kind::SourceUnavailable, Next::Again, &said);
        let said = "a source could not be downloaded, in its dependency curlSource: cannot download curlSource from any mirror";
        assert_failed(&curl, Kind::SourceUnavailable, Next::Again, said);
    }
    assert!([&half, &gone, &unwell].iter().all(|web| web.asked().iter().any(|path| path == "/source")));
}

#[test]
fn a_source_that_is_another_one_by_now_is_not_tried_again() {
    let web = Web::start(|_| Gives::All(b"another source\n".into()));
    for (endpoint, name) in fetched_from(&web.url("/source")).iter().zip(["builtinSource", "curlSource"]) {
        let said = format!(
            "the hash of a downloaded source differs from the package's, in its dependency {name}: hash mismatch in"
        );
        assert_failed(endpoint, Kind::HashMismatch, Next::Nothing, &said);
    }
}

#[test]
fn a_source_that_is_there_is_no_failure() {
    let web = Web::start(|_| Gives::All(SOURCE.into()));
    for endpoint in fetched_from(&web.url("/source")) {
        assert!(matches!(endpoint.outcome(), Outcome::Built(_)), "{:?}", endpoint.outcome());
    }
}

/// A bench whose package is in a signed binary cache and nowhere else; the cache's directory, and its public key.
fn cached() -> (Bench, PathBuf, String) {
    let bench = Bench::with_own_store();
    let (cache, secret, public) = (bench.own().join("cache"), bench.own().join("secret"), bench.own().join("public"));
    let run = |program: &str, args: &[&str]| {
        let out = bench.nix(program).args(args).output().expect("Nix");
        assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("text").trim().to_owned()
    };
    let path = |path: &Path| path.to_str().expect("a path").to_owned();
    run("nix-store", &["--generate-binary-cache-key", "cache-1", &path(&secret), &path(&public)]);
    let set = format!(
        "(import {} {{ system = builtins.currentSystem; config = {{ }}; overlays = [ ]; }})",
        path(&bench.set())
    );
    let made = run("nix-build", &["--no-out-link", "--expr", &format!("{set}.pkgsStatic.good")]);
    // An uncompressed file can be cut and damaged in the middle.
    let to = format!("file://{}?compression=none&secret-key={}", path(&cache), path(&secret));
    run("nix", &["--extra-experimental-features", "nix-command", "copy", "--to", &to, &made]);
    for gone in ["store", "var"] {
        fs::remove_dir_all(bench.own().join(gone)).expect("Nix's own");
    }
    let public = fs::read_to_string(public).expect("a key").trim().to_owned();
    (bench, cache, public)
}

/// Builds a package of a cache that answers so, with such settings of Nix; `OURS` is the cache's own key.
fn substituted(
    gives: impl Fn(&str, Vec<u8>) -> Gives + Send + Sync + 'static,
    key: &str,
    settings: &str,
) -> (Endpoint, Web) {
    let (bench, cache, public) = cached();
    let web = Web::start(move |path| match fs::read(cache.join(&path[1..])) {
        Ok(file) => gives(path, file),
        Err(_) => Gives::Status(404),
    });
    let key = if key == OURS { &public } else { key };
    let bench = bench.configure(&format!("substituters = {}\ntrusted-public-keys = {key}\n{settings}", web.url("")));
    (bench.work(bench.job("good")), web)
}

fn is_nar(path: &str) -> bool {
    path.starts_with("/nar/")
}

#[test]
fn what_a_cache_has_is_not_built() {
    let (endpoint, web) = substituted(|_, file| Gives::All(file), OURS, "");
    assert!(matches!(endpoint.outcome(), Outcome::Built(_)), "{:?}", endpoint.outcome());
    assert_eq!(endpoint.report().stats.derivations, 0);
    assert!(web.asked().iter().any(|path| is_nar(path)));
    // The log says which cache it comes from.
    let cache = web.url("");
    endpoint.see(|seen| assert!(seen.log().contains(&format!("store paths from {cache}\n")), "{}", seen.log()));
}

#[test]
fn a_cache_that_breaks_off_is_tried_again_and_nothing_is_built_instead() {
    let only = |change: fn(Vec<u8>) -> Gives| {
        move |path: &str, file| if is_nar(path) { change(file) } else { Gives::All(file) }
    };
    let spoiled = |mut file: Vec<u8>| {
        let middle = file.len() / 2;
        file[middle] ^= 1;
        Gives::All(file)
    };
    for change in [|_| Gives::Status(503), |_| Gives::Status(429), Gives::Half, spoiled] {
        let (endpoint, web) = substituted(only(change), OURS, "");
        assert_failed(&endpoint, Kind::CacheUnavailable, Next::Again, "the binary cache could not be read");
        assert_eq!(endpoint.report().stats.derivations, 0);
        assert!(web.asked().iter().any(|path| is_nar(path)));
    }
}

#[test]
fn a_cache_that_is_not_there_at_all_is_done_without() {
    let (endpoint, web) = substituted(|_, _| Gives::Status(503), OURS, "");
    assert!(matches!(endpoint.outcome(), Outcome::Built(_)), "{:?}", endpoint.outcome());
    assert_eq!(endpoint.report().stats.derivations, 2);
    assert_ne!(web.asked(), [""; 0]);
}

/// The line of the log that says that a cache is left out; it stands above the plan.
fn is_left_out(endpoint: &Endpoint, cache: &str, why: &str) {
    let log = endpoint.see(|seen| seen.log());
    let said = format!("warning: the binary cache {cache} does not answer ({why}");
    let (warning, plan) = (log.find(&said), log.find("derivation: "));
    assert!(warning.is_some() && warning < plan, "{said}: {log}");
}

#[test]
fn a_cache_that_is_down_or_stalls_is_left_out_at_once_and_the_log_begins_with_that() {
    let stalls = Web::start(|_| Gives::Nothing);
    let unwell = Web::start(|_| Gives::Status(503));
    // That port is closed.
    let closed = "http://127.0.0.1:9".to_owned();
    for (down, why) in [(stalls.url(""), "not within 5 s"), (unwell.url(""), "status 503"), (closed, "")] {
        // No other cache has it: it is built.
        let bench = Bench::with_own_store().configure(&format!("substituters = {down}"));
        let endpoint = bench.work(bench.job("good"));
        assert!(matches!(endpoint.outcome(), Outcome::Built(_)), "{:?}", endpoint.outcome());
        assert_eq!(endpoint.report().stats.derivations, 2);
        is_left_out(&endpoint, &down, why);
        // Another one has it: it is fetched.
        let (bench, cache, public) = cached();
        let web = Web::start(move |path| fs::read(cache.join(&path[1..])).map_or(Gives::Status(404), Gives::All));
        let caches = format!("{down} {}", web.url("?priority=50"));
        let bench = bench.configure(&format!("substituters = {caches}\ntrusted-public-keys = {public}"));
        let endpoint = bench.work(bench.job("good"));
        assert_eq!(endpoint.report().stats.derivations, 0, "{}", endpoint.see(|seen| seen.log()));
        is_left_out(&endpoint, &down, why);
    }
    // Each was asked once, and by the builder.
    assert!(stalls.asked().iter().chain(&unwell.asked()).all(|path| path == "/nix-cache-info"));
    assert_eq!((stalls.asked().len(), unwell.asked().len()), (2, 2));
}

#[test]
fn a_file_of_a_cache_that_stalls_ends_at_its_time() {
    let stalls = |path: &str, file| if is_nar(path) { Gives::Stalled(file) } else { Gives::All(file) };
    let (endpoint, web) = substituted(stalls, OURS, "stalled-download-timeout = 1\ndownload-attempts = 1");
    assert_failed(&endpoint, Kind::CacheUnavailable, Next::Again, "the binary cache could not be read");
    assert!(web.asked().iter().any(|path| is_nar(path)));
}

/// The cache's own key, and a stranger's.
const OURS: &str = "ours";
const STRANGER: &str = "stranger-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

#[test]
fn what_is_signed_by_a_stranger_is_not_taken_but_built() {
    let (endpoint, web) = substituted(|_, file| Gives::All(file), STRANGER, "");
    assert!(matches!(endpoint.outcome(), Outcome::Built(_)), "{:?}", endpoint.outcome());
    assert_eq!(endpoint.report().stats.derivations, 2);
    assert!(!web.asked().iter().any(|path| is_nar(path)));
    // The log says why it takes so long, before it does.
    let log = endpoint.see(|seen| seen.log());
    let (warning, build) = (log.find("signs with the key cache-1, which is not trusted here"), log.find("building '"));
    assert!(warning.is_some() && warning < build, "{log}");
    endpoint.see(|seen| assert!(seen.log().contains("not signed by any of the keys"), "{}", seen.log()));
}

#[test]
fn where_nothing_may_be_built_a_strangers_signature_is_its_operators_business() {
    let (endpoint, web) = substituted(|_, file| Gives::All(file), STRANGER, "max-jobs = 0");
    let said = "the binary cache's signature is not trusted here: ";
    assert_failed(&endpoint, Kind::Signature, Next::Mended, said);
    // Other versions of Nix surround this with other words.
    let sentence = failure(&endpoint).sentence();
    assert!(sentence.contains("'good-1.0'") && sentence.contains("not signed by any of the keys"), "{sentence}");
    assert!(!web.asked().iter().any(|path| is_nar(path)));
}
