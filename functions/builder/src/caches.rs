//! The binary caches of the operator's Nix settings, beside the one that builders share.
//!
//! Nix does without a cache that it cannot reach, and builds from source what the cache has. Until then it may wait for
//! minutes, and where it knows a cache from before, it fails. So each cache is asked before the work, and one that does
//! not answer is left out. The log begins with that, since compiling takes longer than fetching.

use std::{ffi::OsStr, thread, time::Duration};

use serde_json::Value;
use ureq::Agent;

use crate::{log::Log, nix::Nix, settings};

/// How long a cache may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Nix's limits for a cache or a source that is slow, unless the operator sets them. Its own defaults add up to half an hour
/// for one file.
const LIMITS: [(&str, &str); 3] =
    [("connect-timeout", "10"), ("stalled-download-timeout", "30"), ("download-attempts", "3")];

/// Has Nix do without caches that do not answer, and wait no longer than seconds for those that do.
pub(crate) fn prepare(nix: &mut Nix, log: &Log) {
    for (name, value) in LIMITS {
        if !settings::mention(name, |name| nix.variable(name)) {
            nix.set_option(name, value);
        }
    }
    let known = known(nix);
    let answers: Vec<Option<String>> = thread::scope(|scope| {
        let asking: Vec<_> = known.iter().map(|cache| scope.spawn(|| trouble(cache))).collect();
        asking.into_iter().map(|asked| asked.join().unwrap_or(None)).collect()
    });
    if answers.iter().all(Option::is_none) {
        return;
    }
    let (mut live, mut dead) = (Vec::new(), Vec::new());
    for (cache, trouble) in known.iter().zip(answers) {
        match trouble {
            None => live.push(cache.as_str()),
            Some(why) => dead.push((cache, why)),
        }
    }
    nix.set_option("substituters", &live.join(" "));
    for (cache, why) in dead {
        log.say(&format!(
            "warning: the binary cache {} does not answer ({why}): what only it has is built here, from source",
            public(cache)
        ));
    }
}

/// The caches that Nix is set to read.
fn known(nix: &Nix) -> Vec<String> {
    let show = ["--extra-experimental-features", "nix-command", "show-config", "--json"].map(OsStr::new);
    let Ok(Ok(json)) = nix.ask("nix", &show) else { return Vec::new() };
    let settings: Value = serde_json::from_str(&json).unwrap_or_default();
    let value = |name: &str| settings.get(name)?.get("value");
    if value("substitute").and_then(Value::as_bool) != Some(true) {
        return Vec::new();
    }
    let caches = value("substituters").and_then(Value::as_array);
    caches.into_iter().flatten().filter_map(|cache| cache.as_str().map(str::to_owned)).collect()
}

/// Why a cache does not answer; `None` if it does. Only HTTP is tried, and only an answer that no setting of Nix would
/// change counts: Nix may know a password, or a certificate.
fn trouble(cache: &str) -> Option<String> {
    let url = cache.split(['?', '#']).next().filter(|url| url.starts_with("http"))?;
    let agent: Agent = ureq::config::Config::builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .user_agent("binplz-builder")
        .build()
        .new_agent();
    match agent.get(format!("{}/nix-cache-info", url.trim_end_matches('/'))).call() {
        Ok(answer) => match answer.status().as_u16() {
            status @ (404 | 410 | 500..) => Some(format!("status {status}")),
            _ => None,
        },
        Err(ureq::Error::Timeout(_)) => Some(format!("not within {} s", PATIENCE.as_secs())),
        Err(error @ (ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::Io(_))) => {
            Some(error.to_string())
        }
        Err(_) => None,
    }
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
