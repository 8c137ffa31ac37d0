//! `binplz doctor`: the Nix binary caches that builds read, as a builder meets them.

use std::time::Duration;

use binplz_core::flow::operator::findings::{Finding, State};
use ureq::Agent;

use crate::nixpkgs;

/// How long a cache may take to answer; a builder waits no longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest description of a cache, in bytes.
const INFO_MAX: u64 = 64 << 10;

/// Checks caches, and the keys that their paths must be signed with. `mend`: the command that changes them.
pub(crate) fn examine(caches: &[String], keys: &[String], mend: &str) -> Vec<Finding> {
    let mut findings: Vec<Finding> = caches.iter().filter_map(|cache| judge(cache, mend)).collect();
    for key in keys.iter().filter(|key| !is_key(key)) {
        findings.push(Finding::missing("cache key", format!("{key} is malformed: expected NAME:BASE64"), mend));
    }
    if keys.is_empty() && !caches.is_empty() {
        let told = "no public key is trusted, so builds take nothing from binary caches";
        findings.push(Finding::missing("cache key", told, mend));
    }
    findings
}

/// Checks the caches of this machine's Nix settings.
pub(crate) fn examine_nix() -> Vec<Finding> {
    let Ok(config) = nixpkgs::nix_config() else {
        return vec![Finding::unknown("caches", "Nix does not print its settings")];
    };
    if !config.is("substitute") {
        return Vec::new();
    }
    let (caches, keys) = (config.list("substituters"), config.list("trusted-public-keys"));
    let findings = examine(&caches, &keys, "nix.conf: substituters");
    // A build does without a cache, and says so.
    findings.into_iter().map(|found| Finding { state: optional(found.state), ..found }).collect()
}

fn optional(state: State) -> State {
    if state == State::Missing { State::Optional } else { state }
}

/// One cache; `None` if it is read by another protocol than HTTP.
fn judge(cache: &str, mend: &str) -> Option<Finding> {
    let url = cache.split(['?', '#']).next().filter(|url| url.starts_with("http"))?.trim_end_matches('/');
    let check = format!("cache {url}");
    let config = Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false);
    let agent = config.user_agent("binplz doctor").build().new_agent();
    let missing = |why: String| {
        Finding::missing(&check, format!("{why}: builds skip this cache, and compile what only it has"), mend)
    };
    Some(match agent.get(&format!("{url}/nix-cache-info")).call() {
        Ok(mut answer) if answer.status() == 200 => {
            let info = answer.body_mut().with_config().limit(INFO_MAX).read_to_string().unwrap_or_default();
            match info.lines().find_map(|line| line.strip_prefix("StoreDir:")).map(str::trim) {
                Some("/nix/store") => Finding::ok(&check, "it answers"),
                Some(dir) => missing(format!("it is for another Nix store, {dir}")),
                None => missing("it is not a Nix binary cache".to_owned()),
            }
        }
        Ok(answer) if matches!(answer.status().as_u16(), 401 | 403) => {
            Finding::unknown(&check, "it asks for a password, which Nix may know (netrc-file)")
        }
        Ok(answer) => missing(format!("it answers with status {}", answer.status().as_u16())),
        Err(error) => missing(format!("it does not answer ({error})")),
    })
}

/// Whether a text has the form of a public key: a name, and 32 bytes in base64.
fn is_key(text: &str) -> bool {
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/".contains(&b);
    text.split_once(':').is_some_and(|(name, key)| {
        let digits = key.strip_suffix('=').unwrap_or_default();
        !name.is_empty() && digits.len() == 43 && digits.bytes().all(base64)
    })
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpListener,
        thread,
    };

    use super::*;

    const KEY: &str = "cache.example-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

    /// A server that gives this answer to every request.
    fn serving(status: u16, body: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
                let _head = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).count();
                let head =
                    format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = stream.write_all((head + body).as_bytes());
            }
        });
        format!("http://{address}")
    }

    #[test]
    fn each_cache_and_each_key_is_checked() {
        let good = serving(200, "StoreDir: /nix/store\nWantMassQuery: 1\n");
        let told = |cache: String, keys: &[&str]| {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            examine(&[cache], &keys, "mend").into_iter().map(|found| (found.state, found.told)).collect::<Vec<_>>()
        };
        assert_eq!(told(good.clone() + "/?priority=3", &[KEY]), [(State::Ok, "it answers".to_owned())]);
        for (cache, why) in [
            (serving(200, "StoreDir: /gnu/store\n"), "it is for another Nix store, /gnu/store: "),
            (serving(200, "<html>"), "it is not a Nix binary cache: "),
            (serving(503, ""), "it answers with status 503: "),
            ("http://127.0.0.1:9".to_owned(), "it does not answer ("),
        ] {
            let [(State::Missing, said)] = &told(cache, &[KEY])[..] else { panic!("{why}") };
            assert!(said.starts_with(why) && said.ends_with("compile what only it has"), "{said}");
        }
        assert_eq!(told(serving(403, ""), &[KEY])[0].0, State::Unknown);
        assert_eq!(told(good.clone(), &[])[1].0, State::Missing);
        assert_eq!(told(good, &["cache.example-1:short"])[1].0, State::Missing);
        assert_eq!(told("s3://bucket".to_owned(), &[KEY]), []);
    }
}
