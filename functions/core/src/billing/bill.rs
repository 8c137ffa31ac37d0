//! A month's bill: the exact amount that was spent on builds, and the rest calculated from counts and the price file.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    billing::{
        cost::{self, Way},
        prices::{PriceBasis, PriceList},
        traffic::Traffic,
    },
    build::{Attempt, Build, policy::Policy},
    id::{key::Product, money::Micros, time::Timestamp},
};

/// A month's usage so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Spent on builds that have ended.
    pub spent: Micros,
    /// Reserved for builds that run.
    pub reserved: Micros,
    /// The month's budget for builds; `None`: no limit.
    pub budget: Option<Micros>,
    /// The month's downloads.
    pub traffic: Traffic,
    /// Bytes that the store holds.
    pub stored: u64,
}

/// A bill, in millionths of a dollar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// The region and month of its prices.
    pub prices: PriceBasis,
    /// Reserved for builds that run, in addition to what is spent.
    pub reserved: Micros,
    /// The month's budget for builds; `None`: no limit.
    pub budget: Option<Micros>,
    /// The amounts so far.
    pub so_far: Sums,
    /// The amounts at the month's end, at the same rate.
    pub forecast: Sums,
}

/// A bill's amounts. Egress is priced from the bucket; behind a CDN the bytes cost a little less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Fargate tasks.
    pub builds: Micros,
    /// The requests of hits.
    pub requests: Micros,
    /// Redirects and downloads, by bytes.
    pub egress: Micros,
    /// The store's current bytes, for the whole period.
    pub storage: Micros,
    /// Fixed costs, independent of requests.
    pub standing: Micros,
    /// The sum.
    pub total: Micros,
}

impl Sums {
    /// The amounts for `gone` of the `whole` month.
    fn of(prices: &PriceList, builds: Micros, traffic: Traffic, stored: u64, gone: Duration, whole: Duration) -> Sums {
        let part = |dollars: crate::billing::prices::Dollars| dollars.part(gone.as_secs(), whole.as_secs()).micros();
        let requests = cost::sum(&cost::hits(prices, Way::Store, traffic.hits)).micros();
        let egress = cost::egress(prices, Way::Store, traffic.hits, traffic.bytes).micros();
        let storage = part(cost::storage(prices, stored));
        let standing = part(cost::sum(&cost::standing(prices)));
        let total = builds + requests + egress + storage + standing;
        Sums { builds, requests, egress, storage, standing, total }
    }
}

impl Bill {
    /// The bill of a month of which `gone` of `whole` has passed.
    pub fn of(prices: &PriceList, used: &Used, gone: Duration, whole: Duration) -> Bill {
        let Used { spent, reserved, budget, traffic, stored } = *used;
        let later = |count| cost::forecast(count, gone, whole);
        let builds = Micros(later(spent.0)).max(spent + reserved).min(budget.unwrap_or(Micros(u64::MAX)).max(spent));
        let served = Traffic { hits: later(traffic.hits), bytes: later(traffic.bytes) };
        Bill {
            prices: prices.stand.clone(),
            reserved,
            budget,
            so_far: Sums::of(prices, spent, traffic, stored, gone, whole),
            forecast: Sums::of(prices, builds, served, stored, whole, whole),
        }
    }
}

impl Attempt {
    /// The price of the attempt, from its machine and its time: never more than was reserved.
    pub fn cost(&self, policy: &Policy) -> Micros {
        policy.price(self.size, self.ended - self.claimed).min(policy.worst_price(self.size))
    }
}

impl Build {
    /// The price of a build: the sum of its ended attempts that the row remembers; `None` if building is free.
    pub fn cost(&self, policy: &Policy) -> Option<Micros> {
        let sum: Micros = self.history.iter().map(|attempt| attempt.cost(policy)).sum();
        (sum > Micros(0)).then_some(sum)
    }
}

/// The cost of building a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The package, or the catalogue.
    pub package: Product,
    /// Attempts that have ended.
    pub attempts: u32,
    /// Their run time, in seconds.
    pub seconds: u64,
    /// Their price, in millionths of a dollar.
    pub cost: Micros,
}

/// The cost by package of all attempts that ended at `since` or later, the most expensive first; if building is free,
/// the longest first.
pub fn taken(builds: &[Build], since: Timestamp, policy: &Policy) -> Vec<Taken> {
    let mut by_package = BTreeMap::<&Product, Taken>::new();
    for build in builds {
        let package = &build.key.product;
        let none = || Taken { package: package.clone(), attempts: 0, seconds: 0, cost: Micros(0) };
        for attempt in build.history.iter().filter(|attempt| attempt.ended >= since) {
            by_package.entry(package).or_insert_with(none).add(attempt, policy);
        }
    }
    let mut all: Vec<_> = by_package.into_values().collect();
    // A stable sort: equal entries stay in alphabetical order.
    all.sort_by_key(|taken| std::cmp::Reverse((taken.cost, taken.seconds)));
    all
}

impl Taken {
    fn add(&mut self, attempt: &Attempt, policy: &Policy) {
        self.attempts += 1;
        self.seconds += (attempt.ended - attempt.claimed).as_secs();
        self.cost = self.cost + attempt.cost(policy);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn bill(used: Used, days: u32) -> Bill {
        Bill::of(&PriceList::of_a_dollar(), &used, DAY * days, DAY * 30)
    }

    #[test]
    fn a_bill_is_the_sum_of_its_lines_and_goes_on_as_it_began() {
        let used = Used {
            spent: Micros(1_000_000),
            traffic: Traffic { hits: 1_000_000, bytes: 1_000_000_000_000 },
            stored: 100_000_000_000,
            ..Used::default()
        };
        let Bill { so_far, forecast, .. } = bill(used, 10);
        // A dollar per unit of everything, as in the cost model's own tests.
        assert_eq!((so_far.requests, so_far.egress), (Micros(1_753_100_000), Micros(1_003_700_000)));
        assert_eq!((so_far.storage, forecast.storage), (Micros(1_234_931_507), Micros(3_704_794_520)));
        let Sums { builds, requests, egress, storage, standing, total } = so_far;
        assert_eq!(total, builds + requests + egress + storage + standing);
        assert_eq!((forecast.builds, forecast.requests), (Micros(3_000_000), Micros(3 * 1_753_100_000)));
        assert_eq!((forecast.egress, forecast.standing.0.div_ceil(3)), (Micros(3_011_100_000), standing.0));
    }

    #[test]
    fn the_forecast_for_builds_ends_at_the_budget_and_has_what_is_reserved() {
        let of = |spent, reserved, budget: Option<u64>| {
            let (spent, reserved, budget) = (Micros(spent), Micros(reserved), budget.map(Micros));
            bill(Used { spent, reserved, budget, ..Used::default() }, 10).forecast.builds.0
        };
        assert_eq!((of(10, 0, None), of(10, 0, Some(40)), of(10, 0, Some(25))), (30, 30, 25));
        assert_eq!((of(1, 9, Some(40)), of(0, 9, None)), (10, 9));
        // The budget was lowered meanwhile.
        assert_eq!(of(10, 0, Some(5)), 10);
    }

    proptest! {
        #[test]
        fn no_forecast_is_less_than_what_is_spent_already(
            spent in 0u64..1 << 40, hits in 0u64..1 << 40, bytes in 0u64..1 << 60, stored: u32, days in 0u32..31,
        ) {
            let (spent, traffic, stored) = (Micros(spent), Traffic { hits, bytes }, u64::from(stored));
            let Bill { so_far, forecast, .. } = bill(Used { spent, traffic, stored, ..Used::default() }, days);
            prop_assert!(forecast.builds >= so_far.builds && forecast.total >= so_far.total);
            prop_assert!(forecast.requests >= so_far.requests && forecast.egress >= so_far.egress);
        }
    }
}
