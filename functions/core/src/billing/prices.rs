//! AWS's prices: the price file (`infra/prices.json`), parsed strictly. The budget, the price of a build, `binplz cost`
//! and the tables of the operator's guide all use it.

use std::{
    collections::BTreeMap,
    iter::Sum,
    ops::{Add, Mul},
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{build::policy, id::money::Micros};

/// The price file of this version.
pub const FILE: &str = include_str!("../../../../infra/prices.json");

/// An exact amount of money, in 10⁻¹² dollars. (The price of a function's GB-second has ten decimals.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dollars(u128);

const DECIMALS: usize = 12;
const MICRO: u128 = 1_000_000;

impl Dollars {
    /// Rounded up to the next millionth of a dollar.
    pub fn micros(self) -> Micros {
        Micros(u64::try_from(self.0.div_ceil(MICRO)).unwrap_or(u64::MAX))
    }

    /// A fraction of it, rounded up; all of it if `of` is 0.
    #[must_use]
    pub fn part(self, part: u64, of: u64) -> Dollars {
        Dollars(self.0.saturating_mul(part.into()).div_ceil(u128::from(of).max(1)))
    }
}

impl From<Micros> for Dollars {
    fn from(Micros(micros): Micros) -> Dollars {
        Dollars(u128::from(micros) * MICRO)
    }
}

impl Add for Dollars {
    type Output = Dollars;
    fn add(self, rhs: Dollars) -> Dollars {
        Dollars(self.0.saturating_add(rhs.0))
    }
}

impl Mul<u64> for Dollars {
    type Output = Dollars;
    fn mul(self, count: u64) -> Dollars {
        Dollars(self.0.saturating_mul(count.into()))
    }
}

impl Sum for Dollars {
    fn sum<I: Iterator<Item = Dollars>>(iter: I) -> Dollars {
        iter.fold(Dollars(0), Add::add)
    }
}

/// A decimal: `0.0000133334`.
impl FromStr for Dollars {
    type Err = BadPrices;
    fn from_str(s: &str) -> Result<Dollars, BadPrices> {
        let bad = || BadPrices::Amount(s.to_owned());
        let (whole, decimals) = s.split_once('.').unwrap_or((s, "0"));
        let digits = |text: &str, most| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole, 6) || !digits(decimals, DECIMALS) {
            return Err(bad());
        }
        format!("{whole}{decimals:0<DECIMALS$}").parse().map(Dollars).map_err(|_| bad())
    }
}

/// Why a price file is invalid.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadPrices {
    /// Not JSON, a missing price, or an unknown one.
    #[error("{0}")]
    Form(String),
    /// A malformed amount.
    #[error("{0:?} is not an amount in dollars: expected a decimal with at most 12 decimal places")]
    Amount(String),
    /// A price with another unit than expected.
    #[error("the price {name} must be per {wanted}, not per {said}")]
    Unit {
        /// The price.
        name: &'static str,
        /// The expected unit.
        wanted: &'static str,
        /// The file's unit.
        said: String,
    },
}

/// A price, flat or in tiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// How many counted items make one unit.
    per: u64,
    /// The price of a unit beyond so many units.
    steps: BTreeMap<u64, Dollars>,
}

impl Price {
    /// The price of `count` items in one month.
    pub fn of(&self, count: u64) -> Dollars {
        let per = u128::from(self.per);
        let (mut rest, mut sum) = (u128::from(count), 0);
        for (beyond, price) in self.steps.iter().rev() {
            let above = rest.saturating_sub(u128::from(*beyond) * per);
            sum += price.0 * above;
            rest -= above;
        }
        Dollars(sum.div_ceil(per))
    }

    /// The price of the first unit.
    fn unit(&self) -> Dollars {
        self.of(self.per)
    }
}

/// A price in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    dollars: String,
    /// Dollars per unit beyond so many, for tiered prices.
    #[serde(default)]
    beyond: BTreeMap<u64, String>,
    unit: String,
    /// The AWS page that states it, for people who check it.
    #[serde(rename = "said")]
    _said: String,
}

impl Line {
    fn price(self, name: &'static str, wanted: &'static str, per: u64) -> Result<Price, BadPrices> {
        if self.unit != wanted {
            return Err(BadPrices::Unit { name, wanted, said: self.unit });
        }
        let all = std::iter::once((0, self.dollars)).chain(self.beyond);
        let steps = all.map(|(beyond, dollars)| Ok((beyond, dollars.parse()?))).collect::<Result<_, BadPrices>>()?;
        Ok(Price { per, steps })
    }
}

/// The region and month of prices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceBasis {
    /// The region: `us-east-1`.
    pub region: String,
    /// The month: `2026-11`.
    pub date: String,
}

/// All prices: each with its unit in the file, and the number of counted items per unit.
macro_rules! prices {
    ($($(#[$what:meta])+ $name:ident: $unit:literal / $per:literal;)+) => {
        /// The prices of a region.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct PriceList {
            /// Their region and month.
            pub stand: PriceBasis,
            $($(#[$what])+ pub $name: Price,)+
        }

        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Document {
            region: String,
            date: String,
            prices: Lines,
        }

        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        struct Lines {
            $($name: Line,)+
        }

        impl FromStr for PriceList {
            type Err = BadPrices;
            fn from_str(file: &str) -> Result<PriceList, BadPrices> {
                let Document { region, date, prices } =
                    serde_json::from_str(file).map_err(|why| BadPrices::Form(why.to_string()))?;
                Ok(PriceList {
                    stand: PriceBasis { region, date },
                    $($name: prices.$name.price(stringify!($name), $unit, $per)?,)+
                })
            }
        }
    };
}

prices! {
    /// A vCPU of an on-demand x86 task.
    fargate_vcpu: "vCPU-hour" / 1;
    /// Its memory.
    fargate_memory: "GB-hour" / 1;
    /// A vCPU of an ARM task.
    fargate_arm_vcpu: "vCPU-hour" / 1;
    /// Its memory.
    fargate_arm_memory: "GB-hour" / 1;
    /// A vCPU of an x86 Spot task, as of that date.
    fargate_spot_vcpu: "vCPU-hour" / 1;
    /// Its memory.
    fargate_spot_memory: "GB-hour" / 1;
    /// A task's disk, beyond the free part.
    fargate_disk: "GB-hour" / 1;
    /// A public IPv4 address.
    public_ipv4: "address-hour" / 1;
    /// The gateway, by requests.
    http_api: "million requests" / 1_000_000;
    /// Functions, by invocations.
    lambda_requests: "million requests" / 1_000_000;
    /// Functions on ARM, by milliseconds of a MiB.
    lambda_time: "GB-second" / 1_024_000;
    /// Eventually consistent reads of rows, which are half a unit each.
    dynamodb_reads: "million read request units" / 2_000_000;
    /// Writes of rows, by kilobytes.
    dynamodb_writes: "million write request units" / 1_000_000;
    /// Stored rows, by bytes.
    dynamodb_storage: "GB-month" / 1_000_000_000;
    /// Their continuous backup, by bytes.
    dynamodb_recovery: "GB-month" / 1_000_000_000;
    /// Stored objects, by bytes.
    s3_storage: "GB-month" / 1_000_000_000;
    /// Reads of objects.
    s3_gets: "1000 requests" / 1000;
    /// Writes of objects.
    s3_puts: "1000 requests" / 1000;
    /// Egress to the internet, by bytes.
    egress: "GB" / 1_000_000_000;
    /// The CDN, by requests.
    cloudfront_requests: "10000 requests" / 10_000;
    /// Egress from the CDN, by bytes.
    cloudfront_egress: "GB" / 1_000_000_000;
    /// The CDN's own functions, by invocations.
    cloudfront_functions: "million invocations" / 1_000_000;
    /// Log lines, by bytes.
    logs: "GB" / 1_000_000_000;
    /// Stored log lines, by bytes.
    logs_storage: "GB-month" / 1_000_000_000;
    /// A metric that has values in each hour.
    metrics: "metric-month" / 1;
    /// An alarm.
    alarms: "alarm-month" / 1;
    /// Reads of a metric.
    metrics_requests: "1000 requests" / 1000;
    /// A dashboard.
    dashboards: "dashboard-month" / 1;
    /// The queue, by requests.
    sqs: "million requests" / 1_000_000;
    /// A KMS key.
    kms_keys: "key-month" / 1;
    /// Signatures by KMS keys.
    kms_signatures: "10000 requests" / 10_000;
    /// A secret.
    secrets: "secret-month" / 1;
    /// Container images, by bytes.
    ecr: "GB-month" / 1_000_000_000;
}

/// The kind of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// On-demand x86: the most expensive kind, which the budget uses.
    X86,
    /// On-demand ARM.
    Arm,
    /// Spot x86.
    Spot,
}

/// Fargate's minimum charge for a Linux task (its pricing page).
const MINIMUM: Duration = Duration::from_secs(60);

impl PriceList {
    /// The prices of this version.
    ///
    /// # Errors
    /// [`BadPrices`], if the file was changed to something invalid.
    pub fn known() -> Result<PriceList, BadPrices> {
        FILE.parse()
    }

    /// The hourly prices of a task's parts.
    pub fn task(&self, machine: Machine) -> policy::Prices {
        let (cpu, memory) = match machine {
            Machine::X86 => (&self.fargate_vcpu, &self.fargate_memory),
            Machine::Arm => (&self.fargate_arm_vcpu, &self.fargate_arm_memory),
            Machine::Spot => (&self.fargate_spot_vcpu, &self.fargate_spot_memory),
        };
        let hour = |price: &Price| price.unit().micros();
        policy::Prices {
            cpu: hour(cpu),
            memory: hour(memory),
            disk: hour(&self.fargate_disk),
            task: hour(&self.public_ipv4),
            minimum: MINIMUM,
        }
    }
}

#[cfg(test)]
impl PriceList {
    /// Constant prices for tests: a dollar per unit of everything.
    pub(crate) fn of_a_dollar() -> PriceList {
        let mut file: serde_json::Value = serde_json::from_str(FILE).expect("JSON");
        for line in file["prices"].as_object_mut().expect("prices").values_mut() {
            *line = serde_json::json!({ "dollars": "1", "unit": line["unit"], "said": "" });
        }
        file.to_string().parse().expect("prices")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn known() -> PriceList {
        PriceList::known().expect("the price file")
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Result<PriceList, BadPrices> {
        let mut file: Value = serde_json::from_str(FILE).expect("JSON");
        change(&mut file);
        file.to_string().parse()
    }

    #[test]
    fn a_task_costs_what_the_file_says_in_whole_millionths() {
        let list = changed(|file| {
            for (name, dollars) in
                [("vcpu", "0.04048"), ("memory", "0.0044451"), ("spot-vcpu", "0.01"), ("disk", "0.0001")]
            {
                file["prices"][format!("fargate-{name}")]["dollars"] = dollars.into();
            }
            file["prices"]["public-ipv4"]["dollars"] = "0.005".into();
        });
        let task = |machine| {
            let policy::Prices { cpu, memory, disk, task, .. } = list.clone().expect("prices").task(machine);
            [cpu.0, memory.0, disk.0, task.0]
        };
        assert_eq!(task(Machine::X86), [40_480, 4_446, 100, 5_000]);
        assert_eq!(task(Machine::Spot)[0], 10_000);
        let hour = |machine| known().task(machine).cpu;
        assert!(hour(Machine::Spot) < hour(Machine::Arm) && hour(Machine::Arm) < hour(Machine::X86));
    }

    #[test]
    fn a_price_by_steps_costs_each_part_its_own() {
        let dollars = |text: &str| text.parse::<Dollars>().expect("an amount");
        let steps = [(0, dollars("9")), (10, dollars("8.5")), (50, dollars("5"))].into();
        let price = Price { per: 1000, steps };
        for (count, told) in [(0, "0"), (1, "0.009"), (10_000, "90"), (10_001, "90.0085"), (60_000, "480")] {
            assert_eq!(price.of(count), dollars(told), "{count}");
        }
        assert_eq!(price.unit(), dollars("9"));
    }

    #[test]
    fn a_file_that_was_changed_to_what_it_can_not_be_is_refused() {
        assert_eq!(changed(|_| {}), Ok(known()));
        assert!(matches!("{}".parse::<PriceList>(), Err(BadPrices::Form(_))));
        for (price, with) in [
            ("egress", json!(null)),
            ("egress", json!({ "dollars": "0.09", "unit": "GB" })),
            ("egress", json!({ "dollars": 0.09, "unit": "GB", "said": "" })),
            ("egress", json!({ "dollars": "0.09", "unit": "GB", "said": "", "until": 3 })),
            ("nat", json!({ "dollars": "0.09", "unit": "GB", "said": "" })),
        ] {
            assert!(matches!(changed(|file| file["prices"][price] = with.clone()), Err(BadPrices::Form(_))), "{with}");
        }
        let unit = changed(|file| file["prices"]["egress"]["unit"] = "TB".into()).expect_err("another unit");
        assert_eq!(unit.to_string(), "the price egress must be per GB, not per TB");
        for amount in ["", ".5", "1.", "-1", "+1", "1e3", "1,5", "0.0000000000001", "1000000000", "1 ", "0x1"] {
            let wrong = changed(|file| file["prices"]["sqs"]["dollars"] = amount.into());
            assert_eq!(wrong, Err(BadPrices::Amount(amount.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_as_an_amount_is_it_or_refused(text in "[0-9.+-]{0,14}|.{0,9}") {
            if let Ok(Dollars(amount)) = text.parse() {
                let told = format!("{}.{:012}", amount / 1_000_000_000_000, amount % 1_000_000_000_000);
                let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
                let whole = if whole.trim_start_matches('0').is_empty() { "0" } else { whole.trim_start_matches('0') };
                prop_assert_eq!(told, format!("{whole}.{decimals:0<12}"));
            }
        }

        #[test]
        fn more_never_costs_less_and_two_bills_never_less_than_one(a: u64, b: u64) {
            let (a, b) = (a / 2, b / 2);
            let of = |count| known().egress.of(count);
            prop_assert!(of(a) <= of(a + b) && of(a + b) <= of(a) + of(b));
        }
    }
}
