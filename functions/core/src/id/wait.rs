//! Long polling (`?wait`): a chain of redirects that plain clients follow while the build runs. Every hop holds its
//! answer as long as a gateway allows, and its number is in its URL, so the server keeps no state about waiters.

use std::time::Duration;

use crate::id::target::Query;

/// Redirects of a chain beside those to its hops: one back to the target, one to the binary, and one from http to https
/// before all of them.
const OTHERS: u32 = 3;

/// How long a client can be kept waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How many redirects it follows in total.
    redirects: u32,
    /// The longest total wait from the first request on; `None`: no limit.
    most: Option<Duration>,
}

impl Patience {
    /// The patience of a client, from its `User-Agent` and `Prefer` headers.
    pub fn of(agent: Option<&str>, prefer: Option<&str>) -> Patience {
        // Observed with curl 7.74 to 8.23, Wget 1.21, busybox 1.30 and 1.35. Go's client follows 9, the least of all other
        // clients but Perl's.
        let redirects = match agent.unwrap_or("") {
            agent if agent.starts_with("curl/") => 50,
            agent if agent.starts_with("Wget/") => 20,
            "Wget" => 15,
            agent if agent.starts_with("libwww-perl/") => 7,
            agent if agent.starts_with("HTTP-Tiny/") => 5,
            _ => 9,
        };
        Patience { redirects, most: prefer.and_then(preferred_wait) }
    }

    /// How long hop `number` (from 1) holds its answer if `hold` is the longest; `None` if the chain ends before it.
    pub fn hold(self, number: u32, hold: Duration) -> Option<Duration> {
        if number == 0 || number.saturating_add(OTHERS) > self.redirects {
            return None;
        }
        let Some(most) = self.most else { return Some(hold) };
        let left = most.saturating_sub(hold.saturating_mul(number - 1)).min(hold);
        (!left.is_zero()).then_some(left)
    }
}

/// The seconds of `wait=N` in a `Prefer` header (RFC 7240 §4.3).
pub fn preferred_wait(prefer: &str) -> Option<Duration> {
    let seconds = prefer.split(',').find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"').parse().ok())?
    })?;
    Some(Duration::from_secs(seconds))
}

/// A hop's path, below the origin.
pub fn hop_path(number: u32, query: &Query) -> String {
    format!("/-/wait/{number}/{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(25);

    /// How long each hop of a chain holds, in seconds.
    fn chain(agent: &str, prefer: Option<&str>) -> Vec<u64> {
        let patience = Patience::of(Some(agent), prefer);
        (1..).map_while(|number| patience.hold(number, HOLD)).map(|hold| hold.as_secs()).collect()
    }

    #[test]
    fn a_chain_with_all_its_redirects_is_as_long_as_its_client_follows() {
        for (agent, follows) in [
            ("curl/7.88.1", 50),
            ("Wget/1.21.3", 20),
            ("Wget", 15),
            ("Go-http-client/1.1", 9),
            ("", 9),
            ("curl", 9),
            ("HTTP-Tiny/0.080", 5),
        ] {
            let hops = chain(agent, None);
            // To https, to each hop, back to the target, to the binary.
            assert_eq!(1 + hops.len() + 1 + 1, follows, "{agent}");
            assert!(hops.iter().all(|seconds| *seconds == 25));
        }
    }

    #[test]
    fn prefer_wait_is_the_most_that_all_hops_hold_together() {
        for (prefer, holds) in [
            ("wait=10", vec![10]),
            ("respond-async, Wait = 60", vec![25, 25, 10]),
            ("wait=\"50\"; x=y", vec![25, 25]),
            ("wait=0", vec![]),
            ("wait=99999999999", vec![25; 6]),
        ] {
            assert_eq!(chain("", Some(prefer)), holds, "{prefer}");
        }
        for no_wait in ["", "wait", "wait=", "wait=soon", "wait=-1", "awaits=5", "respond-async"] {
            assert_eq!(preferred_wait(no_wait), None, "{no_wait}");
        }
    }
}
