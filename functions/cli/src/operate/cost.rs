//! `binplz cost`.

use std::{fmt::Write, time::Duration};

use binplz_core::{
    billing::{
        bill::{Bill, Sums, Taken},
        traffic::Traffic,
    },
    flow::operator::{
        cost::Cost,
        orders::{Operator, Order},
    },
    id::{
        money::Micros,
        text::{bytes, span, thousands},
    },
};
use indicatif::ProgressBar;

use crate::operate::{Common, OperateError, builds};

pub(crate) async fn cost(common: Common) -> Result<(), OperateError> {
    // A busy service's log takes a while to read.
    let reading = ProgressBar::new_spinner().with_message("counting");
    reading.enable_steady_tick(Duration::from_millis(200));
    let cost = common.which.find().await?.carry_out(Order::Cost).await?.cost()?;
    reading.finish_and_clear();
    if common.json {
        println!("{}", serde_json::json!(cost));
    } else {
        print!("{}", told(&cost));
    }
    Ok(())
}

fn told(cost: &Cost) -> String {
    let mut text = match &cost.bill {
        Some(bill) => paid(cost, bill),
        None => free(cost),
    };
    if !cost.dearest.is_empty() {
        let what = if cost.bill.is_some() { "cost" } else { "took" };
        let _ =
            writeln!(text, "\nThe packages that {what} most, in the last {} builds:", thousands(cost.looked_at as u64));
        cost.dearest.iter().for_each(|taken| text.push_str(&dear(taken, cost.bill.is_some())));
    }
    text
}

/// A bill, with the basis of each line beside it.
fn paid(cost: &Cost, bill: &Bill) -> String {
    let Bill { prices, reserved, budget, so_far, forecast } = bill;
    let days = |time: Duration| time.as_secs() / 86_400;
    let (gone, whole) = (days(cost.at - cost.since), days(cost.until - cost.since));
    let mut text =
        format!("{}, {gone} of {whole} days, in dollars of {} as of {}\n", cost.month, prices.region, prices.date);
    let _ = writeln!(text, "{:10}{:>12}{:>15}", "", "so far", "forecast");
    let limit = budget.map_or("no limit".to_owned(), |budget| format!("{} at most", cents(budget)));
    let Traffic { hits, bytes: out } = cost.traffic;
    let mut line = |name: &str, of: fn(&Sums) -> Micros, why: String| {
        let told = |sums| cents(of(sums));
        let line = format!("{name:10}{:>12}{:>15}   {why}", told(so_far), told(forecast));
        let _ = writeln!(text, "{}", line.trim_end());
    };
    line("builds", |sums| sums.builds, format!("{} more reserved; {limit}", cents(*reserved)));
    line("requests", |sums| sums.requests, format!("{} hits", thousands(hits)));
    line("egress", |sums| sums.egress, format!("{} of programs, and redirects", bytes(out)));
    line("storage", |sums| sums.storage, format!("{} stored", bytes(cost.stored)));
    line("fixed", |sums| sums.standing, "metrics, alarms, the queue, the sweep, the image".to_owned());
    line("total", |sums| sums.total, String::new());
    text
}

/// The report of a deployment without prices: its hours and downloads.
fn free(cost: &Cost) -> String {
    let Traffic { hits, bytes: out } = cost.traffic;
    let mut text = format!("{}: builds cost nothing on this deployment\n", cost.month);
    let (took, count) = (hours(cost.building_seconds), thousands(cost.looked_at as u64));
    let _ = writeln!(text, "building  {took}, in the last {count} builds");
    let _ = writeln!(text, "served    {} hits, {} of programs", thousands(hits), bytes(out));
    let _ = writeln!(text, "storage   {} stored", bytes(cost.stored));
    text
}

fn dear(taken: &Taken, paid: bool) -> String {
    let Taken { package, attempts, seconds, cost } = taken;
    let time = span(Duration::from_secs(*seconds));
    let package = builds::target(package);
    let attempts = if *attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") };
    match paid {
        true => format!("{:>22}   {package}: {attempts}, {time}\n", cents(*cost)),
        false => format!("{time:>22}   {package}: {attempts}\n"),
    }
}

/// "12.3 hours".
fn hours(seconds: u64) -> String {
    let tenths = (seconds + 180) / 360;
    format!("{}.{} hours", tenths / 10, tenths % 10)
}

/// Dollars and cents, rounded up, so that a fraction of a cent is not zero.
fn cents(Micros(micros): Micros) -> String {
    let cents = micros.div_ceil(10_000);
    format!("{}.{:02}", thousands(cents / 100), cents % 100)
}

#[cfg(test)]
mod tests {
    use binplz_core::{
        billing::prices::PriceBasis,
        id::time::{Month, Timestamp},
    };

    use super::*;

    fn month(bill: Option<Bill>) -> Cost {
        let november = Month { year: 2026, month: 11 };
        let since = november.first().start();
        let taken = |package: &str, attempts, seconds, micros| Taken {
            package: package.parse().expect("a name"),
            attempts,
            seconds,
            cost: Micros(micros),
        };
        Cost {
            month: november.to_string(),
            since,
            at: Timestamp(since.0 + 22 * 86_400_000 + 7),
            until: november.next().first().start(),
            traffic: Traffic { hits: 12_345, bytes: 61_725_000_000 },
            stored: 2_000_000_000,
            looked_at: 1234,
            building_seconds: 8000,
            dearest: match &bill {
                Some(_) => vec![taken("rustc", 2, 7500, 428_000), taken("tree", 1, 61, 3_489)],
                None => vec![taken("rustc", 2, 7500, 0)],
            },
            bill,
        }
    }

    #[test]
    fn a_bill_is_told_in_lines_that_a_person_reads() {
        let sums = |n: u64| Sums {
            builds: Micros(n * 1_000_000),
            requests: Micros(n * 25_000),
            egress: Micros(n * 5_660_000),
            storage: Micros(33_000),
            standing: Micros(n * 3_000_000),
            total: Micros(n * 1_234_567_800),
        };
        let bill = Bill {
            prices: PriceBasis { region: "us-east-1".to_owned(), date: "2026-10".to_owned() },
            reserved: Micros(411_620),
            budget: Some(Micros(20_000_000)),
            so_far: sums(1),
            forecast: sums(2),
        };
        let expected = "\
2026-11, 22 of 30 days, in dollars of us-east-1 as of 2026-10
                so far       forecast
builds            1.00           2.00   0.42 more reserved; 20.00 at most
requests          0.03           0.05   12,345 hits
egress            5.66          11.32   61.7 GB of programs, and redirects
storage           0.04           0.04   2.0 GB stored
fixed             3.00           6.00   metrics, alarms, the queue, the sweep, the image
total         1,234.57       2,469.14

The packages that cost most, in the last 1,234 builds:
                  0.43   rustc: 2 attempts, 2 hours
                  0.01   tree: 1 attempt, 1 minute
";
        assert_eq!(told(&month(Some(bill.clone()))), expected);
        let told = told(&month(Some(Bill { budget: None, ..bill })));
        assert!(told.contains("reserved; no limit\n"), "{told}");
    }

    #[test]
    fn where_building_costs_nothing_hours_are_told() {
        let expected = "\
2026-11: builds cost nothing on this deployment
building  2.2 hours, in the last 1,234 builds
served    12,345 hits, 61.7 GB of programs
storage   2.0 GB stored

The packages that took most, in the last 1,234 builds:
               2 hours   rustc: 2 attempts
";
        assert_eq!(told(&month(None)), expected);
        let none = Cost { dearest: vec![], looked_at: 0, building_seconds: 0, ..month(None) };
        assert!(told(&none).contains("\nbuilding  0.0 hours, in the last 0 builds\n"));
    }
}
