//! The environment, read once at the start. A missing setting is reported then, not at the first request.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use binplz_core::{
    billing::prices::{Machine, PriceList},
    build::{
        policy::{Names, Policy, Prices},
        protocol::JobLimits,
        size::Size,
    },
    id::{key::System, money::Micros},
    nixpkgs::pins::Pins,
};
use thiserror::Error;

/// A setting that is missing or cannot be parsed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// It is not set, or empty.
    #[error("{0} is not set")]
    Missing(&'static str),
    /// The value cannot be parsed.
    #[error("{name} is not {what}: {cause}")]
    Wrong {
        /// The variable.
        name: &'static str,
        /// What the value should be, with its article: "a number".
        what: &'static str,
        /// Why it is not.
        cause: String,
    },
}

/// The environment's variables at the start of the function, by name.
#[derive(Clone, Debug, Default)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Reads this process's variables. Values that are not UTF-8 are ignored.
    pub fn of_process() -> Settings {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Settings(std::env::vars_os().filter_map(text).collect())
    }

    /// Sets or replaces one variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Settings {
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }

    /// An optional setting; the template writes an empty value for one that is not set.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The stack of this function or operator: the dimension of its metrics.
    pub fn stack(&self) -> &str {
        self.find("BINPLZ_STACK").unwrap_or("binplz")
    }

    /// A required setting.
    ///
    /// # Errors
    /// [`ConfigError::Missing`].
    pub fn need(&self, name: &'static str) -> Result<String, ConfigError> {
        self.find(name).map(str::to_owned).ok_or(ConfigError::Missing(name))
    }

    /// A list of at least one entry, separated by commas.
    ///
    /// # Errors
    /// [`ConfigError::Missing`].
    pub fn list(&self, name: &'static str) -> Result<Vec<String>, ConfigError> {
        let entries = self.need(name)?;
        let entries = entries.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned);
        Some(entries.collect::<Vec<_>>()).filter(|entries| !entries.is_empty()).ok_or(ConfigError::Missing(name))
    }

    fn value<T: FromStr<Err: ToString>>(
        &self,
        name: &'static str,
        what: &'static str,
        default: T,
    ) -> Result<T, ConfigError> {
        let Some(text) = self.find(name) else { return Ok(default) };
        text.parse().map_err(|cause: T::Err| ConfigError::Wrong { name, what, cause: cause.to_string() })
    }

    fn number<T: FromStr<Err: ToString>>(&self, name: &'static str, default: T) -> Result<T, ConfigError> {
        self.value(name, "a number", default)
    }

    /// A number of dollars or gigabytes, in millionths or bytes. CloudFormation's numbers may have decimals.
    fn amount(&self, name: &'static str, default: u32, unit: u32) -> Result<u64, ConfigError> {
        let amount: f64 = self.number(name, f64::from(default))?;
        // Beyond the range, the nearest number.
        Ok((amount * f64::from(unit)).round() as u64)
    }

    /// The price of a task in this region, as a fraction of the price file's: that of the most expensive kind that may
    /// run. Spot and ARM cost less, so the budget errs on the safe side.
    fn prices(&self) -> Result<Prices, ConfigError> {
        let percent = self.number("BINPLZ_PRICE_PERCENT", 100u64)?;
        let here = |price: Micros| Micros((price.0.saturating_mul(percent)).div_ceil(100));
        let list = PriceList::known().map_err(|cause| ConfigError::Wrong {
            name: "infra/prices.json",
            what: "a price file",
            cause: cause.to_string(),
        })?;
        let Prices { cpu, memory, disk, task, minimum } = list.task(Machine::X86);
        Ok(Prices { cpu: here(cpu), memory: here(memory), disk: here(disk), task: here(task), minimum })
    }

    fn seconds(&self, name: &'static str, default: u64) -> Result<Duration, ConfigError> {
        self.number(name, default).map(Duration::from_secs)
    }

    /// The service's own origin: `https://host` without a trailing slash.
    ///
    /// # Errors
    /// [`ConfigError`]. The origin stands between single quotes in the stub, and in URLs, so only a URL's plainest
    /// characters are accepted.
    pub fn origin(&self) -> Result<String, ConfigError> {
        const NAME: &str = "BINPLZ_ORIGIN";
        self.find_origin(NAME)?.ok_or(ConfigError::Missing(NAME))
    }

    /// An optional origin, such as the CDN's.
    ///
    /// # Errors
    /// [`ConfigError::Wrong`].
    pub fn find_origin(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        let Some(origin) = self.find(name) else { return Ok(None) };
        let origin = origin.trim_end_matches('/');
        let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")).unwrap_or("");
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.:[]_/$".contains(&b);
        if !rest.is_empty() && rest.bytes().all(plain) {
            Ok(Some(origin.to_owned()))
        } else {
            let cause = "expected a plain URL with a host".to_owned();
            Err(ConfigError::Wrong { name, what: "an origin", cause })
        }
    }

    /// The pins of a new deployment, as the JSON of [`Pins`].
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn first_pins(&self) -> Result<Pins, ConfigError> {
        const NAME: &str = "BINPLZ_FIRST_PINS";
        let json = self.need(NAME)?;
        serde_json::from_str(&json).map_err(|cause| ConfigError::Wrong {
            name: NAME,
            what: "a list of pins",
            cause: cause.to_string(),
        })
    }

    /// The default system of requests that name none; x86_64-linux if it is not set.
    ///
    /// # Errors
    /// [`ConfigError::Wrong`].
    pub fn system(&self) -> Result<System, ConfigError> {
        self.value("BINPLZ_SYSTEM", "a system", System::X86_64Linux)
    }

    /// The limits and durations; each has a default.
    ///
    /// # Errors
    /// [`ConfigError::Wrong`].
    pub fn policy(&self) -> Result<Policy, ConfigError> {
        let job = JobLimits::default();
        Ok(Policy {
            names: self.value("BINPLZ_NAMES", "a mode of names", Names::default())?,
            // The lease must outlast the image pull, before the builder's first heartbeat.
            lease: self.seconds("BINPLZ_LEASE_SECONDS", 300)?,
            attempts: self.number("BINPLZ_ATTEMPTS", Policy::default().attempts)?.max(1),
            continued_attempts: self.number("BINPLZ_CONTINUED_ATTEMPTS", Policy::default().continued_attempts)?,
            package_budget: Some(Micros(self.amount("BINPLZ_PACKAGE_DOLLARS", 5, 1_000_000)?)),
            first_delay: self.seconds("BINPLZ_RETRY_DELAY_SECONDS", 30)?,
            cool_down: self.seconds("BINPLZ_COOL_DOWN_SECONDS", 3600)?,
            // Each task has a store of its own.
            shared_store: false,
            job: JobLimits {
                seconds: self.number("BINPLZ_BUILD_SECONDS", job.seconds)?,
                silent_seconds: self.number("BINPLZ_SILENT_SECONDS", job.silent_seconds)?,
                log_bytes: self.number("BINPLZ_LOG_BYTES", job.log_bytes)?,
                program_bytes: self.number("BINPLZ_PROGRAM_BYTES", job.program_bytes)?,
                package_bytes: self.number("BINPLZ_PACKAGE_BYTES", job.package_bytes)?,
                bundle_bytes: self.number("BINPLZ_BUNDLE_BYTES", job.bundle_bytes)?,
                cache_bytes: self.number("BINPLZ_CACHE_BYTES", job.cache_bytes)?,
                attribute_seconds: self.number("BINPLZ_ATTRIBUTE_SECONDS", job.attribute_seconds)?,
                attribute_bytes: self.number("BINPLZ_ATTRIBUTE_BYTES", job.attribute_bytes)?,
                ..job
            },
            slots: self.number("BINPLZ_SLOTS", 4)?,
            budget: Some(Micros(self.amount("BINPLZ_BUDGET_DOLLARS", 20, 1_000_000)?)),
            client_builds: Some(self.number("BINPLZ_CLIENT_BUILDS", 50)?).filter(|builds| *builds > 0),
            store_bytes: Some(self.amount("BINPLZ_STORE_GIGABYTES", 100, 1_000_000_000)?),
            egress_bytes: Some(self.amount("BINPLZ_EGRESS_GIGABYTES", 0, 1_000_000_000)?).filter(|bytes| *bytes > 0),
            prices: self.prices()?,
            size: self.value("BINPLZ_SIZE", "a size", Size::default())?,
            hold: self.seconds("BINPLZ_HOLD_SECONDS", Policy::default().hold.as_secs())?,
            waiters: self.number("BINPLZ_WAITERS", 0)?,
            grace: self.seconds("BINPLZ_GRACE_SECONDS", Policy::default().grace.as_secs())?,
            overhead: self.seconds("BINPLZ_OVERHEAD_SECONDS", 180)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(list: &[(&str, &str)]) -> Settings {
        list.iter().fold(Settings::default(), |settings, (name, value)| settings.with(name, value))
    }

    #[test]
    fn what_is_missing_is_told_by_its_name() {
        for empty in [settings(&[]), settings(&[("BINPLZ_TABLE", ""), ("BINPLZ_SUBNETS", " , ")])] {
            assert_eq!(empty.need("BINPLZ_TABLE"), Err(ConfigError::Missing("BINPLZ_TABLE")));
            assert_eq!(empty.list("BINPLZ_SUBNETS"), Err(ConfigError::Missing("BINPLZ_SUBNETS")));
            assert_eq!(empty.first_pins(), Err(ConfigError::Missing("BINPLZ_FIRST_PINS")));
        }
        assert_eq!(ConfigError::Missing("BINPLZ_TABLE").to_string(), "BINPLZ_TABLE is not set");
    }

    #[test]
    fn a_number_that_is_none_is_told_and_one_left_out_has_its_default() {
        let policy = settings(&[("BINPLZ_SLOTS", "7"), ("BINPLZ_ATTEMPTS", "0")]).policy().expect("numbers");
        assert_eq!((policy.slots, policy.attempts, policy.budget), (7, 1, Some(Micros(20_000_000))));
        for (gigabytes, ceiling) in [("", None), ("0", None), ("50", Some(50_000_000_000)), ("0.5", Some(500_000_000))]
        {
            let policy = settings(&[("BINPLZ_EGRESS_GIGABYTES", gigabytes)]).policy().expect("numbers");
            assert_eq!(policy.egress_bytes, ceiling, "{gigabytes}");
        }
        let fault = settings(&[("BINPLZ_SLOTS", "many")]).policy().expect_err("no number");
        assert_eq!(fault.to_string(), "BINPLZ_SLOTS is not a number: invalid digit found in string");
    }

    #[test]
    fn a_build_is_priced_by_its_machine_and_by_what_that_costs_here() {
        let hour = Duration::from_secs(3600);
        let Prices { cpu, memory, disk, task, .. } = PriceList::known().expect("the price file").task(Machine::X86);
        let sum = |vcpus, gigabytes, paid| vcpus * cpu.0 + gigabytes * memory.0 + paid * disk.0 + task.0;
        for (size, percent, micros) in [
            ("", "", sum(4, 8, 30)),
            ("4096/8192/50", "100", sum(4, 8, 30)),
            ("2048/4096/50", "", sum(2, 4, 30)),
            ("8192/16384/50", "", sum(8, 16, 30)),
            ("4096/8192/200", "150", sum(4, 8, 180) * 3 / 2),
        ] {
            let policy =
                settings(&[("BINPLZ_SIZE", size), ("BINPLZ_PRICE_PERCENT", percent)]).policy().expect("numbers");
            // Rounded up to the next micro-dollar.
            let price = policy.price(policy.size, hour).0;
            assert!((micros..micros + 300).contains(&price), "{size} {percent}: {price}");
        }
        let fault = settings(&[("BINPLZ_SIZE", "4096/8192/20")]).policy().expect_err("no size");
        assert_eq!(
            fault.to_string(),
            "BINPLZ_SIZE is not a size: Fargate has no task with a disk of 20 GiB: expected 21 to 200"
        );
    }

    #[test]
    fn a_system_that_nobody_knows_is_told() {
        let system = |text| settings(&[("BINPLZ_SYSTEM", text)]).system();
        assert_eq!((system(""), system("aarch64-linux")), (Ok(System::X86_64Linux), Ok(System::Aarch64Linux)));
        assert!(matches!(system("vax"), Err(ConfigError::Wrong { name: "BINPLZ_SYSTEM", .. })));
    }

    #[test]
    fn an_origin_is_a_plain_url() {
        let origin = |text| settings(&[("BINPLZ_ORIGIN", text)]).origin();
        assert_eq!(origin("https://binplz.example/"), Ok("https://binplz.example".to_owned()));
        for text in ["binplz.example", "https://", "https://a'b", "https://a b", "ftp://a"] {
            assert!(origin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn pins_are_read_with_their_nixpkgs_in_the_bucket_or_elsewhere() {
        let rev = "ab".repeat(20);
        for nixpkgs in [r#"{"stored":{"nar_hash":"sha256-x"}}"#, r#"{"tarball":{"url":"https://x/y.tar.gz"}}"#] {
            let json =
                format!(r#"{{"default":"unstable","pins":{{"unstable":{{"rev":"{rev}","nixpkgs":{nixpkgs}}}}}}}"#);
            let pins = settings(&[("BINPLZ_FIRST_PINS", &json)]).first_pins().expect("pins");
            assert!(pins.nixpkgs(&rev.parse().expect("hex")).is_some());
        }
        assert!(settings(&[("BINPLZ_FIRST_PINS", "{}")]).first_pins().is_err());
    }
}
