//! Clients, and their rate limit: how many builds each may have started in a day.
//!
//! An allowance is charged in the commit that queues a build, so it is exact under any number of concurrent requests.
//! Hits, and builds that another client has started, cost nothing.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    id::{
        key::{BadName, KeyName, Sha256, serde_as_text},
        time::{Day, SKEW_MAX, Timestamp, later_of},
    },
    quota::limits::LimitExceeded,
};

/// The holder of an allowance.
///
/// Written `192.0.2.1`, `2001:db8:0:7::/64`, `key/NAME` or `unknown`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Client {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// The first half of an IPv6 address: a household or a machine is given that, and may vary the rest.
    V6([u16; 4]),
    /// The holder of this API key.
    Key(KeyName),
    /// All clients whose address is unknown.
    Unknown,
}

impl From<Option<IpAddr>> for Client {
    fn from(address: Option<IpAddr>) -> Client {
        match address.map(|address| address.to_canonical()) {
            None => Client::Unknown,
            Some(IpAddr::V4(address)) => Client::V4(address),
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Client::V6([a, b, c, d])
            }
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Client::V4(address) => address.fmt(f),
            Client::V6([a, b, c, d]) => write!(f, "{}/64", Ipv6Addr::new(*a, *b, *c, *d, 0, 0, 0, 0)),
            Client::Key(name) => write!(f, "key/{name}"),
            Client::Unknown => f.write_str("unknown"),
        }
    }
}

impl FromStr for Client {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Client, BadName> {
        let address = |text: &str| text.parse::<IpAddr>().map_err(|_| BadName::Form);
        let client = match s.split_once('/') {
            Some(("key", name)) => Client::Key(name.parse()?),
            Some((network, "64")) => Client::from(Some(address(network)?)),
            None if s == "unknown" => Client::Unknown,
            _ => Client::from(Some(address(s)?)),
        };
        // Each client has one form; any other is refused.
        if client.to_string() == s { Ok(client) } else { Err(BadName::Form) }
    }
}

serde_as_text!(Client, BadName);

/// A client, as its request shows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asker<'a> {
    /// Its address, from the connection or from a trusted proxy.
    pub address: Option<IpAddr>,
    /// The secret of an API key.
    pub key: Option<&'a str>,
}

/// A client's row: the builds that it has had started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// The client.
    pub client: Client,
    /// The day.
    pub day: Day,
    /// The number of builds.
    pub started: u32,
}

impl Allowance {
    /// An unused allowance.
    pub fn untouched(client: Client, now: Timestamp) -> Allowance {
        Allowance { client, day: now.day(), started: 0 }
    }

    /// The row after one more build, of at most `most` a day.
    ///
    /// # Errors
    /// [`LimitExceeded::Client`].
    pub fn one_more(&self, most: u32, now: Timestamp) -> Result<Allowance, LimitExceeded> {
        let day = later_of(self.day, now.day(), &(now + SKEW_MAX).day());
        let started = if day > self.day { 0 } else { self.started };
        if started >= most {
            return Err(LimitExceeded::Client { most, until: day.next() });
        }
        Ok(Allowance { client: self.client.clone(), day, started: started + 1 })
    }
}

/// The row of API keys, which stores only their hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Keys(BTreeMap<KeyName, Key>);

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The secret's sha256.
    pub sha256: Sha256,
    /// Builds that its holder may have started in a day; `None`: limited by the budget only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builds: Option<u32>,
    /// When it was added.
    pub since: Timestamp,
}

/// An operator's change of the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyChange {
    /// Adds a key.
    Add {
        /// Its name.
        name: KeyName,
        /// The hash of its secret, which only its holder knows.
        sha256: Sha256,
        /// Builds that its holder may have started in a day.
        builds: Option<u32>,
    },
    /// Revokes a key.
    Remove(KeyName),
}

/// Why a change of the keys was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeyRefused {
    /// The name is taken.
    #[error("the key {0} exists already; to replace it, first run: binplz key remove {0}")]
    Exists(KeyName),
    /// There is no key of that name.
    #[error("there is no key {0}")]
    NoSuchKey(KeyName),
}

impl Keys {
    /// The key of a secret.
    pub fn find(&self, secret: &str) -> Option<(&KeyName, &Key)> {
        let sha256 = Sha256::of(secret.as_bytes());
        self.0.iter().find(|(_, key)| key.sha256 == sha256)
    }

    /// All of them, by name.
    pub fn all(&self) -> &BTreeMap<KeyName, Key> {
        &self.0
    }

    /// The keys after a change; `None` if nothing changes.
    ///
    /// # Errors
    /// [`KeyRefused`].
    pub fn changed(&self, change: &KeyChange, now: Timestamp) -> Result<Option<Keys>, KeyRefused> {
        let mut next = self.clone();
        match change {
            KeyChange::Add { name, sha256, builds } => match self.0.get(name) {
                Some(known) if (&known.sha256, &known.builds) == (sha256, builds) => return Ok(None),
                Some(_) => return Err(KeyRefused::Exists(name.clone())),
                None => {
                    next.0.insert(name.clone(), Key { sha256: sha256.clone(), builds: *builds, since: now });
                }
            },
            KeyChange::Remove(name) => {
                next.0.remove(name).ok_or_else(|| KeyRefused::NoSuchKey(name.clone()))?;
            }
        }
        Ok(Some(next))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn of(address: &str) -> String {
        Client::from(Some(address.parse::<IpAddr>().expect("an address"))).to_string()
    }

    #[test]
    fn an_allowance_is_that_of_an_ipv4_address_or_of_half_an_ipv6_address() {
        for (address, client) in [
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8:0:7::1", "2001:db8:0:7::/64"),
            ("2001:db8:0:7:ffff:ffff:ffff:ffff", "2001:db8:0:7::/64"),
            ("2001:db8:0:8::1", "2001:db8:0:8::/64"),
            // An IPv4 address as a dual-stack socket reports it.
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(of(address), client, "{address}");
            assert_eq!(client.parse::<Client>().map(|client| client.to_string()), Ok(client.to_owned()));
        }
        assert_eq!(Client::from(None), Client::Unknown);
    }

    #[test]
    fn a_clock_that_was_years_ahead_locks_an_allowance_for_a_day_only() {
        let now = Timestamp(1_800_000_000_000);
        let ahead = now + Duration::from_secs(10 * 365 * 86_400);
        let used = Allowance::untouched(Client::Unknown, ahead).one_more(1, ahead).expect("the first");
        let until = now.day().next();
        assert_eq!(used.one_more(1, now), Err(LimitExceeded::Client { most: 1, until }));
        let next = used.one_more(2, now).expect("the second");
        assert_eq!((next.day, next.started), (now.day(), 2));
        assert_eq!(next.one_more(2, until.start()).expect("a new day").started, 1);
        // A clock that is behind by less brings back nothing.
        let midnight = until.start();
        let used = Allowance::untouched(Client::Unknown, midnight).one_more(1, midnight).expect("the first");
        let behind = Timestamp(midnight.0 - 1000);
        assert_eq!(used.one_more(1, behind), Err(LimitExceeded::Client { most: 1, until: until.next() }));
    }

    #[test]
    fn what_is_not_a_clients_one_spelling_is_refused() {
        for text in
            ["", "2001:db8::1", "2001:db8::1/64", "192.0.2.1/64", "192.0.2.01", "key/", "key/A", "Unknown", "a/64"]
        {
            assert!(text.parse::<Client>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_known_by_its_secret_until_it_is_removed() {
        let name: KeyName = "ci".parse().expect("a name");
        let add = |secret: &str| KeyChange::Add {
            name: name.clone(),
            sha256: Sha256::of(secret.as_bytes()),
            builds: Some(7),
        };
        let now = Timestamp(1_800_000_000_000);
        let keys = Keys::default().changed(&add("s3cret"), now).expect("a new one").expect("a change");
        assert_eq!(
            keys.find("s3cret").map(|(name, key)| (name.to_string(), key.builds)),
            Some(("ci".to_owned(), Some(7)))
        );
        assert_eq!((keys.find("secret"), keys.find("")), (None, None));
        // The same key again succeeds; another secret under its name does not.
        assert_eq!(keys.changed(&add("s3cret"), now), Ok(None));
        assert_eq!(keys.changed(&add("other"), now), Err(KeyRefused::Exists(name.clone())));
        let none = keys.changed(&KeyChange::Remove(name.clone()), now).expect("it is there").expect("a change");
        assert_eq!(none.find("s3cret"), None);
        assert_eq!(none.changed(&KeyChange::Remove(name.clone()), now), Err(KeyRefused::NoSuchKey(name)));
        assert!(!serde_json::to_string(&keys).expect("JSON").contains("s3cret"));
    }

    proptest! {
        #[test]
        fn no_more_than_the_allowance_is_started_in_a_day_whatever_clocks_say_that_differ_by_less_than_an_hour(
            steps in prop::collection::vec((0u64..10_000, 0u64..3600), 1..100),
        ) {
            let most = 3;
            let mut row = Allowance::untouched(Client::Unknown, Timestamp(0));
            let mut started = BTreeMap::<Day, u32>::new();
            let mut time = 3600;
            for (later, behind) in steps {
                time += later;
                match row.one_more(most, Timestamp((time - behind) * 1000)) {
                    Ok(next) => {
                        *started.entry(next.day).or_default() += 1;
                        prop_assert!(next.day >= row.day);
                        row = next;
                    }
                    Err(full) => prop_assert_eq!(full, LimitExceeded::Client { most, until: row.day.next() }),
                }
            }
            prop_assert!(started.values().all(|n| *n <= most));
        }
    }
}
