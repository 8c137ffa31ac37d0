//! The binary caches of the operator's Nix settings, beside the one that builders share.
//!
//! Nix does without a cache that it cannot reach, and builds from source what the cache has. Until then it may wait for
//! minutes, and where it knows a cache from before, it fails. So each cache is asked before the work, and one that does
//! not answer is left out. The log begins with that, since compiling takes longer than fetching.

use std::{
    ffi::{OsStr, OsString},
    io, thread,
    time::Duration,
};

use binplz_core::{id::text::clean_line, nixpkgs::nix_config::NixConfig, objects::narinfo::LENGTH_MAX};
use ureq::Agent;

use crate::{log::Log, nix::Nix, settings};

/// How long a cache may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Nix's limits for a cache or a source that is slow, unless the operator sets them. Its own defaults add up to half an hour
/// for one file.
const LIMITS: [(&str, &str); 3] =
    [("connect-timeout", "10"), ("stalled-download-timeout", "30"), ("download-attempts", "3")];

/// How many paths of a plan are looked up, to see who signs a cache.
const LOOKS: usize = 3;
/// The longest name of a key that is shown, in characters.
const NAME_MAX: usize = 100;
/// The consequence of a cache that is not used.
const BUILT_HERE: &str = "paths that only it has are built from source";

/// The binary caches of a build.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    /// The URL of the one that builders share.
    pub(crate) own: Option<String>,
    /// The others that answer.
    live: Vec<String>,
    /// The names of the keys that Nix trusts; `None` if it requires no signature.
    trusted: Option<Vec<String>>,
    /// Whether this machine builds; otherwise Nix's own error about a signature is more to the point than a plan.
    builds: bool,
}

impl Caches {
    /// The caches that Nix is set to read. Has Nix do without those that do not answer, and wait no longer than seconds for
    /// those that do.
    pub(crate) fn prepare(nix: &mut Nix, log: &Log) -> Caches {
        for (name, value) in LIMITS {
            if !settings::mention(name, |name| nix.variable(name)) {
                nix.set_option(name, value);
            }
        }
        let known = Caches::known(nix);
        let answers: Vec<Option<String>> = thread::scope(|scope| {
            let asking: Vec<_> = known.live.iter().map(|cache| scope.spawn(|| trouble(cache))).collect();
            asking.into_iter().map(|asked| asked.join().unwrap_or(None)).collect()
        });
        if answers.iter().all(Option::is_none) {
            return known;
        }
        let (mut live, mut dead) = (Vec::new(), Vec::new());
        for (cache, trouble) in known.live.into_iter().zip(answers) {
            match trouble {
                None => live.push(cache),
                Some(why) => dead.push((cache, why)),
            }
        }
        nix.set_option("substituters", &live.join(" "));
        for (cache, why) in dead {
            let cache = public(&cache);
            log.say(&format!("warning: the binary cache {cache} does not answer ({why}): {BUILT_HERE}"));
        }
        Caches { live, ..known }
    }

    /// Those of Nix's settings.
    fn known(nix: &Nix) -> Caches {
        let Ok(Ok(json)) = nix.ask("nix", &NixConfig::SHOW.map(OsStr::new)) else { return Caches::default() };
        let config = NixConfig::parse(&json).unwrap_or_default();
        if !config.is("substitute") {
            return Caches::default();
        }
        let names = |keys: Vec<String>| keys.iter().filter_map(|key| Some(key.split_once(':')?.0.to_owned())).collect();
        let trusted = config.is("require-sigs").then(|| names(config.list("trusted-public-keys")));
        let builds = config.number("max-jobs") != Some(0);
        Caches { own: None, live: config.list("substituters"), trusted, builds }
    }

    /// Options for a plan without the caches whose paths Nix will not take, since no key that it trusts has signed them:
    /// it plans to fetch them, and builds them. Some of the paths that it plans to fetch show this. `None`: all are trusted.
    pub(crate) fn without_untrusted(&self, paths: &[String], log: &Log) -> Option<Vec<OsString>> {
        let trusted = self.trusted.as_ref()?;
        let mut plan = Vec::new();
        for cache in &self.live {
            let find = |url| paths.iter().take(LOOKS).find_map(|hash| signers(url, hash));
            let signers = http_url(cache).and_then(find).unwrap_or_default();
            if signers.is_empty() || signers.iter().any(|name| trusted.contains(name)) {
                plan.push(cache.as_str());
                continue;
            }
            let (cache, names) = (public(cache), signers.join(", "));
            log.say(&format!(
                "warning: the binary cache {cache} signs with the key {names}, which is not trusted here: {BUILT_HERE}"
            ));
        }
        (self.builds && plan.len() < self.live.len()).then(|| {
            plan.extend(self.own.as_deref());
            ["--option", "substituters", &plan.join(" ")].map(OsString::from).into()
        })
    }
}

/// The hashes of the store paths that a dry run would fetch: one indented path a line, as for derivations.
pub(crate) fn fetched(text: &str) -> impl Iterator<Item = String> {
    let paths = text.lines().map(str::trim).filter(|line| line.starts_with('/') && !line.ends_with(".drv"));
    paths.filter_map(|path| Some(path.rsplit('/').next()?.split_once('-')?.0.to_owned()))
}

/// The names of the keys that have signed a path in a cache; `None` if the cache does not have it, or does not answer.
fn signers(url: &str, hash: &str) -> Option<Vec<String>> {
    let mut answer = agent().get(format!("{url}/{hash}.narinfo")).call().ok()?;
    let text = (answer.status() == 200).then(|| answer.body_mut().with_config().limit(LENGTH_MAX).read_to_string())?;
    let text = text.ok()?;
    let signatures = text.lines().filter_map(|line| line.strip_prefix("Sig:")?.trim().split_once(':'));
    Some(signatures.map(|(name, _)| clean_line(name, NAME_MAX)).collect())
}

/// Why a cache does not answer; `None` if it does. Only HTTP is tried, and only an answer that no setting of Nix would
/// change counts: Nix may know a password, or a certificate.
fn trouble(cache: &str) -> Option<String> {
    match agent().get(format!("{}/nix-cache-info", http_url(cache)?)).call() {
        Ok(answer) => match answer.status().as_u16() {
            status @ (404 | 410 | 500..) => Some(format!("status {status}")),
            _ => None,
        },
        Err(ureq::Error::Timeout(_)) => Some(format!("not within {} s", PATIENCE.as_secs())),
        Err(ureq::Error::Io(error)) if !is_of_network(&error) => None,
        Err(error @ (ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::Io(_))) => {
            Some(error.to_string())
        }
        Err(_) => None,
    }
}

/// A client that gives up after [`PATIENCE`].
fn agent() -> Agent {
    let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
    config.user_agent("binplz-builder").build().new_agent()
}

/// The URL of a cache that is read by HTTP, without parameters.
fn http_url(cache: &str) -> Option<&str> {
    let url = cache.split(['?', '#']).next().filter(|url| url.starts_with("http"))?;
    Some(url.trim_end_matches('/'))
}

/// Whether an error is the network's, and not of TLS, say.
fn is_of_network(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
        UnexpectedEof,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | NetworkUnreachable
            | TimedOut
            | UnexpectedEof
    )
}

/// A cache's URL without what only Nix needs to know: a user's name and password, and parameters.
pub(crate) fn public(cache: &str) -> String {
    let url = cache.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
            let host = host.rsplit('@').next().unwrap_or_default();
            let path = path.trim_end_matches('/');
            if path.is_empty() { format!("{scheme}://{host}") } else { format!("{scheme}://{host}/{path}") }
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caches_name_has_no_secret() {
        for (cache, told) in [
            ("https://cache.nixos.org/", "https://cache.nixos.org"),
            ("https://me:secret@cache.example/x?priority=1&token=y", "https://cache.example/x"),
            ("s3://bucket?region=eu-west-1&profile=x", "s3://bucket"),
            ("file:///var/cache", "file:///var/cache"),
            ("daemon", "daemon"),
        ] {
            assert_eq!(public(cache), told);
        }
    }
}
