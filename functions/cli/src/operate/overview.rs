//! `binplz status` and `binplz top`.

use std::{fmt::Write, time::Duration};

use binplz_core::{
    billing::traffic::Asked,
    flow::{
        QUEUE_COUNT,
        operator::orders::{Operator, Order, Overview},
    },
    id::{text, time::Timestamp},
    ports::Fault,
    quota::limits::Egress,
};
use indicatif::ProgressBar;

use crate::{
    operate::{Common, OperateError, Top, ago, builds},
    site::Site,
};

/// Gives these orders, and prints the status after them.
pub(crate) async fn after(common: Common, orders: impl IntoIterator<Item = Order>) -> Result<(), OperateError> {
    let site = common.which.find().await?;
    for order in orders {
        site.carry_out(order).await?;
    }
    let overview = site.carry_out(Order::Overview).await?.overview()?;
    if common.json {
        println!("{}", serde_json::json!(overview));
    } else {
        print!("{}", told(&overview, binplz_clock::now()));
    }
    Ok(())
}

pub(crate) async fn top(Top { since, most, common }: Top) -> Result<(), OperateError> {
    let top = counted(&common.which.find().await?, since, most).await?;
    if common.json {
        println!("{}", serde_json::json!(top));
    } else if top.is_empty() {
        println!("No downloads.");
    } else {
        top.iter().for_each(|Asked { package, hits }| println!("{hits:>9}  {}", builds::target(package)));
    }
    Ok(())
}

/// The most downloaded packages within that time.
pub(crate) async fn counted(site: &Site, since: Duration, most: usize) -> Result<Vec<Asked>, OperateError> {
    // A busy service's log takes a while to read.
    let reading = ProgressBar::new_spinner().with_message("counting");
    reading.enable_steady_tick(Duration::from_millis(200));
    let top = site.carry_out(Order::Top { since: ago(since), most }).await?.top()?;
    reading.finish_and_clear();
    Ok(top)
}

fn told(overview: &Overview, now: Timestamp) -> String {
    let Overview { paused, running, slots, queued, spent, reserved, budget, withheld, .. } = overview;
    let Overview { stored, stored_at_most, store_bytes, egress, faults, no_nixpkgs, .. } = overview;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<10}{value}");
    };
    line("builds", format!("{running} of {slots} slots taken"));
    let more = if *queued == QUEUE_COUNT { " or more" } else { "" };
    line("queue", format!("{queued}{more} waiting"));
    let of = budget.map_or("no limit".to_owned(), |budget| format!("of {budget}"));
    line("month", format!("{spent} spent, {reserved} reserved, {of}"));
    let of = store_bytes.map_or("no limit".to_owned(), |most| format!("of {}", text::bytes(most)));
    line(
        "store",
        format!("{}, at most {} after the running builds, {of}", text::bytes(*stored), text::bytes(*stored_at_most)),
    );
    if let Some(Egress { served, ceiling, until }) = egress {
        let then = until.map_or(String::new(), |until| format!("; downloads stop until {} (UTC)", until.day()));
        line("egress", format!("{} today, of {}{then}", text::bytes(*served), text::bytes(*ceiling)));
    }
    if let Some(percent) = overview.estimate_error_percent {
        let halfway = overview.status_error_percent.map_or(String::new(), |percent| format!(", {percent} % halfway"));
        let late = overview.retry_after_error_percent;
        let late = late.map_or(String::new(), |percent| format!("; Retry-After {percent} % late"));
        line("estimates", format!("{percent} % off in the median{halfway}{late}"));
    }
    for (system, pause) in paused {
        line("paused", format!("{system}: {}, for {}", pause.sentence(), text::span(now - pause.since)));
    }
    for (name, (rev, since)) in no_nixpkgs {
        let waits = text::span(now - *since);
        line(
            "waits",
            format!("{name}: the tarball of {rev} is not uploaded, for {waits}: binplz pin move {name} {rev}"),
        );
    }
    for Fault { part, why } in faults {
        line("broken", format!("{part}: {why}"));
    }
    for (attr, withheld) in withheld {
        line("down", format!("{attr}: {}", withheld.why));
    }
    text
}

#[cfg(test)]
mod tests {
    use binplz_core::{
        id::{key::System, money::Micros},
        nixpkgs::pins::Withheld,
        quota::limits::{Paused, Why},
    };

    use super::*;

    #[test]
    fn the_whole_is_told_in_lines_that_a_person_reads() {
        let now = Timestamp(1_800_000_000_000);
        let since = Timestamp(now.0 - 600_000);
        let mut overview = Overview {
            paused: [(System::X86_64Linux, Paused::since(Why::Operator, since))].into(),
            running: 1,
            slots: 2,
            queued: 3,
            spent: Micros(1_234_567),
            reserved: Micros(450),
            budget: Some(Micros(20_000_000)),
            stored: 12_340_000_000,
            stored_at_most: 12_340_000_001,
            store_bytes: Some(100_000_000_000),
            egress: Some(Egress { served: 4_990_000_001, ceiling: 5_000_000_000, until: None }),
            estimate_error_percent: Some(20),
            status_error_percent: Some(12),
            retry_after_error_percent: Some(5),
            faults: vec![Fault { part: "disk".to_owned(), why: "data: 12.0 MB free".to_owned() }],
            no_nixpkgs: [("demo".parse().expect("a name"), ("a".repeat(40).parse().expect("hex"), since))].into(),
            withheld: [("tree".parse().expect("a name"), Withheld { why: "no licence".to_owned(), since })].into(),
        };
        assert_eq!(
            told(&overview, now),
            "builds    1 of 2 slots taken\nqueue     3 waiting\nmonth     $1.24 spent, $0.0005 reserved, of $20.00\n\
             store     12.3 GB, at most 12.3 GB after the running builds, of 100.0 GB\n\
             egress    5.0 GB today, of 5.0 GB\n\
             estimates 20 % off in the median, 12 % halfway; Retry-After 5 % late\n\
             paused    x86_64-linux: the operator has paused builds, for 10 minutes\n\
             waits     demo: the tarball of aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa is not uploaded, for 10 minutes: \
             binplz pin move demo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n\
             broken    disk: data: 12.0 MB free\n\
             down      tree: no licence\n"
        );
        let until = Some(now.day().next().start());
        overview.egress = Some(Egress { served: 5_000_000_001, ceiling: 5_000_000_000, until });
        assert!(told(&overview, now).contains("5.0 GB today, of 5.0 GB; downloads stop until 2027-01-16 (UTC)\n"));
        overview = Overview {
            budget: None,
            egress: None,
            queued: QUEUE_COUNT,
            paused: [].into(),
            withheld: [].into(),
            ..overview
        };
        assert!(
            told(&overview, now).contains("1000 or more waiting\nmonth     $1.24 spent, $0.0005 reserved, no limit\n")
        );
    }
}
